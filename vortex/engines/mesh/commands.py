"""What the blendshapes of a motion make the face of a portrait do, in outer-eye widths.

Amounts of the learned shapes (``vortex/face/shapes.py``) move the skin. Lids, gaze, the gap between the lips
and the depth behind rounded lips are commands of their own. Numbers without a source were chosen by eye on
contact sheets (``scripts/contact_sheet.py``).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from vortex.engines.base import shape_columns
from vortex.engines.mesh.lids import MIN_OPENING, WIDENING, rest_opening
from vortex.face.landmarks import BROWS, LIDS, MOUTH_CORNERS
from vortex.face.shapes import load_shapes
from vortex.interpolation import soft_limit
from vortex.motion.expression import SHUT_JAW_APERTURE
from vortex.types import BLENDSHAPE_INDEX, F32, GAZE_REACH, FloatArray, MotionTrack

SHAPES: tuple[str, ...] = tuple(name for name in load_shapes().names if not name.startswith("eyeBlink"))
"""Shapes that move the skin, in the order of their fields; lids are drawn."""
MAX_APERTURE = 0.7
"""Largest inner-lip opening in outer-eye widths, that of the widest shout among 16 real faces."""
BROW_TRAVEL = 0.4
"""Part of the height between lid and brow that the brow may rise; beyond it, the skin between folds."""
BROW_RAISERS = ("browInnerUp", "browOuterUpLeft", "browOuterUpRight")
ROUND_GAP_HALF_WIDTH, PUCKERED_GAP_HALF_WIDTH, ROUND_GAP_EXPONENT = 0.95, 0.62, 0.8
"""The gap of rounded lips at u in half mouth widths is (1 - (u / a)²)^b; the shapes alone leave a rhombus.
The lips of a full pucker touch beside a round hole: a is smaller."""
UPPER_SHARE, ROUNDED_UPPER_SHARE = 0.3, 0.5
"""Part of a missing gap that the upper lip moves, and that of round lips; the lower lip moves the rest."""
SMILE_WIDTH = 0.18
"""How much a full smile widens a mouth; a picture's mouth that is wider than the template's smiles."""
LID_SQUINT, LID_FOLLOWS = 0.22, 0.3
"""How far a squint, and eyes that look down, close the lid."""


@lru_cache(maxsize=1)
def lip_gaps() -> F32:
    """Return (K, 9): by how much each of SHAPES parts the lips at each column between their corners."""
    return load_shapes().lip_gaps(SHAPES)


def template_mouth_width() -> float:
    """Return the width of the template's mouth."""
    corners = load_shapes().template[list(MOUTH_CORNERS)]
    return float(np.linalg.norm(corners[1] - corners[0]))


def lips_apart(motion: MotionTrack) -> F32:
    """Return (T,) in [0, 1]: 1 where the lips are as far apart as the shapes make them, 0 where they meet."""
    shape = shape_columns(motion)
    return 1 - np.clip(shape("mouthClose") + 0.6 * shape("mouthPress"), 0, 1)


def lip_gap(motion: MotionTrack) -> F32:
    """Return the gap between the inner lips (T, 9) at each column; 0 where they meet."""
    amounts = motion.blendshapes[:, [BLENDSHAPE_INDEX[name] for name in SHAPES]]
    # Shapes that press lips together cannot make them overlap.
    gap = np.clip(amounts @ lip_gaps(), 0, MAX_APERTURE)
    along = np.linspace(-1, 1, gap.shape[1] + 2)[1:-1]
    puckered = np.clip(shape_columns(motion)("mouthPucker"), 0, 1)[:, None] ** 2
    half_width = ROUND_GAP_HALF_WIDTH + (PUCKERED_GAP_HALF_WIDTH - ROUND_GAP_HALF_WIDTH) * puckered
    oval = np.maximum(1 - (along / half_width) ** 2, 0) ** ROUND_GAP_EXPONENT
    rounded = rounding(motion)[:, None]
    gap = (1 - rounded) * gap + rounded * gap.max(axis=1, keepdims=True) * oval
    return np.asarray(gap * lips_apart(motion)[:, None], np.float32)


def lip_shifts(motion: MotionTrack, missing: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return how far upper and lower lip move down, (T, 9) each, to make up for a gap ``missing`` (T, 9)."""
    share = UPPER_SHARE + (ROUNDED_UPPER_SHARE - UPPER_SHARE) * rounding(motion)[:, None]
    return -share * missing, (1 - share) * missing


def aperture(motion: MotionTrack) -> F32:
    """Return the largest gap between the inner lips (T,)."""
    return np.asarray(lip_gap(motion).max(axis=1), np.float32)


def amounts(motion: MotionTrack, *, source_width: float, source_aperture: float, brow_height: float) -> F32:
    """Return (T, K) amounts of SHAPES that move the portrait's face from its own expression.

    The picture's mouth is ``source_width`` wide and opens by ``source_aperture``; ``brow_height`` is the
    height between lid and brow.
    """
    result = motion.blendshapes[:, [BLENDSHAPE_INDEX[name] for name in SHAPES]].copy()
    column = SHAPES.index
    # The picture's jaw hangs already, as far as its lips are farther apart than over a shut jaw.
    jaw = column("jawOpen")
    result[:, jaw] -= max(source_aperture - SHUT_JAW_APERTURE, 0.0) / float(lip_gaps()[jaw].max())
    # Rounded lips do not smile: the smile of the picture goes as they round.
    smiling = float(np.clip((source_width - template_mouth_width()) / SMILE_WIDTH, 0, 1))
    rounded = rounding(motion)
    for side in ("Left", "Right"):
        result[:, column(f"mouthSmile{side}")] -= smiling * rounded
    moves = load_shapes().columns(BROW_RAISERS)
    raised = np.abs(moves[:, np.concatenate(list(BROWS.values())), 1]).max(axis=1)
    for name, rise in zip(BROW_RAISERS, raised, strict=True):
        limit = BROW_TRAVEL * brow_height / float(rise)
        result[:, column(name)] = soft_limit(result[:, column(name)], limit)
    return result


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
    follows = np.maximum(shut, LID_FOLLOWS * shape("eyeLookDown"))
    # Below zero, a filmed eye is open wider than the picture's.
    shut = np.clip(np.where(shut < 0, shut, follows), -1, 1)
    rest = rest_opening(opening)
    wanted = (1 - shut) * rest * (1 + (WIDENING - 1) * shape(f"eyeWide{side}"))
    widest = WIDENING * rest
    closing = np.where(wanted < opening, opening - wanted, 0) / opening
    opens = np.where(wanted > opening, wanted - opening, 0) / (widest - opening)
    return np.clip(closing - opens, -1, 1).astype(np.float32)


def gaze(motion: MotionTrack) -> F32:
    """Return (T, 2): shift of the iris in eye widths, x to the viewer's right, y down."""
    shape = shape_columns(motion)
    # The person's left is the viewer's right.
    across = shape("eyeLookLeft") - shape("eyeLookRight")
    down = shape("eyeLookDown") - shape("eyeLookUp")
    return np.stack([GAZE_REACH[0] * across, GAZE_REACH[1] * down], axis=1)


def rounding(motion: MotionTrack) -> F32:
    """Return (T,) in [0, 1]: how far the lips are pushed forward."""
    shape = shape_columns(motion)
    return np.clip(shape("mouthPucker") + 0.6 * shape("mouthFunnel"), 0, 1)


def tongue(motion: MotionTrack) -> F32:
    """Return (T,) in [0, 1]: how far the tip of the tongue is raised towards the upper teeth."""
    return np.clip(shape_columns(motion)("tongueUp"), 0, 1)
