"""A clip with other words: its own pixels outside the mouth, lips as wanted, and frames that pass through."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support.driving import FPS, click_track, frame_times_s, known_frames, known_motion, write_timed_video

from vortex.errors import InputError, NoFaceError
from vortex.face.landmarks import CHIN, FACE_SIDES, NOSE_BRIDGE, NOSE_TIP, OUTER_EYE_CORNERS
from vortex.face.portrait import iter_landmarks
from vortex.face.shapes import without_pose
from vortex.media.reading import iter_frames_in_order, iter_timed_frames
from vortex.media.video import encode_video
from vortex.options import RenderOptions
from vortex.performance import StageClock
from vortex.revoice.blending import region_mask
from vortex.revoice.clip import Clip, check_clip_options, is_clip, read_clip
from vortex.revoice.composing import MouthShare, compose
from vortex.revoice.lips import GAP, measure_lips
from vortex.revoice.renderer import ClipRenderer, Plan, plan_mouths, render_plan
from vortex.types import BLENDSHAPE_INDEX, BLENDSHAPES, Frame, MotionTrack

BLANK = slice(20, 24)
"""Frames of the clip without a face."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clip whose mouth opens three times, with a few frames without a face."""
    frames = known_frames(frame_times_s())
    for row in range(*BLANK.indices(len(frames))):
        frames[row] = np.full_like(frames[row], 90)
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    encode_video(path, iter(frames), click_track(), FPS, (256, 256))
    return path


@pytest.fixture(scope="module")
def clip(path: Path) -> Clip:
    return read_clip(path, 2.0, StageClock())


@pytest.fixture(scope="module")
def source(path: Path) -> list[Frame]:
    return [frame for _, frame in iter_timed_frames(path)]


def silence(frames: int) -> MotionTrack:
    shapes = np.zeros((frames, len(BLENDSHAPES)), np.float32)
    shapes[:, BLENDSHAPE_INDEX["mouthClose"]] = 1
    return MotionTrack(shapes, np.zeros((frames, 3), np.float32), FPS)


def lips(frames: list[Frame]) -> np.ndarray:
    found = [points for points in iter_landmarks(frames) if points is not None]
    return measure_lips(without_pose(np.array(found)))


def test_frames_keep_size_and_rate_and_what_is_not_mouth(clip: Clip, source: list[Frame]) -> None:
    assert clip.size_px == (256, 256)
    assert clip.fps == FPS
    motion = known_motion((np.arange(60) + 7) / 25)
    made = list(ClipRenderer().iter_frames(clip, motion))
    points = clip.library.landmarks_px[..., :2].astype(np.float64)
    changed = 0
    for number, (frame, before) in enumerate(zip(made, source, strict=True)):
        if not clip.library.found[number]:
            continue
        differs = (frame != before).any(axis=2)
        changed += int(differs.any())
        rows, columns = np.nonzero(differs)
        eye_px = np.linalg.norm(np.subtract(*points[number, list(OUTER_EYE_CORNERS)]))
        # Eyes, nose, hair, shoulders and the background are the clip's own.
        assert rows.min(initial=256) > points[number, [NOSE_BRIDGE, NOSE_TIP], 1].mean()
        assert rows.max(initial=0) < points[number, CHIN, 1] + 0.6 * eye_px
        assert columns.min(initial=256) > points[number, FACE_SIDES[0], 0]
        assert columns.max(initial=0) < points[number, FACE_SIDES[1], 0]
    assert changed > 40


def test_frames_without_a_face_pass_through_and_are_told(clip: Clip, source: list[Frame]) -> None:
    motion, renderer = silence(60), ClipRenderer()
    made = list(renderer.iter_frames(clip, motion))
    for number in range(*BLANK.indices(60)):
        np.testing.assert_array_equal(made[number], source[number])
    assert any("4 of 60 frames show no face" in note for note in renderer.notes(clip, motion))


def test_in_silence_the_mouth_is_shut_and_still_whatever_the_clip_says(
    clip: Clip, source: list[Frame]
) -> None:
    before, after = lips(source), lips(list(ClipRenderer().iter_frames(clip, silence(60))))
    assert before[:, GAP].max() > 0.15
    shown = clip.library.usable.copy()
    beside = [*range(17, 20), *range(24, 27)]  # these fade into the frames without a face
    shown[beside] = False
    assert after[shown[clip.library.found], GAP].max() < 0.03


def test_a_mouth_opens_with_the_voice_not_with_the_clip(clip: Clip) -> None:
    motion = known_motion((np.arange(60) + 6) / 25)
    made = lips(list(ClipRenderer().iter_frames(clip, motion)))[:, GAP]
    wanted = motion.blendshapes[clip.library.found, BLENDSHAPE_INDEX["jawOpen"]]
    assert np.corrcoef(made, wanted)[0, 1] > 0.85


def test_the_old_mouth_leaves_no_trace(clip: Clip, source: list[Frame]) -> None:
    """The result is the same where the mouth of the frame is black."""
    library, number = clip.library, 2
    points = library.landmarks_px[number, :, :2].astype(np.float64)
    region = region_mask((256, 256), (points,))
    assert region is not None
    share, (x0, y0, x1, y1) = region
    hidden = source[number].copy()
    hidden[y0:y1, x0:x1][share == 1] = 0
    made = [frame.copy() for frame in (source[number], hidden)]
    for frame in made:
        mouths = [MouthShare(library.picture(12), 1.0)]
        compose(frame, library, number, library.measures.lips[number], mouths)
    np.testing.assert_array_equal(*made)


def test_a_longer_sound_runs_the_clip_to_and_fro(path: Path, clip: Clip, source: list[Frame]) -> None:
    order = np.concatenate([np.arange(60), np.arange(58, 9, -1), np.arange(10, 30)])
    frames = list(iter_frames_in_order(path, clip.times_s, order))
    assert len(frames) == len(order)
    for number, frame in zip(order, frames, strict=True):
        np.testing.assert_array_equal(frame, source[number])


def test_mouths_change_at_once_at_a_cut(clip: Clip) -> None:
    """A frame before a cut is the same whichever mouth comes after it; within a scene they are mixed."""
    order, lips_wanted = np.array([2, 3]), np.tile(clip.library.measures.lips[2], (2, 1))
    whole, none = np.ones(2), np.zeros(2)

    def first(after: int, *, cut: bool) -> Frame:
        plan = Plan(order, lips_wanted, np.array([2, after]), none, whole, np.array([False, cut]))
        return next(render_plan(clip, silence(2), plan))

    np.testing.assert_array_equal(first(12, cut=True), first(3, cut=True))
    assert (first(12, cut=False) != first(3, cut=False)).any()


def test_what_a_scene_hides_leaves_the_mouths_of_others(clip: Clip) -> None:
    """The blank frames begin another scene: the mouth stays new up to the cut, and fades in after them."""
    order, shut = np.arange(60), np.tile(clip.library.mouth.rest, (60, 1))
    library = replace(clip.library, cuts=np.array([BLANK.start]))
    shown = plan_mouths(library, order, shut).shown
    np.testing.assert_array_equal(shown[: BLANK.start], clip.library.usable[: BLANK.start])
    np.testing.assert_array_equal(shown[BLANK], 0)
    assert 0 < shown[BLANK.stop] < shown[BLANK.stop + 1] < 1


def test_mouths_that_the_clip_lacks_are_drawn(tmp_path: Path) -> None:
    """A clip in which nobody speaks."""
    path = tmp_path / "silent.mp4"
    write_timed_video(path, known_frames([0.0] * 8), np.arange(8) / 25)
    clip, renderer = read_clip(path, 1.0, StageClock()), ClipRenderer()
    motion = known_motion(np.arange(0.3, 0.7, 0.04))
    made = lips(list(renderer.iter_frames(clip, motion)))[:, GAP]
    assert made.max() > 0.1
    assert any("which have a drawn one" in note for note in renderer.notes(clip, motion))


def test_two_frames_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "two.mp4"
    write_timed_video(path, known_frames([0.0, 0.04]), [0, 0.04])
    clip = read_clip(path, 1.0, StageClock())
    assert len(list(ClipRenderer().iter_frames(clip, silence(7)))) == 7


@pytest.mark.parametrize(
    ("flags", "curve", "note"),
    [("", 1, None), ("+ildct+ilme", 1, "is interlaced"), ("", 16, "is HDR"), ("", 18, "is HDR")],
)
def test_what_of_a_clip_is_not_kept_is_told(tmp_path: Path, flags: str, curve: int, note: str | None) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"flags": flags} if flags else {})
        stream.width = stream.height = 256
        stream.pix_fmt, stream.codec_context.color_trc = "yuv420p", curve
        for frame in known_frames([0.0, 0.04]):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode(None))
    told = [
        said for said in read_clip(path, 1.0, StageClock()).notes if "interlaced" in said or "HDR" in said
    ]
    assert len(told) == (note is not None)
    assert all(str(note) in said for said in told)


def test_clips_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    blank, tiny = tmp_path / "blank.mp4", tmp_path / "tiny.mp4"
    write_timed_video(blank, [np.full((64, 64, 3), 90, np.uint8)] * 3, [0, 0.04, 0.08])
    with pytest.raises(NoFaceError, match="No face found in any frame"):
        read_clip(blank, 1.0, StageClock())
    (face,) = known_frames([0.0])
    write_timed_video(tiny, [np.ascontiguousarray(face[::3, ::3][:84, :84])] * 3, [0, 0.04, 0.08])
    with pytest.raises(NoFaceError, match=r"too small|No face"):
        read_clip(tiny, 1.0, StageClock())


def test_a_clip_keeps_its_size_and_rate(path: Path, tmp_path: Path) -> None:
    assert is_clip(path) and is_clip(str(path))
    assert not is_clip(tmp_path / "missing.mp4") and not is_clip(b"bytes")
    check_clip_options("mesh", RenderOptions())
    for wrong in ({"size_px": 256}, {"fps": Fraction(30)}, {"paste_back": True}):
        with pytest.raises(InputError, match="keeps its own frames and rate"):
            check_clip_options("mesh", RenderOptions(**wrong))
    with pytest.raises(InputError, match="takes no clip"):
        check_clip_options("liveportrait", RenderOptions())
