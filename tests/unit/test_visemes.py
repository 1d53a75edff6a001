"""Sounds to mouth shapes: complete, normalised, smooth, and closed when lips must be closed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from vortex.errors import InputError, UnknownPhonemeError
from vortex.lipsync import visemes
from vortex.lipsync.phonemes import IPA_TO_ARPABET, PHONEMES, check_spans
from vortex.lipsync.visemes import coarticulate, mouth_shape, phoneme_to_viseme, smooth_viseme_sequence
from vortex.types import VISEMES, PhonemeSpan

JAW = 0


def spoken(*sounds: tuple[str, float]) -> list[PhonemeSpan]:
    """Return spans of the given durations in seconds, one after the other from 0."""
    ends = np.cumsum([duration for _, duration in sounds])
    return [
        PhonemeSpan(name, float(end - length), float(end))
        for (name, length), end in zip(sounds, ends, strict=True)
    ]


def test_the_inventory_is_that_of_the_cmu_dictionary() -> None:
    assert len(PHONEMES) == len(set(PHONEMES)) == 39
    assert {phoneme_to_viseme(name) for name in PHONEMES} | {"sil"} == set(VISEMES)
    assert set(IPA_TO_ARPABET.values()) <= set(PHONEMES)


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


@pytest.mark.parametrize("bad", ["", "XX", "p1x", "ʃ"])
def test_unknown_phonemes_are_refused(bad: str) -> None:
    if bad == "":
        assert phoneme_to_viseme(bad) == "sil"
        return
    with pytest.raises(UnknownPhonemeError, match="ARPAbet"):
        phoneme_to_viseme(bad)


@pytest.mark.parametrize("window_size", [1, 3, 5, 9])
def test_smoothing_keeps_length_and_sums_and_matches_a_plain_loop(window_size: int) -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(15), 40)
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
    spans = spoken(("AA", 0.3), (phoneme, closure_s), ("AA", 0.3))
    jaw = mouth_shape(coarticulate(spans, 16, Fraction(24)))[:, JAW]
    closure_frame = (0.3 + closure_s / 2) * 24 - 0.5
    assert jaw.min() < 0.1 * jaw.max()
    assert abs(jaw.argmin() - closure_frame) <= 1


def test_a_tongue_sound_between_vowels_does_not_close_the_lips() -> None:
    jaw = mouth_shape(coarticulate(spoken(("AA", 0.3), ("T", 0.06), ("AA", 0.3)), 16, Fraction(24)))[:, JAW]
    assert jaw[3:12].min() > 0.25 * jaw.max()


def test_rounding_begins_before_its_sound() -> None:
    rounding = mouth_shape(coarticulate(spoken(("S", 0.5), ("UW", 0.5)), 24, Fraction(24)))[:, 2]
    half_way_s = (np.interp(0.5, rounding[6:18] / rounding.max(), np.arange(6, 18)) + 0.5) / 24
    assert 0.4 < half_way_s < 0.5


def test_silence_keeps_the_mouth_shut() -> None:
    jaw = mouth_shape(coarticulate(spoken(("SIL", 1.0), ("AA", 0.4), ("SIL", 1.0)), 57, Fraction(24)))[:, JAW]
    assert jaw[:18].max() < 0.02
    assert jaw[40:].max() < 0.02
    assert jaw[24:33].max() > 0.8


def test_impossible_times_are_refused() -> None:
    with pytest.raises(InputError, match="valid time"):
        check_spans([PhonemeSpan("AA", 0.5, 0.2)])


def test_the_blocks_of_long_speech_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    spans = spoken(*((str(rng.choice(PHONEMES)), float(rng.uniform(0.04, 0.2))) for _ in range(900)))
    frames = int(spans[-1].end_s * 24)
    in_blocks = coarticulate(spans, frames, Fraction(24))
    monkeypatch.setattr(visemes, "BLOCK_S", 10_000)
    assert np.abs(in_blocks - coarticulate(spans, frames, Fraction(24))).max() < 1e-6
