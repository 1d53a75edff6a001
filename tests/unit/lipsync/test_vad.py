"""Voice activity: levels against physics, and decisions on sounds whose pauses are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from support.demo_labels import LABELS
from support.paths import DEMO_SPEECH

from vortex.lipsync.vad import (
    VAD_HZ,
    band_level_db,
    detect_speech,
    detect_vocalization,
    detect_voice,
    loud_level_db,
    relative_level_db,
    relative_loudness,
)
from vortex.media.audio import load_audio

RATE_HZ = 16_000


def tone(frequency_hz: float, amplitude: float, duration_s: float) -> np.ndarray:
    time_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    return (amplitude * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.float32)


def voice_and_pauses(*parts: tuple[str, float], noise: float = 1e-4) -> np.ndarray:
    """Return noise with a loud tone of 500 Hz in the parts that are called "voice"."""
    rng = np.random.default_rng(0)
    sound = np.concatenate([tone(500, 0.3 if name == "voice" else 0.0, length_s) for name, length_s in parts])
    return (sound + rng.normal(0, noise, len(sound))).astype(np.float32)


def test_ten_times_the_amplitude_is_20_db_more() -> None:
    quiet, loud = (band_level_db(tone(1000, amplitude, 1.0))[5:-5] for amplitude in (0.05, 0.5))
    assert loud - quiet == pytest.approx(20, abs=0.01)


def test_only_the_band_of_speech_counts() -> None:
    inside = band_level_db(tone(1000, 0.1, 1.0))[5:-5].mean()
    for frequency_hz in (50, 100, 7000):
        assert band_level_db(tone(frequency_hz, 0.1, 1.0))[5:-5].mean() < inside - 30, frequency_hz


def test_the_loud_level_is_at_least_that_of_a_tone_at_60_dbfs() -> None:
    # The level of a sine is that of its root mean square, which is its amplitude over the root of 2.
    amplitude = np.sqrt(2) * 10 ** (-60 / 20)
    at_limit = float(band_level_db(tone(1000, amplitude, 1.0))[5:-5].mean())
    assert loud_level_db(np.full(100, -90, np.float32)) == pytest.approx(at_limit, abs=0.05)
    assert loud_level_db(np.full(100, at_limit + 30, np.float32)) == pytest.approx(at_limit + 30)


def test_there_are_100_levels_a_second() -> None:
    assert len(relative_level_db(tone(500, 0.1, 1.234))) == 123
    assert len(relative_level_db(np.zeros(159, np.float32))) == 0
    assert (
        len(detect_speech(np.zeros(0, np.float32))) == len(detect_vocalization(np.zeros(0, np.float32))) == 0
    )


@pytest.mark.parametrize("hum", [0.0, 0.3])
def test_pauses_are_found_where_they_are_even_under_hum(hum: float) -> None:
    sound = voice_and_pauses(("pause", 0.5), ("voice", 1.0), ("pause", 0.5), ("voice", 1.0), ("pause", 0.5))
    sound += tone(60, hum, 3.5)
    speech = detect_speech(relative_level_db(sound))
    edges_s = (np.flatnonzero(np.diff(speech)) + 1) / VAD_HZ
    assert edges_s == pytest.approx([0.5, 1.5, 2.0, 3.0], abs=0.04)


def test_a_short_gap_is_part_of_the_speech_and_a_click_is_not() -> None:
    sound = voice_and_pauses(("voice", 0.5), ("pause", 0.1), ("voice", 0.5), ("pause", 1.0))
    sound[round(1.6 * RATE_HZ)] = 0.5
    speech = detect_speech(relative_level_db(sound))
    assert speech[5:105].all()
    assert not speech[115:].any()


def test_the_silences_of_a_recording_are_those_of_its_labels() -> None:
    speech = detect_speech(relative_level_db(load_audio(DEMO_SPEECH, RATE_HZ).samples))
    time_s = (np.arange(len(speech)) + 0.5) / VAD_HZ
    labelled = np.zeros(len(speech), bool)
    for span in LABELS:
        labelled |= (span.start_s <= time_s) & (time_s < span.end_s) & (span.phoneme != "SIL")
    assert (speech == labelled).mean() > 0.95


@pytest.mark.parametrize("detect", [detect_speech, detect_vocalization])
def test_a_steady_level_is_a_voice_only_if_it_was_quiet_before(detect: Callable[..., np.ndarray]) -> None:
    steady = np.full(50, -10, np.float32)
    assert not detect(steady).any()
    assert not detect(steady, np.full(200, -10, np.float32)).any()
    assert detect(steady, np.full(200, -60, np.float32)).all()


def test_a_voice_is_where_the_network_is_sure_and_a_little_around() -> None:
    probability = np.zeros(50, np.float32)
    probability[15:20] = 0.25  # not yet above the threshold of a start
    probability[20:30] = 0.9
    probability[30:35] = 0.2  # still above the threshold of an end
    probability[40:45] = 0.4  # never sure
    voice = detect_voice(probability, 160)
    edges_s = (np.flatnonzero(np.diff(voice)) + 1) / VAD_HZ
    assert edges_s == pytest.approx([20 * 0.032 - 0.13, 35 * 0.032 + 0.065], abs=0.02)
    # From the middle of the sound on, and beyond its last block.
    later = detect_voice(probability, 120, start=40 * 160)
    assert np.array_equal(later, voice[40:])
    assert not detect_voice(probability, 400)[160:].any()
    assert not detect_voice(np.zeros(0, np.float32), 3).any()


def test_zeros_before_a_recording_do_not_lower_its_noise_floor() -> None:
    noise = np.full(100, -30, np.float32)
    voice = np.zeros(100, np.float32)
    expected = detect_speech(np.concatenate([noise, voice]))
    assert not expected[:95].any() and expected[105:].all()
    with_zeros = detect_speech(np.concatenate([np.full(50, -110, np.float32), noise, voice]))
    assert np.array_equal(with_zeros[50:], expected)


def test_a_loud_voice_is_a_vocalization_and_a_soft_one_is_not() -> None:
    level = np.repeat([-60.0, 0.0, -25.0, -60.0], 50).astype(np.float32)
    found = detect_vocalization(level)
    assert found[50:100].all()
    assert not found[:50].any() and not found[100:].any()


def test_loudness_runs_from_35_db_below_the_loudest_up_to_it() -> None:
    levels = np.array([-100, -55, -37.5, -20, -10], np.float32)
    assert relative_loudness(levels, -20.0) == pytest.approx([0, 0, 0.5, 1, 1])
