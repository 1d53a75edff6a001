"""The frames of the mesh engine, measured with a face landmarker."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
from support.paths import DEMO_SPEECH

from vortex.demo import demo_portrait
from vortex.engines.mesh.commands import aperture
from vortex.engines.mesh.engine import MeshEngine
from vortex.engines.mesh.prepare import MeshPortrait
from vortex.face.crop import crop_face
from vortex.face.landmarks import (
    BROWS,
    CHIN,
    INNER_LIPS,
    IRIS_CENTRES,
    LEFT_EYE,
    LIDS,
    OUTER_EYE_CORNERS,
)
from vortex.face.portrait import detect_portrait, load_portrait
from vortex.face.shapes import load_shapes
from vortex.lipsync.recognize import recognize_visemes
from vortex.lipsync.visemes import coarticulate
from vortex.media.audio import load_audio
from vortex.motion.drive import drive, expand
from vortex.types import Frame, MotionTrack, PhonemeSpan, VisemeTrack

FPS = Fraction(24)
PORTRAITS = {
    "glasses": demo_portrait(),
    "smile with teeth": Path(skimage.__file__).parent / "data" / "astronaut.png",
}
SPEECH = DEMO_SPEECH
UPPER_LID, LOWER_LID, INNER_CORNER, OUTER_CORNER = LEFT_EYE
FOREHEAD_SKIN = [10, 109, 338, 151, 9]


@pytest.fixture(scope="module", params=PORTRAITS, ids=list(PORTRAITS))
def prepared(request: pytest.FixtureRequest) -> MeshPortrait:
    return MeshEngine().prepare(load_portrait(PORTRAITS[request.param]))


@pytest.fixture(scope="module")
def smiling() -> MeshPortrait:
    return MeshEngine().prepare(load_portrait(PORTRAITS["smile with teeth"]))


def posed(*rows: dict[str, float], pose_deg: tuple[float, float, float] = (0, 0, 0)) -> MotionTrack:
    shapes = np.stack([expand(row) for row in rows])
    return MotionTrack(shapes, np.tile(np.array(pose_deg, np.float32), (len(rows), 1)), FPS)


def landmarks(frame: Frame) -> np.ndarray:
    return detect_portrait(frame).landmarks_px[:, :2]


def lip_gap(frame: Frame) -> float:
    """Return the inner-lip opening in outer-eye widths."""
    points = landmarks(frame)
    return float(
        np.linalg.norm(np.subtract(*points[list(INNER_LIPS)]))
        / np.linalg.norm(np.subtract(*points[list(OUTER_EYE_CORNERS)]))
    )


def lid_gap(frame: Frame) -> float:
    points = landmarks(frame)
    return float(
        np.linalg.norm(points[UPPER_LID] - points[LOWER_LID])
        / np.linalg.norm(points[INNER_CORNER] - points[OUTER_CORNER])
    )


def frames_of(prepared: MeshPortrait, motion: MotionTrack) -> Iterator[Frame]:
    return MeshEngine().iter_frames(prepared, motion)


def test_rendered_lips_follow_the_commanded_opening_without_lag(prepared: MeshPortrait) -> None:
    motion = drive(recognize_visemes(load_audio(SPEECH), FPS), "neutral", 1)
    measured = np.array([lip_gap(frame) for frame in frames_of(prepared, motion)])
    wanted = aperture(motion)
    scores = [np.corrcoef(np.roll(measured, -lag)[3:-3], wanted[3:-3])[0, 1] for lag in (-2, -1, 0, 1, 2)]
    assert int(np.argmax(scores)) == 2
    assert scores[2] > 0.9
    assert np.median(np.abs(measured - wanted)) < 0.02


def test_pa_ma_ba_closes_the_lips_on_the_picture_when_it_does_in_the_sound(prepared: MeshPortrait) -> None:
    closures_s, spans, time_s = [], [], 0.3
    for consonant in ("P", "M", "B"):
        closures_s.append(time_s + 0.045)
        spans += [
            PhonemeSpan(consonant, time_s, time_s + 0.09),
            PhonemeSpan("AA", time_s + 0.09, time_s + 0.34),
        ]
        time_s += 0.34
    frames = round((time_s + 0.3) * FPS)
    visemes = VisemeTrack(coarticulate(spans, frames, FPS), np.ones(frames, np.float32), FPS)
    gaps = np.array([lip_gap(frame) for frame in frames_of(prepared, drive(visemes, "neutral", 3))])
    for closure_s in closures_s:
        frame = round(closure_s * 24 - 0.5)
        near = gaps[frame - 2 : frame + 3]
        assert near.min() < 0.02, closure_s
        # The vowel that follows is open, so the mouth does not simply stay shut.
        assert gaps[frame + 3 : frame + 7].max() > 0.05, closure_s


def test_a_smile_with_teeth_closes(smiling: MeshPortrait) -> None:
    assert lip_gap(crop_face(load_portrait(PORTRAITS["smile with teeth"]), 512).image) > 0.08
    (closed,) = frames_of(smiling, posed({"mouthClose": 1.0}))
    assert lip_gap(closed) < 0.015


def test_lids_close_and_a_half_blink_is_between(smiling: MeshPortrait) -> None:
    rows = [{"eyeBlink": amount, "mouthClose": 1.0} for amount in (0.0, 0.5, 1.0)]
    wide, half, shut = (lid_gap(frame) for frame in frames_of(smiling, posed(*rows)))
    assert shut < 0.45 * wide
    assert shut < half < wide


@pytest.mark.parametrize(
    ("pose_deg", "axis"), [((8, 0, 0), 0), ((-8, 0, 0), 0), ((0, 12, 0), 1), ((0, -12, 0), 1), ((0, 0, 8), 2)]
)
def test_the_head_turns_in_the_commanded_direction(
    smiling: MeshPortrait, pose_deg: tuple[float, float, float], axis: int
) -> None:
    still, turned = (
        detect_portrait(next(frames_of(smiling, posed({"mouthClose": 1.0}, pose_deg=pose)))).head_pose_deg
        for pose in ((0.0, 0.0, 0.0), pose_deg)
    )
    moved = (turned - still)[axis]
    assert np.sign(moved) == np.sign(pose_deg[axis])
    assert 0.6 * abs(pose_deg[axis]) < abs(moved) < 1.4 * abs(pose_deg[axis])


def test_the_iris_moves_with_the_gaze_and_the_lids_stay(smiling: MeshPortrait) -> None:
    rows = [{name: 1.0, "mouthClose": 1.0} for name in ("eyeLookRight", "eyeLookLeft")]
    frames = list(frames_of(smiling, posed(*rows)))
    right, left = map(landmarks, frames)
    # The person's left is the viewer's right.
    iris, (outer, inner) = IRIS_CENTRES[0], LIDS["Right"][0][[0, -1]]
    assert (left[iris] - right[iris])[0] > 0.08 * np.linalg.norm(right[outer] - right[inner])
    openings = np.zeros(frames[0].shape[:2], np.uint8)
    for upper, lower in LIDS.values():
        outline = smiling.landmarks_px[np.concatenate([upper, lower[::-1]]), :2]
        cv2.fillPoly(openings, [np.round(outline).astype(np.int32)], 255)
    outside = cv2.dilate(openings, np.ones((5, 5), np.uint8)) == 0
    # A difference of one level of 255 is rounding at the rim.
    changed = np.any(np.abs(frames[0].astype(int) - frames[1]) > 1, axis=2)
    assert changed.any()
    assert not (changed & outside).any()


def test_everything_away_from_the_face_is_still(prepared: MeshPortrait) -> None:
    region = prepared.region
    outside = np.ones(prepared.canvas.shape[:2], bool)
    width, height = region.size_px
    outside[region.y0 : region.y0 + height, region.x0 : region.x0 + width] = False
    motion = drive(recognize_visemes(load_audio(SPEECH), FPS), "manic", 1)
    for frame in frames_of(prepared, motion):
        assert np.array_equal(frame[outside], prepared.canvas[outside])


def test_a_closed_neutral_face_is_the_photo(prepared: MeshPortrait) -> None:
    (frame,) = frames_of(prepared, posed({"mouthClose": 1.0}))
    points = prepared.landmarks_px[:, :2]
    forehead = points[FOREHEAD_SKIN]
    low, high = forehead.min(0).astype(int), forehead.max(0).astype(int)
    patch = np.s_[low[1] : high[1], low[0] : high[0]]
    assert np.abs(frame[patch].astype(int) - prepared.canvas[patch]).mean() < 2


def test_same_seed_gives_identical_frames_and_another_seed_others(prepared: MeshPortrait) -> None:
    visemes = recognize_visemes(load_audio(SPEECH), FPS)
    first, same, other = (
        np.stack(list(frames_of(prepared, drive(visemes, "excited", seed)))) for seed in (7, 7, 8)
    )
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_threads_render_what_one_thread_renders(prepared: MeshPortrait) -> None:
    visemes = recognize_visemes(load_audio(SPEECH), FPS)

    def render(seed: int) -> np.ndarray:
        return np.stack(list(frames_of(prepared, drive(visemes, "manic", seed))))

    serial = [render(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(serial, pool.map(render, range(4)), strict=True):
            assert np.array_equal(one, other)


def test_frames_come_one_by_one_and_belong_to_the_caller(prepared: MeshPortrait) -> None:
    frames = frames_of(prepared, posed(*[{"mouthClose": 1.0}] * 3))
    first = next(frames)
    first[:] = 0
    assert next(frames).max() > 0
    assert prepared.canvas.max() > 0


def test_a_blink_leaves_brows_and_glasses_where_they_are(prepared: MeshPortrait) -> None:
    wide, shut = frames_of(prepared, posed({"mouthClose": 1.0}, {"mouthClose": 1.0, "eyeBlink": 1.0}))
    for side, brow in BROWS.items():
        upper = prepared.landmarks_px[LIDS[side][0], :2]
        width_px = np.linalg.norm(upper[-1] - upper[0])
        strip = np.zeros(wide.shape[:2], np.uint8)
        line = np.round(prepared.landmarks_px[brow, :2]).astype(np.int32)
        cv2.polylines(strip, [line], False, 255, max(int(0.06 * width_px), 1))
        moved = np.abs(shut[strip > 0].astype(int) - wide[strip > 0]).mean()
        assert moved < 3, side


@pytest.mark.parametrize("jaw_open", [0.0, 0.3, 0.6])
def test_a_wide_open_source_mouth_moves_without_folding_the_chin(jaw_open: float) -> None:
    photo = crop_face(load_portrait(PORTRAITS["smile with teeth"]), 512)
    landmarks_px = photo.landmarks_px.copy()
    eye_width_px = np.linalg.norm(np.subtract(*landmarks_px[list(OUTER_EYE_CORNERS), :2]))
    landmarks_px += 0.25 * eye_width_px * load_shapes().columns(("jawOpen",))[0] / 0.4
    # Each row has its own grey: a fold would bring rows into the wrong order.
    ramp = np.repeat(np.arange(512)[:, None, None] // 2, 512, axis=1).repeat(3, axis=2).astype(np.uint8)
    prepared = MeshEngine().prepare(replace(photo, image=ramp, landmarks_px=landmarks_px), size_px=512)
    (frame,) = frames_of(prepared, posed({"jawOpen": jaw_open, "mouthClose": float(jaw_open == 0)}))
    x, lip_y = np.round(prepared.landmarks_px[INNER_LIPS[1], :2]).astype(int)
    below_lip = frame[lip_y + 3 : round(float(prepared.landmarks_px[CHIN, 1])) + 30, x - 20 : x + 21, 1]
    backwards = np.minimum(np.diff(below_lip.astype(int), axis=0), 0).sum(axis=0)
    # The antialiased rim of the lip may differ by a level or two.
    assert backwards.min() >= -2
