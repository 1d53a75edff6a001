"""Rendering on a Ray cluster: many videos at the same time, or one long video on many machines.

Pictures, sounds and frames travel through Ray, so the machines need no common folder. Each needs this version
of vortex, with what the engine requires.
"""

from __future__ import annotations

import secrets
import socket
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

import numpy as np

from vortex.engines.base import CroppedFace
from vortex.engines.registry import check_engine_options, resolve_engine
from vortex.errors import EngineError, InputError, MissingExtraError, VortexError, in_one_line
from vortex.media.containers import DEFAULT_CONTAINER
from vortex.motion.transfer import Motion, joined_keypoints
from vortex.options import (
    AnimateOptions,
    DriveOptions,
    EngineOptions,
    FrameOptions,
    SpeakOptions,
    VideoOptions,
)
from vortex.session import Session
from vortex.types import Frame, KeypointTrack, Portrait
from vortex.version import __version__

if TYPE_CHECKING:
    from vortex.engines.base import CapturingEngine

Item = TypeVar("Item")

SEGMENT_FRAMES = 48
"""Frames that an actor renders at a time: whole chunks of the engines, so that frames come out the same."""
TASKS_AHEAD = 2
"""Tasks queued at each actor, so that none waits for the next one."""
CONNECT_TIMEOUT_S = 5.0
MAX_RESTARTS = 3
MAX_TASK_RETRIES = 1
"""How often Ray repeats a task whose actor died."""


@dataclass(frozen=True, slots=True)
class DrivingVideo:
    """The bytes of a video that drives a portrait, and the suffix of its file."""

    content: bytes
    suffix: str


VideoInput = tuple[bytes, bytes | str | DrivingVideo, Mapping[str, Any]]
"""The bytes of a picture; those of a sound, a text, or a driving video; and the options as JSON values."""


@dataclass(frozen=True, slots=True)
class ActorResult:
    """A video that an actor made: the bytes of the file and its number of frames; or why there is none."""

    content: bytes
    frames: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ClusterPortrait:
    """A portrait that every actor can read: Ray's reference to it, and the size of its frames."""

    shared: Any
    size_px: tuple[int, int]


class Cluster(AbstractContextManager["Cluster"]):
    """Actors with one session each: as many as there are GPUs, or CPUs for an engine that needs no GPU.

    It is an engine itself: the actors render its frames, which arrive in order. On machines of one kind they
    equal those of the actors' engine, bit for bit. Use it as a context manager;
    a cluster that was started here ends with it, a joined one stays up.

    Raises MissingExtraError without Ray; InputError if the cluster cannot be joined, or lacks what the engine
    needs; EngineError if an actor cannot start, or runs another version.
    """

    device = "cpu"
    """Where the frames are when they arrive."""

    def __init__(self, address: str, options: EngineOptions, *, actors: int | None = None) -> None:
        """``address``: "local" starts a cluster on this machine; "auto" or ray://HOST:PORT joins one."""
        try:
            import ray
        except ImportError as exc:
            raise MissingExtraError(
                "A cluster needs Ray, which is not installed. Run: pip install 'vortex-portrait[cluster]'"
            ) from exc
        self._ray: Any = ray
        spec, _ = resolve_engine(options.engine, options.device)
        check_engine_options(spec, options.device, options.quality)
        self.name = spec.name
        self._join(address)
        kind = "GPU" if spec.needs_gpu(options.device) else "CPU"
        available = int(self._ray.cluster_resources().get(kind, 0))
        self.actor_count = available if actors is None else actors
        if not 1 <= self.actor_count <= available:
            self.close()
            raise InputError(
                f"The cluster has {available} {kind}s for {spec.name}, and {self.actor_count} actors were "
                f"asked for. Give at least 1 and at most as many as there are {kind}s."
            )
        settings = {"max_restarts": MAX_RESTARTS, "max_task_retries": MAX_TASK_RETRIES}
        actor = self._ray.remote(**settings, **{f"num_{kind.lower()}s": 1})(_Actor)
        given = replace(options.part(EngineOptions), engine=spec.name).as_json()
        self._actors = [actor.remote(given) for _ in range(self.actor_count)]
        self._check_versions()

    def _join(self, address: str) -> None:
        settings = {"include_dashboard": False} if address == "local" else {}
        try:
            if address not in ("local", "auto"):
                # Connect once, because Ray itself would try for minutes.
                parts = urlsplit(address if "://" in address else f"ray://{address}")
                if parts.hostname is None or parts.port is None:
                    raise ValueError("it has no port")
                socket.create_connection((parts.hostname, parts.port), CONNECT_TIMEOUT_S).close()
            self._ray.init(address, log_to_driver=False, logging_level="error", **settings)
        except (ConnectionError, ValueError, RuntimeError, OSError) as exc:
            reason = in_one_line(exc)[:200]
            raise InputError(
                f"No Ray cluster at {address!r} ({reason}). Start one (ray start --head), or give 'local'."
            ) from exc

    def _check_versions(self) -> None:
        """Make sure that every actor runs, with this version of vortex."""
        try:
            versions = set(self._get([actor.version.remote() for actor in self._actors]))
            if versions != {__version__}:
                raise EngineError(
                    f"The cluster has vortex {', '.join(sorted(versions))}, this machine {__version__}. "
                    "Install the same version on all machines."
                )
        except VortexError:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        """Close the cluster."""
        self.close()

    def close(self) -> None:
        """End the actors and leave the cluster."""
        self._ray.shutdown()

    def _get(self, references: Any) -> Any:
        """Return what actors returned; an error of vortex that an actor raised keeps its message."""
        try:
            return self._ray.get(references)
        except self._ray.exceptions.RayError as exc:
            cause = getattr(exc, "cause", None)
            if isinstance(cause, VortexError):
                raise cause from exc
            said = in_one_line(cause or exc)[-300:]
            raise EngineError(f"An actor of the cluster failed ({said}). Look at the logs of Ray.") from exc

    def prepare(self, portrait: Portrait, *, size_px: int = 512, paste_back: bool = False) -> ClusterPortrait:
        """Have one actor prepare the portrait; each other one does so before its first frames."""
        shared = self._ray.put(_SharedPortrait(secrets.token_hex(8), portrait, size_px, paste_back))
        return ClusterPortrait(shared, self._get(self._actors[0].size_px.remote(shared)))

    def capture(self, faces: Iterable[CroppedFace], fps: Fraction) -> KeypointTrack:
        """Have one actor read the keypoints of a driver's faces."""
        remaining, tracks = iter(faces), []
        while part := list(islice(remaining, SEGMENT_FRAMES)):
            tracks.append(self._get(self._actors[0].capture.remote(part, fps)))
        return joined_keypoints(tracks)

    def iter_frames(
        self, prepared: ClusterPortrait, motion: Motion, *, quality: str = "full"
    ) -> Iterator[Frame]:
        """Yield one frame for each row of ``motion``.

        Raises InputError for quality "fast", which derives frames from each other; VortexError if one fails.
        """
        if quality != "full":
            raise InputError(
                f"quality is {quality!r}, which derives frames from each other; actors render them apart. "
                "Give quality 'full', or render without a cluster."
            )
        pending: deque[Any] = deque()
        for turn, start in enumerate(range(0, len(motion), SEGMENT_FRAMES)):
            if len(pending) == TASKS_AHEAD * self.actor_count:
                yield from self._frames(pending.popleft())
            actor = self._actors[turn % self.actor_count]
            pending.append(actor.frames.remote(prepared.shared, motion.part(start, SEGMENT_FRAMES)))
        while pending:
            yield from self._frames(pending.popleft())

    def _frames(self, reference: Any) -> Iterator[Frame]:
        # Ray's arrays are read-only and share memory; the caller owns the frames it gets.
        return (frame.copy() for frame in self._get(reference))

    def notes(self, prepared: ClusterPortrait, motion: Motion, *, quality: str = "full") -> tuple[str, ...]:
        """Return how many actors rendered."""
        return (f"rendered by {self.actor_count} actors of a Ray cluster",)

    def render_videos(self, items: Iterable[tuple[Item, VideoInput]]) -> Iterator[tuple[Item, ActorResult]]:
        """Yield each item with its video when it is finished; the death of an actor fails its item only."""
        source = iter(items)
        idle = deque(self._actors)
        running: dict[Any, tuple[Any, Item]] = {}
        while True:
            while idle and (entry := next(source, None)) is not None:
                actor, (item, given) = idle.popleft(), entry
                running[actor.video.remote(*given)] = (actor, item)
            if not running:
                return
            (reference,), _ = self._ray.wait(list(running), num_returns=1)
            actor, item = running.pop(reference)
            idle.append(actor)
            try:
                result = self._get(reference)
            except VortexError as exc:
                result = ActorResult(b"", 0, str(exc))
            yield item, result


@dataclass(frozen=True, slots=True, eq=False)
class _SharedPortrait:
    """A portrait sent to the actors, with a token by which they recognise it."""

    token: str
    portrait: Portrait
    size_px: int
    paste_back: bool


class _Actor:
    """What runs on a machine of the cluster: one session, which loads the engine once."""

    def __init__(self, engine_options: Mapping[str, Any]) -> None:
        self._options = EngineOptions.parse(**engine_options)
        self._session = Session()
        self._engine, _ = self._session.engine(self._options)

    def version(self) -> str:
        return __version__

    def size_px(self, shared: _SharedPortrait) -> tuple[int, int]:
        size_px: tuple[int, int] = self._prepared(shared).size_px
        return size_px

    def capture(self, faces: list[CroppedFace], fps: Fraction) -> KeypointTrack:
        return cast("CapturingEngine[Any]", self._engine).capture(faces, fps)

    def frames(self, shared: _SharedPortrait, motion: Motion) -> Frame:
        """Return (T, H, W, 3) uint8: all frames of a segment."""
        return np.stack(list(self._engine.iter_frames(self._prepared(shared), motion)))

    def _prepared(self, shared: _SharedPortrait) -> Any:
        options = FrameOptions.parse(
            **self._options.as_json(), size_px=shared.size_px, paste_back=shared.paste_back
        )
        return self._session.prepare(lambda: shared.portrait, ("shared", shared.token), options).prepared

    def video(
        self, picture: bytes, source: bytes | str | DrivingVideo, options: Mapping[str, Any]
    ) -> ActorResult:
        """Render a video of inputs that were sent as bytes; ``source`` is as in :data:`VideoInput`."""
        given = {**options, **self._options.as_json(), "quality": options["quality"]}
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / f"video{DEFAULT_CONTAINER.suffix}"
            try:
                if isinstance(source, DrivingVideo):
                    driving = Path(folder) / f"driving{source.suffix}"
                    driving.write_bytes(source.content)
                    report = self._session.drive(picture, driving, out, DriveOptions.parse(**given))
                elif isinstance(source, str):
                    spoken = VideoOptions.parse(**given).part(SpeakOptions)
                    report, _ = self._session.speak(picture, source, out, spoken)
                else:
                    heard = VideoOptions.parse(**given).part(AnimateOptions)
                    report = self._session.animate(picture, source, out, heard)
            except (VortexError, OSError, MemoryError) as exc:
                return ActorResult(b"", 0, in_one_line(exc))
            return ActorResult(out.read_bytes(), report.frames)
