"""Written characters become plain ones: typography, ligatures, powers and symbols as ASCII or as words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from vortex.errors import InputError

SYMBOL_WORDS: Mapping[str, str] = {
    "&": " and ", "@": " at ", "+": " plus ", "=": " equals ", "×": " times ", "÷": " divided by ", "±":
    " plus or minus ", "≈": " about ", "≠": " is not equal to ", "≤": " less than or equal to ", "≥":
    " greater than or equal to ", "<": " less than ", ">": " greater than ", "∞": " infinity ", "√":
    " the square root of ", "_": " ", "*": " ", "|": ", ", "~": " about ", "^": " ", "/": " ", "\\": " ",
    "•": " ", "·": " ", "©": " copyright ", "®": " ", "#": " ", "§": " section ", "¶": " paragraph ", "→":
    " to ", "°": " degrees ", "%": " percent ", "‰": " per mille ", "$": " dollars ", "£": " pounds ", "€":
    " euros ", "¥": " yen ", "₹": " rupees ", "¢": " cents ", "[": " ", "]": " ", "{": " ", "}": " ",
    "Δ": " delta ", "Σ": " sigma ", "Φ": " phi ", "Ψ": " psi ", "Ω": " omega ", "α": " alpha ", "β": " beta ",
    "γ": " gamma ", "δ": " delta ", "ε": " epsilon ", "θ": " theta ", "λ": " lambda ", "μ": " mu ", "π":
    " pi ", "ρ": " rho ", "σ": " sigma ", "τ": " tau ", "φ": " phi ", "χ": " chi ", "ψ": " psi ", "ω":
    " omega ",
}  # fmt: skip
"""What is said for a symbol that belongs to no number; marks of layout are only a space."""
_TYPOGRAPHY = str.maketrans({
    **dict.fromkeys("‘’‚‛´`′", "'"), **dict.fromkeys("“”„«»″", '"'), **dict.fromkeys("‐‑−", "-"),
    "⁄": "/", "―": "—", "™": " ", "№": "No. ", "µ": "μ", "ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "Ae",
    "œ": "oe", "Œ": "Oe", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ı": "i", "ð": "th", "þ": "th",
})  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_KEPT = re.compile(r"[A-Za-z\s.,;:!?'\"()\-—]")
"""Letters, and the punctuation that shapes the intonation."""


def plain_characters(text: str) -> str:
    """Return a line in ASCII letters and digits, "—", and symbols that a rule or a word can be found for.

    Ligatures and accents become plain letters, soft hyphens vanish, ``²`` becomes ``^2``, ``½`` becomes
    ``1/2``. A dash between numbers is "-", one between words " — ".
    """
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    text = re.sub(r"[⁰¹²³⁴-⁹⁻]+", lambda m: "^" + m[0].translate(_SUPERSCRIPTS), text)
    text = re.sub(r"(?<=\d)(?=[½⅓⅔¼¾⅕-⅞])", " ", text).translate(_TYPOGRAPHY)
    # The pronunciation dictionaries have cafe and naive without accents.
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    text = text.translate(_TYPOGRAPHY)
    text = re.sub(r"(?<=[\d%CFm.¢\"'])(?:\s?–\s?|—)(?=[$£€¥₹]?\d)", "-", text)
    text = re.sub(r"(?<=[A-Za-z.])–(?=[A-Za-z])", "-", text)
    return re.sub(r"\s*(?:[–—]|(?<![-\w])-(?=\s)(?!(?<=\d -)\s\d)|--+)\s*", " — ", text).removeprefix(" — ")


def spoken_symbols(text: str) -> tuple[str, str]:
    """Return a line with its symbols as words, and the characters that nobody can read aloud, left out.

    InputError: a letter of another script.
    """
    for symbol, word in SYMBOL_WORDS.items():
        if symbol in text:
            text = re.sub(
                rf"(?<![Α-ω]){re.escape(symbol)}(?![Α-ω])" if word.isalpha() else re.escape(symbol),
                word,
                text,
            )
    foreign = next((c for c in text if c.isalpha() and not c.isascii()), None)
    if foreign:
        raise InputError(
            f"The text has {foreign!r} ({unicodedata.name(foreign, 'unnamed').lower()}), which cannot be "
            "read as English; write it in Latin letters."
        )
    unread = "".join(c for c in text if not _KEPT.match(c))
    return "".join(c if _KEPT.match(c) else " " for c in text), unread


def name_characters(characters: str) -> str:
    """Return characters, each once, with their names, such as "😀 (grinning face)"."""
    return ", ".join(f"{c} ({unicodedata.name(c, 'unnamed').lower()})" for c in dict.fromkeys(characters))
