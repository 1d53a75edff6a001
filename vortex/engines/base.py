"""The interface that every engine implements, and the one place that knows their names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from vortex.errors import InputError
from vortex.types import Frame, MotionTrack, Portrait

ENGINES: tuple[str, ...] = ("mesh", "liveportrait")


class Prepared(Protocol):
    """What an engine knows about one portrait: immutable, made once, shared by any number of threads."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the frames, both even."""
        ...


class Engine(Protocol):
    """Turns a portrait and a motion into frames. Safe to call from many threads at once."""

    @property
    def name(self) -> str:
        """One of :data:`ENGINES`."""
        ...

    @property
    def device(self) -> str:
        """Where frames are made: "cpu", or a GPU such as "cuda:0"."""
        ...

    def prepare(self, portrait: Portrait, *, size_px: int = 512, paste_back: bool = False) -> Any:
        """Do all work that depends on the portrait only.

        ``paste_back=False`` renders a square of ``size_px`` round the face; ``paste_back=True`` renders the
        whole picture at its own size (an odd side loses one pixel).
        """
        ...

    def iter_frames(self, prepared: Any, motion: MotionTrack) -> Iterator[Frame]:
        """Yield one (H, W, 3) uint8 RGB frame for each row of ``motion``, lazily; frames are the caller's."""
        ...

    def notes(self, prepared: Any, motion: MotionTrack) -> tuple[str, ...]:
        """Return what a user should know about these frames."""
        ...

    def close(self) -> None:
        """Give back devices and threads."""
        ...


def why_unavailable(name: str) -> str | None:
    """Return why the engine cannot run here by default and what to do about it, or None if it can.

    Raises:
        InputError: unknown name.
    """
    if name == "mesh":
        return None
    if name == "liveportrait":
        from vortex.engines.liveportrait import why_unavailable as why_not_liveportrait

        return why_not_liveportrait()
    raise InputError(f"Unknown engine {name!r}; vortex has {' and '.join(ENGINES)}.")


def load_engine(name: str, *, device: str | None = None, quality: str = "full") -> Engine:
    """Return the engine called ``name``; it never substitutes another one.

    ``device`` and ``quality`` concern ``liveportrait`` only, which needs CUDA unless it is "cpu", and with
    the quality "fast" derives frames from similar ones.

    Raises:
        InputError: unknown name, or a device or quality for an engine that has no choice of it.
        EngineError, WeightsError, MissingExtraError: the engine cannot run here; the message says why.
    """
    if name not in ENGINES:
        raise InputError(f"Unknown engine {name!r}; vortex has {' and '.join(ENGINES)}.")
    if name == "liveportrait":
        from vortex.engines.liveportrait import load_liveportrait_engine

        return load_liveportrait_engine(device, quality)
    if device not in (None, "cpu"):
        raise InputError(f"device is {device!r}; the mesh engine runs on the CPU. Leave --device out.")
    if quality != "full":
        raise InputError(f"quality is {quality!r}; the mesh engine has 'full' only. Leave --quality out.")
    from vortex.engines.mesh import MeshEngine

    return MeshEngine()
