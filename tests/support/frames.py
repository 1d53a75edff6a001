"""Planes of video frames: those that were decoded, and those that a standard asks for."""

from __future__ import annotations

import av
import numpy as np

from vortex.types import Frame


def planes(frame: av.VideoFrame) -> list[np.ndarray]:
    """Return the planes Y, Cb and Cr of a frame, flat."""
    height, width = frame.height, frame.width
    flat = frame.to_ndarray(format="yuv420p").ravel()
    luma, quarter = width * height, width * height // 4
    return [flat[:luma], flat[luma : luma + quarter], flat[luma + quarter :]]


def exact_planes(picture: Frame) -> np.ndarray:
    """Return the planes by the equations of ITU-R BT.709-6, items 3.2 to 3.4, before they are rounded."""
    red, green, blue = picture.transpose(2, 0, 1) / 255
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    height, width = luma.shape
    planes = [16 + 219 * luma]
    for difference in ((blue - luma) / 1.8556, (red - luma) / 1.5748):
        squares = (128 + 224 * difference).reshape(height // 2, 2, width // 2, 2)
        planes.append(squares.mean(axis=(1, 3)))
    return np.concatenate([plane.ravel() for plane in planes]).reshape(-1, width)
