"""Engines on a Ray cluster: many videos at a time, or the frames of one long video, on many machines.

Nothing but memory is shared: pictures, sounds and frames travel through Ray, so that the machines need no
common folder. They need this version of vortex, with what the engine asks for.
"""

from __future__ import annotations

import secrets
import socket
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np

from vortex.engines.base import load_engine
from vortex.errors import EngineError, InputError, MissingExtraError, VortexError, in_one_line
from vortex.types import Frame, MotionTrack, Portrait
from vortex.version import __version__

Item = TypeVar("Item")

SEGMENT_FRAMES = 48
"""Frames that an actor renders at a time: whole chunks of the engines, so that frames come out the same."""
AHEAD = 2
"""Pieces of work that wait at each actor, so that none is ever idle."""
KNOCK_TIMEOUT_S = 5.0
MAX_RESTARTS = 3
MAX_TASK_RETRIES = 1
"""What an actor was doing when its machine died is done once more."""


@dataclass(frozen=True, slots=True)
class Made:
    """A video that an actor made: the bytes of the MP4 and its number of frames; or why there is none."""

    content: bytes
    frames: int
    problem: str = ""


class Cluster:
    """Actors with one engine each, as many as there are GPUs, or CPUs for an engine that needs none.

    Use as a context manager; a cluster that was started here ends with it, one that was joined goes on.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: the cluster cannot be joined, or has not what the engine needs.
    """

    def __init__(
        self,
        address: str = "local",
        *,
        engine: str = "mesh",
        device: str | None = None,
        actors: int | None = None,
    ) -> None:
        """``address``: "local" starts one on this machine; "auto" or ray://HOST:PORT joins one."""
        self._ray = _import_ray()
        self.engine_name = engine
        self._join(address)
        kind = "GPU" if engine == "liveportrait" and device in (None, "cuda") else "CPU"
        there = int(self._ray.cluster_resources().get(kind, 0))
        wanted = there if actors is None else actors
        if not 1 <= wanted <= there:
            self.close()
            raise InputError(
                f"The cluster has {there} {kind}s for {engine}, and {wanted} actors were asked for. "
                f"Give at least 1 and at most as many as there are {kind}s."
            )
        needs: dict[str, float] = {"num_gpus": 1} if kind == "GPU" else {"num_cpus": 1}
        maker = self._ray.remote(max_restarts=MAX_RESTARTS, max_task_retries=MAX_TASK_RETRIES, **needs)(
            _Maker
        )
        self._makers = [maker.remote(engine, device) for _ in range(wanted)]
        self._agree()

    def _join(self, address: str) -> None:
        quiet = {"include_dashboard": False} if address == "local" else {}
        try:
            _knock(address)
            self._ray.init(address, log_to_driver=False, logging_level="error", **quiet)
        except (ConnectionError, ValueError, RuntimeError, OSError) as exc:
            reason = in_one_line(exc)[:200]
            raise InputError(
                f"No Ray cluster at {address!r} ({reason}). Start one (ray start --head), or give 'local'."
            ) from exc

    def _agree(self) -> None:
        """Make sure that every actor is up, and of this version."""
        try:
            versions = set(self._ray.get([maker.version.remote() for maker in self._makers]))
        except self._ray.exceptions.RayError as exc:
            self.close()
            raise _as_ours(exc) from exc
        if versions != {__version__}:
            self.close()
            raise EngineError(
                f"The cluster has vortex {', '.join(sorted(versions))}, this machine {__version__}. "
                "Install the same version on all machines."
            )

    def __enter__(self) -> Cluster:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """End the actors and leave the cluster."""
        self._ray.shutdown()

    @property
    def actors(self) -> int:
        """How many work."""
        return len(self._makers)

    def engine(self) -> ClusterEngine:
        """Return an engine that renders on all actors."""
        return ClusterEngine(self)

    def in_order(self, items: Iterable[Item], submit: Callable[[Any, Item], Any]) -> Iterator[Any]:
        """Yield the result of each item, in their order, while the next ones are worked on.

        ``submit`` gives an item to an actor and returns Ray's promise of the result.

        Raises:
            VortexError: an actor failed at an item; the message says how.
        """
        waiting: deque[Any] = deque()
        source = iter(items)
        turn = 0
        while True:
            while len(waiting) < AHEAD * self.actors and (item := next(source, None)) is not None:
                waiting.append(submit(self._makers[turn % self.actors], item))
                turn += 1
            if not waiting:
                return
            try:
                result = self._ray.get(waiting.popleft())
            except self._ray.exceptions.RayError as exc:
                raise _as_ours(exc) from exc
            yield result

    def as_they_end(
        self, items: Iterable[Item], submit: Callable[[Any, Item], Any]
    ) -> Iterator[tuple[Item, Made]]:
        """Yield each item with its video as it ends; an actor that dies is a problem of its item alone."""
        source = iter(items)
        idle = deque(self._makers)
        running: dict[Any, tuple[Any, Item]] = {}
        while True:
            while idle and (item := next(source, None)) is not None:
                maker = idle.popleft()
                running[submit(maker, item)] = (maker, item)
            if not running:
                return
            (promise,), _ = self._ray.wait(list(running), num_returns=1)
            maker, item = running.pop(promise)
            idle.append(maker)
            try:
                made = self._ray.get(promise)
            except self._ray.exceptions.RayError as exc:
                made = Made(b"", 0, str(_as_ours(exc)))
            yield item, made

    def share(self, value: Any) -> Any:
        """Put a value where all actors can take it from."""
        return self._ray.put(value)


class ClusterEngine:
    """An engine whose frames are rendered by the actors of a cluster, and come back in order.

    They are those of the engine itself, bit for bit, where the machines are of one kind.
    """

    device = "cpu"
    """Where the frames are when they come back."""

    def __init__(self, cluster: Cluster) -> None:
        """The cluster stays the caller's."""
        self._cluster = cluster

    @property
    def name(self) -> str:
        """Name of the engine that the actors run."""
        return self._cluster.engine_name

    def prepare(self, portrait: Portrait, *, size_px: int = 512, paste_back: bool = False) -> ClusterPortrait:
        """Have an actor prepare the portrait; the others do when frames are asked of them."""
        shared = self._cluster.share(_Given(secrets.token_hex(8), portrait, size_px, paste_back))
        sizes = self._cluster.in_order([shared], lambda maker, given: maker.size_px.remote(given))
        return ClusterPortrait(shared, next(sizes))

    def iter_frames(self, prepared: ClusterPortrait, motion: MotionTrack) -> Iterator[Frame]:
        """Yield one frame for each row of ``motion``."""
        segments = [motion.part(at, SEGMENT_FRAMES) for at in range(0, len(motion), SEGMENT_FRAMES)]
        rendered = self._cluster.in_order(
            segments, lambda maker, segment: maker.frames.remote(prepared.shared, segment)
        )
        for frames in rendered:
            # what Ray hands out is read-only and its memory shared: frames are the caller's
            yield from (frame.copy() for frame in frames)

    def notes(self, prepared: ClusterPortrait, motion: MotionTrack) -> tuple[str, ...]:
        """Tell how many rendered."""
        return (f"rendered by {self._cluster.actors} actors of a Ray cluster",)

    def close(self) -> None:
        """Nothing to give back; the cluster is closed by whoever opened it."""


@dataclass(frozen=True, slots=True)
class ClusterPortrait:
    """A portrait that all actors can take: Ray's reference to it, and the size of its frames."""

    shared: Any
    size_px: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class _Given:
    """A portrait on its way to the actors, with a name by which they know it again."""

    token: str
    portrait: Portrait
    size_px: int
    paste_back: bool


class _Maker:
    """What runs on a machine of the cluster: one engine, and the portraits it prepared last."""

    def __init__(self, engine: str, device: str | None) -> None:
        self._engine = load_engine(engine, device=device)
        self._name, self._device = engine, device
        self._prepared: tuple[str, Any] = ("", None)

    def version(self) -> str:
        return __version__

    def size_px(self, given: _Given) -> tuple[int, int]:
        size_px: tuple[int, int] = self._prepare(given).size_px
        return size_px

    def frames(self, given: _Given, motion: MotionTrack) -> Frame:
        """Return (T, H, W, 3), all frames of a segment."""
        return np.stack(list(self._engine.iter_frames(self._prepare(given), motion)))

    def _prepare(self, given: _Given) -> Any:
        if self._prepared[0] != given.token:
            prepared = self._engine.prepare(
                given.portrait, size_px=given.size_px, paste_back=given.paste_back
            )
            self._prepared = (given.token, prepared)
        return self._prepared[1]

    def video(self, picture: bytes, speech: bytes, options: dict[str, Any]) -> Made:
        """Make a video of files that were sent as bytes."""
        from vortex.pipeline import animate_file
        from vortex.production import speak_file

        with tempfile.TemporaryDirectory() as folder:
            portrait, sound, out = (Path(folder) / name for name in ("portrait", "speech", "video.mp4"))
            portrait.write_bytes(picture)
            sound.write_bytes(speech)
            chosen = {"engine": self._name, "device": self._device, **options}
            try:
                if "text" in chosen:
                    report, _ = speak_file(portrait, chosen.pop("text"), out, **chosen)
                else:
                    report = animate_file(portrait, sound, out, **chosen)
            except (VortexError, OSError, MemoryError) as exc:
                problem = in_one_line(exc)
                return Made(b"", 0, problem.replace(str(portrait), "portrait").replace(str(sound), "speech"))
            return Made(out.read_bytes(), report.frames)


def _knock(address: str) -> None:
    """See whether anybody listens; Ray itself would ask for minutes.

    Raises:
        OSError: nobody does.
        ValueError: the address cannot be read.
    """
    if address in ("local", "auto"):
        return
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    if parts.hostname is None or parts.port is None:
        raise ValueError("it has no port")
    socket.create_connection((parts.hostname, parts.port), KNOCK_TIMEOUT_S).close()


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as exc:
        raise MissingExtraError(
            "A cluster needs Ray, which is not installed. Run: pip install 'vortex-portrait[cluster]'"
        ) from exc
    return ray


def _as_ours(error: Exception) -> VortexError:
    """Return the error of an actor as one of ours; what it raised itself keeps its message."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, VortexError):
        return cause
    said = in_one_line(cause or error)
    return EngineError(f"An actor of the cluster failed ({said[-300:]}). Look at the logs of Ray.")
