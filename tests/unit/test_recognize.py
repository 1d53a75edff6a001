"""Speech to visemes, against the time-aligned labels of a real recording."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import vortex
from vortex.audio import load_audio
from vortex.errors import AudioError, InputError
from vortex.lipsync.recognize import audio_to_visemes, recognize_visemes
from vortex.lipsync.visemes import mouth_shape
from vortex.types import VISEMES, Audio, PhonemeSpan

FPS = Fraction(24)
SPEECH = Path(vortex.__file__).parent / "data" / "demo_speech.flac"
LABELS = [
    PhonemeSpan(span["phone"], span["start_s"], span["end_s"])
    for span in json.loads((Path(__file__).parents[1] / "data/speech/demo_speech.json").read_text())
]
TRANSCRIPT = SPEECH.with_suffix(".txt").read_text()


@pytest.fixture(scope="module")
def audio() -> Audio:
    return load_audio(SPEECH)


def closure_times_s() -> list[float]:
    return [(s.start_s + s.end_s) / 2 for s in LABELS if s.phoneme in ("P", "B", "M")]


def closes_at(jaw: np.ndarray, time_s: float) -> bool:
    frame = round(time_s * 24 - 0.5)
    return bool(jaw[max(frame - 2, 0) : frame + 3].min() < 0.1 * np.percentile(jaw, 95))


@pytest.mark.parametrize("transcript", [None, TRANSCRIPT], ids=["recognised", "aligned"])
def test_lips_close_where_the_labels_say(audio: Audio, transcript: str | None) -> None:
    jaw = mouth_shape(recognize_visemes(audio, FPS, transcript=transcript).weights)[:, 0]
    assert len(closure_times_s()) >= 2
    assert all(closes_at(jaw, time_s) for time_s in closure_times_s())


@pytest.mark.parametrize(
    ("transcript", "floor"), [(None, 0.75), (TRANSCRIPT, 0.85)], ids=["recognised", "aligned"]
)
def test_the_jaw_follows_the_labelled_sounds_without_lag(
    audio: Audio, transcript: str | None, floor: float
) -> None:
    jaw = mouth_shape(recognize_visemes(audio, FPS, transcript=transcript).weights)[:, 0]
    truth = mouth_shape(recognize_visemes(audio, FPS, phonemes=LABELS).weights)[:, 0]
    scores = [np.corrcoef(np.roll(jaw, -lag)[6:-6], truth[6:-6])[0, 1] for lag in range(-4, 5)]
    assert max(scores) > floor
    assert abs(int(np.argmax(scores)) - 4) <= 1


def test_speech_played_backwards_does_not_fit(audio: Audio) -> None:
    backwards = Audio(audio.samples[::-1].copy(), audio.sample_rate)
    jaw = mouth_shape(recognize_visemes(backwards, FPS).weights)[:, 0]
    truth = mouth_shape(recognize_visemes(audio, FPS, phonemes=LABELS).weights)[:, 0]
    assert np.corrcoef(jaw, truth)[0, 1] < 0.5


def test_a_delay_of_the_sound_delays_the_mouth(audio: Audio) -> None:
    late = Audio(np.pad(audio.samples, (24_000, 0)), audio.sample_rate)
    here = mouth_shape(recognize_visemes(audio, FPS).weights)[:, 0]
    there = mouth_shape(recognize_visemes(late, FPS).weights)[:, 0]
    assert there[:24].max() < 0.05
    assert np.corrcoef(here, there[24 : 24 + len(here)])[0, 1] > 0.95


@pytest.mark.parametrize("fps", ["24", "25", "30", "30000/1001"])
def test_the_public_function_counts_frames_exactly(audio: Audio, fps: str) -> None:
    weights = audio_to_visemes(audio.samples, fps)
    assert weights.shape == (round(audio.duration_s * Fraction(fps)), len(VISEMES))
    assert weights.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_very_short_and_silent_sounds_give_a_shut_mouth() -> None:
    assert audio_to_visemes(np.zeros(2_400, np.float32), 24).shape == (2, 15)
    quiet = audio_to_visemes(np.random.default_rng(0).normal(0, 1e-5, 48_000).astype(np.float32), 24)
    assert mouth_shape(quiet)[:, 0].max() < 0.35


def test_long_speech_is_cut_into_chunks_without_a_seam(audio: Audio) -> None:
    repeats = 9
    long = Audio(np.tile(np.pad(audio.samples, (0, 6_000)), repeats), audio.sample_rate)
    period_s = len(long.samples) / repeats / 24_000
    jaw = mouth_shape(recognize_visemes(long, FPS).weights)[:, 0]
    for repeat in range(repeats):
        for time_s in closure_times_s():
            assert closes_at(jaw, time_s + repeat * period_s), (repeat, time_s)


def test_transcripts_that_cannot_be_used_are_refused(audio: Audio) -> None:
    with pytest.raises(InputError, match="in words"):
        recognize_visemes(audio, FPS, transcript="he paid $3.50")
    with pytest.raises(InputError, match="no English words"):
        recognize_visemes(audio, FPS, transcript="...")
    with pytest.raises(AudioError, match="does not match"):
        recognize_visemes(audio, FPS, transcript="a completely different and far too long sentence " * 40)


def test_words_outside_the_dictionary_are_spelled(audio: Audio) -> None:
    track = recognize_visemes(audio, FPS, transcript=TRANSCRIPT.replace("gregson", "gregsonne"))
    assert track.weights.shape[0] == 74


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_does_not_change_the_result(
    audio: Audio, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    long = Audio(np.tile(audio.samples, 5), audio.sample_rate)
    here = recognize_visemes(long, FPS).weights
    monkeypatch.setattr("os.cpu_count", lambda: threads)
    assert np.array_equal(recognize_visemes(long, FPS).weights, here)
