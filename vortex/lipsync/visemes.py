"""Visible mouth classes: which sounds look alike, and how neighbours blend on a moving mouth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from vortex.errors import InputError
from vortex.lipsync.phonemes import BILABIALS, LABIODENTALS, SILENCE, normalize_phoneme
from vortex.types import VISEMES, PhonemeSpan

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

RATE_HZ = 200
"""Resolution of the articulation curves, before they are sampled at the frame rate."""
BLOCK_S = 30
"""Long speech is blended in blocks of this length, so that memory does not grow with it."""
SMOOTHING_S = 0.035
"""Standard deviation of the articulators' inertia; 28 to 55 ms look natural."""
CLOSURE_S = 0.015
"""Standard deviation of the edges of a closure, which is the fastest gesture of the mouth."""

# what each sound shows, as parts of visemes: one target, or two for a diphthong
_TARGETS: Mapping[str, tuple[Mapping[str, float], ...]] = {
    "SIL": ({"sil": 1},),
    "P": ({"PP": 1},), "B": ({"PP": 1},), "M": ({"PP": 1},),
    "F": ({"FF": 1},), "V": ({"FF": 1},),
    "TH": ({"TH": 1},), "DH": ({"TH": 1},),
    "T": ({"DD": 1},), "D": ({"DD": 1},),
    "K": ({"kk": 1},), "G": ({"kk": 1},), "NG": ({"kk": 1},), "HH": ({"kk": 0.5, "E": 0.5},),
    "CH": ({"CH": 1},), "JH": ({"CH": 1},), "SH": ({"CH": 1},), "ZH": ({"CH": 1},),
    "S": ({"SS": 1},), "Z": ({"SS": 1},),
    "N": ({"nn": 1},), "L": ({"nn": 0.8, "E": 0.2},),
    "R": ({"RR": 1},), "ER": ({"RR": 0.8, "E": 0.2},),
    "AA": ({"aa": 1},), "AE": ({"aa": 0.75, "E": 0.25},), "AH": ({"aa": 0.5, "E": 0.2, "kk": 0.3},),
    "AO": ({"oh": 0.6, "aa": 0.4},),
    "AY": ({"aa": 1}, {"ih": 0.6, "E": 0.4}), "AW": ({"aa": 1}, {"ou": 0.6, "oh": 0.4}),
    "EH": ({"E": 1},), "EY": ({"E": 1}, {"ih": 1}), "IH": ({"ih": 0.8, "E": 0.2},), "IY": ({"ih": 1},),
    "OW": ({"oh": 1}, {"oh": 0.4, "ou": 0.6}), "OY": ({"oh": 1}, {"ih": 0.7, "E": 0.3}),
    "UH": ({"ou": 0.6, "oh": 0.4},), "UW": ({"ou": 1},),
    "W": ({"ou": 1},), "Y": ({"ih": 1},),
}  # fmt: skip

# how strongly a sound imposes its own shape on its neighbours (Cohen & Massaro 1993, "dominance")
_DOMINANCE: Mapping[str, float] = {
    "P": 6, "B": 6, "M": 6, "F": 5, "V": 5, "W": 3, "UW": 2, "SH": 2, "CH": 2, "JH": 2, "ZH": 2,
    "HH": 0.2, "AH": 0.7, "K": 0.6, "G": 0.6, "NG": 0.6, "T": 0.6, "D": 0.6, "N": 0.6, "L": 0.6,
}  # fmt: skip
_ROUNDED = frozenset({"W", "UW", "UH", "OW", "OY", "AO", "SH", "CH", "JH", "ZH"})
ANTICIPATION_S = 0.045
"""Rounding starts this much before the sound, the lips being free until then."""

_MOUTH = {
    "sil": (0.0, 0.4, 0.1), "PP": (0.0, 0.38, 0.1), "FF": (0.07, 0.45, 0.05), "TH": (0.28, 0.5, 0.05),
    "DD": (0.28, 0.5, 0.05), "kk": (0.33, 0.5, 0.05), "CH": (0.27, 0.3, 0.6), "SS": (0.27, 0.6, 0.05),
    "nn": (0.3, 0.5, 0.05), "RR": (0.33, 0.3, 0.5), "aa": (0.95, 0.5, 0.08), "E": (0.62, 0.62, 0.0),
    "ih": (0.33, 0.78, 0.0), "oh": (0.6, 0.22, 0.75), "ou": (0.3, 0.14, 0.97),
}  # fmt: skip
MOUTH_SHAPES = np.array([_MOUTH[name] for name in VISEMES], np.float32)
"""(15, 3) jaw_open, lip_width, lip_rounding of each viseme, all in [0, 1]."""


@lru_cache(maxsize=256)
def phoneme_to_viseme(phoneme: str) -> str:
    """Return the viseme, one of :data:`vortex.types.VISEMES`, that an ARPAbet phoneme shows most.

    Raises:
        UnknownPhonemeError: not one of the 39 phonemes or SIL, stress digits allowed.
    """
    first = _TARGETS[normalize_phoneme(phoneme)][0]
    return max(first, key=lambda name: first[name])


def smooth_viseme_sequence(visemes: npt.ArrayLike, window_size: int = 3) -> F32:
    """Return (T, C) float32: each column smoothed by a triangle of ``window_size`` frames.

    ``visemes`` is (T, C), such as viseme weights or mouth shapes; the ends are held, sums of rows kept.

    Raises:
        InputError: another shape, values that are not finite, or a window that is even or below 1.
    """
    values = np.asarray(visemes, np.float32)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise InputError(f"visemes has shape {values.shape}; give finite numbers of shape (T, C).")
    if window_size < 1 or window_size % 2 == 0:
        raise InputError(f"window_size is {window_size}; give an odd number of frames, 1 or more.")
    if window_size == 1 or len(values) == 0:
        return values.copy()
    half = window_size // 2
    kernel = (half + 1 - np.abs(np.arange(-half, half + 1))).astype(np.float32)
    return _convolve(values, kernel / kernel.sum()).astype(np.float32)


def mouth_shape(weights: npt.ArrayLike) -> F32:
    """Return (T, 3) float32 jaw_open, lip_width, lip_rounding in [0, 1] of viseme weights (T, 15)."""
    return np.asarray(np.clip(np.asarray(weights, np.float32) @ MOUTH_SHAPES, 0, 1), np.float32)


def coarticulate(spans: Sequence[PhonemeSpan], frames: int, fps: Fraction) -> F32:
    """Return viseme weights (T, 15) float32, rows sum to 1, sampled at the centres of the frames.

    Neighbouring sounds blend by dominance under a Gaussian of the articulators' inertia; closures of the lips
    are kept through it, however short, because a p, b or m without a closure is seen at once. Anything
    outside the spans is silence.
    """
    result = np.empty((frames, len(VISEMES)), np.float32)
    block = max(int(BLOCK_S * fps), 1)
    margin = round(5 * SMOOTHING_S * RATE_HZ)
    middles = np.round((np.arange(frames) + 0.5) / float(fps) * RATE_HZ).astype(np.intp)
    for first in range(0, frames, block):
        rows = middles[first : first + block]
        low, high = max(int(rows[0]) - margin, 0), int(rows[-1]) + margin
        near = [
            span
            for span in spans
            if span.end_s * RATE_HZ > low - 1 and (span.start_s - ANTICIPATION_S) * RATE_HZ < high + 1
        ]
        result[first : first + block] = _blend(near, low, high, rows, float(fps))
    return result


def _blend(
    spans: Sequence[PhonemeSpan], low: int, high: int, rows: npt.NDArray[np.intp], fps: float
) -> npt.NDArray[np.floating]:
    """Return the weights (T, 15) at ``rows`` of the stretch of articulation from row ``low`` to ``high``."""
    weights, dominance, closure = _targets(spans, low, high)
    reach = round(4 * SMOOTHING_S * RATE_HZ)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (SMOOTHING_S * RATE_HZ)) ** 2)
    blended = _convolve(weights * dominance, kernel) / _convolve(dominance, kernel)
    reach = round(4 * CLOSURE_S * RATE_HZ)
    edge = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (CLOSURE_S * RATE_HZ)) ** 2)
    shut = np.clip(1.1 * _convolve(closure, edge / edge.sum()), 0, 1)
    shut /= np.maximum(shut.sum(axis=1, keepdims=True), 1)
    blended *= 1 - shut.sum(axis=1, keepdims=True)
    blended[:, [VISEMES.index("PP"), VISEMES.index("FF")]] += shut
    sampled = blended[_shown_rows(shut[:, 0], rows - low, fps)]
    return np.asarray(sampled / sampled.sum(axis=1, keepdims=True))


def _shown_rows(shut: F64, rows: npt.NDArray[np.intp], fps: float) -> npt.NDArray[np.intp]:
    """Return (T,) the row to show in each frame: its middle, or its most closed moment if there is one."""
    half = int(RATE_HZ / fps / 2)
    window = np.clip(rows[:, None] + np.arange(-half, half + 1), 0, len(shut) - 1)
    strongest = window[np.arange(len(window)), shut[window].argmax(axis=1)]
    return np.asarray(np.where(shut[strongest] > 0.5, strongest, window[:, half]), np.intp)


def _targets(spans: Sequence[PhonemeSpan], low: int, high: int) -> tuple[F64, F64, F64]:
    """Return targets (N, 15), dominance (N, 1) and closures (N, 2), lips and lip to teeth, of some rows."""
    count = high - low
    weights = np.zeros((count, len(VISEMES)))
    weights[:, VISEMES.index("sil")] = 1
    dominance = np.full((count, 1), 0.5)
    closure = np.zeros((count, 2))
    for span in spans:
        start_s = span.start_s - (ANTICIPATION_S if span.phoneme in _ROUNDED else 0.0)
        start = round(start_s * RATE_HZ)
        end = max(round(span.end_s * RATE_HZ), start + 1)
        parts = _TARGETS[span.phoneme]
        edges = np.clip(np.linspace(start, end, len(parts) + 1).round().astype(int) - low, 0, count)
        for part, here, there in zip(parts, edges[:-1], edges[1:], strict=True):
            weights[here:there] = 0
            for name, share in part.items():
                weights[here:there, VISEMES.index(name)] = share
        start, end = int(edges[0]), int(edges[-1])
        dominance[start:end] = _DOMINANCE.get(span.phoneme, 0.5 if span.phoneme == SILENCE else 1.0)
        closure[start:end] = [span.phoneme in BILABIALS, 0.85 * (span.phoneme in LABIODENTALS)]
    return weights, dominance, closure


def _convolve(values: npt.NDArray[np.floating], kernel: npt.NDArray[np.floating]) -> F64:
    """Return (T, C) columns convolved with an odd kernel, ends held."""
    half = len(kernel) // 2
    padded = np.pad(values, ((half, half), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, kernel, "valid") for column in padded.T], axis=1).astype(np.float64)
