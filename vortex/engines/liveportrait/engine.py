"""LivePortrait as an engine of vortex; frames are copied to the host while the next ones are rendered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

import torch
from torch import Tensor

from vortex.engines.base import CroppedFace
from vortex.engines.liveportrait.device import resolve_device
from vortex.engines.liveportrait.load import load_renderer
from vortex.engines.liveportrait.overnight import NetworkFrames
from vortex.engines.liveportrait.renderer import PreparedFace, Renderer, check_quality, pixels_of
from vortex.engines.liveportrait.retarget import transfer_notes
from vortex.face.crop import crop_face, even_sides
from vortex.motion.transfer import KeypointMotion, Motion
from vortex.runtime.results import ResultFolder, state_dir
from vortex.types import Frame, KeypointTrack, Portrait

SQUARE_PX = 512
"""Side of the rendered square, which is 2 wide in keypoint units."""
Wait = Callable[[], None]
Copy = Callable[[Tensor, Tensor], Wait]
"""Starts copying a batch (second) into a host buffer (first); the result waits until that is done."""


class LivePortraitEngine:
    """Renders with the networks; ``prepare`` and the iterator raise OutOfMemoryError if memory is short.

    What the networks render for a video is kept in ``results``, if given, so that it goes on after a kill.
    """

    name = "liveportrait"

    def __init__(self, renderer: Renderer, results: ResultFolder | None = None) -> None:
        self.renderer, self.results = renderer, results

    @property
    def device(self) -> str:
        """Where the networks are: "cpu", or a GPU such as "cuda:0"."""
        return str(self.renderer.device)

    def prepare(self, portrait: Portrait, *, size_px: int = 512, paste_back: bool = False) -> PreparedFace:
        """Extract the face's features and keypoints."""
        return self.renderer.prepare(even_sides(portrait) if paste_back else crop_face(portrait, size_px))

    def capture(self, faces: Iterable[CroppedFace], fps: Fraction) -> KeypointTrack:
        """Return what M says of a driver's faces, and how far their eyes and lips are open."""
        return self.renderer.capture(faces, fps)

    def iter_frames(
        self, prepared: PreparedFace, motion: Motion, *, quality: str = "full"
    ) -> Iterator[Frame]:
        """Return an iterator of the frames; with the quality "fast", some are derived from similar ones."""
        check_quality(quality)
        return self._iter_frames(prepared, motion, quality)

    def _iter_frames(self, prepared: PreparedFace, motion: Motion, quality: str) -> Iterator[Frame]:
        batches = map(pixels_of, self.renderer.iter_boxes(prepared, motion, quality))
        for pixels in iter_on_host(batches, self.renderer.paste_device):
            yield from prepared.frames_of(pixels.numpy())

    def lasting(
        self, prepared: PreparedFace, motion: Motion, *, quality: str = "full"
    ) -> NetworkFrames | None:
        """Return what takes long in a video, where it takes so long that it is kept; else None."""
        if self.results is None:
            return None
        return NetworkFrames(self.renderer, self.results, prepared, motion, quality)

    def notes(self, prepared: PreparedFace, motion: Motion, *, quality: str = "full") -> tuple[str, ...]:
        """Return how many frames the quality "fast" renders, and what relative motion starts from."""
        check_quality(quality)
        driven = transfer_notes(motion) if isinstance(motion, KeypointMotion) else ()
        if quality == "full":
            return driven
        plan = self.renderer.plan(prepared, motion)
        return (
            *driven,
            f"quality fast: {len(plan.keys)} of {len(motion)} frames were rendered in full; the expression "
            f"of the others is at most {plan.distance_max * SQUARE_PX / 2:.1f} px of {SQUARE_PX} off",
        )

    def close(self) -> None:
        """Free the device's memory; the engine cannot render afterwards."""
        self.renderer.close()


def load_liveportrait_engine(device: str | None = None) -> LivePortraitEngine:
    """Return the engine in fp16 on CUDA, else in fp32; errors as of :func:`vortex.load_liveportrait`."""
    if resolve_device(device).type == "cuda":
        return LivePortraitEngine(load_renderer(device, "fp16"))
    return LivePortraitEngine(load_renderer(device, "fp32"), ResultFolder(state_dir() / "unfinished"))


def iter_on_host(batches: Iterator[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Yield a device's batches (B, ...) on the host; each is valid until the next one is requested."""
    return overlap_copies(batches, _cuda_copy(device), pinned=True) if device.type == "cuda" else batches


def overlap_copies(batches: Iterator[Tensor], copy: Copy, *, pinned: bool = False) -> Iterator[Tensor]:
    """Yield each batch on the host after the next one has been queued on the device.

    Two host buffers are filled alternately; ``pinned`` ones are page-locked, so that a GPU can write them.
    """
    buffers: list[Tensor] = []
    pending: tuple[Tensor, Wait] | None = None
    for number, batch in enumerate(batches):
        if number < 2:
            # The first batches are the largest; only the last one may be smaller.
            buffers.append(torch.empty(batch.shape, dtype=batch.dtype, pin_memory=pinned))
        host = buffers[number % 2][: len(batch)]
        started = host, copy(host, batch)
        if pending:
            yield _completed(*pending)
        pending = started
    if pending:
        yield _completed(*pending)


def _completed(host: Tensor, wait: Wait) -> Tensor:
    wait()
    return host


def _cuda_copy(device: torch.device) -> Copy:
    """Return a function that copies on a CUDA stream of its own, after the work queued so far."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copy(host: Tensor, batch: Tensor) -> Wait:
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            host.copy_(batch, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(stream)
        # The allocator must not reuse the batch's memory before it has been read.
        batch.record_stream(stream)
        return copied.synchronize

    return copy
