"""Words become symbols as the dictionaries have them, and every symbol has a phoneme."""

from __future__ import annotations

import json
from importlib import resources

import pytest

pytest.importorskip("onnxruntime", reason="the extra 'speech' is not installed")
pytest.importorskip("misaki", reason="the extra 'speech' is not installed")

from vortex.lipsync.visemes import PHONEMES, SILENCE
from vortex.speech.kokoro import SYMBOL_IDS
from vortex.speech.pronunciation import SYMBOL_TO_ARPABET, pronounce, symbol_phoneme


@pytest.mark.parametrize("accent", ["us", "gb"])
def test_every_symbol_of_the_dictionaries_has_a_phoneme_and_a_number(accent: str) -> None:
    symbols: set[str] = set()
    for rank in ("gold", "silver"):
        text = (resources.files("misaki.data") / f"{accent}_{rank}.json").read_text(encoding="utf-8")
        for entry in json.loads(text).values():
            for word in entry.values() if isinstance(entry, dict) else [entry]:
                symbols |= set(word or "")
    assert symbols <= SYMBOL_IDS.keys()
    assert symbols - set("ˈˌː") <= SYMBOL_TO_ARPABET.keys()
    assert set(SYMBOL_TO_ARPABET.values()) <= set(PHONEMES)


def phonemes(sentence: str, *, british: bool = False) -> str:
    symbols = pronounce(sentence, british=british)
    return " ".join(name for name in map(symbol_phoneme, symbols) if name not in (None, SILENCE))


def test_the_part_of_speech_decides_the_pronunciation() -> None:
    assert phonemes("I have read it.").endswith("R EH D IH T")
    assert phonemes("I will read it.").endswith("R IY D IH T")


def test_american_and_british_differ() -> None:
    assert phonemes("tomato") != phonemes("tomato", british=True)


def test_a_word_in_no_dictionary_is_pronounced() -> None:
    # The CMU dictionary has F R AA B for "frob", and every word that starts with "zo" starts with Z.
    assert phonemes("frobblax").startswith("F R AA B")
    assert phonemes("zorblax").startswith("Z")
