"""Reads video files: their rate, and upright frames with their times."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vortex.errors import InputError, VortexWarning
from vortex.media.formats import (
    HEAD_BYTES,
    PICTURE_CODECS,
    PICTURES,
    VIDEOS,
    format_of,
    is_heic,
    open_media,
)
from vortex.media.picture import MAX_SIDE_PX
from vortex.runtime.files import check_input_file
from vortex.types import F64, I64, Frame

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream
    from av.container import InputContainer

HDR_CURVES = (16, 18)
"""Transfer curves PQ and HLG (ITU-T H.273, table 3)."""
FIELD_ORDERS = (2, 3, 4, 5)
"""FFmpeg's numbers of the orders of two fields; others are progressive, or not known."""
STEADY_WITHIN = 0.45
"""The rate is steady if no frame is further than this from its place, in frames."""
BACKWARD_FRAMES = 24
"""Frames that are kept to be shown backwards."""
FALLBACK_FPS = Fraction(25)
"""Rate of a video that says none and has a single frame."""
UNSPECIFIED_COLOURS, BT709_COLOURS, HD_ROWS = 2, 1, 720
"""FFmpeg's numbers of matrices (ITU-T H.273, table 4). From 720 rows on, a file that names none has
BT.709's, as players have it."""
_NOT_MOVING = "Video '{}' has no moving picture. Give a video file, such as an MP4."


@dataclass(frozen=True, slots=True)
class VideoFile:
    """What a video file says of itself.

    ``fps`` and ``frames`` are None if unknown, sides are as stored, ``hdr``: for bright screens,
    ``interlaced``: each frame holds two times, in its odd and its even rows.
    """

    path: Path
    fps: Fraction | None
    frames: int | None
    size_px: tuple[int, int]
    has_sound: bool
    hdr: bool = False
    interlaced: bool = False


def is_video(path: Path) -> bool:
    """Return whether a file begins like a video, and not like a picture, as some of both begin alike."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return bool(format_of(head, VIDEOS)) and not (format_of(head, PICTURES) or is_heic(head))


def probe_video(path: Path) -> VideoFile:
    """Return what a video file says of itself.

    Raises:
        InputError: there is no file, or no moving picture in it.
    """
    with _open_video(path) as (container, stream):
        rate = stream.average_rate
        length_s = stream.duration and stream.time_base and stream.duration * stream.time_base
        if not length_s and container.duration:
            length_s = Fraction(container.duration, 1_000_000)
        frames = stream.frames or (round(length_s * rate) if length_s and rate else None)
        size_px = (stream.width, stream.height)
        hdr = stream.codec_context.color_trc in HDR_CURVES
        interlaced = stream.codec_context.field_order in FIELD_ORDERS
        fps = Fraction(rate) if rate else None
        return VideoFile(path, fps, frames, size_px, bool(container.streams.audio), hdr, interlaced)


def video_fps(path: Path) -> Fraction:
    """Return the exact frame rate of a video file; InputError if there is no file, or no video in it."""
    fps = probe_video(path).fps
    if fps is None:
        raise InputError(f"Video '{path}' has no frame rate. Convert it to MP4.")
    return fps


def iter_video_frames(path: Path) -> Iterator[Frame]:
    """Yield each frame of a video as (H, W, 3) uint8 RGB, as :func:`iter_timed_frames` does."""
    return (frame for _, frame in iter_timed_frames(path))


def iter_timed_frames(
    path: Path, *, max_side_px: int = MAX_SIDE_PX, start_s: float | None = None
) -> Iterator[tuple[float, Frame]]:
    """Yield the time of each frame in seconds, on the clock of the file, and its pixels (H, W, 3) uint8 RGB.

    Frames are turned upright as the file says, get square pixels, and are reduced to a longest side of
    ``max_side_px``. Times rise; a frame whose time is missing or not later follows its predecessor at the
    average rate. Of a damaged file, all frames before the damage are yielded, with a warning. With
    ``start_s``, decoding begins at a frame before that time from which the file can be decoded.

    Raises:
        InputError: there is no file, no moving picture in it, or its first frame cannot be decoded.
    """
    import av

    with _open_video(path) as (container, stream):
        stream.thread_type = "AUTO"
        step_s = float(1 / (stream.average_rate or FALLBACK_FPS))
        last_s: float | None = None
        try:
            if start_s is not None and stream.time_base:
                container.seek(int(start_s / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                time_s = frame.time
                if last_s is not None and (time_s is None or time_s <= last_s):
                    time_s = last_s + step_s
                last_s = time_s or 0.0
                yield last_s, _upright(frame, stream, max_side_px)
        except av.error.FFmpegError as exc:
            if last_s is None:
                raise InputError(
                    f"Video '{path}' cannot be decoded ({exc.strerror}). Export it again."
                ) from exc
            said = f"Video '{path}' is damaged after {last_s:.2f} s: {exc.strerror}"
            warnings.warn(said, VortexWarning, stacklevel=2)
        if last_s is None:
            raise InputError(f"Video '{path}' holds no frames. Give an undamaged video.")


def is_steady(times_s: Sequence[float] | F64, rate: Fraction) -> bool:
    """Return whether frames shown at ``times_s`` (T,) are in the places of a steady rate."""
    shown_s = np.asarray(times_s, np.float64) - times_s[0]
    return bool(np.abs(shown_s * float(rate) - np.arange(len(shown_s))).max() <= STEADY_WITHIN)


def iter_frames_in_order(
    path: Path, times_s: F64, order: I64, *, max_side_px: int = MAX_SIDE_PX
) -> Iterator[Frame]:
    """Yield frames of a video by their numbers ``order`` (N,), as :func:`iter_timed_frames` gives them.

    ``times_s`` (T,) are the times of all frames on the clock of the file. What runs forwards is decoded
    once; what runs backwards, in stretches of BACKWARD_FRAMES, of which one is in memory at a time.
    """
    begin = 0
    while begin < len(order):
        end = begin + 1
        forwards = end == len(order) or order[end] >= order[begin]
        while end < len(order) and (order[end] >= order[end - 1]) == forwards:
            if not forwards and end - begin == BACKWARD_FRAMES:
                break
            end += 1
        if forwards:
            yield from _forwards(path, times_s, order[begin:end], max_side_px)
        else:
            yield from list(_forwards(path, times_s, order[begin:end][::-1], max_side_px))[::-1]
        begin = end


def _forwards(path: Path, times_s: F64, numbers: I64, max_side_px: int) -> Iterator[Frame]:
    """Yield the frames ``numbers`` (N,), which do not fall; decoding begins at a frame before the first."""
    first = int(numbers[0])
    number, frames = 0, iter_timed_frames(path, max_side_px=max_side_px)
    if first:
        sought = iter_timed_frames(path, max_side_px=max_side_px, start_s=float(times_s[first]))
        time_s, frame = next(sought)
        found = int(np.abs(times_s - time_s).argmin())
        # A file without an index may be entered behind the place; then all of it is decoded.
        if found <= first:
            number, frames = found, chain([(time_s, frame)], sought)
    row = 0
    for _, frame in frames:
        while row < len(numbers) and numbers[row] == number:
            row += 1
            yield frame if row == len(numbers) or numbers[row] != number else frame.copy()
        if row == len(numbers):
            return
        number += 1


def steady_rate(times_s: Sequence[float] | F64, average: Fraction | None) -> Fraction:
    """Return the exact rate of frames shown at ``times_s`` (T,): ``average``, if all are in their places.

    Else the rate varies, and the nearest whole number of frames per second is returned.
    """
    if average and is_steady(times_s, average):
        return average
    shown_s = np.asarray(times_s, np.float64) - times_s[0]
    if len(shown_s) < 2:
        return FALLBACK_FPS
    return Fraction(max(round((len(shown_s) - 1) / shown_s[-1]), 1))


@contextmanager
def _open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Yield an open file and its moving picture."""
    import av

    check_input_file(path, f"Video '{path}'", "a video file, such as an MP4")
    try:
        container = open_media(path)
    except av.error.FFmpegError as exc:
        if exc.errno == errno.EINVAL:  # another format than open_media reads, such as that of a photo
            raise InputError(_NOT_MOVING.format(path)) from exc
        raise InputError(f"Video '{path}' cannot be read ({exc.strerror}). Give an undamaged video.") from exc
    with container:
        cover = av.stream.Disposition.attached_pic
        moving = [s for s in container.streams.video if not s.disposition & cover]
        if not moving:
            raise InputError(_NOT_MOVING.format(path))
        codec = moving[0].codec_context
        if codec is None or codec.name not in PICTURE_CODECS:
            raise InputError(f"Video '{path}' is in an unknown format. Convert it to MP4 with H.264.")
        yield container, moving[0]


def _upright(frame: VideoFrame, stream: VideoStream, max_side_px: int) -> Frame:
    """Return a frame as (H, W, 3) uint8 RGB with square pixels, turned upright, and not too large."""
    if frame.colorspace == UNSPECIFIED_COLOURS and min(frame.width, frame.height) >= HD_ROWS:
        frame.colorspace = BT709_COLOURS
    aspect = float(stream.sample_aspect_ratio or 1)
    scale = min(max_side_px / max(frame.width * aspect, frame.height), 1.0)
    if scale == 1 and aspect == 1:
        pixels = frame.to_ndarray(format="rgb24")
    else:
        width, height = max(round(scale * aspect * frame.width), 1), max(round(scale * frame.height), 1)
        pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
    # The rotation is counterclockwise, in degrees; np.rot90 turns counterclockwise, too.
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4), dtype=np.uint8)
