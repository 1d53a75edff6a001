"""Where hair stands out of the skull's silhouette: cells beside it that look unlike the background.

Numbers were chosen by eye on contact sheets. Hair that is not found bends when the head rolls, and background
that is taken for hair moves with the head, both within the reach that :mod:`vortex.engines.mesh.head` allows.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vortex.engines.mesh.field import Region
from vortex.types import F32, F64, Frame

SURE_HEAD, SURE_BACKGROUND = 0.95, 1.6
"""Below which distance all is head, and beyond which the edge of the region is background.

Distances are from the middle of the skull, in its half widths.
"""
MIN_DIFFERENCE = 14.0
"""Least distance in CIELAB (8 bits) of hair from every sample of the background."""
SAMPLES = 64
"""At most so many cells of the background are compared with all others."""
BLUR_CELLS = 0.8
SHOULDERS_BELOW = -0.5
"""Below this, relative to the chin in outer-eye widths, the edge of the region may show hair or shoulders."""
FAR_RING, MAX_FAR_UNLIKE = (1.7, 2.2), 0.15
"""If a greater share of the cells at that distance is unlike the samples, the background is too varied."""


def find_hair(canvas: Frame, region: Region, radius: F64, below: F64) -> npt.NDArray[np.bool_]:
    """Return (rows, cols): where head and hair are, above the chin.

    ``radius`` (rows, cols) is the distance of each cell from the middle of the skull in its half widths, and
    ``below`` that from the chin downwards. Hair is connected with the skull.
    """
    width, height = region.size_px
    part = canvas[region.y0 : region.y0 + height, region.x0 : region.x0 + width]
    small = cv2.resize(part, (region.cols, region.rows), interpolation=cv2.INTER_AREA)
    colours = cv2.cvtColor(cv2.GaussianBlur(small, (0, 0), BLUR_CELLS), cv2.COLOR_RGB2LAB).astype(np.float32)
    head, above = radius < SURE_HEAD, below < 0
    high = below < SHOULDERS_BELOW
    unlike = _difference(colours, _background(radius) & high) > MIN_DIFFERENCE
    far = high & (radius > FAR_RING[0]) & (radius < FAR_RING[1])
    if unlike[far].sum() > MAX_FAR_UNLIKE * far.sum():
        return head
    square = np.ones((3, 3), np.uint8)
    candidates = cv2.morphologyEx(((unlike & above) | head).astype(np.uint8), cv2.MORPH_OPEN, square)
    _, labels = cv2.connectedComponents(candidates, connectivity=4)
    inside = np.isin(labels, np.unique(labels[head & (candidates > 0)]))
    return cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_CLOSE, square) > 0


def _background(radius: F64) -> npt.NDArray[np.bool_]:
    """Return (rows, cols): the cells at the sides and the top of the region that are far from the skull."""
    edge = np.zeros(radius.shape, bool)
    edge[0], edge[:, 0], edge[:, -1] = True, True, True
    return edge & (radius > SURE_BACKGROUND)


def _difference(colours: F32, background: npt.NDArray[np.bool_]) -> F32:
    """Return (rows, cols): distance of ``colours`` (rows, cols, 3) from the nearest sample, or 0."""
    samples = colours[background]
    if not len(samples):
        return np.zeros(colours.shape[:2], np.float32)
    nearest = np.full(colours.shape[:2], np.inf, np.float32)
    for sample in samples[:: -(-len(samples) // SAMPLES)]:
        nearest = np.minimum(nearest, ((colours - sample) ** 2).sum(axis=2))
    return np.sqrt(nearest)
