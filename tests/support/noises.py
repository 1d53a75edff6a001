"""Sounds that are no voice, at 16 kHz, with fixed seeds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

RATE_HZ = 16_000
LOUD = 0.1
"""Root mean square of music and rain: about that of speech."""


def _times_s(duration_s: float) -> np.ndarray:
    return np.arange(round(duration_s * RATE_HZ)) / RATE_HZ


def hum(duration_s: float) -> np.ndarray:
    """Mains: 50 Hz and its harmonics."""
    time_s = _times_s(duration_s)
    return 0.03 * np.sum([np.sin(2 * np.pi * 50 * k * time_s + k) / k for k in range(1, 9)], axis=0)


def room(duration_s: float) -> np.ndarray:
    """White noise at -65 dBFS."""
    return np.random.default_rng(1).normal(0, 10 ** (-65 / 20), len(_times_s(duration_s)))


def room_after_zeros(duration_s: float) -> np.ndarray:
    """Half a second of zeros, then the noise of a room."""
    noise = room(duration_s)
    noise[: RATE_HZ // 2] = 0
    return noise


def rain(duration_s: float) -> np.ndarray:
    """Noise whose level falls with frequency, and 60 drops a second, as loud as speech."""
    rng = np.random.default_rng(2)
    count = len(_times_s(duration_s))
    spectrum = np.fft.rfft(rng.normal(size=count))
    sound = np.fft.irfft(spectrum / np.maximum(np.fft.rfftfreq(count, 1 / RATE_HZ) / 400, 1), count)
    drop_s = _times_s(0.025)
    for at in rng.integers(0, count - len(drop_s), round(60 * duration_s)):
        ring = np.exp(-drop_s / 0.004) * np.sin(2 * np.pi * rng.uniform(800, 4000) * drop_s)
        sound[at : at + len(drop_s)] += rng.uniform(0.2, 2) * ring
    return LOUD * sound / sound.std()


def music(duration_s: float) -> np.ndarray:
    """Four chords of strings with a drum on every beat, as loud as speech."""
    time_s = _times_s(duration_s)
    chords = np.array([[220, 277, 330], [196, 247, 294], [175, 220, 262], [196, 247, 330]])
    chord = chords[(time_s // 2).astype(int) % 4]
    strings = sum(np.sin(2 * np.pi * chord * k * time_s[:, None]).sum(axis=1) / k for k in (1, 2, 3, 4))
    drum = np.random.default_rng(3).normal(size=len(time_s)) * np.exp(-(time_s % 0.5) / 0.05)
    sound = strings + 4 * drum
    return LOUD * sound / sound.std()


def typing(duration_s: float) -> np.ndarray:
    """Clicks of keys, down and up, six a second."""
    rng = np.random.default_rng(4)
    sound = rng.normal(0, 3e-4, len(_times_s(duration_s)))
    click_s = _times_s(0.02)
    for down_s in np.arange(0.1, duration_s - 0.15, 0.17):
        for at_s, strength in ((down_s + rng.uniform(0, 0.03), 1.0), (down_s + rng.uniform(0.05, 0.1), 0.5)):
            at = round(at_s * RATE_HZ)
            click = np.exp(-click_s / 0.003) * rng.normal(size=len(click_s))
            sound[at : at + len(click_s)] += 0.3 * strength * rng.uniform(0.3, 1) * click
    return sound


NOISES: dict[str, Callable[[float], np.ndarray]] = {
    "zeros": lambda duration_s: np.zeros_like(_times_s(duration_s)),
    "hum": hum,
    "room": room,
    "room after zeros": room_after_zeros,
    "rain": rain,
    "music": music,
    "typing": typing,
}
"""Name -> the sound of a duration in seconds."""
