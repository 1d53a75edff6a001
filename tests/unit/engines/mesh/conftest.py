"""A face of flat colours: the mean of tracked faces, whose lips, teeth and throat are drawn as polygons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from vortex.face.landmarks import LOWER_INNER, LOWER_RINGS, MOUTH_CORNERS, UPPER_INNER, UPPER_RINGS
from vortex.face.shapes import load_shapes
from vortex.types import F32, Frame

EYE_WIDTH_PX = 140
SKIN, LIP = (190, 140, 118), (170, 95, 92)


@dataclass(frozen=True)
class DrawnFace:
    """A picture (512, 512, 3) and its landmarks (478, 3) in pixels."""

    image: Frame
    landmarks_px: F32


def draw_face(
    gap: float = 0.0,
    *,
    skin: tuple[int, int, int] = SKIN,
    lip: tuple[int, int, int] = LIP,
    between: Callable[[Frame, np.ndarray, np.ndarray], None] | None = None,
    off_px: float = 0.0,
) -> DrawnFace:
    """Draw a face whose lips are ``gap`` outer-eye widths apart.

    ``between`` fills the hole, given the picture, its mask and the upper edge; landmarks of the inner edges
    are ``off_px`` pixels inside the hole.
    """
    points = (load_shapes().template * EYE_WIDTH_PX).astype(np.float32)
    points[:, :2] += 256 - (points[:, :2].min(0) + points[:, :2].max(0)) / 2
    middle = (points[UPPER_INNER] + points[LOWER_INNER]) / 2
    shift = points[UPPER_INNER, 1] - middle[:, 1]
    profile = np.sqrt(np.maximum(1 - np.linspace(-1, 1, 11) ** 2, 0)) * gap * EYE_WIDTH_PX / 2
    for rings, sign, before in ((UPPER_RINGS, -1, shift), (LOWER_RINGS, 1, -shift)):
        # Lips that are shut in the middle, then moved apart.
        points[rings, 1] += (sign * profile - before)[1:-1]
    points[[UPPER_INNER[0], UPPER_INNER[-1]], 1] = middle[[0, -1], 1]
    image = np.full((512, 512, 3), skin, np.uint8)
    corners = points[list(MOUTH_CORNERS), :2]
    outer = np.concatenate(
        [corners[:1], points[UPPER_RINGS[-1], :2], corners[1:], points[LOWER_RINGS[-1][::-1], :2]]
    )
    cv2.fillPoly(image, [np.round(outer).astype(np.int32)], lip)
    hole = np.concatenate([points[UPPER_INNER, :2], points[LOWER_INNER, :2][::-1]])
    mask = np.zeros((512, 512), np.uint8)
    if gap:
        cv2.fillPoly(mask, [np.round(hole).astype(np.int32)], 255)
        image[mask > 0] = (25, 10, 10)
        if between is not None:
            between(image, mask, points[UPPER_INNER, :2])
    points[UPPER_INNER[1:-1], 1] += off_px
    points[LOWER_INNER[1:-1], 1] -= off_px
    return DrawnFace(image, points)


@pytest.fixture(scope="session")
def face() -> Callable[..., DrawnFace]:
    return draw_face
