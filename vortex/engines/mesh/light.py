"""What light, colour, grain and sharpness a photo has around the mouth, so that drawn parts can match it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vortex.face.landmarks import CHEEK_SKIN, IRISES, LID_RINGS, LOWER_LIP_FLESH, MOUTH_CORNERS, UPPER_CHEEKS
from vortex.types import F32, LUMA_WEIGHTS, Frame

MAX_GREY_CHROMA = 6.0
"""Skin whose channels differ by less than this is that of a black-and-white picture, in levels of 255."""
WARM_SHADE = np.array([0.8, 1.0, 1.12], np.float32)
"""Exponents of shade in red, green and blue: light that bounces between lips and gums turns red."""
MAX_GRAIN = 4.0
"""Most grain taken from the picture, in levels of 255."""
MAD_OF_NORMAL = 0.6745
"""Median absolute deviation of the standard normal distribution."""
SHARP_EDGE_PX = 0.9
"""Edges of lids are this wide themselves in a sharp picture of 512 px."""
MIN_BLUR_PX, MAX_BLUR = 0.5, 0.012
"""Least blur of a photo in pixels, and the most that drawn parts take from it, in outer-eye widths."""
EDGE_LEVELS = 40.0
"""Contrast above which a pixel of the eyes' surroundings counts as an edge, in levels of 255."""

TOOTH_LIGHT, TOOTH_OFFSET, MAX_TOOTH = 1.0, 32.0, 236.0
"""Luma of enamel in full light: a share of that of the skin and a constant, in levels of 255."""
TOOTH_OF_EYE_WHITE, TOOTH_LIMITS = 1.3, (0.8, 1.2)
"""Enamel is so much brighter than the white of an eye, within these parts of what the skin tells."""
MIN_WHITE_PX, IRIS_MARGIN = 150, 1.25
"""Least pixels of both eyes' whites that tell their luma, and the iris with its rim, in radii of the iris."""
IVORY = np.array([1.05, 1.0, 0.89], np.float32)
SKIN_TINT = 0.35
"""How much of the colour of the skin, which is that of the light, teeth take."""
GUM_RGB = np.array([0.95, 0.7, 0.73], np.float32)
TONGUE_RGB = np.array([0.88, 0.66, 0.78], np.float32)
THROAT_RGB = np.array([0.4, 0.22, 0.25], np.float32)
"""Colour of gums, tongue and throat, as a part of that of the skin."""

LUMA = LUMA_WEIGHTS.astype(np.float32)
"""The shares of red, green and blue in luma, in the precision of drawn pictures."""


@dataclass(frozen=True, slots=True, eq=False)
class PhotoLight:
    """Median colours (3,) of cheeks and lower lip, and how fine the picture is.

    ``grain`` is the standard deviation of the finest detail in levels of 255, ``blur_px`` the standard
    deviation of the blur of its edges, ``warmth`` (3,) are exponents of shade. ``white_luma`` is that of the
    whites of the eyes; None if the photo shows too little of them.
    """

    skin_rgb: F32
    lip_rgb: F32
    white_luma: float | None
    monochrome: bool
    grain: float
    blur_px: float
    warmth: F32

    @property
    def skin_luma(self) -> float:
        """Luma of the cheeks."""
        return luma(self.skin_rgb)


def measure_light(image: Frame, points: F32, eye_width_px: float) -> PhotoLight:
    """Measure a photo with landmarks ``points`` (478, 2)."""
    skin, lip = sample(image, points[CHEEK_SKIN]), sample(image, points[LOWER_LIP_FLESH])
    monochrome = float(skin.max() - skin.min()) < MAX_GREY_CHROMA
    return PhotoLight(
        skin_rgb=skin,
        lip_rgb=lip,
        white_luma=_white_luma(image, points),
        monochrome=monochrome,
        grain=_grain(image, points),
        blur_px=_blur(image, points, eye_width_px),
        warmth=np.ones(3, np.float32) if monochrome else WARM_SHADE,
    )


def luma(rgb: F32) -> float:
    """Return the luma of one colour (3,)."""
    return float(rgb @ LUMA)


def sample(image: Frame, points: F32) -> F32:
    """Return the median colour (3,) of 7 by 7 pixels around each of some points (N, 2)."""
    patches = [
        image[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4].reshape(-1, 3)
        for x, y in np.round(points).astype(int)
    ]
    return np.asarray(np.median(np.concatenate(patches), axis=0), np.float32)


def tooth_colour(light: PhotoLight) -> F32:
    """Return the colour (3,) of teeth: brighter than dark skin, like fair skin.

    Dark skin in full light and fair skin in the dark look the same; the whites of the eyes tell them apart.
    """
    bright = TOOTH_LIGHT * light.skin_luma + TOOTH_OFFSET
    if light.white_luma is not None:
        low, high = TOOTH_LIMITS
        bright = float(np.clip(TOOTH_OF_EYE_WHITE * light.white_luma, low * bright, high * bright))
    bright = min(bright, MAX_TOOTH)
    if light.monochrome:
        return np.full(3, bright, np.float32)
    # Ivory, mixed with the colour of the light on the skin.
    hue = SKIN_TINT * light.skin_rgb / max(light.skin_luma, 1.0) + (1 - SKIN_TINT) * IVORY
    return np.asarray(np.clip(bright * hue, 0, 255), np.float32)


def flesh(light: PhotoLight, share: F32) -> F32:
    """Return the colour (3,) of flesh in the light on the skin."""
    return np.asarray(light.skin_rgb * (float(share @ LUMA) if light.monochrome else share), np.float32)


def _white_luma(image: Frame, points: F32) -> float | None:
    """Return the upper quartile of the luma of the whites of both eyes, or None if they show too little."""
    pixels = []
    for side, ring in LID_RINGS.items():
        outline, iris = points[ring], points[IRISES[side]]
        low = np.maximum(np.floor(outline.min(0)).astype(int), 0)
        high = np.ceil(outline.max(0)).astype(int) + 1
        patch = image[low[1] : high[1], low[0] : high[0]]
        inside = np.zeros(patch.shape[:2], np.uint8)
        cv2.fillConvexPoly(inside, cv2.convexHull(np.round(outline - low).astype(np.int32)), 1)
        # Lashes and the shadows of the lids lie along the edges.
        inside = np.asarray(cv2.erode(inside, np.ones((3, 3), np.uint8), borderValue=0), np.uint8)
        radius_px = float(np.median(np.linalg.norm(iris[1:] - iris[0], axis=1)))
        centre = np.round(iris[0] - low).astype(int).tolist()
        cv2.circle(inside, centre, round(IRIS_MARGIN * radius_px), 0, cv2.FILLED)
        pixels.append(patch[inside > 0])
    whites = np.concatenate(pixels) @ LUMA
    return float(np.percentile(whites, 75)) if len(whites) >= MIN_WHITE_PX else None


def _grain(image: Frame, points: F32) -> float:
    """Return the standard deviation of the finest detail on the cheeks in levels of 255, at most 4."""
    x, y = np.round(points[UPPER_CHEEKS].mean(0)).astype(int)
    grey = cv2.cvtColor(image[max(y - 40, 0) : y + 40, max(x - 60, 0) : x + 60], cv2.COLOR_RGB2GRAY)
    fine = grey.astype(np.float32) - cv2.GaussianBlur(grey, (0, 0), 1.0)
    return float(min(np.median(np.abs(fine)) / MAD_OF_NORMAL, MAX_GRAIN))


def _blur(image: Frame, points: F32, eye_width_px: float) -> float:
    """Return the blur of the sharpest edges of eyes and lips, as the sigma of a Gaussian in pixels.

    An edge of contrast C, blurred by sigma, is as steep as C / (sigma sqrt(2 pi)) in its middle.
    """
    reach = max(round(0.06 * eye_width_px), 4)
    sigmas = []
    for outline in (*(points[ring] for ring in LID_RINGS.values()), points[list(MOUTH_CORNERS)]):
        low = np.maximum(np.floor(outline.min(0)).astype(int) - reach, 0)
        high = np.ceil(outline.max(0)).astype(int) + reach
        grey = cv2.cvtColor(image[low[1] : high[1], low[0] : high[0]], cv2.COLOR_RGB2GRAY)
        steep = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)) / 8
        window = np.ones((reach | 1, reach | 1), np.uint8)
        contrast = (cv2.dilate(grey, window) - cv2.erode(grey, window)).astype(np.float32)
        edges = contrast > EDGE_LEVELS
        if edges.any():
            sigma = contrast[edges] / np.maximum(steep[edges], 1e-3) / np.sqrt(2 * np.pi)
            sigmas.append(float(np.percentile(sigma, 5)))
    blur = np.sqrt(max(min(sigmas, default=1.0) ** 2 - SHARP_EDGE_PX**2, 0.0))
    return float(np.clip(blur, MIN_BLUR_PX, max(MAX_BLUR * eye_width_px, MIN_BLUR_PX)))
