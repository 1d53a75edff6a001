"""The lids' edges in the picture, and where they run when the eye shuts or opens wide.

Numbers without a source were chosen by eye on contact sheets (``scripts/contact_sheet.py``) and on crops of
eyes from clips of real blinks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from vortex.face.landmarks import LIDS, LOWER_BROWS
from vortex.interpolation import smoothstep
from vortex.types import F32

LID_OVERLAP = 0.05
"""How far a shut lid covers the skin below the eye, in eye widths: landmarks leave a rim of white."""
LID_ABOVE_SHARE = 0.4
"""Part of that overlap by which the upper lid begins higher."""
LOWER_LID_RISE = 0.5
"""Part of its depth below the corners by which the lower lid rises in a blink; 0.35 to 0.6 in six clips."""
MIN_OPENING, ORDINARY_OPENING = 0.07, 0.3
"""Opening of an eye that shows something of the eyeball, and that of an ordinary eye, in eye widths."""
SEEN_OPENING, HALF_SHUT_OPENING = (MIN_OPENING, 0.1), (0.14, 0.19)
"""Openings at which an eye shows enough to be opened, and at which it is narrow by nature, in eye widths."""
WIDENING = 1.25
"""Opening of an eye opened wide, relative to :func:`rest_opening`."""
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
INNER_BARE, OUTER_BARE = (0.0, 0.28), (-0.14, 0.12)
"""Where the skin of a shut lid is bare, in eye widths: from inside the inner corner to beyond the outer one,
over which lashes reach."""


@dataclass(frozen=True, slots=True, eq=False)
class LidCurves:
    """Heights at the columns of an eye's own frame, (w,) float32 in pixels, y down; see :func:`find_curves`.

    ``upper`` and ``lower`` are the edges of the lids in the picture, ``shut`` and ``lower_shut`` those of a
    shut eye, ``wide`` the upper edge of an eye opened wide. ``strip`` is the height above ``upper`` of the
    skin that stretches when the lid closes, ``brow`` that of the brow. ``middle`` is 1 in the middle of the
    eye and 0 from its corners on, ``bare`` is 1 where a shut lid has bare skin.
    """

    upper: F32
    lower: F32
    shut: F32
    lower_shut: F32
    wide: F32
    strip: F32
    brow: F32
    middle: F32
    bare: F32


def rest_opening(opening: float) -> float:
    """Return the opening at rest of an eye that is open by ``opening`` in the picture, in eye widths.

    A half-shut eye opens to an ordinary one; a narrow one stays narrow.
    """
    half_shut = smoothstep(opening, *SEEN_OPENING) * (1 - smoothstep(opening, *HALF_SHUT_OPENING))
    return opening + float(half_shut) * max(ORDINARY_OPENING - opening, 0)


def find_curves(landmarks_px: F32, side: str, axes: F32, columns: F32, opening: float) -> LidCurves:
    """Return the curves at ``columns`` (w,) of the frame ``axes`` (2, 2) of the eye on ``side``."""
    upper, lower = (landmarks_px[index, :2] @ axes.T for index in LIDS[side])
    brow = landmarks_px[LOWER_BROWS[side], :2] @ axes.T
    left, right = float(upper[0, 0]), float(upper[-1, 0])
    width_px, corner_y = right - left, float(upper[0, 1])
    part = np.clip((columns - left) / width_px, 0, 1)
    middle = 4 * part * (1 - part)
    # The outer corner of the person's left eye is to the right.
    inner, outer = (left - columns, columns - right) if side == "Left" else (columns - right, left - columns)
    bare = smoothstep(-inner / width_px, *INNER_BARE) * (1 - smoothstep(outer / width_px, *OUTER_BARE))
    upper_y, lower_y = (_smooth_curve(columns, curve, width_px) for curve in (upper, lower))
    # Landmarks lie on the waterline: a rim of white would remain unless the lid closes a little beyond.
    rim = LID_OVERLAP * width_px * np.minimum(1, 6 * middle)
    shown = np.maximum(lower_y - upper_y, 0)
    upper_y = upper_y - LID_ABOVE_SHARE * rim
    lower_y = np.maximum(lower_y + 0.4 * rim, upper_y)
    lower_shut = lower_y - LOWER_LID_RISE * np.maximum(lower_y - corner_y, 0)
    almond = (1 - np.abs(2 * part - 1) ** ALMOND[0]) ** ALMOND[1]
    # The shape of a nearly shut eye says little about that of an open one.
    own = smoothstep(opening, MIN_OPENING, 0.6 * ORDINARY_OPENING)
    profile = own * shown / max(float(shown.max()), 1e-3) + (1 - own) * almond
    more = WIDENING * rest_opening(opening) * width_px * profile - shown
    brow_y = np.interp(columns, brow[:, 0], brow[:, 1])
    to_brow = np.maximum(upper_y - brow_y, LASH_HEIGHT * width_px)
    wide = upper_y - np.clip(more, 0, 0.6 * to_brow)
    strip = np.clip(STRIP_TO_BROW * to_brow, STRIP_HEIGHT[0] * width_px, STRIP_HEIGHT[1] * width_px)
    shut = lower_shut + 0.4 * rim
    curves = (upper_y, lower_y, np.maximum(shut, upper_y), lower_shut, wide, strip, to_brow, middle, bare)
    return LidCurves(*(np.asarray(curve, np.float32) for curve in curves))


def _smooth_curve(columns: F32, points: F32, width_px: float) -> F32:
    """Return (w,): the height of the curve through ``points`` (N, 2), without its bends."""
    heights = np.interp(columns, points[:, 0], points[:, 1]).astype(np.float32)
    size = 2 * round(0.04 * width_px) + 1
    smooth = cv2.blur(heights[None], (size, 1), borderType=cv2.BORDER_REPLICATE)[0]
    return np.asarray(smooth, np.float32)


class Places(NamedTuple):
    """Where the pixels of a picture lie, (h, w) float32 in pixels.

    ``above`` the edge of the upper lid, ``below`` that of the lower lid; ``brow``, ``gap`` and ``middle`` are
    the height of the brow, that of the eye, and ``middle`` of :class:`LidCurves` there.
    """

    above: F32
    below: F32
    brow: F32
    gap: F32
    middle: F32


def find_places(curves: LidCurves, x: F32, y: F32) -> Places:
    """Return the places of pixels at ``x`` (columns of ``curves``) and ``y`` (h, w) of the eye's frame."""
    column = np.clip(np.round(x), 0, len(curves.upper) - 1).astype(np.intp)
    upper, lower = curves.upper[column], curves.lower[column]
    return Places(upper - y, y - lower, curves.brow[column], lower - upper, curves.middle[column])
