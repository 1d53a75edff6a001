"""How much memory rendering takes, and how many frames at once fit into a budget."""

from __future__ import annotations

from torch import nn

from vortex.errors import OutOfMemoryError

DEFAULT_BUDGET_BYTES = 4_000_000_000
"""Of a CUDA device, if nothing else is asked for; a CPU has no default."""
MOST_FRAMES = 8
"""Frames rendered at once if the memory suffices: the time to launch the kernels of a batch, 335 whatever its
size, is then small beside that of its arithmetic, even on the fastest GPUs."""
FRAME_BYTES = {4: 349_000_000, 2: 130_000_000}
"""Bytes of a number -> most that is alive for each frame at the release's sizes: in W, which convolves in the
Fourier domain in float32 only. Counted on tensors without data; a test counts again."""
SLACK = 1.25
"""Allocators leave gaps, and convolutions borrow workspace."""
FIXED_BYTES = 800_000_000
"""The context of a CUDA process, and the key frames kept for reuse."""


def networks_bytes(networks: nn.Module) -> int:
    """Return the bytes of all weights."""
    tensors = [*networks.parameters(), *networks.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def needed_bytes(weights_bytes: int, number_bytes: int, frames: int, *, cuda: bool) -> int:
    """Return what rendering ``frames`` at once takes."""
    return weights_bytes + FIXED_BYTES * cuda + round(frames * FRAME_BYTES[number_bytes] * SLACK)


def fit_frames(
    budget_bytes: int, weights_bytes: int, number_bytes: int, wanted: int | None, *, cuda: bool
) -> int:
    """Return how many frames to render at once: ``wanted``, or as many as fit, at most :data:`MOST_FRAMES`.

    Raises:
        OutOfMemoryError: not even one fits, or not as many as wanted.
    """
    least = wanted or 1

    def need(frames: int) -> int:
        return needed_bytes(weights_bytes, number_bytes, frames, cuda=cuda)

    if need(least) > budget_bytes:
        smaller = ", or load with precision='fp16'" if cuda and number_bytes == 4 else ""
        fewer = ", or lower batch_frames" if least > 1 else ""
        many = f"{least} frames" if least > 1 else "1 frame"
        raise OutOfMemoryError(
            f"The memory budget is {budget_bytes / 1e9:.2f} GB; LivePortrait needs about "
            f"{need(least) / 1e9:.2f} GB to render {many} at once. Raise memory_budget_bytes{fewer}{smaller}."
        )
    if wanted:
        return wanted
    return max(frames for frames in range(1, MOST_FRAMES + 1) if need(frames) <= budget_bytes)
