"""A clip as the source of a video: read and measured once, then rendered with other words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from vortex.errors import InputError, NoFaceError
from vortex.face.choice import LARGEST
from vortex.face.crop import CROP_PX, crop_transform
from vortex.face.landmarks import OUTER_EYE_CORNERS
from vortex.face.tracking import FaceTrack, track_face
from vortex.media.reading import (
    VideoFile,
    is_video,
    iter_frames_in_order,
    iter_timed_frames,
    probe_video,
    steady_rate,
)
from vortex.options import RenderOptions, default_of
from vortex.performance import StageClock
from vortex.revoice.hearing import hear_person
from vortex.revoice.library import MouthCollector, MouthLibrary, build_library
from vortex.revoice.lips import GAP, TALKING_GAP
from vortex.types import F64, I64, Frame, Portrait

MAX_SIDE_PX = 4096
"""Larger frames are reduced, as encoders and players end here."""
LIBRARY_S = 120.0
"""Of a clip that is longer than the sound, this much is searched for mouths."""
MIN_EYES_PX = 28.0
"""Outer-eye width of the smallest face whose mouth can be replaced."""
KEPT_BY_CLIPS = ("size_px", "paste_back", "fps", "aspect", "zoom", "position", "background")
"""Options without effect on a clip."""
ENOUGH_S = 8.0
"""A clip with less of an open mouth is said to be short of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A clip that was read: ``times_s`` (T,) on the clock of the file; ``size_px`` is that of its frames."""

    path: Path
    fps: Fraction
    times_s: F64
    size_px: tuple[int, int]
    library: MouthLibrary
    notes: tuple[str, ...]
    has_sound: bool = False

    def frames(self, order: I64) -> Iterator[Frame]:
        """Yield frames (H, W, 3) by their numbers, in any order; the caller owns them."""
        width, height = self.size_px
        for frame in iter_frames_in_order(self.path, self.times_s, order, max_side_px=MAX_SIDE_PX):
            yield np.ascontiguousarray(frame[:height, :width])

    def face(self) -> Portrait:
        """Return the face of the first usable frame, without pixels."""
        number = int(self.library.numbers[0])
        landmarks_px = self.library.landmarks_px[number]
        return Portrait(
            np.zeros((0, 0, 3), np.uint8), landmarks_px, crop_transform(landmarks_px, CROP_PX),
            np.zeros(3, np.float32), np.zeros(0, np.float32),
        )  # fmt: skip

    def steady_numbers(self) -> I64:
        """Return (N,) the number of the frame that is seen in the middle of each 1/fps of the clip.

        Those of a clip with a steady rate are all of its frames, in their order.
        """
        shown_s = self.times_s - self.times_s[0]
        middle_s = (np.arange(round(float(shown_s[-1] * self.fps)) + 1) + 0.5) / float(self.fps)
        return np.asarray((np.searchsorted(shown_s, middle_s, side="right") - 1).clip(0), np.int64)

    @property
    def duration_s(self) -> Fraction:
        """Length of the clip as far as it was read, in seconds."""
        return len(self.steady_numbers()) / self.fps

    def head_motion(self) -> F64:
        """Return (T,): how far the face moves from frame to frame, in pixels."""
        places = self.library.landmarks_px[:, :, :2].mean(axis=1).astype(np.float64)
        step = np.linalg.norm(np.diff(places, axis=0), axis=1)
        return np.asarray(np.append(step, step[-1:] if len(step) else 0.0), np.float64)


def is_clip(source: object) -> bool:
    """Return whether a source is the path of a video; an animated picture is a picture."""
    return isinstance(source, str | os.PathLike) and is_video(Path(source))


def check_clip_options(engine_name: str, options: RenderOptions, *, on_cluster: bool = False) -> None:
    """Raise InputError for an engine or an option that a clip as the source does not have."""
    if on_cluster:
        raise InputError("A cluster renders portraits only. Leave the cluster out, or give a picture.")
    if engine_name != "mesh":
        raise InputError(f"The {engine_name} engine takes no clip as the portrait. Give engine 'mesh'.")
    for name in KEPT_BY_CLIPS:
        value, default = getattr(options, name), default_of(RenderOptions, name)
        if str(value) != str(default):
            raise InputError(
                f"{name} is {value}, but a clip keeps its own frames and rate; leave {name} out."
            )


class _Reader:
    """The frames of a clip up to a length; remembers times and size, and reports progress."""

    def __init__(self, video: VideoFile, length_s: float, clock: StageClock) -> None:
        self.times_s: list[float] = []
        self.size_px = (0, 0)
        self._video, self._length_s, self._clock = video, length_s, clock

    def __iter__(self) -> Iterator[tuple[float, Frame]]:
        most = self._video.frames or 0
        for time_s, frame in iter_timed_frames(self._video.path, max_side_px=MAX_SIDE_PX):
            size_px = (frame.shape[1], frame.shape[0])
            if self.times_s and (size_px != self.size_px or time_s - self.times_s[0] >= self._length_s):
                return
            self.size_px = size_px
            self.times_s.append(time_s)
            self._clock.report("track", len(self.times_s), max(most, len(self.times_s)))
            yield time_s, frame


def read_clip(path: Path, length_s: float, clock: StageClock, face: str = LARGEST) -> Clip:
    """Read as much of a clip as a sound of ``length_s`` and a library need; measure its face, or which one
    of several ``face`` says.

    Raises:
        InputError: it cannot be read.
        NoFaceError: no face in it, one that is too small, or its mouth is covered all the time.
    """
    video = probe_video(path)
    reader, seen = _Reader(video, max(length_s, LIBRARY_S), clock), MouthCollector()
    with clock.stage("track"):
        track = track_face(reader, name=path.name, choice=face, on_face=seen)
        _check_size(track, path.name)
        library = build_library(track, seen)
    if not len(library.numbers):
        raise NoFaceError(
            f"The mouth in '{path.name}' is covered in all frames. Give a clip that shows the mouth."
        )
    times_s = np.array(reader.times_s)
    fps = min(max(steady_rate(times_s, video.fps), Fraction(1)), Fraction(120))
    if video.has_sound:
        with clock.stage("recognize"):
            library = replace(library, mouth=hear_person(library, path, times_s, fps))
    width, height = reader.size_px
    if width < 2 or height < 2:
        raise InputError(f"Video '{path.name}' is {width}x{height}; give one of at least 2x2 pixels.")
    notes = (*_notes(track, library, fps), *_format_notes(video, times_s, reader.size_px))
    return Clip(path, fps, times_s, (width - width % 2, height - height % 2), library, notes, video.has_sound)


def _check_size(track: FaceTrack, name: str) -> None:
    corners = track.landmarks_px[track.found][:, list(OUTER_EYE_CORNERS), :2]
    eyes_px = float(np.median(np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1)))
    if eyes_px < MIN_EYES_PX:
        raise NoFaceError(
            f"The face in '{name}' is too small: its eyes are {eyes_px:.0f} px apart, at least "
            f"{MIN_EYES_PX:.0f} are needed. Give a closer or larger clip."
        )


def _notes(track: FaceTrack, library: MouthLibrary, fps: Fraction) -> tuple[str, ...]:
    """Return what a user should know of a clip."""
    notes = []
    if track.others:
        notes.append(f"{track.others + 1} faces in the clip; one speaks, the others stay as they are")
    if len(library.cuts):
        notes.append(f"{len(library.cuts)} cuts in the clip")
    open_frames = int((library.measures.lips[library.usable, GAP] > TALKING_GAP).sum())
    if open_frames / float(fps) < ENOUGH_S:
        notes.append(
            f"the clip shows {open_frames / float(fps):.1f} s of an open mouth; "
            "with 20 s of talking more mouths would be its own"
        )
    return tuple(notes)


def _format_notes(video: VideoFile, times_s: F64, size_px: tuple[int, int]) -> Iterator[str]:
    """Yield what of a file is not kept."""
    if steady_rate(times_s, video.fps) != video.fps:
        yield "the rate of the clip varies; the video has a steady one"
    if video.hdr:
        yield "the clip is HDR; the video is not, and looks paler"
    if video.interlaced:
        yield "the clip is interlaced, and its frames are taken as they are; deinterlace it first"
    if max(video.size_px) > max(size_px):
        yield f"the clip is reduced to {size_px[0]}x{size_px[1]}"
