"""The flow of one video: portrait and performance in parallel, then motion, frames and encoding."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from vortex.captions.burning import burned
from vortex.captions.cues import make_cues
from vortex.captions.files import BURN, caption_kinds, caption_paths, write_captions
from vortex.engines.base import LastingEngine, LastingWork, P, Prepared
from vortex.errors import EncodeError, VortexWarning
from vortex.media.containers import Compression, choose_video_encoder, container_of
from vortex.media.video import encode_video
from vortex.motion.transfer import Motion
from vortex.options import DriveOptions, RenderOptions
from vortex.performance import Performance, StageClock
from vortex.runtime.duration import in_words
from vortex.runtime.memory import release_freed_memory
from vortex.scene import Scene, scene_frames
from vortex.types import Frame, Portrait, RenderReport
from vortex.version import __version__

T = TypeVar("T")
Source = TypeVar("Source", bound=Prepared, contravariant=True)

DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeSynthetic"
"""IPTC's term for pictures that mix captured and synthetic elements, which programs look for."""

LONG_S = 60.0
"""A video that takes longer is announced before it starts."""

FrameCallback = Callable[[int, int, Frame], None]
"""Called as on_frame(index, total, frame) with every frame as it is rendered, in the renderer's thread."""


@dataclass(frozen=True, slots=True, eq=False)
class PreparedPortrait(Generic[P]):
    """What an engine computed from a portrait, and the portrait's notes for the user."""

    prepared: P
    face: Portrait
    """The portrait without its pixels, which the engine keeps: what a motion may need to know."""
    notes: tuple[str, ...] = ()
    scene: Scene | None = None
    """What is behind the person; None: the picture's own background."""


class Renderer(Protocol[Source]):
    """What renders a video: an engine, or one for another source than a portrait; see its members there."""

    @property
    def name(self) -> str:
        """The engine's name."""

    @property
    def device(self) -> str:
        """Where frames are rendered."""

    def iter_frames(self, prepared: Source, motion: Motion, *, quality: str = "full") -> Iterator[Frame]:
        """Return an iterator of one frame for each row of ``motion``."""

    def notes(self, prepared: Source, motion: Motion, *, quality: str = "full") -> tuple[str, ...]:
        """Return sentences about these frames that the user should read."""


def render_video(
    engine: Renderer[P],
    portrait: Callable[[], PreparedPortrait[P]],
    perform: Callable[[], Performance],
    out: Path,
    options: RenderOptions | DriveOptions,
    *,
    part: Path | None = None,
    clock: StageClock | None = None,
    on_frame: FrameCallback | None = None,
) -> RenderReport:
    """Render one video file.

    Args:
        engine: renders, and stays open.
        portrait: called in this thread; returns the portrait as ``engine`` prepared it.
        perform: called in another thread at the same time; returns the sound and the motion.
        out: the video; it appears when it is whole. Check the path first.
        options: quality, captions and mark are used here.
        part: see :func:`vortex.media.video.encode_video`.
        clock: measures the stages and reports progress.
        on_frame: sees every frame.

    Raises:
        EncodeError: the video cannot be written.
        What ``portrait``, ``perform`` and the callbacks raise.
    """
    clock = clock or StageClock()
    performing = _in_background(perform)
    try:
        face = portrait()
        performance = performing.result()
    except BaseException:
        clock.abandoned.set()
        raise
    motion = performance.motion(face.face)
    release_freed_memory()
    container = container_of(out)
    encoder = choose_video_encoder(container, engine.device)
    notes = face.notes + performance.notes + engine.notes(face.prepared, motion, quality=options.quality)
    if encoder != container.video_encoders["cpu"]:
        notes += (f"encoded on the GPU ({encoder})",)
    if container.audio_encoder is None:
        notes += (f"{container.name} has no sound, so the video is silent",)
    work = None
    if isinstance(engine, LastingEngine):
        work = engine.lasting(face.prepared, motion, quality=options.quality)
    if work is not None:
        notes += _work_ahead(work, performance.seed, clock)
    with clock.stage("render"):
        if work is not None:
            frames = work.iter_frames()
        else:
            frames = engine.iter_frames(face.prepared, motion, quality=options.quality)
        if face.scene is not None:
            frames = scene_frames(face.scene, engine, face.prepared, motion, frames)
        count = encode_video(
            out,
            _finished(frames, len(motion), on_frame, performance, options, face.prepared.size_px),
            performance.audio,
            performance.fps,
            face.prepared.size_px,
            comment=_comment(engine.name, performance, mark=options.mark),
            encoder=encoder,
            transparent=face.scene is not None and face.scene.is_transparent,
            compression=Compression(options.crf, options.bitrate_kbps),
            stereo=performance.stereo,
            part=part,
            on_progress=clock.on_progress,
        )
    captions = _write_captions(out, performance, options)
    if work is not None:
        work.discard()
    release_freed_memory()
    return RenderReport(
        path=out,
        frames=count,
        fps=performance.fps,
        size_px=face.prepared.size_px,
        engine=engine.name,
        preset=performance.preset,
        seed=performance.seed,
        duration_s=float(count / performance.fps),
        stage_s=clock.stage_s,
        notes=notes,
        captions=captions,
    )


def _finished(
    frames: Iterator[Frame],
    total: int,
    on_frame: FrameCallback | None,
    performance: Performance,
    options: RenderOptions | DriveOptions,
    size_px: tuple[int, int],
) -> Iterator[Frame]:
    """Return the frames as they are encoded; ``on_frame`` sees them without captions."""
    if on_frame:
        frames = _reported(frames, total, on_frame)
    if isinstance(options, RenderOptions) and BURN in caption_kinds(options.captions):
        length_s = float(performance.audio.duration_s)
        frames = burned(frames, performance.words, performance.fps, length_s, size_px)
    return frames


def _write_captions(
    out: Path, performance: Performance, options: RenderOptions | DriveOptions
) -> tuple[Path, ...]:
    """Write the caption files that the options name, and return their paths."""
    if not isinstance(options, RenderOptions):
        return ()
    paths = caption_paths(out, options.captions)
    cues = make_cues(performance.words, float(performance.audio.duration_s)) if paths else []
    for path in paths:
        try:
            write_captions(path, cues)
        except OSError as exc:
            raise EncodeError(f"Captions '{path}' cannot be written ({exc.strerror}).") from exc
    return tuple(paths)


def _work_ahead(work: LastingWork, seed: int | None, clock: StageClock) -> tuple[str, ...]:
    """Do what takes long before the first frame; return a note, of which a warning says how long it takes."""
    with clock.stage("ahead"):
        forecast = work.forecast()
        found = forecast.full - forecast.left
        note = (
            f"{forecast.full} of {forecast.frames} frames are rendered in full; {found} of them are there, "
            f"the others take about {in_words(forecast.left_s)}, {forecast.frame_s:.1f} s each"
        )
        if forecast.left_s > LONG_S:
            same = "the same command" if seed is None else f"the same command with the seed {seed}"
            warnings.warn(
                f"{note}. If it is stopped, {same} goes on from there.", VortexWarning, stacklevel=3
            )
        work.render_ahead(partial(clock.report, "ahead"))
    return (note,) if forecast.left else ()


def _comment(engine: str, performance: Performance, *, mark: bool) -> str:
    """Return what the file says of itself: how it was made and, if marked, that it is synthetic."""
    preset, seed, driver = performance.preset, performance.seed, performance.driver
    how = f"driven by a {driver}" if driver else f"preset={preset} seed={seed}"
    made_by = f"vortex {__version__}; engine={engine} {how}"
    return f"synthetic; {made_by}; digitalSourceType={DIGITAL_SOURCE_TYPE}" if mark else made_by


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
        **({"captions": [path.name for path in report.captions]} if report.captions else {}),
    }
