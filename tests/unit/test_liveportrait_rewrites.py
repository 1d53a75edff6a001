"""The rewritten W and G: the published numbers at toy size, and the arithmetic they save at the real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import liveportrait_release as release
import pytest
import torch
from liveportrait_work import Meter
from torch import Tensor, nn
from torch.nn import functional

from vortex.engines.liveportrait.modulation import normalise
from vortex.engines.liveportrait.networks import Networks, load_networks
from vortex.engines.liveportrait.rewrites import DoublingConv, FourierConv, SliceConv, rewrite_networks

GFLOP = 1e9


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release.write_release(tmp_path_factory.mktemp("toy"), release.TOY)


@pytest.fixture(scope="module")
def published(folder: Path) -> Networks:
    return load_networks(folder, release.TOY)


@pytest.fixture(scope="module", params=[False, True], ids=["fourier", "tensor cores"])
def rewritten(folder: Path, request: pytest.FixtureRequest) -> Networks:
    return rewrite_networks(load_networks(folder, release.TOY), tensor_cores=request.param)


def distance(got: Tensor, expected: Tensor) -> float:
    return float(torch.linalg.vector_norm(got - expected) / torch.linalg.vector_norm(expected))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---------------------------------------- the same numbers


def test_rewritten_networks_give_the_published_numbers(published: Networks, rewritten: Networks) -> None:
    feature = published.extract_appearance(torch.rand(1, 3, 32, 32, generator=seeded(1)))
    x_s = torch.rand(1, 21, 3, generator=seeded(2)) - 0.5
    x_d = x_s + 0.1 * torch.randn(3, 21, 3, generator=seeded(3))
    expected = published.warp(published.prepare_warp(feature, x_s), x_d)
    got = rewritten.warp(rewritten.prepare_warp(feature, x_s), x_d)
    assert distance(got.deformation, expected.deformation) < 1e-6
    assert distance(got.occlusion, expected.occlusion) < 2e-6
    assert distance(got.features, expected.features) < 2e-6
    assert distance(rewritten.decode(expected.features), published.decode(expected.features)) < 2e-6


def test_rewriting_twice_changes_nothing(folder: Path, rewritten: Networks) -> None:
    twice = rewrite_networks(rewrite_networks(load_networks(folder, release.TOY)))
    features = torch.randn(1, 8, 8, 8, generator=seeded(4))
    assert torch.equal(twice.decode(features), rewritten.decode(features))


def test_doubling_then_convolving_on_the_small_volume() -> None:
    conv = nn.Conv3d(3, 5, 3, padding=1).requires_grad_(False)
    x = torch.randn(2, 3, 4, 5, 6, generator=seeded(5))
    expected = functional.relu(conv(functional.interpolate(x, scale_factor=(1.0, 2.0, 2.0))))
    assert torch.allclose(DoublingConv(conv)(x), expected, atol=1e-5)


@pytest.mark.parametrize(("height", "width", "depth"), [(8, 8, 2), (9, 13, 5), (16, 16, 16), (5, 3, 1)])
@pytest.mark.parametrize(
    "kind", [lambda conv: FourierConv(conv, size_px=8), SliceConv], ids=["fourier", "slices"]
)
def test_the_large_convolution_up_to_every_border(
    kind: Callable[[nn.Conv3d], nn.Module], height: int, width: int, depth: int
) -> None:
    conv = nn.Conv3d(3, 4, 7, padding=3).requires_grad_(False)
    x = torch.randn(2, 3, depth, height, width, generator=seeded(6))
    got = kind(conv)(x)
    assert got.shape == (2, 4, depth, height, width)
    assert torch.allclose(got, conv(x), atol=1e-5)


def test_instance_norm_is_that_of_torch_also_before_enlarging() -> None:
    x = 5 + 3 * torch.randn(2, 3, 6, 7, generator=seeded(7))
    assert torch.allclose(normalise(x), functional.instance_norm(x), atol=1e-5)
    doubled = functional.interpolate(x, scale_factor=2.0)
    assert torch.allclose(
        functional.interpolate(normalise(x), scale_factor=2.0), functional.instance_norm(doubled), atol=1e-5
    )


def test_half_types_are_measured_in_float32() -> None:
    """A mean of 300 with a spread of 1: in fp16, whose numbers there are 1/4 apart, sums would overflow."""
    x = (300 + torch.randn(1, 2, 64, 64, generator=seeded(8))).half()
    assert torch.allclose(normalise(x).float(), functional.instance_norm(x.float()), atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_of_rewritten_networks(folder: Path, rewritten: Networks, dtype: torch.dtype) -> None:
    half = rewrite_networks(load_networks(folder, release.TOY), tensor_cores=True).set_precision(dtype)
    assert half.dtype == dtype
    feature = rewritten.extract_appearance(torch.rand(1, 3, 32, 32, generator=seeded(9)))
    x_s = torch.rand(1, 21, 3, generator=seeded(10)) - 0.5
    x_d = x_s + 0.05 * torch.randn(2, 21, 3, generator=seeded(11))

    def frame(networks: Networks) -> Tensor:
        source = networks.prepare_warp(feature.to(networks.dtype), x_s)
        return networks.decode(networks.warp(source, x_d).features).float()

    assert distance(frame(half), frame(rewritten)) < 3e-2


# ---------------------------------------- the arithmetic


def count(work: Callable[[], Any]) -> float:
    with Meter() as meter:
        work()
    return sum(step.flops for step in meter.steps)


@pytest.fixture(scope="module")
def costs() -> dict[str, float]:
    """Floating-point operations of a frame at the real size, counted on tensors without data."""
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


def test_the_rewritten_networks_cost_less_than_promised(costs: dict[str, float]) -> None:
    assert costs["rewritten G"] < 700 * GFLOP
    assert costs["rewritten W"] < 176 * GFLOP
    # the mask's convolution, 140 GFLOP when done directly, now costs the rest
    assert costs["rewritten W"] + costs["rewritten G"] < 0.88e12
    assert costs["tensor cores W"] + costs["tensor cores G"] < 1.01e12
