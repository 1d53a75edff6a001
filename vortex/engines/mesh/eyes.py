"""Blinks and gaze: lids of bare skin slide over an eyeball that turns behind them.

Numbers without a source were chosen by eye on contact sheets (``scripts/contact_sheet.py``) and on crops of
eyes from clips of real blinks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vortex.engines.mesh.eyeball import (
    SHADE_ABOVE_LOWER,
    Eyeball,
    complete_eyeball,
)
from vortex.engines.mesh.field import grid, remap_fixed
from vortex.engines.mesh.lids import BESIDE, LASH_HEIGHT, LidCurves, LidSkin, find_curves, find_skin
from vortex.face.landmarks import BROWS, IRISES, LIDS, LOWER_BROWS
from vortex.interpolation import smoothstep
from vortex.types import F32, LUMA_WEIGHTS, Frame

_LUMA = LUMA_WEIGHTS.astype(np.float32)

MIN_CLOSING, MIN_GAZE = 0.01, 1e-3
"""Eyes that move less are left as they are in the picture."""
ABOVE, BELOW = 0.75, 0.4
"""How far above and below the eye's corners an eye's box reaches, in eye widths beyond the lids."""
FOLD_HEIGHT, FOLD_BEGIN = 0.42, 0.35
"""Folds of an open lid smooth out up to this height above its edge when it shuts, in eye widths; the part of
that height up to which nothing of them is left."""
LOWER_REACH = 0.35
"""How far below the eye the skin rises with the lower lid, in eye widths."""
LASH_OPACITY, LASH_LINE = 0.6, 0.045
"""Opacity and half height, in eye widths, of the line where shut lids meet."""
IRIS_REACH = 1.1
"""The white stretches from here on, in radii of the iris."""
LID_SHADE = 0.15
"""How much darker the eyeball is right under the upper lid."""
BARE_STRETCH = (0.3, 1.2)
"""Skin that stretches by more than this becomes bare skin, begin and end."""
BARE_EDGE = 0.25
"""Share of bare skin at the lid's edge, where the picture has lashes."""
STILL_SHADE = 0.6
"""Part of the shadow under a lid that stays where it is when only the eyeball turns."""
MIN_SHIFT_PX = 0.02
"""Skin that moves less is left as it is in the picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Eye:
    """One eye of the source picture, in a frame of its own with x from corner to corner and y down.

    ``axes`` (2, 2) maps picture pixels (columns) to that frame, ``x0`` is the first column of ``curves``
    there, ``width_px`` the distance between the corners. ``origin`` (2,) is the first pixel of the pictures
    in ``skin`` and ``ball``; ``table`` (8, w) are the ``curves`` as one array. ``opening`` is the height of the eye in the picture in eye widths.
    ``travel_px`` is how far its upper lid moves to shut it. ``lash_colour`` (3,) is that of the line where shut lids meet.
    """

    axes: F32
    x0: int
    width_px: float
    opening: float
    travel_px: float
    origin: F32
    curves: LidCurves
    table: F32
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
    low = np.maximum(np.floor(ring.min(0) - [0.4 * width_px, ABOVE * width_px]), 0).astype(int)
    high = np.ceil(ring.max(0) + [0.4 * width_px, BELOW * width_px]).astype(int)
    patch = image[low[1] : high[1], low[0] : high[0]]
    local = (grid(*patch.shape[:2]) + low.astype(np.float32)) @ axes.T
    x, y = local[..., 0] - x0, local[..., 1]
    brow = np.concatenate([points[BROWS[side]], points[LOWER_BROWS[side]]]) - low
    skin = find_skin(patch, x, y, curves, brow, width_px)
    iris = points[IRISES[side]] @ axes.T - [x0, 0]
    ball = complete_eyeball(patch, x, y, curves, iris, skin.colour)
    table = np.stack([getattr(curves, name) for name in LidCurves.__slots__])
    colour = _lash_colour(patch, x, y, curves, width_px)
    travel_px = float((curves.shut - curves.upper).max())
    origin = low.astype(np.float32)
    return Eye(axes, x0, width_px, opening, travel_px, origin, curves, table, skin, ball, colour)


def _lash_colour(patch: Frame, x: F32, y: F32, curves: LidCurves, width_px: float) -> F32:
    """Return (3,): the median of the darkest pixels of the upper lid's edge."""
    column = np.clip(np.round(x), 0, len(curves.upper) - 1).astype(np.intp)
    edge = (np.abs(curves.upper[column] - y) < 0.06 * width_px) & (curves.middle[column] > 0.2)
    pixels = patch[edge].astype(np.float32)
    if not len(pixels):
        return np.zeros(3, np.float32)
    luma = pixels @ _LUMA
    return np.median(pixels[luma <= np.percentile(luma, 30)], axis=0).astype(np.float32)


def draw_eye(out: Frame, source: Frame, where: F32, eye: Eye, lids: F32, closing: float, gaze: F32) -> None:
    """Redraw one eye of ``out`` (h, w, 3), a part of a frame, in place.

    ``where`` (h, w, 2) float32 are the positions in the picture ``source`` from which its pixels come,
    without lids and gaze. ``lids`` (N, 2) are lid landmarks in ``out`` in pixels. ``closing`` is 0 as in the
    picture, 1 shut, -1 opened wide; ``gaze`` (2,) is the shift of the iris in eye widths.
    """
    if abs(closing) < MIN_CLOSING and np.abs(gaze).max() <= MIN_GAZE:
        return
    part = _part(out, lids, eye.width_px)
    from_px = where[part]
    if not from_px.size:
        return
    here = out[part]
    local = from_px @ eye.axes.T
    x, y = local[..., 0] - eye.x0, local[..., 1]
    at = LidCurves(*_at_columns(eye.table, x))
    end_upper, end_lower = (at.shut, at.lower_shut) if closing > 0 else (at.wide, at.lower)
    amount = abs(closing)
    edges = _Edges(at.upper + amount * (end_upper - at.upper), at.lower + amount * (end_lower - at.lower))
    inside = from_px - eye.origin
    shown = _shown(eye, at, edges, y, closing)
    skin, moved = _draw_skin(eye, at, edges, y, closing, inside)
    drawn = skin + shown[..., None] * (_draw_ball(eye, edges, x, y, closing, gaze, inside) - skin)
    # What lies over the lids is drawn last and does not move.
    over = remap_fixed(eye.skin.over, inside)[..., None] / np.float32(255)
    drawn += over * (here - drawn)
    changed = moved | (shown > 0)
    np.copyto(here, np.clip(drawn + 0.5, 0, 255).astype(np.uint8), where=changed[..., None])


def _at_columns(table: F32, x: F32) -> F32:
    """Return (R, h, w): each row of ``table`` (R, n) at the columns ``x`` (h, w), which need not be whole."""
    place = np.clip(x, 0, table.shape[1] - 1.001)
    whole = place.astype(np.intp)
    first = table[:, whole]
    first += (place - whole).astype(np.float32) * (table[:, whole + 1] - first)
    return first


class _Edges(NamedTuple):
    """Heights of the lids' edges in a frame, (h, w) in pixels, y down."""

    upper: F32
    lower: F32


def _part(out: Frame, lids: F32, width_px: float) -> tuple[slice, slice]:
    """Return the rows and columns around ``lids`` (N, 2) that may change."""
    beside = BESIDE * width_px
    low = np.floor(lids.min(0) - [beside, ABOVE * width_px]).astype(int)
    high = np.ceil(lids.max(0) + [beside, LOWER_REACH * width_px]).astype(int) + 1
    x0, y0 = np.maximum(low, 0).tolist()
    x1, y1 = np.clip(high, 0, out.shape[1::-1]).tolist()
    return slice(y0, y1), slice(x0, x1)


def _shown(eye: Eye, at: LidCurves, edges: _Edges, y: F32, closing: float) -> F32:
    """Return (h, w): the share of the eyeball; at its edges, lashes and shadows of the lids hide it."""
    gap = edges.lower - edges.upper
    # A lid that is nearly shut brings no more than its own edge.
    carried = STILL_SHADE + (1 - STILL_SHADE) * min(1.0, 4 * abs(closing))
    band = max(eye.ball.shade_px * min(carried, 3 * (1 - closing)), 0.5)
    upper, lower = (y - edges.upper) / band, (edges.lower - y) / max(SHADE_ABOVE_LOWER * band, 0.5)
    share = np.clip(upper, 0, 1) * np.clip(lower, 0, 1)
    return np.asarray(share * (gap > 0.3) * (at.middle > 0), np.float32)


def _draw_ball(eye: Eye, edges: _Edges, x: F32, y: F32, closing: float, gaze: F32, inside: F32) -> F32:
    """Return (h, w, 3): the eyeball, its iris shifted by ``gaze``, in the shade of the upper lid."""
    ball, width_px = eye.ball, eye.width_px
    left, right = BESIDE * width_px, (1 + BESIDE) * width_px
    reach = IRIS_REACH * ball.radius_px
    room = max(right - ball.iris_x - reach, 0.0) if gaze[0] > 0 else max(ball.iris_x - reach - left, 0.0)
    across = float(np.clip(gaze[0] * width_px, -0.5 * room, 0.5 * room))
    # The iris moves whole; the white beside it stretches, and the corners stay.
    centre = ball.iris_x + across
    follow = smoothstep(x, left, max(centre - reach, left + 1))
    follow *= 1 - smoothstep(x, min(centre + reach, right - 1), right)
    shift = np.array([across, gaze[1] * width_px], np.float32) @ eye.axes
    drawn = remap_fixed(ball.picture, inside - follow[..., None] * shift).astype(np.float32)
    shade = LID_SHADE * smoothstep(abs(closing), 0.0, 0.3)
    drawn *= (1 - shade * (1 - smoothstep(y - edges.upper, 0.0, 0.14 * width_px)))[..., None]
    return drawn


def _draw_skin(
    eye: Eye, at: LidCurves, edges: _Edges, y: F32, closing: float, inside: F32
) -> tuple[F32, npt.NDArray[np.bool_]]:
    """Return (h, w, 3), the skin around the eyeball, and (h, w), where it differs from the picture."""
    width_px = eye.width_px
    above, drop = edges.upper - y, edges.upper - at.upper
    lash = LASH_HEIGHT * width_px * np.sqrt(at.middle)
    reach = at.strip if closing > 0 else 0.85 * at.brow
    free = np.maximum(reach - lash, 1.0)
    height = np.where(above < lash, above, lash + (above - lash) * free / (free + drop))
    height = np.where(above > lash + free + drop, above - drop, height)
    rise = (at.lower - edges.lower) * (1 - smoothstep(y - edges.lower, 0.0, LOWER_REACH * width_px))
    is_upper = y < np.maximum(edges.upper, (edges.upper + edges.lower) / 2)
    shift = np.where(is_upper, at.upper - height - y, rise)
    skin = remap_fixed(eye.skin.clean, inside + shift[..., None] * eye.axes[1]).astype(np.float32)
    moved = np.abs(shift) > MIN_SHIFT_PX
    if closing <= 0:
        return skin, moved
    # A few rows of skin stretched over an eye would look like streaks, and folds smooth out.
    stretch = closing * eye.travel_px / max(float(np.median(eye.curves.strip)) - LASH_HEIGHT * width_px, 1.0)
    share = smoothstep(stretch, *BARE_STRETCH) * at.fade * is_upper
    fold = np.minimum(FOLD_HEIGHT * width_px, at.brow)
    share *= 1 - smoothstep(at.upper - y, FOLD_BEGIN * fold, fold)
    share *= BARE_EDGE + (1 - BARE_EDGE) * smoothstep(above, 0.3 * lash, 1.5 * lash + 0.1)
    bare = remap_fixed(eye.skin.bare, inside).astype(np.float32)
    # A lid is round: it darkens below.
    bare *= (0.9 + 0.1 * smoothstep(above, 0.0, 0.4 * width_px))[..., None]
    skin += share[..., None] * (bare - skin)
    line = np.clip(1 - ((y - edges.upper) / (LASH_LINE * width_px * at.middle + 0.7)) ** 2, 0, 1) ** 2
    line *= LASH_OPACITY * smoothstep(closing, 0.3, 1.0) * smoothstep(at.middle, 0.0, 0.7)
    skin += line[..., None] * (eye.lash_colour - skin)
    return skin, moved | (share > 0.004) | (line > 0.004)
