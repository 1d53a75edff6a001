"""Idle motion: blinks, glances, sway of the head, and breath. Each effect has its own random generator.

Each call of ``next`` takes the times in seconds of the middles of the next frames: one call for a thousand
frames returns the same as a thousand calls for one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vortex.interpolation import smoothstep
from vortex.types import F32, F64

MIN_BLINK_GAP_S = 2.0
MAX_BLINK_GAP_S = 6.0
BLINK_CLOSE_S = 0.09
BLINK_HOLD_S = 0.03
BLINK_OPEN_S = 0.17
"""A lid falls about twice as fast as it rises."""
BLINK_PATIENCE_S = 0.8
"""A blink that is due waits at most this long for the end of a phrase, where people blink."""
BLINK_GAP_MARGIN_S = 0.2
"""Distance of planned gaps from both limits, as frames are discrete."""
SACCADE_S = 0.06
EASE_IN_S = 0.8
"""Time over which sway sets in, so that a video starts in the pose of its picture."""


class Blinks:
    """The eyelids. The gaps between blinks vary around a mean, from 2 to 6 s."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._shut_s = -np.inf  # when the lids of the newest blink are first fully shut
        self._due_s = float(rng.uniform(0.4, 2.0))

    def next(self, time_s: F64, period_s: F32, phrase_ends: npt.NDArray[np.bool_]) -> F32:
        """Return (T,) in [0, 1], 1 where the lids are shut.

        ``period_s`` (T,) is the mean gap at each frame; ``phrase_ends`` (T,) is True where speech stops: a
        blink that is due starts there.
        """
        shut_s = np.empty(len(time_s))
        for row, now_s in enumerate(time_s):
            late = now_s - self._due_s
            if late >= 0 and (phrase_ends[row] or late >= BLINK_PATIENCE_S):
                self._shut_s = now_s + BLINK_CLOSE_S
                gap_s = float(period_s[row]) * self._rng.lognormal(0, 0.3) - BLINK_PATIENCE_S / 2
                longest_s = MAX_BLINK_GAP_S - BLINK_PATIENCE_S - BLINK_GAP_MARGIN_S
                gap_s = np.clip(gap_s, MIN_BLINK_GAP_S + BLINK_GAP_MARGIN_S, longest_s)
                self._due_s = now_s + float(gap_s)
            shut_s[row] = self._shut_s
        phase_s = time_s - shut_s
        closing = np.clip(1 + phase_s / BLINK_CLOSE_S, 0, 1)
        opening = np.clip(1 - (phase_s - BLINK_HOLD_S) / BLINK_OPEN_S, 0, 1)
        return np.asarray(smoothstep(np.minimum(closing, opening), dtype=np.float64), np.float32)


class Gaze:
    """The direction of the eyes: fixations near the camera, sometimes away from it, and saccades between."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._previous = self._target = np.zeros(2)
        self._since_s, self._until_s = 0.0, float(rng.uniform(0.5, 2.4))

    def next(self, time_s: F64) -> F32:
        """Return (T, 2) in [-1, 1]: to the viewer's right, and down."""
        result = np.empty((len(time_s), 2))
        done = 0
        while done < len(time_s):
            rows = slice(done, max(int(np.searchsorted(time_s, self._until_s)), done))
            share = smoothstep((time_s[rows] - self._since_s) / SACCADE_S, dtype=np.float64)[:, None]
            result[rows] = self._previous + (self._target - self._previous) * share
            done = rows.stop
            if done < len(time_s):
                spread = 0.6 if self._rng.random() < 0.25 else 0.14
                self._previous, self._target = self._target, self._rng.normal(0, spread, 2) * [1.0, 0.5]
                self._since_s = self._until_s
                self._until_s += float(self._rng.uniform(0.5, 2.4))
        return np.asarray(np.clip(result, -1, 1), np.float32)


class Sway:
    """The slow drift of the head: a sum of sines below 0.6 Hz, weaker towards higher frequencies."""

    _FREQUENCIES_HZ = np.array([0.07, 0.13, 0.21, 0.34, 0.47])

    def __init__(self, rng: np.random.Generator) -> None:
        amplitudes = self._FREQUENCIES_HZ**-0.6
        self._amplitudes = amplitudes / np.sqrt((amplitudes**2).sum() / 2)
        self._phases = rng.uniform(0, 2 * np.pi, (3, len(amplitudes)))
        self._omega = 2 * np.pi * self._FREQUENCIES_HZ * rng.uniform(0.85, 1.15, self._phases.shape)
        self._start = (np.sin(self._phases) * self._amplitudes).sum(axis=1)

    def next(self, time_s: F64) -> F32:
        """Return (T, 3) pitch, yaw and roll, each of standard deviation 1 or so, starting from 0."""
        waves = np.sin(time_s[:, None, None] * self._omega + self._phases) * self._amplitudes
        eased = smoothstep(time_s / EASE_IN_S, dtype=np.float64)[:, None]
        curves = waves.sum(axis=2) - self._start
        return np.asarray(curves * eased, np.float32)


class Breath:
    """The rise and fall of breathing, one breath in 3.6 to 4.6 s."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._period_s, self._phase = float(rng.uniform(3.6, 4.6)), float(rng.random())

    def next(self, time_s: F64) -> F32:
        """Return (T,) in [-1, 1]."""
        turns = time_s / self._period_s + self._phase
        return np.asarray(np.sin(2 * np.pi * turns), np.float32)
