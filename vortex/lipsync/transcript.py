"""A transcript beside the sound: when each of its words is spoken, and where something else is.

The words are matched with the emissions of the CTC network by the most probable path (Viterbi) through their
sounds, with blanks between. Where the network is much surer of other sounds, the transcript is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vortex.lipsync.acoustic import HOP_S
from vortex.lipsync.ctc import BLANK, CLASSES, CTC_DELAY_S
from vortex.lipsync.vad import VAD_HZ
from vortex.lipsync.visemes import SILENCE
from vortex.types import F32, F64, I64, PhonemeSpan

LEAST_PROBABILITY = 0.01
"""No sound is less probable, so that a wrong word costs as much as it is long, and not more."""
BEAM = 1000.0
"""Paths that are worse by this logarithm are given up."""
SMOOTHING_S = 1.0
MAX_COST = 0.72
"""Largest mean loss of log-probability in :data:`SMOOTHING_S` of a right transcript.

Right ones of clean, noisy, whispered, fast and distant speech lost up to 0.71, wrong ones at least 0.74.
"""
DOUBTFUL_COST = 0.3
"""Beside a part that is wrong, a cost above this one is wrong, too."""
MIN_RUN_WORDS = 4
"""Fewer words that fit between parts that do not are chance."""
MARGIN_S = 0.15
"""Sound before and after some words that the aligner gets with them."""


class Match(NamedTuple):
    """Where the words are spoken, by their sounds.

    ``words`` (W + 1,) is the number of the first sound of each word, then of all sounds; ``starts_s`` and
    ``ends_s`` (L,) are the times of each sound, infinite for those beyond the end; ``wrong`` (F,) at
    :data:`HOP_S` says where others are spoken.
    """

    phonemes: list[str]
    words: list[int]
    starts_s: F64
    ends_s: F64
    wrong: npt.NDArray[np.bool_]

    def mismatches(self) -> list[tuple[float, float]]:
        """Return start and end in seconds of each stretch in which the transcript is wrong."""
        edges = np.flatnonzero(np.diff(self.wrong, prepend=False, append=False))
        return [(start * HOP_S, end * HOP_S) for start, end in edges.reshape(-1, 2).tolist()]

    def runs(self) -> list[tuple[int, int, float, float]]:
        """Return first word, end, and start and end in seconds of each run of words that are spoken."""
        stretches = [(0.0, 0.0), *self.mismatches(), (len(self.wrong) * HOP_S, len(self.wrong) * HOP_S)]
        runs = []
        for (_, after_s), (before_s, _) in pairwise(stretches):
            inside = [
                word
                for word, (first, end) in enumerate(pairwise(self.words))
                if after_s <= self.starts_s[first] and self.ends_s[end - 1] <= before_s
            ]
            if len(inside) >= MIN_RUN_WORDS or (inside and len(stretches) == 2):
                first, end = inside[0], inside[-1] + 1
                whole = len(stretches) == 2
                start_s = after_s if whole else max(after_s, self._start_s(first) - MARGIN_S)
                end_s = before_s if whole else min(before_s, self._end_s(end) + MARGIN_S)
                runs.append((first, end, start_s, end_s))
        return runs

    def sounds(self, first: int, end: int) -> list[PhonemeSpan]:
        """Return the sounds of the words ``first`` to ``end``, each at its time in the emissions."""
        return [
            PhonemeSpan(self.phonemes[k], float(self.starts_s[k]), float(self.ends_s[k]))
            for k in range(self.words[first], self.words[end])
        ]

    def _start_s(self, word: int) -> float:
        return float(self.starts_s[self.words[word]])

    def _end_s(self, word: int) -> float:
        return float(self.ends_s[self.words[word] - 1])


def match_words(emissions: F32, voice: npt.NDArray[np.bool_], words: Sequence[Sequence[str]]) -> Match:
    """Match ``words``, the phonemes of each, with ``emissions`` (F, 41) every :data:`HOP_S`.

    ``voice`` (N,) at 100 Hz; elsewhere, the network hears nothing.
    """
    phonemes = [phoneme for word in words for phoneme in word]
    labels = np.array([CLASSES.index(phoneme) for phoneme in phonemes])
    heard = _log_probabilities(emissions, voice)
    path = _best_path(heard, labels)
    # State 2 k + 1 is sound k, state 2 k the blank before it.
    classes = np.where(path % 2 == 1, labels[np.minimum(path // 2, len(labels) - 1)], 0)
    cost = heard.max(axis=1) - heard[np.arange(len(heard)), classes]
    window, duration_s = round(SMOOTHING_S / HOP_S), len(heard) * HOP_S
    wrong = _wrong(np.convolve(cost, np.ones(window) / window, "same")[: len(cost)])
    starts = np.searchsorted(path, 2 * np.arange(len(labels)) + 1)
    # A text that is too long for the sound ends before its last sounds.
    starts_s = np.where(starts < len(path), np.maximum(starts * HOP_S - CTC_DELAY_S, 0), np.inf)
    ends_s = np.minimum(np.append(starts_s[1:], np.inf), duration_s)
    return Match(
        phonemes=phonemes,
        words=[0, *np.cumsum([len(word) for word in words]).tolist()],
        starts_s=starts_s,
        ends_s=np.where(np.isfinite(starts_s), ends_s, np.inf),
        wrong=wrong,
    )


def _wrong(cost: F64) -> npt.NDArray[np.bool_]:
    """Return (F,) True in the stretches above :data:`DOUBTFUL_COST` that reach :data:`MAX_COST`."""
    wrong = cost > DOUBTFUL_COST
    for first, end in np.flatnonzero(np.diff(wrong, prepend=False, append=False)).reshape(-1, 2).tolist():
        wrong[first:end] = cost[first:end].max() > MAX_COST
    return np.asarray(wrong)


def _log_probabilities(emissions: F32, voice: npt.NDArray[np.bool_]) -> F32:
    """Return (F, 41), at least the logarithm of :data:`LEAST_PROBABILITY`; the end of a word is a blank."""
    blank, end_of_word = CLASSES.index(BLANK), CLASSES.index(SILENCE)
    heard = emissions.copy()
    heard[:, blank] += heard[:, end_of_word]
    heard[:, end_of_word] = 0
    rows = np.minimum((np.arange(len(heard)) * HOP_S * VAD_HZ).astype(int), max(len(voice) - 1, 0))
    if len(voice):
        heard[~voice[rows]] = np.eye(1, len(CLASSES), blank, dtype=np.float32)
    return np.log(np.maximum(heard, np.float32(LEAST_PROBABILITY)))


def _best_path(heard: F32, labels: I64) -> I64:
    """Return (F,) the state in each frame: 2 k + 1 in sound k, even numbers in blanks; it never falls."""
    states = 2 * len(labels) + 1
    classes = np.zeros(states, np.int64)
    classes[1::2] = labels
    # From one sound to the next without a blank, unless both are the same.
    skips = np.zeros(states, np.bool_)
    skips[3::2] = labels[1:] != labels[:-1]
    scores = np.full(states, -np.inf)
    scores[0] = 0
    steps: list[tuple[int, npt.NDArray[np.int8]]] = []
    low, high = 0, 1
    for row in heard:
        high = min(high + 2, states)
        stay = scores[low:high]
        one = np.append(-np.inf, stay[:-1])
        two = np.where(skips[low:high], np.append([-np.inf] * 2, stay)[: len(stay)], -np.inf)
        options = np.stack([stay, one, two])
        step = options.argmax(axis=0).astype(np.int8)
        total = options.max(axis=0) + row[classes[low:high]]
        scores[low:high] = total
        steps.append((low, step))
        kept = np.flatnonzero(total > total.max() - BEAM)
        scores[low : low + kept[0]] = scores[low + kept[-1] + 1 : high] = -np.inf
        low, high = low + int(kept[0]), low + int(kept[-1]) + 1
    ends = scores[-2:]
    state = states - len(ends) + int(ends.argmax()) if np.isfinite(ends).any() else int(scores.argmax())
    path = np.empty(len(heard), np.int64)
    for frame in range(len(heard) - 1, -1, -1):
        path[frame] = state
        first, step = steps[frame]
        state -= int(step[state - first])
    return path
