"""The table of visemes, the shapes of a speaking mouth. All that depends on a viseme derives from its row.

To add one, add a row, and name it in :data:`vortex.lipsync.visemes.ARTICULATIONS` for the sounds that show
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Viseme:
    """One shape of the mouth.

    Args:
        name: its name in OpenXR.
        jaw_open, lip_width, lip_rounding: the mouth as three numbers in [0, 1].
        blendshapes: ARKit amounts in [-1, 1] at an ordinary voice; a name without its side means both sides.
        closes: what it shuts: the lips, or the gap between the lower lip and the upper teeth.
        rounds: whether the lips round, which starts before the sound and leaves no smile.
        silent: whether it is the mouth at rest; exactly one viseme is.
    """

    name: str
    jaw_open: float
    lip_width: float
    lip_rounding: float
    blendshapes: Mapping[str, float]
    closes: Literal["lips", "teeth"] | None = None
    rounds: bool = False
    silent: bool = False


VISEME_TABLE: tuple[Viseme, ...] = (
    Viseme(name="sil", jaw_open=0.0, lip_width=0.4, lip_rounding=0.1, silent=True,
        blendshapes={"mouthClose": 1.0}),
    Viseme(name="PP", jaw_open=0.0, lip_width=0.38, lip_rounding=0.1, closes="lips",
        blendshapes={"mouthClose": 1.0, "mouthPress": 0.2, "mouthRollLower": 0.25, "mouthRollUpper": 0.25,
            "mouthShrugLower": 0.15}),
    Viseme(name="FF", jaw_open=0.07, lip_width=0.45, lip_rounding=0.05, closes="teeth",
        blendshapes={"jawOpen": 0.02, "mouthRollLower": 0.7, "mouthUpperUp": 0.65, "mouthLowerDown": 0.25,
            "mouthShrugLower": 0.3}),
    Viseme(name="TH", jaw_open=0.28, lip_width=0.5, lip_rounding=0.05,
        blendshapes={"jawOpen": 0.18, "mouthLowerDown": 0.35, "mouthUpperUp": 0.3, "mouthDimple": 0.05,
            "tongueUp": 1.0}),
    Viseme(name="DD", jaw_open=0.28, lip_width=0.5, lip_rounding=0.05,
        blendshapes={"jawOpen": 0.15, "mouthLowerDown": 0.25, "mouthUpperUp": 0.4, "mouthDimple": 0.1,
            "tongueUp": 0.9}),
    Viseme(name="kk", jaw_open=0.33, lip_width=0.5, lip_rounding=0.05,
        blendshapes={"jawOpen": 0.2, "mouthLowerDown": 0.25, "mouthUpperUp": 0.35, "mouthDimple": 0.1,
            "mouthRollLower": -0.2}),
    Viseme(name="CH", jaw_open=0.27, lip_width=0.3, lip_rounding=0.6, rounds=True,
        blendshapes={"jawOpen": 0.07, "mouthFunnel": 0.6, "mouthPucker": 0.4, "mouthLowerDown": 0.3,
            "mouthUpperUp": 0.35, "mouthStretch": -0.1, "mouthDimple": -0.1}),
    Viseme(name="SS", jaw_open=0.27, lip_width=0.6, lip_rounding=0.05,
        blendshapes={"jawOpen": 0.07, "mouthLowerDown": 0.3, "mouthUpperUp": 0.45, "mouthDimple": 0.3,
            "mouthStretch": 0.1}),
    Viseme(name="nn", jaw_open=0.3, lip_width=0.5, lip_rounding=0.05,
        blendshapes={"jawOpen": 0.16, "mouthLowerDown": 0.25, "mouthUpperUp": 0.35, "mouthDimple": 0.05,
            "tongueUp": 0.8}),
    Viseme(name="RR", jaw_open=0.33, lip_width=0.3, lip_rounding=0.5,
        blendshapes={"jawOpen": 0.16, "mouthFunnel": 0.4, "mouthPucker": 0.4, "mouthLowerDown": 0.15,
            "tongueUp": 0.3}),
    Viseme(name="aa", jaw_open=0.95, lip_width=0.5, lip_rounding=0.08,
        blendshapes={"jawOpen": 0.66, "mouthLowerDown": 0.35, "mouthUpperUp": 0.5, "mouthDimple": 0.05,
            "mouthRollLower": -0.3, "mouthRollUpper": -0.15, "mouthShrugLower": -0.2}),
    Viseme(name="E", jaw_open=0.62, lip_width=0.62, lip_rounding=0.0,
        blendshapes={"jawOpen": 0.44, "mouthLowerDown": 0.35, "mouthUpperUp": 0.55, "mouthDimple": 0.3,
            "mouthStretch": 0.15, "mouthRollLower": -0.2, "mouthShrugLower": -0.1}),
    Viseme(name="ih", jaw_open=0.33, lip_width=0.78, lip_rounding=0.0,
        blendshapes={"jawOpen": 0.18, "mouthLowerDown": 0.4, "mouthUpperUp": 0.55, "mouthDimple": 0.45,
            "mouthStretch": 0.25, "mouthSmile": 0.05, "mouthRollLower": -0.15}),
    Viseme(name="oh", jaw_open=0.6, lip_width=0.22, lip_rounding=0.75, rounds=True,
        blendshapes={"jawOpen": 0.45, "mouthFunnel": 0.5, "mouthPucker": 0.6, "mouthLowerDown": 0.15,
            "mouthStretch": -0.1, "mouthDimple": -0.1}),
    Viseme(name="ou", jaw_open=0.3, lip_width=0.14, lip_rounding=0.97, rounds=True,
        blendshapes={"jawOpen": 0.12, "mouthPucker": 1.0, "mouthFunnel": 0.65, "mouthStretch": -0.2,
            "mouthDimple": -0.2}),
)  # fmt: skip
"""The 15 visemes of OpenXR ``XR_META_face_tracking_visemes``, in the order of the specification."""

VISEMES: tuple[str, ...] = tuple(row.name for row in VISEME_TABLE)
"""Names of the columns of :attr:`vortex.types.VisemeTrack.weights`."""
VISEME_INDEX: Mapping[str, int] = {name: index for index, name in enumerate(VISEMES)}

(SILENT_COLUMN,) = (index for index, row in enumerate(VISEME_TABLE) if row.silent)
CLOSING_COLUMNS = [index for index, row in enumerate(VISEME_TABLE) if row.closes]
LIP_CLOSING_COLUMNS = [index for index, row in enumerate(VISEME_TABLE) if row.closes == "lips"]
ROUNDING_COLUMNS = [index for index, row in enumerate(VISEME_TABLE) if row.rounds]
