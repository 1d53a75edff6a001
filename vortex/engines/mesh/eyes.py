"""Blinks and gaze: the upper lid slides over the eye, and the iris moves behind it.

Numbers without a source were chosen by eye on contact sheets (``scripts/contact_sheet.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vortex.engines.mesh.field import remap
from vortex.face.landmarks import BROWS, LIDS
from vortex.interpolation import smoothstep
from vortex.types import F32, LUMA_WEIGHTS, FloatArray, Frame

_LUMA = LUMA_WEIGHTS.astype(np.float32)

LID_OVERLAP = 0.05
"""How far a shut lid covers the skin below the eye, in eye widths: landmarks leave a rim of white."""
LID_ABOVE_SHARE = 0.4
"""Part of that overlap by which the upper lid begins higher."""
LASH_HEIGHT = 0.08
"""Height of the lash line, which moves without stretching, in eye widths."""
MIN_CLOSING, MIN_GAZE = 0.01, 1e-3
"""Eyes that move less are left as they are in the picture."""

SMALL_EYE_PX = 24
"""Width of an eye in the reduced picture in which missing skin is filled in."""
GROW_PX = 3
"""How far eye and brow are widened there, for lashes."""
SKIN_LUMA = (0.65, 1.5)
"""Pixels darker or brighter than this are not skin, relative to the skin under the eye."""
LID_DIFFERENCE = 0.3
"""Relative difference in luma beyond which a pixel above the lid is brow or glasses."""


@dataclass(frozen=True, slots=True, eq=False)
class Eye:
    """One eye of the source picture: its lid curves, in a frame of its own with x from corner to corner.

    ``axes`` (2, 2) maps picture pixels (columns) to that frame, ``x0`` is the first column there. ``upper_y``
    and ``lower_y`` (w,) float32 are the lid edges; ``lift_px`` (w,) is the height of the skin above the lid
    that stretches when it closes, ``lash_px`` that of the lash line, which moves without stretching. ``box``
    (x0, y0, x1, y1) is the surroundings in the picture, ``width_px`` the distance between the corners.
    ``lid`` (h, w, 3) float32 RGB is bare skin over the whole box: what a closed lid looks like where the
    photo has a brow, lashes or glasses.
    """

    axes: F32
    x0: int
    upper_y: F32
    lower_y: F32
    lift_px: F32
    lash_px: float
    box: tuple[int, int, int, int]
    width_px: float
    lid: F32


def find_eye(image: Frame, landmarks_px: F32, side: str) -> Eye:
    """Return the eye on ``side`` ("Left" or "Right" of the person) from the landmarks (478, 3)."""
    corners = landmarks_px[LIDS[side][0][[0, -1]], :2]
    along = (corners[1] - corners[0]) / np.linalg.norm(corners[1] - corners[0])
    axes = np.array([along, [-along[1], along[0]]], np.float32)
    upper, lower = (landmarks_px[index, :2] @ axes.T for index in LIDS[side])
    x0, x1 = int(np.floor(upper[0, 0])), int(np.ceil(upper[-1, 0]))
    columns = np.arange(x0, x1 + 1, dtype=np.float32)
    width_px = float(np.linalg.norm(upper[-1] - upper[0]))
    # Landmarks lie on the waterline: a rim of white would remain unless the lid closes a little beyond.
    part = np.linspace(0, 1, len(columns), dtype=np.float32)
    rim = LID_OVERLAP * width_px * np.minimum(1, 5 * part * (1 - part))
    upper_y = np.interp(columns, upper[:, 0], upper[:, 1]).astype(np.float32) - LID_ABOVE_SHARE * rim
    lower_y = np.interp(columns, lower[:, 0], lower[:, 1]).astype(np.float32) + rim
    lower_y = np.maximum(lower_y, upper_y)
    gap = float((lower_y - upper_y).max())
    to_brow = float(upper_y.mean() - (landmarks_px[BROWS[side], :2] @ axes.T)[:, 1].mean())
    tallest_px = float(np.clip(0.5 * to_brow, 0.9 * gap, 1.5 * gap))
    lash_px = min(LASH_HEIGHT * width_px, 0.3 * tallest_px)
    reach = tallest_px + gap + 0.35 * width_px
    margin = np.array([0.35 * width_px, reach])
    low = np.maximum(np.floor(corners.min(0) - margin), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(0) + margin), image.shape[1::-1]).astype(int)
    box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
    lid = _bare_skin(image, landmarks_px, side, box, width_px, axes[1])
    above_px = np.arange(lash_px, tallest_px + 1, dtype=np.float32)[:, None]
    lines = (columns + 0 * above_px, upper_y - above_px)
    free = _free_skin(_sample(image, *lines, axes), _sample(lid, *lines, axes, box[:2]))
    lift_px = np.clip(lash_px + free, lash_px + 1, tallest_px).astype(np.float32)
    return Eye(axes, x0, upper_y, lower_y.astype(np.float32), lift_px, lash_px, box, width_px, lid)


def _free_skin(seen: F32, bare: F32) -> F32:
    """Return (w,): how many rows of ``seen`` (h, w, 3) can stretch before a brow or glasses begin."""
    alien = np.abs(seen @ _LUMA / np.maximum(bare @ _LUMA, 1.0) - 1) > LID_DIFFERENCE
    # The crease of a lid is a dark line, too, but a thin one.
    thick = cv2.morphologyEx(alien.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    # The first rows may show lashes, which stretch with the skin.
    over_lashes = np.maximum.accumulate(~thick, axis=0)
    brow = thick & over_lashes
    rows = np.where(brow.any(axis=0), brow.argmax(axis=0), len(brow)).astype(np.float32)
    rows[~over_lashes.any(axis=0)] = 0
    reach = 2 * (len(rows) // 12) + 1
    # Smoothed: a brow that begins at very different rows in neighbouring columns would tear the lid.
    lowest = cv2.erode(rows[None], np.ones((1, reach), np.uint8))
    return np.asarray(cv2.blur(lowest, (reach, 1))[0], np.float32)


def _bare_skin(
    image: Frame, landmarks_px: F32, side: str, box: tuple[int, int, int, int], width_px: float, down: F32
) -> F32:
    """Return (h, w, 3): the box without eye, brow, lashes and glasses, inpainted (Telea 2004)."""
    x0, y0, x1, y1 = box
    patch = image[y0:y1, x0:x1]
    scale = min(SMALL_EYE_PX / max(width_px, 1.0), 1.0)
    size = (max(round((x1 - x0) * scale), 8), max(round((y1 - y0) * scale), 8))
    small = cv2.resize(patch, size, interpolation=cv2.INTER_AREA)
    hidden = np.zeros(size[::-1], np.uint8)
    to_small = np.array(size) / [x1 - x0, y1 - y0]
    lids = np.concatenate([LIDS[side][0], LIDS[side][1][::-1]])
    for outline in (lids, BROWS[side]):
        hull = cv2.convexHull(np.round((landmarks_px[outline, :2] - [x0, y0]) * to_small).astype(np.int32))
        cv2.fillPoly(hidden, [hull], 255)
        cv2.polylines(hidden, [hull], True, 255, GROW_PX)
    # Pixels much darker or brighter than the skin under the eye, in the same light, are not skin.
    below = landmarks_px[LIDS[side][1][2:-2], :2] + 0.2 * width_px * down
    column, row = np.clip(np.round((below - [x0, y0]) * to_small).astype(int), 0, np.array(size) - 1).T
    luma = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    light = float(np.median(luma[row, column]))
    alien = ((luma < SKIN_LUMA[0] * light) | (luma > SKIN_LUMA[1] * light)).astype(np.uint8)
    hidden |= 255 * cv2.dilate(alien, np.ones((3, 3), np.uint8))
    filled = small if hidden.all() else cv2.inpaint(small, hidden, 3, cv2.INPAINT_TELEA)
    smooth = cv2.GaussianBlur(filled.astype(np.float32), (0, 0), 1.5)
    return np.asarray(cv2.resize(smooth, (x1 - x0, y1 - y0), interpolation=cv2.INTER_CUBIC), np.float32)


def draw_eye(out: Frame, source: Frame, where: F32, eye: Eye, lids: F32, closing: float, gaze: F32) -> None:
    """Redraw one eye of ``out`` (h, w, 3), a part of a frame, in place.

    ``where`` (h, w, 2) float32 are the positions in the picture ``source`` from which its pixels come,
    without lids and gaze. ``lids`` (N, 2) are lid landmarks in ``out`` in pixels; ``closing`` in [0, 1] is
    how far the lid is closed, ``gaze`` (2,) the shift of the iris in eye widths.
    """
    closes = closing >= MIN_CLOSING
    if not closes and np.abs(gaze).max() <= MIN_GAZE:
        return
    if closes:
        # The skin above the lid moves, too.
        lids = np.concatenate([lids, lids - float(eye.lift_px.max() + 2) * eye.axes[1]])
    x0, y0 = np.maximum(np.floor(lids.min(0)).astype(int) - 2, 0).tolist()
    x1, y1 = (np.ceil(lids.max(0)).astype(int) + 3).tolist()
    from_px = where[y0:y1, x0:x1]
    if not from_px.size:
        return
    local = from_px @ eye.axes.T
    x, y = local[..., 0], local[..., 1]
    # The nearest column suffices: neighbouring ones differ by a fraction of a pixel.
    column = np.clip(x - (eye.x0 - 0.5), 0, len(eye.upper_y) - 1).astype(np.intp)
    upper, lower = eye.upper_y[column], eye.lower_y[column]
    gap = lower - upper
    inside = (x > eye.x0) & (x < eye.x0 + len(eye.upper_y) - 1) & (gap > 0.3) & (y <= lower + 0.5)
    depth = np.clip(np.minimum(y - upper, lower - y) / np.maximum(0.5 * gap, 1e-3), 0, 1)
    reach = depth * (gap > 1) * eye.width_px
    drawn = remap(source, from_px - reach[..., None] * (gaze @ eye.axes))
    if closes:
        lid_y = upper + closing * gap
        cover = np.clip(lid_y - y + 0.5, 0, 1) * (y < lower + 1)
        skin = _lid_skin(source, eye, from_px, x, y, upper, closing * gap, eye.lift_px[column])
        mixed = drawn + cover[..., None] * (skin - drawn)
        drawn = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)
    else:
        inside &= y >= upper - 0.5
    np.copyto(out[y0:y1, x0:x1], drawn, where=inside[..., None])


def _lid_skin(source: Frame, eye: Eye, from_px: F32, x: F32, y: F32, upper: F32, drop: F32, lift: F32) -> F32:
    """Return (h, w, 3) float32: the lid's skin ``drop`` pixels down, and that above it, stretched evenly."""
    above, free = upper + drop - y, lift - eye.lash_px
    stretch = free / (free + drop)
    height = np.where(above < eye.lash_px, above, eye.lash_px + (above - eye.lash_px) * stretch)
    height = np.where(above > lift + drop, above - drop, height)
    skin = _sample(source, x, upper - height, eye.axes)
    # Few rows of skin stretched over an eye would look like streaks. A lid is round: it darkens below.
    bare = remap(eye.lid, np.asarray(from_px - np.array(eye.box[:2], np.float32), np.float32))
    bare *= (0.88 + 0.12 * smoothstep(above, 0.0, 0.5 * eye.width_px))[..., None]
    share = smoothstep(1 - stretch, 0.55, 0.85) * smoothstep(above, eye.lash_px, 2 * eye.lash_px)
    share *= smoothstep(y - upper, -eye.lash_px, eye.lash_px)
    skin += share[..., None] * (bare - skin)
    return skin


def _sample(
    image: npt.NDArray[Any], x: FloatArray, y: FloatArray, axes: F32, origin: tuple[int, int] = (0, 0)
) -> F32:
    """Return (h, w, 3): colours at ``x``, ``y`` (h, w) of the eye; ``image`` begins at ``origin``."""
    where = np.stack(np.broadcast_arrays(x, y), axis=2) @ axes - np.array(origin, np.float32)
    return remap(image, where.astype(np.float32)).astype(np.float32)
