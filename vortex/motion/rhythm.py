"""The rhythm of speech: phrases, and stressed syllables. Of a whole speech, or of speech as it arrives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vortex.interpolation import gaussian_smoothed
from vortex.types import F32, VisemeTrack
from vortex.visemes import SILENT_COLUMN, VISEME_TABLE

Flags = npt.NDArray[np.bool_]

FAST_S = 0.06
SLOW_S = 0.6
"""Time constants of the two averages of prominence whose difference peaks on a stressed syllable."""
OPEN_SHARE = 0.5
"""Part of prominence that needs an open mouth: vowels stand out, also where the loudness is level."""
LEAST_RISE = 0.015
"""A smaller rise of prominence above its surroundings is no stress."""
FULL_RISE = 0.08
"""No smaller rise counts as full stress, however level the speech."""
FULL_PERCENTILE = 80
"""Peaks of a whole speech from this percentile on are full stress."""
FULL_MEMORY_S = 6.0
"""Time constant with which a live face forgets its largest rise, to which it compares others."""
SILENT_WEIGHT = 0.6
"""A frame with more silence than this is silent."""
PAUSE_S = 0.15
"""A phrase ends with silence that lasts this long; the silence before a plosive is shorter."""
GESTURE_LEAD_S = 0.2
"""A gesture starts this long before its syllable peaks, if the syllable is known by then."""
BREATH_LEAD_S = 0.4
"""People breathe in, and look up, this long before they start to speak."""


@dataclass(frozen=True, slots=True, eq=False)
class Rhythm:
    """What the rest of a face needs to know of speech, (T,) each.

    ``stress`` is the strength, in (0, 1], of the gesture that starts in a frame, mostly 0; ``starts`` and
    ``ends`` are True in the frame in which a face gets ready for a phrase, or has ended it.
    """

    stress: F32
    starts: Flags
    ends: Flags

    def rows(self, start: int, end: int) -> Rhythm:
        """Return the frames from ``start`` up to, but without, ``end``."""
        return Rhythm(self.stress[start:end], self.starts[start:end], self.ends[start:end])


def rhythm_of(visemes: VisemeTrack) -> Rhythm:
    """Return the rhythm of a whole speech: gestures peak with their syllable, breath precedes a phrase."""
    fps = float(visemes.fps)
    starts, ends = _Phrases(fps).next(visemes)
    end_rows = np.flatnonzero(ends) - (_pause_frames(fps) - 1)
    rows = np.flatnonzero(starts)
    # An end comes first: the face gets ready for the next phrase after it.
    earliest = np.r_[-1, end_rows][np.searchsorted(end_rows, rows)] + 1
    start_rows = np.maximum(rows - round(BREATH_LEAD_S * fps), earliest)
    stress = np.zeros(len(starts), np.float32)
    peaks = _stressed(_prominence(visemes), fps)
    np.maximum.at(
        stress, np.maximum(np.flatnonzero(peaks) - round(GESTURE_LEAD_S * fps), 0), peaks[peaks > 0]
    )
    return Rhythm(stress, _flags(start_rows, len(starts)), _flags(end_rows, len(starts)))


class RhythmStream:
    """The rhythm of speech that arrives: a syllable is known when it has peaked, a pause after a while."""

    def __init__(self, fps: Fraction) -> None:
        self._fps = float(fps)
        self._phrases = _Phrases(self._fps)
        self._fast = self._slow = 0.0
        self._rises, self._full = (0.0, 0.0), 3 * FULL_RISE

    def next(self, visemes: VisemeTrack) -> Rhythm:
        """Return the rhythm of the next frames."""
        stress = np.array([self._stress(value) for value in _prominence(visemes).tolist()], np.float32)
        return Rhythm(stress, *self._phrases.next(visemes))

    def _stress(self, value: float) -> float:
        """Take the prominence of one frame; return the strength of a syllable that has just peaked, or 0."""
        self._fast += (value - self._fast) * (1 - math.exp(-1 / (FAST_S * self._fps)))
        self._slow += (value - self._slow) * (1 - math.exp(-1 / (SLOW_S * self._fps)))
        before, peak = self._rises
        rise = max(self._fast - self._slow - LEAST_RISE, 0.0)
        self._rises = (peak, rise)
        self._full = max(self._full * math.exp(-1 / (FULL_MEMORY_S * self._fps)), peak, FULL_RISE)
        return peak / self._full if peak > before and peak >= rise else 0.0


class _Phrases:
    """Finds where phrases start, and where they have ended."""

    def __init__(self, fps: float) -> None:
        self._pause, self._silent, self._speaking = _pause_frames(fps), 0, False

    def next(self, visemes: VisemeTrack) -> tuple[Flags, Flags]:
        """Return (T,) starts and (T,) ends; an end is where silence has just lasted long enough."""
        starts, ends = np.zeros((2, len(visemes.weights)), bool)
        for row, silent in enumerate((visemes.weights[:, SILENT_COLUMN] > SILENT_WEIGHT).tolist()):
            self._silent = self._silent + 1 if silent else 0
            starts[row] = not silent and not self._speaking
            ends[row] = self._speaking and self._silent == self._pause
            self._speaking = (self._speaking or not silent) and not ends[row]
        return starts, ends


def _pause_frames(fps: float) -> int:
    return max(round(PAUSE_S * fps), 1)


def _flags(rows: npt.NDArray[np.int64], frames: int) -> Flags:
    flags = np.zeros(frames, bool)
    flags[rows] = True
    return flags


_OPENNESS = np.array([row.jaw_open for row in VISEME_TABLE], np.float32)


def _prominence(visemes: VisemeTrack) -> F32:
    """Return (T,), about [0, 1]: loudness, less so where the mouth is shut."""
    # Not a matrix product: its rounding depends on how many frames are asked for together.
    openness = np.minimum((visemes.weights * _OPENNESS).sum(axis=1) / 0.6, 1)
    return np.asarray(visemes.loudness * (1 - OPEN_SHARE + OPEN_SHARE * openness), np.float32)


def _stressed(prominence: F32, fps: float) -> F32:
    """Return (T,) in [0, 1]: the strength of a stressed syllable in the frame in which it peaks, else 0."""
    if not len(prominence):
        return prominence
    rise = _smooth(prominence, FAST_S * fps) - _smooth(prominence, SLOW_S * fps)
    rise = np.clip(rise - LEAST_RISE, 0, None)
    inner = np.r_[False, (rise[1:-1] > rise[:-2]) & (rise[1:-1] >= rise[2:]), False][: len(rise)]
    peaks = np.where(inner, rise, 0)
    full = max(float(np.percentile(peaks[inner], FULL_PERCENTILE)), FULL_RISE) if inner.any() else 1.0
    return np.asarray(np.minimum(peaks / full, 1), np.float32)


def _smooth(values: F32, sigma: float) -> F32:
    """Return (T,) smoothed by a Gaussian of ``sigma`` frames; both ends are repeated."""
    return gaussian_smoothed(values[:, None], max(sigma, 0.3))[:, 0].astype(np.float32)
