"""The skin of the lids: where its edges run when an eye shuts or opens wide, and how it looks without lashes.

Numbers without a source were chosen by eye on contact sheets (``scripts/contact_sheet.py``) and on crops of
eyes from clips of real blinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vortex.face.landmarks import BROWS, LIDS, LOWER_BROWS
from vortex.interpolation import smoothstep
from vortex.types import F32, LUMA_WEIGHTS, Frame

_LUMA = LUMA_WEIGHTS.astype(np.float32)

LID_OVERLAP = 0.05
"""How far a shut lid covers the skin below the eye, in eye widths: landmarks leave a rim of white."""
LID_ABOVE_SHARE = 0.4
"""Part of that overlap by which the upper lid begins higher."""
LOWER_LID_RISE = 0.5
"""Part of its depth below the corners by which the lower lid rises in a blink; 0.35 to 0.6 in six clips."""
MIN_OPENING, ORDINARY_OPENING = 0.07, 0.3
"""Opening of an eye that shows something of the eyeball, and that of an ordinary eye, in eye widths."""
WIDENING = 1.25
"""Opening of an eye opened wide, relative to an ordinary one, or to the picture's if that is wider."""
ALMOND = (2.2, 0.85)
"""An open eye's height at u in [-1, 1] between the corners is (1 - |u|^a)^b."""
BESIDE = 0.2
"""How far the skin changes beside the corners, in eye widths."""
LASH_HEIGHT = 0.08
"""Height of the lash line, which moves without stretching, in eye widths."""
STRIP_HEIGHT = (0.12, 0.3)
"""Least and most height of the skin above the lid's edge that a closing lid stretches, in eye widths."""
STRIP_TO_BROW = 0.6
"""That height relative to the height of the brow's lower edge."""

SMALL_EYE_PX = 32
"""Width of an eye in the reduced picture in which bare skin is spread."""
SPREAD_PX = (1.5, 3.0, 6.0, 12.0, 24.0)
"""Standard deviations of the blurs that spread it there."""
SKIN_LUMA = (0.72, 1.4)
"""Pixels darker or brighter than this are not skin, relative to the skin under the eye."""
LID_PERCENTILE = 70
"""The luma of the lid is this percentile of that of the skin between eye and brow: the rest is folds."""
CREASE_PX = 7
"""Dark lines thinner than this are creases and lashes, in pixels of the reduced picture."""
OVER_PX, OVER_CONTRAST = 9, 0.3
"""Lines thinner than this, in pixels of the reduced picture, that differ by this from the skin around them."""
FADE_BESIDE = 0.1
"""Half width of the band at the corners in which the folds of the lid begin to smooth out, in eye widths."""
BARE_LUMA = (0.62, 1.35)
"""The luma of a shut lid is kept between these, relative to the skin under the eye."""
BARE_RANGE = (0.82, 1.3)
"""The luma of each part of it is kept between these, relative to the whole."""
DARK_WEIGHT = np.float32(0.1)
"""Weight of the darkest skin in the colour of the lid."""

BELOW_WEIGHT = np.float32(0.3)
"""Weight of the skin below the eye in the colour of the lid; that above it weighs 1."""
GRAIN = 0.4
"""Grain of a lid, relative to that of the skin under the eye, part of which is wrinkles."""


@dataclass(frozen=True, slots=True, eq=False)
class LidCurves:
    """Heights at the columns of an eye's own frame, (w,) float32 in pixels, y down; see :func:`find_curves`.

    ``upper`` and ``lower`` are the edges of the lids in the picture, ``shut`` and ``lower_shut`` those of a
    shut eye, ``wide`` the upper edge of an eye opened wide. ``strip`` is the height above ``upper`` of the
    skin that stretches when the lid closes, ``brow`` that of the brow. ``middle`` is 1 in the middle of the
    eye and 0 from its corners on, ``fade`` 1 between the corners and 0 a little beside them.
    """

    upper: F32
    lower: F32
    shut: F32
    lower_shut: F32
    wide: F32
    strip: F32
    brow: F32
    middle: F32
    fade: F32


def find_curves(landmarks_px: F32, side: str, axes: F32, columns: F32, opening: float) -> LidCurves:
    """Return the curves at ``columns`` (w,) of the frame ``axes`` (2, 2) of the eye on ``side``."""
    upper, lower = (landmarks_px[index, :2] @ axes.T for index in LIDS[side])
    brow = landmarks_px[LOWER_BROWS[side], :2] @ axes.T
    left, right = float(upper[0, 0]), float(upper[-1, 0])
    width_px, corner_y = right - left, float(upper[0, 1])
    part = np.clip((columns - left) / width_px, 0, 1)
    middle = 4 * part * (1 - part)
    outside = np.maximum(left - columns, columns - right) / width_px
    fade = 1 - smoothstep(outside, -FADE_BESIDE, FADE_BESIDE)
    upper_y, lower_y = (_smooth_curve(columns, curve, width_px) for curve in (upper, lower))
    # Landmarks lie on the waterline: a rim of white would remain unless the lid closes a little beyond.
    rim = LID_OVERLAP * width_px * np.minimum(1, 1.25 * middle)
    shown = np.maximum(lower_y - upper_y, 0)
    upper_y = upper_y - LID_ABOVE_SHARE * rim
    lower_y = np.maximum(lower_y + 0.4 * rim, upper_y)
    lower_shut = lower_y - LOWER_LID_RISE * np.maximum(lower_y - corner_y, 0)
    almond = (1 - np.abs(2 * part - 1) ** ALMOND[0]) ** ALMOND[1]
    # The shape of a nearly shut eye says little about that of an open one.
    own = smoothstep(opening, MIN_OPENING, 0.6 * ORDINARY_OPENING)
    profile = own * shown / max(float(shown.max()), 1e-3) + (1 - own) * almond
    more = WIDENING * max(opening, ORDINARY_OPENING) * width_px * profile - shown
    brow_y = np.interp(columns, brow[:, 0], brow[:, 1])
    to_brow = np.maximum(upper_y - brow_y, LASH_HEIGHT * width_px)
    wide = upper_y - np.clip(more, 0, 0.6 * to_brow)
    strip = np.clip(STRIP_TO_BROW * to_brow, STRIP_HEIGHT[0] * width_px, STRIP_HEIGHT[1] * width_px)
    shut = lower_shut + 0.4 * rim
    curves = (upper_y, lower_y, np.maximum(shut, upper_y), lower_shut, wide, strip, to_brow, middle, fade)
    return LidCurves(*(np.asarray(curve, np.float32) for curve in curves))


def _smooth_curve(columns: F32, points: F32, width_px: float) -> F32:
    """Return (w,): the height of the curve through ``points`` (N, 2), without its bends."""
    heights = np.interp(columns, points[:, 0], points[:, 1]).astype(np.float32)
    size = 2 * round(0.04 * width_px) + 1
    smooth = cv2.blur(heights[None], (size, 1), borderType=cv2.BORDER_REPLICATE)[0]
    return np.asarray(smooth, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class LidSkin:
    """Pictures of an eye's box, (h, w, 3) uint8: ``clean`` without what lies over the lids, ``bare`` skin only.

    ``over`` (h, w) uint8 is 255 where rims of glasses or hair lie over the lids; None if nothing
    does.
    ``colour`` (3,) is that of the skin under the eye.
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
    scale = min(SMALL_EYE_PX / max(width_px, 1.0), 1.0)
    size = (max(round(patch.shape[1] * scale), 8), max(round(patch.shape[0] * scale), 8))
    small = cv2.resize(patch, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    small_x, small_y = (cv2.resize(each, size, interpolation=cv2.INTER_LINEAR) for each in (x, y))
    column = np.clip(np.round(small_x), 0, len(curves.upper) - 1).astype(np.intp)
    above, below = curves.upper[column] - small_y, small_y - curves.lower[column]
    between = curves.middle[column] > 0
    under_eye = between & (below > 0.12 * width_px) & (below < 0.3 * width_px)
    colour = np.maximum(np.median(small[under_eye] if under_eye.any() else small.reshape(-1, 3), axis=0), 1)
    raw = small @ _LUMA
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (CREASE_PX, CREASE_PX))
    small = cv2.GaussianBlur(cv2.morphologyEx(small, cv2.MORPH_CLOSE, disc), (0, 0), 1.0)
    luma, light = small @ _LUMA, float(colour @ _LUMA)
    on_lid = between & (above > 0.6 * LASH_HEIGHT * width_px) & (above < 0.75 * curves.brow[column])
    own = float(np.percentile(luma[on_lid], LID_PERCENTILE)) if on_lid.any() else light
    level = float(np.clip(own / light, *BARE_LUMA))
    usual = np.where(above > 0, level * light, light)
    hidden = (luma < SKIN_LUMA[0] * usual) | (luma > SKIN_LUMA[1] * usual)
    eye = np.maximum(above, below) < np.where(between, LASH_HEIGHT * width_px, 0.0)
    brow_mask = np.zeros(size[::-1], np.uint8)
    hull = cv2.convexHull(np.round(brow * (np.array(size) / patch.shape[1::-1])).astype(np.int32))
    cv2.fillPoly(brow_mask, [hull], 255)
    cv2.polylines(brow_mask, [hull], True, 255, 3)
    grown = cv2.dilate(hidden.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    weights = (~(np.where(on_lid, hidden, grown) | eye | (brow_mask > 0))).astype(np.float32)
    # Shadows in folds are darker than a smooth lid.
    weights *= DARK_WEIGHT + (1 - DARK_WEIGHT) * smoothstep(luma / usual, SKIN_LUMA[0], 1.0)
    # The skin above the eye looks more like that of a lid than the skin below it.
    weights *= np.where(below > 0, BELOW_WEIGHT, np.float32(1))
    skin = spread(small, weights, colour, SPREAD_PX)
    ratio = skin @ _LUMA / light
    limited = np.clip(ratio, BARE_RANGE[0] * level, BARE_RANGE[1] * level)
    skin *= (limited / np.maximum(ratio, 1e-3))[..., None]
    bare = cv2.resize(skin, patch.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    small_over = _find_over(raw, small_x, small_y, curves, width_px, light)
    over = cv2.resize(255 * small_over, patch.shape[1::-1], interpolation=cv2.INTER_LINEAR) > 64
    grain = _grain(patch, x, y, curves, width_px)
    bare = np.clip(bare + grain[..., None], 0, 255)
    clean = np.where(over[..., None], bare, patch).astype(np.uint8)
    # Wider than what is hidden in ``clean``, so that no edge of it is seen.
    wider = cv2.dilate(255 * over.astype(np.uint8), np.ones((5, 5), np.uint8))
    wider = cv2.GaussianBlur(wider, (0, 0), 0.8)
    return LidSkin(clean, bare.astype(np.uint8), wider if over.any() else None, colour.astype(np.float32))


def spread(values: F32, weights: F32, plain: F32, sigmas_px: Sequence[float]) -> F32:
    """Return (h, w, 3): ``values`` where ``weights`` (h, w) are 1, spread smoothly to where they are 0.

    The colour ``plain`` (3,) is used where nothing is near; ``sigmas_px`` are those of the blurs that spread.
    """
    result = np.broadcast_to(plain, values.shape).astype(np.float32)
    weighted = values * weights[..., None]
    for sigma in reversed(sigmas_px):
        known = cv2.GaussianBlur(weights, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)[..., None]
        mean = cv2.GaussianBlur(weighted, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        mean /= np.maximum(known, 1e-4)
        result += np.clip(known / 0.25, 0, 1) * (mean - result)
    return result


def _find_over(
    luma: F32, x: F32, y: F32, curves: LidCurves, width_px: float, light: float
) -> npt.NDArray[np.uint8]:
    """Return (h, w): 1 on lines in ``luma`` (h, w) that extend beyond the lids."""
    column = np.clip(np.round(x), 0, len(curves.upper) - 1).astype(np.intp)
    above, below = curves.upper[column] - y, y - curves.lower[column]
    beside = np.maximum(-x, x - len(curves.upper)) > 0
    lashes = (np.maximum(above, below) < 1.5 * LASH_HEIGHT * width_px) & ~beside
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (OVER_PX, OVER_PX))
    lines = [cv2.morphologyEx(luma, how, disc) for how in (cv2.MORPH_BLACKHAT, cv2.MORPH_TOPHAT)]
    differs = np.maximum(*lines) > OVER_CONTRAST * light
    far = beside | (above > curves.brow[column]) | (below > 0.3 * width_px)
    count, labels, stats, _ = cv2.connectedComponentsWithStats((differs & ~lashes).astype(np.uint8))
    outside = np.bincount(labels[far], minlength=count)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    extends = (outside > 0.4 * stats[:, cv2.CC_STAT_AREA]) | (np.bincount(border, minlength=count) > 0)
    extends[0] = False
    return extends[labels].astype(np.uint8)


def _grain(patch: Frame, x: F32, y: F32, curves: LidCurves, width_px: float) -> F32:
    """Return (h, w): noise as strong as that of the skin under the eye."""
    column = np.clip(np.round(x), 0, len(curves.upper) - 1).astype(np.intp)
    below = y - curves.lower[column]
    skin = (curves.middle[column] > 0.2) & (below > 0.12 * width_px) & (below < 0.35 * width_px)
    luma = patch @ _LUMA
    detail = luma - cv2.GaussianBlur(luma, (0, 0), 1.0)
    # The median of |x| is 0.6745 standard deviations of a normal distribution; a few lines do not change it.
    strength = GRAIN * float(np.median(np.abs(detail[skin]))) / 0.6745 if skin.any() else 0.0
    noise = np.random.default_rng(0).normal(0, 1, luma.shape).astype(np.float32)
    noise -= cv2.GaussianBlur(noise, (0, 0), 1.0)
    return np.asarray(strength * noise / max(float(noise.std()), 1e-6), np.float32)
