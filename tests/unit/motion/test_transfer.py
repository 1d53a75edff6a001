"""Tracks of keypoints in time, and which part of a motion of blendshapes a portrait takes over."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp
from support.tracks import moving_track, turn

from vortex.errors import InputError
from vortex.motion.transfer import (
    REGIONS,
    KeypointMotion,
    MotionTransfer,
    joined_keypoints,
    nearest_rotation,
    resample_keypoints,
    transfer_blendshapes,
    without_head_motion,
)
from vortex.types import BLENDSHAPE_INDEX, BLENDSHAPES, KeypointTrack, MotionTrack

FIELDS = ("exp", "rotation", "scale", "translation", "eye_ratios", "lip_ratio")


def assert_equal(one: KeypointTrack, other: KeypointTrack, atol: float = 0.0) -> None:
    assert one.fps == other.fps
    for name in FIELDS:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=atol)


def test_at_its_own_times_a_track_stays_as_it_is() -> None:
    track = moving_track()
    times_s = np.arange(6) / 25
    assert_equal(resample_keypoints(track, times_s, times_s, track.fps), track, atol=1e-7)


def test_between_frames_numbers_are_interpolated_and_rotations_turn_evenly() -> None:
    angles = np.random.default_rng(4).uniform(-5, 5, (12, 3))
    track = replace(moving_track(12), rotation=np.stack([turn(*row) for row in angles]))
    times_s, wanted_s = np.arange(12) / 25, np.linspace(0, 11 / 25, 40)
    found = resample_keypoints(track, times_s, wanted_s, Fraction(90))
    expected = np.interp(wanted_s, times_s, track.exp[:, 3, 1])
    np.testing.assert_allclose(found.exp[:, 3, 1], expected, atol=1e-7)
    turns = Slerp(times_s, Rotation.from_matrix(track.rotation))(wanted_s)
    apart = (Rotation.from_matrix(found.rotation).inv() * turns).magnitude()
    step = (
        Rotation.from_matrix(track.rotation[1:]) * Rotation.from_matrix(track.rotation[:-1]).inv()
    ).magnitude()
    assert 10 < np.degrees(step.max()) < 20
    assert apart.max() < 2e-3 * step.max()
    identity = found.rotation @ found.rotation.swapaxes(1, 2)
    np.testing.assert_allclose(identity, np.tile(np.eye(3), (40, 1, 1)), atol=1e-12)


def test_beyond_its_ends_a_track_holds_and_starts_from_its_own_first_frame() -> None:
    track = moving_track()
    found = resample_keypoints(track, np.arange(6) / 25, np.array([-1.0, 0.1, 9.0]), Fraction(25))
    np.testing.assert_allclose(found.exp[[0, 2]], track.exp[[0, 5]], atol=1e-7)
    later = resample_keypoints(track, np.arange(6) / 25, np.array([0.12]), Fraction(25))
    assert_equal(later.reference, track.part(0, 1))
    rest = moving_track(seed=4).part(0, 1)
    kept = resample_keypoints(replace(track, neutral=rest), np.arange(6) / 25, np.array([0.1]), Fraction(25))
    assert_equal(kept.reference, rest)


def test_what_a_track_does_not_tell_stays_unknown() -> None:
    bare = replace(moving_track(), eye_ratios=None, lip_ratio=None)
    found = resample_keypoints(bare, np.arange(6) / 25, np.array([0.1]), Fraction(25))
    assert found.eye_ratios is None and found.lip_ratio is None
    assert joined_keypoints([bare, moving_track()]).lip_ratio is None


def test_parts_that_are_joined_are_the_whole() -> None:
    track = moving_track()
    assert_equal(joined_keypoints([track.part(0, 2), track.part(2, 9)]), track)


def test_the_nearest_rotation_of_a_rotation_is_itself() -> None:
    rotation = turn(10, -20, 30)
    np.testing.assert_allclose(nearest_rotation(1.3 * rotation), rotation, atol=1e-12)
    assert np.linalg.det(nearest_rotation(-np.eye(3))) == pytest.approx(1)


def test_a_part_of_a_motion_keeps_where_it_starts_from() -> None:
    motion = KeypointMotion(moving_track(), amount=np.linspace(0, 1, 6, dtype=np.float32))
    part = motion.part(2, 3)
    assert len(part) == 3
    np.testing.assert_allclose(part.amounts, [0.4, 0.6, 0.8])
    assert part.first is motion.first
    assert_equal(part.track.reference, motion.track.part(0, 1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"region": "nose"}, "region is 'nose'; give one of all, expression, pose, lips, eyes"),
        ({"motion": "fast"}, "give one of relative, absolute"),
        ({"scaling": "none"}, "give one of expression, pose"),
    ],
)
def test_unknown_names_are_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MotionTransfer(**given)  # type: ignore[arg-type]


def test_an_amount_is_needed_for_each_frame() -> None:
    with pytest.raises(InputError, match=r"amount has shape \(5,\); give \(6,\)"):
        KeypointMotion(moving_track(), amount=np.ones(5, np.float32))


MOVES = {
    "jawOpen": "lips",
    "mouthClose": "lips",
    "mouthSmileLeft": "lips",
    "tongueUp": "lips",
    "cheekPuff": "lips",
    "eyeBlinkLeft": "eyes",
    "eyeLookUp": "eyes",
    "eyeWideRight": "eyes",
    "browInnerUp": "",
    "noseSneerLeft": "",
}


def motion() -> MotionTrack:
    random = np.random.default_rng(1)
    shapes = random.uniform(0.1, 0.9, (4, len(BLENDSHAPES)))
    return MotionTrack(shapes, random.uniform(1, 5, (4, 3)), Fraction(25))


OWN = np.full(len(BLENDSHAPES), 0.05, np.float32)


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_moves_its_blendshapes_and_no_others(region: str) -> None:
    whole = motion()
    found = transfer_blendshapes(whole, OWN, MotionTransfer(region), np.ones(4))
    for name, part in MOVES.items():
        column = BLENDSHAPE_INDEX[name]
        moves = region in ("all", "expression", part)
        expected = whole.blendshapes[:, column] if moves else OWN[column]
        np.testing.assert_allclose(found.blendshapes[:, column], expected, atol=1e-6)
    turns = whole.head_pose_deg if region in ("all", "pose") else np.zeros((4, 3))
    np.testing.assert_allclose(found.head_pose_deg, turns)


def test_the_amount_is_the_share_of_the_way_from_the_portraits_own_face() -> None:
    whole = motion()
    found = transfer_blendshapes(whole, OWN, MotionTransfer(), np.array([0.0, 0.5, 1.0, 3.0]))
    np.testing.assert_allclose(found.blendshapes[0], OWN)
    np.testing.assert_allclose(found.blendshapes[1], (OWN + whole.blendshapes[1]) / 2, atol=1e-6)
    np.testing.assert_allclose(found.blendshapes[2], whole.blendshapes[2], atol=1e-6)
    assert found.blendshapes.max() == 1
    np.testing.assert_allclose(found.head_pose_deg, whole.head_pose_deg * [[0], [0.5], [1], [3]], rtol=1e-6)


def test_a_head_that_is_held_still_changes_nothing_else() -> None:
    still = without_head_motion(motion())
    assert isinstance(still, MotionTrack)
    assert not still.head_pose_deg.any()
    np.testing.assert_array_equal(still.blendshapes, motion().blendshapes)
    for region, left in (("all", "expression"), ("lips", "lips")):
        driven = without_head_motion(KeypointMotion(moving_track(), MotionTransfer(region)))
        assert isinstance(driven, KeypointMotion)
        assert driven.transfer.region == left and driven.amounts.min() == 1
    posed = without_head_motion(KeypointMotion(moving_track(), MotionTransfer("pose")))
    assert isinstance(posed, KeypointMotion) and not posed.amounts.any()
