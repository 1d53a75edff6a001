"""A video as the source: smoothed motion on top of its own, whole frames, frames without a face untouched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from support import liveportrait_release as release
from support.driving import FPS, SOUND_HZ, actor, frame_times_s, known_frames
from support.tracks import moving_track

import vortex
from vortex.engines.liveportrait import LivePortraitEngine
from vortex.engines.liveportrait.load import rewrite_networks
from vortex.engines.liveportrait.networks import load_networks
from vortex.engines.liveportrait.renderer import Renderer
from vortex.engines.liveportrait.retarget import SourceKeypoints, transferred_keypoints
from vortex.errors import ImageError, InputError
from vortex.interpolation import kalman_smoothed
from vortex.media.reading import is_video, iter_video_frames, probe_video
from vortex.media.video import encode_video
from vortex.motion.transfer import KeypointMotion, MotionTransfer
from vortex.options import DriveOptions
from vortex.performance import StageClock
from vortex.source_video import SourceVideoEngine, move_source, read_source_video
from vortex.types import F64, Audio, Frame

FRAMES = 8


def test_smoothed_values_are_the_likeliest_ones() -> None:
    """The smoother's means minimise the squared errors of start, steps and observations, all at once."""
    random = np.random.default_rng(3)
    seen = random.normal(0, 1, (12, 2)).cumsum(axis=0)
    process, observation = 0.3, 0.7
    steps = np.diff(np.eye(12), axis=0)
    normal = np.eye(12) / observation + steps.T @ steps / process
    normal[0, 0] += 1
    wanted = seen / observation
    wanted[0] += seen[0]
    np.testing.assert_allclose(
        kalman_smoothed(seen, process, observation), np.linalg.solve(normal, wanted), atol=1e-9
    )
    np.testing.assert_array_equal(kalman_smoothed(seen[:1], process, observation), seen[:1])


def smoothed(values: F64) -> F64:
    """Return what the published variances leave of values (T, ...)."""
    flat = kalman_smoothed(values.reshape(len(values), -1), 1e-5, 3e-7)
    return flat.reshape(values.shape)


def test_a_drivers_changes_are_added_to_the_sources_own_motion_and_smoothed() -> None:
    own, driver = moving_track(9, seed=2), moving_track(6)
    moved = move_source(own, KeypointMotion(driver))
    track = moved.track
    assert (len(moved), moved.transfer.motion) == (6, "absolute")
    exp = own.exp[:6].astype(np.float64) + driver.exp - driver.exp[0]
    np.testing.assert_allclose(track.exp, smoothed(exp), atol=1e-6)
    rotation = driver.rotation @ driver.rotation[0].T @ own.rotation[:6]
    left, _, right = np.linalg.svd(smoothed(rotation))
    np.testing.assert_allclose(track.rotation, left @ right, atol=1e-9)
    np.testing.assert_array_equal(track.translation, own.translation[:6])


def test_absolutely_the_driver_replaces_the_sources_motion() -> None:
    own, driver = moving_track(6, seed=2), moving_track(6)
    moved = move_source(own, KeypointMotion(driver, MotionTransfer(motion="absolute"))).track
    np.testing.assert_allclose(moved.exp, smoothed(driver.exp.astype(np.float64)), atol=1e-6)
    np.testing.assert_array_equal(moved.translation, driver.translation)


def test_a_still_driver_leaves_the_source_as_it_moves_itself() -> None:
    """Only the copied entries are smoothed; what is left of a step by the published filter is nearly all."""
    own = moving_track(6, seed=2)
    still = moving_track().rows(np.zeros(6, np.int64))
    moved = move_source(own, KeypointMotion(still))
    canonical = np.random.default_rng(5).uniform(-0.3, 0.3, (21, 3))
    for i in range(6):
        frame = SourceKeypoints(
            canonical,
            own.exp[i].astype(np.float64),
            own.rotation[i],
            float(own.scale[i]),
            own.translation[i].astype(np.float64),
        )
        driven = transferred_keypoints(frame, moved.part(i, 1))[0]
        assert np.abs(driven - frame.placed()).max() < 0.02


def test_networks_that_replace_motion_need_no_smoothing() -> None:
    motion = KeypointMotion(moving_track(), MotionTransfer(eye_retarget=True))
    assert move_source(moving_track(6, seed=2), motion) is motion


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePortraitEngine]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = release.write_release(tmp_path_factory.mktemp("toy"), release.TOY)
    networks = rewrite_networks(load_networks(folder, release.TOY))
    yield LivePortraitEngine(Renderer(networks, torch.device("cpu"), batch_frames=4))
    torch.set_num_threads(threads)


def write(path: Path, frames: list[Frame]) -> Path:
    at_s = np.arange(round(len(frames) / FPS * SOUND_HZ)) / SOUND_HZ
    sound = Audio((0.3 * np.sin(2 * np.pi * 440 * at_s)).astype(np.float32), SOUND_HZ)
    encode_video(path, iter(frames), sound, FPS, (frames[0].shape[1], frames[0].shape[0]))
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a video of a face beside a wide border; the face is missing in two frames."""
    frames = [
        np.pad(frame, ((0, 0), (0, 128), (0, 0)), mode="edge")
        for frame in known_frames(frame_times_s()[:FRAMES])
    ]
    for index in (3, 4):
        frames[index] = np.full_like(frames[0], 90)
    return write(tmp_path_factory.mktemp("source") / "source.mp4", frames)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("driver") / "driver.mp4", known_frames(frame_times_s()[10:15]))


def decoded(path: Path) -> np.ndarray:
    return np.stack(list(iter_video_frames(path))).astype(int)


def test_a_source_video_is_driven_for_as_long_as_the_shorter_one(
    engine: LivePortraitEngine, source: Path, driver: Path, tmp_path: Path
) -> None:
    with vortex.Session(engine=engine) as session:
        report = vortex.drive(source, driver, tmp_path / "out.mp4", session=session)
    assert (report.frames, report.fps, report.size_px) == (5, FPS, (384, 256))
    shown, original = decoded(tmp_path / "out.mp4"), decoded(source)[:5]
    changed = np.abs(shown - original).mean(axis=(2, 3))
    # Toy networks paint noise over the face; a frame without one, and what is beside a face, stay.
    assert changed[:3].max() > 20
    assert np.abs(shown - original)[:, :, 290:].mean() < 2
    assert changed[3:5].max() < 2


def test_a_picture_drives_all_of_a_source_video_which_keeps_its_sound(
    engine: LivePortraitEngine, source: Path, tmp_path: Path
) -> None:
    from PIL import Image

    Image.fromarray(actor()).save(tmp_path / "picture.png")
    with vortex.Session(engine=engine) as session:
        report = vortex.drive(source, tmp_path / "picture.png", tmp_path / "out.mp4", session=session)
        with pytest.raises(InputError, match=r"fps is 24; a source video keeps its own rate, 25\. Leave"):
            vortex.drive(source, tmp_path / "picture.png", tmp_path / "b.mp4", session=session, fps=24)
        with pytest.raises(InputError, match=r"quality is 'fast'.* all differ"):
            vortex.drive(source, source, tmp_path / "b.mp4", session=session, quality="fast")
    assert report.frames == FRAMES
    assert "the sound is that of the source" in report.notes
    assert not any("no sound" in note for note in report.notes)
    assert probe_video(tmp_path / "out.mp4").has_sound
    assert not (tmp_path / "b.mp4").exists()


def test_each_frame_is_rendered_from_its_own_picture_and_keypoints(
    engine: LivePortraitEngine, source: Path
) -> None:
    film = read_source_video(probe_video(source), engine, DriveOptions(), StageClock())
    assert (len(film.track), film.size_px, film.track.fps) == (FRAMES, (384, 256), FPS)
    assert film.faces.found.tolist() == [True] * 3 + [False] * 2 + [True] * 3
    # What was captured of a frame is what the renderer finds in it when it prepares that frame.
    for index, frame in enumerate(iter_video_frames(source)):
        if film.faces.found[index]:
            info = engine.prepare(film.portrait(index, frame), paste_back=True).source.info
            np.testing.assert_allclose(film.track.exp[index], info.exp[0], atol=1e-5)
            assert film.track.scale[index] == pytest.approx(float(info.scale[0, 0]), abs=1e-5)
    # Bridged evenly where no face is seen.
    steps = np.diff(film.track.exp[2:6], axis=0)
    np.testing.assert_allclose(steps, np.tile(steps[:1], (3, 1, 1)), atol=1e-6)
    part = read_source_video(probe_video(source), engine, DriveOptions(duration_s=0.08), StageClock())
    assert len(part.track) == 2


def test_a_source_video_moves_by_keypoints_only(engine: LivePortraitEngine, source: Path) -> None:
    film = read_source_video(probe_video(source), engine, DriveOptions(duration_s=0.04), StageClock())
    adapter = SourceVideoEngine(engine)
    with pytest.raises(InputError, match="moves by keypoints"):
        next(adapter.iter_frames(film, vortex.MotionTrack(np.zeros((1, 48)), np.zeros((1, 3)), Fraction(25))))
    with pytest.raises(InputError, match="no portrait"):
        adapter.prepare(film.still)
    frames = list(adapter.iter_frames(film, KeypointMotion(replace(moving_track(1), fps=FPS))))
    assert len(frames) == 1 and frames[0].shape == (256, 384, 3)


def test_an_engine_without_keypoints_refuses_a_video_as_its_source(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is not a picture"):
        vortex.drive(source, source, tmp_path / "out.mp4")


def test_pictures_that_begin_like_videos_are_none(source: Path, tmp_path: Path) -> None:
    from PIL import Image

    assert is_video(source)
    Image.fromarray(actor()).save(tmp_path / "a.gif")
    assert not is_video(tmp_path / "a.gif")
    (tmp_path / "b").write_bytes(b"\0\0\0\x1cftypavif" + bytes(60))
    assert not is_video(tmp_path / "b")
    assert not is_video(tmp_path / "gone.mp4")
