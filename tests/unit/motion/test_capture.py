"""The motion of a face in a video, from landmarks that were moved and turned by known amounts."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from vortex.demo import demo_portrait
from vortex.engines.mesh.commands import aperture
from vortex.face.landmarks import INNER_LIPS, LIDS, OUTER_EYE_CORNERS
from vortex.face.portrait import load_portrait
from vortex.face.pose import rotation_of_pose
from vortex.face.shapes import load_shapes
from vortex.face.tracking import FaceTrack
from vortex.motion.capture import capture_motion
from vortex.types import BLENDSHAPE_INDEX, Portrait

FPS = Fraction(25)
FLIP = np.array([1, -1, -1])
"""From pictures (y down, z away) to the frame of rotations (y up, z towards the viewer), and back."""


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return load_portrait(demo_portrait())


def seen(
    portrait: Portrait, poses_deg: np.ndarray, *, opening: np.ndarray | None = None, fps: float = 25.0
) -> FaceTrack:
    """Return the portrait's own face in T poses (T, 3), with lips open by (T,) outer-eye widths."""
    frames = len(poses_deg)
    source = rotation_of_pose(portrait.head_pose_deg)
    frontal = (portrait.landmarks_px.astype(np.float64) * FLIP) @ source
    eye = np.linalg.norm(np.subtract(*frontal[list(OUTER_EYE_CORNERS), :2]))
    faces = np.tile(frontal, (frames, 1, 1))
    if opening is not None:
        top, bottom = INNER_LIPS
        (jaw,) = load_shapes().columns(("jawOpen",))
        amounts = opening / (jaw[bottom, 1] - jaw[top, 1])
        faces += eye * amounts[:, None, None] * jaw * FLIP
    rotations = rotation_of_pose(poses_deg)
    landmarks = (faces @ rotations.swapaxes(1, 2)) * FLIP
    return FaceTrack(np.arange(frames) / fps, landmarks.astype(np.float32), rotations)


def column(motion, name: str) -> np.ndarray:  # type: ignore[no-untyped-def]
    return motion.blendshapes[:, BLENDSHAPE_INDEX[name]]


def test_a_turn_is_relative_to_the_usual_pose(portrait: Portrait) -> None:
    poses = np.tile([4.0, -9.0, 3.0], (41, 1))
    poses[[0, 30]] += [0, 8, 0]
    # The turned frames have the portrait's expression a little more exactly, which does not count as much.
    opening = np.full(41, 0.02)
    opening[[0, 30]] = 0
    motion = capture_motion(seen(portrait, poses, opening=opening), FPS, portrait)
    np.testing.assert_allclose(motion.head_pose_deg[5:25], 0, atol=0.05)
    assert motion.head_pose_deg[30, 1] == motion.head_pose_deg[5:, 1].max() > 5
    # The portrait looks nearly to the front: a turn is a turn.
    assert np.abs(motion.head_pose_deg[30, [0, 2]]).max() < 1.5


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_each_angle_keeps_its_sign_and_size(portrait: Portrait, axis: int) -> None:
    poses = np.zeros((41, 3))
    poses[20:, axis] = 10  # a step; half of the frames are at rest
    motion = capture_motion(seen(portrait, poses), FPS, portrait)
    assert motion.head_pose_deg[-5, axis] - motion.head_pose_deg[5, axis] == pytest.approx(10, abs=0.3)


def test_a_head_that_is_seen_from_the_side_nods_as_one_from_the_front(portrait: Portrait) -> None:
    side, nod = rotation_of_pose(np.array([0, 35.0, 0])), rotation_of_pose(np.array([9.0, 0, 0]))
    track = seen(portrait, np.tile([0, 35.0, 0], (21, 1)))
    rotations = track.rotations.copy()
    rotations[14:] = side @ nod
    landmarks = track.landmarks_px.copy()
    turned = landmarks.astype(np.float64)[14:] * FLIP
    landmarks[14:] = (turned @ side @ nod.T @ side.T) * FLIP
    motion = capture_motion(FaceTrack(track.times_s, landmarks, rotations), FPS, portrait)
    assert motion.head_pose_deg[-1, 0] == pytest.approx(9, abs=0.3)
    # In the picture, a head at 35 degrees that nods also tilts; that must not reach the portrait.
    assert np.abs(motion.head_pose_deg[-1, 1:]).max() < 1.0


def test_openings_come_at_their_time_without_delay(portrait: Portrait) -> None:
    opening = np.full(50, 0.0)
    opening[20] = 0.2
    opening[35:38] = 0.15
    motion = capture_motion(seen(portrait, np.zeros((50, 3)), opening=opening), FPS, portrait)
    gap = aperture(motion)
    assert gap[:30].argmax() == 20
    assert gap[36] == pytest.approx(gap[30:].max(), abs=0.005)
    assert gap[19] == pytest.approx(gap[21], abs=1e-3), "the smoothing is symmetric"
    assert gap[[5, 45]].max() < 0.01


def test_a_shut_eye_is_a_blink_of_that_eye_alone(portrait: Portrait) -> None:
    track = seen(portrait, np.zeros((30, 3)))
    landmarks = track.landmarks_px.copy()
    upper, lower = LIDS["Left"]
    landmarks[14:18, upper] = landmarks[14:18, lower]
    motion = capture_motion(FaceTrack(track.times_s, landmarks, track.rotations), FPS, portrait)
    assert column(motion, "eyeBlinkLeft")[15] > 0.95
    assert column(motion, "eyeBlinkLeft")[[5, 25]].max() < 0.05
    assert column(motion, "eyeBlinkRight").max() < 0.05


def test_gaps_are_bridged_and_ends_are_held(portrait: Portrait) -> None:
    opening = np.linspace(0.05, 0.2, 31)
    whole = seen(portrait, np.zeros((31, 3)), opening=opening)
    landmarks, rotations = np.array(whole.landmarks_px), np.array(whole.rotations)
    for array in (landmarks, rotations):
        array[[0, 1, 10, 11, 12, 29, 30]] = np.nan
    gaps = FaceTrack(whole.times_s, landmarks, rotations)
    bridged, full = (aperture(capture_motion(t, FPS, portrait)) for t in (gaps, whole))
    assert np.isfinite(bridged).all()
    np.testing.assert_allclose(bridged[4:27], full[4:27], atol=1e-3)
    assert bridged[0] == pytest.approx(full[2], abs=5e-3)
    assert bridged[-1] == pytest.approx(full[28], abs=5e-3)


@pytest.mark.parametrize("fps", [Fraction(24), Fraction(50), Fraction(30_000, 1001)])
def test_another_rate_shows_the_same_at_the_same_time(portrait: Portrait, fps: Fraction) -> None:
    # Frame i of the video shows the middle of its time.
    shown_s = (np.arange(100) + 0.5) / 25
    track = seen(portrait, np.zeros((100, 3)), opening=0.1 + 0.08 * np.sin(2 * np.pi * shown_s))
    motion = capture_motion(track, fps, portrait)
    assert len(motion) == round(4 * fps)
    middle_s = (np.arange(len(motion)) + 0.5) / float(fps)
    expected = 0.1 + 0.08 * np.sin(2 * np.pi * middle_s)
    inner = (middle_s > 0.1) & (middle_s < 3.9)
    np.testing.assert_allclose(aperture(motion)[inner], expected[inner], atol=0.025)


def test_a_variable_rate_is_followed_by_its_time_stamps(portrait: Portrait) -> None:
    kept = np.sort(np.random.default_rng(2).permutation(np.arange(1, 99))[:60])
    kept = np.r_[0, kept, 99]
    opening = 0.1 + 0.08 * np.sin(2 * np.pi * (kept + 0.5) / 25 / 2)
    track = seen(portrait, np.zeros((len(kept), 3)), opening=opening)
    track = FaceTrack(kept / 25, track.landmarks_px, track.rotations)
    motion = capture_motion(track, FPS, portrait, frames=100)
    expected = 0.1 + 0.08 * np.sin(2 * np.pi * (np.arange(100) + 0.5) / 25 / 2)
    np.testing.assert_allclose(aperture(motion), expected, atol=0.03)


def test_a_longer_motion_holds_its_end(portrait: Portrait) -> None:
    motion = capture_motion(seen(portrait, np.zeros((10, 3))), FPS, portrait, frames=30)
    assert len(motion) == 30
    np.testing.assert_array_equal(motion.blendshapes[15:], np.tile(motion.blendshapes[15], (15, 1)))


def test_the_reference_is_the_frame_with_the_portraits_expression(portrait: Portrait) -> None:
    opening = np.full(20, 0.25)
    opening[13] = 0
    # The head moves all the time: only at the reference it does not.
    poses = np.column_stack([np.zeros(20), np.linspace(-3, 3, 20), np.zeros(20)])
    motion = capture_motion(seen(portrait, poses, opening=opening), FPS, portrait)
    assert np.abs(motion.head_pose_deg[:, 1]).argmin() == 13
