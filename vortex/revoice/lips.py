"""The lips of a person as a few numbers, measured in frames and wanted by a motion.

All numbers are in outer-eye widths, on faces without pose (x right, y down).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vortex.face.landmarks import LOWER_INNER, UPPER_INNER
from vortex.motion.expression import SHUT_GAP, lip_gaps
from vortex.motion.measures import MEASURE_INDEX, measure_faces, measure_motion
from vortex.types import F64, FloatArray, MotionTrack, read_only

LIP_MEASURES: tuple[str, ...] = ("gap", "jaw", "upper_lip", "lower_edge", "corners", "width")
"""Columns of the measures: the largest gap between the lips, and five of
:data:`vortex.motion.measures.MEASURES`."""
LIP_INDEX = {name: index for index, name in enumerate(LIP_MEASURES)}
GAP = LIP_INDEX["gap"]
_COLUMNS = [MEASURE_INDEX[name] for name in LIP_MEASURES[1:]]

RESTING_GAP_PERCENTILE = 5.0
"""If the lips of a clip never meet, those that are nearer than in most frames are at rest."""
OPEN_PERCENTILE, OPENING_LIMITS = 95.0, (0.6, 1.5)
"""A person opens the mouth as far as in this percentile of the clip; a voice is scaled to it within limits."""
TALKING_GAP = 0.04
"""A clip whose mouth opens less does not show how far the person opens it."""


@dataclass(frozen=True, slots=True, eq=False)
class Mouth:
    """How one person's mouth is at rest (6,), and how far it opens in a voice's percentile, or None."""

    rest: F64
    opening: float | None

    def __post_init__(self) -> None:
        """Make the array read-only."""
        object.__setattr__(self, "rest", read_only(self.rest, np.float64))


def measure_lips(faces: FloatArray) -> F64:
    """Return (T, 6) measures of faces (T, 478, 3) without pose; the gap of shut lips is 0."""
    return np.column_stack([lip_gaps(faces).max(axis=1), measure_faces(faces)[:, _COLUMNS]])


def column_gaps(face: FloatArray) -> F64:
    """Return (9,): the gap at each column between the corners, as detected: rarely exactly 0."""
    return np.asarray(np.maximum((face[LOWER_INNER] - face[UPPER_INNER])[1:-1, 1], 0), np.float64)


def find_mouth(lips: F64) -> Mouth:
    """Return what measures (T, 6) say of a person: the median of frames with shut lips is the mouth at rest."""
    shut = lips[:, GAP] <= max(SHUT_GAP, float(np.percentile(lips[:, GAP], RESTING_GAP_PERCENTILE)))
    rest = np.median(lips[shut], axis=0)
    rest[GAP] = 0.0
    widest = float(np.percentile(lips[:, GAP], OPEN_PERCENTILE))
    return Mouth(rest, widest if widest > TALKING_GAP else None)


def wanted_lips(motion: MotionTrack, mouth: Mouth) -> F64:
    """Return (T, 6): the measures that a motion gives a person, scaled to how far that one opens the mouth."""
    change = measure_motion(motion)
    gap = change[:, MEASURE_INDEX["lower_lip"]] - change[:, MEASURE_INDEX["upper_lip"]]
    moved = np.column_stack([gap, change[:, _COLUMNS]])
    widest = float(np.percentile(gap, OPEN_PERCENTILE))
    if mouth.opening is not None and widest > TALKING_GAP:
        moved *= np.clip(mouth.opening / widest, *OPENING_LIMITS)
    wanted = mouth.rest + moved
    wanted[:, GAP] = np.where(wanted[:, GAP] < SHUT_GAP, 0, wanted[:, GAP])
    return np.asarray(wanted, np.float64)
