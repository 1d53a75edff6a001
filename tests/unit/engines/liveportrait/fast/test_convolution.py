"""Convolutions with less arithmetic equal torch's, up to every border."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from vortex.engines.liveportrait.fast.convolution import DoublingConv, FourierConv, SliceConv


def test_doubling_then_convolving_on_the_small_volume() -> None:
    conv = nn.Conv3d(3, 5, 3, padding=1).requires_grad_(False)
    x = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(5))
    expected = functional.relu(conv(functional.interpolate(x, scale_factor=(1.0, 2.0, 2.0))))
    assert torch.allclose(DoublingConv(conv)(x), expected, atol=1e-5)


@pytest.mark.parametrize(("height", "width", "depth"), [(8, 8, 2), (9, 13, 5), (16, 16, 16), (5, 3, 1)])
@pytest.mark.parametrize(
    "kind", [lambda conv: FourierConv(conv, size_px=8), SliceConv], ids=["fourier", "slices"]
)
def test_the_convolution_equals_torchs(
    kind: Callable[[nn.Conv3d], nn.Module], height: int, width: int, depth: int
) -> None:
    conv = nn.Conv3d(3, 4, 7, padding=3).requires_grad_(False)
    x = torch.randn(2, 3, depth, height, width, generator=torch.Generator().manual_seed(6))
    got = kind(conv)(x)
    assert got.shape == (2, 4, depth, height, width)
    assert torch.allclose(got, conv(x), atol=1e-5)
