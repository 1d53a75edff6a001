"""Videos whose mouth a learned model moves, with small networks of random weights, through both engines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra 'neural' is not installed")
import torch
from support import joyvasa_release, liveportrait_release

from vortex.audio_motion import registry
from vortex.audio_motion.joyvasa.load import load_networks, load_statistics
from vortex.audio_motion.joyvasa.model import JoyVasa
from vortex.demo import DEMO_SPEECH, demo_portrait
from vortex.engines.liveportrait.engine import LivePortraitEngine
from vortex.engines.liveportrait.load import rewrite_networks
from vortex.engines.liveportrait.networks import load_networks as load_liveportrait_networks
from vortex.engines.liveportrait.renderer import Renderer
from vortex.media.audio import load_audio
from vortex.media.reading import iter_video_frames
from vortex.options import AnimateOptions
from vortex.session import Session
from vortex.types import Audio, Frame

SPEECH = Audio(load_audio(DEMO_SPEECH).samples[: 24_000 * 4 // 5])
"""0.8 s."""


@pytest.fixture(scope="module")
def joyvasa(tmp_path_factory: pytest.TempPathFactory) -> JoyVasa:
    folder = joyvasa_release.write_release(tmp_path_factory.mktemp("joyvasa"))
    statistics = load_statistics(folder)
    # faces move by hundredths of the picture
    calm = replace(statistics, exp_deviation=0.05 * statistics.exp_deviation)
    return JoyVasa(load_networks(folder, joyvasa_release.TOY), calm)


@pytest.fixture
def registered(joyvasa: JoyVasa, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the name joyvasa mean the small model; return the devices on which it was loaded."""
    devices: list[str] = []

    def load(device: str) -> JoyVasa:
        devices.append(device)
        return joyvasa

    (spec,) = registry.AUDIO_MOTIONS
    small = replace(spec, load=load, check=lambda: None, memory_bytes=1 << 20)
    monkeypatch.setattr(registry, "AUDIO_MOTIONS", (small,))
    return devices


@pytest.fixture(scope="module")
def liveportrait(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePortraitEngine]:
    folder = liveportrait_release.write_release(tmp_path_factory.mktemp("toy"), liveportrait_release.TOY)
    networks = rewrite_networks(load_liveportrait_networks(folder, liveportrait_release.TOY))
    engine = LivePortraitEngine(Renderer(networks, torch.device("cpu"), batch_frames=4))
    yield engine
    engine.close()


def options(seed: int = 5, **more: str) -> AnimateOptions:
    return AnimateOptions.parse(size_px=128, fps=10, seed=seed, audio_motion="joyvasa", **more)


def video(
    session: Session, path: Path, given: AnimateOptions
) -> tuple[list[Frame], tuple[str, ...], list[str]]:
    """Return frames, notes, and the stages that were reported."""
    stages: list[str] = []
    report = session.animate(
        demo_portrait(), SPEECH, path, given, on_progress=lambda stage, done, total: stages.append(stage)
    )
    assert report.frames == 8
    frames = list(iter_video_frames(path))
    path.unlink()
    return frames, report.notes, stages


def difference(one: list[Frame], other: list[Frame]) -> float:
    return float(np.abs(np.stack(one).astype(float) - np.stack(other)).mean())


def test_mesh_and_liveportrait_show_what_the_model_says(
    registered: list[str], liveportrait: LivePortraitEngine, tmp_path: Path
) -> None:
    for engine in (None, liveportrait):
        with Session(engine=engine) as session:
            one, notes, stages = video(session, tmp_path / "one.mp4", options())
            again, _, _ = video(session, tmp_path / "again.mp4", options())
            ours, _, plain = video(session, tmp_path / "ours.mp4", replace(options(), audio_motion="visemes"))
        assert "joyvasa moves the lips" in notes
        assert "motion" in stages and "motion" not in plain
        assert difference(one, again) == 0
        assert difference(one, ours) > 0.01
    assert registered == ["cpu", "cpu"]


def test_a_session_loads_the_model_once(registered: list[str], tmp_path: Path) -> None:
    with Session() as session:
        for region in ("face", "all"):
            _, notes, _ = video(session, tmp_path / "out.mp4", options(audio_motion_region=region))
            assert any(note.startswith("joyvasa moves") for note in notes)
    assert registered == ["cpu"]
