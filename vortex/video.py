"""Finished videos, read back frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from vortex.errors import InputError
from vortex.types import Frame


def video_fps(path: Path) -> Fraction:
    """Return the frame rate of a video file.

    Raises:
        InputError: no such file, or no video in it.
    """
    import av

    if not path.is_file():
        raise InputError(f"Video '{path}' does not exist. Give a video file, such as an MP4.")
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            rate = container.streams.video[0].average_rate if container.streams.video else None
    except av.error.FFmpegError as exc:
        raise InputError(f"Video '{path}' cannot be read ({exc.strerror}). Give an undamaged video.") from exc
    if not rate:
        raise InputError(f"Video '{path}' has no moving picture. Give a video file, such as an MP4.")
    return Fraction(rate)


def iter_video_frames(path: Path) -> Iterator[Frame]:
    """Yield each frame of a video as (H, W, 3) uint8 RGB."""
    import av

    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
