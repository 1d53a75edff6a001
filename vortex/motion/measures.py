"""Nineteen measures of a face: of its landmarks, and of the blendshapes that move it.

Measures are in outer-eye widths, on faces without pose (x right, y down), but for the openings and the gaze,
which are in widths of an eye. Differences are halves of the person's left minus the right.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from vortex.face.landmarks import (
    BROWS,
    INNER_MOUTH_CORNERS,
    JAW_TIP,
    LIDS,
    LOWER_BROWS,
    LOWER_RINGS,
    MOUTH_CORNERS,
    UPPER_RINGS,
)
from vortex.face.shapes import load_shapes
from vortex.motion.expression import LID_SHAPES, iris_places, lid_openings
from vortex.types import BLENDSHAPE_INDEX, BLENDSHAPES, F64, GAZE_REACH, FloatArray, MotionTrack, read_only

MEASURES: tuple[str, ...] = (
    "jaw", "upper_lip", "lower_lip", "lower_edge", "corners", "width", "tilt", "shift", "jaw_shift",
    "gaze_across", "gaze_down", "opening", "opening_difference", "lower_lid", "lower_lid_difference",
    "inner_brow", "inner_brow_difference", "outer_brow", "outer_brow_difference",
)  # fmt: skip
"""Columns of the measures: heights of the chin, of the inner edges of both lips, of the lower lip's outer
edge and of the corners of the mouth; the mouth's width, tilt and place across; the chin's place across; gaze;
and of both sides, the mean and the difference: the opening of the eye, the height of the lower lid, and of
the halves of the brow."""
MEASURE_INDEX: Mapping[str, int] = {name: index for index, name in enumerate(MEASURES)}

OPENING = 0.3
"""Height of an open eye over its width, typically; a shut eye has none."""
_MIDDLE = slice(2, 7)
"""The five middle columns of nine of a lip or a lid."""
_HALVES = {
    side: (np.concatenate([upper[3:], lower[3:]]), np.concatenate([upper[:3], lower[:3]]))
    for side, upper, lower in (
        ("Right", BROWS["Right"], LOWER_BROWS["Right"]),
        ("Left", BROWS["Left"], LOWER_BROWS["Left"][::-1]),
    )
}
"""Inner and outer half of each brow."""


def measure_faces(faces: FloatArray) -> F64:
    """Return measures (T, 19) of faces (T, 478, 3) without pose."""
    x, y = faces[..., 0], faces[..., 1]
    right, left = MOUTH_CORNERS
    inner_right, inner_left = INNER_MOUTH_CORNERS
    columns = [
        y[:, JAW_TIP].mean(axis=1),
        y[:, UPPER_RINGS[0, _MIDDLE]].mean(axis=1),
        y[:, LOWER_RINGS[0, _MIDDLE]].mean(axis=1),
        y[:, LOWER_RINGS[3, _MIDDLE]].mean(axis=1),
        (y[:, right] + y[:, left]) / 2,
        x[:, inner_left] - x[:, inner_right],
        y[:, left] - y[:, right],
        (x[:, right] + x[:, left]) / 2,
        x[:, JAW_TIP].mean(axis=1),
        *iris_places(faces).T,
    ]
    lids = [y[:, LIDS[side][1][_MIDDLE]].mean(axis=1) for side in LIDS]
    inner, outer = ([y[:, _HALVES[side][part]].mean(axis=1) for side in LIDS] for part in (0, 1))
    # LIDS names the right side first.
    for right_side, left_side in (lid_openings(faces).T, lids, inner, outer):
        columns += [(left_side + right_side) / 2, (left_side - right_side) / 2]
    return np.stack(columns, axis=1).astype(np.float64)


def measure_motion(motion: MotionTrack) -> F64:
    """Return (T, 19): how a motion changes the measures of a face whose mouth is shut.

    Lips part by no more than ``mouthClose`` leaves and never overlap: the lower lip meets the upper one. A
    motion of zeros gives zeros.
    """
    result = motion.blendshapes.astype(np.float64) @ shape_measures()
    upper, lower, edge = (MEASURE_INDEX[name] for name in ("upper_lip", "lower_lip", "lower_edge"))
    gap = result[:, lower] - result[:, upper]
    shut = np.clip(motion.blendshapes[:, BLENDSHAPE_INDEX["mouthClose"]], 0, 1)
    result[:, [lower, edge]] -= (gap - np.maximum(gap, 0) * (1 - shut))[:, None]
    return result


@lru_cache(maxsize=1)
def shape_measures() -> F64:
    """Return (48, 19): what 1 of each blendshape adds to the measures; nothing for mouthClose, tongueUp."""
    shapes = load_shapes()
    face = shapes.template.astype(np.float64)
    result = np.zeros((len(BLENDSHAPES), len(MEASURES)))
    for name, move in zip(shapes.names, shapes.moves, strict=True):
        result[BLENDSHAPE_INDEX[name]] = (measure_faces((face + move)[None]) - measure_faces(face[None]))[0]
        if not name.startswith(LID_SHAPES):
            _set(result, name, opening=0, opening_difference=0)
    # A blink is what is missing of an eye's opening; gaze columns replace what shapes do to irises.
    result[:, [MEASURE_INDEX["gaze_across"], MEASURE_INDEX["gaze_down"]]] = 0
    for side, sign in (("Left", -1), ("Right", 1)):
        result[BLENDSHAPE_INDEX[f"eyeBlink{side}"]] = 0
        _set(result, f"eyeBlink{side}", opening=-OPENING / 2, opening_difference=sign * OPENING / 2)
    across, down = GAZE_REACH
    _set(result, "eyeLookLeft", gaze_across=across)
    _set(result, "eyeLookRight", gaze_across=-across)
    _set(result, "eyeLookDown", gaze_down=down)
    _set(result, "eyeLookUp", gaze_down=-down)
    return np.asarray(read_only(result, np.float64))


def _set(rows: F64, blendshape: str, **measures: float) -> None:
    for measure, value in measures.items():
        rows[BLENDSHAPE_INDEX[blendshape], MEASURE_INDEX[measure]] = value
