"""SPADE's modulation: channels to mean 0 and variance 1, then every pixel scaled, shifted and activated.

Written in operations of torch, each of which reads and writes the whole picture. That is cheap beside
convolutions on a CPU and on small GPUs; on fast ones it is a third of the generator's time, which is why
:mod:`vortex.engines.liveportrait.kernels` does the same in two passes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

EPS = 1e-5
"""Of torch's instance norm, which the published network uses."""
SLOPE = 0.2
"""Leak of the activation behind every modulation."""


class Standard:
    """A picture (B, c, H, W), standardised: each channel of mean 0 and variance 1."""

    x: Tensor
    """Its pixels, or what they are made of when they are needed."""

    def phase(self, row: int, column: int, step: int) -> Standard:
        """Return every ``step``-th row and column, from these on; the measure is that of the whole."""
        part = copy.copy(self)
        part.x = self.x[:, :, row::step, column::step]
        return part

    def scaled(self, scale: Tensor, *, repeat: int = 1) -> Tensor:
        """Return picture * ``scale``, which is (B, c, ``repeat`` H, ``repeat`` W)."""
        raise NotImplementedError

    def modulated(
        self, scale: Tensor, shift: Tensor, *, repeat: int = 1, out: Tensor | None = None
    ) -> Tensor:
        """Return the activation of picture * ``scale`` + ``shift``, the picture enlarged by repetition.

        ``scale`` and ``shift`` (B, c, ``repeat`` H, ``repeat`` W); the result is written to ``out`` of that
        shape, if given, whose memory need not be contiguous.
        """
        raise NotImplementedError


Standardise = Callable[[Tensor], Standard]


class TorchStandard(Standard):
    """:class:`Standard` in operations of torch."""

    def __init__(self, x: Tensor) -> None:
        self.x = normalise(x)

    def scaled(self, scale: Tensor, *, repeat: int = 1) -> Tensor:
        """See :class:`Standard`."""
        return (self._repeated(repeat) * _cells(scale, repeat)).reshape(scale.shape)

    def modulated(
        self, scale: Tensor, shift: Tensor, *, repeat: int = 1, out: Tensor | None = None
    ) -> Tensor:
        """See :class:`Standard`."""
        x, scale_cells = self._repeated(repeat), _cells(scale, repeat)
        result = torch.addcmul(_cells(shift, repeat), x, scale_cells).reshape(scale.shape)
        result = functional.leaky_relu_(result, SLOPE)
        return result if out is None else out.copy_(result)

    def _repeated(self, repeat: int) -> Tensor:
        return self.x if repeat == 1 else self.x[:, :, :, None, :, None]


def _cells(x: Tensor, repeat: int) -> Tensor:
    """(B, c, r H, r W) -> (B, c, H, r, W, r), the same numbers; unchanged if r is 1."""
    if repeat == 1:
        return x
    b, c, rows, columns = x.shape
    return x.view(b, c, rows // repeat, repeat, columns // repeat, repeat)


def normalise(x: Tensor) -> Tensor:
    """Instance norm of (B, c, H, W): mean 0 and variance 1 of each channel, measured in float32; dtype kept.

    Repeating pixels changes neither, so that a picture may be normalised before it is enlarged.
    """
    variance, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0, keepdim=True)
    scale = torch.rsqrt(variance + EPS)
    return torch.addcmul(-mean * scale, x, scale).to(x.dtype)
