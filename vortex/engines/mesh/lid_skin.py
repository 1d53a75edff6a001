"""The skin of a lid without crease and lashes, and what lies over the lids: rims of glasses, hair.

Numbers without a source were chosen by eye on contact sheets (``scripts/contact_sheet.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vortex.engines.mesh.lids import LASH_HEIGHT, LidCurves, Places, find_places
from vortex.engines.mesh.light import LUMA, MAD_OF_NORMAL
from vortex.types import F32, Frame

SMALL_EYE_PX = 32
"""Width of an eye in the reduced picture in which bare skin is found."""
SKIN_LUMA = (0.5, 1.4)
"""Pixels darker or brighter than this are not skin, relative to the skin under the eye."""
LID_PERCENTILE = 50
"""The luma of the lid is this percentile of that of the skin between eye and brow: the rest is folds."""
CREASE_PX = 7
"""Dark lines thinner than this are creases and lashes, in pixels of the reduced picture."""
OVER_PX, OVER_CONTRAST = 9, 0.3
"""Rims and hair are thinner than this, in pixels of the reduced picture, and differ by this from the skin."""
LASHES_REACH = 0.16
"""Lines so near to an edge of the lids are lashes, not rims or hair, in eye widths."""
BARE_LUMA = (0.62, 1.35)
"""The luma of a shut lid is kept between these, relative to the skin under the eye."""
BARE_RANGE = (0.6, 1.12)
"""The luma of each part of it is kept between these, relative to the whole."""
SURFACE_ROUNDS, SURFACE_SPREAD = 5, 0.08
"""Rounds of the fit of a lid's colours, and how far the luma of skin lies from it, relative to the skin."""
PLAIN_WEIGHT = 0.002
"""Weight of the skin's colour in that fit, relative to all pixels of the box."""
BELOW_WEIGHT = np.float32(0.15)
"""Weight of the skin below the eye in the colour of the lid; that above it weighs 1."""
GRAIN = 0.5
"""Grain of a lid, relative to that of the skin under the eye, part of which is wrinkles."""
UNDER_EYE = (0.12, 0.3)
"""How far below the eye its skin is measured, in eye widths."""


@dataclass(frozen=True, slots=True, eq=False)
class LidSkin:
    """Pictures of an eye's box, (h, w, 3): ``clean`` without what lies over the lids, ``bare`` skin only.

    ``over`` (h, w) uint8 is 255 where rims of glasses or hair lie over the lids; None if nothing does.
    ``colour`` (3,) is that of the skin around the eye.
    """

    clean: Frame
    bare: Frame
    over: npt.NDArray[np.uint8] | None
    colour: F32


def find_skin(patch: Frame, x: F32, y: F32, curves: LidCurves, brow: F32, width_px: float) -> LidSkin:
    """Return the skin of an eye's box ``patch`` (h, w, 3).

    ``x`` (column of ``curves``) and ``y`` (h, w) are the places of its pixels in the eye's frame; ``brow``
    (N, 2) is the outline of the brow in the patch.
    """
    full_size = (patch.shape[1], patch.shape[0])
    scale = min(SMALL_EYE_PX / width_px, 1.0)
    size = (max(round(full_size[0] * scale), 8), max(round(full_size[1] * scale), 8))
    small = cv2.resize(patch, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    small_x, small_y = (cv2.resize(each, size).astype(np.float32) for each in (x, y))
    places = find_places(curves, small_x, small_y)
    brow_mask = np.zeros(small.shape[:2], np.uint8)
    hull = cv2.convexHull(np.round(brow * (np.array(size) / full_size)).astype(np.int32))
    cv2.fillPoly(brow_mask, [hull], 255)
    cv2.polylines(brow_mask, [hull], True, 255, 3)
    bare, colour = _bare_skin(small, places, brow_mask > 0, width_px)
    beside = (small_x < 0) | (small_x >= len(curves.upper))
    lines = _find_over(small @ LUMA, places, beside, width_px, float(colour @ LUMA))
    over = cv2.resize(lines, full_size) > 64
    large = cv2.resize(bare, full_size, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    large += _grain(patch, find_places(curves, x, y), width_px)[..., None]
    full = np.clip(large, 0, 255).astype(np.uint8)
    if not over.any():
        return LidSkin(np.ascontiguousarray(patch), full, None, colour)
    clean = np.where(over[..., None], full, patch)
    # Wider than what is hidden in ``clean``, so that no edge of it is seen.
    wider = cv2.dilate(255 * over.astype(np.uint8), np.ones((5, 5), np.uint8))
    return LidSkin(clean, full, cv2.GaussianBlur(wider, (0, 0), 0.8).astype(np.uint8), colour)


def _bare_skin(small: F32, places: Places, brow: npt.NDArray[np.bool_], width_px: float) -> tuple[F32, F32]:
    """Return (h, w, 3), ``small`` with skin in place of eye, lashes, creases and ``brow`` (h, w); a colour.

    The colour (3,) is that of the skin around the eye.
    """
    between, above, below = places.middle > 0, places.above, places.below
    under_eye = between & (below > UNDER_EYE[0] * width_px) & (below < UNDER_EYE[1] * width_px)
    seen = small[under_eye] if under_eye.any() else small.reshape(-1, 3)
    colour = np.maximum(np.median(seen, axis=0), 1).astype(np.float32)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (CREASE_PX, CREASE_PX))
    smooth = cv2.GaussianBlur(cv2.morphologyEx(small, cv2.MORPH_CLOSE, disc), (0, 0), 1.0).astype(np.float32)
    luma, light = smooth @ LUMA, float(colour @ LUMA)
    on_lid = between & (above > 0.6 * LASH_HEIGHT * width_px) & (above < 0.75 * places.brow)
    own = float(np.percentile(luma[on_lid], LID_PERCENTILE)) if on_lid.any() else light
    level = float(np.clip(own / light, *BARE_LUMA))
    # What differs from the skin on its side of the eye is none.
    relative = luma / np.where(above > 0, level * light, light)
    hidden = (relative < SKIN_LUMA[0]) | (relative > SKIN_LUMA[1])
    grown = cv2.dilate(hidden.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    eye = np.maximum(above, below) < LASH_HEIGHT * width_px
    weights = (~(np.where(on_lid, hidden, grown) | eye | brow)).astype(np.float32)
    # The skin above the eye looks more like that of a lid than the skin below it.
    weights[below > 0] *= BELOW_WEIGHT
    skin = _smooth_surface(smooth, weights, colour)
    ratio = skin @ LUMA / light
    limited = np.clip(ratio, BARE_RANGE[0] * level, BARE_RANGE[1] * level)
    skin *= (limited / np.maximum(ratio, 1e-3))[..., None]
    return skin, np.asarray(colour * (1 + min(level, 1.0)) / 2, np.float32)


def _smooth_surface(values: F32, weights: F32, plain: F32) -> F32:
    """Return (h, w, 3): quadratic surfaces through ``values`` (h, w, 3), each with ``weights`` (h, w).

    Values far from the surfaces, such as shadows in folds, lose their weight in each round of the fit. The
    colour ``plain`` (3,) weighs a little everywhere, so that it is the surface where nothing is known.
    """
    height, width = values.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=2).reshape(-1, 6)
    samples, share = (values - plain).reshape(-1, 3).astype(np.float64), weights.ravel().astype(np.float64)
    light = float(plain @ LUMA)
    held = np.diag([PLAIN_WEIGHT * len(terms)] * 6)
    trusted = share
    for _ in range(SURFACE_ROUNDS):
        weighted = terms * trusted[:, None]
        surface = terms @ np.linalg.solve(terms.T @ weighted + held, weighted.T @ samples)
        off = (samples - surface) @ LUMA / light
        trusted = share / (1 + (off / SURFACE_SPREAD) ** 2)
    return np.asarray(surface.reshape(values.shape) + plain, np.float32)


def _find_over(
    luma: F32, places: Places, beside: npt.NDArray[np.bool_], width_px: float, light: float
) -> npt.NDArray[np.uint8]:
    """Return (h, w): 255 on lines in ``luma`` (h, w) that extend beyond the lids, to or past their ends."""
    lashes = (np.maximum(places.above, places.below) < LASHES_REACH * width_px) & ~beside
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (OVER_PX, OVER_PX))
    lines = [cv2.morphologyEx(luma, how, disc) for how in (cv2.MORPH_BLACKHAT, cv2.MORPH_TOPHAT)]
    differs = (np.maximum(*lines) > OVER_CONTRAST * light) & ~lashes
    far = beside | (places.above > places.brow) | (places.below > UNDER_EYE[1] * width_px)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(differs.astype(np.uint8))
    outside = np.bincount(labels[far], minlength=count)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    extends = (outside > 0.4 * stats[:, cv2.CC_STAT_AREA]) | (np.bincount(border, minlength=count) > 0)
    extends[0] = False
    lid = np.where(extends[labels], 255, 0).astype(np.uint8)
    return cv2.dilate(lid, np.ones((3, 3), np.uint8)).astype(np.uint8)


def _grain(patch: Frame, places: Places, width_px: float) -> F32:
    """Return (h, w): noise like that of the skin under the eye."""
    below = places.below / width_px
    skin = (places.middle > 0.2) & (below > UNDER_EYE[0]) & (below < UNDER_EYE[1])
    luma = patch @ LUMA
    detail = luma - cv2.GaussianBlur(luma, (0, 0), 1.0)
    # A few wrinkles do not change a median.
    strength = GRAIN * float(np.median(np.abs(detail[skin]))) / MAD_OF_NORMAL if skin.any() else 0.0
    noise = np.random.default_rng(0).normal(0, 1, luma.shape).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 0.6) - cv2.GaussianBlur(noise, (0, 0), 1.4)
    return np.asarray(strength * noise / max(float(noise.std()), 1e-6), np.float32)
