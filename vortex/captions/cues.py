"""Words become cues of at most two lines, broken where broadcasters break them.

The limits are those of Netflix's Timed Text Style Guide (42 characters, two lines, 5/6 to 7 s, two frames
between cues) and of the BBC's Subtitle Guidelines (break at the ends of sentences and clauses, not after an
article or a preposition; no line of one short word).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from vortex.captions.words import CaptionWord

MAX_CHARACTERS = 42
MAX_LINES = 2
MIN_CUE_S, MAX_CUE_S = 1.0, 7.0
GAP_S = 0.083
"""Two frames at 24 per second, so that the eye sees that the cue changes."""
LINGER_S = 0.5
"""How much longer than its last word a cue stays where nothing follows."""
PAUSE_S = 0.6
MAX_CUE_WORDS = 30
_SENTENCE_ENDS, _CLAUSE_ENDS = ".!?\u2026", ",;:\u2014\u2013"
_BEFORE = frozenset(
    "and but or nor so yet because although though while when where which who that if unless until since "
    "as than to in on at of for from with without by about after before during between through over".split()
)
"""A break before one of these words is better than elsewhere."""
_NOT_AFTER = frozenset(
    "a an the my your his her its our their this that these those i we you he she it they and but or to in "
    "on at of for from with without by is are was were be been am will would can could not no very mr. mrs. "
    "ms. dr. prof. st.".split()
)
"""A break after one of these words tears apart what belongs together."""


class Cue(NamedTuple):
    """One caption: its lines, and the time it is shown, in seconds."""

    lines: tuple[str, ...]
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class _Best:
    cost: float
    first: int


def make_cues(
    words: Sequence[CaptionWord], duration_s: float, max_characters: int = MAX_CHARACTERS
) -> list[Cue]:
    """Return the cues of some words in order of time; no two overlap, and none outlasts the video.

    Words that begin after ``duration_s`` are left out. A line has at most ``max_characters``, except where
    one word alone has more. A cue lasts from :data:`MIN_CUE_S`, unless speech is too fast for that, to
    :data:`MAX_CUE_S`.
    """
    heard = [word for word in words if word.start_s < duration_s]
    groups = _group(heard, max_characters)
    cues: list[Cue] = []
    for index, (first, end) in enumerate(groups):
        start_s, spoken_s = heard[first].start_s, heard[end - 1].end_s
        limit_s = heard[groups[index + 1][0]].start_s - GAP_S if index + 1 < len(groups) else duration_s
        end_s = min(max(spoken_s + LINGER_S, start_s + MIN_CUE_S), start_s + MAX_CUE_S, limit_s, duration_s)
        lines = break_lines([word.text for word in heard[first:end]], max_characters)
        cues.append(Cue(lines, start_s, max(end_s, min(spoken_s, duration_s, limit_s), start_s + 0.001)))
    return cues


def _group(words: Sequence[CaptionWord], max_characters: int) -> list[tuple[int, int]]:
    """Return first word and end of each cue: of all ways to cut, the one with the least cost."""
    best = [_Best(0.0, 0)]
    for end in range(1, len(words) + 1):
        options = []
        for first in range(end - 1, max(end - MAX_CUE_WORDS, 0) - 1, -1):
            texts = [word.text for word in words[first:end]]
            if end - first > 1 and (
                words[end - 1].end_s - words[first].start_s > MAX_CUE_S or not _fits(texts, max_characters)
            ):
                break
            following = words[end].start_s if end < len(words) else None
            cost = _cue_cost(words[first:end], following, max_characters)
            options.append(_Best(best[first].cost + cost, first))
        best.append(min(options, key=lambda option: option.cost))
    groups: list[tuple[int, int]] = []
    end = len(words)
    while end:
        groups.append((best[end].first, end))
        end = best[end].first
    return groups[::-1]


def _fits(texts: Sequence[str], max_characters: int) -> bool:
    return bool(_splits(texts, max_characters))


def _splits(texts: Sequence[str], max_characters: int) -> list[tuple[str, ...]]:
    """Return every way to write some words in one or two lines that are short enough."""
    whole = " ".join(texts)
    if len(whole) <= max_characters or len(texts) == 1:
        return [(whole,)]
    pairs = ((" ".join(texts[:cut]), " ".join(texts[cut:])) for cut in range(1, len(texts)))
    return [pair for pair in pairs if max(map(len, pair)) <= max_characters]


def _cue_cost(words: Sequence[CaptionWord], following_s: float | None, max_characters: int) -> float:
    """Return how bad a cue is: where it ends, what is torn apart inside, how short it is."""
    last = words[-1]
    text = " ".join(word.text for word in words)
    cost = 3.0
    if following_s is not None:
        pause = following_s - last.end_s >= PAUSE_S
        cost += 0.0 if pause or last.ends_line else _break_cost(last.text)
        available_s = following_s - words[0].start_s
        cost += 6 * max(MIN_CUE_S + GAP_S - available_s, 0)
        cost += 4.0 if len(text) < max_characters / 4 and not _ends(last.text, _SENTENCE_ENDS) else 0.0
    # The end of a sentence, or a pause, inside a cue shows what has not been said yet.
    for word, after in pairwise(words):
        cost += 4.5 if _ends(word.text, _SENTENCE_ENDS) or word.ends_line else 0.0
        cost += 4.0 * min(max(after.start_s - word.end_s - PAUSE_S, 0) / PAUSE_S, 2.0)
    return cost


def _ends(text: str, marks: str) -> bool:
    return text.rstrip("\"')]\u201d\u2019").endswith(tuple(marks)) and text.lower() not in _NOT_AFTER


def _break_cost(before: str, after: str = "") -> float:
    """Return how bad a break between two words is."""
    if _ends(before, _SENTENCE_ENDS):
        return 0.0
    if _ends(before, _CLAUSE_ENDS):
        return 1.0
    if before.lower() in _NOT_AFTER:
        return 8.0
    return 3.0 if after.lower() in _BEFORE else 5.0


def break_lines(texts: Sequence[str], max_characters: int = MAX_CHARACTERS) -> tuple[str, ...]:
    """Return some words in one line, or in two that are broken at a clause if possible, else evenly."""

    def cost(lines: tuple[str, ...]) -> float:
        if len(lines) == 1:
            return 0.0
        first, second = lines
        last, following = first.split(" ")[-1], second.split(" ")[0]
        orphan = 8.0 if min(len(line.split(" ")) for line in lines) == 1 and len(texts) > 2 else 0.0
        return _break_cost(last, following) + orphan + abs(len(first) - len(second)) / 6

    splits = _splits(texts, max_characters)
    return min(splits, key=cost) if splits else (" ".join(texts),)
