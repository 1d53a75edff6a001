"""Batches from the device to the host: one is copied while the next is being rendered."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Wait = Callable[[], None]


class Lane:
    """Two host buffers, filled in turn, beside what the device computes."""

    pinned = False

    def __init__(self) -> None:
        self._buffers: list[Tensor] = []
        self._turn = 0

    def copy(self, host: Tensor, batch: Tensor) -> Wait:
        """Begin to copy; what is returned waits for the end."""
        raise NotImplementedError

    def start(self, batch: Tensor) -> tuple[Tensor, Wait]:
        """Begin to copy a batch; return where it will lie once the second has been called."""
        if len(self._buffers) < 2:
            # the first batches are the largest: only the last may be smaller
            self._buffers.append(torch.empty(batch.shape, dtype=batch.dtype, pin_memory=self.pinned))
        host = self._buffers[self._turn % len(self._buffers)][: len(batch)]
        self._turn += 1
        return host, self.copy(host, batch)


class CudaLane(Lane):
    """Copies on a stream of its own into pinned memory, which the device writes without the processor."""

    pinned = True

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copy(self, host: Tensor, batch: Tensor) -> Wait:
        """Begin to copy as soon as what has been asked of the device so far is done."""
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            host.copy_(batch, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(self.stream)
        # its memory is not given to other tensors before it is read
        batch.record_stream(self.stream)
        return copied.synchronize


def iter_on_host(batches: Iterator[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Yield batches (B, ...) of a device on the host; each stays as it is until the next is asked for."""
    return overlapped(batches, CudaLane(device)) if device.type == "cuda" else batches


def overlapped(batches: Iterator[Tensor], lane: Lane) -> Iterator[Tensor]:
    """Yield each batch after the next one has been asked of the device."""
    waiting: tuple[Tensor, Wait] | None = None
    for batch in batches:
        started = lane.start(batch)
        if waiting:
            yield _arrived(*waiting)
        waiting = started
    if waiting:
        yield _arrived(*waiting)


def _arrived(host: Tensor, wait: Wait) -> Tensor:
    wait()
    return host
