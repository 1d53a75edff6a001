"""What a portrait does in a video: the sound, and the motion that a voice or another video decides."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from vortex.errors import InputError
from vortex.face.tracking import track_face
from vortex.lipsync.recognize import recognize_speech
from vortex.media.audio import fit_duration, load_video_sound, resample, within_range
from vortex.media.reading import VideoFile, iter_timed_frames, steady_rate
from vortex.motion.capture import capture_motion
from vortex.motion.drive import drive
from vortex.options import MAX_DURATION_S, DriveOptions, RenderOptions
from vortex.types import Audio, Frame, MotionTrack, PhonemeSpan, Portrait, ProgressCallback, frame_count

SOUND_HZ = 48_000
"""Sample rate of the sound in the video."""


@dataclass(frozen=True, slots=True, eq=False)
class SpeechInput:
    """The sound of a video, and what is known of it: its words, or the exact times of its phonemes."""

    audio: Audio
    transcript: str | None = None
    phonemes: tuple[PhonemeSpan, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Performance:
    """What a portrait does in one video: the sound, and the motion, as long as it, of a portrait.

    ``preset`` and ``seed`` decided the motion; None if a video drives.
    """

    audio: Audio
    fps: Fraction
    motion: Callable[[Portrait], MotionTrack]
    preset: str | None = None
    seed: int | None = None
    notes: tuple[str, ...] = ()


class StageClock:
    """Measures when each stage of a video ran, in any thread, and reports the start of each one."""

    def __init__(self, on_progress: ProgressCallback | None = None) -> None:
        self.on_progress = on_progress
        self.started_s = time.perf_counter()
        self.abandoned = threading.Event()
        """Set when the video has failed, so that a thread that still works for it ends."""
        self.spans_s: dict[str, tuple[float, float]] = {}
        """Stage -> start and end, in seconds since the clock was made."""
        self._lock = threading.Lock()

    @property
    def stage_s(self) -> dict[str, float]:
        """Seconds spent in each stage."""
        with self._lock:
            return {name: end_s - start_s for name, (start_s, end_s) in self.spans_s.items()}

    def now_s(self) -> float:
        """Return the seconds since the clock was made."""
        return time.perf_counter() - self.started_s

    def add(self, name: str, start_s: float) -> None:
        """Record that the stage ``name`` ran from ``start_s`` until now."""
        with self._lock:
            self.spans_s[name] = (start_s, self.now_s())

    def report(self, name: str, completed: int, total: int) -> None:
        """Report progress of the stage ``name``; raises InterruptedError if the video has been abandoned."""
        if self.abandoned.is_set():
            raise InterruptedError("the video has been abandoned")
        if self.on_progress:
            self.on_progress(name, completed, total)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the block as the stage ``name``."""
        start_s = self.now_s()
        if self.on_progress and name != "render":
            self.on_progress(name, 0, 1)
        yield
        self.add(name, start_s)


def perform_speech(
    speech: Callable[[], SpeechInput], options: RenderOptions, clock: StageClock
) -> Performance:
    """Return a sound, as long as the video, and the motion that it drives; a missing seed is drawn.

    Raises:
        InputError: the sound or the duration cannot be used.
        What ``speech`` raises.
    """
    options = options.with_seed()
    with clock.stage("speech"):
        given = speech()
        samples = resample(given.audio.samples, given.audio.sample_rate, SOUND_HZ)
        whole = Audio(within_range(samples), SOUND_HZ)
        length_s = whole.duration_s if options.duration_s is None else options.duration_s
        if not 0 < length_s <= MAX_DURATION_S:
            raise InputError(f"The duration is {float(length_s)} s; give more than 0 and at most four hours.")
        frames = max(frame_count(length_s, options.fps), 1)
        audio = fit_duration(whole, frames, options.fps)
    with clock.stage("recognize"):
        # A transcript covers all of the sound, so the alignment needs all of it.
        heard = audio if len(audio.samples) < len(whole.samples) and not given.transcript else whole
        visemes, notes = recognize_speech(
            heard, options.fps, transcript=given.transcript, phonemes=given.phonemes
        )
    track = drive(visemes.fit(frames), options.preset, options.seed or 0)
    return Performance(audio, options.fps, lambda _: track, str(options.preset), options.seed, notes)


def perform_video(
    video: VideoFile, options: DriveOptions, clock: StageClock, *, max_duration_s: float = MAX_DURATION_S
) -> Performance:
    """Return the sound of a video, and the motion of the face in it.

    Raises:
        InputError: the video lasts longer than ``max_duration_s``, or cannot be decoded.
        NoFaceError: no face in any frame.
        AudioError: its sound cannot be decoded.
    """
    with clock.stage("track"):
        frames_s = _FramesToTrack(video, options.duration_s, max_duration_s, clock)
        faces = track_face(frames_s, name=video.path.name)
    rate = steady_rate(faces.times_s, video.fps)
    fps = options.fps or min(max(rate, Fraction(1)), Fraction(120))
    whole_s = float(faces.times_s[-1]) + float(1 / rate)
    frames = max(frame_count(options.duration_s or whole_s, fps), 1)
    with clock.stage("speech"):
        silence = Audio(np.zeros(0, np.float32), SOUND_HZ)
        sound = load_video_sound(video.path, SOUND_HZ, frames_s.start_s) if video.has_sound else silence
        audio = fit_duration(sound, frames, fps)
    notes = faces.notes if video.has_sound else (*faces.notes, "the video has no sound")
    return Performance(
        audio, fps, lambda portrait: capture_motion(faces, fps, portrait, frames=frames), notes=notes
    )


class _FramesToTrack:
    """The frames of a video with their times, up to a length; each one is reported as progress."""

    def __init__(
        self, video: VideoFile, length_s: float | None, max_duration_s: float, clock: StageClock
    ) -> None:
        self.start_s = 0.0
        """Time of the first frame on the clock of the file."""
        self._video, self._length_s, self._max_s, self._clock = video, length_s, max_duration_s, clock

    def __iter__(self) -> Iterator[tuple[float, Frame]]:
        rate = self._video.fps or 0
        expected = self._video.frames or 0
        if self._length_s is not None and rate:
            expected = min(expected, frame_count(self._length_s, Fraction(rate))) or expected
        for count, (time_s, frame) in enumerate(iter_timed_frames(self._video.path), start=1):
            if count == 1:
                self.start_s = time_s
            shown_s = time_s - self.start_s
            if self._length_s is not None and shown_s >= self._length_s:
                return
            if shown_s > self._max_s:
                name, most = self._video.path.name, f"{self._max_s:g}"
                raise InputError(f"Video '{name}' lasts more than {most} s. Cut it, or give a duration_s.")
            self._clock.report("track", count, max(expected, count))
            yield time_s, frame
