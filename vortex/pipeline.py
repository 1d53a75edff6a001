"""The whole flow: a portrait and a voice go in, an MP4 comes out."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import numpy as np

from vortex.audio import fit_duration, load_audio
from vortex.encoder import Hook, check_video_path, encode_video
from vortex.engines.base import Engine, Prepared, load_engine
from vortex.errors import InputError
from vortex.lipsync.recognize import recognize_visemes
from vortex.motion.drive import drive
from vortex.motion.presets import PresetSequence, parse_presets
from vortex.portrait import load_portrait
from vortex.types import VISEMES, Audio, MotionTrack, RenderReport, VisemeTrack, frame_count, parse_fps
from vortex.version import __version__

T = TypeVar("T")

SOUND_HZ = 48_000
"""Sample rate of the sound in the video."""
MAX_DURATION_S = 4 * 3600.0


def animate_file(
    portrait: str | Path,
    speech: str | Path,
    out: str | Path,
    *,
    engine: str = "mesh",
    preset: PresetSequence = "neutral",
    fps: float | str | Fraction = 24,
    size_px: int = 512,
    duration_s: float | None = None,
    seed: int | None = None,
    transcript: str | None = None,
    paste_back: bool = False,
    device: str | None = None,
    hook: Hook | None = None,
) -> RenderReport:
    """Make a talking video, MP4 with H.264 and AAC, from a picture file and a sound file.

    Args:
        portrait: picture with a face; see :func:`vortex.portrait.load_portrait`.
        speech: sound, or a video whose sound is taken; see :func:`vortex.audio.load_audio`.
        out: the .mp4 to write; it appears when it is whole, and nothing is left on failure.
        engine: "mesh" or "liveportrait".
        preset: neutral, excited, manic or calm, or a timed sequence such as "neutral,excited@3.5".
        fps: frames per second, exact: 24, "30000/1001".
        size_px: side of the square frames; not used with ``paste_back``.
        duration_s: length of the video; default, the length of the sound. Longer sound is cut with a warning,
            shorter sound is followed by silence.
        seed: decides blinks, glances and sway; default, a new one each time, told in the report.
        transcript: the English words spoken, for better synchrony.
        paste_back: render the whole picture at its own size instead of a square round the face.
        device: for liveportrait, "cuda" or "cpu".
        hook: called as hook(stage, completed, total).

    Raises:
        InputError: bad input or argument; nothing was written.
        EngineError, WeightsError, MissingExtraError: the engine cannot run here.
        EncodeError: the video cannot be written.
    """
    take = _checked_take(speech, out, preset, fps, duration_s, seed, transcript)
    clock = _Clock(hook)
    with clock.stage("engine"):
        renderer = load_engine(engine, device=device)

    def prepare() -> tuple[Prepared, tuple[str, ...]]:
        with clock.stage("portrait"):
            face = load_portrait(portrait)
        with clock.stage("prepare"):
            return renderer.prepare(face, size_px=size_px, paste_back=paste_back), face.notes

    report = _film(renderer, prepare, take, clock, hook)
    renderer.close()
    return report


def animate_prepared(
    renderer: Engine,
    prepared: Prepared,
    speech: str | Path,
    out: str | Path,
    *,
    preset: PresetSequence = "neutral",
    fps: float | str | Fraction = 24,
    duration_s: float | None = None,
    seed: int | None = None,
    transcript: str | None = None,
    notes: tuple[str, ...] = (),
    hook: Hook | None = None,
) -> RenderReport:
    """Make a talking video of a portrait that the engine has prepared before; see :func:`animate_file`.

    ``renderer`` stays open, and ``prepared`` serves any number of videos, also at the same time. ``notes``,
    such as those of the portrait, are passed on into the report. What ``hook`` raises ends the work.
    """
    take = _checked_take(speech, out, preset, fps, duration_s, seed, transcript)
    return _film(renderer, lambda: (prepared, notes), take, _Clock(hook), hook)


@dataclass(frozen=True, slots=True)
class _Take:
    """What is asked for, checked, apart from engine and portrait."""

    speech: Path
    out: Path
    preset: PresetSequence
    fps: Fraction
    duration_s: float | None
    seed: int
    transcript: str | None


def _checked_take(
    speech: str | Path,
    out: str | Path,
    preset: PresetSequence,
    fps: float | str | Fraction,
    duration_s: float | None,
    seed: int | None,
    transcript: str | None,
) -> _Take:
    exact_fps = parse_fps(fps)
    check_video_path(Path(out))
    parse_presets(preset)
    seed = secrets.randbelow(2**31) if seed is None else seed
    if seed < 0:
        raise InputError(f"seed is {seed}; give a whole number from 0 on.")
    return _Take(Path(speech), Path(out), preset, exact_fps, duration_s, seed, transcript)


def _film(
    renderer: Engine,
    prepare: Callable[[], tuple[Prepared, tuple[str, ...]]],
    take: _Take,
    clock: _Clock,
    hook: Hook | None,
) -> RenderReport:
    """Listen to the speech while the portrait is prepared, then render and encode side by side."""
    listening = _in_background(lambda: _listen(take, clock))
    prepared, notes = prepare()
    audio, motion = listening.result()
    made_by = f"engine={renderer.name} preset={take.preset} seed={take.seed}"
    with clock.stage("render"):
        frames = renderer.iter_frames(prepared, motion)
        count = encode_video(
            take.out,
            frames,
            audio,
            take.fps,
            prepared.size_px,
            comment=f"vortex {__version__}, synthetic; {made_by}",
            hook=hook,
        )
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


def _listen(take: _Take, clock: _Clock) -> tuple[Audio, MotionTrack]:
    """Return the sound, as long as the video, and the motion it drives."""
    with clock.stage("speech"):
        whole = load_audio(take.speech, SOUND_HZ)
        length_s = whole.duration_s if take.duration_s is None else take.duration_s
        if not 0 < length_s <= MAX_DURATION_S:
            raise InputError(f"The duration is {float(length_s)} s; give more than 0 and at most four hours.")
        frames = max(frame_count(length_s, take.fps), 1)
        audio = fit_duration(whole, frames, take.fps)
    with clock.stage("recognize"):
        # a transcript tells what is said in all of it, and silence behind it need not be listened to
        heard = audio if len(audio.samples) < len(whole.samples) and not take.transcript else whole
        visemes = recognize_visemes(heard, take.fps, transcript=take.transcript)
    return audio, drive(_fit_visemes(visemes, frames), take.preset, take.seed)


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


class _Clock:
    """Seconds spent in each stage; stages may run in several threads."""

    def __init__(self, hook: Hook | None) -> None:
        self.stage_s: dict[str, float] = {}
        self._hook = hook
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start_s = time.perf_counter()
        if self._hook and name != "render":
            self._hook(name, 0, 1)
        yield
        with self._lock:
            self.stage_s[name] = time.perf_counter() - start_s
