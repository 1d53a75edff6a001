"""Video files: writes frames as BT.709 and sound at an exact frame rate."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from vortex.errors import EncodeError
from vortex.media.containers import ENCODER_OPTIONS, PIXEL_FORMAT, check_video_path, container_of
from vortex.runtime.files import whole_file
from vortex.types import LUMA_WEIGHTS, Audio, Frame, ProgressCallback, frame_count

if TYPE_CHECKING:
    from av import AudioStream, Packet, VideoCodecContext, VideoFrame, VideoStream
    from av.container import OutputContainer

PREFETCHED_FRAMES = 12
"""Frames that may wait between renderer and encoder; this bounds the memory they take."""
YCBCR_FROM_RGB = np.array(
    [
        [*(219 / 255 * LUMA_WEIGHTS), 16],
        [*(224 / 255 / 1.8556 * ([0, 0, 1] - LUMA_WEIGHTS)), 128],
        [*(224 / 255 / 1.5748 * ([1, 0, 0] - LUMA_WEIGHTS)), 128],
    ]
)
"""Y, Cb, Cr of 8 bits, limited range, from R, G, B and 1 (ITU-R BT.709-6, items 3.2, 3.3 and 3.4)."""


def encode_video(
    path: Path,
    frames: Iterator[Frame],
    audio: Audio,
    fps: Fraction,
    size_px: tuple[int, int],
    *,
    comment: str = "",
    encoder: str | None = None,
    part: Path | None = None,
    on_progress: ProgressCallback | None = None,
) -> int:
    """Write frames (H, W, 3) uint8 RGB and sound in the format of the suffix; return the number of frames.

    The iterator runs in a thread of its own, so that rendering and encoding overlap. The file appears when it
    is whole, and nothing is left on failure.

    There are as many frames as ``audio`` is long, at a sample rate that the container's encoder accepts, and
    ``size_px`` is (width, height), both even. ``comment`` is the file's comment tag. ``encoder`` is as from
    :func:`~vortex.media.containers.choose_video_encoder`; default, that for CPUs. With ``part``, this writes
    there, and the caller gives the file its name. ``on_progress`` gets ("render", frames done, frames).

    Raises InputError as :func:`~vortex.media.containers.check_video_path`; EncodeError if the disk is full or
    the encoder fails; and what the iterator and ``on_progress`` raise.
    """
    import av

    check_video_path(path)
    kind = container_of(path)
    total, count, sounded = frame_count(audio.duration_s, fps), 0, 0
    renderer = ThreadPoolExecutor(1, thread_name_prefix="vortex-render")
    try:
        with (
            nullcontext(part) if part else whole_file(path) as target,
            av.open(str(target), "w", format=kind.muxer, options=dict(kind.muxer_options)) as container,
        ):
            container.metadata["comment"] = comment
            video = _add_video(container, encoder or kind.video_encoders["cpu"], fps, size_px)
            sound = _add_sound(container, kind.audio_encoder, audio.sample_rate)
            converter = YcbcrConverter(size_px)
            for count, picture in enumerate(_drawn_ahead(frames, renderer), start=1):
                frame = converter.convert(picture)
                frame.pts, frame.time_base = count - 1, 1 / fps
                container.mux(video.encode(frame))
                # Sound and frames of the same time are near each other in the file.
                before, sounded = sounded, round(count / fps * audio.sample_rate)
                container.mux(_encode_sound(sound, audio, before, sounded))
                if on_progress:
                    on_progress("render", count, total)
            container.mux(video.encode(None))
            container.mux(_encode_sound(sound, audio, sounded, len(audio.samples)))
            container.mux(sound.encode(None))
    except (OSError, av.error.FFmpegError) as exc:
        reason = f"'{path}' cannot be written: {exc.strerror or exc}. Write elsewhere."
        if exc.errno == errno.ENOSPC:
            reason = f"No space left on the disk of '{path}'. Free some, or write elsewhere."
        raise EncodeError(reason) from exc
    finally:
        renderer.shutdown(cancel_futures=True)
    return count


def _drawn_ahead(frames: Iterator[Frame], thread: Executor) -> Iterator[Frame]:
    """Yield the frames; ``thread`` draws at most PREFETCHED_FRAMES of them ahead."""
    drawn = deque(thread.submit(next, frames, None) for _ in range(PREFETCHED_FRAMES))
    while (frame := drawn.popleft().result()) is not None:
        drawn.append(thread.submit(next, frames, None))
        yield frame


def _add_video(
    container: OutputContainer, encoder: str, fps: Fraction, size_px: tuple[int, int]
) -> VideoStream:
    options = dict(ENCODER_OPTIONS.get(encoder, {}))
    stream = cast("VideoStream", container.add_stream(encoder, rate=fps, options=options))
    stream.width, stream.height = size_px
    stream.time_base = 1 / fps
    context = stream.codec_context
    # PyAV's default splits each frame into one slice per core, so files would differ between machines.
    context.thread_type = "FRAME"
    # One core is left to the renderer. With more than eight threads x264 makes other frames.
    context.thread_count = min(max((os.cpu_count() or 1) - 1, 1), 8)
    context.time_base = 1 / fps
    declare_colour(context)
    return stream


def _add_sound(container: OutputContainer, encoder: str, sample_rate: int) -> AudioStream:
    options = dict(ENCODER_OPTIONS.get(encoder, {}))
    stream = container.add_stream(encoder, rate=sample_rate, layout="mono", options=options)
    return cast("AudioStream", stream)


def _encode_sound(stream: AudioStream, audio: Audio, begin: int, end: int) -> list[Packet[AudioStream]]:
    """Encode the samples [begin, end), as far as there are any."""
    import av

    chunk = audio.samples[begin:end]
    if not len(chunk):
        return []
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(chunk)[None], format="fltp", layout="mono")
    frame.sample_rate = audio.sample_rate
    frame.pts, frame.time_base = begin, Fraction(1, audio.sample_rate)
    return stream.encode(frame)


def declare_colour(context: VideoCodecContext) -> None:
    """Write into a video stream how its pixels are coded: as :class:`YcbcrConverter` codes them."""
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

    context.pix_fmt = PIXEL_FORMAT
    context.color_range = ColorRange.MPEG
    context.colorspace = Colorspace.ITU709
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709


class YcbcrConverter:
    """Converts RGB pictures of one size to BT.709 frames, each time only what changed."""

    def __init__(self, size_px: tuple[int, int]) -> None:
        width, height = size_px
        # FFmpeg stores the planes Y, Cb and Cr one after the other.
        self._packed = np.empty((height * 3 // 2, width), np.uint8)
        self._luma = self._packed[:height]
        self._chroma = self._packed[height:].reshape(2, height // 2, width // 2)
        self._before: Frame | None = None

    def convert(self, picture: Frame) -> VideoFrame:
        """Return a picture (H, W, 3) as a frame of :data:`PIXEL_FORMAT`, limited range."""
        import av
        import cv2

        picture = np.ascontiguousarray(picture)
        height, width = picture.shape[:2]
        box = (0, 0, width, height) if self._before is None else changed_box(self._before, picture)
        if box is not None:
            x0, y0, x1, y1 = box
            inside = cv2.transform(picture[y0:y1, x0:x1], YCBCR_FROM_RGB)
            # Cb and Cr are averages over 2x2 pixels.
            half = cv2.resize(inside, ((x1 - x0) // 2, (y1 - y0) // 2), interpolation=cv2.INTER_AREA)
            self._luma[y0:y1, x0:x1] = cv2.extractChannel(inside, 0)
            for plane, channel in zip(self._chroma, (1, 2), strict=True):
                plane[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2] = cv2.extractChannel(half, channel)
        self._before = picture
        # This copies, because the encoder keeps frames; without a copy, PyAV needs a height divisible by 4.
        return av.VideoFrame.from_ndarray(self._packed, format=PIXEL_FORMAT)


def changed_box(before: Frame, picture: Frame) -> tuple[int, int, int, int] | None:
    """Return the smallest box x0, y0, x1, y1 with even corners that holds every difference of two pictures.

    None if they are equal. Pictures are (H, W, 3), and W is even.
    """
    # Two bytes are compared at a time; an even width makes their number even in each row.
    pairs, pairs_before = (pixels.reshape(len(pixels), -1).view(np.uint16) for pixels in (picture, before))
    differ = pairs != pairs_before
    rows = np.flatnonzero(differ.any(axis=1))
    if not len(rows):
        return None
    y0, y1 = int(rows[0]) // 2 * 2, int(rows[-1]) // 2 * 2 + 2
    columns = np.flatnonzero(differ[y0:y1].any(axis=0))
    # Three pairs of bytes are two pixels.
    return int(columns[0]) // 3 * 2, y0, int(columns[-1]) // 3 * 2 + 2, y1
