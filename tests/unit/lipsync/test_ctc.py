"""CTC: decoding and spans by hand, chunks against the whole, and the recognised sounds against labels."""

from __future__ import annotations

import numpy as np
import pytest
from support.demo_labels import LABELS
from support.paths import DEMO_SPEECH

from vortex.lipsync import ctc
from vortex.lipsync.acoustic import HOP_S
from vortex.lipsync.ctc import (
    BLANK,
    CLASSES,
    CTC_DELAY_S,
    Spike,
    add_filled_pauses,
    chunk_emissions,
    class_emissions,
    cut_at_pauses,
    iter_spikes,
    spans_of_spikes,
    spans_until_next,
    split_phrases,
    words_of_spikes,
)
from vortex.lipsync.visemes import PHONEMES, SILENCE
from vortex.media.audio import load_audio
from vortex.types import PhonemeSpan


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return load_audio(DEMO_SPEECH, 16_000).samples


def emitted(*names: str) -> np.ndarray:
    """Return emissions that are certain of one class in each frame."""
    return np.eye(len(CLASSES), dtype=np.float32)[[CLASSES.index(name) for name in names]]


def edit_distance(found: list[str], expected: list[str]) -> int:
    """Return the Levenshtein distance."""
    row = list(range(len(expected) + 1))
    for i, name in enumerate(found, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(expected, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (name != other))
    return row[-1]


def test_the_classes_are_blank_silence_and_the_phonemes() -> None:
    assert CLASSES[0] == BLANK
    assert sorted(CLASSES) == sorted([BLANK, SILENCE, *PHONEMES])


def test_repeats_are_one_sound_and_a_blank_between_makes_two() -> None:
    frames = emitted(BLANK, BLANK, BLANK, "IY", "IY", BLANK, "IY", "S", SILENCE, BLANK)
    spikes = list(iter_spikes([frames[:4], frames[4:]]))  # the repeat goes over the edge of a chunk
    assert [spike.phoneme for spike in spikes] == ["IY", "IY", "S", SILENCE]
    assert [spike.start_s for spike in spikes] == pytest.approx([0.0, 0.06, 0.08, 0.10])
    assert (HOP_S, CTC_DELAY_S) == (0.02, 0.06)


def test_emissions_are_probabilities_every_20_ms(samples: np.ndarray) -> None:
    emissions = class_emissions(samples)
    assert emissions.shape == (len(samples) // 320 + 1, len(CLASSES))
    assert emissions.min() >= 0
    # Marks of tone and length are blanks, so nothing is lost.
    assert emissions.sum(axis=1) == pytest.approx(1, abs=1e-3)
    assert class_emissions(np.zeros(10, np.float32)).shape[1] == len(CLASSES)


def test_the_recognised_sounds_are_those_of_the_labels(samples: np.ndarray) -> None:
    found = [spike.phoneme for spike in iter_spikes(chunk_emissions(samples)) if spike.phoneme != SILENCE]
    spoken = [span.phoneme for span in LABELS if span.phoneme != "SIL"]
    assert edit_distance(found, spoken) < 0.2 * len(spoken)
    assert edit_distance(found[::-1], spoken) > 0.6 * len(spoken)


def test_spikes_come_at_their_sounds(samples: np.ndarray) -> None:
    spikes = list(iter_spikes(chunk_emissions(samples)))
    for name in ("SH", "P", "F", "K", "B"):
        (label,) = (span for span in LABELS if span.phoneme == name)
        (spike,) = (spike for spike in spikes if spike.phoneme == name)
        assert label.start_s - 0.05 < spike.start_s < label.end_s, name


def test_chunks_say_the_same_as_one_piece(samples: np.ndarray) -> None:
    long = np.tile(samples, 7)
    chunks = chunk_emissions(long)
    assert [len(chunk) for chunk in chunks[:-1]] == [600] * (len(chunks) - 1)
    whole, joined = class_emissions(long), np.concatenate(chunks)
    assert len(joined) == len(whole)
    same = joined.argmax(axis=1) == whole.argmax(axis=1)
    assert same.mean() > 0.97
    # Without sound of the neighbours, six of these thirty frames differ.
    for seam in range(600, len(whole) - 15, 600):
        assert same[seam - 15 : seam + 15].all(), seam


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_does_not_change_the_result(
    samples: np.ndarray, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    long = np.tile(samples, 5)
    expected = np.concatenate(chunk_emissions(long))
    monkeypatch.setattr(ctc.os, "cpu_count", lambda: threads)
    assert np.array_equal(np.concatenate(chunk_emissions(long)), expected)


def voiced(*parts: tuple[bool, float]) -> np.ndarray:
    """Return decisions at 100 Hz from (voiced, seconds)."""
    return np.concatenate([np.full(round(100 * length_s), value) for value, length_s in parts])


SPIKES = [Spike(0.1, "M"), Spike(0.2, "AA"), Spike(0.3, SILENCE), Spike(0.5, "T")]


def test_each_sound_lasts_until_the_next_one() -> None:
    assert spans_until_next(SPIKES, 0.9) == [
        PhonemeSpan("M", 0.1, 0.2),
        PhonemeSpan("AA", 0.2, 0.5),
        PhonemeSpan("T", 0.5, 0.9),
    ]
    assert spans_until_next([Spike(0.1, SILENCE)], 0.9) == spans_until_next([], 0.9) == []
    assert spans_until_next([Spike(0.5, "T")], 0.4) == [PhonemeSpan("T", 0.5, 0.5)]


def test_words_are_what_stands_between_silences() -> None:
    assert words_of_spikes(SPIKES) == [["M", "AA"], ["T"]]
    assert words_of_spikes([Spike(0, SILENCE), *SPIKES, Spike(1, SILENCE)]) == [["M", "AA"], ["T"]]
    assert words_of_spikes([]) == []


def test_phrases_are_cut_in_the_middle_of_pauses_two_seconds_apart() -> None:
    speech = voiced((True, 1.0), (False, 0.2), (True, 1.5), (False, 0.4), (True, 1.0), (False, 0.5))
    phrases = split_phrases(speech)
    # The first pause comes too early for a phrase of two seconds, and the last one ends the sound.
    assert phrases == [(0.0, pytest.approx(2.9)), (pytest.approx(2.9), pytest.approx(4.62))]
    assert split_phrases(speech[:0]) == []
    # Silence at the start belongs to the first phrase.
    assert split_phrases(voiced((False, 5.0), (True, 1.0))) == [(0.0, pytest.approx(6.02))]


def test_a_sound_ends_where_a_pause_begins() -> None:
    speech = voiced((True, 0.5), (False, 0.5), (True, 0.5))
    assert cut_at_pauses([PhonemeSpan("AA", 0.3, 0.8)], speech) == [PhonemeSpan("AA", 0.3, 0.5)]
    assert cut_at_pauses([PhonemeSpan("AA", 1.1, 1.4)], speech) == [PhonemeSpan("AA", 1.1, 1.4)]


def test_a_sound_just_before_speech_begins_with_it_and_one_in_a_pause_is_short() -> None:
    speech = voiced((False, 0.5), (True, 0.5))
    assert cut_at_pauses([PhonemeSpan("M", 0.45, 0.7)], speech) == [PhonemeSpan("M", 0.5, 0.7)]
    (stray,) = cut_at_pauses([PhonemeSpan("M", 0.2, 0.7)], speech)
    assert (stray.start_s, stray.end_s) == pytest.approx((0.2, 0.28))
    assert cut_at_pauses([PhonemeSpan("M", 0.45, 0.48)], speech) == []


def test_a_loud_sound_without_a_name_becomes_a_neutral_vowel() -> None:
    loud = voiced((False, 0.2), (True, 0.6), (False, 0.2), (True, 0.05))
    spans = add_filled_pauses([PhonemeSpan("M", 0.2, 0.4)], loud)
    # Five hundredths of a second are too short.
    assert spans == [PhonemeSpan("M", 0.2, 0.4), PhonemeSpan("AH", 0.4, 0.8)]


def test_spikes_alone_make_spans_that_fit_the_speech() -> None:
    speech = voiced((False, 0.15), (True, 0.45), (False, 0.4))
    assert spans_of_spikes(SPIKES, speech, np.zeros(100, bool)) == [
        PhonemeSpan("M", 0.15, 0.2),
        PhonemeSpan("AA", 0.2, 0.5),
        PhonemeSpan("T", 0.5, 0.6),
    ]
    assert spans_of_spikes([], speech, speech) == [PhonemeSpan("AH", 0.15, 0.6)]


def test_sounds_that_close_alike_count_together_and_more() -> None:
    def decoded(**probabilities: float) -> list[str]:
        frame = np.zeros((1, len(CLASSES)), np.float32)
        for name, probability in probabilities.items():
            frame[0, CLASSES.index(name)] = probability
        return [spike.phoneme for spike in iter_spikes([frame])]

    # Together p, b and m have 0.27, twice that is more than 0.5; the likeliest of them is named.
    assert decoded(N=0.5, M=0.15, B=0.12) == ["M"]
    assert decoded(N=0.6, M=0.15, B=0.12) == ["N"]
    assert decoded(S=0.5, F=0.1, V=0.2) == ["V"]
    assert decoded(S=0.5, F=0.2, B=0.2) == ["S"]


def test_spikes_stay_in_order_whatever_their_delay() -> None:
    starts_s = [spike.start_s for spike in iter_spikes([emitted(*[BLANK] * 20, "D", "AA", "UW", "P", "N")])]
    assert starts_s == sorted(starts_s)
    # D is emitted in frame 20, at 0.40 s, and P three frames later, each with a delay of its own.
    assert starts_s[0] == pytest.approx(0.36)
    assert starts_s[1] == starts_s[0]
