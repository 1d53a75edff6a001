"""Written English becomes sentences of words, as they are spoken."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from vortex.errors import InputError
from vortex.speech.numbers import apply_rules

MAX_CHARACTERS = 200_000
"""About four hours of speech."""
_SYMBOLS: Mapping[str, str] = {
    "&": " and ", "@": " at ", "+": " plus ", "=": " equals ", "×": " times ", "÷": " divided by ", "±":
    " plus or minus ", "≈": " about ", "<": " less than ", ">": " greater than ", "_": " ", "*": " ",
    "|": ", ", "~": " about ", "^": " ", "/": " ", "\\": " ", "•": " ", "©": " ", "®": " ", "™": " ",
    "№": " number ", "#": " ",
}  # fmt: skip
_TYPOGRAPHY = str.maketrans({
    **dict.fromkeys("‘’‚‛´`", "'"), **dict.fromkeys("“”„«»", '"'), **dict.fromkeys("‐‑–−", "-"), "…": "...",
    "½": " 1/2 ", "¼": " 1/4 ", "¾": " 3/4 ", "⅓": " 1/3 ", "⅔": " 2/3 ", "⅛": " 1/8 ",
    "ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ł": "l", "Ł": "L",
})  # fmt: skip
_ABBREVIATIONS: Mapping[str, str] = {
    "Dr.": "Doctor", "Mr.": "Mister", "Mrs.": "Missus", "Ms.": "Miz", "Prof.": "Professor", "Jr.": "Junior",
    "Sr.": "Senior", "Gen.": "General", "Sgt.": "Sergeant", "Capt.": "Captain", "Rev.": "Reverend",
    "Hon.": "Honourable", "Gov.": "Governor", "Sen.": "Senator", "Inc.": "Incorporated", "Ltd.": "Limited",
    "Co.": "Company", "Corp.": "Corporation", "Dept.": "Department", "Ave.": "Avenue", "Blvd.": "Boulevard",
    "Rd.": "Road", "Mt.": "Mount", "Ft.": "Fort", "approx.": "approximately", "vs.": "versus",
    "etc.": "et cetera", "e.g.": "for example", "i.e.": "that is", "est.": "established", "min.": "minutes",
    "hrs.": "hours", "Ph.D.": "P H D", "w/": "with", "w/o": "without",
}  # fmt: skip
_ENDS_SENTENCE = frozenset("Inc. Ltd. Co. Corp. etc. Jr. Sr. Ave. Blvd. Rd. St.".split())
"""Abbreviations that can end a sentence; their stop is then the full stop, too."""
_WORDS_BEFORE_NAMES = frozenset({"in", "at", "to", "from", "near", "the", "of", "and", "saw", "met"})
"""A capitalised word before "St." is part of a street name, unless it is one of these."""
_STARTS_SENTENCE = frozenset("He She It They We I You The This That But In".split())
"""After an acronym with stops, such as "U.S.", one of these words starts a new sentence."""
_BOUNDARY = re.compile(
    r"(?:(?<=[!?])|(?<=[^.]\.))\s+(?=\W*\w)"  # after a mark that ends a sentence
    r"|(?:(?<=\.\.\.)|(?<=[.!?][\"')]))\s+(?=\W*[A-Z])"  # after dots or a quotation, only before a capital
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """``text`` in words only; after a sentence that ``ends_paragraph`` the pause is longer."""

    text: str
    ends_paragraph: bool = False


def split_sentences(text: str) -> tuple[Sentence, ...]:
    """Return the sentences of a written English text, in words as they are spoken; this also checks a text.

    A line break ends a sentence, a blank line ends a paragraph.

    Raises:
        InputError: a text without words, a letter of another script, or more than :data:`MAX_CHARACTERS`.
        MissingExtraError: the extra "speech" is not installed.
    """
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"The text has {len(text):,} characters; give at most {MAX_CHARACTERS:,}, or split it into parts."
        )
    sentences: list[Sentence] = []
    for paragraph in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        parts = [part for line in paragraph.split("\n") for part in _BOUNDARY.split(spell_out(line))]
        spoken = [part.strip() for part in parts if re.search(r"[A-Za-z]", part)]
        sentences += [Sentence(part) for part in spoken[:-1]]
        sentences += [Sentence(part, ends_paragraph=True) for part in spoken[-1:]]
    if not sentences:
        raise InputError(f"The text {text[:40]!r} has no English words; give something to say.")
    return tuple(sentences)


def spell_out(text: str) -> str:
    """Return one line of English in words, without emoji; sentences keep their punctuation.

    Slashed dates are read month first where that is possible. Errors are those of :func:`split_sentences`.
    """
    # The pronunciation dictionaries have cafe and naive without accents.
    text = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    text = text.translate(_TYPOGRAPHY)
    text = apply_rules(expand_abbreviations(text))
    for symbol, word in _SYMBOLS.items():
        text = text.replace(symbol, word)
    foreign = next((c for c in text if c.isalpha() and not c.isascii()), None)
    if foreign:
        raise InputError(
            f"The text has {foreign!r}, which cannot be read as English; write it in Latin letters."
        )
    # Keep letters, and the punctuation that shapes the intonation.
    text = re.sub(r"[^A-Za-z\s.,;:!?'\"()\-—]", " ", text)
    text = re.sub(r"\s+([.,;:!?])", r"\1", text)
    return re.sub(r"\s+", " ", text).strip()


def expand_abbreviations(text: str) -> str:
    """Return a text with its abbreviations written out; a stop that ends a sentence stays."""
    text = re.sub(r"\bNo\.\s*(?=\d)", "number ", text)
    text = re.sub(r"\bp\.\s*(?=\d)", "page ", text)
    text = re.sub(r"\bSt\.", _saint_or_street, text)
    for short, long in _ABBREVIATIONS.items():
        pattern = rf"(?<![\w.]){re.escape(short)}(?!\w)"
        text = re.sub(pattern, lambda m, s=short, w=long: w + _stop_after(s, m.string, m.end()), text)  # type: ignore[misc]
    text = re.sub(r"\b([AaPp])\.\s?[Mm]\.", _half_of_day, text)
    return re.sub(r"\b(?:[A-Z]\.\s?){2,}|\b[A-Z]\.(?= [A-Z])", _initials, text)


def _stop_after(short: str, text: str, end: int) -> str:
    """Return "." if an abbreviation ends a sentence, whose full stop is then part of it."""
    at_end = not text[end:].strip() or re.match(r"[\"')]*\s+[A-Z]", text[end:])
    return "." if short in _ENDS_SENTENCE and at_end else ""


def _saint_or_street(match: re.Match[str]) -> str:
    """Return "Saint" before a name, as in "met St. Peter", "Street" after one, as in "12 Elm St."."""
    before = re.search(r"(\w+)\s+$", match.string[: match.start()])
    follows_name = before and before[1][0].isupper() and before[1].lower() not in _WORDS_BEFORE_NAMES
    if follows_name or not re.match(r" [A-Z]", match.string[match.end() :]):
        return "Street" + _stop_after("St.", match.string, match.end())
    return "Saint"


def _half_of_day(match: re.Match[str]) -> str:
    """Return "a.m." as "AM", with a stop at the end of a sentence."""
    rest = match.string[match.end() :]
    stop = "." if not rest.strip() or re.match(r"\s+[A-Z]", rest) else ""
    return f"{match[1].upper()}M{stop}"


def _initials(match: re.Match[str]) -> str:
    """Return "U.S. " as "US ", "J. K. " as "J K "; the last stop stays at the end of a sentence."""
    spaced = re.search(r"\.\s[A-Z]", match[0])
    letters = re.findall(r"[A-Z]", match[0])
    tail = " " if match[0].endswith(" ") else ""
    rest = match.string[match.end() :].strip()
    ends = not rest or (not spaced and rest.split()[0] in _STARTS_SENTENCE)
    return (" " if spaced else "").join(letters) + ("." if ends else "") + tail
