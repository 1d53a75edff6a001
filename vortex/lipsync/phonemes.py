"""The sounds of speech: ARPAbet, the symbols of the recogniser, and rules on spans of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vortex.errors import InputError, UnknownPhonemeError
from vortex.types import PhonemeSpan

SILENCE = "SIL"

PHONEMES: tuple[str, ...] = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY",
    "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y",
    "Z", "ZH",
)  # fmt: skip
"""The 39 phonemes of the CMU pronouncing dictionary, without stress digits."""

BILABIALS = frozenset({"P", "B", "M"})
"""Sounds whose lips meet."""
LABIODENTALS = frozenset({"F", "V"})
VOWELS = frozenset({"AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"})

IPA_TO_ARPABET: Mapping[str, str] = {
    "a": "AA", "aɪ": "AY", "aʊ": "AW", "b": "B", "c": "K", "d": "D", "d͡ʒ": "JH", "e": "EY", "eə": "EH",
    "eɪ": "EY", "f": "F", "g": "G", "h": "HH", "i": "IY", "j": "Y", "ja": "AA", "je": "EH", "jo": "OW",
    "ju": "UW", "jʌ": "AH", "k": "K", "kʰ": "K", "k͈": "K", "l": "L", "m": "M", "n": "N", "o": "OW",
    "oʊ": "OW", "p": "P", "pʰ": "P", "p͈": "P", "r": "R", "s": "S", "s͈": "S", "t": "T", "tʰ": "T",
    "t͈": "T", "t͡ɕ": "CH", "t͡ɕʰ": "CH", "t͡ɕ͈": "CH", "t͡ʃ": "CH", "u": "UW", "v": "V", "w": "W",
    "wa": "AA", "we": "EH", "wi": "IY", "wʌ": "AH", "x": "HH", "y": "UW", "z": "Z", "à": "AA", "ã": "AA",
    "ä": "AA", "å": "AO", "æ": "AE", "ç": "HH", "ì": "IY", "ð": "DH", "ñ": "N", "õ": "OW", "ø": "UH",
    "ħ": "HH", "ĩ": "IY", "ŋ": "NG", "œ": "ER", "ũ": "UW", "ǐ": "IY", "ɐ": "AH", "ɑ": "AA", "ɒ": "AO",
    "ɓ": "B", "ɔ": "AO", "ɔɪ": "OY", "ɕ": "SH", "ɖ": "D", "ɗ": "D", "ɘ": "AH", "ə": "AH", "ɚ": "ER",
    "ɛ": "EH", "ɜ": "ER", "ɝ": "ER", "ɟ": "G", "ɡ": "G", "ɣ": "G", "ɤ": "AH", "ɥ": "W", "ɦ": "HH",
    "ɨ": "IH", "ɪ": "IH", "ɪə": "IH", "ɫ": "L", "ɮ": "L", "ɯ": "IH", "ɯi": "IH", "ɰ": "G", "ɱ": "M",
    "ɲ": "N", "ɴ": "NG", "ɵ": "UH", "ɸ": "F", "ɹ": "R", "ɻ": "R", "ɽ": "D", "ɾ": "D", "ʀ": "R", "ʁ": "R",
    "ʂ": "SH", "ʃ": "SH", "ʈ": "T", "ʉ": "UW", "ʊ": "UH", "ʋ": "V", "ʌ": "AH", "ʎ": "L", "ʏ": "UH",
    "ʐ": "ZH", "ʑ": "ZH", "ʒ": "ZH", "ʙ": "B", "ʝ": "Y", "β": "B", "θ": "TH", "χ": "HH", "ẑ": "Z", "ẽ": "EY",
}  # fmt: skip
"""Nearest ARPAbet sound, as the lips see it, of the recogniser's symbols; tone and length marks have none."""


def normalize_phoneme(phoneme: str) -> str:
    """Return an ARPAbet symbol in upper case without its stress digit, "SIL" for any mark of silence.

    Raises:
        UnknownPhonemeError: not one of the 39 phonemes.
    """
    symbol = phoneme.strip().upper().rstrip("012")
    if symbol in ("", "SIL", "SP", "SPN", "<SIL>", "_", "PAU", "H#", "+SPN+", "+NSN+"):
        return SILENCE
    if symbol not in PHONEMES:
        raise UnknownPhonemeError(
            f"Unknown phoneme {phoneme!r}; vortex reads ARPAbet: {' '.join(PHONEMES)}, and SIL."
        )
    return symbol


def check_spans(spans: Sequence[PhonemeSpan]) -> list[PhonemeSpan]:
    """Return the spans with normal symbols, in order of time.

    Raises:
        InputError: a span that ends before it starts, or starts before zero.
        UnknownPhonemeError: see :func:`normalize_phoneme`.
    """
    result = []
    for span in sorted(spans, key=lambda s: s.start_s):
        if not 0 <= span.start_s <= span.end_s:
            raise InputError(f"Phoneme {span} has no valid time; give 0 <= start_s <= end_s in seconds.")
        result.append(PhonemeSpan(normalize_phoneme(span.phoneme), span.start_s, span.end_s))
    return result
