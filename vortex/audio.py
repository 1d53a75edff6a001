"""Sound files: decode, downmix, resample, fit to the picture, and measure loudness frame by frame."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vortex.errors import AudioError
from vortex.types import DRIVING_SAMPLE_RATE_HZ, Audio

F32 = npt.NDArray[np.float32]

MIN_DURATION_S = 0.1
SILENCE_DBFS = -66.0
"""A file whose loudest sample is below this has no speech in it."""


def load_audio(
    path: str | Path, sample_rate: int = DRIVING_SAMPLE_RATE_HZ, *, max_duration_s: float = math.inf
) -> Audio:
    """Read the sound of an audio or video file as mono float32 at ``sample_rate`` Hz.

    Reads what FFmpeg reads: WAV, FLAC, MP3, M4A, OGG, the sound track of a video; any rate, depth and
    number of channels (averaged). Of a truncated file, all that decodes is used, with a warning. Decoding
    ends as soon as the sound proves longer than ``max_duration_s``: a small file may hold days of silence.

    Raises:
        AudioError: no such file, no sound in it, shorter than 0.1 s, longer than allowed, silent, or samples
            that are not numbers.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise AudioError(f"Speech '{path}' {what}. Give a sound file, such as WAV, FLAC or MP3.")
    samples, rate = _decode(path, max_duration_s)
    if not np.isfinite(samples).all():
        raise AudioError(f"Speech '{path}' has samples that are not numbers. Export it again, as 16-bit WAV.")
    if len(samples) < MIN_DURATION_S * rate:
        raise AudioError(
            f"Speech '{path}' lasts {len(samples) / rate:.3f} s; at least {MIN_DURATION_S} s are needed. "
            "Give a longer recording."
        )
    peak = float(max(samples.max(), -samples.min()))
    if peak < 10 ** (SILENCE_DBFS / 20):
        raise AudioError(f"Speech '{path}' is silent. Give a recording with speech in it.")
    return Audio(within_range(resample(samples, rate, sample_rate)), sample_rate)


def _decode(path: Path, max_duration_s: float) -> tuple[F32, int]:
    """Return mono samples (N,) and their rate."""
    import av

    chunks: list[F32] = []
    damage, decoded_s = "", 0.0
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.audio:
                raise AudioError(
                    f"Speech '{path}' has no sound in it. Give a sound file, or a video with sound."
                )
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise AudioError(f"Speech '{path}' is in an unknown format. Give WAV, FLAC, MP3, M4A or OGG.")
            rate = int(stream.rate or 0)
            # packed floats leave NaN as NaN, planar integers are scaled
            resampler = av.AudioResampler(format="fltp")
            try:
                for frame in container.decode(stream):
                    chunks += [_mono(part) for part in resampler.resample(frame)]
                    rate = frame.sample_rate
                    decoded_s += frame.samples / rate
                    if decoded_s > max_duration_s:
                        raise AudioError(
                            f"Speech '{path}' lasts more than {max_duration_s:g} s, the most that is allowed "
                            "here. Give a shorter recording."
                        )
            except av.error.FFmpegError as exc:
                damage = str(exc)
            chunks += [_mono(part) for part in resampler.resample(None)]
    except av.error.FFmpegError as exc:
        raise AudioError(f"Speech '{path}' is not a sound file. Give WAV, FLAC, MP3, M4A or OGG.") from exc
    if not chunks or not rate:
        reason = f" ({damage})" if damage else ""
        raise AudioError(f"Speech '{path}' holds no samples{reason}. Give an undamaged recording.")
    if damage:
        warnings.warn(
            f"'{path}' is damaged after {sum(map(len, chunks)) / rate:.2f} s: {damage}", stacklevel=3
        )
    return np.concatenate(chunks), rate


def _mono(frame: object) -> F32:
    samples = np.asarray(frame.to_ndarray(), np.float32)  # type: ignore[attr-defined]
    return np.asarray(samples.mean(axis=0), np.float32)


def mono_chunk(samples: npt.ArrayLike) -> F32:
    """Return a part of a sound that comes in parts, (N,) float32.

    Raises:
        AudioError: not (N,), or samples that are not finite.
    """
    chunk = np.asarray(samples, np.float32)
    if chunk.ndim != 1 or not np.isfinite(chunk).all():
        raise AudioError(f"A chunk of shape {chunk.shape} is no (N,) of finite samples; give mono sound.")
    return chunk


def resample(samples: F32, from_hz: int, to_hz: int) -> F32:
    """Return (N,) float32 at another rate."""
    import soxr

    if from_hz == to_hz:
        return np.asarray(samples, np.float32)
    return np.asarray(soxr.resample(samples, from_hz, to_hz), np.float32)


def within_range(samples: F32) -> F32:
    """Return (N,) float32 cut off at -1 and 1: the same array if nothing is beyond, as an hour is 700 MB."""
    inside = samples.min(initial=0) >= -1 and samples.max(initial=0) <= 1
    return samples if inside else np.clip(samples, -1, 1)


def fit_duration(audio: Audio, frames: int, fps: Fraction) -> Audio:
    """Return the sound cut, with a warning, or padded with silence to the exact length of ``frames``."""
    wanted = round(Fraction(frames) / fps * audio.sample_rate)
    have = len(audio.samples)
    if have > wanted:
        # the rounding of a duration to whole frames is no news
        if have - wanted > audio.sample_rate / fps:
            warnings.warn(
                f"the speech lasts {float(audio.duration_s):.2f} s and is cut to {frames / float(fps):.2f} s",
                stacklevel=2,
            )
        return Audio(audio.samples[:wanted], audio.sample_rate)
    if have == wanted:
        return audio
    return Audio(np.pad(audio.samples, (0, wanted - have)), audio.sample_rate)


def frame_spans(frames: int, fps: Fraction, sample_rate: int, first: int = 0) -> npt.NDArray[np.int64]:
    """Return (T + 1,) sample indices: frame ``first`` + i has samples [spans[i], spans[i + 1]).

    They are exact at any rate.
    """
    step = Fraction(sample_rate) / fps
    edges = np.arange(first, first + frames + 1, dtype=np.int64) * step.numerator
    return (edges + step.denominator // 2) // step.denominator


def loudness_db(samples: F32, spans: npt.NDArray[np.int64]) -> F32:
    """Return (T,) mean power of each span in dB below full scale, at least -100."""
    edges = np.minimum(spans, len(samples))
    power = np.zeros(len(spans) - 1)
    # in blocks: a running sum over an hour of samples would take more room than the samples
    for first in range(0, len(power), 1000):
        block = edges[first : first + 1001]
        squares = samples[block[0] : block[-1]].astype(np.float64) ** 2
        power[first : first + len(block) - 1] = np.diff(np.r_[0.0, np.cumsum(squares)][block - block[0]])
    power /= np.maximum(np.diff(spans), 1)
    return (10 * np.log10(np.maximum(power, 1e-10))).astype(np.float32)
