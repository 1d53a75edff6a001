"""Visemes to blendshapes: one table, scaled by how loudly and how expressively something is said."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from vortex.types import BLENDSHAPE_INDEX, BLENDSHAPES, VISEMES, VisemeTrack

F32 = npt.NDArray[np.float32]

_BOTH = ("Left", "Right")
# ARKit amounts at an ordinary voice; a name without its side means both sides
_SHAPES: Mapping[str, Mapping[str, float]] = {
    "sil": {"mouthClose": 1.0},
    "PP": {"mouthClose": 1.0, "mouthPress": 0.35, "mouthRollLower": 0.15, "mouthRollUpper": 0.15},
    "FF": {"jawOpen": 0.03, "mouthRollLower": 0.75, "mouthUpperUp": 0.35, "mouthLowerDown": 0.05},
    "TH": {"jawOpen": 0.14, "mouthLowerDown": 0.2, "mouthStretch": 0.08},
    "DD": {"jawOpen": 0.11, "mouthLowerDown": 0.22, "mouthUpperUp": 0.12, "mouthStretch": 0.08},
    "kk": {"jawOpen": 0.17, "mouthLowerDown": 0.15, "mouthStretch": 0.05},
    "CH": {"jawOpen": 0.07, "mouthFunnel": 0.6, "mouthPucker": 0.2, "mouthLowerDown": 0.2},
    "SS": {"jawOpen": 0.08, "mouthStretch": 0.3, "mouthLowerDown": 0.3, "mouthUpperUp": 0.12},
    "nn": {"jawOpen": 0.13, "mouthLowerDown": 0.18, "mouthStretch": 0.06},
    "RR": {"jawOpen": 0.14, "mouthFunnel": 0.35, "mouthPucker": 0.25},
    "aa": {"jawOpen": 0.5, "mouthLowerDown": 0.25, "mouthUpperUp": 0.1},
    "E": {"jawOpen": 0.31, "mouthLowerDown": 0.25, "mouthUpperUp": 0.12, "mouthStretch": 0.25},
    "ih": {"jawOpen": 0.17, "mouthLowerDown": 0.25, "mouthUpperUp": 0.12, "mouthStretch": 0.46},
    "oh": {"jawOpen": 0.33, "mouthFunnel": 0.45, "mouthPucker": 0.4},
    "ou": {"jawOpen": 0.1, "mouthPucker": 0.8, "mouthFunnel": 0.3},
}  # fmt: skip


def expand(amounts: Mapping[str, float]) -> F32:
    """Return (33,) float32 columns of :data:`vortex.types.BLENDSHAPES` from amounts by name or by stem."""
    row = np.zeros(len(BLENDSHAPES), np.float32)
    for name, amount in amounts.items():
        for column in (name,) if name in BLENDSHAPE_INDEX else (name + side for side in _BOTH):
            row[BLENDSHAPE_INDEX[column]] += amount
    return row


VISEME_BLENDSHAPES = np.stack([expand(_SHAPES[name]) for name in VISEMES])
"""(15, 33) float32: the mouth of each viseme."""

_CLOSING = [BLENDSHAPE_INDEX["mouthClose"], BLENDSHAPE_INDEX["mouthRollLower"]]
_CLOSING += [BLENDSHAPE_INDEX["mouthPress" + side] for side in _BOTH]
QUIET_ARTICULATION = 0.7
"""Share of the full movement that a murmur keeps."""


def articulate(visemes: VisemeTrack, gain: npt.ArrayLike) -> F32:
    """Return (T, 33) float32 in [0, 1]: the mouth while speaking.

    ``gain`` (T,) scales how far the mouth moves; closures are never scaled, only openings. Loud speech opens
    the mouth further than a murmur.
    """
    shapes = visemes.weights @ VISEME_BLENDSHAPES
    loud = QUIET_ARTICULATION + (1 - QUIET_ARTICULATION) * visemes.loudness
    scale = np.repeat((loud * np.asarray(gain, np.float32))[:, None], shapes.shape[1], axis=1)
    scale[:, _CLOSING] = 1
    # a mouth that is partly shut by its neighbours is open after all: only full closures count
    shapes[:, _CLOSING[0]] = np.clip((shapes[:, _CLOSING[0]] - 0.35) / 0.55, 0, 1)
    return np.asarray(np.clip(shapes * scale, 0, 1), np.float32)
