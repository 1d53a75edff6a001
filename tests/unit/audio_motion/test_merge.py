"""What a learned motion moves, where recognised sounds hold the lips, and when frames are shown."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from vortex.audio_motion.base import REGIONS
from vortex.audio_motion.merge import LIPS, MOUTH, at_rate_of, lips_held, merge_motion, opened
from vortex.face.pose import rotation_of_pose
from vortex.lipsync.visemes import coarticulate
from vortex.motion.drive import drive
from vortex.motion.keypoints import keypoint_expression
from vortex.motion.transfer import KeypointChange, Motion
from vortex.types import (
    BLENDSHAPE_INDEX,
    BLENDSHAPES,
    F32,
    KeypointTrack,
    MotionTrack,
    PhonemeSpan,
    VisemeTrack,
)

FPS = Fraction(25)
FRAMES = 75
SPANS = [
    PhonemeSpan("AA", 0.0, 1.0),
    PhonemeSpan("B", 1.0, 1.1),
    PhonemeSpan("AA", 1.1, 1.5),
    PhonemeSpan("AA", 2.0, 3.0),
]
"""A b in its frames 25 to 27, and half a second of silence in its frames 38 to 49."""
B, SILENCE = 26, 44


def visemes(fps: Fraction = FPS, frames: int = FRAMES) -> VisemeTrack:
    return VisemeTrack(coarticulate(SPANS, frames, fps), np.ones(frames, np.float32), fps)


def learned(exp: F32, pose_deg: F32 | None = None) -> KeypointTrack:
    """Return a track whose rest has the expression 0.1 everywhere and no turn."""
    frames = len(exp)
    turn = np.tile(np.eye(3), (frames, 1, 1))
    if pose_deg is not None:
        # to x right, y down, z away, and to rows times R
        axes = np.diag([1.0, -1.0, -1.0])
        turn = (axes @ rotation_of_pose(pose_deg) @ axes).swapaxes(1, 2)
    one = np.ones(frames, np.float32)
    track = KeypointTrack(exp + np.float32(0.1), turn, one, np.zeros((frames, 3)), FPS)
    rest = KeypointTrack(np.full((1, 21, 3), 0.1), np.eye(3)[None], np.ones(1), np.zeros((1, 3)), FPS)
    return replace(track, neutral=rest)


def merged(track: KeypointTrack, region: str = "lips", *, keypoints: bool) -> Motion:
    return merge_motion(track, visemes(), "neutral", 3, region, keypoints=keypoints)


def spoken(amounts: dict[str, float]) -> KeypointTrack:
    """Return a track of a face that holds blendshapes, as LivePortrait's extractor sees it."""
    shapes = np.zeros((FRAMES, len(BLENDSHAPES)), np.float32)
    for name, amount in amounts.items():
        shapes[:, BLENDSHAPE_INDEX[name]] = amount
    return learned(keypoint_expression(MotionTrack(shapes, np.zeros((FRAMES, 3)), FPS)))


def test_lips_are_held_in_a_b_and_in_a_long_silence_only() -> None:
    held = lips_held(visemes())
    assert held[B] > 0.95 and held[SILENCE] > 0.95
    assert held[5:23].max() == 0 and held[55:].max() == 0
    # 0.12 s of silence do not hold
    short = [PhonemeSpan("AA", 0.0, 1.0), PhonemeSpan("AA", 1.12, 3.0)]
    track = VisemeTrack(coarticulate(short, FRAMES, FPS), np.ones(FRAMES, np.float32), FPS)
    assert lips_held(track)[5:].max() < 0.05


def test_an_opening_keeps_what_is_wide_and_drops_what_is_narrow() -> None:
    curve = np.array([1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 0, 0.5, 0.5, 0.5, 0.2], np.float32)
    expected = [1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0.5, 0.5, 0.5, 0.2]
    assert opened(curve, 3) == pytest.approx(expected)
    assert opened(curve, 1) == pytest.approx(curve)


def test_lips_get_the_change_from_rest_as_it_is() -> None:
    exp = np.random.default_rng(0).normal(0, 0.01, (1, 21, 3)).astype(np.float32).repeat(FRAMES, axis=0)
    motion = merged(learned(exp), keypoints=True)
    assert isinstance(motion, KeypointChange)
    free = lips_held(visemes()) == 0
    assert np.allclose(motion.exp[free][:, LIPS], exp[free][:, LIPS], atol=1e-6)
    others = np.setdiff1d(np.arange(21), LIPS)
    assert not motion.exp[:, others].any()
    assert np.abs(motion.exp[[B, SILENCE]]).max() < 0.05 * np.abs(exp).max()


def test_head_gaze_blinks_and_brows_are_ours_where_only_lips_are_learned() -> None:
    exp = np.full((FRAMES, 21, 3), 0.02, np.float32)
    ours = drive(visemes(), "neutral", 3)
    away = [name for name in BLENDSHAPES if name.startswith(("eye", "brow"))]
    columns = [BLENDSHAPE_INDEX[name] for name in away]
    for keypoints in (True, False):
        motion = merged(learned(exp, np.full((FRAMES, 3), 8.0, np.float32)), keypoints=keypoints)
        face = motion.face if isinstance(motion, KeypointChange) else motion
        assert isinstance(face, MotionTrack)
        assert np.array_equal(face.head_pose_deg, ours.head_pose_deg)
        assert np.array_equal(face.blendshapes[:, columns], ours.blendshapes[:, columns])


@pytest.mark.parametrize("keypoints", [True, False])
def test_regions_move_what_they_say(keypoints: bool) -> None:
    track = spoken({"jawOpen": 0.5, "browInnerUp": 0.6, "browOuterUpLeft": 0.6, "browOuterUpRight": 0.6})
    pose_deg = np.tile(np.float32([5, -4, 2]), (FRAMES, 1))
    turned = replace(track, rotation=learned(track.exp, pose_deg).rotation)
    brow, jaw = BLENDSHAPE_INDEX["browInnerUp"], BLENDSHAPE_INDEX["jawOpen"]
    for region in REGIONS:
        motion = merged(turned, region, keypoints=keypoints)
        face = motion.face if isinstance(motion, KeypointChange) else motion
        assert isinstance(face, MotionTrack)
        if isinstance(motion, KeypointChange):
            assert motion.exp[10, 19].any()
            assert motion.exp[10, [1, 2]].any() == (region != "lips")
        else:
            assert face.blendshapes[10, jaw] > 0.3
            assert (face.blendshapes[10, brow] > 0.3) == (region != "lips")
        if region == "all":
            assert np.allclose(face.head_pose_deg, pose_deg, atol=0.1)
        else:
            assert np.array_equal(face.head_pose_deg, drive(visemes(), "neutral", 3).head_pose_deg)


def test_a_mesh_mouth_opens_as_the_keypoints_say_and_shuts_for_a_b() -> None:
    motion = merged(
        spoken({"jawOpen": 0.5, "mouthLowerDownLeft": 0.4, "mouthLowerDownRight": 0.4}), keypoints=False
    )
    assert isinstance(motion, MotionTrack)
    jaw, close = (motion.blendshapes[:, BLENDSHAPE_INDEX[name]] for name in ("jawOpen", "mouthClose"))
    assert jaw[10] == pytest.approx(0.5, abs=0.15) and close[10] < 0.3
    for frame in (B, SILENCE):
        assert close[frame] > 0.95 and jaw[frame] < 0.05


def test_a_face_at_rest_leaves_the_mouth_alone() -> None:
    rest = learned(np.zeros((FRAMES, 21, 3), np.float32))
    change = merged(rest, keypoints=True)
    assert isinstance(change, KeypointChange) and not change.exp.any()
    shapes = merged(rest, keypoints=False)
    assert isinstance(shapes, MotionTrack)
    opening = [column for column in MOUTH if BLENDSHAPES[column] != "mouthClose"]
    assert np.abs(shapes.blendshapes - change.face.blendshapes)[:, opening].max() < 0.02


@pytest.mark.parametrize("fps", [Fraction(24), Fraction(30000, 1001), Fraction(25), Fraction(60)])
def test_frames_show_the_motion_at_their_middle(fps: Fraction) -> None:
    times_s = (np.arange(FRAMES) + 0.5) / 25
    exp = np.tile(np.sin(2 * np.pi * times_s)[:, None, None], (1, 21, 3)).astype(np.float32)
    frames = round(3 * fps)
    shown = at_rate_of(learned(exp), visemes(fps, frames))
    assert len(shown) == frames and shown.fps == fps
    middle_s = (np.arange(frames) + 0.5) / float(fps)
    inner = (middle_s > 0.1) & (middle_s < 2.9)
    # smoothing and interpolation lower the wave by about 1 %, and do not shift it
    assert np.allclose(shown.exp[inner, 0, 0], (np.sin(2 * np.pi * middle_s) + 0.1)[inner], atol=0.02)


def test_a_change_of_the_wrong_shape_is_refused() -> None:
    face = drive(visemes(), "neutral", 0)
    with pytest.raises(ValueError, match=r"KeypointChange.exp has shape \(3, 21, 3\); give \(75, 21, 3\)"):
        KeypointChange(face, np.zeros((3, 21, 3), np.float32))
    part = KeypointChange(face, np.zeros((FRAMES, 21, 3), np.float32)).part(70, 10)
    assert len(part) == 5 and part.fps == FPS
