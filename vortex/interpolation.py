"""Curves: smooth steps and limits, and smoothing of values along time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def smoothstep(value: npt.ArrayLike, start: Any = 0.0, end: Any = 1.0, dtype: Any = np.float32) -> Any:
    """Return 0 before ``start``, 1 after ``end`` and 3u² - 2u³ between, computed in ``dtype``."""
    u = np.clip((np.asarray(value, dtype) - start) / (end - start), 0, 1)
    return np.asarray(u * u * (3 - 2 * u), dtype)


def soft_limit(
    value: npt.NDArray[np.floating], limit: float | npt.NDArray[np.floating]
) -> npt.NDArray[np.float32]:
    """Return ``value`` bent below ``limit``: slope 1 at zero, never above the limit."""
    return np.asarray(limit * np.tanh(value / limit), np.float32)


def convolve_columns(
    values: npt.NDArray[np.floating], kernel: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Return (T, C) columns convolved with an odd kernel; the first and the last row are repeated."""
    half = len(kernel) // 2
    padded = np.pad(values, ((half, half), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, kernel, "valid") for column in padded.T], axis=1).astype(np.float64)


def gaussian_smoothed(values: npt.NDArray[np.floating], sigma: float) -> npt.NDArray[np.float64]:
    """Return (T, C) columns smoothed by a Gaussian of ``sigma`` rows, without delay; ends are repeated."""
    reach = max(int(np.ceil(3 * sigma)), 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return convolve_columns(values, kernel / kernel.sum())


def kalman_smoothed(
    values: npt.NDArray[np.floating], process: float, observation: float
) -> npt.NDArray[np.float64]:
    """Return (T, C) columns smoothed forwards and backwards: random walks seen with noise.

    ``process`` is the variance of a step of a walk, ``observation`` that of the noise; a walk starts at the
    first value with variance 1 (Rauch, Tung, Striebel 1965).
    """
    seen = np.asarray(values, np.float64)
    means, variances = np.empty_like(seen), np.empty(len(seen))
    mean, variance = seen[0], 1.0
    for row, value in enumerate(seen):
        variance += process * (row > 0)
        gain = variance / (variance + observation)
        mean, variance = mean + gain * (value - mean), (1 - gain) * variance
        means[row], variances[row] = mean, variance
    for row in range(len(seen) - 2, -1, -1):
        share = variances[row] / (variances[row] + process)
        means[row] += share * (means[row + 1] - means[row])
    return means
