"""The upper teeth that a photo shows: where they are, and how they replace the drawn ones."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vortex.engines.mesh.light import PhotoLight, luma
from vortex.face.landmarks import LOWER_INNER, UPPER_INNER
from vortex.interpolation import smoothstep
from vortex.types import F32, LUMA_WEIGHTS, Frame

COLUMNS, ROWS = 161, 64
"""Samples along the mouth, and from the upper to the lower lip."""
MIN_GAP_MM = 2.5
"""Lips closer than this show too little of the teeth."""
MAX_REDNESS = 0.72
"""Enamel is at most this red, as a part of the redness of the lips."""
MIN_CONTRAST = 0.12
"""Teeth are brighter than what is behind them by this, as a part of the luma of the skin."""
MIN_COLUMNS = 0.22
"""Part of the mouth's width in which a photo must show teeth."""
FIRST_SHARE = 0.4
"""Upper teeth begin in this part of the opening, from the upper lip."""
MIN_HEIGHT_MM = 1.0
CROWN_MM = (8.0, 10.5)
"""Above the edge of the teeth, what the lip hides is a continued crown up to here, and gum from there on."""
SIDE_FADE_MM = 2.5
"""Over this width the photo's teeth turn into drawn ones at the sides."""
GAIN_LIMITS = (0.55, 1.6)
"""Least and most by which drawn teeth are made darker or brighter to match."""


@dataclass(frozen=True, slots=True, eq=False)
class OwnTeeth:
    """Teeth in a photo, in coordinates u, v in millimetres from the middle of the upper lip's edge.

    ``u`` (n,) increases; ``top`` and ``bottom`` (n,) are where teeth are visible there, from the upper lip
    to their edge; ``shown`` (n,) in [0, 1] fades at the sides. ``edge_mm`` is the edge of the incisors.
    """

    u: F32
    top: F32
    bottom: F32
    shown: F32
    edge_mm: float


def find_teeth(
    image: Frame, points: F32, axes: F32, origin_px: F32, px_per_mm: float, light: PhotoLight
) -> OwnTeeth | None:
    """Return the upper teeth between open lips with landmarks ``points`` (478, 2), or None."""
    to_mm = axes / px_per_mm
    upper, lower = ((points[edge] - origin_px) @ to_mm for edge in (UPPER_INNER, LOWER_INNER))
    u = np.linspace(upper[0, 0], upper[-1, 0], COLUMNS).astype(np.float32)
    top, floor = np.interp(u, *upper.T), np.interp(u, *lower.T)
    if float((floor - top).max()) < MIN_GAP_MM:
        return None
    share = np.linspace(0, 1, ROWS)[:, None]
    v = top + share * np.maximum(floor - top, 0)
    colours = look_up(image, np.broadcast_to(u, v.shape), v, axes, origin_px, px_per_mm)
    teeth = _is_tooth(colours, light)
    if teeth is None:
        return None
    # The first run of enamel in each column, if it begins near the upper lip.
    first = np.argmax(teeth, axis=0)
    after = np.arange(ROWS)[:, None] > first
    # A run ends where two samples in a row are something else.
    end = after & ~teeth & ~np.roll(teeth, -1, axis=0)
    last = np.where(end.any(axis=0), np.argmax(end, axis=0), ROWS - 1)
    height = (last - first) / (ROWS - 1) * (floor - top)
    there = teeth.any(axis=0) & (first < FIRST_SHARE * ROWS) & (height > MIN_HEIGHT_MM)
    if there.mean() < MIN_COLUMNS:
        return None
    bottom = np.interp(u, u[there], (top + last / (ROWS - 1) * (floor - top))[there])
    bottom = cv2.medianBlur(bottom.astype(np.float32)[None], 5)[0]
    spread = cv2.morphologyEx(there.astype(np.uint8)[None], cv2.MORPH_CLOSE, np.ones((1, 15), np.uint8))
    fade = max(round(SIDE_FADE_MM / float(u[1] - u[0])), 1)
    inner = cv2.erode(spread, np.ones((1, 2 * fade + 1), np.uint8), borderValue=0)
    shown = cv2.blur(inner.astype(np.float32), (2 * fade + 1, 1))[0]
    middle = np.abs(u) < 7
    if not there[middle].any():
        return None
    return OwnTeeth(u, top.astype(np.float32), bottom, shown, float(np.percentile(bottom[middle], 60)))


def add_own_teeth(
    row: F32, own: OwnTeeth, image: Frame, seen_mm: F32, v_mm: F32, axes: F32, origin_px: F32, px_per_mm: float
) -> tuple[F32, F32]:
    """Return the drawn row (h, w, 4) with the photo's teeth on top, and the gain (3,) that matched the rest.

    ``seen_mm`` (w,) and ``v_mm`` (h,) are where the columns and rows of the drawn row are in the photo, in
    the coordinates of ``own``.
    """
    top, bottom, shown = (np.interp(seen_mm, own.u, values) for values in (own.top, own.bottom, own.shown))
    margin = 1.5 / px_per_mm
    v = np.broadcast_to(v_mm[:, None], row.shape[:2])
    # What the lip hides continues the crowns below it.
    photo = look_up(image, np.broadcast_to(seen_mm, v.shape), np.maximum(v, top + margin), axes, origin_px, px_per_mm)
    soft = 0.8 / px_per_mm
    crown = smoothstep(bottom - v, CROWN_MM[1], CROWN_MM[0])
    alpha = shown * (1 - smoothstep(v, bottom - soft, bottom + soft)) * np.where(v < top + margin, crown, 1)
    alpha = alpha[..., None].astype(np.float32)
    both = (alpha[..., 0] > 0.9) & (row[..., 3] > 0.9) & (v > top + margin) & (np.abs(seen_mm) < 14)
    gain = np.ones(3, np.float32)
    if both.any():
        gain = np.clip(photo[both].mean(0) / np.maximum(row[both][:, :3].mean(0), 1), *GAIN_LIMITS)
    matched = row * np.concatenate([gain, np.ones(1)]).astype(np.float32)
    patch = np.concatenate([photo, np.ones((*v.shape, 1), np.float32)], axis=2)
    return (matched * (1 - alpha) + patch * alpha).astype(np.float32), gain.astype(np.float32)


def look_up(image: Frame, u: F32, v: F32, axes: F32, origin_px: F32, px_per_mm: float) -> F32:
    """Return (h, w, 3) float32: the photo at the places u, v (h, w) in millimetres."""
    where = origin_px + px_per_mm * (u[..., None] * axes[:, 0] + v[..., None] * axes[:, 1])
    # OpenCV accepts None for the second map; its type stubs do not.
    colours = cv2.remap(image, where.astype(np.float32), None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)  # type: ignore
    return np.asarray(colours, np.float32)


def _is_tooth(colours: F32, light: PhotoLight) -> np.ndarray | None:
    """Return (ROWS, n): whether samples between the lips are enamel; None if no contrast tells it."""
    bright = colours @ LUMA_WEIGHTS.astype(np.float32)
    dark, enamel = np.percentile(bright, 8), np.percentile(bright[: ROWS // 2], 85)
    lip_luma = luma(light.lip_rgb)
    if enamel - dark < MIN_CONTRAST * light.skin_luma:
        return None
    teeth = bright > 0.5 * (dark + enamel)
    lip_red = float(light.lip_rgb[0] - light.lip_rgb[1]) / max(lip_luma, 1.0)
    if lip_red > 0.05:
        redness = (colours[..., 0] - colours[..., 1]) / np.maximum(bright, 1)
        teeth &= redness < MAX_REDNESS * lip_red
    return teeth
