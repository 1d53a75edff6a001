"""Voice activity detection (VAD): where in a sound there is speech, by its level in the band of speech."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vortex.lipsync.acoustic import ACOUSTIC_HZ
from vortex.types import F32

VAD_HZ = 100
"""Rate of levels and decisions."""
AUDIBLE_DBFS = -60.0
"""Level of what is just audible: root mean square relative to 1."""
SPEECH_BAND_HZ = (170.0, 5000.0)
SPEECH_DB, VOCALIZATION_DB = -38.0, -16.0
MIN_PAUSE_S = 0.14
"""Quiet gaps shorter than this belong to the sounds around them, such as the closure of a t."""
MIN_SPEECH_S = 0.03
"""Anything shorter is a click."""
LOUDNESS_RANGE_DB = 35.0

_HOP, _WINDOW = ACOUSTIC_HZ // VAD_HZ, ACOUSTIC_HZ // 40


def relative_level_db(samples: F32) -> F32:
    """Return (N,) dB at 100 Hz, relative to the loud parts of the same sound; ``samples`` are at 16 kHz.

    Only the band of speech counts, because hum below it would hide the pauses, and hiss above it the soft
    sounds. The loud parts count as at least :data:`AUDIBLE_DBFS` loud.
    """
    level = band_level_db(samples)
    return level if len(level) == 0 else np.asarray(level - loud_level_db(level), np.float32)


def band_level_db(samples: F32) -> F32:
    """Return (N,) dB at 100 Hz of the power in the band of speech, relative to an arbitrary level."""
    count = len(samples) // _HOP
    if count == 0:
        return np.zeros(0, np.float32)
    padded = np.pad(samples, (_WINDOW - _HOP) // 2 + 1)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP][:count]
    taper = np.hanning(_WINDOW).astype(np.float32)
    frequency_hz = np.fft.rfftfreq(_WINDOW, 1 / ACOUSTIC_HZ)
    band = (frequency_hz >= SPEECH_BAND_HZ[0]) & (frequency_hz <= SPEECH_BAND_HZ[1])
    blocks = (frames[i : i + 4096] * taper for i in range(0, count, 4096))
    power = np.concatenate([(np.abs(np.fft.rfft(block)[:, band]) ** 2).sum(axis=1) for block in blocks])
    level = 10 * np.log10(np.maximum(power, 1e-10))
    return np.convolve(np.pad(level, 1, mode="edge"), np.ones(3) / 3, "valid").astype(np.float32)


def loud_level_db(level: F32) -> float:
    """Return the 95th percentile of :func:`band_level_db`, but at least the level of :data:`AUDIBLE_DBFS`."""
    # The power of a tone at AUDIBLE_DBFS, in the units of band_level_db (Parseval).
    audible = 10 * np.log10(_WINDOW / 2 * float((np.hanning(_WINDOW) ** 2).sum())) + AUDIBLE_DBFS
    return max(float(np.percentile(level, 95)), float(audible))


def detect_speech(level: F32, before: F32 | None = None) -> npt.NDArray[np.bool_]:
    """Return (N,) True where there is speech: above a threshold between the noise floor and the loud parts.

    ``level`` (N,) is that of :func:`relative_level_db`; ``before`` (M,) is the level of earlier sound, which
    makes the estimate of the noise floor better. Gaps under :data:`MIN_PAUSE_S` count as speech.
    """
    speech = _above_noise(level, before, SPEECH_DB)
    # Fill gaps inside the sound that are too short for a pause, then drop what is too short for speech.
    for value, shortest_s in ((False, MIN_PAUSE_S), (True, MIN_SPEECH_S)):
        edges = np.flatnonzero(np.diff(speech, prepend=~speech[:1], append=~speech[-1:]))
        for start, end in pairwise(edges.tolist()):
            inside = value or (start > 0 and end < len(speech))
            if speech[start] == value and inside and end - start < shortest_s * VAD_HZ:
                speech[start:end] = not value
    return speech


def detect_vocalization(level: F32, before: F32 | None = None) -> npt.NDArray[np.bool_]:
    """Return (N,) True where only a voice is as loud, such as a drawn-out "um" (see detect_speech)."""
    return _above_noise(level, before, VOCALIZATION_DB)


def _above_noise(level: F32, before: F32 | None, least_db: float) -> npt.NDArray[np.bool_]:
    """Return (N,) True above ``least_db``, or above a higher threshold that rises with steady noise."""
    known = level if before is None else np.concatenate([before, level])
    floor_db = float(np.percentile(known, 5)) if len(level) else 0.0
    return np.asarray(level > max(least_db, 0.7 * floor_db))


def relative_loudness(level: F32, loudest: float) -> F32:
    """Return (N,) in [0, 1] for levels in dB: 0 up to 35 dB below ``loudest``, 1 from ``loudest`` on."""
    share = (level - loudest + LOUDNESS_RANGE_DB) / LOUDNESS_RANGE_DB
    return np.asarray(np.clip(share, 0, 1), np.float32)
