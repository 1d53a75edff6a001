"""What every engine implements, and how an engine announces itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from vortex.types import BLENDSHAPE_INDEX, F32, Frame, MotionTrack, Portrait


class Prepared(Protocol):
    """What an engine computed from one portrait: immutable, and shared by any number of threads."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the frames, both even."""


P = TypeVar("P", bound=Prepared)


class Engine(Protocol[P]):
    """Turns a portrait and a motion into frames. Any number of threads may call it at once.

    The same arguments give the same bytes, in any thread. ``tests/unit/engines/test_contract.py`` checks
    every engine for what is said here.
    """

    @property
    def name(self) -> str:
        """The engine's name, as in its :class:`EngineSpec`."""

    @property
    def device(self) -> str:
        """Where frames are rendered: "cpu", or a GPU such as "cuda:0"."""

    def prepare(self, portrait: Portrait, *, size_px: int = 512, paste_back: bool = False) -> P:
        """Do all work that depends only on the portrait, and return its result.

        ``paste_back=False`` renders a square of ``size_px`` pixels around the face; ``paste_back=True``
        renders the whole picture at its own size, less one pixel where a side is odd. InputError says which
        sizes the engine can render.
        """

    def iter_frames(self, prepared: P, motion: MotionTrack, *, quality: str = "full") -> Iterator[Frame]:
        """Return an iterator of one (H, W, 3) uint8 RGB frame for each row of ``motion``.

        Frames are rendered when they are requested, in small batches. The caller owns each frame and may
        write into it. ``quality`` is one of :attr:`EngineSpec.qualities`.
        """

    def notes(self, prepared: P, motion: MotionTrack, *, quality: str = "full") -> tuple[str, ...]:
        """Return sentences about these frames that the user should read."""

    def close(self) -> None:
        """Release devices and threads; the engine cannot render afterwards. A second call does nothing."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One engine as the registry lists it; making one must not import what the engine needs.

    ``load(device)`` returns the engine; with None, the engine chooses the device. ``why_unavailable(device)``
    returns why it cannot run here and how to change that, or None if it can. ``devices`` (types, such as
    ("cuda", "cpu")) and ``qualities`` begin with the default. "auto" is the engine with the highest
    ``preference`` among those that can run.
    """

    name: str
    load: Callable[[str | None], Engine[Any]]
    why_unavailable: Callable[[str | None], str | None]
    devices: tuple[str, ...] = ("cpu",)
    qualities: tuple[str, ...] = ("full",)
    preference: int = 0

    def needs_gpu(self, device: str | None) -> bool:
        """Return whether the engine needs a GPU of its own on ``device``."""
        return (device or self.devices[0]).startswith("cuda")


def shape_columns(motion: MotionTrack) -> Callable[[str], F32]:
    """Return a function from a blendshape to its column (T,), without Left and Right to their mean."""

    def column(name: str) -> F32:
        names = [name] if name in BLENDSHAPE_INDEX else [name + "Left", name + "Right"]
        return np.asarray(motion.blendshapes[:, [BLENDSHAPE_INDEX[n] for n in names]].mean(axis=1))

    return column
