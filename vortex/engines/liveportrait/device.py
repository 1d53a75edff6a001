"""Where and in which number format the networks can run, and what to do if they cannot."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from vortex.errors import DeviceUnavailableError, InputError, PrecisionUnsupportedError
from vortex.switch import Switch, TurnBack
from vortex.weights import missing_weights

if TYPE_CHECKING:
    import torch

PRECISIONS = ("fp16", "bf16", "fp32")


def why_unavailable(device: str | None = None) -> str | None:
    """Return why the engine cannot run on ``device`` (None: CUDA) and what to do, or None if it can."""
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed; run: pip install 'vortex-portrait[neural]'"
    if missing_weights("liveportrait"):
        return "its weights are missing; run: vortex weights fetch liveportrait (498 MiB)"
    try:
        resolve_device(device)
    except DeviceUnavailableError as exc:
        return str(exc)[:1].lower() + str(exc)[1:].rstrip(".")
    return None


def resolve_device(device: str | torch.device | None) -> torch.device:
    """Return a device to compute on; None means the current CUDA device.

    Raises:
        DeviceUnavailableError: no such device here; a CPU is taken only when it is asked for.
        InputError: not the name of a device.
    """
    import torch

    try:
        wanted = torch.device("cuda" if device is None else device)
    except (RuntimeError, TypeError) as exc:
        raise InputError(f"device is {device!r}; give 'cuda', 'cuda:1' or 'cpu'.") from exc
    if wanted.type == "cpu":
        return wanted
    if wanted.type != "cuda":
        raise DeviceUnavailableError(f"The device {str(wanted)!r} is not supported; give 'cuda' or 'cpu'.")
    slow = "or ask for the device 'cpu', which needs seconds for each frame"
    if torch.version.cuda is None and torch.version.hip is None:
        raise DeviceUnavailableError(
            f"This build of torch ({torch.__version__}) has no CUDA. Install one that has, from "
            f"https://pytorch.org/get-started, {slow}."
        )
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise DeviceUnavailableError(
            f"No CUDA device was found. Check the driver with nvidia-smi, use the mesh engine, {slow}."
        )
    if wanted.index is not None and wanted.index >= count:
        raise DeviceUnavailableError(f"The device {str(wanted)!r} is not there; CUDA devices here: {count}.")
    return wanted


def resolve_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type F, W and G compute in.

    Raises:
        InputError: not one of :data:`PRECISIONS`.
        PrecisionUnsupportedError: a half type on a device that has no fast arithmetic for it.
    """
    import torch

    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}; give one of {', '.join(PRECISIONS)}.")
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    if dtype == torch.float32:
        return dtype
    if device.type == "cpu":
        raise PrecisionUnsupportedError(
            f"precision is {precision!r}, which makes a CPU slower, not faster. Give precision='fp32' there."
        )
    if dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise PrecisionUnsupportedError(
            f"{torch.cuda.get_device_name(device)} cannot compute in bf16. Give precision='fp16' or 'fp32'."
        )
    return dtype


def _repeat_cudnn() -> TurnBack:
    from torch.backends import cudnn

    before, cudnn.deterministic = cudnn.deterministic, True
    return lambda: setattr(cudnn, "deterministic", before)


repeatable = Switch(_repeat_cudnn).held
"""Let cuDNN use only algorithms that give the same bits each time, as long as anybody renders.

A transposed convolution may otherwise add up in whatever order its threads finish.
"""
