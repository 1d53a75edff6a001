"""Landmark topology of the MediaPipe face mesh, and commands of the face in outer-eye widths."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from vortex.engines.mesh.basis import MODES
from vortex.types import BLENDSHAPE_INDEX, MotionTrack

F32 = npt.NDArray[np.float32]

# from the person's right corner (left in the picture) to the left corner
UPPER_INNER = np.array([78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308])
LOWER_INNER = np.array([78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308])
UPPER_RINGS = np.array(
    [
        [191, 80, 81, 82, 13, 312, 311, 310, 415],
        [183, 42, 41, 38, 12, 268, 271, 272, 407],
        [184, 74, 73, 72, 11, 302, 303, 304, 408],
        [185, 40, 39, 37, 0, 267, 269, 270, 409],
    ]
)
LOWER_RINGS = np.array(
    [
        [95, 88, 178, 87, 14, 317, 402, 318, 324],
        [96, 89, 179, 86, 15, 316, 403, 319, 325],
        [77, 90, 180, 85, 16, 315, 404, 320, 307],
        [146, 91, 181, 84, 17, 314, 405, 321, 375],
    ]
)
"""Lip rings (4, 9) from the inner edge outwards, nine columns between the corners."""
RING_WEIGHTS = np.array([1.0, 0.92, 0.8, 0.62])
"""How far each ring follows when the inner edge is moved."""

# upper and lower lid from corner to corner, left to right in the picture
LIDS = {
    "Right": (np.array([33, 246, 161, 160, 159, 158, 157, 173, 133]),
              np.array([33, 7, 163, 144, 145, 153, 154, 155, 133])),
    "Left": (np.array([362, 398, 384, 385, 386, 387, 388, 466, 263]),
             np.array([362, 382, 381, 380, 374, 373, 390, 249, 263])),
}  # fmt: skip
LID_RINGS = {side: np.concatenate(lids) for side, lids in LIDS.items()}
BROWS = {"Right": np.array([70, 63, 105, 66, 107]), "Left": np.array([300, 293, 334, 296, 336])}
FACE_OVAL = np.array(
    [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
     152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]
)  # fmt: skip

MAX_APERTURE = 0.16
"""Inner-lip opening beyond which vowels look shouted, in outer-eye widths."""


def soft_limit(value: F32, limit: float) -> F32:
    """Return ``value`` bent below ``limit``: slope 1 at zero, never above the limit."""
    return np.asarray(limit * np.tanh(value / limit), np.float32)


def aperture(motion: MotionTrack) -> F32:
    """Return the commanded inner-lip opening (T,) in outer-eye widths; 0 is shut."""
    shape = _columns(motion)
    part = 1 - np.clip(shape("mouthClose") + 0.6 * _pair(shape, "mouthPress"), 0, 1)
    opening = (
        0.27 * shape("jawOpen")
        + 0.035 * _pair(shape, "mouthLowerDown")
        + 0.03 * _pair(shape, "mouthUpperUp")
        + 0.03 * shape("mouthFunnel")
    )
    return soft_limit(opening * part, MAX_APERTURE)


BROW_TRAVEL = 0.4
"""Part of the height between lid and brow that the brow may rise; beyond, the skin between folds over."""


def mode_commands(
    motion: MotionTrack, *, source_width: float, source_aperture: float, brow_height: float
) -> F32:
    """Return (T, 8) amounts of the basis modes, in the order of MODES, in outer-eye widths.

    ``source_width`` is the mouth width in the picture: a smile has further to go to a rounded mouth.
    ``source_aperture`` is how far its jaw hangs open: modes move the face from there. ``brow_height`` is the
    distance from lid to brow, over which the skin has to stretch.
    """
    shape = _columns(motion)
    narrowing = float(np.clip(1.0 * (source_width - 0.48), 0.1, 0.2))
    columns = {
        "aperture": aperture(motion) - source_aperture,
        "width": 0.06 * _pair(shape, "mouthSmile")
        + 0.05 * _pair(shape, "mouthStretch")
        - narrowing * shape("mouthPucker")
        - 0.5 * narrowing * shape("mouthFunnel"),
        "corner_up": 0.06 * _pair(shape, "mouthSmile")
        - 0.03 * _pair(shape, "mouthFrown")
        - 0.3 * (narrowing - 0.1) * shape("mouthPucker"),
        "frown": 0.02 * _pair(shape, "browDown"),
    }
    for side in ("Left", "Right"):
        down = 0.03 * shape(f"browDown{side}")
        inner, outer = 0.1 * shape("browInnerUp"), 0.09 * shape(f"browOuterUp{side}")
        columns[f"brow_inner_{side.lower()}"] = soft_limit(inner, BROW_TRAVEL * brow_height) - down
        columns[f"brow_outer_{side.lower()}"] = soft_limit(outer, BROW_TRAVEL * brow_height) - 0.7 * down
    return np.stack([columns[name] for name in MODES], axis=1).astype(np.float32)


def brow_height(points: F32, down: F32) -> float:
    """Return the pixels from lid to brow along the unit vector ``down`` (2,), on the side with less."""
    heights = [
        float((points[LIDS[side][0]].mean(0) - points[BROWS[side]].mean(0)) @ down)
        for side in ("Left", "Right")
    ]
    return max(min(heights), 0.0)


def lid_closing(motion: MotionTrack, side: str) -> F32:
    """Return (T,) how far the lid of ``side`` is closed, 0 as in the picture to 1 shut."""
    shape = _columns(motion)
    squint = 0.22 * shape(f"eyeSquint{side}") - 0.1 * shape(f"eyeWide{side}")
    return np.clip(shape(f"eyeBlink{side}") + np.maximum(squint, 0), 0, 1)


def gaze(motion: MotionTrack) -> F32:
    """Return (T, 2) shift of the iris in eye widths, x to the viewer's right, y down."""
    shape = _columns(motion)
    # the person's left is the viewer's right
    across = shape("eyeLookLeft") - shape("eyeLookRight")
    return np.stack([0.16 * across, 0.08 * (shape("eyeLookDown") - shape("eyeLookUp"))], axis=1)


def lip_bias(motion: MotionTrack) -> F32:
    """Return (T,) upward shift of both lip edges in outer-eye widths: the lower lip meets the upper teeth."""
    return np.asarray(0.02 * _columns(motion)("mouthRollLower"), np.float32)


def rounding(motion: MotionTrack) -> F32:
    """Return (T,) in [0, 1]: how far the lips are pushed forward."""
    shape = _columns(motion)
    return np.clip(shape("mouthPucker") + 0.6 * shape("mouthFunnel"), 0, 1)


def _columns(motion: MotionTrack) -> Callable[[str], F32]:
    return lambda name: motion.blendshapes[:, BLENDSHAPE_INDEX[name]]


def _pair(shape: Callable[[str], F32], name: str) -> F32:
    return np.asarray((shape(f"{name}Left") + shape(f"{name}Right")) / 2, np.float32)
