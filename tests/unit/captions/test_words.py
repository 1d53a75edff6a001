"""Written words get the times of the sounds that are spoken for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from vortex.captions.words import match_sequences, time_words
from vortex.types import PhonemeSpan

SOUNDS = {"forty": "F AO R T IY", "to": "T UW", "sixty": "S IH K S T IY", "degrees": "D IH G R IY Z",
          "keep": "K IY P", "it": "IH T", "at": "AE T", "now": "N AW"}  # fmt: skip


def pronounce(words: Sequence[str]) -> list[list[str]]:
    return [SOUNDS[word].split() for word in words]


def spans(words: str) -> list[PhonemeSpan]:
    """Each sound lasts 0.1 s, without pauses."""
    names = [name for word in words.split() for name in SOUNDS[word].split()]
    return [PhonemeSpan(name, index / 10, (index + 1) / 10) for index, name in enumerate(names)]


def test_words_have_the_times_of_their_sounds_as_written() -> None:
    spoken = "keep it at forty to sixty degrees now"
    words = time_words("Keep it at 40-60° now!", spoken, spans(spoken), pronounce)
    assert [word.text for word in words] == ["Keep", "it", "at", "40-60°", "now!"]
    lengths = np.cumsum([0, 3, 2, 2, 5 + 2 + 6 + 6, 2]) / 10
    assert [word.start_s for word in words] == pytest.approx(lengths[:-1])
    assert [word.end_s for word in words] == pytest.approx(lengths[1:])


def test_an_unspoken_sign_stands_with_the_word_before() -> None:
    words = time_words("Keep it — now", "keep it now", spans("keep it now"), pronounce)
    assert [word.text for word in words] == ["Keep", "it —", "now"]


def test_the_end_of_a_line_is_known() -> None:
    words = time_words("Keep it\nnow", "keep it now", spans("keep it now"), pronounce)
    assert [word.ends_line for word in words] == [False, True, True]


def test_sounds_that_are_missing_shift_no_other_word() -> None:
    spoken = "keep it at forty to sixty now"
    heard = [span for span in spans(spoken) if not 0.55 < span.start_s < 0.95]
    words = time_words(spoken, spoken, heard, pronounce)
    assert words[-1].start_s == pytest.approx((3 + 2 + 2 + 5 + 2 + 6) / 10)


def test_long_sequences_match_as_when_nothing_is_lost() -> None:
    random = np.random.default_rng(3)
    one = [str(number) for number in random.integers(0, 40, 3000)]
    kept = np.sort(random.choice(3000, 2800, replace=False))
    pairs = match_sequences(one, [one[index] for index in kept], equal_only=True)
    right = sum(kept[j] == i for i, j in pairs)
    assert right > 0.95 * len(kept)
