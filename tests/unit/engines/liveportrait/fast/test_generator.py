"""Modulation in torch operations equals torch's instance norm and float64."""

from __future__ import annotations

import torch
from torch.nn import functional

from vortex.engines.liveportrait.fast.generator import SLOPE, NormalizedFeatures, instance_norm


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_instance_norm_is_torchs_also_before_enlarging() -> None:
    x = 5 + 3 * torch.randn(2, 3, 6, 7, generator=seeded(7))
    assert torch.allclose(instance_norm(x), functional.instance_norm(x), atol=1e-5)
    doubled = functional.interpolate(x, scale_factor=2.0)
    assert torch.allclose(
        functional.interpolate(instance_norm(x), scale_factor=2.0),
        functional.instance_norm(doubled),
        atol=1e-5,
    )


def test_half_types_are_measured_in_float32() -> None:
    """With a mean of 300 and a deviation of 1, sums in fp16 would overflow; its step there is 1/4."""
    x = (300 + torch.randn(1, 2, 64, 64, generator=seeded(8))).half()
    assert torch.allclose(instance_norm(x).float(), functional.instance_norm(x.float()), atol=2e-3)


def test_modulation_is_that_of_float64() -> None:
    x = 3 + 2 * torch.randn(2, 16, 12, 12, generator=seeded(8))
    scale, shift = (3 + 2 * torch.randn(2, 16, 24, 24, generator=seeded(seed)) for seed in (9, 10))
    got = NormalizedFeatures(x).modulated(scale, shift, repeat=2)
    enlarged = functional.interpolate(functional.instance_norm(x.double()), scale_factor=2.0)
    expected = functional.leaky_relu(enlarged * scale.double() + shift.double(), SLOPE)
    error = torch.linalg.vector_norm(got.double() - expected) / torch.linalg.vector_norm(expected)
    assert float(error) < 1e-6
