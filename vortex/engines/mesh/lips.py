"""Lips that are open in a photo: where their inner edges are, and what is painted where they shut.

Landmarks of the edges are off by pixels, so teeth lie on the wrong side of them. Each edge is found again in
the colours, and the hole between the edges is filled with lip, so that shut lips show no teeth and no throat.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vortex.engines.mesh.field import remap
from vortex.face.landmarks import (
    INNER_LIPS,
    LOWER_INNER,
    LOWER_RINGS,
    OUTER_EYE_CORNERS,
    UPPER_INNER,
    UPPER_RINGS,
)
from vortex.interpolation import smoothstep
from vortex.types import F32, I64, FloatArray, Frame

MIN_INSET, MAX_INSET = 0.006, 0.05
"""Least and most distance by which an edge is moved into the flesh, in outer-eye widths."""
DEFAULT_INSET = 0.018
"""The same where the colours do not tell the edge."""
INSET_OF_GAP = 0.25
"""The most that the least and the default inset are, in gaps between the lips."""
CORNER_INSET = 0.02
"""The most at the corners of open lips, in outer-eye widths."""
FILLED_GAP = (0.02, 0.05)
"""Gaps between which the fill sets in, in outer-eye widths: the line between lips that nearly meet stays."""
MIN_OPEN_GAP = 0.04
"""Lips nearer than this everywhere show too little to find their edges in the colours."""
LOOK_INSIDE = 0.03
"""The colour between the lips is measured up to this far from the edge, in outer-eye widths."""
MIN_CONTRAST = 30.0
"""Colours of lip and of what is between the lips differ by at least this, as a distance in RGB."""
FLESH_SHARE = 0.35
"""A pixel is lip if it is at most this far from the lip's colour towards the other colour."""
STEPS, COLUMNS = 28, 121
"""Samples across an edge, and along the mouth."""
SMOOTH_COLUMNS = 3.0
MARGIN_PX = 1.0
"""Beyond the found edge, colours are still mixed with those inside."""

MIN_SEALED_GAP = 0.02
"""Lips closer than this are not open: the dark line between them is their own, in outer-eye widths."""
LIP_SHARE = 0.55
"""The fill mirrors this part of each lip at its edge: not the skin beyond it."""


@dataclass(frozen=True, slots=True, eq=False)
class LipEdges:
    """Inner edges of open lips, ``COLUMNS`` points (n, 2) each in pixels, and how thick (n,) the lips are.

    ``down`` (2,) is the unit vector to the chin.
    """

    upper: F32
    lower: F32
    upper_thick: F32
    lower_thick: F32
    down: F32


def open_lips(image: Frame, landmarks_px: F32, down: F32) -> tuple[Frame, F32]:
    """Return the picture with the hole between open lips filled, and the landmarks at the edges of the lips.

    Lips that are shut stay as they are, except that landmarks of a narrow gap move a little into the flesh.
    """
    landmarks = landmarks_px.copy()
    eye_px = float(np.linalg.norm(np.subtract(*landmarks_px[list(OUTER_EYE_CORNERS), :2])))
    insets = [_insets(image, landmarks_px, down, eye_px, upper) for upper in (True, False)]
    inner = slice(1, -1)
    along = np.linspace(0, COLUMNS - 1, len(UPPER_INNER)).round().astype(int)
    landmarks[UPPER_INNER[inner], :2] -= insets[0][along][inner, None] * down
    landmarks[LOWER_INNER[inner], :2] += insets[1][along][inner, None] * down
    gap_px = float(np.linalg.norm(np.subtract(*landmarks_px[list(INNER_LIPS), :2])))
    if gap_px < MIN_SEALED_GAP * eye_px:
        return image, landmarks
    upper = np.asarray(_along(landmarks_px[UPPER_INNER, :2]) - insets[0][:, None] * down, np.float32)
    lower = np.asarray(_along(landmarks_px[LOWER_INNER, :2]) + insets[1][:, None] * down, np.float32)
    upper_thick, lower_thick = (_thickness(landmarks[:, :2], rings) for rings in (UPPER_RINGS, LOWER_RINGS))
    return _fill(image, LipEdges(upper, lower, upper_thick, lower_thick, down), eye_px), landmarks


def _along(points: F32) -> F32:
    """Return (COLUMNS, 2): places along a polygon of (11, 2) points."""
    t = np.linspace(0, len(points) - 1, COLUMNS)
    knots = np.arange(len(points))
    return np.stack([np.interp(t, knots, points[:, axis]) for axis in (0, 1)], axis=1).astype(np.float32)


def _insets(image: Frame, landmarks_px: F32, down: F32, eye_px: float, upper: bool) -> F32:
    """Return (COLUMNS,): how far the flesh begins beyond the landmarks of one edge, in pixels, at least 0."""
    top, bottom = _along(landmarks_px[UPPER_INNER, :2]), _along(landmarks_px[LOWER_INNER, :2])
    gap = np.maximum((bottom - top) @ down, 0)
    rings = (UPPER_RINGS if upper else LOWER_RINGS)[1:3]
    flesh = landmarks_px[rings, :2].mean(0)
    flesh = _along(np.concatenate([flesh[:1], flesh, flesh[-1:]]))
    edge, outward = (top, -down) if upper else (bottom, down)
    lip = cv2.GaussianBlur(_sample(image, flesh[:, None])[:, 0], (1, 25), 0)
    inward = np.minimum(LOOK_INSIDE * eye_px, 0.5 * gap)[:, None, None] * np.linspace(0.3, 1, 5)[:, None]
    inside = np.median(_sample(image, edge[:, None] - inward * outward), axis=1).astype(np.float32)
    distance = np.linspace(0, MAX_INSET * eye_px, STEPS, dtype=np.float32)
    colours = _sample(image, edge[:, None] + distance[:, None] * outward)
    toward = inside - lip
    contrast = np.linalg.norm(toward, axis=1)
    share = ((colours - lip[:, None]) * toward[:, None]).sum(2) / np.maximum(contrast, 1)[:, None] ** 2
    # The first sample from the edge outwards that is lip.
    first = np.argmax(np.concatenate([share < FLESH_SHARE, np.ones((COLUMNS, 1), bool)], axis=1), axis=1)
    found = np.where(first < STEPS, distance[np.minimum(first, STEPS - 1)] + MARGIN_PX, 0)
    known = (contrast > MIN_CONTRAST) & (first < STEPS)
    inset = np.where(known, found, np.minimum(DEFAULT_INSET * eye_px, INSET_OF_GAP * gap)).astype(np.float32)
    inset = cv2.GaussianBlur(cv2.medianBlur(inset[None], 5), (0, 0), SMOOTH_COLUMNS)[0]
    least = np.minimum(MIN_INSET * eye_px, INSET_OF_GAP * gap)
    # Shut lips have no inside whose colour could be measured; at the corners of open ones it is narrow.
    is_open = float(gap.max()) > MIN_OPEN_GAP * eye_px
    most = (
        np.minimum(CORNER_INSET * eye_px + 0.5 * gap, MAX_INSET * eye_px) if is_open else INSET_OF_GAP * gap
    )
    return np.asarray(np.clip(inset, least, most), np.float32)


def _thickness(points: F32, rings: I64) -> F32:
    """Return (COLUMNS,): how thick a lip is, in pixels, from its inner to its outer edge."""
    thick = np.linalg.norm(points[rings[-1]] - points[rings[0]], axis=1)
    places = np.linspace(-1, len(thick), COLUMNS)
    return np.asarray(np.interp(places, np.arange(len(thick)), thick), np.float32)


def _sample(image: Frame, where: FloatArray) -> F32:
    """Return (n, m, 3) float32: the picture at (n, m, 2) positions, slightly blurred along."""
    colours = remap(image, np.ascontiguousarray(where, np.float32))
    return np.asarray(cv2.blur(colours, (1, 3)), np.float32)


def _fill(image: Frame, edges: LipEdges, eye_px: float) -> Frame:
    """Return the picture with each half of the hole filled by the mirror image of the lip next to it.

    ``eye_px`` is the outer-eye width.
    """
    outline = np.concatenate([edges.upper, edges.lower[::-1]])
    low = np.maximum(np.floor(outline.min(0)).astype(int) - 3, 0)
    high = np.minimum(np.ceil(outline.max(0)).astype(int) + 4, [image.shape[1], image.shape[0]])
    w, h = (int(size) for size in high - low)
    if w < 3 or h < 3:
        return image
    x, y = (
        np.arange(size, dtype=np.float32) + np.float32(start) for size, start in zip((w, h), low, strict=True)
    )
    right = np.array([edges.down[1], -edges.down[0]])
    along = x * np.float32(right[0]) + y[:, None] * np.float32(right[1])
    across = x * np.float32(edges.down[0]) + y[:, None] * np.float32(edges.down[1])
    places = edges.upper @ right, edges.lower @ right
    upper, lower = (
        np.interp(along, places[0], edges.upper @ edges.down),
        np.interp(along, places[1], edges.lower @ edges.down),
    )
    half = np.maximum((lower - upper) / 2, 1.0)
    is_upper = across < upper + half
    thick = np.where(
        is_upper,
        np.interp(along, places[0], edges.upper_thick),
        np.interp(along, places[1], edges.lower_thick),
    )
    squeeze = np.minimum(LIP_SHARE * thick / half, 1.0)
    # Both ways from an edge, so that the rim around the hole is filled with flesh, too.
    off = squeeze * np.abs(across - np.where(is_upper, upper, lower)) + MARGIN_PX
    source = np.where(is_upper, upper - off, lower + off)
    shift = (source - across).astype(np.float32)
    maps = np.stack(
        [x + shift * np.float32(edges.down[0]), y[:, None] + shift * np.float32(edges.down[1])], 2
    )
    fill = remap(image, maps)
    mask = np.zeros((h, w), np.uint8)
    cv2.fillPoly(mask, [np.round((outline - low) * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    # Pixels on the edge are mixed with what is inside, so the fill covers them whole.
    alpha = cv2.blur(cv2.dilate(mask, np.ones((5, 5), np.uint8)), (3, 3)) / np.float32(255)
    alpha = (alpha * smoothstep((lower - upper) / eye_px, *FILLED_GAP))[..., None]
    result = image.copy()
    region = result[low[1] : high[1], low[0] : high[0]]
    region[:] = (region + alpha * (fill.astype(np.float32) - region) + 0.5).astype(np.uint8)
    return result
