"""Devices, number formats and memory in which the networks can run, and what to do if one is missing."""

from __future__ import annotations

import glob
import importlib.util
import platform
import runpy
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vortex.errors import DeviceUnavailableError, InputError, OutOfMemoryError, PrecisionUnsupportedError
from vortex.runtime.setting import RefCountedSetting, Restore
from vortex.weights.cache import in_mib, missing_weights

if TYPE_CHECKING:
    import torch
    from torch import nn

PRECISIONS = ("fp16", "bf16", "fp32")
ADVICE = "use the mesh engine, or give the device 'cpu', which needs seconds for each frame"
NEURAL_COMMAND = "pip install 'vortex-portrait[neural]'"
FETCH_COMMAND = "vortex weights fetch liveportrait"
CUDA_COMMAND = "pip install --force-reinstall torch --index-url https://pypi.org/simple"
"""On Linux, PyPI has torch's build for CUDA."""
GPU_DEVICE_FILES = ("/dev/nvidia[0-9]*", "/dev/dxg", "/dev/kfd")
"""Files on Linux by which drivers show a GPU: NVIDIA's own, Windows' under WSL, and AMD's."""
DEFAULT_BUDGET_BYTES = 4_000_000_000
"""Default budget on a CUDA device; a CPU has none."""
MAX_FRAMES = 8
"""Most frames at once: launching a batch's 335 kernels then takes little time, even on the fastest GPUs."""
FRAME_BYTES = {4: 349_000_000, 2: 130_000_000}
"""Bytes per number -> peak memory for each frame in bytes, at the release's sizes.

W needs the most; only float32 uses the Fourier domain. Counted without data; a test counts again.
"""
SLACK = 1.25
"""Factor for gaps between allocations and for the workspace of convolutions."""
FIXED_BYTES = 800_000_000
"""Memory of a process's CUDA context and of the key frames kept for reuse."""


def why_unavailable(device: str | None = None) -> str | None:
    """Return why the engine cannot run on ``device`` (None: a GPU) and what to do, or None if it can.

    Checks the device first, then torch, then the weights, so nobody downloads anything for a machine that
    cannot use it. Imports torch only if all of that is in place and a GPU is to be used.
    """
    kind = (device or default_device_type()).split(":")[0]
    on_gpu = kind != "cpu"
    if on_gpu and not gpu_present(kind):
        lacking = "no Apple GPU was found" if kind == "mps" else "no GPU was found"
        return f"{lacking}; {ADVICE}"
    if importlib.util.find_spec("torch") is None:
        return f"torch is not installed; run: {NEURAL_COMMAND}"
    if kind == "cuda" and not _torch_supports_gpus():
        return f"this build of torch has no CUDA; run: {CUDA_COMMAND} (or {ADVICE})"
    if missing := missing_weights("liveportrait"):
        size = in_mib(sum(file.size_bytes for file in missing))
        return f"its weights are missing; run: {FETCH_COMMAND} ({size})"
    if on_gpu:
        try:
            resolve_device(device)
        except (DeviceUnavailableError, InputError) as exc:
            return str(exc)[:1].lower() + str(exc)[1:].rstrip(".")
    return None


def default_device_type() -> str:
    """Return the kind of GPU that a machine like this one can have: "mps" on a Mac, else "cuda"."""
    return "mps" if sys.platform == "darwin" else "cuda"


def gpu_present(kind: str) -> bool:
    """Return whether there is a GPU of the ``kind``; True on systems where only torch can find out.

    "mps" is that of Apple's own processors; torch supports no GPU of Macs with Intel's.
    """
    if sys.platform == "darwin":
        return kind == "mps" and platform.machine() == "arm64"
    if kind == "mps":
        return False
    return sys.platform != "linux" or any(map(glob.glob, GPU_DEVICE_FILES))


def _torch_supports_gpus() -> bool:
    """Return what the file ``version.py`` of torch says; importing torch to ask it takes over a second."""
    spec = importlib.util.find_spec("torch")
    version = Path(spec.origin).with_name("version.py") if spec and spec.origin else None
    if version is None or not version.is_file():
        return True
    names = runpy.run_path(str(version))
    return names.get("cuda") is not None or names.get("hip") is not None


def resolve_device(device: str | torch.device | None) -> torch.device:
    """Return the device to compute on; None means the current CUDA device, on a Mac Apple's GPU.

    The CPU is used only if named. DeviceUnavailableError is raised if the device is not available, InputError
    if that is no name of a device.
    """
    import torch

    try:
        wanted = torch.device(default_device_type() if device is None else device)
    except (RuntimeError, TypeError) as exc:
        raise InputError(f"device is {device!r}; give 'cuda', 'cuda:1', 'mps' or 'cpu'.") from exc
    if wanted.type == "cpu":
        return wanted
    if wanted.type == "mps":
        if torch.backends.mps.is_available():
            return wanted
        raise DeviceUnavailableError(
            f"Torch finds no Apple GPU: it needs a Mac with one of Apple's processors and macOS 14; {ADVICE}."
        )
    if wanted.type != "cuda":
        raise DeviceUnavailableError(
            f"The device {str(wanted)!r} is not supported; give 'cuda', 'mps' or 'cpu'."
        )
    if torch.version.cuda is None and torch.version.hip is None:
        raise DeviceUnavailableError(
            f"This build of torch ({torch.__version__}) has no CUDA. Install one that has from "
            f"https://pytorch.org/get-started, {ADVICE}."
        )
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise DeviceUnavailableError(
            f"Torch finds no CUDA device. Check the driver with nvidia-smi, {ADVICE}."
        )
    if wanted.index is not None and wanted.index >= count:
        raise DeviceUnavailableError(
            f"The device {str(wanted)!r} does not exist; CUDA devices of this machine: {count}."
        )
    return wanted


def paste_device(device: torch.device) -> torch.device:
    """Return where rendered squares are blended and pasted: on ``device``, for Apple's GPU on the CPU.

    Torch for it lacked the sampling beyond borders, and equations solved by :mod:`.fast.reuse`, in versions
    that vortex accepts. Both share one memory, and pasting takes a thousandth of rendering.
    """
    import torch

    return torch.device("cpu") if device.type == "mps" else device


def resolve_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type in which F, W and G compute; InputError if it is not one of :data:`PRECISIONS`.

    PrecisionUnsupportedError is raised for a half type on a device without fast arithmetic for it.
    """
    import torch

    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}; give one of {', '.join(PRECISIONS)}.")
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    if dtype == torch.float32:
        return dtype
    if device.type == "mps":
        raise PrecisionUnsupportedError(
            f"precision is {precision!r}, in which torch has no transposed 3-D convolutions on 'mps'. "
            "Give precision='fp32' there."
        )
    if device.type == "cpu":
        if dtype == torch.bfloat16 and computes_bf16_fast():
            return dtype
        raise PrecisionUnsupportedError(
            f"precision is {precision!r}, which is slower than 'fp32' on this CPU. Give precision='fp32'."
        )
    if dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise PrecisionUnsupportedError(
            f"{torch.cuda.get_device_name(device)} cannot compute in bf16. Give precision='fp16' or 'fp32'."
        )
    return dtype


def computes_bf16_fast() -> bool:
    """Return whether this CPU multiplies bf16 faster than float32: by AVX512-BF16 or AMX."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def networks_bytes(networks: nn.Module) -> int:
    """Return the size of all weights in bytes."""
    tensors = [*networks.parameters(), *networks.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def needed_bytes(weights_bytes: int, number_bytes: int, frames: int, *, cuda: bool) -> int:
    """Return the bytes that rendering ``frames`` at once needs."""
    return weights_bytes + FIXED_BYTES * cuda + round(frames * FRAME_BYTES[number_bytes] * SLACK)


def fit_frames(
    budget_bytes: int, weights_bytes: int, number_bytes: int, wanted: int | None, *, cuda: bool
) -> int:
    """Return how many frames to render at once: ``wanted``, or as many as fit, at most :data:`MAX_FRAMES`.

    OutOfMemoryError: not even one frame fits, or fewer than ``wanted``.
    """
    minimum = wanted or 1
    need = partial(needed_bytes, weights_bytes, number_bytes, cuda=cuda)
    if need(minimum) > budget_bytes:
        smaller = ", or load with precision='fp16'" if cuda and number_bytes == 4 else ""
        fewer = ", or lower batch_frames" if minimum > 1 else ""
        many = f"{minimum} frames" if minimum > 1 else "1 frame"
        raise OutOfMemoryError(
            f"The memory budget is {budget_bytes / 1e9:.2f} GB; LivePortrait needs about "
            f"{need(minimum) / 1e9:.2f} GB to render {many} at once. "
            f"Raise memory_budget_bytes{fewer}{smaller}."
        )
    if wanted:
        return wanted
    return max(frames for frames in range(1, MAX_FRAMES + 1) if need(frames) <= budget_bytes)


def _make_cudnn_deterministic() -> Restore:
    from torch.backends import cudnn

    before, cudnn.deterministic = cudnn.deterministic, True
    return lambda: setattr(cudnn, "deterministic", before)


repeatable = RefCountedSetting(_make_cudnn_deterministic).held
"""Context manager: while any thread renders, cuDNN uses only algorithms that return the same bits every time,
not those that add terms in the order in which GPU threads finish."""
