"""Where the neural engine can run, and what a user is told where it cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import liveportrait_release as release
import pytest
import torch

from vortex.engines import base
from vortex.engines.liveportrait.device import resolve_device, resolve_dtype, why_unavailable
from vortex.errors import DeviceUnavailableError, InputError, PrecisionUnsupportedError, WeightsMissingError
from vortex.weights import WEIGHTS


def test_a_cpu_is_taken_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    for device in (None, "cuda", "cuda:0"):
        with pytest.raises(DeviceUnavailableError, match=r"no CUDA\. Install one .* the device 'cpu'"):
            resolve_device(device)


def test_a_build_with_cuda_but_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceUnavailableError, match=r"No CUDA device was found\..*nvidia-smi"):
        resolve_device(None)


def test_a_card_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device(None) == torch.device("cuda")
    assert resolve_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(DeviceUnavailableError, match="'cuda:3' is not there; CUDA devices here: 1"):
        resolve_device("cuda:3")
    with pytest.raises(DeviceUnavailableError, match="'mps' is not supported"):
        resolve_device("mps")
    with pytest.raises(InputError, match="device is 'tpu'"):
        resolve_device("tpu")


def test_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert resolve_dtype("fp32", cpu) == torch.float32
    assert resolve_dtype("fp16", cuda) == torch.float16
    for precision in ("fp16", "bf16"):
        with pytest.raises(PrecisionUnsupportedError, match="Give precision='fp32' there"):
            resolve_dtype(precision, cpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GTX 1080")
    with pytest.raises(PrecisionUnsupportedError, match="GTX 1080 cannot compute in bf16"):
        resolve_dtype("bf16", cuda)


def test_the_reason_is_the_first_thing_to_mend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    reason = base.why_unavailable("liveportrait")
    assert reason is not None and "vortex weights fetch liveportrait" in reason
    for file in WEIGHTS["liveportrait"]:
        path = tmp_path / "liveportrait" / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert why_unavailable("cpu") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "CUDA" in (why_unavailable() or "")


def test_load_engine_never_substitutes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    with pytest.raises(WeightsMissingError, match="vortex weights fetch liveportrait"):
        base.load_engine("liveportrait", device="cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceUnavailableError):
        base.load_engine("liveportrait")


def test_the_engine_loads_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        "vortex.engines.liveportrait.renderer.load_networks",
        lambda folder: release.load_networks(folder, release.TOY),
    )
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    release.write_release(tmp_path / "liveportrait", release.TOY)
    engine = base.load_engine("liveportrait", device="cpu")
    assert engine.name == "liveportrait"
    engine.close()


def test_without_torch_the_extra_is_named(tmp_path: Path) -> None:
    code = """
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "torch" else find_spec(name, *rest)
sys.modules["torch"] = None
from vortex.engines.base import load_engine, why_unavailable
from vortex.errors import MissingExtraError
print(why_unavailable("liveportrait"))
try:
    load_engine("liveportrait")
except MissingExtraError as exc:
    print(exc)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert "torch is not installed" in first and "vortex-portrait[neural]" in first
    assert "needs torch" in second and "vortex-portrait[neural]" in second
