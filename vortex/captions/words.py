"""When each word of a text is spoken, as it is written: "40-60°C" lasts as long as its five spoken words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vortex.lipsync.visemes import SILENCE
from vortex.types import I64, PhonemeSpan

WINDOW, KEPT = 320, 200
"""Long sequences are matched in windows of so many entries, of which the first ones are kept."""
LEAD, STRETCH = 64, 1.6
"""A window of the other sequence is longer by this number and this factor."""


@dataclass(frozen=True, slots=True)
class CaptionWord:
    """A word as it is written, with its punctuation, and its start and end in seconds."""

    text: str
    start_s: float
    end_s: float
    ends_line: bool = False
    """Whether a line of the text ends here, such as a heading without a full stop."""


def time_words(
    written: str,
    spoken: str,
    phonemes: Sequence[PhonemeSpan],
    pronounce: Callable[[Sequence[str]], Sequence[Sequence[str]]],
) -> list[CaptionWord]:
    """Return the words of a written text with the times at which they are spoken, in their order.

    Args:
        written: the text as its author wrote it.
        spoken: the same text in words only, as it is pronounced; ``written`` itself for a transcript.
        phonemes: the sounds of the voice with their times, pauses included or not.
        pronounce: returns the ARPAbet symbols of each of some words in lower case.
    """
    words = words_of(spoken)
    times = _times_of_words(pronounce(words), phonemes)
    tokens = list(_tokens(written))
    pieces = [(index, piece) for index, (token, _) in enumerate(tokens) for piece in _pieces(token)]
    pairs = dict(match_sequences([piece for _, piece in pieces], words, equal_only=True))
    spans: list[tuple[float, float] | None] = [None] * len(pieces)
    for piece, word in pairs.items():
        spans[piece] = times[word]
    _fill_gaps(spans, [len(piece) for _, piece in pieces], pairs, times)
    made: list[CaptionWord] = []
    for index, (token, ends_line) in enumerate(tokens):
        own = [span for (at, _), span in zip(pieces, spans, strict=True) if at == index and span]
        if own:
            made.append(CaptionWord(token, own[0][0], max(own[-1][1], own[0][0]), ends_line))
        elif made:  # a dash, or another sign that is not spoken, stands with the word before
            before = made.pop()
            text = f"{before.text} {token}"
            made.append(CaptionWord(text, before.start_s, before.end_s, before.ends_line or ends_line))
    return made


def words_of(text: str) -> list[str]:
    """Return the English words of a text in lower case, as the dictionary of the aligner writes them."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*", _plain(text))


def _plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFD", text.lower().replace("\u2019", "'"))
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def _tokens(written: str) -> Iterator[tuple[str, bool]]:
    """Yield what stands between spaces, and whether its line ends there."""
    for line in written.splitlines():
        found = line.split()
        for index, token in enumerate(found):
            yield token, index + 1 == len(found)


def _pieces(token: str) -> list[str]:
    """Return the words of a token; one with digits or other letters is one piece, matched by its place."""
    plain = _plain(token)
    if re.search(r"\d", plain):
        return [plain]
    return words_of(plain) or ([plain] if any(c.isalnum() for c in plain) else [])


def _times_of_words(
    sounds: Sequence[Sequence[str]], phonemes: Sequence[PhonemeSpan]
) -> list[tuple[float, float]]:
    """Return start and end of each word from the spans that match its sounds; the others lie between."""
    spans = [span for span in phonemes if span.phoneme != SILENCE]
    owners = [word for word, names in enumerate(sounds) for _ in names]
    names = [name for word in sounds for name in word]
    times: list[tuple[float, float] | None] = [None] * len(sounds)
    for sound, at in match_sequences(names, [span.phoneme for span in spans], equal_only=False):
        word, span = owners[sound], spans[at]
        known = times[word]
        times[word] = (known[0] if known else span.start_s, span.end_s)
    _spread_between(times, [max(len(word), 1) for word in sounds])
    return [time or (0.0, 0.0) for time in times]


def _spread_between(times: list[tuple[float, float] | None], weights: Sequence[int]) -> None:
    """Give each entry without a time its share, by weight, of the time between its neighbours."""
    for first, end in _missing_runs(times):
        before = times[first - 1] if first else None
        after = times[end] if end < len(times) else None
        low = before[1] if before else (after[0] if after else 0.0)
        high = max(after[0] if after else low, low)
        _share(times, range(first, end), weights, low, high)


def _fill_gaps(
    spans: list[tuple[float, float] | None],
    weights: Sequence[int],
    pairs: dict[int, int],
    times: Sequence[tuple[float, float]],
) -> None:
    """Give pieces that are written otherwise than spoken the time of the spoken words in their place."""
    for first, end in _missing_runs(spans):
        low_word = pairs[first - 1] + 1 if first else 0
        high_word = pairs[end] if end < len(spans) else len(times)
        if low_word < high_word:
            _share(spans, range(first, end), weights, times[low_word][0], times[high_word - 1][1])
    _spread_between(spans, weights)


def _missing_runs(entries: Sequence[object | None]) -> list[tuple[int, int]]:
    missing = np.array([entry is None for entry in entries], np.bool_)
    edges = np.flatnonzero(np.diff(missing, prepend=False, append=False))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def _share(
    entries: list[tuple[float, float] | None], run: range, weights: Sequence[int], low_s: float, high_s: float
) -> None:
    total, done = sum(weights[index] for index in run), 0
    for index in run:
        start_s = low_s + (high_s - low_s) * done / total
        done += weights[index]
        entries[index] = (start_s, low_s + (high_s - low_s) * done / total)


def match_sequences(one: Sequence[str], other: Sequence[str], *, equal_only: bool) -> list[tuple[int, int]]:
    """Return rising pairs of indexes of two sequences, matched with the fewest edits (Levenshtein).

    ``equal_only`` leaves out pairs of different entries. Long sequences are matched window by window, so the
    time grows with their length only.
    """
    pairs: list[tuple[int, int]] = []
    numbers = {name: number for number, name in enumerate(dict.fromkeys((*one, *other)))}
    left, right = (np.array([numbers[name] for name in names], np.int64) for names in (one, other))
    at, to = 0, 0
    while at < len(left) and to < len(right):
        last = len(left) - at <= WINDOW
        here = left[at : at + WINDOW]
        there = right[to:] if last else right[to : to + round(len(here) * STRETCH) + LEAD]
        found = _match_window(here, there, open_end=not last)
        kept = found if last else [(i, j) for i, j in found if i < KEPT]
        pairs += [(at + i, to + j) for i, j in kept if not equal_only or here[i] == there[j]]
        if last:
            break
        at += KEPT
        to += kept[-1][1] + 1 if kept else 0
    return pairs


def _match_window(left: I64, right: I64, *, open_end: bool) -> list[tuple[int, int]]:
    """Return the pairs of the cheapest path; with ``open_end``, the rest of ``right`` costs nothing.

    A different entry costs 1.5, so that it is cheaper than one left out on both sides, and an equal one 0.
    """
    columns = np.arange(len(right) + 1, dtype=np.float64)
    table = np.empty((len(left) + 1, len(right) + 1))
    table[0] = columns
    for row, entry in enumerate(left.tolist(), start=1):
        above = table[row - 1]
        best = above + 1
        best[1:] = np.minimum(best[1:], above[:-1] + 1.5 * (right != entry))
        # Leaving out entries of ``right`` costs 1 each: a running minimum along the row.
        table[row] = np.minimum.accumulate(best - columns) + columns
    i, j = len(left), int(table[-1].argmin()) if open_end else len(right)
    pairs = []
    while i and j:
        cost = 1.5 if left[i - 1] != right[j - 1] else 0.0
        if table[i, j] == table[i - 1, j - 1] + cost:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif table[i, j] == table[i - 1, j] + 1:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]
