"""Windows: which sound and which frames before a model gets, how windows join, what is kept in memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from vortex.audio_motion.windows import Window, WindowPlan, WindowStream
from vortex.types import F32

PLAN = WindowPlan(frames=20, hop=16, context_frames=5, frame_samples=8)


class Recorder:
    """A model whose motion is the mean sound of each frame, and the number of the window plus ``offset``."""

    def __init__(self, offset: float = 0.0) -> None:
        self.windows: list[Window] = []
        self.offset = offset

    def __call__(self, window: Window) -> tuple[F32, F32]:
        number = len(self.windows) * self.offset
        self.windows.append(window)
        heard = window.samples.reshape(PLAN.frames, -1).mean(axis=1)
        motion = np.stack([heard, np.full(PLAN.frames, number, np.float32)], axis=1)
        return motion.astype(np.float32), heard[:, None].astype(np.float32)


def counted(frames: int) -> F32:
    """Return sound whose frames hold their own number."""
    return np.repeat(np.arange(frames), PLAN.frame_samples).astype(np.float32)


def run(sound: F32, chunk: int, offset: float = 0.0) -> tuple[F32, Recorder]:
    model = Recorder(offset)
    stream = WindowStream(PLAN, model)
    parts = [stream.push(sound[at : at + chunk]) for at in range(0, len(sound), chunk)]
    parts.append(stream.finish())
    return np.concatenate([part for part in parts if len(part)]), model


@pytest.mark.parametrize("frames", [1, 4, 16, 19, 20, 21, 24, 36, 37, 52, 53, 100])
def test_every_frame_is_returned_once_and_in_order(frames: int) -> None:
    motion, model = run(counted(frames), 1000)
    assert np.allclose(motion[:, 0], np.arange(frames))
    # every window but that of a shorter sound is full of sound
    for window in model.windows:
        expected = window.first + np.arange(PLAN.frames)
        heard = window.samples.reshape(PLAN.frames, -1)[:, 0]
        assert np.array_equal(heard, np.where(expected < frames, expected, 0))
        assert window.first + PLAN.frames <= max(frames, PLAN.frames)


def test_part_of_a_frame_counts_as_one() -> None:
    motion, _ = run(counted(30)[:-3], 7)
    assert len(motion) == 30


@pytest.mark.parametrize("frames", [36, 47])
def test_a_window_gets_the_frames_before_it(frames: int) -> None:
    motion, model = run(counted(frames), 64)
    first, *later = model.windows
    assert first.motion_before is None and first.tokens_before is None
    for window in later:
        rows = slice(window.first - PLAN.context_frames, window.first)
        assert window.motion_before is not None and window.tokens_before is not None
        assert np.array_equal(window.motion_before[:, 0], motion[rows, 0])
        assert np.array_equal(window.tokens_before[:, 0], np.arange(rows.start, rows.stop))


def test_a_last_window_with_too_few_frames_before_it_starts_anew() -> None:
    _, model = run(counted(PLAN.frames + PLAN.context_frames - 1), 64)
    assert [window.first for window in model.windows] == [0, PLAN.context_frames - 1]
    assert model.windows[1].motion_before is None


@pytest.mark.parametrize("frames", [36, 52, 47])
def test_windows_fade_into_each_other(frames: int) -> None:
    # Window k says k: without a fade, the motion would jump by 1 from one frame to the next.
    motion, _ = run(counted(frames), 500, offset=1.0)
    steps = np.diff(motion[:, 1])
    shared = PLAN.frames - PLAN.hop
    assert motion[0, 1] == 0
    assert steps.min() >= 0
    assert steps.max() == pytest.approx(1 / (shared + 1))


@pytest.mark.parametrize("frames", [3, 20, 47, 100])
def test_chunks_do_not_matter(frames: int) -> None:
    whole, _ = run(counted(frames), 10_000, offset=1.0)
    for chunk in (1, 13, 161):
        assert np.array_equal(run(counted(frames), chunk, offset=1.0)[0], whole)


def test_frames_are_returned_when_their_window_is_full() -> None:
    stream = WindowStream(PLAN, Recorder())
    sound = counted(60)
    assert len(stream.push(sound[: PLAN.frames * 8 - 1])) == 0
    assert len(stream.push(sound[PLAN.frames * 8 - 1 :][:1])) == PLAN.hop
    assert len(stream.push(sound[PLAN.frames * 8 :])) == 2 * PLAN.hop


def test_memory_does_not_grow_with_the_sound() -> None:
    def model(window: Window) -> tuple[F32, F32]:
        return np.zeros((PLAN.frames, 2), np.float32), np.zeros((PLAN.frames, 2), np.float32)

    stream = WindowStream(PLAN, model)
    chunk = np.zeros(PLAN.hop * PLAN.frame_samples, np.float32)
    for _ in range(20):
        stream.push(chunk)
    tracemalloc.start()
    try:
        for _ in range(500):
            stream.push(chunk)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # 500 windows of sound are 256 KB
    assert held < 20_000
