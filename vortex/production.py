"""From a line of text to a checked video: speech, portrait, video and verification as one production."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vortex.check import SyncReport, check_video
from vortex.encoder import check_video_path
from vortex.errors import InputError, StageTimeoutError, VortexError
from vortex.extras.clip import ClipEnsemble, ClipLimits, ClipReport, keyframe_indices, load_clip
from vortex.extras.image import TRIES, ImageSource, check_device, check_prompt, find_portrait, load_flux
from vortex.extras.residency import MODEL_BYTES, ModelRegistry
from vortex.extras.speech import (
    DEFAULT_VOICE,
    SPEECH_ENGINES,
    Speech,
    SpeechEngine,
    check_speed,
    load_speech_engine,
    synthesize,
)
from vortex.extras.text import split_sentences
from vortex.motion.presets import PresetSequence
from vortex.pipeline import StageClock, Voiced, animate, report_as_json
from vortex.portrait import load_portrait
from vortex.types import Frame, Hook, Portrait, RenderReport, parse_seed
from vortex.watchdog import Check, StoppedError, Watchdog

MAX_OFFSET_FRAMES = 1.0
"""A produced video whose lips are further off than this is complained of."""
SPEECH_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Order:
    """What shall be made.

    ``text`` is spoken, by the portrait that ``prompt`` describes or that the picture file ``image`` shows:
    give one of the two, or both, to have the picture compared with the prompt. ``seed`` decides the picture
    and the idle motion. The rest are arguments of :func:`vortex.extras.speech.synthesize` and
    :func:`vortex.pipeline.animate_file`.
    """

    text: str
    prompt: str | None = None
    image: Path | None = None
    voice: str = DEFAULT_VOICE
    speed: float = 1.0
    speech_engine: str = "kokoro"
    engine: str = "mesh"
    preset: PresetSequence = "neutral"
    fps: float | str | Fraction = 24
    size_px: int = 512
    duration_s: float | None = None
    seed: int | None = None
    paste_back: bool = False
    device: str | None = None
    quality: str = "full"
    mark: bool = True
    verify_prompt: bool = True
    verify_lips: bool = True
    clip_limits: ClipLimits = field(default_factory=ClipLimits)


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that a stage may take, and all of them together; None is no deadline."""

    deadline_s: float | None = None
    speech_s: float = 600.0
    image_s: float = 900.0
    verify_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Makers:
    """What loads the models; replace one to use another engine for its stage.

    ``image_device`` and ``image_bytes`` tell where the source of pictures computes, and with how much memory.
    """

    speech: Callable[[str], SpeechEngine] = load_speech_engine
    images: Callable[[], ImageSource] = load_flux
    clip: Callable[[], ClipEnsemble] = load_clip
    image_device: str = "cuda"
    image_bytes: int = MODEL_BYTES["flux-schnell"]


@dataclass(frozen=True, slots=True)
class Production:
    """What was made and how well: the report of :func:`produce`.

    ``spans_s`` has the start and end of each stage; ``complaints`` is empty if the verification passed.
    """

    video: RenderReport
    speech: Speech
    prompt: str | None
    image_seed: int | None
    clip: ClipReport | None
    sync: SyncReport | None
    spans_s: dict[str, tuple[float, float]]
    notes: tuple[str, ...]
    complaints: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the report as values that JSON can hold."""
        clip = self.clip and {
            "score": self.clip.score,
            "scores": {name: list(values) for name, values in self.clip.scores.items()},
            "ensemble": list(self.clip.ensemble),
            "keyframes": list(self.clip.keyframes),
            "outliers": list(self.clip.outliers),
            "limits": asdict(self.clip.limits),
            "embedding": [round(float(value), 6) for value in self.clip.embedding],
        }
        total_s = max(end_s for _, end_s in self.spans_s.values())
        return {
            "video": report_as_json(self.video, total_s),
            "speech": {
                "engine": self.speech.engine,
                "voice": self.speech.voice,
                "words": self.speech.words,
                "duration_s": float(self.speech.audio.duration_s),
                "phonemes": [asdict(span) for span in self.speech.phonemes],
            },
            "image": {"prompt": self.prompt, "seed": self.image_seed},
            "clip": clip,
            "sync": self.sync and {**asdict(self.sync), "fps": str(self.sync.fps)},
            "stages": {
                name: {"start_s": round(start_s, 3), "end_s": round(end_s, 3)}
                for name, (start_s, end_s) in sorted(self.spans_s.items(), key=lambda item: item[1])
            },
            "notes": list(self.notes),
            "complaints": list(self.complaints),
        }


def produce(
    order: Order,
    out: str | Path,
    *,
    limits: Limits | None = None,
    makers: Makers | None = None,
    registry: ModelRegistry | None = None,
    hook: Hook | None = None,
) -> Production:
    """Make a talking video from a text and a portrait, verify it, and report on it.

    Speech and picture are made side by side; rendering starts when both are there, and CLIP reads its
    keyframes while the rest is rendered. A speech stage that fails is tried once more. ``registry`` keeps the
    models between productions. The video appears at ``out`` when all is done; on failure, or when ``hook``
    raises, nothing is left.

    Raises:
        InputError: bad input or argument; nothing was started.
        StageTimeoutError: a stage, or the whole, took longer than its limit.
        VortexError: what a stage cannot do here; the message says what to do.
    """
    out, limits, makers = Path(out), limits or Limits(), makers or Makers()
    order = _checked(order, out)
    if order.image is None and makers.images is load_flux:
        check_device(makers.image_device)
    stage = _Stages(order, limits, makers, registry or ModelRegistry(), hook)
    # a name of its own: the video takes its place when it is verified
    part = out.with_name(f".vortex-{os.getpid()}-{threading.get_ident()}.mp4")
    try:
        with stage.keyframes() as keyframes:
            video = animate(
                stage.portrait,
                stage.voice,
                part,
                engine=order.engine,
                preset=order.preset,
                fps=order.fps,
                size_px=order.size_px,
                duration_s=order.duration_s,
                seed=order.seed,
                paste_back=order.paste_back,
                device=order.device,
                quality=order.quality,
                mark=order.mark,
                clock=stage.clock,
                watch=keyframes.watch if keyframes else None,
            )
            sync = stage.checked_lips(part) if order.verify_lips else None
            clip = stage.compared(keyframes) if keyframes else None
        production = stage.report(replace(video, path=out), clip, sync)
        os.replace(part, out)
    except BaseException as exc:
        stage.watchdog.stop(exc)
        if isinstance(exc, StoppedError) and stage.watchdog.failure is not None:
            # the stage was stopped because another one failed: that failure is the news
            raise stage.watchdog.failure from None
        raise
    finally:
        part.unlink(missing_ok=True)
    return production


def _checked(order: Order, out: Path) -> Order:
    """Return the order with its seed, after everything that can be checked before work starts.

    Raises:
        InputError: see there.
    """
    check_video_path(out)
    split_sentences(order.text)
    check_speed(order.speed)
    if order.speech_engine not in SPEECH_ENGINES:
        raise InputError(f"Unknown speech engine {order.speech_engine!r}; vortex has {SPEECH_ENGINES}.")
    if order.image is None and order.prompt is None:
        raise InputError("Give the portrait: describe it with --prompt, or give a picture file with --image.")
    if order.prompt is not None:
        check_prompt(order.prompt)
    if order.image is not None and not order.image.is_file():
        raise InputError(f"Picture '{order.image}' does not exist. Give a picture file with a face.")
    return replace(order, seed=parse_seed(order.seed))


class _Stages:
    """The stages of one production, and what they share."""

    def __init__(
        self, order: Order, limits: Limits, makers: Makers, registry: ModelRegistry, hook: Hook | None
    ) -> None:
        self.order, self.limits, self.makers, self.registry = order, limits, makers, registry
        self.watchdog = Watchdog(limits.deadline_s)
        self._user_hook = hook
        self.clock = StageClock(self._hook)
        self.notes: list[str] = []
        self.spoken: Speech | None = None
        self.image_seed: int | None = None

    def _hook(self, stage: str, completed: int, total: int) -> None:
        self.watchdog.check()
        if self._user_hook:
            self._user_hook(stage, completed, total)

    # ---------------------------------------- speech

    def voice(self) -> Voiced:
        """Speak the text; a failure that a second attempt may cure gets one."""
        try:
            for attempt in range(1, SPEECH_ATTEMPTS + 1):
                try:
                    self.spoken = self.watchdog.run("speech", self.limits.speech_s, self._speak)
                    break
                except InputError:
                    raise
                except Exception as exc:
                    if attempt == SPEECH_ATTEMPTS or not _may_pass(exc):
                        raise
                    self.watchdog.check()
                    self.notes.append(f"speech failed once ({exc}) and was tried again")
        except BaseException as exc:
            # the picture need not be finished for a video that cannot be
            self.watchdog.stop(exc)
            raise
        assert self.spoken is not None
        return Voiced(self.spoken.audio, self.spoken.words, self.spoken.phonemes)

    def _speak(self, check: Check) -> Speech:
        order = self.order
        name = order.speech_engine
        with self.registry.use(name, MODEL_BYTES[name], lambda: self.makers.speech(name)) as engine:
            return synthesize(
                order.text,
                engine,
                voice=order.voice,
                speed=order.speed,
                preset=order.preset,
                hook=lambda *_: check(),
            )

    # ---------------------------------------- picture

    def portrait(self) -> Portrait:
        """Load the picture, or make one from the prompt."""
        if self.order.image is not None:
            return load_portrait(self.order.image)
        with self.clock.stage("image"):
            found, self.image_seed = self.watchdog.run("image", self.limits.image_s, self._draw)
        return found

    def _draw(self, check: Check) -> tuple[Portrait, int]:
        prompt, seed = self.order.prompt or "", self.order.seed or 0
        makers = self.makers

        def hook(stage: str, completed: int, total: int) -> None:
            check()
            self._hook(stage, completed, total)

        with self.registry.use(
            "images", makers.image_bytes, makers.images, device=makers.image_device
        ) as source:
            return find_portrait(
                lambda seed: source.make(prompt, seed=seed, hook=hook), seed, tries=TRIES, source_name=prompt
            )

    # ---------------------------------------- verification

    @contextmanager
    def keyframes(self) -> Iterator[_Keyframes | None]:
        """Lend what reads keyframes, if they are to be compared with a prompt."""
        if not self.order.verify_prompt or self.order.prompt is None:
            yield None
            return
        reader = _Keyframes(self.registry, self.makers.clip, self.watchdog, self.clock)
        try:
            yield reader
        finally:
            reader.close()

    def compared(self, keyframes: _Keyframes) -> ClipReport:
        """Wait for CLIP and return its report."""
        prompt, limits = self.order.prompt or "", self.order.clip_limits
        return self.watchdog.run("clip", self.limits.verify_s, lambda check: keyframes.report(prompt, limits))

    def checked_lips(self, video: Path) -> SyncReport:
        """Measure the lip-sync against the planned times of the sounds."""
        phonemes = self.spoken.phonemes if self.spoken else None
        with self.clock.stage("check"):
            return self.watchdog.run(
                "check", self.limits.verify_s, lambda check: check_video(video, phonemes=phonemes)[0]
            )

    def report(self, video: RenderReport, clip: ClipReport | None, sync: SyncReport | None) -> Production:
        """Return what was made."""
        assert self.spoken is not None
        complaints = [
            *(clip.complaints() if clip else ()),
            *(sync.complaints(MAX_OFFSET_FRAMES) if sync else ()),
        ]
        return Production(
            video=video,
            speech=self.spoken,
            prompt=self.order.prompt,
            image_seed=self.image_seed,
            clip=clip,
            sync=sync,
            spans_s=dict(self.clock.spans_s),
            notes=(*self.notes, *video.notes),
            complaints=tuple(complaints),
        )


def _may_pass(error: Exception) -> bool:
    """Return whether another attempt may go better: not if something is missing, or time is up."""
    return isinstance(error, StageTimeoutError) or not isinstance(error, VortexError | ImportError)


class _Keyframes:
    """Reads keyframes in a thread of its own while the others are rendered."""

    def __init__(
        self,
        registry: ModelRegistry,
        load: Callable[[], ClipEnsemble],
        watchdog: Watchdog,
        clock: StageClock,
    ) -> None:
        self._registry, self._load, self._watchdog, self._clock = registry, load, watchdog, clock
        self._began_s = 0.0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="vortex-clip")
        self._embeddings: list[tuple[int, Future[Any]]] = []

    def watch(self, index: int, total: int, frame: Frame) -> None:
        """Take a frame, if it is a keyframe, and return at once."""
        if index in keyframe_indices(total):
            # the renderer may reuse its buffer
            self._embeddings.append((index, self._worker.submit(self._embed, frame.copy())))

    def _embed(self, frame: Frame) -> Any:
        self._watchdog.check()
        self._began_s = self._began_s or self._clock.now_s()
        with self._registry.use("clip", MODEL_BYTES["clip"], self._load) as ensemble:
            embedding = ensemble.embed_frames([frame])[0]
        self._clock.add("clip", self._began_s)
        return embedding

    def report(self, prompt: str, limits: ClipLimits) -> ClipReport:
        """Wait for the keyframes and compare them with the prompt."""
        rows = np.stack([future.result() for _, future in self._embeddings])
        with self._registry.use("clip", MODEL_BYTES["clip"], self._load) as ensemble:
            return ensemble.compare(rows, [index for index, _ in self._embeddings], prompt, limits)

    def close(self) -> None:
        """Drop what is not read yet."""
        self._worker.shutdown(wait=False, cancel_futures=True)


def write_report(path: Path, production: Production) -> None:
    """Write the report as JSON; the file is whole or not there.

    Raises:
        InputError: it cannot be written.
    """
    part = path.with_name(f".vortex-{os.getpid()}-{threading.get_ident()}.json")
    try:
        part.write_text(json.dumps(production.as_json(), indent=1), encoding="utf-8")
        os.replace(part, path)
    except OSError as exc:
        raise InputError(f"Report '{path}' cannot be written ({exc.strerror}). Write elsewhere.") from exc
    finally:
        part.unlink(missing_ok=True)


def speak_file(
    portrait: str | Path,
    text: str,
    out: str | Path,
    *,
    voice: str = DEFAULT_VOICE,
    speed: float = 1.0,
    speech_engine: str = "kokoro",
    engine: str = "mesh",
    preset: PresetSequence = "neutral",
    fps: float | str | Fraction = 24,
    size_px: int = 512,
    duration_s: float | None = None,
    seed: int | None = None,
    paste_back: bool = False,
    device: str | None = None,
    quality: str = "full",
    mark: bool = True,
    hook: Hook | None = None,
) -> tuple[RenderReport, Speech]:
    """Make a video in which a portrait speaks a text; return the report and the speech.

    The lips follow the times that the speech engine itself plans for its sounds; nothing is recognised. The
    arguments, and what is raised, are those of :class:`Order` and :func:`produce`, which verifies too.
    """
    order = Order(
        text,
        image=Path(portrait),
        voice=voice,
        speed=speed,
        speech_engine=speech_engine,
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
        verify_lips=False,
    )
    production = produce(order, out, hook=hook)
    return replace(production.video, notes=production.notes), production.speech
