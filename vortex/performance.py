"""What a portrait does in a video: the sound, and the motion that a voice decides."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

from vortex.audio_motion.base import AudioToMotion, keypoints_of_voice
from vortex.audio_motion.merge import merge_motion
from vortex.captions.files import NONE
from vortex.captions.words import CaptionWord, time_words
from vortex.errors import InputError
from vortex.lipsync.alignment import pronounce_words
from vortex.lipsync.recognize import recognize_sounds, visemes_of_sounds
from vortex.media.audio import fit_channels, fit_duration, resample, within_range
from vortex.motion.drive import drive
from vortex.motion.transfer import Motion
from vortex.options import RenderOptions
from vortex.types import (
    F32,
    MAX_DURATION_S,
    Audio,
    PhonemeSpan,
    Portrait,
    ProgressCallback,
    VisemeTrack,
    frame_count,
)

SOUND_HZ = 48_000
"""Sample rate of the sound in the video."""


@dataclass(frozen=True, slots=True, eq=False)
class SpeechInput:
    """The sound of a video, and what is known of it: its words, or the exact times of its phonemes.

    ``stereo`` (N, 2) float32 is what the file gets, if the sound has several channels; as long as ``audio``.
    ``notes`` are for the user. ``written`` is the text as its author wrote it, for captions; default, the
    transcript.
    """

    audio: Audio
    transcript: str | None = None
    phonemes: tuple[PhonemeSpan, ...] | None = None
    notes: tuple[str, ...] = ()
    stereo: F32 | None = None
    written: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class HeardSpeech:
    """The sound of a video, as long as it, the visemes of its frames, and notes for the user.

    ``stereo`` and ``words`` are as in :class:`Performance`.
    """

    audio: Audio
    visemes: VisemeTrack
    notes: tuple[str, ...] = ()
    stereo: F32 | None = None
    words: tuple[CaptionWord, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Performance:
    """What a portrait does in one video: the sound, and the motion, as long as it, of a portrait.

    The motion is of the kind that the engine takes. ``preset`` and ``seed`` decided it; None if a ``driver``
    does: "video", "picture" or "template". ``stereo`` (N, 2) float32, as long as ``audio``, is what the file
    gets instead of it.
    """

    audio: Audio
    fps: Fraction
    motion: Callable[[Portrait], Motion]
    preset: str | None = None
    seed: int | None = None
    notes: tuple[str, ...] = ()
    driver: str | None = None
    stereo: F32 | None = None
    words: tuple[CaptionWord, ...] = ()
    """The words of the captions, if the options ask for some."""


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

    def include(self, spans_s: Mapping[str, tuple[float, float]], start_s: float) -> None:
        """Record the stages that another clock measured, in a process that began at ``start_s``."""
        with self._lock:
            for name, (first_s, last_s) in spans_s.items():
                self.spans_s[name] = (start_s + first_s, start_s + last_s)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the block as the stage ``name``."""
        start_s = self.now_s()
        if self.on_progress and name != "render":
            self.on_progress(name, 0, 1)
        yield
        self.add(name, start_s)


@dataclass(frozen=True, slots=True)
class MotionModel:
    """A learned model that moves the face, and the kind of motion that the engine takes.

    ``use`` loads the model where it is not loaded yet; ``keypoints`` says whether the engine renders
    LivePortrait's keypoints.
    """

    use: Callable[[], AbstractContextManager[AudioToMotion]]
    keypoints: bool


def perform_speech(
    speech: Callable[[], SpeechInput], options: RenderOptions, clock: StageClock, model: MotionModel | None
) -> Performance:
    """Return a sound, as long as the video, and the motion that it drives; a missing seed is drawn.

    ``model`` moves what the options let it move; without one, visemes move all.

    Raises:
        InputError: the sound or the duration cannot be used.
        What ``speech`` and ``model`` raise.
    """
    return perform_heard(hear_speech(speech, options, clock), options, clock, model)


def hear_speech(speech: Callable[[], SpeechInput], options: RenderOptions, clock: StageClock) -> HeardSpeech:
    """Return a sound, as long as the video, and the visemes in it; errors as of :func:`perform_speech`."""
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
        sounds = recognize_sounds(heard, transcript=given.transcript, phonemes=given.phonemes)
        visemes = visemes_of_sounds(sounds, heard, options.fps).fit(frames)
        words = _caption_words(given, sounds.spans) if options.captions != NONE else ()
    stereo = given.stereo
    if stereo is not None:
        stereo = within_range(resample(stereo, given.audio.sample_rate, SOUND_HZ))
    return HeardSpeech(audio, visemes, given.notes + sounds.notes, fit_channels(stereo, audio), words)


def perform_heard(
    heard: HeardSpeech, options: RenderOptions, clock: StageClock, model: MotionModel | None
) -> Performance:
    """Return the motion that the visemes of a sound drive; see :func:`perform_speech`."""
    options = options.with_seed()
    notes = heard.notes
    motion: Motion = drive(heard.visemes, options.preset, options.seed or 0)
    if model is not None:
        motion, learned = _learned_motion(model, heard.audio, heard.visemes, options, clock)
        notes += learned
    return Performance(
        heard.audio,
        options.fps,
        lambda _: motion,
        str(options.preset),
        options.seed,
        notes,
        stereo=heard.stereo,
        words=heard.words,
    )


def _caption_words(speech: SpeechInput, spans: Sequence[PhonemeSpan]) -> tuple[CaptionWord, ...]:
    spoken = speech.transcript or ""
    return tuple(time_words(speech.written or spoken, spoken, spans, pronounce_words))


def _learned_motion(
    model: MotionModel, audio: Audio, visemes: VisemeTrack, options: RenderOptions, clock: StageClock
) -> tuple[Motion, tuple[str, ...]]:
    """Return the motion in which a learned model moves its region, and a note for the user."""
    seed, region = options.seed or 0, options.audio_motion_region
    with clock.stage("motion"), model.use() as loaded:
        learned = keypoints_of_voice(loaded, audio, seed, partial(clock.report, "motion"))
    motion = merge_motion(learned, visemes, options.preset, seed, region, keypoints=model.keypoints)
    return motion, (f"{loaded.name} moves {'lips, face and head' if region == 'all' else f'the {region}'}",)
