"""LivePortrait's keypoints follow a motion as real faces do, and give it back."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from vortex.errors import InputError
from vortex.motion.drive import VISEME_BLENDSHAPES, expand, still
from vortex.motion.keypoints import head_turns_deg, keypoint_expression, load_drive, motion_of_keypoints
from vortex.motion.measures import MEASURE_INDEX, measure_motion
from vortex.types import BLENDSHAPE_INDEX, BLENDSHAPES, F32, F64, KeypointTrack, MotionTrack
from vortex.visemes import VISEME_INDEX

X, Y, Z = range(3)
FPS = Fraction(25)


def motion(*rows: dict[str, float]) -> MotionTrack:
    return MotionTrack(np.stack([expand(row) for row in rows]), np.zeros((len(rows), 3)), FPS)


def expression(**shapes: float) -> F32:
    """Return (21, 3): what blendshapes add."""
    return keypoint_expression(motion(shapes))[0]


def track(exp: F32, rotation: F64 | None = None) -> KeypointTrack:
    frames = len(exp)
    turns = np.tile(np.eye(3), (frames, 1, 1)) if rotation is None else rotation
    return KeypointTrack(exp, turns, np.ones(frames), np.zeros((frames, 3)), FPS)


def gap(of: MotionTrack) -> F64:
    measures = measure_motion(of)
    return measures[:, MEASURE_INDEX["lower_lip"]] - measures[:, MEASURE_INDEX["upper_lip"]]


def test_no_motion_adds_nothing() -> None:
    for at_rest in (motion({}, {}), still(2, FPS)):
        exp = keypoint_expression(at_rest)
        assert exp.shape == (2, 21, 3) and exp.dtype == np.float32 and not exp.any()


def test_the_jaw_moves_the_lips_as_in_the_published_editors_and_templates() -> None:
    """The editors' slider for open lips adds to 19.y and reaches 0.12; the template of a talking face moves
    19.y by 0.09, from shut lips to its widest opening.
    """
    opened = expression(jawOpen=0.5)
    assert np.unravel_index(np.abs(opened).argmax(), opened.shape) == (19, Y)
    assert 0.02 < opened[19, Y] < 0.09
    talking = keypoint_expression(MotionTrack(VISEME_BLENDSHAPES, np.zeros((15, 3)), FPS))[:, 19, Y]
    openings = {
        name: float(talking[VISEME_INDEX[name]]) for name in ("aa", "E", "ih", "SS", "FF", "sil", "PP")
    }
    assert 0.04 < openings["aa"] < 0.09
    assert openings["aa"] > openings["E"] > openings["ih"] > openings["SS"] > openings["FF"] > openings["sil"]
    assert openings["PP"] < 0


def test_directions_are_those_of_the_published_editors() -> None:
    smile = expression(mouthSmile=0.5)
    assert max(smile[14, Y], smile[20, Y]) < -0.005
    assert expression(mouthPucker=1)[14, Y] > 0
    # The person's left is the viewer's right, the direction of x.
    assert expression(eyeLookLeft=1)[[11, 15], X].min() > 0 > expression(eyeLookRight=1)[[11, 15], X].max()
    assert expression(eyeLookUp=1)[[11, 15], Y].max() < 0 < expression(eyeLookDown=1)[[11, 15], Y].min()
    assert expression(eyeWide=1)[[11, 15], Y].max() < 0 < expression(eyeSquint=1)[[11, 15], Y].min()
    raised, lowered = expression(browInnerUp=1, browOuterUp=1), expression(browDown=1)
    assert raised[1, Y] > 0 > raised[2, Y] and lowered[1, Y] < 0 < lowered[2, Y]


def test_a_blink_moves_both_eyes_alike() -> None:
    """Keypoints 11 and 15, 13 and 16 are pairs. Eyes that shut move 11.y by 0.014 in published templates."""
    blink = expression(eyeBlink=1)
    assert 0.01 < blink[11, Y] < 0.02
    for one, other in ((11, 15), (13, 16)):
        assert blink[one, Y] == pytest.approx(blink[other, Y], rel=0.1)


def test_a_wink_moves_its_own_eye() -> None:
    """In the published editors, a wink moves keypoint 11 alone, of the eye on the viewer's left."""
    wink = expression(eyeBlinkRight=1)
    assert wink[11, Y] > 0.008 and wink[11, Y] > 3 * abs(wink[15, Y])
    assert expression(eyeBlinkLeft=1)[[15, 11], Y] == pytest.approx(wink[[11, 15], Y], rel=0.1)


def test_a_mouth_that_moves_evenly_hardly_moves_its_middle_aside() -> None:
    for shapes in ({"jawOpen": 0.5}, {"mouthSmile": 0.5}, {"mouthPucker": 0.8}, {"mouthUpperUp": 0.5}):
        moved = expression(**shapes)[[17, 19, 20]]
        assert np.abs(moved[:, X]).max() < 0.3 * np.abs(moved).max()


def test_a_mouth_drawn_to_one_side_moves_its_middle_there() -> None:
    assert expression(mouthLeft=0.5)[19, X] > 0.002 > -0.002 > expression(mouthRight=0.5)[19, X]


def test_nothing_goes_beyond_what_real_faces_do() -> None:
    wild = MotionTrack(
        np.random.default_rng(1).uniform(-1, 1, (500, len(BLENDSHAPES))), np.zeros((500, 3)), FPS
    )
    exp, drive = keypoint_expression(wild), load_drive()
    assert (exp >= drive.low - 1e-6).all() and (exp <= drive.high + 1e-6).all()
    # Published templates and talking faces: a mouth opens by 0.1, and hardly goes below shut.
    assert 0.09 < drive.high[19, Y] < 0.13 and -0.03 < drive.low[19, Y] < 0
    # The extractor never moves these points.
    assert np.abs(exp[:, [6, 8, 9, 12, 18]]).max() < 0.002


@pytest.mark.parametrize(
    ("shapes", "names"),
    [
        ({"jawOpen": 0.6}, ["jawOpen"]),
        ({"mouthSmile": 0.6}, ["mouthSmileLeft", "mouthSmileRight"]),
        ({"mouthPucker": 1.0}, ["mouthPucker"]),
        ({"mouthUpperUp": 0.8}, ["mouthUpperUpLeft", "mouthUpperUpRight"]),
        ({"browDown": 1.0}, ["browDownLeft", "browDownRight"]),
        ({"eyeLookLeft": 0.8}, ["eyeLookLeft"]),
        ({"eyeBlink": 1.0}, ["eyeBlinkLeft", "eyeBlinkRight"]),
        ({"eyeBlinkRight": 1.0}, ["eyeBlinkRight"]),
    ],
)
def test_a_shape_comes_back_as_itself(shapes: dict[str, float], names: list[str]) -> None:
    exp = keypoint_expression(motion({}, shapes))
    found = motion_of_keypoints(track(exp), np.zeros((21, 3))).blendshapes
    assert np.abs(np.delete(found[0], BLENDSHAPE_INDEX["mouthClose"])).max() < 0.01
    others = np.delete(found[1], [BLENDSHAPE_INDEX[name] for name in [*names, "mouthClose"]])
    mine = found[1, [BLENDSHAPE_INDEX[name] for name in names]]
    assert mine.min() > 1.5 * np.abs(others).max() and mine.min() > 0.2


def test_gaps_come_back_and_shut_lips_stay_shut() -> None:
    rows = [{"jawOpen": jaw} for jaw in (0.0, 0.2, 0.4, 0.6)] + [{"mouthSmile": 0.5}]
    went_in = motion(*rows)
    came_out = motion_of_keypoints(track(keypoint_expression(went_in)), np.zeros((21, 3)))
    assert gap(came_out)[1:4] == pytest.approx(gap(went_in)[1:4], rel=0.3)
    assert gap(came_out)[[0, 4]] == pytest.approx([0, 0], abs=0.005)


def test_whose_face_it_is_makes_no_difference() -> None:
    """Without a neutral expression, that of the frame at rest counts, whatever the extractor says of it."""
    moved = keypoint_expression(motion({"jawOpen": 0.4}, {}, {"mouthSmile": 0.4}, {"eyeBlink": 1.0}))
    person = np.random.default_rng(2).normal(0, 0.02, (21, 3))
    one = motion_of_keypoints(track(moved))
    other = motion_of_keypoints(track(np.float32(moved + person)))
    np.testing.assert_allclose(one.blendshapes, other.blendshapes, atol=1e-4)
    np.testing.assert_allclose(
        one.blendshapes, motion_of_keypoints(track(moved), np.zeros((21, 3))).blendshapes, atol=1e-4
    )


def test_a_track_without_frames_is_refused() -> None:
    with pytest.raises(InputError, match="no frames"):
        motion_of_keypoints(track(np.zeros((0, 21, 3), np.float32)))
    assert keypoint_expression(motion({}).part(0, 0)).shape == (0, 21, 3)


def test_heads_turn_with_the_signs_of_a_motion() -> None:
    """Rows times R; x right, y down, z away: the nose points to -z."""
    cos, sin = np.cos(np.radians(10)), np.sin(np.radians(10))
    down = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    right = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    clockwise = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    nose, crown = np.array([0, 0, -1.0]), np.array([0, -1.0, 0])
    assert (nose @ down)[Y] > 0 and (nose @ right)[X] > 0 and (crown @ clockwise)[X] > 0
    rotations = np.stack([np.eye(3), down, right, clockwise])
    expected = [[0, 0, 0], [10, 0, 0], [0, 10, 0], [0, 0, 10]]
    np.testing.assert_allclose(head_turns_deg(rotations, rotations[0]), expected, atol=1e-4)
    # Turns are relative to the reference, about the axes of the head.
    np.testing.assert_allclose(head_turns_deg(rotations @ right, right), expected, atol=1e-4)
    turned = motion_of_keypoints(track(np.zeros((4, 21, 3), np.float32), rotations))
    np.testing.assert_allclose(turned.head_pose_deg, expected, atol=1e-4)
