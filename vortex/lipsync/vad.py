"""Voice activity detection (VAD): where in a sound there is speech.

A network (:mod:`vortex.lipsync.silero`) tells voices from other sounds, to about a tenth of a second; the
level in the band of speech tells when exactly a voice pauses.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vortex.lipsync.acoustic import ACOUSTIC_HZ
from vortex.lipsync.silero import BLOCK_SAMPLES, SileroVad
from vortex.runtime.setting import single_blas_thread
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
START_PROBABILITY, SURE_PROBABILITY, END_PROBABILITY = 0.3, 0.5, 0.12
"""A voice starts above the first value, reaches the second, and lasts until the third (hysteresis).

All vowels of noisy, distant and whispered speech do, and hardly any music.
"""
LEAD_BLOCKS, TAIL_BLOCKS = 4, 2
"""The network needs some time to notice a voice: 0.13 s before and 0.06 s after, a sound may belong to it."""
LOUDNESS_RANGE_DB = 35.0
DIGITAL_SILENCE_DB = -80.0
"""Nothing that a microphone hears is so far below the loud parts; zeros are."""

_HOP, _WINDOW = ACOUSTIC_HZ // VAD_HZ, ACOUSTIC_HZ // 40


class VoiceActivity(NamedTuple):
    """Decisions (N,) at 100 Hz: what is loud, what may be a voice, and what only a voice is as loud as."""

    loud: npt.NDArray[np.bool_]
    voice: npt.NDArray[np.bool_]
    vocalized: npt.NDArray[np.bool_]

    @property
    def speech(self) -> npt.NDArray[np.bool_]:
        """Where a voice speaks."""
        return self.loud & self.voice


def detect_activity(samples: F32) -> VoiceActivity:
    """Return where in a whole sound (N,) at 16 kHz there is a voice."""
    level = relative_level_db(samples)
    voice = detect_voice(voice_probability(samples), len(level))
    return VoiceActivity(detect_speech(level), voice, detect_vocalization(level) & voice)


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


def voice_probability(samples: F32) -> F32:
    """Return (B,) the probability of a voice in each block of 32 ms of a whole sound at 16 kHz."""
    with single_blas_thread():
        return SileroVad().push(np.pad(samples, (0, -len(samples) % BLOCK_SAMPLES)))


def detect_voice(probability: F32, count: int, start: int = 0) -> npt.NDArray[np.bool_]:
    """Return (``count``,) at 100 Hz from sample ``start`` at 16 kHz on: whether it may be a voice.

    ``probability`` (B,) is that of :func:`voice_probability`; block 0 begins at sample 0.
    """
    if len(probability) == 0:
        return np.zeros(count, np.bool_)
    likely = np.pad(probability > END_PROBABILITY, (TAIL_BLOCKS, LEAD_BLOCKS))
    for first, end in (np.flatnonzero(np.diff(likely)).reshape(-1, 2) + 1).tolist():
        run = probability[first - TAIL_BLOCKS : end - TAIL_BLOCKS]
        started = np.flatnonzero(run > START_PROBABILITY) if run.max() > SURE_PROBABILITY else [len(run)]
        likely[first : first + started[0]] = False
    near = np.lib.stride_tricks.sliding_window_view(likely, TAIL_BLOCKS + 1 + LEAD_BLOCKS)
    blocks = (start + _HOP // 2 + _HOP * np.arange(count)) // BLOCK_SAMPLES
    return np.asarray(near[np.clip(blocks, 0, len(near) - 1)].any(axis=1))


def detect_speech(level: F32, before: F32 | None = None) -> npt.NDArray[np.bool_]:
    """Return (N,) True where a sound is loud: above a threshold between the noise floor and the loud parts.

    ``level`` (N,) is that of :func:`relative_level_db`; ``before`` (M,) is the level of earlier sound, which
    makes the estimate of the noise floor better. Gaps under :data:`MIN_PAUSE_S` count as speech. Whether the
    sound is a voice, :func:`detect_voice` says.
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
    if len(level) == 0:
        return np.zeros(0, np.bool_)
    known = level if before is None else np.concatenate([before, level])
    # Zeros before a recording begins say nothing about its noise.
    floor_db = float(np.percentile(known[np.argmax(known > DIGITAL_SILENCE_DB) :], 5))
    return np.asarray(level > max(least_db, 0.7 * floor_db))


def relative_loudness(level: F32, loudest: float) -> F32:
    """Return (N,) in [0, 1] for levels in dB: 0 up to 35 dB below ``loudest``, 1 from ``loudest`` on."""
    share = (level - loudest + LOUDNESS_RANGE_DB) / LOUDNESS_RANGE_DB
    return np.asarray(np.clip(share, 0, 1), np.float32)
