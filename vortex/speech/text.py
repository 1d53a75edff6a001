"""Written English becomes sentences of words, as they are spoken."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vortex.errors import InputError
from vortex.speech import addresses, amounts, dates, numbers, numerals
from vortex.speech.abbreviations import expand_abbreviations
from vortex.speech.characters import name_characters, plain_characters, spoken_symbols
from vortex.speech.language import check_english
from vortex.speech.markup import parse_markup

MAX_CHARACTERS = 200_000
"""About four hours of speech."""
_BOUNDARY = re.compile(
    r"(?:(?<=[!?])|(?<=[^.]\.))\s+(?=\W*\w)"  # after a mark that ends a sentence
    r"|(?:(?<=\.\.\.)|(?<=[.!?][\"')]))\s+(?=\W*[A-Z])"  # after dots or a quotation, only before a capital
)
_ADDRESSES = tuple((re.compile(pattern), replacement) for pattern, replacement in addresses.RULES)
_NUMBERS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        *numerals.RULES,
        *dates.DECADES,
        *numbers.EARLY_RULES,
        *dates.RULES,
        *amounts.RULES,
        *numbers.RULES,
    )
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """``text`` in words only; after a sentence that ``ends_paragraph`` the pause is longer.

    ``pause_s`` is the silence after it in seconds if the author gave one.
    """

    text: str
    ends_paragraph: bool = False
    pause_s: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How a text is read: its sentences, the silence before the first, and notes on what is not read."""

    sentences: tuple[Sentence, ...]
    lead_s: float
    notes: tuple[str, ...]


def read_text(text: str) -> Reading:
    """Return how a written English text is read aloud; this also checks a text.

    A line break ends a sentence, a blank line ends a paragraph; see :func:`vortex.speech.markup.parse_markup`
    for tags.

    Raises:
        InputError: a text without words, in another language or script, with a break that cannot be read, or
            of more than :data:`MAX_CHARACTERS`.
        MissingExtraError: the extra "speech" is not installed.
    """
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"The text has {len(text):,} characters; give at most {MAX_CHARACTERS:,}, or split it into parts."
        )
    passages, ignored = parse_markup(text)
    check_english(" ".join(passage.text for passage in passages))
    sentences: list[Sentence] = []
    lead_s, unread = 0.0, ""
    for passage in passages:
        spoken, dropped = _sentences(passage.text)
        unread += dropped
        sentences += spoken
        if passage.pause_s is None:
            continue
        if sentences:
            before = sentences[-1]
            pause_s = passage.pause_s + (0.0 if spoken else before.pause_s or 0.0)
            sentences[-1] = Sentence(before.text, before.ends_paragraph, pause_s)
        else:
            lead_s += passage.pause_s
    if not sentences:
        raise InputError(f"The text {text[:40]!r} has no English words; give something to say.")
    notes = [f"not read aloud: {name_characters(unread)}"] if unread else []
    if ignored:
        notes.append(f"tags not obeyed, their text is read: {', '.join(f'<{name}>' for name in ignored)}")
    return Reading(tuple(sentences), lead_s, tuple(notes))


def split_sentences(text: str) -> tuple[Sentence, ...]:
    """Return the sentences of :func:`read_text`, with its errors."""
    return read_text(text).sentences


def spell_out(text: str) -> str:
    """Return one line of English, without tags, in words; sentences keep their punctuation.

    Slashed dates are read month first where that is possible. Errors are those of :func:`read_text`.
    """
    return _spell_out(text)[0]


def _sentences(text: str) -> tuple[list[Sentence], str]:
    """Return the sentences of a passage, and the characters that cannot be read."""
    sentences: list[Sentence] = []
    unread = ""
    for paragraph in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        parts: list[str] = []
        for line in paragraph.split("\n"):
            words, dropped = _spell_out(line)
            parts += _BOUNDARY.split(words)
            unread += dropped
        spoken = [part.strip() for part in parts if re.search(r"[A-Za-z]", part)]
        sentences += [Sentence(part) for part in spoken[:-1]]
        sentences += [Sentence(part, ends_paragraph=True) for part in spoken[-1:]]
    return sentences, unread


def _spell_out(line: str) -> tuple[str, str]:
    """Return a line in words, and the characters that cannot be read."""
    text = plain_characters(line)
    for pattern, replacement in _ADDRESSES:
        text = pattern.sub(replacement, text)
    # Units with stops come before other abbreviations: "5 ft." is not a fort.
    text = expand_abbreviations(amounts.expand_dotted_units(text))
    for pattern, replacement in _NUMBERS:
        text = pattern.sub(replacement, text)
    text, unread = spoken_symbols(text)
    text = re.sub(r"\s+([.,;:!?])", r"\1", text)
    return re.sub(r"\s+", " ", text).strip(), unread
