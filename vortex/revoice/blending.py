"""Blends a placed mouth into a frame: a soft region around mouth and jaw, and its colours."""

from __future__ import annotations

import cv2
import numpy as np

from vortex.face.landmarks import (
    BELOW_NOSE,
    CHIN,
    JAW_LINE,
    MOUTH_CORNERS,
    NOSE_BRIDGE,
    OUTER_EYE_CORNERS,
    UPPER_RINGS,
)
from vortex.interpolation import smoothstep
from vortex.types import F32, F64, Frame

FEATHER = 0.16
"""Width of the soft rim of the region, in outer-eye widths."""
BELOW_CHIN = 0.2
"""How far the region reaches below the chin, in outer-eye widths."""
ABOVE_LIP = 0.4
"""Its upper edge lies this part of the way from the nose to the upper lip."""
TONE_WIDTH_PX = 20.0
"""Outer-eye width of the reduced picture in which colours are compared."""
TONE_REACH = 0.3
"""Deviation of the blur that carries differences of colour from the rim inwards, in outer-eye widths."""
MAX_TONE = 40.0
"""Largest difference of colour that counts as one of light, in levels of 255."""

Box = tuple[int, int, int, int]
_JAW = JAW_LINE[2:-2]


def region_mask(size_px: tuple[int, int], faces_px: tuple[F64, ...]) -> tuple[F32, Box] | None:
    """Return the share (h, w) of the mouth in a box x0, y0, x1, y1 of a frame; 0 at its rim and outside.

    ``size_px`` is (width, height) of the frame; the region covers mouth and jaw of each of ``faces_px``,
    (478, 2) landmarks of one head with different mouths. None: nothing of it is in the frame.
    """
    outlines = [_outline(points) for points in faces_px]
    every = np.concatenate(outlines)
    low = np.maximum(np.floor(every.min(axis=0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(every.max(axis=0)).astype(int) + 3, size_px)
    if (high - low).min() < 8:
        return None
    width, height = (int(side) for side in high - low)
    inside = np.zeros((height, width), np.uint8)
    for outline in outlines:
        cv2.fillPoly(inside, [np.round((outline - low) * 16).astype(np.int32)], 1, cv2.LINE_8, shift=4)
    # The region may end at the edge of the frame, which is no rim.
    padded = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    depth_px = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    share = smoothstep(depth_px, 0.0, FEATHER * _eye_px(faces_px[0]))
    return np.asarray(share, np.float32), (int(low[0]), int(low[1]), int(high[0]), int(high[1]))


def _outline(points: F64) -> F64:
    """Return the polygon around mouth and jaw: below the nose to the right, and along the jaw back."""
    down = points[CHIN] - points[NOSE_BRIDGE]
    down = down / np.linalg.norm(down)
    top = points[BELOW_NOSE].copy()
    lip = points[UPPER_RINGS[3, 4]]
    middle = slice(2, -2)
    top[middle] += ABOVE_LIP * ((lip - top[middle]) @ down)[:, None] * down
    jaw = points[_JAW[::-1]].copy()
    mouth, chin = points[list(MOUTH_CORNERS)].mean(axis=0) @ down, points[CHIN] @ down
    share = np.clip((jaw @ down - mouth) / (chin - mouth), 0, 1)
    jaw += BELOW_CHIN * _eye_px(points) * share[:, None] * down
    return np.concatenate([top, jaw])


def _eye_px(points: F64) -> float:
    return float(np.linalg.norm(np.subtract(*points[list(OUTER_EYE_CORNERS), :2])))


def match_tone(mouth: Frame, frame: Frame, share: F32, eye_px: float) -> Frame:
    """Return ``mouth`` (h, w, 3) in the light of ``frame``, as the rim tells, where ``share`` is near a half.

    The differences of colour there are carried inwards, so that both sides of the rim agree. What ``frame``
    shows where ``share`` is 1 does not matter.
    """
    frame = np.where(share[..., None] < 1, frame, mouth)
    scale = min(TONE_WIDTH_PX / eye_px, 1.0)
    size = (max(round(scale * mouth.shape[1]), 4), max(round(scale * mouth.shape[0]), 4))
    small = [
        np.asarray(cv2.resize(p, size, interpolation=cv2.INTER_AREA), np.float32) for p in (mouth, frame)
    ]
    apart = small[1] - small[0]
    part = cv2.resize(share, size, interpolation=cv2.INTER_AREA)
    weight = np.asarray(part * (1 - part), np.float32)
    if float(weight.max()) < 1e-3:
        return mouth
    rim = weight > 0.05
    usual = np.median(apart[rim], axis=0)
    # Hair, collars and the background are not lit otherwise: they are something else.
    weight *= np.exp(-0.5 * (np.abs(apart - usual).max(axis=2) / 12) ** 2)
    weight = weight[..., None]
    deviation = TONE_REACH * eye_px * scale
    carried = cv2.GaussianBlur(apart * weight, (0, 0), deviation)
    amount = cv2.GaussianBlur(weight, (0, 0), deviation)[..., None]
    tone = (carried + 1e-4 * usual) / (amount + 1e-4)
    tone = np.clip(cv2.resize(tone, mouth.shape[1::-1], interpolation=cv2.INTER_LINEAR), -MAX_TONE, MAX_TONE)
    return np.asarray(np.clip(mouth + tone + 0.5, 0, 255), np.uint8)


def blend(frame: Frame, mouth: Frame, share: F32, box: Box) -> None:
    """Blend a mouth into a frame (H, W, 3) in place; where ``share`` is 0 nothing changes."""
    x0, y0, x1, y1 = box
    under = frame[y0:y1, x0:x1]
    mixed = under + share[..., None] * (mouth.astype(np.float32) - under)
    under[:] = np.where(share[..., None] > 0, (mixed + 0.5).astype(np.uint8), under)
