"""Visemes while somebody speaks: every row, in time, correct, and independent of the chunks."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from support.closures import CLOSING_VISEME, all_pairs, unclosed
from support.demo_labels import CLOSURES_S
from support.noises import NOISES
from support.paths import DEMO_SPEECH

from vortex.errors import AudioError, InputError
from vortex.lipsync.stream import LOOK_AHEAD_S, STEP_FRAMES, VisemeStream
from vortex.lipsync.visemes import mouth_shape
from vortex.media.audio import load_audio
from vortex.types import PhonemeSpan, frame_count
from vortex.visemes import LIP_CLOSING_COLUMNS, SILENT_COLUMN

RATE_HZ = 24_000


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    return load_audio(DEMO_SPEECH, RATE_HZ).samples


def rows_of(
    samples: np.ndarray, chunk: int, fps: Fraction = Fraction(24), rate_hz: int = RATE_HZ
) -> np.ndarray:
    stream = VisemeStream(fps, rate_hz)
    tracks = [stream.push(samples[i : i + chunk]) for i in range(0, len(samples), chunk)]
    return np.concatenate([track.weights for track in [*tracks, stream.finish()]])


@pytest.mark.parametrize("chunk", [480, 7919, 10**6])
def test_rows_do_not_depend_on_the_chunks(voice: np.ndarray, chunk: int) -> None:
    rows = rows_of(voice, chunk)
    assert len(rows) == frame_count(Fraction(len(voice), RATE_HZ), Fraction(24))
    assert np.allclose(rows.sum(axis=1), 1, atol=1e-4)
    assert np.array_equal(rows, rows_of(voice, 1200))


@pytest.mark.parametrize(("fps", "rate_hz"), [(Fraction(30000, 1001), 44_100), (Fraction(25), 8_000)])
def test_there_are_as_many_rows_as_frames(fps: Fraction, rate_hz: int) -> None:
    samples = load_audio(DEMO_SPEECH, rate_hz).samples
    assert len(rows_of(samples, 1000, fps, rate_hz)) == frame_count(Fraction(len(samples), rate_hz), fps)


def test_samples_may_arrive_one_by_one(voice: np.ndarray) -> None:
    stream = VisemeStream()
    for sample in voice[:2000]:
        assert len(stream.push([sample]).weights) == 0
    assert len(stream.finish().weights) == 2


def test_rows_are_returned_a_bounded_time_after_their_sound(voice: np.ndarray) -> None:
    stream, rows = VisemeStream(), 0
    for end in range(480, len(voice), 480):
        rows += len(stream.push(voice[end - 480 : end]).weights)
        # The resampler delays the sound by some milliseconds.
        assert rows + STEP_FRAMES >= (end / RATE_HZ - LOOK_AHEAD_S - 0.02) * 24 - 0.5
        assert rows <= max((end / RATE_HZ - LOOK_AHEAD_S) * 24 + 1, 0)


def test_the_lips_close_where_the_labels_say_and_nowhere_else(voice: np.ndarray) -> None:
    closed = rows_of(voice, 480)[:, LIP_CLOSING_COLUMNS].max(axis=1)
    for time_s in CLOSURES_S:
        frame = round(time_s * 24 - 0.5)
        assert closed[max(frame - 2, 0) : frame + 3].max() > 0.5, time_s
    for frame in np.flatnonzero(closed > 0.5):
        assert min(abs((frame + 0.5) / 24 - time_s) for time_s in CLOSURES_S) < 0.15, frame


@pytest.mark.parametrize("name", NOISES)
def test_the_mouth_rests_while_nobody_speaks(name: str) -> None:
    voice = load_audio(DEMO_SPEECH, 16_000).samples
    sound = np.concatenate([NOISES[name](3.0), voice, NOISES[name](2.0)])
    jaw = mouth_shape(rows_of(sound, 320, rate_hz=16_000))[:, 0]
    assert (np.concatenate([jaw[:72], jaw[-44:]]) < 0.05).mean() >= 0.98
    assert (jaw[78:140] > 0.15).mean() > 0.75


def test_every_closure_before_every_sound_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the recogniser is perfect, but knows no more of the sound than the stream has heard."""
    fps, spans = Fraction(24), all_pairs((0.02, 0.03), first=CLOSING_VISEME)

    def recognize(self: VisemeStream, start: int, end: int) -> list[PhonemeSpan]:
        start_s, end_s = start / 16_000, end / 16_000
        heard = [span for span in spans if span.end_s > start_s and span.start_s < end_s]
        return [
            PhonemeSpan(s.phoneme, max(s.start_s, start_s) - start_s, min(s.end_s, end_s) - start_s)
            for s in heard
        ]

    monkeypatch.setattr(VisemeStream, "_recognize", recognize)
    silence = np.zeros(round(spans[-1].end_s * 16_000), np.float32)
    weights = rows_of(silence, 16_000, fps, 16_000)
    assert unclosed(spans, weights, fps) == []


def test_noise_before_the_first_word_moves_nothing(voice: np.ndarray) -> None:
    hiss = np.random.default_rng(1).normal(0, 0.003, 2 * RATE_HZ).astype(np.float32)
    rows = rows_of(np.concatenate([hiss, voice]), 480)
    # The first fifth of a second is too short to estimate the noise floor.
    assert rows[6:44, SILENT_COLUMN].min() > 0.9
    assert rows[:6, SILENT_COLUMN].mean() > 0.75
    assert rows[52:, SILENT_COLUMN].min() < 0.1


def test_memory_does_not_grow_with_the_sound() -> None:
    quiet = np.random.default_rng(2).normal(0, 1e-3, RATE_HZ // 2).astype(np.float32)
    stream = VisemeStream(Fraction(2))
    for _ in range(60):
        stream.push(quiet)
    tracemalloc.start()
    try:
        for _ in range(60):
            stream.push(quiet)
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("chunk", [np.zeros((2, 3)), [0.0, float("nan")]])
def test_samples_that_are_no_sound_are_refused(chunk: object) -> None:
    with pytest.raises(AudioError, match="finite samples"):
        VisemeStream().push(chunk)  # type: ignore[arg-type]


def test_an_impossible_rate_is_refused() -> None:
    with pytest.raises(InputError, match="sample_rate_hz is 100"):
        VisemeStream(24, 100)
