"""An actor of a cluster keeps one session, whatever it renders; Ray itself is not needed to see it."""

from __future__ import annotations

import io
import wave
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from support.driving import known_frames, write_timed_video
from support.tracks import moving_track

from vortex.cluster import Cluster, DrivingVideo, _Actor, _SharedPortrait
from vortex.demo import demo_portrait
from vortex.engines.base import CroppedFace
from vortex.engines.mesh.engine import MeshEngine
from vortex.engines.registry import find_engine
from vortex.face.portrait import load_portrait
from vortex.motion.drive import still
from vortex.options import DriveOptions, EngineOptions, VideoOptions
from vortex.types import KeypointTrack


def short_sound() -> bytes:
    """Return 0.2 s of noise as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 16_000, 0, "NONE", ""))
        sound.writeframes(np.random.default_rng(0).integers(-3000, 3000, 3200, np.int16).tobytes())
    return file.getvalue()


def test_an_actor_loads_each_network_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[MeshEngine] = []

    def load(device: str | None) -> MeshEngine:
        loaded.append(MeshEngine())
        return loaded[-1]

    spec = replace(find_engine("mesh"), load=load)
    monkeypatch.setattr("vortex.session.resolve_engine", lambda name, device: (spec, ()))
    actor = _Actor(EngineOptions().as_json())
    portrait = load_portrait(demo_portrait())
    for token, size_px in (("a", 128), ("b", 256), ("a", 128)):
        shared = _SharedPortrait(token, portrait, size_px, False)
        assert actor.size_px(shared) == (size_px, size_px)
        assert np.asarray(actor.frames(shared, still(2, Fraction(24)))).shape == (2, size_px, size_px, 3)
    options = VideoOptions.parse(size_px=128, seed=1).as_json()
    videos = [actor.video(demo_portrait().read_bytes(), short_sound(), options) for _ in range(2)]
    assert videos[0].problem == "" and videos[0].frames == 5
    assert videos[0].content == videos[1].content
    assert len(loaded) == 1


def test_an_actor_reports_a_failure_and_continues() -> None:
    actor = _Actor(EngineOptions().as_json())
    failed = actor.video(b"no picture", short_sound(), VideoOptions().as_json())
    assert "is not a picture" in failed.problem and not failed.content
    options = VideoOptions.parse(size_px=128).as_json()
    assert not actor.video(demo_portrait().read_bytes(), short_sound(), options).problem


def test_an_actor_drives_a_portrait_by_a_video(tmp_path: Path) -> None:
    times_s = np.arange(4) / 30
    write_timed_video(tmp_path / "a.mp4", known_frames(times_s), times_s)
    driving = DrivingVideo((tmp_path / "a.mp4").read_bytes(), ".mp4")
    options = DriveOptions.parse(size_px=128).as_json()
    actor, picture = _Actor(EngineOptions().as_json()), demo_portrait().read_bytes()
    made = actor.video(picture, driving, options)
    assert (made.problem, made.frames) == ("", 4)
    none = actor.video(picture, DrivingVideo(b"no video", ""), options)
    assert "cannot be read" in none.problem


def test_a_cluster_captures_in_parts_that_are_joined() -> None:
    sent: list[int] = []

    class Remote:
        """Stands for a method of Ray's actor."""

        @staticmethod
        def remote(faces: list[CroppedFace], fps: Fraction) -> KeypointTrack:
            start = sum(sent)
            sent.append(len(faces))
            return whole.part(start, len(faces))

    class Actor:
        capture = Remote()

    whole = moving_track(100)
    cluster = object.__new__(Cluster)
    cluster._actors = [Actor()]
    cluster._get = lambda answer: answer  # type: ignore[method-assign]
    face = CroppedFace(np.zeros((512, 512, 3), np.uint8), np.zeros((478, 3), np.float32))
    track = cluster.capture(iter([face] * 100), Fraction(25))
    assert sent == [48, 48, 4]
    np.testing.assert_array_equal(track.exp, whole.exp)
    np.testing.assert_array_equal(track.lip_ratio, whole.lip_ratio)
