"""Blinks and gaze: lids of bare skin slide over an eyeball that turns behind them.

Numbers without a source were chosen by eye on contact sheets (``scripts/contact_sheet.py``) and on crops of
eyes from clips of real blinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from vortex.engines.mesh.eyeball import SHADE_ABOVE_LOWER, Eyeball, complete_eyeball
from vortex.engines.mesh.field import Pixels, grid, mixed, planes, remap_fixed, remap_planes
from vortex.engines.mesh.lid_skin import LidSkin, find_skin
from vortex.engines.mesh.lids import BESIDE, LASH_HEIGHT, LidCurves, find_curves, find_places
from vortex.engines.mesh.light import LUMA
from vortex.face.landmarks import BROWS, IRISES, LIDS, LOWER_BROWS
from vortex.interpolation import smoothstep
from vortex.types import F32, FloatArray, Frame

MIN_CLOSING, MIN_GAZE = 0.01, 1e-3
"""Eyes that move less are left as they are in the picture."""
ABOVE, BELOW = 0.75, 0.4
"""How far above and below the eye's corners an eye's box reaches, in eye widths beyond the lids."""
FOLD_HEIGHT, FOLD_BEGIN = 0.42, 0.1
"""Folds of an open lid smooth out up to this height above its edge when it shuts, in eye widths; the part of
that height up to which nothing of them is left."""
LOWER_REACH = 0.35
"""How far below the eye the skin rises with the lower lid, in eye widths."""
LASH_LINE_CLOSING = (0.3, 1.0)
"""Closing of a lid at which its lash line begins to show, and is whole."""
LASH_OPACITY, LASH_LINE, LASHES_BELOW = 0.75, 0.06, 0.1
"""Opacity of the line where shut lids meet, and how far above and, by its lashes, below them it reaches, in
eye widths."""
LASH_LUMA = 0.5
"""Most luma of that line, relative to the skin."""
IRIS_REACH = 1.1
"""The white stretches from here on, in radii of the iris."""
LID_SHADE = 0.15
"""How much darker the eyeball is right under the upper lid."""
BARE_STRETCH = (0.3, 1.2)
"""Skin that stretches by more than this becomes bare skin, begin and end."""
BARE_EDGE = 0.1
"""Share of bare skin at the lid's edge, where the picture has lashes."""
STILL_SHADE = 0.6
"""Part of the shadow under a lid that stays where it is when only the eyeball turns."""
SHADE_HEIGHT = 0.12
"""How far down that shade reaches, in eye widths."""
WIDE_REACH = 0.85
"""Skin up to here gives way to a lid that opens wide, in heights of the brow."""
ROUND_SHADE, CREASE_SHADE, ROUND_LIGHT, ROUND_LIGHT_SHARE = 0.2, 0.08, 1.3, 0.25
"""How much darker a shut lid is at its edge, and at its crease; how much brighter than skin what lights its
middle is, and the share of that."""
ROUND_LIT, CREASE_HEIGHT = 0.55, 0.1
"""Where that middle is between the lid's edge and its crease, and how far that is above the edge of an open
lid, in eye widths."""
MIN_SHIFT_PX = 0.02
"""Skin that moves less is left as it is in the picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Eye:
    """One eye of the source picture, in a frame of its own with x from corner to corner and y down.

    ``axes`` (2, 2) are its axes in the picture. ``to_local`` (4, 3) maps pixels of the picture to it, x from
    the first column of ``curves`` on, and to pixels of the pictures in ``skin`` and ``ball``. ``width_px`` is
    the distance between the corners, ``opening`` the height of the eye in the picture in eye widths.
    ``stretch`` is how many times its height the skin above the lid grows when it shuts. ``lash_colour`` (3,)
    is that of the line where shut lids meet.
    """

    axes: F32
    to_local: F32
    width_px: float
    opening: float
    stretch: float
    curves: LidCurves
    skin: LidSkin
    ball: Eyeball
    lash_colour: F32


def find_eye(image: Frame, landmarks_px: F32, side: str) -> Eye:
    """Return the eye on ``side`` ("Left" or "Right" of the person) from the landmarks (478, 3)."""
    points = landmarks_px[:, :2]
    corners = points[LIDS[side][0][[0, -1]]]
    width_px = max(float(np.linalg.norm(corners[1] - corners[0])), 1.0)
    along = (corners[1] - corners[0]) / width_px
    axes = np.array([along, [-along[1], along[0]]], np.float32)
    upper, lower = (points[index] @ axes.T for index in LIDS[side])
    opening = float((lower[3:-3, 1].mean() - upper[3:-3, 1].mean()) / width_px)
    beside = BESIDE * width_px
    x0, x1 = int(np.floor(upper[0, 0] - beside)), int(np.ceil(upper[-1, 0] + beside))
    columns = np.arange(x0, x1 + 1, dtype=np.float32)
    curves = find_curves(landmarks_px, side, axes, columns, opening)
    ring = points[np.concatenate(LIDS[side])]
    low = np.maximum(np.floor(ring.min(0) - np.array([0.4, ABOVE]) * width_px), 0).astype(int)
    high = np.ceil(ring.max(0) + np.array([0.4, BELOW]) * width_px).astype(int)
    patch = image[low[1] : high[1], low[0] : high[0]]
    local = (grid(*patch.shape[:2]) + low.astype(np.float32)) @ axes.T
    x, y = local[..., 0] - x0, local[..., 1]
    brow = np.concatenate([points[BROWS[side]], points[LOWER_BROWS[side]]]) - low
    skin = find_skin(patch, x, y, curves, brow, width_px)
    iris = points[IRISES[side]] @ axes.T - [x0, 0]
    ball = complete_eyeball(patch, x, y, curves, iris, skin.colour)
    colour = _lash_colour(patch, x, y, curves, width_px, skin.colour)
    travel_px = float((curves.shut - curves.upper).max())
    stretch = travel_px / max(float(np.median(curves.strip)) - LASH_HEIGHT * width_px, 1.0)
    origin = [[-x0], [0], [-low[0]], [-low[1]]]
    to_local = np.concatenate([[*axes, [1, 0], [0, 1]], origin], axis=1).astype(np.float32)
    return Eye(axes, to_local, width_px, opening, stretch, curves, skin, ball, colour)


def _lash_colour(patch: Frame, x: F32, y: F32, curves: LidCurves, width_px: float, skin: F32) -> F32:
    """Return (3,): the median of the darkest pixels on the upper lid's edge, or ``skin`` (3,) in shadow."""
    places = find_places(curves, x, y)
    pixels = patch[(places.above > 0) & (places.above < 0.06 * width_px) & (places.middle > 0.2)]
    shadow = np.asarray(LASH_LUMA * skin, np.float32)
    if not len(pixels):
        return shadow
    luma = pixels @ LUMA
    lashes = np.asarray(np.median(pixels[luma <= np.percentile(luma, 30)], axis=0), np.float32)
    return lashes if lashes @ LUMA < shadow @ LUMA else shadow


def draw_eye(out: Frame, where: F32, eye: Eye, lids: F32, closing: float, gaze: F32) -> None:
    """Redraw one eye of ``out`` (h, w, 3), a part of a frame, in place.

    ``where`` (h, w, 2) float32 are the positions in the picture from which its pixels come, without lids and
    gaze. ``lids`` (N, 2) are lid landmarks in ``out`` in pixels. ``closing`` is 0 as in the picture, 1 shut,
    -1 opened wide; ``gaze`` (2,) is the shift of the iris in eye widths.
    """
    if abs(closing) < MIN_CLOSING and np.abs(gaze).max() <= MIN_GAZE:
        return
    part = _part(out, lids, eye, closing)
    here, from_px = out[part], where[part]
    if not from_px.size:
        return
    x, y, *inside = planes(cv2.transform(from_px, eye.to_local))
    lid = _lid_at(eye, x, closing)
    below = y - lid.upper
    shown = _shown(eye, lid, below, closing)
    drawn, moved = _draw_skin(eye, lid, y, below, inside)
    if closing > 0:
        drawn, covered = _draw_shut(eye, drawn, lid, x, y, inside, closing)
        moved |= covered
    drawn = mixed(_draw_ball(eye, x, below, closing, gaze, inside), drawn, shown)
    moved |= shown > 0
    if eye.skin.over is not None:
        # What lies over the lids is drawn last and does not move.
        over = (_sample(eye.skin.over, inside) / 255).astype(np.float32)
        drawn = mixed(np.ascontiguousarray(here), drawn, over)
    cv2.copyTo(drawn, moved.astype(np.uint8), here)


def _sample(image: Pixels, where: Sequence[F32]) -> Pixels:
    """Return ``image`` at the positions ``where``, x and y of (h, w), as :func:`remap_fixed` does."""
    return remap_fixed(image, np.asarray(cv2.merge(where), np.float32))


def _part(out: Frame, lids: F32, eye: Eye, closing: float) -> tuple[slice, slice]:
    """Return the rows and columns around ``lids`` (N, 2) that may change."""
    # When only the eyeball turns, nothing outside the lids does.
    moves = abs(closing) >= MIN_CLOSING
    beside, below = (BESIDE, LOWER_REACH) if moves else (0.02, 0.02)
    above = beside if not moves else (FOLD_HEIGHT if closing > 0 else ABOVE)
    low = np.floor(lids.min(0) - np.array([beside, above]) * eye.width_px).astype(int)
    high = np.ceil(lids.max(0) + np.array([beside, below]) * eye.width_px).astype(int) + 1
    x0, y0 = np.maximum(low, 0).tolist()
    x1, y1 = np.clip(high, 0, out.shape[1::-1]).tolist()
    return slice(y0, y1), slice(x0, x1)


class _Lid(NamedTuple):
    """The lids in a frame, (h, w) in pixels of the eye's frame, y down.

    ``upper`` and ``lower`` are their edges, ``source_upper`` is the upper one in the picture. Above the edge,
    ``lash`` rows move as they are, and those up to ``top`` are the picture's, times ``stretch``. ``rise`` is
    how far the lower lid rises. ``middle`` is that of :class:`LidCurves`.
    """

    upper: F32
    lower: F32
    source_upper: F32
    lash: F32
    stretch: F32
    top: F32
    rise: F32
    middle: F32


def _lid_at(eye: Eye, x: F32, closing: float) -> _Lid:
    """Return the lids at the columns ``x`` (h, w) of the eye's frame."""
    curves, amount = eye.curves, np.float32(abs(closing))
    end, end_lower = (curves.shut, curves.lower_shut) if closing > 0 else (curves.wide, curves.lower)
    drop, rise = amount * (end - curves.upper), amount * (curves.lower - end_lower)
    lash = LASH_HEIGHT * eye.width_px * np.sqrt(curves.middle)
    free = np.maximum((curves.strip if closing > 0 else WIDE_REACH * curves.brow) - lash, 1.0)
    rows = (
        curves.upper + drop, curves.lower - rise, curves.upper, lash,
        free / (free + drop), lash + free + drop, rise, curves.middle,
    )  # fmt: skip
    return _Lid(*(each for first in (0, 4) for each in _at_columns(rows[first : first + 4], x)))


def _at_columns(rows: Sequence[FloatArray], x: F32) -> tuple[F32, ...]:
    """Return each of ``rows`` (n,), at most four, at the columns ``x`` (h, w), which need not be whole."""
    table = np.stack(rows, axis=1).astype(np.float32)[None]
    return planes(remap_planes(table, x, np.zeros_like(x)))


def _shown(eye: Eye, lid: _Lid, below: F32, closing: float) -> F32:
    """Return (h, w): the share of the eyeball; at its edges, lashes and shadows of the lids hide it."""
    # A lid that is nearly shut brings no more than its own edge.
    carried = STILL_SHADE + (1 - STILL_SHADE) * min(1.0, 4 * abs(closing))
    band = max(eye.ball.shade_px * min(carried, 3 * (1 - closing)), 0.5)
    gap = lid.lower - lid.upper
    share = np.clip(below / band, 0, 1)
    share *= np.clip((gap - below) / max(SHADE_ABOVE_LOWER * band, 0.5), 0, 1)
    share *= (gap > 0.3) * np.clip(3 * lid.middle, 0, 1)
    return np.asarray(share, np.float32)


def _draw_ball(eye: Eye, x: F32, below: F32, closing: float, gaze: F32, inside: Sequence[F32]) -> Frame:
    """Return (h, w, 3): the eyeball, its iris shifted by ``gaze``, in the shade of the upper lid."""
    ball, width_px = eye.ball, eye.width_px
    left, right = BESIDE * width_px, (1 + BESIDE) * width_px
    if np.abs(gaze).max() > MIN_GAZE:
        reach = IRIS_REACH * ball.radius_px
        room = right - ball.iris_x - reach if gaze[0] > 0 else ball.iris_x - reach - left
        across = float(np.clip(gaze[0] * width_px, -0.6 * max(room, 0), 0.6 * max(room, 0)))
        # The iris moves whole; the white beside it stretches, and the corners stay.
        centre = ball.iris_x + across
        before, after = max(centre - reach - left, 1), max(right - centre - reach, 1)
        follow = smoothstep(np.minimum((x - left) / before, (right - x) / after))
        shift = np.array([across, gaze[1] * width_px], np.float32) @ eye.axes
        inside = [plane - follow * amount for plane, amount in zip(inside, shift, strict=True)]
    drawn = _sample(ball.picture, inside)
    darkest = np.float32(LID_SHADE * min(1.0, 3 * abs(closing)))
    if not darkest:
        return drawn
    shade = darkest * np.clip(1 - below / (SHADE_HEIGHT * width_px), 0, 1)
    return _tinted(drawn, eye.lash_colour, shade)


def _tinted(picture: Frame, colour: F32, share: F32) -> Frame:
    """Return ``picture`` (h, w, 3) mixed with ``share`` (h, w) of ``colour`` (3,)."""
    plain = np.empty_like(picture)
    plain[:] = colour
    return mixed(plain, picture, share)


def _draw_skin(
    eye: Eye, lid: _Lid, y: F32, below: F32, inside: Sequence[F32]
) -> tuple[Frame, npt.NDArray[np.bool_]]:
    """Return (h, w, 3), the skin around the eyeball, and (h, w), where it is not that of the picture."""
    # The rows between lashes and top stretch; what is higher stays.
    beyond = np.clip(-below, lid.lash, lid.top) - lid.lash
    up = lid.source_upper - lid.upper + beyond * (1 - lid.stretch)
    fade = np.clip(1 - (y - lid.lower) / (LOWER_REACH * eye.width_px), 0, 1)
    shift = np.where(_is_upper(lid, y), up, lid.rise * fade * fade)
    where = [plane + shift * along for plane, along in zip(inside, eye.axes[1], strict=True)]
    return _sample(eye.skin.clean, where), np.abs(shift) > MIN_SHIFT_PX


def _is_upper(lid: _Lid, y: F32) -> npt.NDArray[np.bool_]:
    """Return (h, w): where the upper lid is drawn, not the lower one."""
    return np.asarray(y < np.maximum(lid.upper, (lid.upper + lid.lower) / 2))


def _draw_shut(
    eye: Eye, skin: Frame, lid: _Lid, x: F32, y: F32, inside: Sequence[F32], closing: float
) -> tuple[Frame, npt.NDArray[np.bool_]]:
    """Return ``skin`` (h, w, 3) with the bare lid and its lash line, and (h, w), where they are."""
    width_px, curves = eye.width_px, eye.curves
    # A few rows of skin stretched over an eye would look like streaks, and folds smooth out.
    bare_share = float(smoothstep(closing * eye.stretch, *BARE_STRETCH))
    line_share = LASH_OPACITY * float(smoothstep(closing, *LASH_LINE_CLOSING))
    if not bare_share and not line_share:
        return skin, np.zeros(x.shape, bool)
    fold, share = _at_columns((np.minimum(FOLD_HEIGHT * width_px, curves.brow), bare_share * curves.bare), x)
    above = lid.upper - y
    share *= smoothstep((fold - lid.source_upper + y) / ((1 - FOLD_BEGIN) * fold))
    share *= BARE_EDGE + (1 - BARE_EDGE) * np.clip(above / (lid.lash + 0.1) - 0.4, 0, 1)
    share *= _is_upper(lid, y)
    skin = mixed(_sample(eye.skin.bare, inside), skin, share)
    # A lid is round: light falls on its middle, and it darkens towards its edge.
    round_px = lid.upper - lid.source_upper + CREASE_HEIGHT * width_px
    slope = np.asarray(np.clip((above / round_px - ROUND_LIT) / ROUND_LIT, -1, 1), np.float32)
    lit = (1 - slope**2) ** 2 * lid.middle
    skin = _tinted(skin, np.minimum(ROUND_LIGHT * eye.skin.colour, 255), ROUND_LIGHT_SHARE * share * lit)
    thick = np.where(above > 0, np.float32(LASH_LINE), np.float32(LASHES_BELOW)) * width_px * lid.middle + 0.7
    line = np.asarray(np.clip(1 - (above / thick) ** 2, 0, 1) ** 2, np.float32)
    line *= line_share * np.clip(1.5 * lid.middle, 0, 1)
    shade = np.where(slope < 0, np.float32(ROUND_SHADE), np.float32(CREASE_SHADE))
    line = np.maximum(line, shade * slope**2 * share * lid.middle)
    return _tinted(skin, eye.lash_colour, line), (share > 0.004) | (line > 0.004)
