"""Sounds: decode, mix to mono, resample, fit to the video, and measure loudness per frame."""

from __future__ import annotations

import math
import os
import warnings
import wave
from fractions import Fraction
from io import BytesIO, TextIOBase
from pathlib import Path
from typing import IO, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from vortex.errors import AudioError
from vortex.runtime.files import check_output_path, whole_file
from vortex.types import DEFAULT_SAMPLE_RATE_HZ, F32, I64, Audio

MIN_DURATION_S = 0.1
SILENCE_DBFS = -66.0
"""A sound whose loudest sample is below this counts as silent."""

SoundSource: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | tuple[npt.ArrayLike, int] | Audio"
"""A path, file bytes, a binary file, samples (N,) or (N, C) in [-1, 1] with their rate in Hz, or an Audio."""


def load_audio(
    source: SoundSource, sample_rate: int = DEFAULT_SAMPLE_RATE_HZ, *, max_duration_s: float = math.inf
) -> Audio:
    """Return a sound as mono float32 at ``sample_rate`` Hz.

    Reads what FFmpeg reads: WAV, FLAC, MP3, M4A, OGG, the sound of a video; any rate, depth and number of
    channels, which are averaged. Uses whatever decodes of a truncated file, with a warning. Stops decoding
    when the sound is longer than ``max_duration_s``, as a small file may hold days of silence.

    Raises AudioError: no such file, no sound in it, shorter than 0.1 s, longer than allowed, silent, samples
    that are not finite, or a source of another type or shape.
    """
    samples, rate, what = _read(source, max_duration_s)
    if not np.isfinite(samples).all():
        raise AudioError(f"{what} has samples that are not numbers. Export it again, as 16-bit WAV.")
    if len(samples) < MIN_DURATION_S * rate:
        raise AudioError(
            f"{what} lasts {len(samples) / rate:.3f} s; at least {MIN_DURATION_S} s are needed. "
            "Give a longer recording."
        )
    peak = float(max(samples.max(), -samples.min()))
    if peak < 10 ** (SILENCE_DBFS / 20):
        raise AudioError(f"{what} is silent. Give a recording with speech in it.")
    return Audio(within_range(resample(samples, rate, sample_rate)), sample_rate)


class _Decoded(NamedTuple):
    """Mono samples (N,), their rate in Hz, and the time of the first one on the clock of the file."""

    samples: F32
    rate: int
    start_s: float


def load_video_sound(path: Path, sample_rate: int, start_s: float) -> Audio:
    """Return the sound of a video from ``start_s`` on the clock of the file, mono, at ``sample_rate`` Hz.

    It may be silent, and of any length.

    Raises:
        AudioError: there is no sound, or it cannot be decoded.
    """
    samples, rate, first_s = _decode(str(path), f"Video '{path}'", math.inf)
    ahead = round((first_s - start_s) * rate)
    samples = np.pad(samples, (ahead, 0)) if ahead > 0 else samples[-ahead:]
    return Audio(within_range(resample(np.nan_to_num(samples), rate, sample_rate)), sample_rate)


def _read(source: SoundSource, max_duration_s: float) -> tuple[F32, int, str]:
    """Return mono samples (N,), their rate in Hz, and the name of the sound for messages."""
    if isinstance(source, Audio):
        return source.samples, source.sample_rate, "The speech"
    if isinstance(source, tuple):
        return *_from_samples(source), "The speech"
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise AudioError(f"Speech '{path}' {what}. Give a sound file, such as WAV, FLAC or MP3.")
        return *_decode(str(path), f"Speech '{path}'", max_duration_s)[:2], f"Speech '{path}'"
    file = BytesIO(source) if isinstance(source, bytes) else source
    if not hasattr(file, "read") or isinstance(file, TextIOBase):
        raise AudioError(
            f"The speech is a {type(source).__name__}. Give a path, bytes, a binary file, or (samples, rate)."
        )
    return *_decode(file, "The speech", max_duration_s)[:2], "The speech"


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
    return (samples if samples.ndim == 1 else samples.mean(axis=1)), rate


def _decode(file: str | IO[bytes], what: str, max_duration_s: float) -> _Decoded:
    """Return the sound of a file; ``what`` names it in messages."""
    import av

    chunks: list[F32] = []
    damage, decoded, start_s = "", 0, 0.0
    try:
        with av.open(file, "r", metadata_errors="replace") as container:
            if not container.streams.audio:
                raise AudioError(f"{what} has no sound in it. Give a sound file, or a video with sound.")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise AudioError(f"{what} is in an unknown format. Give WAV, FLAC, MP3, M4A or OGG.")
            rate = int(stream.rate or 0)
            # Conversion to float keeps NaN and scales integers to [-1, 1].
            resampler = av.AudioResampler(format="fltp")
            try:
                for frame in container.decode(stream):
                    if not decoded:
                        start_s = frame.time or 0.0
                    chunks += [part.to_ndarray().mean(axis=0) for part in resampler.resample(frame)]
                    rate = frame.sample_rate
                    decoded += frame.samples
                    if decoded > max_duration_s * rate:
                        raise AudioError(
                            f"{what} lasts more than {max_duration_s:g} s, the most that is allowed here. "
                            "Give a shorter recording."
                        )
            except av.error.FFmpegError as exc:
                damage = str(exc)
            chunks += [part.to_ndarray().mean(axis=0) for part in resampler.resample(None)]
    except av.error.FFmpegError as exc:
        raise AudioError(f"{what} is not a sound file. Give WAV, FLAC, MP3, M4A or OGG.") from exc
    if not chunks or not rate:
        reason = f" ({damage})" if damage else ""
        raise AudioError(f"{what} holds no samples{reason}. Give an undamaged recording.")
    if damage:
        warnings.warn(f"{what} is damaged after {sum(map(len, chunks)) / rate:.2f} s: {damage}", stacklevel=4)
    return _Decoded(np.concatenate(chunks), rate, start_s)


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
    """Return (N,) float32 at another rate."""
    import soxr

    resampled = samples if from_hz == to_hz else soxr.resample(samples, from_hz, to_hz)
    return np.asarray(resampled, np.float32)


def within_range(samples: F32) -> F32:
    """Return (N,) float32 clipped to [-1, 1]; no copy if nothing is clipped, as an hour takes 700 MB."""
    inside = samples.min(initial=0) >= -1 and samples.max(initial=0) <= 1
    return samples if inside else np.clip(samples, -1, 1)


def fit_duration(audio: Audio, frames: int, fps: Fraction) -> Audio:
    """Return the sound cut or padded with silence to the exact length of ``frames``; warn if it is cut."""
    wanted = round(Fraction(frames) / fps * audio.sample_rate)
    missing = wanted - len(audio.samples)
    # Rounding to whole frames cuts less than one frame, which needs no warning.
    if -missing > audio.sample_rate / fps:
        warnings.warn(
            f"the sound lasts {float(audio.duration_s):.2f} s and is cut to {frames / float(fps):.2f} s",
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
