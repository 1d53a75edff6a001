"""What every engine implements, and how an engine announces itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from vortex.errors import InputError
from vortex.motion.transfer import Motion
from vortex.runtime.results import ResultFolder
from vortex.types import BLENDSHAPE_INDEX, F32, Frame, KeypointTrack, MotionTrack, Portrait


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

    def iter_frames(self, prepared: P, motion: Motion, *, quality: str = "full") -> Iterator[Frame]:
        """Return an iterator of one (H, W, 3) uint8 RGB frame for each row of ``motion``.

        Every engine takes a :class:`MotionTrack`; one that captures (:attr:`EngineSpec.captures`) also takes
        the keypoints that it captured, a :class:`vortex.motion.transfer.KeypointMotion`, and a
        :class:`vortex.motion.transfer.KeypointChange`. Frames are rendered when they are requested, in small
        batches. The caller owns each frame and may write into it. ``quality`` is one of
        :attr:`EngineSpec.qualities`.
        """

    def notes(self, prepared: P, motion: Motion, *, quality: str = "full") -> tuple[str, ...]:
        """Return sentences about these frames that the user should read."""

    def close(self) -> None:
        """Release devices and threads; the engine cannot render afterwards. A second call does nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class CroppedFace:
    """The face of a driver: a crop (512, 512, 3) uint8 RGB, and the landmarks (478, 3) in its pixels."""

    crop: Frame
    landmarks_px: F32


@dataclass(frozen=True, slots=True, eq=False)
class MattedFrame:
    """A frame (H, W, 3), and its ``matte`` (H, W) uint8: 255 where it shows the person.

    Both are those of the portrait outside ``box``: x0, y0, x1, y1.
    """

    frame: Frame
    matte: Frame
    box: tuple[int, int, int, int]


@runtime_checkable
class MattingEngine(Protocol):
    """An engine that moves a matte as it moves the picture, so that it follows the head."""

    def iter_matted(self, prepared: Any, motion: Motion, matte: Frame) -> Iterator[MattedFrame]:
        """Return what :meth:`Engine.iter_frames` does, with the ``matte`` (H, W) uint8 of the portrait."""


class CapturingEngine(Engine[P], Protocol[P]):
    """An engine that reads motion from pictures itself, and renders it: its spec says ``captures``."""

    def capture(self, faces: Iterable[CroppedFace], fps: Fraction) -> KeypointTrack:
        """Return the keypoints of a driver's faces, shown at ``fps``, in their order.

        All crops of a video show the same part of it. Few of them are in memory at a time.
        """


@dataclass(frozen=True, slots=True)
class Forecast:
    """How long a video will take: of ``frames``, the networks render ``full``, of which ``left`` are left.

    ``frame_s`` is what one of them took just now, in seconds; 0 if all are there.
    """

    frames: int
    full: int
    left: int
    frame_s: float

    @property
    def left_s(self) -> float:
        """Seconds that the frames left will take."""
        return self.left * self.frame_s


class LastingWork(Protocol):
    """What takes long in one video. What is done is kept, also when the process is killed."""

    def forecast(self) -> Forecast:
        """Do a little of the work, and return how long the rest will take."""

    def render_ahead(self, on_progress: Callable[[int, int], None]) -> None:
        """Do what can be done before the first frame; ``on_progress(done, total)`` may raise to end it."""

    def iter_frames(self) -> Iterator[Frame]:
        """Return what :meth:`Engine.iter_frames` does."""

    def discard(self) -> None:
        """Forget the work, because the video is done."""


@runtime_checkable
class LastingEngine(Protocol):
    """An engine that takes seconds for a frame on some devices, and can go on with a video after a kill."""

    @property
    def results(self) -> ResultFolder | None:
        """Where finished work is kept; None on devices that take no seconds for a frame."""

    def lasting(self, prepared: Any, motion: Motion, *, quality: str = "full") -> LastingWork | None:
        """Return what takes long in a video; None on devices that take no seconds for a frame."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One engine as the registry lists it; making one must not import what the engine needs.

    ``load(device)`` returns the engine; with None, the engine chooses the device. ``why_unavailable(device)``
    returns why it cannot run here and how to change that, or None if it can. ``devices`` (types, such as
    ("cuda", "cpu")) and ``qualities`` begin with the default. "auto" is the engine with the highest
    ``preference`` among those that can run. An engine that ``captures`` is a :class:`CapturingEngine`.
    """

    name: str
    load: Callable[[str | None], Engine[Any]]
    why_unavailable: Callable[[str | None], str | None]
    devices: tuple[str, ...] = ("cpu",)
    qualities: tuple[str, ...] = ("full",)
    preference: int = 0
    captures: bool = False

    def needs_gpu(self, device: str | None) -> bool:
        """Return whether the engine needs a GPU of its own on ``device``."""
        return (device or self.devices[0]).startswith("cuda")


def blendshapes_only(motion: Motion, engine: str) -> MotionTrack:
    """Return a motion of blendshapes, for an engine that does not capture; InputError for keypoints."""
    if isinstance(motion, MotionTrack):
        return motion
    raise InputError(f"The {engine} engine renders no keypoints. Give a MotionTrack, or take liveportrait.")


def shape_columns(motion: MotionTrack) -> Callable[[str], F32]:
    """Return a function from a blendshape to its column (T,), without Left and Right to their mean."""

    def column(name: str) -> F32:
        names = [name] if name in BLENDSHAPE_INDEX else [name + "Left", name + "Right"]
        return np.asarray(motion.blendshapes[:, [BLENDSHAPE_INDEX[n] for n in names]].mean(axis=1))

    return column
