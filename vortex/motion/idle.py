"""What a living face does unasked: blinks, glances, sway, breath. Each effect has a generator of its own.

Every effect goes on from where it stopped: a thousand frames at once are the same as a thousand times one.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

MIN_BLINK_GAP_S = 2.0
MAX_BLINK_GAP_S = 6.0
BLINK_CLOSE_S = 0.09
BLINK_HOLD_S = 0.03
BLINK_OPEN_S = 0.17
"""A lid falls about twice as fast as it rises."""
BLINK_PATIENCE_S = 0.8
"""A blink that is due waits this long for the end of a phrase, where people blink."""
SACCADE_S = 0.06
EASE_IN_S = 0.8
"""The picture's own pose comes first."""


class Clock:
    """Counts the frames of one effect."""

    def __init__(self, fps: Fraction) -> None:
        self._fps, self._frames = float(fps), 0

    def next(self, frames: int) -> F64:
        """Return (frames,) the middles of the next frames, in seconds."""
        first, self._frames = self._frames, self._frames + frames
        return np.asarray((np.arange(first, self._frames) + 0.5) / self._fps, np.float64)


class Blinks:
    """The lids of a face, 1 when shut. Gaps scatter round a mean, within 2 to 6 s."""

    def __init__(self, fps: Fraction, rng: np.random.Generator) -> None:
        self._clock, self._rng = Clock(fps), rng
        self._shut_s = -np.inf  # when the lids are, or were last, shut
        self._due_s = float(rng.uniform(0.4, 2.0))

    def next(self, period_s: F32, phrase_ends: npt.NDArray[np.bool_]) -> F32:
        """Return (T,) in [0, 1].

        ``period_s`` (T,) is the mean gap at each frame; ``phrase_ends`` (T,) is true where speech stops,
        which draws a blink that is due.
        """
        time_s = self._clock.next(len(period_s))
        shut_s = np.empty(len(period_s))
        for row, now_s in enumerate(time_s):
            late = now_s - self._due_s
            if late >= 0 and (phrase_ends[row] or late >= BLINK_PATIENCE_S):
                self._shut_s = now_s + BLINK_CLOSE_S
                gap_s = float(period_s[row]) * self._rng.lognormal(0, 0.3) - BLINK_PATIENCE_S / 2
                gap_s = np.clip(gap_s, MIN_BLINK_GAP_S + 0.2, MAX_BLINK_GAP_S - BLINK_PATIENCE_S - 0.2)
                self._due_s = now_s + float(gap_s)
            shut_s[row] = self._shut_s
        phase_s = time_s - shut_s
        closing = np.clip(1 + phase_s / BLINK_CLOSE_S, 0, 1)
        opening = np.clip(1 - (phase_s - BLINK_HOLD_S) / BLINK_OPEN_S, 0, 1)
        lid = np.minimum(closing, opening)
        return np.asarray(lid * lid * (3 - 2 * lid), np.float32)


class Gaze:
    """Where the eyes look: fixations with quick jumps between them, now and then one away from the camera."""

    def __init__(self, fps: Fraction, rng: np.random.Generator) -> None:
        self._clock, self._rng = Clock(fps), rng
        self._before = self._target = np.zeros(2)
        self._since_s, self._until_s = 0.0, float(rng.uniform(0.5, 2.4))

    def next(self, frames: int) -> F32:
        """Return (frames, 2) in [-1, 1], right and down for the viewer."""
        time_s = self._clock.next(frames)
        result = np.empty((frames, 2))
        done = 0
        while done < frames:
            end = int(np.searchsorted(time_s, self._until_s))
            rows = slice(done, max(end, done))
            u = np.clip((time_s[rows] - self._since_s) / SACCADE_S, 0, 1)[:, None]
            result[rows] = self._before + (self._target - self._before) * u * u * (3 - 2 * u)
            done = rows.stop
            if done < frames:
                self._look_elsewhere()
        return np.asarray(np.clip(result, -1, 1), np.float32)

    def _look_elsewhere(self) -> None:
        spread = 0.6 if self._rng.random() < 0.25 else 0.14
        self._before, self._target = self._target, self._rng.normal(0, spread, 2) * [1.0, 0.5]
        self._since_s = self._until_s
        self._until_s += float(self._rng.uniform(0.5, 2.4))


class Sway:
    """The drift of a head held upright: noise below 0.5 Hz."""

    _FREQUENCIES_HZ = np.array([0.07, 0.13, 0.21, 0.34, 0.47])

    def __init__(self, fps: Fraction, rng: np.random.Generator) -> None:
        self._clock = Clock(fps)
        amplitudes = self._FREQUENCIES_HZ**-0.6
        self._amplitudes = amplitudes / np.sqrt((amplitudes**2).sum() / 2)
        self._phases = rng.uniform(0, 2 * np.pi, (3, len(amplitudes)))
        self._omega = 2 * np.pi * self._FREQUENCIES_HZ * rng.uniform(0.85, 1.15, self._phases.shape)
        self._start = (np.sin(self._phases) * self._amplitudes).sum(axis=1)

    def next(self, frames: int) -> F32:
        """Return (frames, 3) pitch, yaw, roll of about unit size."""
        time_s = self._clock.next(frames)
        waves = np.sin(time_s[:, None, None] * self._omega + self._phases) * self._amplitudes
        eased = np.clip(time_s / EASE_IN_S, 0, 1)[:, None]
        curves = waves.sum(axis=2) - self._start
        return np.asarray(curves * (eased * eased * (3 - 2 * eased)), np.float32)


class Breath:
    """One breath every four seconds or so."""

    def __init__(self, fps: Fraction, rng: np.random.Generator) -> None:
        self._clock = Clock(fps)
        self._period_s, self._phase = float(rng.uniform(3.6, 4.6)), float(rng.random())

    def next(self, frames: int) -> F32:
        """Return (frames,) in [-1, 1]."""
        turns = self._clock.next(frames) / self._period_s + self._phase
        return np.asarray(np.sin(2 * np.pi * turns), np.float32)
