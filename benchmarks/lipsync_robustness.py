"""Score the front end on speech that is hard to hear: noise, music, telephone, echo, shout, whisper, haste.

Usage: python benchmarks/lipsync_robustness.py [FOLDER] [--output .tasks/baselines/lipsync_robustness.json]

FOLDER as in benchmarks/lipsync.py; without it, the demo recording. Each condition is made from the clean
clips with a fixed seed, and scored against the same labels. ``backwards`` plays the clips in reverse: a
voice, but no language, and without labels: the opening of the jaw is compared with the loudness of the
syllables, 2 to 8 Hz.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from harness import append, record, rounded
from lipsync import FPS, Clip, clips, lag_and_correlation, score
from scipy import signal

from vortex.audio import frame_spans, load_audio, loudness_db
from vortex.lipsync.recognize import recognize_visemes
from vortex.lipsync.visemes import mouth_shape
from vortex.types import Audio, PhonemeSpan

Samples = npt.NDArray[np.float32]
RATE_HZ = 16_000
SPEED = 1.5


def main() -> int:
    """Score all conditions, print, and keep a record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--output", type=Path, help="file of records to append to")
    args = parser.parse_args()
    chosen = clips(args.folder)
    figures: dict[str, dict[str, float]] = {}
    for name, spoil in CONDITIONS.items():
        figures[name] = evaluate(chosen, spoil, 1 / SPEED if name == "fast" else 1.0)
        print(
            f"{name:<11}" + "  ".join(f"{key} {value:.2f}" for key, value in figures[name].items()),
            flush=True,
        )
    figures["backwards"] = {"syllable_correlation": backwards(chosen)}
    print(f"backwards  syllable_correlation {figures['backwards']['syllable_correlation']:.2f}")
    if args.output:
        params = {"clips": [name for name, *_ in chosen], "fps": str(FPS)}
        entry = record("lipsync_robustness", engine=None, params=params, figures=figures)
        append(args.output, rounded(entry))
    return 0


# ---------------------------------------- conditions, at 16 kHz


def noise(voice: Samples, chance: np.random.Generator) -> Samples:
    """White noise, 10 dB below the voice."""
    return mixed(voice, chance.normal(size=len(voice)), 10.0)


def music(voice: Samples, chance: np.random.Generator) -> Samples:
    """Four chords with a drum on every beat, 10 dB below the voice."""
    time_s = np.arange(len(voice)) / RATE_HZ
    chord = np.array([[220, 277, 330], [196, 247, 294], [175, 220, 262], [196, 247, 330]])[
        (time_s // 2).astype(int) % 4
    ]
    harmonics = sum(np.sin(2 * np.pi * chord * k * time_s[:, None]).sum(axis=1) / k for k in (1, 2, 3))
    drum = chance.normal(size=len(voice)) * np.exp(-((time_s % 0.5) / 0.05)) * 4
    return mixed(voice, harmonics + drum, 10.0)


def telephone(voice: Samples, chance: np.random.Generator) -> Samples:
    """300 to 3400 Hz, sampled at 8 kHz, 8-bit mu-law."""
    band = signal.sosfiltfilt(signal.butter(6, [300, 3400], "bandpass", fs=RATE_HZ, output="sos"), voice)
    narrow = np.clip(signal.resample_poly(band, 1, 2), -1, 1)
    law = np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256)
    law = np.round(law * 127) / 127
    back = np.sign(law) * (256 ** np.abs(law) - 1) / 255
    return np.asarray(signal.resample_poly(back, 2, 1)[: len(voice)], np.float32)


def echo(voice: Samples, chance: np.random.Generator) -> Samples:
    """A room that rings for 0.6 s (to -60 dB), the direct sound 3 dB over the rest."""
    time_s = np.arange(round(0.6 * RATE_HZ)) / RATE_HZ
    tail = chance.normal(size=len(time_s)) * np.exp(-6.9 * time_s / 0.6)
    tail[: round(0.003 * RATE_HZ)] = 0
    response = np.r_[1.0, np.zeros(len(tail) - 1)] + tail / np.linalg.norm(tail) * 10 ** (-3 / 20)
    return np.asarray(signal.fftconvolve(voice, response)[: len(voice)], np.float32)


def shouting(voice: Samples, chance: np.random.Generator) -> Samples:
    """Flatter spectrum (+6 dB an octave from 500 Hz to 2 kHz), driven 12 dB into clipping."""
    sharp = voice + 2 * signal.sosfiltfilt(
        signal.butter(1, 1000, "highpass", fs=RATE_HZ, output="sos"), voice
    )
    loud = 4 * sharp / np.abs(sharp).max()
    return np.asarray(np.clip(loud, -1, 1), np.float32)


def whisper(voice: Samples, chance: np.random.Generator) -> Samples:
    """The spectral envelope of the voice on noise instead of the vocal cords."""
    frequency, _, spectrum = signal.stft(voice, RATE_HZ, nperseg=400)
    envelope = signal.convolve2d(np.abs(spectrum), np.ones((13, 1)) / 13, mode="same", boundary="symm")
    _, _, hiss = signal.stft(chance.normal(size=len(voice)), RATE_HZ, nperseg=400)
    tilt = np.clip(frequency / 1000, 0.2, 1)[:, None]
    _, whispered = signal.istft(envelope * tilt * hiss, RATE_HZ, nperseg=400)
    return np.asarray(0.3 * whispered[: len(voice)] / np.abs(whispered).max(), np.float32)


def fast(voice: Samples, chance: np.random.Generator) -> Samples:
    """Spoken 1.5 times as fast, at the same pitch: overlapping grains of 30 ms laid where they fit best."""
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
    return np.asarray(result[:length], np.float32)


def mixed(voice: Samples, other: npt.NDArray[np.floating[Any]], snr_db: float) -> Samples:
    """Return voice and other sound together, at most 1; the ratio is that of their powers."""
    gain = np.sqrt(np.mean(voice**2) / np.mean(other**2)) * 10 ** (-snr_db / 20)
    both = voice + gain * other
    return np.asarray(both / max(1.0, float(np.abs(both).max())), np.float32)


CONDITIONS: dict[str, Callable[[Samples, np.random.Generator], Samples]] = {
    "clean": lambda voice, chance: voice,
    "noise": noise,
    "music": music,
    "telephone": telephone,
    "echo": echo,
    "shouting": shouting,
    "whisper": whisper,
    "fast": fast,
}


# ---------------------------------------- figures


def evaluate(
    chosen: list[Clip], spoil: Callable[[Samples, np.random.Generator], Samples], pace: float
) -> dict[str, float]:
    """Return the figures over all clips; ``pace`` scales the times of the labels."""
    sums: dict[str, float] = {}
    lags, correlations = [], []
    for _, path, labels, _ in chosen:
        truth = [PhonemeSpan(s.phoneme, s.start_s * pace, s.end_s * pace) for s in labels]
        samples = spoil(load_audio(path, RATE_HZ).samples, np.random.default_rng(20261125))
        audio = Audio(samples, RATE_HZ)
        jaw = mouth_shape(recognize_visemes(audio, FPS).weights)[:, 0]
        reference = mouth_shape(recognize_visemes(audio, FPS, phonemes=truth).weights)[:, 0]
        lag, correlation = lag_and_correlation(jaw, reference)
        lags.append(lag)
        correlations.append(correlation)
        for name, value in score(jaw, truth).items():
            sums[name] = sums.get(name, 0) + value
    recall = sums["hits"] / max(sums["closures"], 1)
    precision = 1 - sums["false"] / max(sums["events"], 1)
    return {
        "closure_f1": 2 * recall * precision / max(recall + precision, 1e-9),
        "closure_recall": recall,
        "jaw_correlation": float(np.mean(correlations)),
        "lag_frames": float(np.median(lags)),
        "silence": sums["silent_ok"] / sums["silent"] if sums["silent"] else 1.0,
        "speech": sums["vowel_ok"] / sums["vowel"] if sums["vowel"] else 1.0,
    }


def backwards(chosen: list[Clip]) -> float:
    """Return how the jaw follows the loudness of the syllables in speech of no language."""
    correlations = []
    for _, path, *_ in chosen:
        audio = Audio(load_audio(path, RATE_HZ).samples[::-1].copy(), RATE_HZ)
        jaw = mouth_shape(recognize_visemes(audio, FPS).weights)[:, 0]
        level = loudness_db(audio.samples, frame_spans(len(jaw), FPS, RATE_HZ))
        loud = signal.sosfiltfilt(signal.butter(2, 8, fs=float(FPS), output="sos"), np.maximum(level, -50))
        correlations.append(float(np.corrcoef(jaw, loud)[0, 1]))
    return float(np.mean(correlations))


if __name__ == "__main__":
    sys.exit(main())
