"""A video whose frames take seconds is announced, goes on after a kill, and equals an undisturbed one."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vortex.demo import DEMO_SPEECH, demo_portrait
from vortex.engines.base import LastingEngine
from vortex.engines.liveportrait import LivePortraitEngine
from vortex.engines.liveportrait.networks import Networks
from vortex.engines.liveportrait.renderer import PreparedFace, Renderer
from vortex.errors import VortexWarning
from vortex.motion.drive import still
from vortex.options import AnimateOptions
from vortex.runtime.results import ResultFolder
from vortex.session import Session
from vortex.types import Frame, MotionTrack, Portrait

pytestmark = pytest.mark.usefixtures("one_thread")
FRAMES = 24


@pytest.fixture
def engine(rewritten: Networks, tmp_path: Path) -> LivePortraitEngine:
    return LivePortraitEngine(Renderer(rewritten, torch.device("cpu")), ResultFolder(tmp_path / "kept"))


@pytest.fixture
def prepared(engine: LivePortraitEngine, portrait: Portrait) -> PreparedFace:
    return engine.prepare(portrait, size_px=128)


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of frames of every call of the generator."""
    counts: list[int] = []
    decode = Networks.decode

    def counted(self: Networks, features: Tensor) -> Tensor:
        counts.append(len(features))
        return decode(self, features)

    monkeypatch.setattr(Networks, "decode", counted)
    return counts


def talking(frames: int = FRAMES) -> MotionTrack:
    """Return a face that moves at random."""
    motion = still(frames, Fraction(24))
    shapes = np.random.default_rng(1).uniform(0, 0.7, motion.blendshapes.shape).astype(np.float32)
    return replace(motion, blendshapes=shapes)


def undisturbed(
    engine: LivePortraitEngine, prepared: PreparedFace, motion: MotionTrack, quality: str
) -> list[Frame]:
    return list(engine.iter_frames(prepared, motion, quality=quality))


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("quality", ["fast", "full"])
def test_a_video_goes_on_where_it_was_stopped(
    engine: LivePortraitEngine,
    portrait: Portrait,
    prepared: PreparedFace,
    rendered: list[int],
    quality: str,
) -> None:
    motion = talking()
    expected = undisturbed(engine, prepared, motion, quality)
    total = sum(rendered)
    rendered.clear()
    work = engine.lasting(prepared, motion, quality=quality)
    assert work is not None and len(work) == total > 5
    frames: Iterator[Frame] = work.iter_frames()
    for _, frame in zip(range(3), frames, strict=False):
        assert frame.shape == (128, 128, 3)
    before = sum(rendered)
    assert 0 < before < total
    rendered.clear()
    # Another engine, as in another process.
    later = LivePortraitEngine(Renderer(engine.renderer.networks, torch.device("cpu")))
    later.results = ResultFolder(work.results.folder)
    other = later.lasting(later.prepare(brighter(portrait), size_px=128), motion, quality=quality)
    assert other is not None and len(other.missing()) == len(other)  # another picture has other results
    same = later.lasting(prepared, motion, quality=quality)
    assert same is not None and len(same.missing()) == total - before
    same.render_ahead(lambda done, total: None)
    assert all(np.array_equal(a, b) for a, b in zip(same.iter_frames(), expected, strict=True))
    assert sum(rendered) == total - before
    same.discard()
    assert list(work.results.folder.iterdir()) == []


def brighter(portrait: Portrait) -> Portrait:
    return replace(portrait, image=np.minimum(portrait.image, 245) + np.uint8(10))


def test_damaged_results_are_rendered_again(
    engine: LivePortraitEngine, prepared: PreparedFace, rendered: list[int]
) -> None:
    motion = talking()
    expected = undisturbed(engine, prepared, motion, "fast")
    work = engine.lasting(prepared, motion, quality="fast")
    assert work is not None
    work.render_ahead(lambda done, total: None)
    files = sorted(work.results.folder.iterdir())
    assert len(files) == len(work)
    files[0].write_bytes(files[0].read_bytes()[:-5])
    files[1].write_bytes(bytes(40))
    rendered.clear()
    assert all(np.array_equal(a, b) for a, b in zip(work.iter_frames(), expected, strict=True))
    assert sum(rendered) == 2


def test_other_options_and_weights_have_other_results(
    engine: LivePortraitEngine, prepared: PreparedFace, portrait: Portrait, toy_folder: Path
) -> None:
    motion = talking(4)
    names = []
    other = LivePortraitEngine(Renderer(changed_weights(toy_folder), torch.device("cpu")), engine.results)
    for one, size_px, quality in (
        (engine, 128, "full"), (engine, 128, "fast"), (engine, 256, "full"), (other, 128, "full")
    ):  # fmt: skip
        work = one.lasting(one.prepare(portrait, size_px=size_px), motion, quality=quality)
        assert work is not None
        names.append(set(work.names))
    assert not any(a & b for index, a in enumerate(names) for b in names[:index])


def changed_weights(folder: Path) -> Networks:
    from support import liveportrait_release as release

    from vortex.engines.liveportrait.load import rewrite_networks
    from vortex.engines.liveportrait.networks import load_networks

    networks = rewrite_networks(load_networks(folder, release.TOY))
    with torch.no_grad():
        next(networks.generator.parameters()).mul_(1.001)
    return networks


def test_what_is_left_is_forecast_from_frames_that_were_timed(
    engine: LivePortraitEngine, prepared: PreparedFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that moves only while the generator works says what a frame takes, exactly."""
    clock_s = [0.0]
    decode = Networks.decode

    def slow(self: Networks, features: Tensor) -> Tensor:
        clock_s[0] += 40.0
        return decode(self, features)

    monkeypatch.setattr(Networks, "decode", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: clock_s[0])
    work = engine.lasting(prepared, talking(), quality="full")
    assert work is not None
    forecast = work.forecast()
    assert (forecast.frames, forecast.full, forecast.left) == (FRAMES, FRAMES, FRAMES - 2)
    assert forecast.frame_s == 40.0 and forecast.left_s == 40.0 * (FRAMES - 2)
    list(work.iter_frames())
    assert work.forecast().left_s == 0


def options(quality: str, seed: int | None = None) -> AnimateOptions:
    return AnimateOptions.parse(size_px=128, fps=5, quality=quality, seed=seed)


def test_a_stopped_video_is_made_by_the_same_command_with_the_seed_that_was_drawn(
    engine: LivePortraitEngine, tmp_path: Path, rendered: list[int]
) -> None:
    assert isinstance(engine, LastingEngine)
    assert engine.results is not None

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "ahead" and total > 1 and done >= 5:
            raise KilledError

    out, given = tmp_path / "out.mp4", options("fast")
    with Session(engine=engine) as session:
        with pytest.raises(KilledError):
            session.animate(demo_portrait(), DEMO_SPEECH, out, given, on_progress=stop)
        before = sum(rendered)
        assert before == 5 and not out.exists()
        stages: list[tuple[str, int, int]] = []
        report = session.animate(
            demo_portrait(), DEMO_SPEECH, out, given, on_progress=lambda *now: stages.append(now)
        )
        assert report.seed is not None
        ahead = [(done, total) for stage, done, total in stages if stage == "ahead" and total > 1]
        assert ahead[0][0] == 7  # two more were rendered for the forecast
        assert ahead[-1][0] == ahead[-1][1] == sum(rendered)
        assert any("5 of them are there" in note or "7 of them are there" in note for note in report.notes)
        assert list(engine.results.folder.iterdir()) == []
        whole = tmp_path / "whole.mp4"
        session.animate(demo_portrait(), DEMO_SPEECH, whole, options("fast", report.seed))
    assert whole.read_bytes() == out.read_bytes()


def test_a_long_video_is_announced(
    engine: LivePortraitEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vortex.render.LONG_S", 0.0)
    with (
        Session(engine=engine) as session,
        pytest.warns(VortexWarning, match=r"16 of 16 frames .* s each\. If it is stopped, .* seed 4 goes on"),
    ):
        session.animate(demo_portrait(), DEMO_SPEECH, tmp_path / "out.mp4", options("full", 4))


def test_kill_9_loses_no_frame_that_was_rendered(toy_folder: Path, tmp_path: Path) -> None:
    code = f"""
import os, signal, sys
from pathlib import Path
import torch
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from support import liveportrait_release as release
from vortex.demo import DEMO_SPEECH, demo_portrait
from vortex.engines.liveportrait import LivePortraitEngine
from vortex.engines.liveportrait.load import rewrite_networks
from vortex.engines.liveportrait.networks import load_networks
from vortex.engines.liveportrait.renderer import Renderer
from vortex.options import AnimateOptions
from vortex.runtime.results import ResultFolder
from vortex.session import Session

def on_progress(stage, done, total):
    if stage == "ahead" and total > 1:
        print(done, total, flush=True)
        if done >= int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
networks = rewrite_networks(load_networks(Path({str(toy_folder)!r}), release.TOY))
results = ResultFolder(Path({str(tmp_path / "kept")!r}))
engine = LivePortraitEngine(Renderer(networks, torch.device("cpu")), results)
options = AnimateOptions.parse(size_px=128, fps=5, quality="fast")
with Session(engine=engine) as session:
    out = {str(tmp_path / "out.mp4")!r}
    session.animate(demo_portrait(), DEMO_SPEECH, out, options, on_progress=on_progress)
"""
    killed = subprocess.run([sys.executable, "-c", code, "6"], capture_output=True, text=True)
    assert killed.returncode == -9 and killed.stdout.splitlines()[-1].startswith("6 "), killed.stderr
    assert not (tmp_path / "out.mp4").exists()
    done = subprocess.run([sys.executable, "-c", code, "999"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("8 ")
    assert (tmp_path / "out.mp4").exists() and list((tmp_path / "kept").iterdir()) == []
