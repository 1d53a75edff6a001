"""The eyeball behind the lids: what the photo shows of it, completed to a whole iris with white around it.

Numbers without a source were chosen by eye on contact sheets (``scripts/contact_sheet.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vortex.engines.mesh.lids import LidCurves, Places, find_places
from vortex.engines.mesh.light import LUMA
from vortex.interpolation import smoothstep
from vortex.types import F32, Frame

SHADE_BELOW_UPPER, SHADE_OF_GAP = 0.06, 0.2
"""Height of shadow and lashes under the upper lid, in eye widths, and the most in heights of the eye."""
SHADE_ABOVE_LOWER = 0.5
"""The same above the lower lid, relative to that."""
IRIS_RADIUS = (0.17, 0.25)
"""Least and most radius of an iris in eye widths; 11.7 mm across in an eye of 28 mm is 0.21."""
WHITE_LUMA, WHITE_TINT = 0.9, 0.5
"""Luma of the white of an eye of which the photo shows none, relative to the skin; the share of its tint."""
CORNER_SHADE = 0.35
"""How much darker that white is at the corners."""
MIN_WHITE_SHARE = 0.002
"""Part of an eye's box that must show white for its mean colour to be used."""
WHITE_LIMITS = np.array([0.65, 1.5])
"""Luma of the white that is added is kept between these, relative to the skin."""
LASHES_REACH, LASH_LUMA = 0.4, 0.6
"""Lashes reach so far down in heights of the eye, and are darker than this, relative to the white there."""
HALF_SHUT = 0.2
"""Height of an eye that lies in the shadow of its lashes, in eye widths."""
CATCH_LIGHT = (0.25, 0.25)
"""Distance of a catch light up and to the left of the iris' centre, and its radius, in radii of the iris."""
RADIAL_LUMA = np.array([0.3, 0.3, 0.45, 0.9, 1.0, 1.0, 0.95, 0.7])
"""Luma of each ring of an iris, from its pupil to its rim, relative to its brightest."""
RADIAL_STEPS = len(RADIAL_LUMA)
ENOUGH = 0.25
"""Share of known pixels around one that is enough for its colour."""
SPREAD_PX = (1.0, 2.5, 6.0, 15.0)
"""Standard deviations of the blurs that spread the white of an eye over the whole ball."""
IRIS_LUMA = 0.3
"""Luma of an iris of which nothing is seen, relative to the skin."""


@dataclass(frozen=True, slots=True, eq=False)
class Eyeball:
    """``picture`` (h, w, 3) uint8 is the box with the whole front of the eyeball and no lids.

    The iris has its centre at ``iris_x`` in pixels of the eye's frame and ``radius_px``; ``shade_px`` is the
    height of the shadow and the lashes under the upper lid.
    """

    picture: Frame
    iris_x: float
    radius_px: float
    shade_px: float


def complete_eyeball(patch: Frame, x: F32, y: F32, curves: LidCurves, iris: F32, skin: F32) -> Eyeball:
    """Return the eyeball of an eye's box ``patch`` (h, w, 3).

    ``x`` (column of ``curves``) and ``y`` (h, w) are the places of its pixels in the eye's frame, as are the
    five landmarks of the ``iris`` (5, 2); ``skin`` (3,) is the colour around the eye.
    """
    places = find_places(curves, x, y)
    width_px = float(np.count_nonzero(curves.middle))
    highest_px = float((curves.lower - curves.upper).max())
    centre = iris[0]
    radius_px = float(np.median(np.linalg.norm(iris[1:] - centre, axis=1)))
    radius_px = float(np.clip(radius_px, IRIS_RADIUS[0] * width_px, IRIS_RADIUS[1] * width_px))
    shade_px = max(min(SHADE_BELOW_UPPER * width_px, SHADE_OF_GAP * highest_px), 0.5)
    depth = np.minimum(-places.above, -places.below / SHADE_ABOVE_LOWER) / shade_px
    shown = (depth > 1) & (places.middle > 0)
    distance = np.asarray(np.hypot(x - centre[0], y - centre[1]) / radius_px, np.float32)
    light = float(skin @ LUMA)
    # A nearly shut eye shows lashes and their shadow only.
    half_shut = highest_px < HALF_SHUT * width_px
    inside = _radial(patch, distance, shown, light)
    white = None if half_shut else _white(patch, shown & (distance > 1.1), light)
    if white is None:
        # Light that tints the skin tints the white, too, but less; the ball is darker towards the corners.
        plain = WHITE_LUMA * (WHITE_TINT * skin + (1 - WHITE_TINT) * light)
        white = np.asarray((1 - CORNER_SHADE * (1 - places.middle) ** 2)[..., None] * plain, np.float32)
    if half_shut:
        inside *= min(IRIS_LUMA * light / max(float(inside[distance < 1].mean()), 1.0), 1.0)
        spot = np.hypot(
            *((at - c) / radius_px + CATCH_LIGHT[0] for at, c in zip((x, y), centre, strict=True))
        )
        bright = 1 - smoothstep(spot, 0.5 * CATCH_LIGHT[1], CATCH_LIGHT[1])
        inside += bright[..., None] * (white - inside)
    soft = 1.2 / radius_px
    whole = inside + smoothstep(distance, 1 - soft, 1 + soft)[..., None] * (white - inside)
    if not half_shut:
        # What is seen stays as it is, and the rest continues it.
        seen = smoothstep(depth, 0.4, 1.1) * (places.middle > 0)
        seen *= 1 - _lashes(patch, places, distance, white)
        whole += seen[..., None] * (patch - whole)
    return Eyeball(np.clip(whole + 0.5, 0, 255).astype(np.uint8), float(centre[0]), radius_px, shade_px)


def _lashes(patch: Frame, places: Places, distance: F32, white: F32) -> F32:
    """Return (h, w): 1 where lashes hang over the ``white`` (h, w, 3)."""
    # Opened wider, the lid takes them along.
    high = -places.above < LASHES_REACH * np.maximum(places.gap, 1)
    dark = patch @ LUMA < LASH_LUMA * (white @ LUMA)
    lashes = cv2.dilate((dark & high & (distance > 1)).astype(np.float32), np.ones((3, 3), np.uint8))
    return np.asarray(cv2.GaussianBlur(lashes, (0, 0), 0.7), np.float32)


def _white(patch: Frame, shown: npt.NDArray[np.bool_], light: float) -> F32 | None:
    """Return (h, w, 3): the white of the eye, spread from where it is ``shown`` (h, w); None if hardly is."""
    luma = patch @ LUMA
    weights = shown.astype(np.float32)
    if shown.any():
        # Lashes and the rim of the iris are darker than most of the white.
        weights *= luma > 0.6 * np.percentile(luma[shown], 60)
    known = patch[weights > 0]
    if len(known) < MIN_WHITE_SHARE * shown.size or (known @ LUMA).mean() < WHITE_LIMITS[0] * light:
        return None
    plain = known.mean(axis=0)
    white = _spread(patch.astype(np.float32), weights, plain)
    level = np.maximum(white @ LUMA, 1.0)[..., None]
    return np.asarray(white / level * np.clip(level, *(WHITE_LIMITS * light)), np.float32)


def _spread(values: F32, weights: F32, plain: F32) -> F32:
    """Return (h, w, 3): ``values`` where ``weights`` (h, w) are 1, spread smoothly to where they are 0.

    The colour ``plain`` (3,) is used where nothing is near.
    """
    result = np.broadcast_to(plain, values.shape).astype(np.float32)
    weighted = values * weights[..., None]
    for sigma in reversed(SPREAD_PX):
        known = cv2.GaussianBlur(weights, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)[..., None]
        mean = cv2.GaussianBlur(weighted, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        result += np.clip(known / ENOUGH, 0, 1) * (mean / np.maximum(known, 1e-4) - result)
    return result


def _radial(patch: Frame, distance: F32, shown: F32, light: float) -> F32:
    """Return (h, w, 3): an iris with the median colour of each ring of the one that is ``shown`` (h, w)."""
    centres = (np.arange(RADIAL_STEPS) + 0.5) / RADIAL_STEPS
    rings = np.full((RADIAL_STEPS, 3), np.nan)
    for ring, radius in zip(rings, centres, strict=True):
        pixels = patch[shown & (np.abs(distance - radius) < 1 / RADIAL_STEPS)]
        if len(pixels) >= 3:
            ring[:] = np.median(pixels, axis=0)
    known = ~np.isnan(rings[:, 0])
    if not known.any():
        rings[:] = IRIS_LUMA * light
        known[:] = True
    # Rings of which nothing is seen: a pupil, and a rim, as dark as they are in most eyes.
    ratios = rings / RADIAL_LUMA[:, None]
    flat, profile = distance.ravel(), np.interp(distance.ravel(), centres, RADIAL_LUMA)
    channels = [profile * np.interp(flat, centres[known], ratios[known, band]) for band in range(3)]
    return np.asarray(np.stack(channels, axis=1).reshape(*distance.shape, 3), np.float32)
