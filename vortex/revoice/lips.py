"""The lips of a person as a few numbers, measured in frames and wanted by a motion.

All numbers are in outer-eye widths, on faces without pose (x right, y down).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vortex.face.landmarks import LOWER_INNER, UPPER_INNER
from vortex.interpolation import smoothstep
from vortex.motion.expression import OPEN_GAP, SHUT_GAP, lip_gaps
from vortex.motion.measures import MEASURE_INDEX, measure_faces, measure_motion
from vortex.types import BLENDSHAPE_INDEX, F64, FloatArray, MotionTrack, read_only

LIP_MEASURES: tuple[str, ...] = ("gap", "jaw", "upper_lip", "lower_edge", "corners", "width")
"""Columns of the measures: the largest gap between the lips, and five of
:data:`vortex.motion.measures.MEASURES`."""
LIP_INDEX = {name: index for index, name in enumerate(LIP_MEASURES)}
GAP = LIP_INDEX["gap"]
_COLUMNS = [MEASURE_INDEX[name] for name in LIP_MEASURES[1:]]

RESTING_GAP_PERCENTILE = 5.0
"""If the lips of a clip never meet, those that are nearer than in most frames are at rest."""
OPEN_PERCENTILE, OPENING_LIMITS = 95.0, (0.6, 1.5)
"""A person opens the mouth as far as in this percentile of the clip; a voice is scaled to that, in limits."""
USUAL_SHARE = 0.7
"""Part of a voice's motion that people make who say nothing about it."""
MOVE_WEIGHTS = np.array([1, 1, 1, 1, 1, 1, 0.1])
"""The last input is a number from 0 to 1, the others are lengths."""
SPEECH_RIDGE = 9e-4
"""Weight of the mean face, per frame: that of moves of 0.03 outer-eye widths."""
SPREAD_SHARE, MAX_SPREAD = 0.7, 1.6
"""Part of the spread of a person's opening that a voice gives, and the largest factor."""
TALKING_GAP = 0.04
"""A clip whose mouth opens less does not show how far the person opens it."""


@dataclass(frozen=True, slots=True, eq=False)
class Mouth:
    """How one person's mouth is at rest (6,), and moves in speech.

    ``opening`` is the gap that the person exceeds in few frames, or None where the mouth hardly opens.
    ``speech`` (7, 6) turns what a voice moves (:func:`voice_moves`) into the person's measures, less those at
    rest; None if the person was not heard.
    """

    rest: F64
    opening: float | None
    speech: F64 | None = None

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        for name in ("rest", "speech"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, read_only(getattr(self, name), np.float64))


def measure_lips(faces: FloatArray) -> F64:
    """Return (T, 6) measures of faces (T, 478, 3) without pose; the gap of shut lips is 0."""
    return np.column_stack([lip_gaps(faces).max(axis=1), measure_faces(faces)[:, _COLUMNS]])


def column_gaps(face: FloatArray) -> F64:
    """Return (9,): the gap at each column between the corners, as detected: rarely exactly 0."""
    return np.asarray(np.maximum((face[LOWER_INNER] - face[UPPER_INNER])[1:-1, 1], 0), np.float64)


def find_mouth(lips: F64) -> Mouth:
    """Return what measures (T, 6) say of a person; at rest is the median of frames with shut lips."""
    shut = lips[:, GAP] <= max(SHUT_GAP, float(np.percentile(lips[:, GAP], RESTING_GAP_PERCENTILE)))
    rest = np.median(lips[shut], axis=0)
    rest[GAP] = 0.0
    widest = float(np.percentile(lips[:, GAP], OPEN_PERCENTILE))
    return Mouth(rest, widest if widest > TALKING_GAP else None)


def voice_moves(motion: MotionTrack) -> F64:
    """Return (T, 7): what a motion adds to the six measures of a face at rest, and how far lips are free.

    The last column is 0 where lips shut, also in silence, and 1 where nothing shuts them.
    """
    change = measure_motion(motion)
    gap = change[:, MEASURE_INDEX["lower_lip"]] - change[:, MEASURE_INDEX["upper_lip"]]
    free = 1 - np.clip(motion.blendshapes[:, BLENDSHAPE_INDEX["mouthClose"]], 0, 1)
    return np.column_stack([gap, change[:, _COLUMNS], free]).astype(np.float64)


def learn_speech(moves: F64, lips: F64, rest: F64) -> F64:
    """Return ``speech`` of :class:`Mouth` from what a person's own voice moves (T, 7), and lips (T, 6).

    Ridge regression towards the mean face, which moves as the voice says. Where the voice tells the lips only
    in part, the regression says too little, so the opening gets back a part of its spread.
    """
    start = np.eye(7, 6) * USUAL_SHARE
    inputs, outputs = moves * MOVE_WEIGHTS, lips - rest
    ridge = SPEECH_RIDGE * len(lips) * np.eye(7)
    start /= MOVE_WEIGHTS[:, None]
    learned = start + np.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ (outputs - inputs @ start))
    said = (inputs @ learned)[:, GAP]
    spread = float(outputs[:, GAP].std() / max(said.std(), 1e-6))
    scale = np.clip(SPREAD_SHARE * spread, 1.0, MAX_SPREAD)
    return np.asarray(scale * learned * MOVE_WEIGHTS[:, None], np.float64)


def wanted_lips(motion: MotionTrack, mouth: Mouth) -> F64:
    """Return (T, 6): the measures that a motion gives a person, as far as that person opens the mouth.

    Where the motion shuts the lips, they are shut; in silence the mouth is at rest.
    """
    moves = voice_moves(motion)
    moved = moves[:, :-1].copy()
    if mouth.speech is not None:
        moved = moves @ mouth.speech
        moved[:, GAP] = np.maximum(moved[:, GAP], 0) * smoothstep(moves[:, GAP], 0.0, OPEN_GAP, np.float64)
    elif mouth.opening is not None:
        widest = float(np.percentile(moves[:, GAP], OPEN_PERCENTILE))
        if widest > TALKING_GAP:
            moved *= np.clip(mouth.opening / widest, *OPENING_LIMITS)
    wanted = mouth.rest + moved
    wanted[:, GAP] = np.where(wanted[:, GAP] < SHUT_GAP, 0, wanted[:, GAP])
    return np.asarray(wanted, np.float64)
