"""The flow of one video: sound and portrait in parallel, then motion, frames and encoding."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from vortex.engines.base import Engine, P
from vortex.errors import InputError
from vortex.lipsync.recognize import recognize_visemes
from vortex.media.audio import fit_duration, resample, within_range
from vortex.media.containers import choose_video_encoder, container_of
from vortex.media.video import encode_video
from vortex.motion.drive import drive
from vortex.options import MAX_DURATION_S, RenderOptions
from vortex.runtime.memory import release_freed_memory
from vortex.types import Audio, Frame, MotionTrack, PhonemeSpan, ProgressCallback, RenderReport, frame_count
from vortex.version import __version__

T = TypeVar("T")

SOUND_HZ = 48_000
"""Sample rate of the sound in the video."""
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeSynthetic"
"""IPTC's term for pictures that mix captured and synthetic elements, which programs look for."""

FrameCallback = Callable[[int, int, Frame], None]
"""Called as on_frame(index, total, frame) with every frame as it is rendered, in the renderer's thread."""


@dataclass(frozen=True, slots=True, eq=False)
class SpeechInput:
    """The sound of a video, and what is known of it: its words, or the exact times of its phonemes."""

    audio: Audio
    transcript: str | None = None
    phonemes: tuple[PhonemeSpan, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PreparedPortrait(Generic[P]):
    """What an engine computed from a portrait, and the portrait's notes for the user."""

    prepared: P
    notes: tuple[str, ...] = ()


class StageClock:
    """Measures when each stage of a video ran, in any thread, and reports the start of each one."""

    def __init__(self, on_progress: ProgressCallback | None = None) -> None:
        self.on_progress = on_progress
        self.started_s = time.perf_counter()
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

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the block as the stage ``name``."""
        start_s = self.now_s()
        if self.on_progress and name != "render":
            self.on_progress(name, 0, 1)
        yield
        self.add(name, start_s)


def render_video(
    engine: Engine[P],
    portrait: Callable[[], PreparedPortrait[P]],
    speech: Callable[[], SpeechInput],
    out: Path,
    options: RenderOptions,
    *,
    part: Path | None = None,
    clock: StageClock | None = None,
    on_frame: FrameCallback | None = None,
) -> RenderReport:
    """Render one video file.

    Args:
        engine: renders, and stays open.
        portrait: called in this thread; returns the portrait as ``engine`` prepared it.
        speech: called in another thread at the same time.
        out: the video; it appears when it is whole. Check the path first.
        options: parsed options; a missing seed is drawn.
        part: see :func:`vortex.media.video.encode_video`.
        clock: measures the stages and reports progress.
        on_frame: sees every frame.

    Raises:
        InputError: the sound or the duration cannot be used.
        EncodeError: the video cannot be written.
        What ``portrait``, ``speech`` and the callbacks raise.
    """
    clock, options = clock or StageClock(), options.with_seed()
    sound = _in_background(lambda: _audio_and_motion(speech, options, clock))
    face = portrait()
    audio, motion = sound.result()
    release_freed_memory()
    container = container_of(out)
    encoder = choose_video_encoder(container, engine.device)
    notes = face.notes + engine.notes(face.prepared, motion, quality=options.quality)
    if encoder != container.video_encoders["cpu"]:
        notes += (f"encoded on the GPU ({encoder})",)
    with clock.stage("render"):
        frames = engine.iter_frames(face.prepared, motion, quality=options.quality)
        count = encode_video(
            out,
            _reported(frames, len(motion), on_frame) if on_frame else frames,
            audio,
            options.fps,
            face.prepared.size_px,
            comment=_comment(engine.name, options),
            encoder=encoder,
            part=part,
            on_progress=clock.on_progress,
        )
    release_freed_memory()
    return RenderReport(
        path=out,
        frames=count,
        fps=options.fps,
        size_px=face.prepared.size_px,
        engine=engine.name,
        preset=str(options.preset),
        seed=options.seed or 0,
        duration_s=float(count / options.fps),
        stage_s=clock.stage_s,
        notes=notes,
    )


def _comment(engine: str, options: RenderOptions) -> str:
    """Return what the file says of itself: how it was made and, if marked, that it is synthetic."""
    made_by = f"vortex {__version__}; engine={engine} preset={options.preset} seed={options.seed}"
    return f"synthetic; {made_by}; digitalSourceType={DIGITAL_SOURCE_TYPE}" if options.mark else made_by


def _audio_and_motion(
    speech: Callable[[], SpeechInput], options: RenderOptions, clock: StageClock
) -> tuple[Audio, MotionTrack]:
    """Return the sound, as long as the video, and the motion that it drives."""
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
        visemes = recognize_visemes(heard, options.fps, transcript=given.transcript, phonemes=given.phonemes)
    return audio, drive(visemes.fit(frames), options.preset, options.seed or 0)


def _reported(frames: Iterator[Frame], total: int, on_frame: FrameCallback) -> Iterator[Frame]:
    for index, frame in enumerate(frames):
        on_frame(index, total, frame)
        yield frame


def _in_background(work: Callable[[], T]) -> Future[T]:
    """Start ``work`` in a thread; when the caller fails first, its error is raised without waiting."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as exc:
            # Raised again in the thread that asks for the result.
            future.set_exception(exc)

    threading.Thread(target=run, name="vortex-speech").start()
    return future


def report_as_json(report: RenderReport, total_s: float | None = None) -> dict[str, Any]:
    """Return a report as values that JSON can hold; ``total_s`` is the time of the whole command."""
    return {
        "path": str(report.path),
        "frames": report.frames,
        "fps": str(report.fps),
        "size_px": list(report.size_px),
        "duration_s": report.duration_s,
        "engine": report.engine,
        "preset": report.preset,
        "seed": report.seed,
        **({} if total_s is None else {"total_s": round(total_s, 3)}),
        "stage_s": {name: round(seconds, 3) for name, seconds in report.stage_s.items()},
        "notes": list(report.notes),
    }
