"""Loading checks its arguments first; rewritten networks give the published numbers with less arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from liveportrait import Meter
from support import liveportrait_release as release
from torch import Tensor

from vortex.engines.liveportrait import load, load_liveportrait
from vortex.engines.liveportrait import networks as networks_module
from vortex.engines.liveportrait.load import rewrite_networks
from vortex.engines.liveportrait.networks import Networks, load_networks, sample_volume, samples_volumes
from vortex.engines.registry import load_engine
from vortex.errors import (
    DeviceUnavailableError,
    InputError,
    OutOfMemoryError,
    PrecisionUnsupportedError,
    WeightsCorruptError,
    WeightsMissingError,
)
from vortex.weights.cache import WEIGHTS

GB = 1_000_000_000


def test_loading_refuses_what_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    with pytest.raises(PrecisionUnsupportedError, match=r"precision is 'fp16'.*precision='fp32'"):
        load_liveportrait("cpu")
    with pytest.raises(InputError, match="precision is 'int4'; give one of fp16, bf16, fp32"):
        load_liveportrait("cpu", "int4")
    with pytest.raises(InputError, match="batch_frames is 0"):
        load_liveportrait("cpu", "fp32", batch_frames=0)
    with pytest.raises(InputError, match="device is 'tpu'"):
        load_liveportrait("tpu")
    with pytest.raises(WeightsMissingError, match="vortex weights fetch liveportrait"):
        load_liveportrait("cpu", "fp32")


def test_the_engine_loads_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        "vortex.engines.liveportrait.load.load_networks",
        lambda folder: release.load_networks(folder, release.TOY),
    )
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    release.write_release(tmp_path / "liveportrait", release.TOY)
    release.publish(monkeypatch, tmp_path / "liveportrait")
    engine = load_engine("liveportrait", device="cpu")
    assert engine.name == "liveportrait"
    engine.close()


def test_weights_in_the_cache_are_verified_when_they_are_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    release.write_release(tmp_path / "liveportrait", release.TOY)
    release.publish(monkeypatch, tmp_path / "liveportrait")
    spoiled = tmp_path / "liveportrait" / WEIGHTS["liveportrait"][0].path
    content = bytearray(spoiled.read_bytes())
    content[-1] ^= 1
    spoiled.write_bytes(content)
    with pytest.raises(WeightsCorruptError, match="SHA-256"):
        load_liveportrait("cpu", "fp32")


def test_a_budget_limits_the_frames_rendered_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    release.write_release(tmp_path / "liveportrait")
    release.publish(monkeypatch, tmp_path / "liveportrait")
    model = load_liveportrait("cpu", "fp32", memory_budget_bytes=2 * GB)
    assert model.renderer.batch_frames == 2
    model.close()
    with pytest.raises(OutOfMemoryError, match=r"memory budget is 1\.00 GB"):
        load_liveportrait("cpu", "fp32", memory_budget_bytes=GB)


pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_device_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU stands for a device of Apple: right by itself, wrong with an operation that is off."""
    cpu, mps = torch.device("cpu"), torch.device("mps")
    assert load.arithmetic_error(cpu) == 0
    places: list[torch.device] = []
    right = Networks.decode

    def wrong(self: Networks, features: Tensor) -> Tensor:
        places.append(features.device)
        return right(self, features if len(places) % 2 else features * 1.5)

    monkeypatch.setattr(Networks, "decode", wrong)
    assert load.arithmetic_error(cpu) > load.MAX_ARITHMETIC_ERROR
    monkeypatch.setattr(load, "arithmetic_error", lambda device: 1e-5)
    load.check_arithmetic(mps)
    for error in (0.2, float("nan")):
        monkeypatch.setattr(load, "arithmetic_error", lambda device, error=error: error)
        with pytest.raises(DeviceUnavailableError, match=r"cannot render on 'mps' \(its pictures are off by"):
            load.check_arithmetic(mps)

    def lacks(device: torch.device) -> float:
        raise NotImplementedError("no operator 'aten::x'")

    monkeypatch.setattr(load, "arithmetic_error", lacks)
    with pytest.raises(DeviceUnavailableError, match=r"aten::x.*device 'cpu'"):
        load.check_arithmetic(mps)


def test_volumes_are_sampled_elsewhere_where_the_device_cannot(
    toy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch has no device "mps" here, which is the answer of one that cannot; results must not change."""
    volume = torch.rand(1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    grid = torch.rand(1, 3, 4, 4, 3, generator=torch.Generator().manual_seed(2)) * 2 - 1
    here = sample_volume(volume, grid)
    assert samples_volumes("cpu") and not samples_volumes("mps")
    monkeypatch.setattr(networks_module, "samples_volumes", lambda device_type: False)
    assert torch.equal(sample_volume(volume, grid), here)
    half = sample_volume(volume.half(), grid)
    assert half.dtype == torch.float16


GFLOP = 1e9


@pytest.fixture(scope="module", params=[False, True], ids=["fourier", "tensor cores"])
def rewritten(toy_folder: Path, request: pytest.FixtureRequest) -> Networks:
    return rewrite_networks(load_networks(toy_folder, release.TOY), tensor_cores=request.param)


def distance(got: Tensor, expected: Tensor) -> float:
    return float(torch.linalg.vector_norm(got - expected) / torch.linalg.vector_norm(expected))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_rewritten_networks_give_the_published_numbers(networks: Networks, rewritten: Networks) -> None:
    feature = networks.extract_appearance(torch.rand(1, 3, 32, 32, generator=seeded(1)))
    x_s = torch.rand(1, 21, 3, generator=seeded(2)) - 0.5
    x_d = x_s + 0.1 * torch.randn(3, 21, 3, generator=seeded(3))
    expected = networks.warp(networks.prepare_warp(feature, x_s), x_d)
    got = rewritten.warp(rewritten.prepare_warp(feature, x_s), x_d)
    assert distance(got.deformation, expected.deformation) < 1e-6
    assert distance(got.occlusion, expected.occlusion) < 2e-6
    assert distance(got.features, expected.features) < 2e-6
    assert distance(rewritten.decode(expected.features), networks.decode(expected.features)) < 2e-6


def test_rewriting_twice_changes_nothing(toy_folder: Path, rewritten: Networks) -> None:
    twice = rewrite_networks(rewrite_networks(load_networks(toy_folder, release.TOY)))
    features = torch.randn(1, 8, 8, 8, generator=seeded(4))
    assert torch.equal(twice.decode(features), rewritten.decode(features))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_of_rewritten_networks(
    toy_folder: Path, rewritten: Networks, dtype: torch.dtype
) -> None:
    half = rewrite_networks(load_networks(toy_folder, release.TOY), tensor_cores=True).set_precision(dtype)
    assert half.dtype == dtype
    feature = rewritten.extract_appearance(torch.rand(1, 3, 32, 32, generator=seeded(9)))
    x_s = torch.rand(1, 21, 3, generator=seeded(10)) - 0.5
    x_d = x_s + 0.05 * torch.randn(2, 21, 3, generator=seeded(11))

    def frame(networks: Networks) -> Tensor:
        source = networks.prepare_warp(feature.to(networks.dtype), x_s)
        return networks.decode(networks.warp(source, x_d).features).float()

    assert distance(frame(half), frame(rewritten)) < 3e-2


def count(work: Callable[[], object]) -> float:
    with Meter() as meter:
        work()
    return sum(step.flops for step in meter.steps)


@pytest.fixture(scope="module")
def costs() -> dict[str, float]:
    """Return the floating-point operations of a frame at the real size, counted on tensors without data."""
    result = {}
    for name, change in (
        ("published", lambda networks: networks),
        ("rewritten", rewrite_networks),
        ("tensor cores", partial(rewrite_networks, tensor_cores=True)),
    ):
        with torch.device("meta"):
            networks = change(Networks())
            feature, x = torch.empty(1, 32, 16, 64, 64), torch.empty(1, 21, 3)
            source = networks.prepare_warp(feature, x)
            features = torch.empty(1, 256, 64, 64)
            result[f"{name} W"] = count(lambda: networks.warp(source, x))  # noqa: B023
            result[f"{name} G"] = count(lambda: networks.decode(features))  # noqa: B023
    return result


def test_the_published_networks_cost_what_is_published(costs: dict[str, float]) -> None:
    assert costs["published G"] == pytest.approx(890 * GFLOP, rel=2e-3)
    assert costs["published W"] == pytest.approx(342 * GFLOP, rel=5e-3)


def test_the_rewritten_networks_cost_what_the_docs_say(costs: dict[str, float]) -> None:
    """The table of docs/liveportrait.md, section "Cost, and exact savings"."""
    assert costs["rewritten W"] == pytest.approx(172 * GFLOP, rel=5e-3)
    assert costs["rewritten G"] == pytest.approx(698 * GFLOP, rel=2e-3)
    assert costs["tensor cores W"] == pytest.approx(310 * GFLOP, rel=5e-3)
    assert costs["tensor cores G"] == costs["rewritten G"]
