"""Measures of faces: known moves are measured as they are, of landmarks and of blendshapes alike."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from vortex.face.landmarks import IRIS_CENTRES, JAW_TIP, LIDS, MOUTH_CORNERS
from vortex.face.shapes import load_shapes
from vortex.motion.drive import expand
from vortex.motion.measures import MEASURE_INDEX, MEASURES, OPENING, measure_faces, measure_motion
from vortex.types import F64, GAZE_REACH, MotionTrack

TEMPLATE = load_shapes().template.astype(np.float64)


def face() -> F64:
    """Return the template (478, 3) with irises between the corners of its eyes."""
    result = TEMPLATE.copy()
    for side, iris in zip(("Right", "Left"), IRIS_CENTRES, strict=True):
        result[iris] = result[LIDS[side][0][[0, -1]]].mean(axis=0)
    return result


def motion(*rows: dict[str, float]) -> MotionTrack:
    return MotionTrack(np.stack([expand(row) for row in rows]), np.zeros((len(rows), 3)), Fraction(24))


def measured(**shapes: float) -> dict[str, float]:
    """Return what blendshapes add to each measure."""
    return dict(zip(MEASURES, measure_motion(motion(shapes))[0].tolist(), strict=True))


def changes(moved: F64) -> dict[str, float]:
    """Return the measures of a face (478, 3) that changed, and by how much."""
    change = (measure_faces(moved[None]) - measure_faces(face()[None]))[0]
    return {name: value for name, value in zip(MEASURES, change.tolist(), strict=True) if abs(value) > 1e-9}


def test_moved_landmarks_are_measured_as_they_moved() -> None:
    moved = face()
    moved[JAW_TIP] += [0.01, 0.2, 0]
    assert changes(moved) == pytest.approx({"jaw": 0.2, "jaw_shift": 0.01})
    moved = face()
    moved[MOUTH_CORNERS[1]] += [0, 0.1, 0]  # The person's left corner goes down.
    assert changes(moved) == pytest.approx({"corners": 0.05, "tilt": 0.1})


def test_a_shut_left_eye_has_no_opening() -> None:
    moved = face()
    upper, lower = LIDS["Left"]
    moved[lower] = moved[upper]
    openings = measure_faces(np.stack([face(), moved]))[:, [MEASURE_INDEX["opening"], 12]]
    left, right = openings.sum(axis=1), openings[:, 0] - openings[:, 1]
    assert left[1] == pytest.approx(0, abs=1e-9) and left[0] > 0.2
    assert right[0] == pytest.approx(right[1])


def test_a_mirrored_face_has_opposite_differences() -> None:
    """The oracle mirrors the face by the places of the landmarks on the template."""
    away = np.linalg.norm(TEMPLATE[:, None] - (TEMPLATE * [-1, 1, 1])[None], axis=2)
    partner = away.argmin(axis=1)
    partner[468:] = [*range(473, 478), *range(468, 473)]
    moved = face() + np.random.default_rng(1).normal(0, 0.01, (478, 3))
    one, other = measure_faces(np.stack([moved, (moved * [-1, 1, 1])[partner]]))
    turned = [
        n.endswith("difference") or n in ("tilt", "shift", "jaw_shift", "gaze_across") for n in MEASURES
    ]
    np.testing.assert_allclose(other, np.where(turned, -one, one), atol=1e-9)


@pytest.mark.parametrize("name", ["jawOpen", "mouthSmile", "mouthPucker", "mouthUpperUp", "browOuterUp"])
def test_blendshapes_measure_like_the_faces_they_make(name: str) -> None:
    shapes, row = load_shapes(), expand({name: 0.1})
    used = [i for i, shape in enumerate(shapes.names) if shape.startswith(name)]
    expected = changes(face() + 0.1 * shapes.moves[used].sum(axis=0))
    result = measure_motion(MotionTrack(row[None], np.zeros((1, 3)), Fraction(24)))[0]
    for measure in ("jaw", "upper_lip", "corners", "width", "inner_brow", "outer_brow"):
        assert result[MEASURE_INDEX[measure]] == pytest.approx(expected.get(measure, 0), abs=1e-6)


def test_lids_and_gaze_mean_what_their_columns_say() -> None:
    assert measured(eyeBlink=1)["opening"] == pytest.approx(-OPENING)
    wink = measured(eyeBlinkLeft=1)
    assert wink["opening"] + wink["opening_difference"] == pytest.approx(-OPENING)
    assert wink["opening"] - wink["opening_difference"] == pytest.approx(0)
    assert measured(eyeLookLeft=1)["gaze_across"] == pytest.approx(GAZE_REACH[0])
    assert measured(eyeLookUp=0.5)["gaze_down"] == pytest.approx(-GAZE_REACH[1] / 2)


def test_a_closure_brings_the_lips_together_whatever_parts_them() -> None:
    for shapes in ({"jawOpen": 0.7}, {"mouthLowerDown": 0.5, "mouthUpperUp": 0.5}, {"mouthRollLower": 1.0}):
        openly, half, shut = (measured(**shapes, mouthClose=amount) for amount in (0.0, 0.5, 1.0))
        gaps = [row["lower_lip"] - row["upper_lip"] for row in (openly, half, shut)]
        assert gaps[2] == pytest.approx(0, abs=1e-9) and gaps[1] == pytest.approx(gaps[0] / 2)
        assert gaps[0] >= 0


def test_no_motion_measures_nothing_and_nor_does_a_shut_mouth() -> None:
    assert not measure_motion(motion({}, {"mouthClose": 1.0}, {"tongueUp": 1.0})).any()
