"""Where the engine can run, in how much memory, and what its users read where it cannot."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
import weakref
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vortex.engines.liveportrait import device
from vortex.engines.liveportrait.device import (
    DEFAULT_BUDGET_BYTES,
    FRAME_BYTES,
    MAX_FRAMES,
    fit_frames,
    needed_bytes,
    networks_bytes,
    paste_device,
    resolve_device,
    resolve_dtype,
    why_unavailable,
)
from vortex.engines.liveportrait.load import rewrite_networks
from vortex.engines.liveportrait.networks import Networks
from vortex.engines.registry import load_engine
from vortex.errors import (
    DeviceUnavailableError,
    InputError,
    OutOfMemoryError,
    PrecisionUnsupportedError,
    WeightsMissingError,
)
from vortex.weights.cache import WEIGHTS


def test_a_cpu_is_used_only_if_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    for name in (None, "cuda", "cuda:0"):
        with pytest.raises(DeviceUnavailableError, match=r"no CUDA\. Install one .* the device 'cpu'"):
            resolve_device(name)


def test_a_build_with_cuda_but_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceUnavailableError, match=r"Torch finds no CUDA device\..*nvidia-smi"):
        resolve_device(None)


def test_a_gpu_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device(None) == torch.device("cuda")
    assert resolve_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(
        DeviceUnavailableError, match="'cuda:3' does not exist; CUDA devices of this machine: 1"
    ):
        resolve_device("cuda:3")
    with pytest.raises(DeviceUnavailableError, match="'meta' is not supported"):
        resolve_device("meta")
    with pytest.raises(InputError, match="device is 'tpu'"):
        resolve_device("tpu")


def test_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert resolve_dtype("fp32", cpu) == torch.float32
    assert resolve_dtype("fp16", cuda) == torch.float16
    for place in (cpu, torch.device("mps")):
        monkeypatch.setattr(device, "computes_bf16_fast", lambda: False)
        for precision in ("fp16", "bf16"):
            with pytest.raises(PrecisionUnsupportedError, match="Give precision='fp32'"):
                resolve_dtype(precision, place)
        monkeypatch.setattr(device, "computes_bf16_fast", lambda: True)
        with pytest.raises(PrecisionUnsupportedError, match="Give precision='fp32'"):
            resolve_dtype("fp16", place)
    assert resolve_dtype("bf16", cpu) == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GTX 1080")
    with pytest.raises(PrecisionUnsupportedError, match="GTX 1080 cannot compute in bf16"):
        resolve_dtype("bf16", cuda)


def test_a_mac_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceUnavailableError, match=r"no Apple GPU.*the device 'cpu'"):
        resolve_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("mps") == torch.device("mps")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert resolve_device(None) == torch.device("mps")
    assert paste_device(torch.device("mps")) == torch.device("cpu")
    assert paste_device(torch.device("cuda:1")) == torch.device("cuda:1")


def test_a_mac_is_told_what_it_lacks(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find_spec = importlib.util.find_spec
    machine.setattr(sys, "platform", "darwin")
    machine.setattr(platform, "machine", lambda: "x86_64")
    assert (why_unavailable() or "").startswith("no Apple GPU was found")
    machine.setattr(platform, "machine", lambda: "arm64")
    assert (why_unavailable("cuda") or "").startswith("no GPU was found")
    machine.setattr(importlib.util, "find_spec", lambda name: None)
    assert (why_unavailable() or "").startswith("torch is not installed; run: pip install")
    machine.setattr(importlib.util, "find_spec", find_spec)
    (tmp_path / "torch" / "version.py").write_text("cuda = None\nhip = None\n")
    assert "vortex weights fetch liveportrait" in (why_unavailable() or "")
    write_empty_weights(tmp_path)
    machine.setattr(torch.backends.mps, "is_available", lambda: False)
    assert (why_unavailable() or "").startswith("torch finds no Apple GPU")
    machine.setattr(torch.backends.mps, "is_available", lambda: True)
    assert why_unavailable() is None


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Pretend to be a Linux machine with a GPU and torch for CUDA, but without weights."""
    gpu, built = tmp_path / "nvidia0", tmp_path / "torch" / "version.py"
    gpu.touch()
    built.parent.mkdir()
    built.write_text("cuda = '12.8'\nhip = None\n")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(device, "GPU_DEVICE_FILES", (str(gpu),))
    torch_package = ModuleSpec("torch", None, origin=str(built.with_name("__init__.py")))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: torch_package)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    return monkeypatch


def write_empty_weights(cache: Path) -> None:
    for file in WEIGHTS["liveportrait"]:
        path = cache / "liveportrait" / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_the_reasons_are_named_in_the_order_that_saves_downloads(
    machine: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find_spec = importlib.util.find_spec
    built = tmp_path / "torch" / "version.py"
    machine.setattr(device, "GPU_DEVICE_FILES", ())
    machine.setattr(importlib.util, "find_spec", lambda name: None)
    assert (why_unavailable() or "").startswith("no GPU was found")
    machine.setattr(device, "GPU_DEVICE_FILES", (str(tmp_path / "nvidia0"),))
    assert (why_unavailable() or "").startswith("torch is not installed; run: pip install")
    machine.setattr(importlib.util, "find_spec", find_spec)
    built.write_text("cuda = None\nhip = None\n")
    assert (why_unavailable() or "").startswith("this build of torch has no CUDA; run: pip install")
    built.write_text("cuda = '12.8'\nhip = None\n")
    assert "vortex weights fetch liveportrait" in (why_unavailable() or "")
    write_empty_weights(tmp_path)
    assert why_unavailable() is None
    assert (why_unavailable("cuda:3") or "").startswith("the device 'cuda:3' does not exist")


def test_a_cpu_that_is_asked_for_needs_torch_and_weights_only(
    machine: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine.setattr(device, "GPU_DEVICE_FILES", ())
    assert "vortex weights fetch liveportrait" in (why_unavailable("cpu") or "")
    write_empty_weights(tmp_path)
    assert why_unavailable("cpu") is None
    machine.setattr(importlib.util, "find_spec", lambda name: None)
    assert "torch is not installed" in (why_unavailable("cpu") or "")


@pytest.mark.parametrize("device_name", [None, "cpu"])
def test_torch_is_not_imported_for_an_answer_without_it(device_name: str | None, tmp_path: Path) -> None:
    code = f"""
import sys
from vortex.engines.liveportrait import device
device.GPU_DEVICE_FILES = ("/",)
print(device.why_unavailable({device_name!r}), "torch" in sys.modules)
"""
    environment = {**os.environ, "VORTEX_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith(" False\n") and not done.stdout.startswith("None"), done.stdout


def test_an_engine_that_is_named_is_never_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    with pytest.raises(WeightsMissingError, match="vortex weights fetch liveportrait"):
        load_engine("liveportrait", device="cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceUnavailableError):
        load_engine("liveportrait")


def test_without_torch_the_extra_is_named() -> None:
    code = """
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "torch" else find_spec(name, *rest)
sys.modules["torch"] = None
from vortex.engines.registry import find_engine, load_engine
from vortex.errors import MissingExtraError
print(find_engine("liveportrait").why_unavailable("cpu"))
try:
    load_engine("liveportrait")
except MissingExtraError as exc:
    print(exc)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert "torch is not installed" in first and "vortex-portrait[neural]" in first
    assert "needs torch" in second and "vortex-portrait[neural]" in second


GB = 1_000_000_000


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of living tensors, and their maximum over time."""

    def __init__(self) -> None:
        super().__init__()
        self.known: set[int] = set()
        self.bytes = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        self.peak = max(self.peak, self.bytes)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return

        def uncount() -> None:
            self.known.discard(key)
            self.bytes -= size

        self.known.add(key)
        self.bytes += size
        weakref.finalize(storage, uncount)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("frames", [1, 3])
def test_a_frame_needs_the_stated_memory_at_the_real_size(dtype: torch.dtype, frames: int) -> None:
    with torch.device("meta"), torch.no_grad():
        networks = rewrite_networks(Networks(), tensor_cores=dtype != torch.float32).set_precision(dtype)
        source = networks.prepare_warp(torch.empty(1, 32, 16, 64, 64, dtype=dtype), torch.empty(1, 21, 3))
        x_d = torch.empty(frames, 21, 3)
        with LiveBytes() as warping:
            features = networks.warp(source, x_d).features
        with LiveBytes() as decoding:
            networks.decode(features)
    stated = FRAME_BYTES[dtype.itemsize] * frames
    assert 0.9 * stated < warping.peak <= 1.02 * stated
    assert decoding.peak < stated


def test_a_whole_batch_in_half_precision_fits_into_the_default_budget() -> None:
    with torch.device("meta"):
        networks = rewrite_networks(Networks(), tensor_cores=True)
        held = networks_bytes(networks.set_precision(torch.float16))
    assert fit_frames(DEFAULT_BUDGET_BYTES, held, 2, None, cuda=True) == MAX_FRAMES


def test_less_memory_means_fewer_frames_within_the_budget() -> None:
    chosen = [
        fit_frames(int(budget * GB), GB // 2, 2, None, cuda=True) for budget in (1.5, 2.0, 2.4, 4.0, 80.0)
    ]
    assert chosen == sorted(chosen)
    assert (chosen[0], chosen[-1]) == (1, MAX_FRAMES)
    for budget, frames in zip((1.5, 2.0, 2.4), chosen, strict=False):
        assert needed_bytes(GB // 2, 2, frames, cuda=True) <= budget * GB


def test_a_budget_that_is_too_small_is_refused_with_figures_and_advice() -> None:
    with pytest.raises(OutOfMemoryError, match=r"budget is 1\.00 GB.*1 frame at once.*precision='fp16'"):
        fit_frames(GB, GB, 4, None, cuda=True)
    with pytest.raises(
        OutOfMemoryError, match=r"needs about 4\.40 GB to render 16 frames.*lower batch_frames"
    ):
        fit_frames(4 * GB, GB, 2, 16, cuda=True)
