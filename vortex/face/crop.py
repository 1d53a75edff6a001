"""Crops of a face: LivePortrait's tilted square, and the upright square that the mesh engine renders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vortex.errors import InputError
from vortex.face.landmarks import CROP_OUTLINE, EYES, MOUTH_CORNERS
from vortex.types import F32, F64, Frame, Portrait

CROP_PX = 512
"""Side of LivePortrait's crop of a source picture."""
CROP_SCALE = 2.3
"""Side of the crop, in larger sides of the face (LivePortrait's ``scale``)."""
KEPT_FRAMING = 1.3
"""A picture whose shorter side is less than this many sides of the square is not cropped further."""
CROP_RISE = 0.125
"""How far the centre of the crop lies above that of the face, in sides of the crop (its ``vy_ratio``)."""
DRIVER_CROP_SCALE, DRIVER_CROP_RISE = 2.2, 0.1
"""The same of a driving video."""


def crop_transform(landmarks_px: F32, size_px: int) -> F64:
    """Return the similarity (3, 3) from a picture to its crop by LivePortrait's rule for source pictures.

    The line from the eyes to the lips becomes vertical. The side of the square is 2.3 times the larger side
    of the face, and its centre lies an eighth of a side above the centre of the face.
    """
    axes, centre, side = _square(landmarks_px, CROP_SCALE, CROP_RISE)
    scale = size_px / side
    shift = size_px / 2 - 0.5 - scale * axes @ centre
    return np.vstack([np.column_stack([scale * axes, shift]), [0, 0, 1]])


def driver_crop_transform(landmarks_px: F32, size_px: int) -> F64:
    """Return the similarity (3, 3) from a video to its crop by LivePortrait's rule for drivers.

    ``landmarks_px`` (T, 478, 3). The crop is upright and the same in all frames, so that turns and shifts of
    the head stay visible: the mean of the squares of all frames, 2.2 times the face, moved up by a tenth.
    """
    squares = [_square(points, DRIVER_CROP_SCALE, DRIVER_CROP_RISE)[1:] for points in landmarks_px]
    centre = np.mean([centre for centre, _ in squares], axis=0)
    scale = size_px / float(np.mean([side for _, side in squares]))
    transform = np.diag([scale, scale, 1.0])
    transform[:2, 2] = size_px / 2 - 0.5 - scale * centre
    return transform


def crop_source(frame: Frame, landmarks_px: F32) -> tuple[Frame, F32]:
    """Return the crop of :func:`crop_transform` at CROP_PX, its edge repeated, and the landmarks in it."""
    import cv2

    matrix = crop_transform(landmarks_px, CROP_PX)
    crop = cv2.warpAffine(frame, matrix[:2], (CROP_PX, CROP_PX), borderMode=cv2.BORDER_REPLICATE)
    moved = landmarks_px.copy()
    moved[:, :2] = landmarks_px[:, :2] @ matrix[:2, :2].T + matrix[:2, 2]
    moved[:, 2] *= np.float32(np.linalg.norm(matrix[0, :2]))
    return np.asarray(crop, np.uint8), moved


def crop_driver(frame: Frame, landmarks_px: F32, crop_from_frame: F64) -> tuple[Frame, F32]:
    """Return the crop of CROP_PX pixels of a driver's frame, black outside it, and the landmarks in it."""
    import cv2

    size = (CROP_PX, CROP_PX)
    crop = cv2.warpAffine(frame, crop_from_frame[:2], size, borderMode=cv2.BORDER_CONSTANT)
    moved = landmarks_px * np.float32(crop_from_frame[0, 0])
    moved[:, :2] += crop_from_frame[:2, 2].astype(np.float32)
    return np.asarray(crop, np.uint8), moved


def _square(landmarks_px: F32, scale: float, rise: float) -> tuple[F64, F64, float]:
    """Return the unit vectors (2, 2) to the right and down along a face, and its square: centre and side.

    The side is ``scale`` times the larger side of the face; the centre, in the picture, lies ``rise`` sides
    above that of the face.
    """
    points = landmarks_px[:, :2].astype(np.float64)
    eyes, lips = points[EYES].mean(0), points[list(MOUTH_CORNERS)].mean(0)
    down = (lips - eyes) / np.linalg.norm(lips - eyes)
    axes = np.array([[down[1], -down[0]], down])
    outline = points[CROP_OUTLINE] @ axes.T
    low, high = outline.min(0), outline.max(0)
    side = float((high - low).max()) * scale
    centre = (low + high) / 2 - [0, rise * side]
    return axes, np.asarray(axes.T @ centre, np.float64), side


def crop_face(portrait: Portrait, size_px: int) -> Portrait:
    """Return an upright square of ``size_px`` around the face, cut from the picture and resized.

    Its place and size follow :func:`crop_transform`, but it is never tilted and stays inside the picture:
    if that is too small, the square shrinks and moves. It is cut from the close-up if there is one.
    InputError: ``size_px`` odd or not in 128..2048.
    """
    import cv2

    portrait = portrait.close_up or portrait

    if size_px % 2 or not 128 <= size_px <= 2048:
        raise InputError(f"The frame size is {size_px}; give an even number of pixels from 128 to 2048.")
    height, width = portrait.image.shape[:2]
    outline = portrait.landmarks_px[CROP_OUTLINE, :2]
    low, high = outline.min(0), outline.max(0)
    wanted = CROP_SCALE * float((high - low).max())
    side = min(height, width) if KEPT_FRAMING * wanted >= min(height, width) else round(wanted)
    centre = (low + high) / 2 - [0, CROP_RISE * wanted]
    x0, y0 = np.clip(np.round(centre - side / 2), 0, [width - side, height - side]).astype(int)
    square = portrait.image[y0 : y0 + side, x0 : x0 + side]
    kernel = cv2.INTER_AREA if side > size_px else cv2.INTER_CUBIC
    scale = size_px / side
    transform = np.diag([scale, scale, 1.0])
    transform[:2, 2] = scale * (0.5 - x0) - 0.5, scale * (0.5 - y0) - 0.5
    landmarks = portrait.landmarks_px * np.float32(scale)
    landmarks[:, :2] += transform[:2, 2].astype(np.float32)
    return replace(
        portrait,
        image=np.asarray(cv2.resize(square, (size_px, size_px), interpolation=kernel), np.uint8),
        landmarks_px=landmarks,
        crop_from_image=portrait.crop_from_image @ np.linalg.inv(transform),
    )


def even_sides(portrait: Portrait) -> Portrait:
    """Return the whole picture, without its last row or column if a side is odd: video needs even sides."""
    height, width = portrait.image.shape[:2]
    return replace(portrait, image=portrait.image[: height - height % 2, : width - width % 2])
