"""Mattes move with the head, backgrounds stay, and frames are what compositing says."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import vortex
from vortex.demo import DEMO_SPEECH, demo_portrait
from vortex.engines.mesh.engine import MeshEngine
from vortex.errors import InputError
from vortex.face.portrait import load_portrait
from vortex.media.audio import load_audio
from vortex.options import AnimateOptions
from vortex.scene import scene_frames, stage_portrait
from vortex.types import BLENDSHAPES, MotionTrack, Portrait


@pytest.fixture(scope="module")
def hopper() -> Portrait:
    return load_portrait(demo_portrait())


def turning(degrees: list[float]) -> MotionTrack:
    pose = np.zeros((len(degrees), 3), np.float32)
    pose[:, 1] = degrees
    return MotionTrack(np.zeros((len(degrees), len(BLENDSHAPES)), np.float32), pose, Fraction(24))


def test_the_matte_moves_as_the_picture_does(hopper: Portrait) -> None:
    """A picture that shows the matte itself is warped to what the matte becomes."""
    engine = MeshEngine()
    staged, scene = stage_portrait(
        hopper, AnimateOptions.parse(background="red", size_px=256), moves_matte=True
    )
    assert scene is not None
    prepared = engine.prepare(staged, paste_back=True)
    painted = replace(prepared, canvas=np.repeat(scene.matte[..., None], 3, axis=2))
    for given in list(engine.iter_matted(painted, turning([0, 12, -12]), scene.matte))[1:]:
        edge = (given.matte > 20) & (given.matte < 235)
        assert np.abs(given.frame[edge].astype(int) - given.matte[edge][:, None]).max() <= 2
        assert np.abs(given.matte.astype(int) - scene.matte).max() > 200


def test_what_is_behind_does_not_move(hopper: Portrait, tmp_path: Path) -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::16] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    options = AnimateOptions.parse(background=str(tmp_path / "stripes.png"), size_px=256)
    engine = MeshEngine()
    staged, scene = stage_portrait(hopper, options, moves_matte=True)
    assert scene is not None and scene.backdrop is not None
    prepared = engine.prepare(staged, paste_back=True)
    motion = turning([0, 10, -10])
    frames = list(scene_frames(scene, engine, prepared, motion, iter(())))
    mattes = [given.matte for given in engine.iter_matted(prepared, motion, scene.matte)]
    for frame, matte in zip(frames, mattes, strict=True):
        assert np.array_equal(frame[matte == 0], scene.backdrop[matte == 0])
        assert (matte == 0).mean() > 0.2 and (matte == 255).mean() > 0.2


def test_an_engine_that_moves_no_matte_gets_one_of_each_frame(hopper: Portrait) -> None:
    """The mattes of the frames agree with those that the mesh engine moves."""
    engine, motion = MeshEngine(), turning([0, 8, -8])
    options = AnimateOptions.parse(background="none", size_px=256)
    staged, scene = stage_portrait(hopper, options, moves_matte=True)
    raw, _ = stage_portrait(hopper, options, moves_matte=False)
    assert scene is not None
    moved = [
        given.matte
        for given in engine.iter_matted(engine.prepare(staged, paste_back=True), motion, scene.matte)
    ]
    frames = engine.iter_frames(engine.prepare(raw, paste_back=True), motion)
    for made, matte in zip(scene_frames(scene, object(), None, motion, frames), moved, strict=True):
        assert made.shape == (256, 256, 4)
        inside, wanted = made[..., 3] > 127, matte > 127
        assert (inside & wanted).sum() / (inside | wanted).sum() > 0.96


def test_without_these_options_no_scene_is_made(hopper: Portrait) -> None:
    staged, scene = stage_portrait(hopper, AnimateOptions.parse(aspect="9:16"), moves_matte=True)
    assert scene is None and staged.image.shape == (910, 512, 3)


def test_a_vertical_video_with_a_colour_behind(tmp_path: Path) -> None:
    samples = load_audio(DEMO_SPEECH, 48_000).samples[:12_000]
    options = {"aspect": "9:16", "background": "#00ff00", "size_px": 128, "seed": 1}
    report = vortex.animate(demo_portrait(), (samples, 48_000), tmp_path / "a.mp4", **options)  # type: ignore[arg-type]
    assert report.size_px == (128, 228)
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(frame[:8, :8].astype(int) - (0, 255, 0)).max() < 20


def test_stereo_stays_stereo_in_the_video(tmp_path: Path) -> None:
    voice = load_audio(DEMO_SPEECH, 48_000).samples
    stereo = np.stack([voice, np.zeros_like(voice)], axis=1)
    vortex.animate(demo_portrait(), (stereo, 48_000), tmp_path / "a.mov", size_px=128, seed=1)
    with av.open(str(tmp_path / "a.mov")) as container:
        heard = np.concatenate([f.to_ndarray().reshape(-1, 2) for f in container.decode(audio=0)]) / 32767
    assert np.abs(heard[: len(voice), 0] - voice).max() < 1e-3 and not heard[:, 1].any()


REFUSED = [
    ("a.mp4", {"background": "none"}, "MP4 has no transparency; write one of .webm, .mov"),
    ("a.mp4", {"aspect": "9:16", "paste_back": True}, "paste_back keeps the whole picture"),
    ("a.mp4", {"background": "./missing.jpg"}, "The background does not exist"),
    ("a.mp4", {"crf": 20, "bitrate_kbps": 500}, "exclude each other"),
    ("a.gif", {"crf": 20}, "crf has no effect on GIF"),
    ("a.gif", {"fps": 60}, "GIF shows at most 50"),
]


@pytest.mark.parametrize(("name", "options", "message"), REFUSED)
def test_what_a_file_cannot_hold_is_refused_before_any_work(
    tmp_path: Path, name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        vortex.animate("missing.jpg", "missing.wav", tmp_path / name, **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
