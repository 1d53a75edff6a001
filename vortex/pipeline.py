"""The whole flow: a portrait and a voice go in, an MP4 comes out."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import numpy as np

from vortex.audio import fit_duration, load_audio
from vortex.encoder import Hook, check_video_path, encode_video
from vortex.engines.base import load_engine
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
    out, exact_fps = Path(out), parse_fps(fps)
    check_video_path(out)
    parse_presets(preset)
    seed = secrets.randbelow(2**31) if seed is None else seed
    if seed < 0:
        raise InputError(f"seed is {seed}; give a whole number from 0 on.")
    clock = _Clock(hook)
    with clock.stage("engine"):
        renderer = load_engine(engine, device=device)
    listening = _in_background(
        lambda: _listen(speech, transcript, exact_fps, duration_s, preset, seed, clock)
    )
    with clock.stage("portrait"):
        face = load_portrait(portrait)
    with clock.stage("prepare"):
        prepared = renderer.prepare(face, size_px=size_px, paste_back=paste_back)
    audio, motion = listening.result()
    comment = f"vortex {__version__}, synthetic; engine={renderer.name} preset={preset} seed={seed}"
    with clock.stage("render"):
        frames = renderer.iter_frames(prepared, motion)
        count = encode_video(out, frames, audio, exact_fps, prepared.size_px, comment=comment, hook=hook)
    renderer.close()
    return RenderReport(
        path=out,
        frames=count,
        fps=exact_fps,
        size_px=prepared.size_px,
        engine=renderer.name,
        preset=str(preset),
        seed=seed,
        duration_s=float(count / exact_fps),
        stage_s=clock.stage_s,
        notes=face.notes,
    )


def _listen(
    speech: str | Path,
    transcript: str | None,
    fps: Fraction,
    duration_s: float | None,
    preset: PresetSequence,
    seed: int,
    clock: _Clock,
) -> tuple[Audio, MotionTrack]:
    """Return the sound, as long as the video, and the motion it drives."""
    with clock.stage("speech"):
        whole = load_audio(speech, SOUND_HZ)
        length_s = whole.duration_s if duration_s is None else duration_s
        if not 0 < length_s <= MAX_DURATION_S:
            raise InputError(f"The duration is {float(length_s)} s; give more than 0 and at most four hours.")
        frames = max(frame_count(length_s, fps), 1)
        audio = fit_duration(whole, frames, fps)
    with clock.stage("recognize"):
        # a transcript tells what is said in all of it, and silence behind it need not be listened to
        heard = audio if len(audio.samples) < len(whole.samples) and not transcript else whole
        visemes = _fit_visemes(recognize_visemes(heard, fps, transcript=transcript), frames)
    return audio, drive(visemes, preset, seed)


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
