"""Phonemes: those of the CMU dictionary; visemes: normalised, smooth, and closed when lips must be closed."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pocketsphinx
import pytest
from support.closures import CLOSING_VISEME, all_pairs, spoken, unclosed

from vortex.errors import InputError, UnknownPhonemeError
from vortex.lipsync import visemes
from vortex.lipsync.acoustic import AcousticModel
from vortex.lipsync.visemes import (
    ARTICULATIONS,
    IPA_TO_ARPABET,
    PHONEMES,
    SILENCE,
    VOWELS,
    check_spans,
    coarticulate,
    mouth_shape,
    normalize_phoneme,
    phoneme_to_viseme,
    smooth_viseme_sequence,
)
from vortex.types import PhonemeSpan
from vortex.visemes import VISEME_TABLE, VISEMES

JAW = 0


def test_every_sound_has_an_articulation_and_every_viseme_a_sound() -> None:
    assert set(ARTICULATIONS) == {*PHONEMES, SILENCE}
    assert {phoneme_to_viseme(name) for name in ARTICULATIONS} == set(VISEMES)
    for name, sound in ARTICULATIONS.items():
        for target in (sound.target, sound.offglide or sound.target):
            assert set(target) <= set(VISEMES), name
            assert sum(target.values()) == pytest.approx(1), name


def test_sounds_close_round_and_glide_as_in_phonetics() -> None:
    closes = {
        kind: {p for p in PHONEMES if VISEME_TABLE[VISEMES.index(phoneme_to_viseme(p))].closes == kind}
        for kind in ("lips", "teeth")
    }
    assert closes == {"lips": {"P", "B", "M"}, "teeth": {"F", "V"}}
    # Rounded vowels and w; English post-alveolar fricatives and affricates are rounded, too (Ladefoged).
    rounded = set("W UW UH OW OY AO SH CH JH ZH".split())
    assert {name for name, sound in ARTICULATIONS.items() if sound.rounds} == rounded
    # The diphthongs of American English.
    assert {n for n, sound in ARTICULATIONS.items() if sound.offglide} == set("AY AW EY OW OY".split())


@pytest.mark.parametrize(
    ("phoneme", "viseme"),
    [
        ("P", "PP"),
        ("b", "PP"),
        ("M", "PP"),
        ("V", "FF"),
        ("AA1", "aa"),
        ("UW0", "ou"),
        ("IY2", "ih"),
        ("sil", "sil"),
    ],
)
def test_phonemes_show_the_viseme_of_the_openxr_table(phoneme: str, viseme: str) -> None:
    assert phoneme_to_viseme(phoneme) == viseme


@pytest.mark.parametrize("window_size", [1, 3, 5, 9])
def test_smoothing_keeps_length_and_sums_and_matches_a_plain_loop(window_size: int) -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(len(VISEMES)), 40)
    smooth = smooth_viseme_sequence(rows, window_size)
    assert smooth.shape == rows.shape
    assert smooth.sum(axis=1) == pytest.approx(1, abs=1e-5)
    half = window_size // 2
    for t in (0, 7, 20, 39):
        near = [rows[min(max(t + k, 0), 39)] * (half + 1 - abs(k)) for k in range(-half, half + 1)]
        assert smooth[t] == pytest.approx(np.sum(near, axis=0) / (half + 1) ** 2, abs=1e-5)


def test_smoothing_refuses_what_it_cannot_smooth() -> None:
    with pytest.raises(InputError, match="odd"):
        smooth_viseme_sequence(np.zeros((4, 15)), 2)
    with pytest.raises(InputError, match="shape"):
        smooth_viseme_sequence(np.zeros(4))


@pytest.mark.parametrize("fps", [Fraction(24), Fraction(25), Fraction(30), Fraction(30_000, 1001)])
def test_weights_are_shares_and_a_vowel_is_centred_on_its_time(fps: Fraction) -> None:
    spans = [PhonemeSpan("AA", 1.0, 1.4)]
    weights = coarticulate(spans, round(2.4 * fps), fps)
    assert weights.min() >= 0
    assert weights.sum(axis=1) == pytest.approx(1, abs=1e-5)
    open_share = weights[:, VISEMES.index("aa")]
    centre_s = float((open_share * (np.arange(len(weights)) + 0.5)).sum() / open_share.sum() / fps)
    assert centre_s == pytest.approx(1.2, abs=0.5 / fps)


@pytest.mark.parametrize("closure_s", [0.03, 0.05, 0.1])
@pytest.mark.parametrize("phoneme", ["P", "B", "M"])
def test_lips_close_even_in_fast_speech(phoneme: str, closure_s: float) -> None:
    # Wherever the closure is between the middles of two frames.
    for before_s in np.linspace(0.3, 0.3 + 1 / 24, 9):
        spans = spoken(("AA", before_s), (phoneme, closure_s), ("AA", 0.3))
        jaw = mouth_shape(coarticulate(spans, 18, Fraction(24)))[:17, JAW]
        closure_frame = (before_s + closure_s / 2) * 24 - 0.5
        closed = np.flatnonzero(jaw[2:-3] < 0.1 * jaw.max()) + 2
        assert len(closed) > 0
        assert abs(closed.mean() - closure_frame) <= 1


LENGTHS_S = [(0.02, 0.02), (0.02, 0.06), (0.06, 0.02), (0.03, 0.03), (0.045, 0.03), (0.1, 0.1)]
"""How long the two sounds of a pair last."""


@pytest.mark.parametrize("fps", [Fraction(24), Fraction(25), Fraction(30), Fraction(60)])
@pytest.mark.parametrize("lengths_s", LENGTHS_S)
def test_every_closure_is_full_in_every_pair_of_sounds(lengths_s: tuple[float, float], fps: Fraction) -> None:
    spans = all_pairs(lengths_s)
    weights = coarticulate(spans, int(spans[-1].end_s * fps), fps)
    assert weights.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert unclosed(spans, weights, fps) == []


@pytest.mark.parametrize("vowel", ["UW", "OW", "AO", "W", "SH"])
@pytest.mark.parametrize("closing", ["B", "F"])
def test_a_rounded_sound_waits_for_the_closure_before_it(closing: str, vowel: str) -> None:
    fps = Fraction(120)
    weights = coarticulate(spoken(("AA", 0.3), (closing, 0.03), (vowel, 0.3)), 80, fps)
    closed = weights[:, VISEMES.index(CLOSING_VISEME[closing])]
    # The closure lasts from 0.30 to 0.33 s, and the lips need some hundredths to move.
    assert (closed.argmax() + 0.5) / 120 == pytest.approx(0.315, abs=0.015)
    assert closed[: round(0.22 * 120)].max() < 0.1
    assert closed[round(0.43 * 120) :].max() < 0.1


@pytest.mark.parametrize(("length_s", "most"), [(0.05, 0.6), (0.08, 0.5)])
def test_the_tip_of_the_tongue_holds_the_jaw_between_open_vowels(length_s: float, most: float) -> None:
    fps = Fraction(120)
    for name in "TDNL":
        jaw = mouth_shape(coarticulate(spoken(("AA", 0.25), (name, length_s), ("AA", 0.25)), 66, fps))[:, JAW]
        # The table asks for 0.3 of the opening of an open vowel; the neighbours add to it.
        assert jaw[int((0.25 + length_s / 2) * 120)] < most * jaw[12:30].max(), name


def test_a_tongue_sound_between_vowels_does_not_close_the_lips() -> None:
    jaw = mouth_shape(coarticulate(spoken(("AA", 0.3), ("T", 0.06), ("AA", 0.3)), 16, Fraction(24)))[:, JAW]
    assert jaw[3:12].min() > 0.25 * jaw.max()


def test_a_diphthong_shows_both_of_its_vowels_in_turn() -> None:
    weights = coarticulate(spoken(("SIL", 0.2), ("EY", 0.4), ("SIL", 0.2)), 19, Fraction(24))
    first, second = weights[:, VISEMES.index("E")], weights[:, VISEMES.index("ih")]
    # E fills 0.2 to 0.4 s, ih 0.4 to 0.6 s.
    assert (first.argmax() + 0.5) / 24 == pytest.approx(0.3, abs=0.05)
    assert (second.argmax() + 0.5) / 24 == pytest.approx(0.5, abs=0.05)


def test_rounding_begins_45_ms_before_it_would_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    def half_way_s() -> float:
        rounding = mouth_shape(coarticulate(spoken(("S", 0.5), ("UW", 0.5)), 120, Fraction(120)))[:, 2]
        return float(np.interp(0.5, rounding[30:90], np.arange(30, 90)) + 0.5) / 120

    early_s = half_way_s()
    monkeypatch.setattr(visemes, "ANTICIPATION_S", 0.0)
    assert early_s < 0.46
    assert half_way_s() - early_s == pytest.approx(0.045, abs=0.005)


def test_silence_keeps_the_mouth_shut() -> None:
    jaw = mouth_shape(coarticulate(spoken(("SIL", 1.0), ("AA", 0.4), ("SIL", 1.0)), 57, Fraction(24)))[:, JAW]
    assert jaw[:18].max() < 0.02
    assert jaw[40:].max() < 0.02
    assert jaw[24:33].max() > 0.8


def test_blending_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    spans = spoken(*((str(rng.choice(PHONEMES)), float(rng.uniform(0.04, 0.2))) for _ in range(900)))
    frames = int(spans[-1].end_s * 24)
    in_blocks = coarticulate(spans, frames, Fraction(24))
    monkeypatch.setattr(visemes, "BLOCK_S", 10_000)
    assert np.abs(in_blocks - coarticulate(spans, frames, Fraction(24))).max() < 1e-6


CMU_DICTIONARY = Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict"))


def test_the_inventory_is_that_of_the_cmu_dictionary() -> None:
    used = {name for line in CMU_DICTIONARY.read_text().splitlines() for name in line.split()[1:]}
    assert set(PHONEMES) == used
    assert len(PHONEMES) == 39


# The IPA symbols of ARPAbet as published with TIMIT and the CMU dictionary.
@pytest.mark.parametrize(
    ("ipa", "arpabet"),
    [
        *zip(
            "ɑ æ ʌ ɔ aʊ aɪ b t͡ʃ d ð ɛ ɝ eɪ f ɡ h ɪ i d͡ʒ k l m n ŋ oʊ ɔɪ p ɹ s ʃ t θ ʊ u v w j z ʒ".split(),
            sorted(PHONEMES),
            strict=True,
        )
    ],
)
def test_ipa_of_english_is_read_as_published(ipa: str, arpabet: str) -> None:
    assert IPA_TO_ARPABET[ipa] == arpabet


def test_every_sound_of_the_recogniser_has_a_phoneme() -> None:
    symbols = set(AcousticModel().symbols)
    assert symbols >= set(IPA_TO_ARPABET)
    assert set(IPA_TO_ARPABET.values()) == set(PHONEMES)
    # The rest are no sounds: marks of tone, length and articulation, the glottal stop, control symbols.
    assert not {name for name in symbols - set(IPA_TO_ARPABET) if name.isascii() and name.isalpha()}


def test_the_vowels_are_those_that_bear_stress_in_the_dictionary() -> None:
    # In English every syllable has a vowel, so each word has at least one.
    words = [line.split()[1:] for line in CMU_DICTIONARY.read_text().splitlines()]
    without = [sounds for sounds in words if not VOWELS & set(sounds)]
    assert len(without) < 0.001 * len(words)
    assert set("AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split()) == VOWELS


@pytest.mark.parametrize(
    ("given", "expected"),
    [("AA1", "AA"), (" uw0 ", "UW"), ("b", "B"), ("", "SIL"), ("sp", "SIL"), ("h#", "SIL")],
)
def test_symbols_are_read_in_either_case_with_or_without_stress(given: str, expected: str) -> None:
    assert normalize_phoneme(given) == expected


@pytest.mark.parametrize("bad", ["XX", "p1x", "ʃ", "AA3"])
def test_unknown_phonemes_are_refused(bad: str) -> None:
    for read in (normalize_phoneme, phoneme_to_viseme):
        with pytest.raises(UnknownPhonemeError, match="ARPAbet"):
            read(bad)


def test_spans_are_returned_in_order_of_time() -> None:
    spans = check_spans([PhonemeSpan("m", 0.5, 0.6), PhonemeSpan("AA1", 0.1, 0.5)])
    assert spans == [PhonemeSpan("AA", 0.1, 0.5), PhonemeSpan("M", 0.5, 0.6)]


@pytest.mark.parametrize(("start_s", "end_s"), [(0.5, 0.2), (-0.1, 0.2), (float("nan"), 1.0)])
def test_impossible_times_are_refused(start_s: float, end_s: float) -> None:
    with pytest.raises(InputError, match="valid time"):
        check_spans([PhonemeSpan("AA", start_s, end_s)])
