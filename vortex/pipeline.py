"""The whole flow: a portrait and a voice go in, an MP4 comes out."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vortex.audio import fit_duration, load_audio, resample, within_range
from vortex.encoder import check_video_path, choose_encoder, encode_video
from vortex.engines.base import Engine, Prepared, load_engine
from vortex.errors import InputError
from vortex.lipsync.recognize import recognize_visemes
from vortex.motion.drive import drive
from vortex.motion.presets import PresetSequence, parse_presets
from vortex.portrait import load_portrait
from vortex.types import (
    VISEMES,
    Audio,
    Frame,
    Hook,
    MotionTrack,
    PhonemeSpan,
    Portrait,
    RenderReport,
    VisemeTrack,
    frame_count,
    parse_fps,
    parse_seed,
)
from vortex.version import __version__

T = TypeVar("T")

SOUND_HZ = 48_000
"""Sample rate of the sound in the video."""
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeSynthetic"
"""IPTC's term for pictures that mix captured and synthetic elements, which programs look for."""
MAX_DURATION_S = 4 * 3600.0

Watch = Callable[[int, int, Frame], None]
"""Called as watch(index, total, frame) with every frame as it is rendered, in the renderer's thread."""


@dataclass(frozen=True, slots=True, eq=False)
class Voiced:
    """What is heard, and what is known of it: the words, or the exact times of its sounds."""

    audio: Audio
    transcript: str | None = None
    phonemes: tuple[PhonemeSpan, ...] | None = None


def animate_file(
    portrait: str | Path,
    speech: str | Path,
    out: str | Path,
    *,
    engine: str | Engine = "mesh",
    preset: PresetSequence = "neutral",
    fps: float | str | Fraction = 24,
    size_px: int = 512,
    duration_s: float | None = None,
    seed: int | None = None,
    transcript: str | None = None,
    paste_back: bool = False,
    device: str | None = None,
    quality: str = "full",
    mark: bool = True,
    hook: Hook | None = None,
) -> RenderReport:
    """Make a talking video, MP4 with H.264 and AAC, from a picture file and a sound file.

    Args:
        portrait: picture with a face; see :func:`vortex.portrait.load_portrait`.
        speech: sound, or a video whose sound is taken; see :func:`vortex.audio.load_audio`.
        out: the .mp4 to write; it appears when it is whole, and nothing is left on failure.
        engine: "mesh" or "liveportrait"; or one that is open, such as that of a cluster, and stays so.
        preset: neutral, excited, manic or calm, or a timed sequence such as "neutral,excited@3.5".
        fps: frames per second, exact: 24, "30000/1001".
        size_px: side of the square frames; not used with ``paste_back``.
        duration_s: length of the video; default, the length of the sound. Longer sound is cut with a warning,
            shorter sound is followed by silence.
        seed: decides blinks, glances and sway; default, a new one each time, told in the report.
        transcript: the English words spoken, for better synchrony.
        paste_back: render the whole picture at its own size instead of a square round the face.
        device: for liveportrait, "cuda" or "cpu".
        quality: for liveportrait, "full", or "fast", which renders similar frames once.
        mark: write into the file that it is synthetic, as people and programs can read it; see
        docs/formats.md. hook: called as hook(stage, completed, total).

    Raises:
        InputError: bad input or argument; nothing was written.
        EngineError, WeightsError, MissingExtraError: the engine cannot run here.
        EncodeError: the video cannot be written.
    """
    return animate(
        lambda: load_portrait(portrait),
        lambda: Voiced(load_audio(speech, SOUND_HZ), transcript),
        out,
        engine=engine,
        preset=preset,
        fps=fps,
        size_px=size_px,
        duration_s=duration_s,
        seed=seed,
        paste_back=paste_back,
        device=device,
        quality=quality,
        mark=mark,
        clock=StageClock(hook),
    )


def animate(
    portrait: Callable[[], Portrait],
    speech: Callable[[], Voiced],
    out: str | Path,
    *,
    engine: str | Engine = "mesh",
    preset: PresetSequence = "neutral",
    fps: float | str | Fraction = 24,
    size_px: int = 512,
    duration_s: float | None = None,
    seed: int | None = None,
    paste_back: bool = False,
    device: str | None = None,
    quality: str = "full",
    mark: bool = True,
    clock: StageClock | None = None,
    watch: Watch | None = None,
) -> RenderReport:
    """Make a talking video of a portrait and a voice that are made, or loaded, side by side.

    ``portrait`` is called in this thread, ``speech`` in another one at the same time; rendering starts when
    both have returned. ``clock`` tells its hook of the stages and keeps their times; ``watch`` sees frames.
    The other arguments and what is raised are those of :func:`animate_file`, besides what the two raise.
    """
    take = _checked_take(speech, out, preset, fps, duration_s, seed, mark)
    clock = clock or StageClock()
    with clock.stage("engine"):
        renderer = load_engine(engine, device=device, quality=quality) if isinstance(engine, str) else engine

    def prepare() -> tuple[Prepared, tuple[str, ...]]:
        with clock.stage("portrait"):
            face = portrait()
        with clock.stage("prepare"):
            return renderer.prepare(face, size_px=size_px, paste_back=paste_back), face.notes

    report = _film(renderer, prepare, take, clock, watch)
    if isinstance(engine, str):
        renderer.close()
    return report


def animate_prepared(
    renderer: Engine,
    prepared: Prepared,
    speech: Callable[[], Voiced],
    out: str | Path,
    *,
    preset: PresetSequence = "neutral",
    fps: float | str | Fraction = 24,
    duration_s: float | None = None,
    seed: int | None = None,
    notes: tuple[str, ...] = (),
    mark: bool = True,
    hook: Hook | None = None,
) -> RenderReport:
    """Make a talking video of a portrait that the engine has prepared before; see :func:`animate`.

    ``renderer`` stays open, and ``prepared`` serves any number of videos, also at the same time. ``notes``,
    such as those of the portrait, are passed on into the report. What ``hook`` raises ends the work.
    """
    take = _checked_take(speech, out, preset, fps, duration_s, seed, mark)
    return _film(renderer, lambda: (prepared, notes), take, StageClock(hook))


@dataclass(frozen=True, slots=True)
class _Take:
    """What is asked for, checked, apart from engine and portrait."""

    speech: Callable[[], Voiced]
    out: Path
    preset: PresetSequence
    fps: Fraction
    duration_s: float | None
    seed: int
    mark: bool


def report_as_json(report: RenderReport, total_s: float) -> dict[str, Any]:
    """Return the report as values that JSON can hold."""
    return {
        "path": str(report.path),
        "frames": report.frames,
        "fps": str(report.fps),
        "size_px": list(report.size_px),
        "duration_s": report.duration_s,
        "engine": report.engine,
        "preset": report.preset,
        "seed": report.seed,
        "total_s": round(total_s, 3),
        "stage_s": {name: round(seconds, 3) for name, seconds in report.stage_s.items()},
        "peak_vram_bytes": report.peak_vram_bytes,
        "notes": list(report.notes),
    }


def _checked_take(
    speech: Callable[[], Voiced],
    out: str | Path,
    preset: PresetSequence,
    fps: float | str | Fraction,
    duration_s: float | None,
    seed: int | None,
    mark: bool,
) -> _Take:
    exact_fps = parse_fps(fps)
    check_video_path(Path(out))
    parse_presets(preset)
    return _Take(speech, Path(out), preset, exact_fps, duration_s, parse_seed(seed), mark)


def _film(
    renderer: Engine,
    prepare: Callable[[], tuple[Prepared, tuple[str, ...]]],
    take: _Take,
    clock: StageClock,
    watch: Watch | None = None,
) -> RenderReport:
    """Listen to the speech while the portrait is prepared, then render and encode side by side."""
    listening = _in_background(lambda: _listen(take, clock))
    prepared, notes = prepare()
    audio, motion = listening.result()
    _give_back_memory()
    notes += renderer.notes(prepared, motion)
    encoder = choose_encoder(renderer.device)
    if encoder != "libx264":
        notes += (f"encoded on the GPU ({encoder})",)
    with clock.stage("render"):
        frames = renderer.iter_frames(prepared, motion)
        if watch:
            frames = _watched(frames, len(motion), watch)
        count = encode_video(
            take.out,
            frames,
            audio,
            take.fps,
            prepared.size_px,
            comment=_comment(renderer.name, take),
            encoder=encoder,
            hook=clock.hook,
        )
    _give_back_memory()
    return RenderReport(
        path=take.out,
        frames=count,
        fps=take.fps,
        size_px=prepared.size_px,
        engine=renderer.name,
        preset=str(take.preset),
        seed=take.seed,
        duration_s=float(count / take.fps),
        stage_s=clock.stage_s,
        notes=notes,
    )


def _comment(engine: str, take: _Take) -> str:
    """Return what the file says of itself: how it was made, and, if marked, that it is synthetic."""
    made_by = f"vortex {__version__}; engine={engine} preset={take.preset} seed={take.seed}"
    return f"synthetic; {made_by}; digitalSourceType={DIGITAL_SOURCE_TYPE}" if take.mark else made_by


def _give_back_memory() -> None:
    """Return freed memory to the system (glibc): the heaps of threads would keep more holes each run."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _listen(take: _Take, clock: StageClock) -> tuple[Audio, MotionTrack]:
    """Return the sound, as long as the video, and the motion it drives."""
    with clock.stage("speech"):
        voiced = take.speech()
        samples = resample(voiced.audio.samples, voiced.audio.sample_rate, SOUND_HZ)
        whole = Audio(within_range(samples), SOUND_HZ)
        length_s = whole.duration_s if take.duration_s is None else take.duration_s
        if not 0 < length_s <= MAX_DURATION_S:
            raise InputError(f"The duration is {float(length_s)} s; give more than 0 and at most four hours.")
        frames = max(frame_count(length_s, take.fps), 1)
        audio = fit_duration(whole, frames, take.fps)
    with clock.stage("recognize"):
        # a transcript tells what is said in all of it, and silence behind it need not be listened to
        heard = audio if len(audio.samples) < len(whole.samples) and not voiced.transcript else whole
        visemes = recognize_visemes(heard, take.fps, transcript=voiced.transcript, phonemes=voiced.phonemes)
    return audio, drive(_fit_visemes(visemes, frames), take.preset, take.seed)


def _watched(frames: Iterator[Frame], total: int, watch: Watch) -> Iterator[Frame]:
    for index, frame in enumerate(frames):
        watch(index, total, frame)
        yield frame


def _fit_visemes(visemes: VisemeTrack, frames: int) -> VisemeTrack:
    """Return the track cut, or continued in silence, to a number of frames."""
    missing = max(frames - len(visemes.weights), 0)
    silence = np.eye(1, len(VISEMES), VISEMES.index("sil"), dtype=np.float32)
    return VisemeTrack(
        np.concatenate([visemes.weights[:frames], silence.repeat(missing, axis=0)]),
        np.pad(visemes.loudness[:frames], (0, missing)),
        visemes.fps,
    )


def _in_background(work: Callable[[], T]) -> Future[T]:
    """Start ``work`` in a thread; when the rest fails, the error is raised without waiting for it."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as exc:
            # it belongs to whoever asks for the result
            future.set_exception(exc)

    threading.Thread(target=run, name="vortex-listen").start()
    return future


class StageClock:
    """When each stage ran; stages may run in several threads. ``hook`` is told of each start."""

    def __init__(self, hook: Hook | None = None) -> None:
        self.hook = hook
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
        """Note that the stage ``name`` ran from ``start_s`` until now."""
        with self._lock:
            self.spans_s[name] = (start_s, self.now_s())

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what runs inside as the stage ``name``."""
        start_s = self.now_s()
        if self.hook and name != "render":
            self.hook(name, 0, 1)
        yield
        self.add(name, start_s)
