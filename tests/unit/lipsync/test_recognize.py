"""Speech to visemes and alignment, against the time-aligned labels of a real recording."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import spoil
from support.demo_labels import CLOSURES_S, LABELS, TRANSCRIPT
from support.noises import NOISES
from support.paths import DEMO_SPEECH

from vortex.errors import AudioError, InputError
from vortex.lipsync import recognize
from vortex.lipsync.alignment import PhonemeAligner, align_transcript
from vortex.lipsync.recognize import audio_to_visemes, recognize_phonemes, recognize_visemes
from vortex.lipsync.visemes import mouth_shape
from vortex.media.audio import load_audio
from vortex.types import Audio, PhonemeSpan
from vortex.visemes import LIP_CLOSING_COLUMNS, SILENT_COLUMN, VISEMES

FPS = Fraction(24)


@pytest.fixture(scope="module")
def audio() -> Audio:
    return load_audio(DEMO_SPEECH)


def jaw_of(audio: Audio, **known: object) -> np.ndarray:
    return mouth_shape(recognize_visemes(audio, FPS, **known).weights)[:, 0]  # type: ignore[arg-type]


def closes_at(jaw: np.ndarray, time_s: float) -> bool:
    frame = round(time_s * 24 - 0.5)
    return bool(jaw[max(frame - 2, 0) : frame + 3].min() < 0.1 * np.percentile(jaw, 95))


@pytest.mark.parametrize("transcript", [None, TRANSCRIPT], ids=["recognised", "aligned"])
def test_lips_close_where_the_labels_say_and_nowhere_else(audio: Audio, transcript: str | None) -> None:
    jaw = jaw_of(audio, transcript=transcript)
    assert len(CLOSURES_S) == 2
    assert all(closes_at(jaw, time_s) for time_s in CLOSURES_S)
    closing = recognize_visemes(audio, FPS, transcript=transcript).weights[:, LIP_CLOSING_COLUMNS].sum(axis=1)
    frames = np.flatnonzero(closing > 0.5)
    assert all(min(abs((frame + 0.5) / 24 - time_s) for time_s in CLOSURES_S) < 0.1 for frame in frames)


@pytest.mark.parametrize(
    ("transcript", "floor"), [(None, 0.75), (TRANSCRIPT, 0.85)], ids=["recognised", "aligned"]
)
def test_the_jaw_follows_the_labelled_sounds_without_lag(
    audio: Audio, transcript: str | None, floor: float
) -> None:
    jaw, truth = jaw_of(audio, transcript=transcript), jaw_of(audio, phonemes=LABELS)
    scores = [np.corrcoef(np.roll(jaw, -lag)[6:-6], truth[6:-6])[0, 1] for lag in range(-4, 5)]
    assert max(scores) > floor
    assert abs(int(np.argmax(scores)) - 4) <= 1


def test_speech_played_backwards_does_not_fit(audio: Audio) -> None:
    backwards = Audio(audio.samples[::-1].copy(), audio.sample_rate)
    assert np.corrcoef(jaw_of(backwards), jaw_of(audio, phonemes=LABELS))[0, 1] < 0.5


def test_a_delay_of_the_sound_delays_the_mouth(audio: Audio) -> None:
    late = Audio(np.pad(audio.samples, (24_000, 0)), audio.sample_rate)
    in_time, delayed = jaw_of(audio), jaw_of(late)
    assert delayed[:24].max() < 0.05
    assert np.corrcoef(in_time, delayed[24 : 24 + len(in_time)])[0, 1] > 0.95


@pytest.mark.parametrize("transcript", [None, TRANSCRIPT], ids=["recognised", "aligned"])
def test_noise_before_and_after_the_speech_moves_nothing(audio: Audio, transcript: str | None) -> None:
    rng = np.random.default_rng(1)
    noisy = np.pad(audio.samples, 24_000) + rng.normal(0, 0.003, len(audio.samples) + 48_000)
    weights = recognize_visemes(Audio(noisy.astype(np.float32)), FPS, transcript=transcript).weights
    assert weights[:24, SILENT_COLUMN].min() > 0.9
    assert weights[-22:, SILENT_COLUMN].min() > 0.9
    assert weights[30:-30, SILENT_COLUMN].mean() < 0.2


def test_a_phrase_that_cannot_be_aligned_keeps_the_times_of_its_spikes(
    audio: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recognize.PhonemeAligner, "align", lambda *_: [])
    weights = recognize_visemes(Audio(np.pad(audio.samples, (0, 36_000))), FPS).weights
    jaw = mouth_shape(weights)[:, 0]
    assert all(closes_at(jaw, time_s) for time_s in CLOSURES_S)
    # The last sound ends with the speech, not with the recording.
    assert weights[-30:, SILENT_COLUMN].min() > 0.95


def test_loudness_is_high_in_stressed_open_vowels_and_zero_in_digital_silence(audio: Audio) -> None:
    late = Audio(np.pad(audio.samples, (24_000, 0)), audio.sample_rate)
    loudness = recognize_visemes(late, FPS, phonemes=[]).loudness
    assert (loudness[:23] == 0).all()
    vowels = [span for span in LABELS if span.phoneme in ("AA", "AO")]  # sharply, across
    frames = [24 + int((span.start_s + span.end_s) / 2 * 24) for span in vowels]
    assert loudness[frames].min() > 0.85


@pytest.mark.parametrize("fps", ["24", "25", "30", "30000/1001"])
def test_the_public_function_counts_frames_exactly(audio: Audio, fps: str) -> None:
    weights = audio_to_visemes(audio.samples, fps)
    assert weights.shape == (math.ceil(audio.duration_s * Fraction(fps)), len(VISEMES))
    assert weights.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_very_short_and_silent_sounds_keep_the_mouth_shut() -> None:
    for samples in (np.zeros(2_400), np.random.default_rng(0).normal(0, 1e-5, 48_000)):
        weights = audio_to_visemes(samples, 24)
        assert weights.shape == (math.ceil(len(samples) / 1_000), len(VISEMES))
        assert weights[:, SILENT_COLUMN].mean() > 0.9
        assert mouth_shape(weights)[:, 0].max() < 0.35


def test_long_speech_is_cut_into_chunks_without_a_seam(audio: Audio) -> None:
    repeats = 9
    long = Audio(np.tile(np.pad(audio.samples, (0, 6_000)), repeats), audio.sample_rate)
    period_s = len(long.samples) / repeats / 24_000
    jaw = jaw_of(long)
    for repeat in range(repeats):
        for time_s in CLOSURES_S:
            assert closes_at(jaw, time_s + repeat * period_s), (repeat, time_s)


def test_a_drawn_out_vowel_keeps_the_mouth_open(samples: np.ndarray) -> None:
    (vowel,) = (span for span in LABELS if span.phoneme == "AO")  # across
    middle = round((vowel.start_s + vowel.end_s) / 2 * 16_000)
    grain = samples[middle - 480 : middle + 480] * np.hanning(960)
    drawl = np.zeros(16_000)
    for start in range(0, 16_000 - 960, 480):
        drawl[start : start + 960] += grain
    long = np.concatenate([samples[:middle], drawl, samples[middle:]])
    jaw = mouth_shape(audio_to_visemes(long, 24, 16_000))[:, 0]
    first = round(middle / 16_000 * 24)
    assert jaw[first + 2 : first + 22].min() > 0.3


@pytest.mark.parametrize("name", NOISES)
def test_the_mouth_rests_while_nobody_speaks(samples: np.ndarray, name: str) -> None:
    sound = np.concatenate([NOISES[name](3.0), samples, NOISES[name](2.0)])
    jaw = mouth_shape(audio_to_visemes(sound, 24, 16_000))[:, 0]
    quiet = np.concatenate([jaw[:72], jaw[-44:]])
    assert (quiet < 0.05).mean() >= 0.98
    # The voice is shown all the same, between 3.2 and 6 s.
    assert (jaw[78:140] > 0.15).mean() > 0.75
    alone = mouth_shape(audio_to_visemes(NOISES[name](4.0), 24, 16_000))[:, 0]
    assert (alone < 0.05).mean() >= 0.98


def test_what_is_no_sound_is_refused() -> None:
    with pytest.raises(AudioError, match="not finite"):
        audio_to_visemes([0.0, float("nan")], 24)
    with pytest.raises(InputError, match="mono"):
        audio_to_visemes(np.zeros((2, 2_400)), 24)
    with pytest.raises(InputError, match="fps"):
        audio_to_visemes(np.zeros(2_400), 0)


MISSPELLED = {"sharply": "sharpley", "gregson": "gregsonne", "table": "taybel"}
"""Words of the transcript, and spellings of them that are in no dictionary."""


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return load_audio(DEMO_SPEECH, 16_000).samples


def label_of(phoneme: str) -> PhonemeSpan:
    (span,) = (span for span in LABELS if span.phoneme == phoneme)
    return span


def test_the_sounds_are_those_of_the_labels_at_their_times(samples: np.ndarray) -> None:
    found = align_transcript(samples, TRANSCRIPT)
    spoken = [span for span in LABELS if span.phoneme != "SIL"]
    assert [span.phoneme for span in found] == [span.phoneme for span in spoken]
    late_s = np.array([span.start_s for span in found]) - [span.start_s for span in spoken]
    # People who label sounds by hand agree within about 20 ms (Pitt et al. 2005, the Buckeye corpus).
    assert -0.01 < np.median(late_s) < 0.03
    assert np.median(np.abs(late_s)) < 0.03
    assert np.abs(late_s).max() < 0.1


def test_words_outside_the_dictionary_are_spelled_as_the_dictionary_would(samples: np.ndarray) -> None:
    text = TRANSCRIPT
    for word, misspelled in MISSPELLED.items():
        assert word in text
        text = text.replace(word, misspelled)
    expected, found = align_transcript(samples, TRANSCRIPT), align_transcript(samples, text)
    # The CMU dictionary: SH AA R P L IY, G R EH G S AH N, T EY B AH L.
    assert [span.phoneme for span in found] == [span.phoneme for span in expected]
    for name in ("P", "B"):
        (span,) = (span for span in found if span.phoneme == name)
        assert span.start_s == pytest.approx(label_of(name).start_s, abs=0.05)


@pytest.mark.parametrize(
    "text", ["He turned, SHARPLY - and faced Gregson: across the table!", TRANSCRIPT.upper()]
)
def test_case_and_punctuation_do_not_matter(samples: np.ndarray, text: str) -> None:
    assert align_transcript(samples, text) == align_transcript(samples, TRANSCRIPT)


def test_either_apostrophe_makes_one_word(samples: np.ndarray) -> None:
    # Apart, "he" and "d" would be HH IY D IY.
    for apostrophe in ("'", "\u2019"):
        found = align_transcript(samples, TRANSCRIPT.replace("he turned", f"he{apostrophe}d turned", 1))
        assert [span.phoneme for span in found][:4] == ["HH", "IY", "D", "T"]


def test_transcripts_that_cannot_be_used_are_refused(samples: np.ndarray) -> None:
    with pytest.raises(InputError, match="in words"):
        align_transcript(samples, "he paid $3.50")
    with pytest.raises(InputError, match="no English words"):
        align_transcript(samples, "...")
    with pytest.raises(AudioError, match="does not match"):
        align_transcript(samples, "a completely different and far too long sentence " * 40)


def test_recognised_words_are_aligned_like_a_transcript(samples: np.ndarray) -> None:
    words = [["SH", "AA", "R", "P", "L", "IY"], ["AE", "N", "D"], ["F", "EY", "S", "T"]]
    start, end = round(0.6 * 16_000), round(1.6 * 16_000)
    aligner = PhonemeAligner()
    found = aligner.align(samples[start:end], words)
    assert [span.phoneme for span in found] == [name for word in words for name in word]
    for name in ("P", "F"):
        (span,) = (span for span in found if span.phoneme == name)
        assert span.start_s + 0.6 == pytest.approx(label_of(name).start_s, abs=0.06)
    # An aligner can be used again, and returns nothing if the words do not fit the sound.
    assert aligner.align(samples[start:end], words) == found
    assert aligner.align(samples[: 16_000 // 20], words) == []


def test_fast_speech_is_aligned_with_wider_beams(
    samples: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spoil, "SPEED", 2.5)
    fast = spoil.CONDITIONS["fast"](samples, np.random.default_rng(0)).astype(np.float32)
    found = align_transcript(fast, TRANSCRIPT)
    assert len(found) == len([span for span in LABELS if span.phoneme != "SIL"])
    for name in ("P", "B"):
        (span,) = (span for span in found if span.phoneme == name)
        assert span.start_s == pytest.approx(label_of(name).start_s / 2.5, abs=0.1)


def test_a_right_transcript_is_followed_even_where_the_aligner_fails(samples: np.ndarray) -> None:
    # The noise is as loud as the voice: PocketSphinx finds no path at all.
    loud = np.sqrt(np.mean(samples**2))
    noisy = (samples + np.random.default_rng(0).normal(0, loud, len(samples))).astype(np.float32)
    with pytest.raises(AudioError, match="does not match"):
        align_transcript(noisy, TRANSCRIPT)
    heard = recognize_phonemes(noisy, TRANSCRIPT)
    assert heard.notes == ()
    for name in ("P", "B"):
        (span,) = (span for span in heard.spans if span.phoneme == name)
        assert span.start_s == pytest.approx(label_of(name).start_s, abs=0.085)


WRONG = "seven small green boats float quietly under an old wooden bridge before midnight"


def test_a_wrong_transcript_changes_nothing_and_is_named(samples: np.ndarray) -> None:
    without, wrong = recognize_phonemes(samples), recognize_phonemes(samples, WRONG)
    assert wrong.spans == without.spans
    assert without.notes == ()
    assert wrong.notes == (
        "the transcript does not match the speech from 0.0 to 3.1 s; the lips follow the sound there",
    )


def test_the_part_of_a_transcript_that_matches_is_used(samples: np.ndarray) -> None:
    # Twice the sentence; the transcript is right for the first.
    both = np.concatenate([samples, samples])
    heard = recognize_phonemes(both, f"{TRANSCRIPT} {WRONG}")
    (note,) = heard.notes
    assert "to 6.2 s" in note
    spoken = [span.phoneme for span in LABELS if span.phoneme != "SIL"]
    # Some words at the seam may be left to the sound.
    assert [span.phoneme for span in heard.spans][:22] == spoken[:22]
    closures = [span.start_s for span in heard.spans if span.phoneme in ("P", "B")]
    for late_s in (0.0, len(samples) / 16_000):
        for time_s in CLOSURES_S:
            assert min(abs(start_s - late_s - time_s) for start_s in closures) < 0.1
