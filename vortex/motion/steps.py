"""How parts of a face move: steps of minimum jerk that add up, and waves that never repeat."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from vortex.types import F32, F64


def minimum_jerk(share: F64) -> F64:
    """Return 10u³ - 15u⁴ + 6u⁵ of u in [0, 1], how people move a hand, an eye or a head (Flash, Hogan 1985).

    The largest speed is 1.875 times the mean speed.
    """
    u = np.minimum(np.maximum(share, 0), 1)
    return np.asarray(u * u * u * (10 + u * (6 * u - 15)), np.float64)


class Steps:
    """A value of ``width`` numbers that moves by minimum-jerk steps; steps that overlap add up.

    What :meth:`at` returns for a time does not depend on the times that are asked for together with it.
    """

    def __init__(self, width: int) -> None:
        self._base = np.zeros(width)
        self._steps: deque[tuple[float, float, F64]] = deque()
        self.target: F64 = np.zeros(width)
        """The value after the last step."""

    def move_by(self, start_s: float, duration_s: float, change: npt.ArrayLike) -> None:
        """Add a step; ``start_s`` is not before a time that :meth:`at` has returned."""
        step = np.asarray(change, np.float64)
        self.target = self.target + step
        self._steps.append((start_s, duration_s, step))

    def move_to(self, start_s: float, duration_s: float, target: npt.ArrayLike) -> None:
        """Add a step after which the value is ``target``."""
        self.move_by(start_s, duration_s, np.asarray(target, np.float64) - self.target)

    def pulse(self, start_s: float, rise_s: float, hold_s: float, fall_s: float, size: npt.ArrayLike) -> None:
        """Add a step by ``size`` and, after ``hold_s``, the step back."""
        self.move_by(start_s, rise_s, size)
        self.move_by(start_s + rise_s + hold_s, fall_s, -np.asarray(size, np.float64))

    def at(self, time_s: F64) -> F64:
        """Return (T, width) for (T,) rising times, none before the last time of the call before."""
        while self._steps and len(time_s) and sum(self._steps[0][:2]) <= time_s[0]:
            self._base = self._base + self._steps.popleft()[2]
        result = np.repeat(self._base[None], len(time_s), axis=0)
        for start_s, duration_s, change in self._steps:
            result += minimum_jerk((time_s - start_s) / duration_s)[:, None] * change
        return result


class Waves:
    """``count`` curves of mean 0 and standard deviation 1: sums of sines whose power falls with frequency."""

    def __init__(self, rng: np.random.Generator, count: int) -> None:
        frequencies_hz = np.geomspace(LOWEST_HZ, HIGHEST_HZ, WAVES)
        amplitudes = 1 / np.sqrt(1 + (frequencies_hz / CORNER_HZ) ** FALL)
        self._amplitudes = amplitudes / np.sqrt((amplitudes**2).sum() / 2)
        self._phases = rng.uniform(0, 2 * np.pi, (count, WAVES))
        self._omega = 2 * np.pi * frequencies_hz * rng.uniform(0.85, 1.15, self._phases.shape)
        self._clock_s = 0.0

    def next(self, pace: F32, step_s: float) -> F64:
        """Return (T, count) for the next frames of ``step_s`` each; ``pace`` (T,) is the speed."""
        clock_s = np.cumsum(np.r_[self._clock_s, pace.astype(np.float64) * step_s])
        self._clock_s = float(clock_s[-1])
        waves = np.sin(clock_s[1:, None, None] * self._omega + self._phases) * self._amplitudes
        return np.asarray(waves.sum(axis=2), np.float64)


LOWEST_HZ, HIGHEST_HZ, WAVES = 0.06, 4.5, 16
CORNER_HZ, FALL = 0.6, 1.7
"""Power of a wave, relative to the lowest: 1 / (1 + (f / CORNER_HZ)^FALL). The waves are spaced by ratio."""
