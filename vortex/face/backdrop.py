"""The pixels behind a person: the picture's own background, blurred, a colour, or another picture."""

from __future__ import annotations

import cv2
import numpy as np

from vortex.media.background import Background
from vortex.media.picture import load_picture
from vortex.types import F32, Frame

BLUR = 0.03
"""Standard deviation of a blurred background, in longest sides of the frame."""
REACH = 0.5
"""How far the background is continued behind the person, in longest sides of the frame."""


def make_backdrop(background: Background, canvas: Frame, matte: F32) -> Frame | None:
    """Return what is behind the person of a canvas (H, W, 3) with the matte (H, W); None if nothing is.

    Raises:
        ImageError: the picture of the background cannot be read.
    """
    height, width = canvas.shape[:2]
    if background.kind == "none":
        return None
    if background.kind == "colour":
        return np.full((height, width, 3), background.rgb, np.uint8)
    if background.kind == "picture":
        return _cover(load_picture(background.value).image, (width, height))
    return _blurred_background(canvas, matte)


def _cover(image: Frame, size_px: tuple[int, int]) -> Frame:
    """Return the middle of a picture, cut and resized to fill ``size_px``."""
    width, height = size_px
    scale = max(width / image.shape[1], height / image.shape[0])
    size = max(round(scale * image.shape[1]), width), max(round(scale * image.shape[0]), height)
    kernel = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    whole = np.asarray(cv2.resize(image, size, interpolation=kernel), np.uint8)
    x0, y0 = (size[0] - width) // 2, (size[1] - height) // 2
    return np.ascontiguousarray(whole[y0 : y0 + height, x0 : x0 + width])


def _blurred_background(canvas: Frame, matte: F32) -> Frame:
    """Return the blurred background of a canvas; the person leaves no trace in it."""
    side = max(canvas.shape)
    # Hair that the matte misses would still be seen as a shadow.
    reach = max(round(0.015 * side), 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    share = 1 - cv2.dilate(matte, kernel)
    total = np.zeros((*canvas.shape[:2], 3), np.float32)
    weight = np.zeros(canvas.shape[:2], np.float32)
    # Wider blurs count less, so they fill only what narrower ones leave open.
    deviation, factor = BLUR * side, 1.0
    while deviation < REACH * side:
        small = max(int(deviation / 4), 1)
        size = max(canvas.shape[1] // small, 2), max(canvas.shape[0] // small, 2)
        part = cv2.resize(share, size, interpolation=cv2.INTER_AREA)
        colours = cv2.resize(canvas * share[..., None], size, interpolation=cv2.INTER_AREA)
        part, colours = (cv2.GaussianBlur(values, (0, 0), deviation / small) for values in (part, colours))
        full = canvas.shape[1::-1]
        total += factor * cv2.resize(colours, full, interpolation=cv2.INTER_CUBIC)
        weight += factor * cv2.resize(part, full, interpolation=cv2.INTER_CUBIC)
        deviation, factor = 2.5 * deviation, 0.003 * factor
    mixed = total / np.maximum(weight, 1e-9)[..., None]
    return np.asarray(np.clip(np.round(mixed), 0, 255), np.uint8)
