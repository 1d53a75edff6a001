"""Recordings that are hard to recognise, made from clean ones with a fixed seed, at 16 kHz."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import signal

from vortex.lipsync.recognize import recognize_visemes
from vortex.lipsync.visemes import mouth_shape
from vortex.media.audio import frame_spans, load_audio, loudness_db
from vortex.types import Audio

Curve = npt.NDArray[np.floating[Any]]
RATE_HZ = 16_000
SPEED = 1.5
PACE = {"fast": 1 / SPEED}
"""By how much a condition scales the times of the labels, where it does."""


def spoiled(condition: str, path: Path) -> Audio:
    """Return a recording under one of :data:`CONDITIONS`."""
    voice = load_audio(path, RATE_HZ).samples
    return Audio(CONDITIONS[condition](voice, np.random.default_rng(20261125)).astype(np.float32), RATE_HZ)


def backwards(paths: Sequence[Path], fps: Fraction) -> float:
    """Return the mean correlation of jaw and syllable loudness in reversed speech, which is no language."""
    correlations = []
    for path in paths:
        audio = Audio(load_audio(path, RATE_HZ).samples[::-1].copy(), RATE_HZ)
        jaw = mouth_shape(recognize_visemes(audio, fps).weights)[:, 0]
        level = loudness_db(audio.samples, frame_spans(len(jaw), fps, RATE_HZ))
        loud = signal.sosfiltfilt(signal.butter(2, 8, fs=float(fps), output="sos"), np.maximum(level, -50))
        correlations.append(float(np.corrcoef(jaw, loud)[0, 1]))
    return float(np.mean(correlations))


def _noise(voice: Curve, rng: np.random.Generator) -> Curve:
    """White noise, 10 dB below the voice."""
    return _mixed(voice, rng.normal(size=len(voice)))


def _music(voice: Curve, rng: np.random.Generator) -> Curve:
    """Four chords with a drum on every beat, 10 dB below the voice."""
    time_s = np.arange(len(voice)) / RATE_HZ
    chords = np.array([[220, 277, 330], [196, 247, 294], [175, 220, 262], [196, 247, 330]])
    chord = chords[(time_s // 2).astype(int) % 4]
    harmonics = sum(np.sin(2 * np.pi * chord * k * time_s[:, None]).sum(axis=1) / k for k in (1, 2, 3))
    drum = rng.normal(size=len(voice)) * np.exp(-((time_s % 0.5) / 0.05)) * 4
    return _mixed(voice, harmonics + drum)


def _mixed(voice: Curve, other: Curve) -> Curve:
    """Return both sounds together, at most 1, the other 10 dB below the voice in power."""
    gain = np.sqrt(np.mean(voice**2) / np.mean(other**2)) * 10 ** (-10 / 20)
    both = voice + gain * other
    return both / max(1.0, float(np.abs(both).max()))


def _telephone(voice: Curve, rng: np.random.Generator) -> Curve:
    """300 to 3400 Hz, sampled at 8 kHz, 8-bit mu-law."""
    band = signal.sosfiltfilt(signal.butter(6, [300, 3400], "bandpass", fs=RATE_HZ, output="sos"), voice)
    narrow = np.clip(signal.resample_poly(band, 1, 2), -1, 1)
    law = np.round(np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256) * 127) / 127
    back = np.sign(law) * (256 ** np.abs(law) - 1) / 255
    return signal.resample_poly(back, 2, 1)[: len(voice)]


def _echo(voice: Curve, rng: np.random.Generator) -> Curve:
    """A room that rings for 0.6 s (to -60 dB), the direct sound 3 dB above the rest."""
    time_s = np.arange(round(0.6 * RATE_HZ)) / RATE_HZ
    tail = rng.normal(size=len(time_s)) * np.exp(-6.9 * time_s / 0.6)
    tail[: round(0.003 * RATE_HZ)] = 0
    response = np.r_[1.0, np.zeros(len(tail) - 1)] + tail / np.linalg.norm(tail) * 10 ** (-3 / 20)
    return signal.fftconvolve(voice, response)[: len(voice)]


def _shouting(voice: Curve, rng: np.random.Generator) -> Curve:
    """Flatter spectrum (+6 dB an octave from 500 Hz to 2 kHz), driven 12 dB into clipping."""
    high = signal.sosfiltfilt(signal.butter(1, 1000, "highpass", fs=RATE_HZ, output="sos"), voice)
    sharp = voice + 2 * high
    return np.clip(4 * sharp / np.abs(sharp).max(), -1, 1)


def _whisper(voice: Curve, rng: np.random.Generator) -> Curve:
    """The spectral envelope of the voice on noise instead of the vocal cords."""
    frequency, _, spectrum = signal.stft(voice, RATE_HZ, nperseg=400)
    envelope = signal.convolve2d(np.abs(spectrum), np.ones((13, 1)) / 13, mode="same", boundary="symm")
    _, _, hiss = signal.stft(rng.normal(size=len(voice)), RATE_HZ, nperseg=400)
    tilt = np.clip(frequency / 1000, 0.2, 1)[:, None]
    _, whispered = signal.istft(envelope * tilt * hiss, RATE_HZ, nperseg=400)
    return 0.3 * whispered[: len(voice)] / np.abs(whispered).max()


def _fast(voice: Curve, rng: np.random.Generator) -> Curve:
    """Spoken 1.5 times as fast at the same pitch: grains of 30 ms overlap where they correlate best."""
    grain, hop = round(0.03 * RATE_HZ), round(0.015 * RATE_HZ)
    reach, taper = round(0.006 * RATE_HZ), np.hanning(grain)
    length = int(len(voice) / SPEED)
    result, padded = np.zeros(length + grain), np.pad(voice, (reach, grain + 2 * reach))
    for at in range(0, length, hop):
        source = int(at * SPEED)
        wanted = result[at : at + hop]
        scores = [wanted @ padded[source + shift : source + shift + hop] for shift in range(0, 2 * reach, 4)]
        best = source + 4 * int(np.argmax(scores))
        result[at : at + grain] += taper * padded[best : best + grain]
    return result[:length]


CONDITIONS: dict[str, Callable[[Curve, np.random.Generator], Curve]] = {
    "clean": lambda voice, rng: voice,
    "noise": _noise,
    "music": _music,
    "telephone": _telephone,
    "echo": _echo,
    "shouting": _shouting,
    "whisper": _whisper,
    "fast": _fast,
}
