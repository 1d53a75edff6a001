"""The same arguments give the same frames: in any number of threads, in any process, on any machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import golden_frames
import numpy as np
import pytest
from golden_frames import PORTRAITS, ROWS, SIZE_PX, psnr_db, read, render
from support.paths import ROOT

from vortex.engines.mesh.engine import MeshEngine
from vortex.engines.mesh.prepare import MeshPortrait
from vortex.face.portrait import load_portrait
from vortex.lipsync.recognize import recognize_visemes
from vortex.media.audio import load_audio
from vortex.motion.drive import drive
from vortex.motion.presets import PRESETS
from vortex.types import Audio, VisemeTrack

FPS = Fraction(24)
THREADS = 16
SEEDS = (0, 1, 2**31 - 1)
FRAMES = 6
MIN_PSNR_DB = 45.0
"""With other processors, NumPy and OpenCV frames differed less than this; see docs/robustness.md."""
OLD_MACHINE = {
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL",
    "OPENCV_CPU_DISABLE": "AVX,FP16,AVX2,FMA3,AVX512_SKX,AVX512_CNL,AVX512_CLX,AVX512_ICL",
    "OPENCV_IPP": "disabled",
}
"""Makes the packages compute as on a processor of 2008, without vectors of 256 bits."""

T = TypeVar("T")


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def at_once(work: Callable[[], T]) -> list[T]:
    """Run ``work`` in all threads at the same time."""
    gate = threading.Barrier(THREADS)

    def run(_: int) -> T:
        gate.wait(timeout=60)
        return work()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


@pytest.fixture(scope="module")
def prepared(portrait: Path) -> MeshPortrait:
    return MeshEngine().prepare(load_portrait(portrait), size_px=SIZE_PX)


@pytest.fixture(scope="module")
def visemes(speech: Path) -> VisemeTrack:
    track = recognize_visemes(load_audio(speech), FPS)
    return VisemeTrack(track.weights[12 : 12 + FRAMES], track.loudness[12 : 12 + FRAMES], FPS)


def test_sixteen_threads_render_every_preset_and_seed_as_one_does(
    prepared: MeshPortrait, visemes: VisemeTrack
) -> None:
    engine = MeshEngine()
    takes = [(preset, seed) for preset in PRESETS for seed in SEEDS]

    def all_takes() -> list[str]:
        motions = [drive(visemes, preset, seed) for preset, seed in takes]
        return [digest(*engine.iter_frames(prepared, motion)) for motion in motions]

    alone = all_takes()
    assert len(set(alone)) == len(takes)
    assert at_once(all_takes) == [alone] * THREADS


def test_sixteen_threads_recognise_what_one_does(speech: Path) -> None:
    sound = load_audio(speech, 16_000)
    part = Audio(sound.samples[:20_000], 16_000)

    def recognise() -> str:
        track = recognize_visemes(part, FPS)
        return digest(track.weights, track.loudness)

    alone = recognise()
    assert at_once(recognise) == [alone] * THREADS


FRESH = """
import hashlib, os, sys
portrait, speech, out, cores = sys.argv[1:]
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(cores)])
from vortex.media.audio import load_audio
from vortex.options import RenderOptions
from vortex.performance import SOUND_HZ, SpeechInput, perform_speech
from vortex.session import Session

shown = hashlib.sha256()
options = RenderOptions.parse(size_px=128, seed=7, duration_s=1, preset="excited")
with Session() as session:
    session.render(
        lambda clock: session.prepare_source(portrait, options, clock),
        lambda clock: perform_speech(
            lambda: SpeechInput(load_audio(speech, SOUND_HZ)), options, clock, session.motion_model(options)
        ),
        out,
        options,
        on_frame=lambda index, total, frame: shown.update(frame.tobytes()),
    )
print(shown.hexdigest())
"""


def fresh_process(portrait: Path, speech: Path, out: Path, cores: int, **environment: str) -> str:
    """Make a video in a new process; return the hash of the frames as they were rendered."""
    command = [sys.executable, "-W", "ignore", "-c", FRESH, *map(str, (portrait, speech, out, cores))]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout


def test_two_processes_make_the_same_frames_and_the_same_file(
    portrait: Path, speech: Path, tmp_path: Path
) -> None:
    one, other = tmp_path / "one.mp4", tmp_path / "other.mp4"
    frames = fresh_process(portrait, speech, one, 64, PYTHONHASHSEED="1", OMP_NUM_THREADS="1")
    again = fresh_process(portrait, speech, other, 64, PYTHONHASHSEED="2", TZ="Asia/Tokyo", LC_ALL="C")
    assert again == frames
    assert one.read_bytes() == other.read_bytes()


def test_one_core_makes_the_frames_of_many(portrait: Path, speech: Path, tmp_path: Path) -> None:
    frames = {fresh_process(portrait, speech, tmp_path / f"{cores}.mp4", cores) for cores in (1, 64)}
    assert len(frames) == 1


@pytest.mark.parametrize("name", PORTRAITS)
def test_frames_are_the_golden_ones(name: str) -> None:
    for row, here, golden in zip(ROWS, render(PORTRAITS[name]), read(name), strict=True):
        assert psnr_db(here, golden) >= MIN_PSNR_DB, row


def test_a_machine_of_2008_makes_the_golden_frames_too() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "golden_frames.py")],
        capture_output=True,
        text=True,
        env={**os.environ, **OLD_MACHINE},
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [(name, row) for name, row, *_ in rows] == [(name, row) for name in PORTRAITS for row in ROWS]
    assert min(float(value) for _, _, value, _ in rows) >= MIN_PSNR_DB


def test_frames_one_too_late_are_not_golden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden_frames, "SPOKEN_FRAMES", [index - 1 for index in golden_frames.SPOKEN_FRAMES])
    spoken, _ = render(PORTRAITS["grace_hopper"])
    assert psnr_db(spoken, read("grace_hopper")[0]) < MIN_PSNR_DB
