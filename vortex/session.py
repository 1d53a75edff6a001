"""The one owner of what is expensive to load: engines, speech models and prepared portraits."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any, cast

import numpy as np

from vortex.audio_motion.registry import find_audio_motion
from vortex.captions.burning import check_captions
from vortex.captions.files import NONE, caption_paths
from vortex.driving import (
    CaptureReport,
    Driver,
    capture_driver,
    captures,
    check_captures,
    check_drive,
    open_driver,
    perform_driver,
)
from vortex.engines.base import CapturingEngine, Engine, LastingEngine, MattingEngine
from vortex.engines.registry import check_engine_options, resolve_engine
from vortex.errors import InputError, VortexError
from vortex.face.portrait import PortraitSource, load_portrait
from vortex.live import LiveFace
from vortex.media.audio import SoundSource, load_sound
from vortex.media.containers import PIPE, Compression, check_format, check_rate, check_video_path
from vortex.media.reading import is_video, probe_video
from vortex.motion.presets import PresetLike
from vortex.motion.template import check_template_path, save_template
from vortex.options import (
    AnimateOptions,
    CaptureOptions,
    DriveOptions,
    EngineOptions,
    FrameOptions,
    FramingOptions,
    LiveOptions,
    RenderOptions,
    SayOptions,
    SpeakOptions,
    SpeechOptions,
    check_picture_options,
    default_of,
)
from vortex.performance import (
    SOUND_HZ,
    MotionModel,
    Performance,
    SpeechInput,
    StageClock,
    perform_speech,
)
from vortex.render import FrameCallback, PreparedPortrait, render_video
from vortex.revoice.clip import check_clip_options, is_clip, read_clip
from vortex.revoice.renderer import ClipRenderer
from vortex.revoice.sound import clip_length_s, with_own_sound, with_rest
from vortex.runtime.files import check_new_file
from vortex.runtime.memory import BoundedCache, ModelCache
from vortex.runtime.results import ResultFolder
from vortex.scene import check_framing, has_scene, stage_portrait
from vortex.source_video import (
    SourceVideoEngine,
    check_source_video,
    perform_on_video,
    read_source_video,
)
from vortex.speech.base import Speech, SpeechEngine
from vortex.speech.registry import find_speech_engine
from vortex.speech.synthesis import synthesize
from vortex.speech.text import split_sentences
from vortex.types import MAX_DURATION_S, Portrait, ProgressCallback, RenderReport

PREVIEW_CHARACTERS = 120
"""A longer first sentence is cut before a word in a preview; this is about 8 s of speech."""
PREPARED_KEPT = 8
"""Prepared portraits that a session keeps by default, about 15 MB each with the mesh engine."""


class Session(AbstractContextManager["Session"]):
    """Loads each engine and speech model once, keeps prepared portraits, and closes everything at its end.

    Use it as a context manager. Any number of threads may use one session at the same time.

    Args:
        engine: an open engine to use instead of loading one, such as a cluster. The session renders with it,
            whatever engine the options name, and does not close it.
        models: keeps speech and other models; default, a cache of the session's own.
        max_prepared: how many prepared portraits to keep; the least recently used is dropped.
    """

    def __init__(
        self,
        *,
        engine: Engine[Any] | None = None,
        models: ModelCache | None = None,
        max_prepared: int = PREPARED_KEPT,
    ) -> None:
        self.models = models or ModelCache()
        self._given_engine = engine
        self._engines: dict[tuple[str, str | None], Engine[Any]] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._prepared: BoundedCache[tuple[Hashable, ...], PreparedPortrait[Any]] = BoundedCache(max_prepared)

    def __exit__(self, *_: object) -> None:
        """Close the session."""
        self.close()

    def close(self) -> None:
        """Close every engine that the session loaded and drop its caches; it cannot be used afterwards."""
        with self._lock:
            self._closed = True
            engines, self._engines = list(self._engines.values()), {}
        self._prepared.clear()
        self.models = ModelCache()
        with ExitStack() as stack:
            for engine in engines:
                stack.callback(engine.close)

    def _check_open(self) -> None:
        if self._closed:
            raise VortexError("The session is closed. Open another one: with vortex.Session() as session.")

    @property
    def prepared_count(self) -> int:
        """How many prepared portraits are in memory."""
        return len(self._prepared)

    def engine(self, options: EngineOptions) -> tuple[Engine[Any], tuple[str, ...]]:
        """Return the engine that the options name, loaded at the first call, and notes on the choice of auto.

        Raises:
            InputError: an unknown engine, or a device or quality that it does not offer.
            EngineError, WeightsError, MissingExtraError: it cannot run here; the message says why.
            VortexError: the session is closed.
        """
        self._check_open()
        if self._given_engine is not None:
            return self._given_engine, ()
        spec, notes = resolve_engine(options.engine, options.device)
        check_engine_options(spec, options.device, options.quality)
        with self._lock:
            self._check_open()
            key = (spec.name, options.device)
            if key not in self._engines:
                self._engines[key] = spec.load(options.device)
            return self._engines[key], notes

    def engine_name(self, options: EngineOptions) -> str:
        """Return the name of the engine that the options mean, without loading it; InputError: unknown."""
        if self._given_engine is not None:
            return self._given_engine.name
        return resolve_engine(options.engine, options.device)[0].name

    @contextmanager
    def speech_engine(self, name: str) -> Iterator[SpeechEngine]:
        """Yield the speech engine called ``name``, loaded at the first use.

        Raises:
            InputError: an unknown name.
            MissingExtraError, WeightsError, EngineError, OutOfMemoryError: it cannot run here.
        """
        self._check_open()
        spec = find_speech_engine(name)
        with self.models.use(spec.name, spec.memory_bytes, spec.load) as engine:
            yield engine

    def motion_model(self, options: RenderOptions) -> MotionModel | None:
        """Return the learned model that the options name, to move a face on the engine's device, or None.

        Raises:
            InputError: an unknown name.
            MissingExtraError, WeightsError: it cannot run here; the message says what to do.
        """
        spec = find_audio_motion(options.audio_motion)
        if spec is None:
            return None
        engine, _ = self.engine(options)
        device = engine.device if engine.device.startswith("cuda") else "cpu"
        use = partial(
            self.models.use,
            f"{spec.name} on {device}",
            spec.memory_bytes,
            partial(spec.load, device),
            device=device.split(":")[0],
        )
        return MotionModel(use, keypoints=captures(engine.name))

    def prepare(
        self,
        portrait: Callable[[], Portrait],
        key: Hashable | None,
        options: FrameOptions,
        clock: StageClock | None = None,
    ) -> PreparedPortrait[Any]:
        """Return a portrait as the engine prepared it, from the cache if it is there.

        ``portrait`` is called if it is not; ``key`` identifies it, None keeps it out of the cache. Where
        ``portrait`` refuses pictures, the key has to say which ones.
        """
        clock = clock or StageClock()
        engine, _ = self.engine(options)

        def make() -> PreparedPortrait[Any]:
            with clock.stage("portrait"):
                face = portrait()
            notes, scene, paste_back = face.notes, None, options.paste_back
            with clock.stage("prepare"):
                if has_scene(options):
                    moves_matte = isinstance(engine, MattingEngine)
                    face, scene = stage_portrait(face, options, moves_matte=moves_matte)
                    paste_back = True
                prepared = engine.prepare(face, size_px=options.size_px, paste_back=paste_back)
            without_pixels = replace(face, image=face.image[:0, :0])
            return PreparedPortrait(prepared, without_pixels, notes, scene)

        if key is None:
            return make()
        return self._prepared.get(
            (key, engine.name, engine.device, options.size_px, options.paste_back, *scene_key(options)), make
        )

    def prepare_source(
        self, source: PortraitSource, options: FrameOptions, clock: StageClock | None = None
    ) -> PreparedPortrait[Any]:
        """Load a picture, find its face, and return it prepared; cached by :func:`source_key`.

        Raises:
            ImageError, NoFaceError: see :func:`vortex.face.portrait.load_portrait`.
        """
        key = source_key(source)
        return self.prepare(
            lambda: load_portrait(source, force_face=options.force_face, face=options.face),
            None if key is None else (key, options.force_face, options.face),
            options,
            clock,
        )

    def forget(self, key: Hashable) -> None:
        """Drop a portrait from the cache, at every size."""
        self._prepared.discard(lambda entry: entry[0] == key)

    def render(
        self,
        portrait: Callable[[StageClock], PreparedPortrait[Any]],
        perform: Callable[[StageClock], Performance],
        out: str | Path,
        options: RenderOptions | DriveOptions,
        *,
        part: Path | None = None,
        clock: StageClock | None = None,
        on_frame: FrameCallback | None = None,
    ) -> RenderReport:
        """Render one video of a portrait and a performance that are loaded at the same time, in two threads.

        ``portrait(clock)`` usually calls :meth:`prepare`, and ``perform(clock)`` a function of
        :mod:`vortex.performance`; see :func:`vortex.render.render_video`.

        Raises:
            InputError: see :func:`check_video_file` and :meth:`engine`.
            MissingExtraError, WeightsError: see :meth:`motion_model`.
        """
        clock, path = clock or StageClock(), Path(out)
        check_video_file(path, options)
        if isinstance(options, RenderOptions):
            check_motion(options)
        with clock.stage("engine"):
            engine, notes = self.engine(options)

        def prepared() -> PreparedPortrait[Any]:
            face = portrait(clock)
            return replace(face, notes=notes + face.notes)

        return render_video(
            engine,
            prepared,
            lambda: perform(clock),
            path,
            options,
            part=part,
            clock=clock,
            on_frame=on_frame,
        )

    def animate(
        self,
        portrait: PortraitSource,
        speech: SoundSource,
        out: str | Path,
        options: AnimateOptions,
        *,
        force: bool = False,
        on_progress: ProgressCallback | None = None,
    ) -> RenderReport:
        """Make a talking video of a picture or a clip, and a sound; see :func:`vortex.animate`."""
        check_captions(options.captions, options.transcript)
        _check_output(out, force, portrait, speech, captions=options.captions)

        def load() -> SpeechInput:
            audio, stereo = load_sound(speech, SOUND_HZ)
            return SpeechInput(audio, options.transcript, stereo=stereo)

        said = source_key(speech)
        return self._render_speech(portrait, load, said, out, options, StageClock(on_progress))

    def _render_speech(
        self,
        portrait: PortraitSource,
        load: Callable[[], SpeechInput],
        said: Hashable | None,
        out: str | Path,
        options: AnimateOptions | SpeakOptions,
        clock: StageClock,
    ) -> RenderReport:
        """Let a picture or a clip say what ``load`` returns, which ``said`` identifies, if anything does."""
        if is_clip(portrait):
            return self.revoice(Path(cast(str, portrait)), load, out, options, clock=clock)
        check_picture_options(options)
        seed = _DrawnSeed(options, (os.path.abspath(out), source_key(portrait), said))
        report = self.render(
            lambda clock: self.prepare_source(portrait, options, clock),
            lambda clock: perform_speech(
                load, seed.options(self.engine(options)[0]), clock, self.motion_model(options)
            ),
            out,
            options,
            clock=clock,
        )
        seed.forget()
        return report

    def revoice(
        self,
        clip: Path,
        load: Callable[[], SpeechInput],
        out: str | Path,
        options: AnimateOptions | SpeakOptions,
        *,
        part: Path | None = None,
        clock: StageClock | None = None,
        on_frame: FrameCallback | None = None,
        max_clip_s: float = MAX_DURATION_S,
    ) -> RenderReport:
        """Give a clip other words; ``load`` returns the sound. See :func:`vortex.render.render_video`.

        Of a clip whose rest is shown, at most ``max_clip_s`` seconds are.

        Raises:
            InputError: the clip cannot be read, or an option that clips do not have.
            NoFaceError: see :func:`vortex.revoice.clip.read_clip`.
        """
        clock = clock or StageClock()
        check_video_file(Path(out), options)
        check_clip_options(self.engine_name(options), options, on_cluster=self._given_engine is not None)
        model = self.motion_model(options)
        speech = load()
        read = read_clip(clip, clip_length_s(speech.audio, options, max_clip_s), clock, options.face)
        paced = replace(options, fps=read.fps)
        speech = replace(speech, audio=with_rest(speech.audio, read, options))
        return render_video(
            ClipRenderer(),
            lambda: PreparedPortrait(read, read.face(), read.notes),
            lambda: with_own_sound(
                perform_speech(lambda: speech, paced, clock, model), read, options.keep_sound_db
            ),
            Path(out),
            options,
            part=part,
            clock=clock,
            on_frame=on_frame,
        )

    def drive(
        self,
        portrait: PortraitSource,
        driving: str | os.PathLike[str],
        out: str | Path,
        options: DriveOptions,
        *,
        force: bool = False,
        on_progress: ProgressCallback | None = None,
    ) -> RenderReport:
        """Make a video of a picture that moves as the face of a driver; see :func:`vortex.drive`."""
        _check_output(out, force, portrait, driving)
        driver = open_driver(Path(driving))  # refuses what cannot drive before any work starts
        name = self.engine_name(options)
        check_drive(name, options)
        if captures(name) and isinstance(portrait, str | os.PathLike) and is_video(Path(portrait)):
            return self._drive_video(Path(portrait), driver, out, options, StageClock(on_progress))

        def perform(clock: StageClock) -> Performance:
            return perform_driver(driver, self.engine(options)[0], options, clock)

        return self.render(
            lambda clock: self.prepare_source(portrait, options, clock),
            perform,
            out,
            options,
            clock=StageClock(on_progress),
        )

    def _drive_video(
        self, source: Path, driver: Driver, out: str | Path, options: DriveOptions, clock: StageClock
    ) -> RenderReport:
        """Make a video of a video, whose face takes the motion of a driver."""
        video, path = probe_video(source), Path(out)
        check_source_video(video, options)
        check_video_file(path, options)
        with clock.stage("engine"):
            engine, notes = self.engine(options)
        reader = cast(CapturingEngine[Any], engine)
        film = read_source_video(video, reader, options, clock)
        return render_video(
            SourceVideoEngine(reader),
            lambda: PreparedPortrait(film, film.still, notes),
            lambda: perform_on_video(film, driver, reader, options, clock),
            path,
            options,
            clock=clock,
        )

    def capture(
        self,
        driving: str | os.PathLike[str],
        out: str | Path,
        options: CaptureOptions,
        *,
        force: bool = False,
        on_progress: ProgressCallback | None = None,
    ) -> CaptureReport:
        """Make a motion template of a driver; see :func:`vortex.capture`."""
        driver, path = open_driver(Path(driving)), Path(out)
        check_new_file(path, "Template", force=force, inputs=(driving,))
        check_template_path(path)
        wanted = EngineOptions(engine=options.engine, device=options.device)
        check_captures(self.engine_name(wanted))
        clock = StageClock(on_progress)
        with clock.stage("engine"):
            engine = cast(CapturingEngine[Any], self.engine(wanted)[0])
        track, notes = capture_driver(driver, engine, options.duration_s, clock)
        save_template(path, track)
        return CaptureReport(path, len(track), track.fps, engine.name, notes)

    def speak(
        self,
        portrait: PortraitSource,
        text: str,
        out: str | Path,
        options: SpeakOptions,
        *,
        force: bool = False,
        on_progress: ProgressCallback | None = None,
    ) -> tuple[RenderReport, Speech]:
        """Make a video in which a portrait speaks a text; see :func:`vortex.speak`."""
        check_captions(options.captions, text)
        _check_output(out, force, portrait, captions=options.captions)
        split_sentences(text)  # refuses a text without words before any work starts
        spoken: list[Speech] = []

        def speech() -> SpeechInput:
            spoken.append(self.say(text, options, options.preset, on_progress=on_progress))
            said = spoken[0]
            return SpeechInput(said.audio, said.words, said.phonemes, said.notes, written=said.written)

        report = self._render_speech(portrait, speech, text, out, options, StageClock(on_progress))
        return report, spoken[0]

    def say(
        self,
        text: str,
        options: SpeechOptions,
        preset: PresetLike = "neutral",
        *,
        max_duration_s: float = MAX_DURATION_S,
        on_progress: ProgressCallback | None = None,
    ) -> Speech:
        """Speak a text; see :func:`vortex.speech.synthesis.synthesize`."""
        if isinstance(options, SayOptions) and options.preview:
            text = shorten(split_sentences(text)[0].text, PREVIEW_CHARACTERS, placeholder="")
        with self.speech_engine(options.speech_engine) as engine:
            return synthesize(
                text,
                engine,
                voice=options.voice,
                speed=options.speed,
                pause=options.pause,
                preset=preset,
                max_duration_s=max_duration_s,
                on_progress=on_progress,
            )

    def open_live_face(self, portrait: PortraitSource, options: LiveOptions) -> LiveFace:
        """Return a face that follows a voice as it arrives; see :func:`vortex.open_live_face`.

        The session must stay open as long as the face is used.
        """
        engine, _ = self.engine(options)
        return LiveFace(engine, self.prepare_source(portrait, options).prepared, options)


class _DrawnSeed:
    """The seed of a video that gets none: drawn, and kept until the video is done where that takes long.

    Who makes the same video again after it was stopped gets the same seed, without which it could not go on.
    ``video`` is what identifies it, beside its options.
    """

    def __init__(self, options: RenderOptions, video: tuple[object, ...]) -> None:
        self._options, self._video = options, video
        self._kept: tuple[ResultFolder, str] | None = None

    def options(self, engine: Engine[Any]) -> RenderOptions:
        """Return the options with a seed, for an engine that is loaded."""
        options = self._options
        results = engine.results if isinstance(engine, LastingEngine) else None
        if results is None or options.seed is not None or None in self._video:
            return options.with_seed()
        identity = (self._video, sorted(options.as_json().items()))
        name = hashlib.sha256(repr(identity).encode()).hexdigest()
        drawn = results.read(name)
        options = options.with_seed() if drawn is None else replace(options, seed=int(drawn))
        results.write(name, str(options.seed).encode())
        self._kept = results, name
        return options

    def forget(self) -> None:
        """Forget the seed, because the video is done."""
        if self._kept is not None:
            results, name = self._kept
            results.remove([name])


def _check_output(out: str | Path, force: bool, *inputs: object, captions: str = NONE) -> None:
    """Refuse a video that cannot be written, or would replace a file, before any work starts."""
    if Path(out) != PIPE:
        check_new_file(Path(out), "Output", force=force, inputs=inputs)
    check_video_path(Path(out))
    for path in caption_paths(Path(out), captions):
        check_new_file(path, "Captions", force=force, inputs=inputs)


def check_video_file(path: Path, options: RenderOptions | DriveOptions) -> None:
    """Raise InputError, before any work starts, if a video of these options cannot be written to ``path``."""
    check_video_path(path)
    compression = Compression(options.crf, options.bitrate_kbps)
    check_format(path, compression, transparent=options.background.kind == "none")
    check_framing(options, options.paste_back)
    if options.fps is not None:
        check_rate(path, options.fps)


def check_motion(options: RenderOptions) -> None:
    """Raise an error, before any work starts, if the motion that the options name cannot be made here.

    Raises:
        InputError: a region of a learned motion, but no model.
        MissingExtraError, WeightsError: see :meth:`Session.motion_model`.
    """
    spec, region = find_audio_motion(options.audio_motion), options.audio_motion_region
    if spec is not None:
        spec.check()
    elif region != default_of(RenderOptions, "audio_motion_region"):
        raise InputError(
            f"audio_motion_region is {region!r}, which has no effect on the motion of visemes. "
            "Leave it out, or give an audio_motion such as joyvasa."
        )


def source_key(source: PortraitSource | SoundSource) -> Hashable | None:
    """Return what identifies a picture or a sound: a file's path, time and size, or a hash of the content.

    A file that changes on disk becomes another one. Open files, PIL images and samples with a rate have none.
    """
    if isinstance(source, str | os.PathLike):
        try:
            state = os.stat(source)
        except OSError:
            return ("missing", os.fspath(source))
        return ("file", os.path.abspath(source), state.st_mtime_ns, state.st_size)
    if isinstance(source, bytes):
        return ("bytes", hashlib.sha256(source).hexdigest())
    if isinstance(source, np.ndarray):
        return ("array", source.shape, hashlib.sha256(np.ascontiguousarray(source).tobytes()).hexdigest())
    return None


def scene_key(options: FrameOptions) -> tuple[Hashable, ...]:
    """Return what identifies the frame around a portrait, and what is behind the person."""
    if not isinstance(options, FramingOptions):
        return ()
    shown = options.background
    picture = source_key(shown.value) if shown.kind == "picture" else None
    return options.aspect, options.zoom, options.position, shown, picture


@contextmanager
def session_or_new(given: Session | None) -> Iterator[Session]:
    """Yield the given session, or a new one that is closed at the end of the block."""
    if given is not None:
        yield given
        return
    with Session() as session:
        yield session
