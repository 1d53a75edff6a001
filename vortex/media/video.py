"""Video files: writes frames as BT.709 and sound at an exact frame rate."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from vortex.errors import EncodeError
from vortex.media.archive import PictureArchive
from vortex.media.containers import (
    DEFAULT_COMPRESSION,
    ENCODER_OPTIONS,
    PIPE,
    Compression,
    Container,
    check_rate,
    check_video_path,
    container_of,
    encoder_options,
)
from vortex.media.pixels import FrameConverter, declare_colour, make_converter
from vortex.runtime.files import whole_file
from vortex.types import F32, Audio, Frame, ProgressCallback, frame_count

if TYPE_CHECKING:
    from av import AudioStream, Packet, VideoStream
    from av.container import OutputContainer

PREFETCHED_FRAMES = 12
"""Frames that may wait between renderer and encoder; this bounds the memory they take."""


class _Writer(Protocol):
    """Writes the pictures of a video one after the other, each with the sound that is heard with it."""

    def add(self, picture: Frame) -> None:
        """Write the next picture."""

    def finish(self) -> None:
        """Write what is left of the sound, and end the file."""


def encode_video(
    path: Path,
    frames: Iterator[Frame],
    audio: Audio,
    fps: Fraction,
    size_px: tuple[int, int],
    *,
    comment: str = "",
    encoder: str | None = None,
    transparent: bool = False,
    compression: Compression = DEFAULT_COMPRESSION,
    stereo: F32 | None = None,
    part: Path | None = None,
    on_progress: ProgressCallback | None = None,
) -> int:
    """Write frames (H, W, 3) uint8 RGB and sound in the format of the suffix; return the number of frames.

    Frames with a matte are (H, W, 4). The iterator runs in a thread of its own, so that rendering and
    encoding overlap. The file appears when it is whole, and nothing is left on failure; ``-`` is standard
    output.

    There are as many frames as ``audio`` is long, at a sample rate that the container's encoder accepts, and
    ``size_px`` is (width, height), both even. ``comment`` is the file's comment tag. ``encoder`` is as from
    :func:`~vortex.media.containers.choose_video_encoder`; default, that for CPUs. With ``transparent``,
    frames have a matte. ``stereo`` (N, 2) float32, as long as ``audio``, is written instead of it. With
    ``part``, this writes there, and the caller gives the file its name. ``on_progress`` gets ("render",
    frames done, frames).

    Raises InputError as :func:`~vortex.media.containers.check_video_path`, and for a rate that the format
    cannot show; EncodeError if the disk is full or the encoder fails; and what the iterator and
    ``on_progress`` raise.
    """
    import av

    check_video_path(path)
    check_rate(path, fps)
    kind = container_of(path)
    sound = _Sound(audio.samples[:, None] if stereo is None else stereo, audio.sample_rate)
    pixel_format = (kind.matted_format if transparent else None) or kind.pixel_format
    total, count = frame_count(audio.duration_s, fps), 0
    renderer = ThreadPoolExecutor(1, thread_name_prefix="vortex-render")
    try:
        with ExitStack() as stack:
            target = stack.enter_context(_target(path, part))
            writer: _Writer
            if not kind.muxer:
                writer = PictureArchive(Path(target), sound.samples, sound.rate_hz, comment)
                stack.enter_context(writer)
            else:
                options = dict(kind.muxer_options)
                container = av.open(str(target), "w", format=kind.muxer, options=options)
                stack.enter_context(container).metadata["comment"] = comment
                chosen = encoder or kind.video_encoders["cpu"]
                video = _add_video(container, chosen, fps, size_px, compression, kind.ticks_hz)
                declare_colour(video.codec_context, pixel_format)
                writer = _MuxedVideo(
                    container, kind, video, make_converter(pixel_format, size_px), sound, fps
                )
            for count, picture in enumerate(_drawn_ahead(frames, renderer), start=1):
                writer.add(picture)
                if on_progress:
                    on_progress("render", count, total)
            writer.finish()
    except (OSError, av.error.FFmpegError) as exc:
        where = "Standard output" if path == PIPE else f"'{path}'"
        reason = f"{where} cannot be written: {exc.strerror or exc}. Write elsewhere."
        if exc.errno == errno.ENOSPC:
            reason = f"No space left on the disk of '{path}'. Free some, or write elsewhere."
        raise EncodeError(reason) from exc
    finally:
        renderer.shutdown(cancel_futures=True)
    return count


def _target(path: Path, part: Path | None) -> AbstractContextManager[Path | str]:
    """Return the file to write to, which gets its name at the end, or FFmpeg's name of standard output."""
    if part is not None:
        return nullcontext(part)
    return nullcontext("pipe:1") if path == PIPE else whole_file(path)


@dataclass(frozen=True, slots=True, eq=False)
class _Sound:
    """The sound of a file: ``samples`` (N, channels) float32 at ``rate_hz``."""

    samples: F32
    rate_hz: int


class _MuxedVideo:
    """A file of FFmpeg; sound and frames of the same time are near each other in it."""

    def __init__(
        self,
        container: OutputContainer,
        kind: Container,
        video: VideoStream,
        converter: FrameConverter,
        sound: _Sound,
        fps: Fraction,
    ) -> None:
        self._container, self._video, self._converter, self._fps = container, video, converter, fps
        self._given, self._ticks_hz = sound, kind.ticks_hz
        self._count = self._sounded = 0
        self._sound = None if kind.audio_encoder is None else _add_sound(container, kind.audio_encoder, sound)

    def add(self, picture: Frame) -> None:
        frame = self._converter.convert(picture)
        frame.pts, frame.time_base = self._count, 1 / self._fps
        if self._ticks_hz is not None:
            # Rounded from the exact time, so that errors do not add up.
            frame.pts = round(self._count / self._fps * self._ticks_hz)
            frame.time_base = Fraction(1, self._ticks_hz)
        self._container.mux(self._video.encode(frame))
        self._count += 1
        self._add_sound_until(round(self._count / self._fps * self._given.rate_hz))

    def _add_sound_until(self, end: int) -> None:
        if self._sound is not None:
            self._container.mux(_encode_sound(self._sound, self._given, self._sounded, end))
        self._sounded = end

    def finish(self) -> None:
        self._container.mux(self._video.encode(None))
        self._add_sound_until(len(self._given.samples))
        if self._sound is not None:
            self._container.mux(self._sound.encode(None))


def _drawn_ahead(frames: Iterator[Frame], thread: Executor) -> Iterator[Frame]:
    """Yield the frames; ``thread`` draws at most PREFETCHED_FRAMES of them ahead."""
    drawn = deque(thread.submit(next, frames, None) for _ in range(PREFETCHED_FRAMES))
    while (frame := drawn.popleft().result()) is not None:
        drawn.append(thread.submit(next, frames, None))
        yield frame


def _add_video(
    container: OutputContainer,
    encoder: str,
    fps: Fraction,
    size_px: tuple[int, int],
    compression: Compression,
    ticks_hz: int | None,
) -> VideoStream:
    options = encoder_options(encoder, compression)
    stream = cast("VideoStream", container.add_stream(encoder, rate=fps, options=options))
    stream.width, stream.height = size_px
    time_base = 1 / fps if ticks_hz is None else Fraction(1, ticks_hz)
    stream.time_base = time_base
    context = stream.codec_context
    # PyAV's default splits each frame into one slice per core, so files would differ between machines.
    context.thread_type = "FRAME"
    # One core is left to the renderer. With more than eight threads x264 makes other frames.
    context.thread_count = min(max((os.cpu_count() or 1) - 1, 1), 8)
    context.time_base = time_base
    return stream


def _add_sound(container: OutputContainer, encoder: str, sound: _Sound) -> AudioStream:
    options = dict(ENCODER_OPTIONS.get(encoder, {}))
    stream = container.add_stream(encoder, rate=sound.rate_hz, layout=_layout(sound), options=options)
    return cast("AudioStream", stream)


def _layout(sound: _Sound) -> str:
    return "mono" if sound.samples.shape[1] == 1 else "stereo"


def _encode_sound(stream: AudioStream, sound: _Sound, begin: int, end: int) -> list[Packet[AudioStream]]:
    """Encode the samples [begin, end), as far as there are any."""
    import av

    chunk = sound.samples[begin:end]
    if not len(chunk):
        return []
    planes = np.ascontiguousarray(chunk.T)
    frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=_layout(sound))
    frame.sample_rate = sound.rate_hz
    frame.pts, frame.time_base = begin, Fraction(1, sound.rate_hz)
    return stream.encode(frame)
