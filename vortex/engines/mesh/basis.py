"""The learned deformation basis, and what blendshapes make the face do along its modes and beside them.

``scripts/learn_mesh_basis.py`` makes ``basis.npz``, of how 478 face landmarks move with a few measures of the
face; ``basis.md`` says from which data. Each gain is the movement at full blendshape, in outer-eye widths.
The gains were chosen by eye on contact sheets (``scripts/contact_sheet.py``), where no source is given.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vortex.engines.base import shape_columns
from vortex.engines.mesh.lids import MIN_OPENING, ORDINARY_OPENING, WIDENING
from vortex.face.landmarks import BROWS, LIDS
from vortex.interpolation import smoothstep
from vortex.types import F32, F64, FloatArray, MotionTrack

MODES: tuple[str, ...] = (
    "aperture", "width", "corner_up",
    "brow_inner_left", "brow_inner_right", "brow_outer_left", "brow_outer_right", "frown",
)  # fmt: skip
"""Measures of the face that the basis is regressed on, in outer-eye widths; left is the person's left."""
MAX_APERTURE = 0.16
"""Inner-lip opening beyond which vowels look shouted, in outer-eye widths."""
BROW_TRAVEL = 0.4
"""Part of the height between lid and brow that the brow may rise; beyond it, the skin between folds."""
ROUNDED_WIDTH = 0.48
"""Width of a mouth that already looks rounded, in outer-eye widths."""
NARROWING = (0.1, 0.2)
"""Least and most that rounding narrows a mouth, in outer-eye widths."""

LID_SQUINT, LID_FOLLOWS = 0.22, 0.3
"""How far a squint, and eyes that look down, close the lid."""
SEEN_OPENING, HALF_SHUT_OPENING = (MIN_OPENING, 0.1), (0.14, 0.19)
"""Openings at which an eye shows enough to be opened, and at which it is narrow by nature, in eye widths."""


class Basis(NamedTuple):
    """``template`` (478, 3) and ``modes`` (8, 478, 3) float32, both in outer-eye widths.

    x right, y down, z away from the viewer; ``modes[k]`` is the displacement for one unit of ``MODES[k]``.
    """

    template: F32
    modes: F32


@lru_cache(maxsize=1)
def load_basis() -> Basis:
    """Return the basis that is part of the package."""
    with np.load(Path(__file__).with_name("basis.npz")) as arrays:
        return Basis(arrays["template"].astype(np.float32), arrays["modes"].astype(np.float32))


def similarity(source: FloatArray, target: FloatArray) -> tuple[float, F64, F64]:
    """Return scale, R (D, D), t (D,): target (N, D) ≈ scale * source @ R.T + t (Umeyama 1991, eq. 40-42)."""
    a, b = np.asarray(source, np.float64), np.asarray(target, np.float64)
    mean_a, mean_b = a.mean(0), b.mean(0)
    u, singular, vt = np.linalg.svd((b - mean_b).T @ (a - mean_a))
    sign = np.ones(len(singular))
    sign[-1] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / ((a - mean_a) ** 2).sum())
    return scale, rotation, mean_b - scale * rotation @ mean_a


def soft_limit(value: F32, limit: float) -> F32:
    """Return ``value`` bent below ``limit``: slope 1 at zero, never above the limit."""
    return np.asarray(limit * np.tanh(value / limit), np.float32)


def aperture(motion: MotionTrack) -> F32:
    """Return the commanded inner-lip opening (T,) in outer-eye widths; 0 is shut."""
    shape = shape_columns(motion)
    part = 1 - np.clip(shape("mouthClose") + 0.6 * shape("mouthPress"), 0, 1)
    opening = (
        0.27 * shape("jawOpen")
        + 0.035 * shape("mouthLowerDown")
        + 0.03 * shape("mouthUpperUp")
        + 0.03 * shape("mouthFunnel")
    )
    return soft_limit(opening * part, MAX_APERTURE)


def mode_commands(
    motion: MotionTrack, *, source_width: float, source_aperture: float, brow_height: float
) -> F32:
    """Return (T, 8) amounts of the basis modes, in the order of MODES, in outer-eye widths.

    The picture's mouth is ``source_width`` wide, and its jaw hangs open by ``source_aperture``; modes move
    the face from there. The skin has to stretch over ``brow_height`` between lid and brow.
    """
    shape = shape_columns(motion)
    narrowing = float(np.clip(1.0 * (source_width - ROUNDED_WIDTH), *NARROWING))
    columns = {
        "aperture": aperture(motion) - source_aperture,
        "width": 0.06 * shape("mouthSmile")
        + 0.05 * shape("mouthStretch")
        - narrowing * shape("mouthPucker")
        - 0.5 * narrowing * shape("mouthFunnel"),
        "corner_up": 0.06 * shape("mouthSmile")
        - 0.03 * shape("mouthFrown")
        - 0.3 * (narrowing - NARROWING[0]) * shape("mouthPucker"),
        "frown": 0.02 * shape("browDown"),
    }
    for side in ("Left", "Right"):
        down = 0.03 * shape(f"browDown{side}")
        inner, outer = 0.1 * shape("browInnerUp"), 0.09 * shape(f"browOuterUp{side}")
        columns[f"brow_inner_{side.lower()}"] = soft_limit(inner, BROW_TRAVEL * brow_height) - down
        columns[f"brow_outer_{side.lower()}"] = soft_limit(outer, BROW_TRAVEL * brow_height) - 0.7 * down
    return np.stack([columns[name] for name in MODES], axis=1).astype(np.float32)


def brow_height(points: F32, down: F32) -> float:
    """Return the smaller distance from brow to lid in pixels along the unit vector ``down`` (2,)."""
    heights = ((points[LIDS[side][0]].mean(0) - points[BROWS[side]].mean(0)) @ down for side in LIDS)
    return float(min(heights))


def lid_closing(motion: MotionTrack, side: str, opening: float) -> F32:
    """Return (T,): how far the lid of ``side`` closes; 0 as in the picture, 1 shut, -1 opened wide.

    ``opening`` is that of the eye in the picture in eye widths. A half-shut eye opens, a shut one stays shut.
    """
    if opening < MIN_OPENING:
        return np.zeros(len(motion), np.float32)
    shape = shape_columns(motion)
    shut = shape(f"eyeBlink{side}") + LID_SQUINT * shape(f"eyeSquint{side}")
    # A lid rests on the eyeball and follows it down; blinks that were measured have that in them.
    shut = np.clip(np.maximum(shut, LID_FOLLOWS * shape("eyeLookDown")), 0, 1)
    half_shut = smoothstep(opening, *SEEN_OPENING) * (1 - smoothstep(opening, *HALF_SHUT_OPENING))
    rest = opening + float(half_shut) * max(ORDINARY_OPENING - opening, 0)
    wanted = (1 - shut) * rest * (1 + (WIDENING - 1) * shape(f"eyeWide{side}"))
    widest = WIDENING * max(opening, ORDINARY_OPENING)
    closing = np.where(wanted < opening, opening - wanted, 0) / opening
    opens = np.where(wanted > opening, wanted - opening, 0) / (widest - opening)
    return np.clip(closing - opens, -1, 1).astype(np.float32)


def gaze(motion: MotionTrack) -> F32:
    """Return (T, 2): shift of the iris in eye widths, x to the viewer's right, y down."""
    shape = shape_columns(motion)
    # The person's left is the viewer's right.
    across = shape("eyeLookLeft") - shape("eyeLookRight")
    return np.stack([0.16 * across, 0.08 * (shape("eyeLookDown") - shape("eyeLookUp"))], axis=1)


def lip_bias(motion: MotionTrack) -> F32:
    """Return (T,): upward shift of both lips in outer-eye widths; the lower lip meets the upper teeth."""
    return np.asarray(0.02 * shape_columns(motion)("mouthRollLower"), np.float32)


def rounding(motion: MotionTrack) -> F32:
    """Return (T,) in [0, 1]: how far the lips are pushed forward."""
    shape = shape_columns(motion)
    return np.clip(shape("mouthPucker") + 0.6 * shape("mouthFunnel"), 0, 1)
