"""Sounds one after the other, and whether lips and teeth close for those that need it."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise, product

import numpy as np

from vortex.lipsync.visemes import PHONEMES
from vortex.types import PhonemeSpan
from vortex.visemes import VISEMES

CLOSING_VISEME = {**dict.fromkeys("PBM", "PP"), **dict.fromkeys("FV", "FF")}


def spoken(*sounds: tuple[str, float]) -> list[PhonemeSpan]:
    """Return spans of the given durations in seconds, one after the other from 0."""
    ends = np.cumsum([duration for _, duration in sounds])
    return [
        PhonemeSpan(name, float(end - length), float(end))
        for (name, length), end in zip(sounds, ends, strict=True)
    ]


def all_pairs(lengths_s: tuple[float, float], first: Iterable[str] = PHONEMES) -> list[PhonemeSpan]:
    """Return every phoneme of ``first`` before every phoneme, each pair between open vowels."""
    sounds = []
    for pair in product(first, PHONEMES):
        sounds += [("AA", 0.137), *zip(pair, lengths_s, strict=True)]
    return spoken(*sounds, ("AA", 0.2))


def unclosed(spans: list[PhonemeSpan], weights: np.ndarray, fps: Fraction) -> list[PhonemeSpan]:
    """Return the sounds that need a closure and have none, in no frame that shows any of their time.

    A frame more may pass if lips and teeth close one after the other.
    """
    missed = []
    for before, span in pairwise([PhonemeSpan("AA", 0, 0), *spans]):
        viseme = CLOSING_VISEME.get(span.phoneme)
        if viseme:
            first, last = int(span.start_s * fps), int(span.end_s * fps)
            crowded = before.phoneme in CLOSING_VISEME and CLOSING_VISEME[before.phoneme] != viseme
            shown = weights[first : last + 1 + crowded, VISEMES.index(viseme)]
            if shown.max() < (0.99 if viseme == "PP" else 0.94):
                missed.append(span)
    return missed
