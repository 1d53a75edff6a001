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

    def prepare(self, portrait: Portrait, *, size_px: int = 512, paste_back: bool = False) -> Any:
        """Do all work that depends on the portrait only.

        ``paste_back=False`` renders a square of ``size_px`` round the face; ``paste_back=True`` renders the
        whole picture at its own size (an odd side loses one pixel).
        """
        ...

    def iter_frames(self, prepared: Any, motion: MotionTrack) -> Iterator[Frame]:
        """Yield one (H, W, 3) uint8 RGB frame for each row of ``motion``, lazily; frames are the caller's."""
        ...

    def close(self) -> None:
        """Give back devices and threads."""
        ...


def load_engine(name: str, *, device: str | None = None, precision: str = "fp16") -> Engine:
    """Return the engine called ``name``; it never substitutes another one.

    ``device`` and ``precision`` concern ``liveportrait`` only.

    Raises:
        InputError: unknown name.
        EngineError, WeightsError, MissingExtraError: the engine cannot run here; the message says why.
    """
    if name == "mesh":
        from vortex.engines.mesh import MeshEngine

        return MeshEngine()
    if name == "liveportrait":
        from vortex.engines.liveportrait import load_liveportrait

        return load_liveportrait(device, precision=precision)
    raise InputError(f"Unknown engine {name!r}; vortex has {' and '.join(ENGINES)}.")
