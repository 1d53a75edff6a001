"""Speech markup (SSML) and HTML in a text: pauses and replaced words are obeyed, other tags are left out."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass

from vortex.errors import InputError

MAX_PAUSE_S = 60.0
_STRENGTHS_S: Mapping[str, float] = {
    "none": 0.0, "x-weak": 0.1, "weak": 0.25, "medium": 0.5, "strong": 0.75, "x-strong": 1.2,
}  # fmt: skip
"""Seconds of a break that gives a strength instead of a time."""
_TAG = re.compile(
    r"<!--.*?-->|<[?!][^<>]*>|<(?P<close>/?)(?P<name>[A-Za-z][\w:-]*)(?P<attributes>(?:\s[^<>]*?)?)/?>",
    re.DOTALL,
)
_SPELLED = frozenset({"characters", "spell-out", "verbatim"})
_PARAGRAPHS = frozenset({"p", "div", "h1", "h2", "h3", "ul", "ol"})
_LINES = frozenset({"s", "br", "li", "tr"})
_ASKS_FOR_SOUND = frozenset({"prosody", "voice", "emphasis", "audio", "phoneme", "lang", "say-as", "mark"})
"""Tags that say how to speak; a note names them, as they are not obeyed."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Text without tags, and the silence that the author wants after it in seconds, or None."""

    text: str
    pause_s: float | None = None


def parse_markup(text: str) -> tuple[tuple[Passage, ...], tuple[str, ...]]:
    """Return the passages between the breaks of a text, and the tags that ask for what is not done.

    ``<break time="500ms"/>`` (or strength="strong") is a pause, ``<sub alias="...">`` is read as its alias,
    ``<say-as interpret-as="characters">`` letter by letter; p, s, br and the like end a sentence. Other tags
    are left out, their text stays. "<" that begins no tag is kept. The end of a sound takes 0.1 s, so that no
    break is shorter.

    InputError: a break without a time or strength that can be read, or longer than :data:`MAX_PAUSE_S`.
    """
    passages: list[Passage] = []
    ignored: dict[str, None] = {}
    spoken, position = "", 0
    while match := _TAG.search(text, position):
        spoken += html.unescape(text[position : match.start()])
        position = match.end()
        name = (match["name"] or "").lower()
        attributes = _attributes(match["attributes"] or "")
        element = re.compile(rf"(?P<inside>[^<>]*)</{re.escape(name)}\s*>", re.IGNORECASE).match(
            text, position
        )
        if name == "break" and not match["close"]:
            passages.append(Passage(spoken, _pause_s(attributes)))
            spoken = ""
        elif name in _PARAGRAPHS | _LINES:
            spoken += "\n\n" if name in _PARAGRAPHS else "\n"
        elif name == "sub" and "alias" in attributes and element:
            spoken, position = spoken + attributes["alias"], element.end()
        elif name == "say-as" and attributes.get("interpret-as") in _SPELLED and element:
            spoken, position = spoken + " ".join(element["inside"].upper()), element.end()
        elif name in _ASKS_FOR_SOUND and not match["close"]:
            ignored[name] = None
    spoken += html.unescape(text[position:])
    return (*passages, Passage(spoken)), tuple(ignored)


def _attributes(text: str) -> Mapping[str, str]:
    found = re.findall(r"""([\w:-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'/]+))""", text)
    return {name.lower(): html.unescape(a or b or c) for name, a, b, c in found}


def _pause_s(attributes: Mapping[str, str]) -> float:
    time, strength = attributes.get("time"), attributes.get("strength", "medium")
    given = re.fullmatch(r"\+?(\d+(?:\.\d+)?|\.\d+)\s*(ms|s)", time.strip()) if time is not None else None
    if given:
        pause_s = float(given[1]) / (1000 if given[2] == "ms" else 1)
    elif time is None and strength in _STRENGTHS_S:
        pause_s = _STRENGTHS_S[strength]
    else:
        said = f"time={time!r}" if time is not None else f"strength={strength!r}"
        raise InputError(
            f'A <break> has {said}; give a time as "500ms" or "1.5s", '
            f"or a strength: {', '.join(_STRENGTHS_S)}."
        )
    if pause_s > MAX_PAUSE_S:
        raise InputError(f"A <break> lasts {pause_s:g} s; give at most {MAX_PAUSE_S:g} s.")
    return pause_s
