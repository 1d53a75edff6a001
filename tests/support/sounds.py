"""Writes sounds in any format, layout and rate, and at any time, with FFmpeg's encoders."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np


def encode_sound(
    samples: np.ndarray,
    rate_hz: int,
    *,
    container: str = "wav",
    codec: str = "pcm_f32le",
    layout: str | None = None,
    starts_s: Iterable[tuple[int, float]] = ((0, 0.0),),
    options: dict[str, str] | None = None,
) -> bytes:
    """Return (N, C) floats as a file; ``starts_s``: from which sample on which time is counted."""
    count = samples.shape[1]
    layout = layout or {1: "mono", 2: "stereo"}.get(count, f"{count} channels")
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as out:
        track = out.add_stream(codec, rate=rate_hz, layout=layout, options=options or {})
        track.time_base = Fraction(1, rate_hz)
        for first, frame in frames_of(
            samples, rate_hz, track.layout.name, track.format.name, track.frame_size
        ):
            begin, start_s = max(entry for entry in starts_s if entry[0] <= first)
            frame.pts = round(start_s * rate_hz) + first - begin
            out.mux(track.encode(frame))
        out.mux(track.encode(None))
    return stream.getvalue()


def frames_of(
    samples: np.ndarray, rate_hz: int, layout: str, sample_format: str, size: int
) -> Iterable[tuple[int, av.AudioFrame]]:
    """Yield the first sample and the frame, in an encoder's format, of each piece of (N, C) floats."""
    converter = av.AudioResampler(format=sample_format)
    for first in range(0, len(samples), size or 1024):
        piece = np.ascontiguousarray(samples[first : first + (size or 1024)], np.float32)
        frame = av.AudioFrame.from_ndarray(piece.reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = rate_hz, Fraction(1, rate_hz), first
        for made in converter.resample(frame):
            made.time_base = Fraction(1, rate_hz)
            yield first, made


def write_tracks(
    sounds: list[np.ndarray],
    *,
    rate_hz: int = 48_000,
    starts_s: list[float] | None = None,
    default: int = 0,
    picture: bool = False,
) -> bytes:
    """Return a Matroska file with (N, 1) sounds, one of them played by default, and a picture from 0 s on."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="matroska", options={"default_mode": "passthrough"}) as out:
        tracks = [out.add_stream("pcm_s16le", rate=rate_hz, layout="mono") for _ in sounds]
        for index, track in enumerate(tracks):
            track.disposition = av.stream.Disposition.default if index == default else 0
        if picture:
            video = out.add_stream("mpeg4", rate=25)
            video.width = video.height = 16
            video.pix_fmt = "yuv420p"
            for index in range(25):
                shown = av.VideoFrame.from_ndarray(np.zeros((24, 16), np.uint8), format="yuv420p")
                shown.pts, shown.time_base = index, Fraction(1, 25)
                out.mux(video.encode(shown))
            out.mux(video.encode(None))
        for index, (track, sound) in enumerate(zip(tracks, sounds, strict=True)):
            start_s = starts_s[index] if starts_s else 0.0
            for _, frame in frames_of(sound, rate_hz, "mono", "s16", 1024):
                frame.pts += round(start_s * rate_hz)
                out.mux(track.encode(frame))
            out.mux(track.encode(None))
    return stream.getvalue()
