"""Sounds: decode, mix to mono, resample, fit to the video, and measure loudness per frame."""

from __future__ import annotations

import os
import warnings
import wave
from fractions import Fraction
from io import BytesIO, TextIOBase
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
import numpy.typing as npt

from vortex.errors import AudioError, VortexWarning
from vortex.media.downmix import Downmixer, StereoMixer
from vortex.media.soundtrack import GAP_FROM_S, Soundtrack, read_soundtrack
from vortex.runtime.files import check_input_file, check_output_path, whole_file
from vortex.types import DEFAULT_SAMPLE_RATE_HZ, F32, I64, MAX_DURATION_S, Audio

MIN_DURATION_S = 0.1
SILENCE_DBFS = -66.0
"""A sound whose loudest sample is below this counts as silent."""
SILENT_BELOW = 10 ** (SILENCE_DBFS / 20)
_NOT_NUMBERS = "{} has samples that are not numbers. Export it again, as 16-bit WAV."

SoundSource: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | tuple[npt.ArrayLike, int] | Audio"
"""A path, file bytes, a binary file, samples (N,) or (N, C) in [-1, 1] with their rate in Hz, or an Audio."""


def load_audio(
    source: SoundSource, sample_rate: int = DEFAULT_SAMPLE_RATE_HZ, *, max_duration_s: float = MAX_DURATION_S
) -> Audio:
    """Return a sound as mono float32 at ``sample_rate`` Hz.

    Reads the formats of :data:`vortex.media.formats.SOUNDS` and the sound of videos, at any rate, depth and
    number of channels, which are mixed so that they are as loud as together. Silence is put before the sound
    of a video that starts after the picture. What is damaged becomes silence, with a warning. Stops when the
    sound is longer than ``max_duration_s``, as a small file may hold days of silence.

    Raises AudioError: no such file, no sound in it, shorter than 0.1 s, longer than allowed, silent, samples
    that are not finite, or a source of another type or shape.
    """
    return load_sound(source, sample_rate, max_duration_s=max_duration_s, stereo=False)[0]


def load_sound(
    source: SoundSource,
    sample_rate: int = DEFAULT_SAMPLE_RATE_HZ,
    *,
    max_duration_s: float = MAX_DURATION_S,
    stereo: bool = True,
) -> tuple[Audio, F32 | None]:
    """Return what :func:`load_audio` does, and the same with left and right apart, (N, 2) float32.

    The latter is None for mono sounds, and without ``stereo``. Errors as of :func:`load_audio`.
    """
    (samples, apart), length_s, what = _read(source, sample_rate, max_duration_s, stereo)
    if length_s < MIN_DURATION_S:
        raise AudioError(
            f"{what} lasts {length_s:.3f} s; at least {MIN_DURATION_S} s are needed. Give a longer recording."
        )
    if max(samples.max(initial=0), -samples.min(initial=0)) < SILENT_BELOW:
        raise AudioError(f"{what} is silent. Give a recording with speech in it.")
    return Audio(within_range(samples), sample_rate), None if apart is None else within_range(apart)


def load_video_sound(path: Path, sample_rate: int, start_s: float) -> Audio:
    """Return the sound of a video from ``start_s`` on the clock of the file, mono, at ``sample_rate`` Hz.

    It may be silent, and of any length.

    Raises:
        AudioError: there is no sound, or it cannot be decoded.
    """
    return load_video_channels(path, sample_rate, start_s, stereo=False)[0]


def load_video_channels(
    path: Path, sample_rate: int, start_s: float, *, stereo: bool = True
) -> tuple[Audio, F32 | None]:
    """Return what :func:`load_video_sound` does, and the same with left and right apart, (N, 2) float32.

    The latter is None for mono sounds, and without ``stereo``.

    Raises:
        AudioError: there is no sound, or it cannot be decoded.
    """
    what = f"Video '{path}'"
    track = read_soundtrack(path, what, sample_rate, silent_below=SILENT_BELOW, stereo=stereo)
    _warn_of_damage(track, what)
    ahead = round((track.start_s - start_s) * sample_rate)
    samples = _shifted(track.samples, ahead)
    apart = None if track.stereo is None else within_range(_shifted(track.stereo, ahead))
    return Audio(within_range(samples), sample_rate), apart


def _shifted(samples: F32, ahead: int) -> F32:
    """Return samples (N, ...) behind so many silent ones, or without so many at their start if negative."""
    if ahead <= 0:
        return samples[-ahead:]
    return np.concatenate([np.zeros((ahead, *samples.shape[1:]), np.float32), samples])


def _read(
    source: SoundSource, sample_rate: int, max_duration_s: float, stereo: bool
) -> tuple[tuple[F32, F32 | None], float, str]:
    """Return samples at ``sample_rate`` Hz, the length in seconds, and the name for messages.

    Samples are mono (N,), and with ``stereo``, if there are several channels, (N, 2).
    """
    what = "The speech"
    if isinstance(source, Audio | tuple):
        given = (source.samples, source.sample_rate) if isinstance(source, Audio) else _from_samples(source)
        samples, rate = given
        if not np.isfinite(samples).all():
            raise AudioError(_NOT_NUMBERS.format(what))
        apart = _channels_apart(source, sample_rate) if stereo and isinstance(source, tuple) else None
        return (resample(within_range(samples), rate, sample_rate), apart), len(samples) / rate, what
    file: Path | IO[bytes]
    if isinstance(source, str | os.PathLike):
        file = Path(source)
        what = f"Speech '{file}'"
        check_input_file(file, what, "a sound file, such as WAV, FLAC or MP3", AudioError)
    else:
        file = BytesIO(source) if isinstance(source, bytes) else source
        if not hasattr(file, "read") or isinstance(file, TextIOBase):
            raise AudioError(
                f"The speech is a {type(source).__name__}. "
                "Give a path, bytes, a binary file, or (samples, rate)."
            )
    track = read_soundtrack(
        file, what, sample_rate, max_duration_s=max_duration_s, silent_below=SILENT_BELOW, stereo=stereo
    )
    if not track.finite:
        raise AudioError(_NOT_NUMBERS.format(what))
    _warn_of_damage(track, what)
    late_s = min(max(track.start_s - track.origin_s, 0), max_duration_s)
    ahead = round(late_s * sample_rate) if late_s > GAP_FROM_S else 0
    apart = None if track.stereo is None else _shifted(track.stereo, ahead)
    return (_shifted(track.samples, ahead), apart), track.duration_s, what


def _channels_apart(source: tuple[npt.ArrayLike, int], sample_rate: int) -> F32 | None:
    """Return given samples (N, C) as left and right (N, 2) at ``sample_rate`` Hz; None if they are mono."""
    samples, rate = np.asarray(source[0], np.float32), int(source[1])
    if samples.ndim != 2 or samples.shape[1] < 2:
        return None
    names = ("FL", "FR") if samples.shape[1] == 2 else ("NONE",) * samples.shape[1]
    return resample(within_range(StereoMixer(names).mix(samples)), rate, sample_rate)


def _warn_of_damage(track: Soundtrack, what: str) -> None:
    if track.damage:
        said = f"{what} is damaged ({track.damage}): {track.lost_s:.2f} s of it are silent"
        warnings.warn(said, VortexWarning, stacklevel=4)


def _from_samples(source: tuple[npt.ArrayLike, int]) -> tuple[F32, int]:
    """Return (samples, rate in Hz) as mono float32."""
    accepted = "give (samples, rate): floats (N,) or (N, channels) in [-1, 1], and a positive rate in Hz"
    try:
        given, rate = source
        samples, rate = np.asarray(given, np.float32), int(rate)
    except (TypeError, ValueError) as exc:
        raise AudioError(
            f"The speech is a tuple that is not samples and a rate ({exc}); {accepted}."
        ) from exc
    if samples.ndim not in (1, 2) or rate <= 0:
        raise AudioError(f"The speech has samples of shape {samples.shape} at {rate} Hz; {accepted}.")
    if samples.ndim == 2 and not samples.shape[1]:
        raise AudioError(f"The speech has no channels; {accepted}.")
    if samples.ndim == 1 or not np.isfinite(samples).all():
        return samples.reshape(-1), rate
    names = ("FL", "FR") if samples.shape[1] == 2 else ("NONE",) * samples.shape[1]
    return Downmixer(names, rate).mix(samples), rate


def check_wav_path(path: Path) -> None:
    """Raise InputError if ``path`` does not end in .wav, or the file cannot be written."""
    check_output_path(path, (".wav",), "Output")


def write_wav(path: Path, audio: Audio) -> None:
    """Write a sound as a 16-bit mono WAV file, whole or not at all; errors as of :func:`check_wav_path`."""
    check_wav_path(path)
    pcm = np.round(np.clip(audio.samples, -1, 1) * 32767).astype("<i2").tobytes()
    with whole_file(path) as part, wave.open(str(part), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(audio.sample_rate)
        file.writeframes(pcm)


def mono_chunk(samples: npt.ArrayLike) -> F32:
    """Return one chunk of streamed sound as (N,) float32; AudioError if not (N,), or not finite."""
    chunk = np.asarray(samples, np.float32)
    if chunk.ndim != 1 or not np.isfinite(chunk).all():
        raise AudioError(
            f"A chunk of shape {chunk.shape} is not mono sound; give finite samples of shape (N,)."
        )
    return chunk


def resample(samples: F32, from_hz: int, to_hz: int) -> F32:
    """Return (N,) or (N, channels) float32 at another rate."""
    import soxr

    resampled = samples if from_hz == to_hz else soxr.resample(samples, from_hz, to_hz)
    return np.asarray(resampled, np.float32)


def within_range(samples: F32) -> F32:
    """Return float32 clipped to [-1, 1]; no copy if nothing is clipped, as an hour takes 700 MB."""
    inside = samples.min(initial=0) >= -1 and samples.max(initial=0) <= 1
    return samples if inside else np.clip(samples, -1, 1)


def fit_channels(samples: F32 | None, audio: Audio) -> F32 | None:
    """Return samples (N, 2) cut or padded with silence to the length of ``audio``; None if there are none."""
    if samples is None:
        return None
    missing = len(audio.samples) - len(samples)
    return np.pad(samples, ((0, missing), (0, 0))) if missing > 0 else samples[: len(audio.samples)]


def fit_duration(audio: Audio, frames: int, fps: Fraction) -> Audio:
    """Return the sound cut or padded with silence to the exact length of ``frames``; warn if it is cut."""
    wanted = round(Fraction(frames) / fps * audio.sample_rate)
    missing = wanted - len(audio.samples)
    # A cut of less than a frame needs no warning.
    if -missing > audio.sample_rate / fps:
        warnings.warn(
            f"the sound lasts {float(audio.duration_s):.2f} s and is cut to {frames / float(fps):.2f} s",
            VortexWarning,
            stacklevel=2,
        )
    if missing > 0:
        return Audio(np.pad(audio.samples, (0, missing)), audio.sample_rate)
    return Audio(audio.samples[:wanted], audio.sample_rate) if missing else audio


def frame_spans(frames: int, fps: Fraction, sample_rate: int, first: int = 0) -> I64:
    """Return (T + 1,) exact sample indices: frame ``first`` + i has the samples [spans[i], spans[i + 1])."""
    step = sample_rate / fps
    edges = np.arange(first, first + frames + 1, dtype=np.int64) * step.numerator
    return (edges + step.denominator // 2) // step.denominator


def loudness_db(samples: F32, spans: I64) -> F32:
    """Return (T,) mean power of each span in dB below full scale, at least -100."""
    edges = np.minimum(spans, len(samples))
    power = np.zeros(len(spans) - 1)
    # In blocks, because a running sum over an hour of samples would take more memory than the samples.
    for first in range(0, len(power), 1000):
        block = edges[first : first + 1001]
        squares = samples[block[0] : block[-1]].astype(np.float64) ** 2
        power[first : first + len(block) - 1] = np.diff(np.r_[0.0, np.cumsum(squares)][block - block[0]])
    power /= np.maximum(np.diff(spans), 1)
    return (10 * np.log10(np.maximum(power, 1e-10))).astype(np.float32)
