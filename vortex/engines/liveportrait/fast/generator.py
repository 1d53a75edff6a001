"""G with less arithmetic: one convolution for SPADE's scale and shift, none on enlarged features.

SPADE's modulation normalizes channels to mean 0 and variance 1, then scales, shifts and activates them. Here
it is written in torch operations, each of which reads and writes the whole picture. That is cheap beside
the convolutions on a CPU and on small GPUs, but a third of the generator's time on fast ones;
:mod:`vortex.engines.liveportrait.fast.kernels` does the same in two passes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vortex.engines.liveportrait.fast.convolution import (
    DOUBLED,
    PHASES,
    QUADRUPLED,
    Taps,
    merge_taps,
    set_weights,
)
from vortex.engines.liveportrait.networks import Spade, SpadeBlock, SpadeGenerator

EPS = 1e-5
"""Of torch's instance norm, which the published network uses."""
SLOPE = 0.2
"""Leak of the activation after every modulation."""


class NormalizedFeatures:
    """Features (B, c, H, W), each channel of mean 0 and variance 1, also after pixels are repeated."""

    def __init__(self, x: Tensor) -> None:
        self.x = instance_norm(x)
        """The normalized pixels, or the original ones if a subclass normalizes them on use."""

    def phase(self, row: int, column: int, step: int) -> NormalizedFeatures:
        """Return every ``step``-th row and column, normalized by the statistics of the whole."""
        part = copy.copy(self)
        part.x = self.x[:, :, row::step, column::step]
        return part

    def modulated(
        self, scale: Tensor, shift: Tensor | None = None, *, repeat: int = 1, out: Tensor | None = None
    ) -> Tensor:
        """Return the activation of features * ``scale`` + ``shift``, the features enlarged by repetition.

        ``scale`` and ``shift`` are (B, c, ``repeat`` H, ``repeat`` W). Without ``shift``, return features *
        ``scale``, not activated. With ``shift``, ``out`` of that shape and any strides receives the result.
        """
        x, scale_cells = self.x, _cells(scale, repeat)
        if repeat > 1:
            x = x[:, :, :, None, :, None]
        if shift is None:
            return (x * scale_cells).reshape(scale.shape)
        result = torch.addcmul(_cells(shift, repeat), x, scale_cells).reshape(scale.shape)
        result = functional.leaky_relu_(result, SLOPE)
        return result if out is None else out.copy_(result)


Normalize = Callable[[Tensor], NormalizedFeatures]
"""Returns (B, c, H, W) as normalized features."""


def _cells(x: Tensor, repeat: int) -> Tensor:
    """View (B, c, r H, r W) as (B, c, H, r, W, r); unchanged if r is 1."""
    if repeat == 1:
        return x
    b, c, rows, columns = x.shape
    return x.view(b, c, rows // repeat, repeat, columns // repeat, repeat)


def instance_norm(x: Tensor) -> Tensor:
    """Return (B, c, H, W) with mean 0 and variance 1 in each channel, measured in float32; dtype is kept."""
    variance, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0, keepdim=True)
    scale = torch.rsqrt(variance + EPS)
    return torch.addcmul(-mean * scale, x, scale).to(x.dtype)


def _spade_weights(spade: Spade, shortcut: nn.Conv2d | None = None) -> tuple[Tensor, Tensor]:
    """Return weight and bias of one convolution for scale, plus 1, and shift, behind a 1x1 ``shortcut``."""
    weight, bias = spade.mlp_beta.weight.double(), cast(Tensor, spade.mlp_beta.bias).double()
    if shortcut is not None:
        matrix = shortcut.weight.double().flatten(1)
        weight, bias = torch.einsum("oc,cikl->oikl", matrix, weight), matrix @ bias
    scale_bias = cast(Tensor, spade.mlp_gamma.bias).double() + 1
    return torch.cat([spade.mlp_gamma.weight.double(), weight]), torch.cat([scale_bias, bias])


def _hidden_weights(spades: Sequence[Spade]) -> tuple[Tensor, Tensor]:
    """Return weight and bias of one convolution that does the shared convolutions of several norms."""
    convs = [cast(nn.Conv2d, spade.mlp_shared[0]) for spade in spades]
    return torch.cat([conv.weight for conv in convs]), torch.cat([cast(Tensor, conv.bias) for conv in convs])


class ScaleShift(nn.Conv2d):
    """SPADE's scale, 1 included, and shift from the hidden map, by one 3x3 convolution."""

    def __init__(self, spade: Spade, shortcut: nn.Conv2d | None = None) -> None:
        weight, bias = _spade_weights(spade, shortcut)
        super().__init__(weight.shape[1], weight.shape[0], 3, padding=1, device="meta")
        set_weights(self, weight, bias)
        self.channels = spade.mlp_gamma.out_channels

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """(B, 128, H, W) -> scale (B, c, H, W) and shift (B, c', H, W)."""
        both = super().forward(hidden)
        return both[:, : self.channels], both[:, self.channels :]


class ModulatedBlock(nn.Module):
    """A SPADE block; ``normalize`` chooses how its modulations are computed."""

    normalize: Normalize = NormalizedFeatures


class MiddleBlock(ModulatedBlock):
    """A SPADE block that keeps its width and size."""

    def __init__(self, block: SpadeBlock) -> None:
        super().__init__()
        self.norm_0, self.norm_1 = ScaleShift(block.norm_0), ScaleShift(block.norm_1)
        self.conv_0, self.conv_1 = block.conv_0, block.conv_1

    def forward(self, x: Tensor, hidden_0: Tensor, hidden_1: Tensor) -> Tensor:
        """x (B, c, H, W) and hidden maps (B, 128, H, W) -> (B, c, H, W)."""
        y = self.conv_0(self.normalize(x).modulated(*self.norm_0(hidden_0)))
        return x + cast(Tensor, self.conv_1(self.normalize(y).modulated(*self.norm_1(hidden_1))))


class DoublingHidden(nn.ConvTranspose2d):
    """SPADE's hidden map of features enlarged by repetition, computed from the small features."""

    def __init__(self, spade: Spade, taps: Taps) -> None:
        weight, bias = _hidden_weights([spade])
        super().__init__(
            weight.shape[1], len(weight), len(taps), stride=len(taps) - 2, padding=1, device="meta"
        )
        set_weights(self, merge_taps(merge_taps(weight, 2, taps), 3, taps).transpose(0, 1), bias)

    def forward(self, features: Tensor) -> Tensor:  # type: ignore[override]
        """(B, 256, H, W) -> (B, 128, 2H, 2W), or (B, 128, 3H, 3W) for :data:`QUADRUPLED`."""
        return functional.relu_(super().forward(features))


class DoublingBlock(ModulatedBlock):
    """A SPADE block of an input and features doubled by repetition, computed from the small ones."""

    def __init__(self, block: SpadeBlock) -> None:
        super().__init__()
        norms = (block.norm_0, block.norm_1, block.norm_s)
        self.hidden = nn.ModuleList(DoublingHidden(norm, DOUBLED) for norm in norms)
        self.norm_0, self.norm_1 = ScaleShift(block.norm_0), ScaleShift(block.norm_1)
        self.norm_s = ScaleShift(block.norm_s, block.conv_s)
        self.conv_0, self.conv_1, self.conv_s = block.conv_0, block.conv_1, block.conv_s

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """x (B, c, H, W) and features (B, 256, H, W) -> (B, c', 2H, 2W)."""
        small = self.normalize(x)
        y = self.conv_0(small.modulated(*self.norm_0(self.hidden[0](features)), repeat=2))
        y = self.conv_1(self.normalize(y).modulated(*self.norm_1(self.hidden[1](features))))
        scale, shift = self.norm_s(self.hidden[2](features))
        return cast(Tensor, y.add_(shift).add_(self.conv_s(small.modulated(scale, repeat=2))))


class PhaseScaleShift(nn.Module):
    """:class:`ScaleShift` behind a fourfold repetition: one small convolution for each pixel of 4x4."""

    def __init__(self, spade: Spade, shortcut: nn.Conv2d | None = None) -> None:
        super().__init__()
        weight, bias = _spade_weights(spade, shortcut)
        self.channels = spade.mlp_gamma.out_channels
        self.hidden = DoublingHidden(spade, QUADRUPLED)
        self.convs = nn.ModuleList()
        for (row_padding, row_taps), (column_padding, column_taps) in product(PHASES, repeat=2):
            size, padding = (len(row_taps), len(column_taps)), (row_padding, column_padding)
            conv = nn.Conv2d(weight.shape[1], len(weight), size, stride=3, padding=padding, device="meta")
            set_weights(conv, merge_taps(merge_taps(weight, 2, row_taps), 3, column_taps), bias)
            self.convs.append(conv)

    def forward(self, features: Tensor) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """(B, 256, H, W) -> for each of 4x4 pixels: row, column, scale (B, c, H, W), shift (B, c', H, W)."""
        hidden = self.hidden(features)
        rows, columns = features.shape[2:]
        for index, conv in enumerate(self.convs):
            # A padding of 2 gives one result too many, before the first.
            both = conv(hidden)[:, :, -rows:, -columns:]
            yield *divmod(index, 4), both[:, : self.channels], both[:, self.channels :]


class QuadruplingBlock(ModulatedBlock):
    """A SPADE block of features enlarged fourfold and an input doubled by repetition, from the small ones."""

    def __init__(self, block: SpadeBlock) -> None:
        super().__init__()
        self.norm_0, self.norm_1 = PhaseScaleShift(block.norm_0), PhaseScaleShift(block.norm_1)
        self.norm_s = PhaseScaleShift(block.norm_s, block.conv_s)
        self.conv_0, self.conv_1, self.conv_s = block.conv_0, block.conv_1, block.conv_s

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """x (B, c, 2H, 2W) and features (B, 256, H, W) -> (B, c', 4H, 4W)."""
        b, c, h, w = x.shape
        small = self.normalize(x)
        y = torch.empty(
            (b, c, 2 * h, 2 * w), dtype=x.dtype, device=x.device, memory_format=torch.channels_last
        )
        for row, column, scale, shift in self.norm_0(features):
            small.phase(row // 2, column // 2, 2).modulated(scale, shift, out=y[:, :, row::4, column::4])
        y = self.conv_0(y)
        large, y = self.normalize(y), torch.empty_like(y)
        for row, column, scale, shift in self.norm_1(features):
            large.phase(row, column, 4).modulated(scale, shift, out=y[:, :, row::4, column::4])
        y = self.conv_1(y)
        for row, column, scale, shift in self.norm_s(features):
            part = small.phase(row // 2, column // 2, 2).modulated(scale)
            y[:, :, row::4, column::4].add_(self.conv_s(part).add_(shift))
        return cast(Tensor, y)


class RewrittenGenerator(nn.Module):
    """:class:`~vortex.engines.liveportrait.networks.SpadeGenerator` at 78 % of its arithmetic."""

    def __init__(self, generator: SpadeGenerator) -> None:
        super().__init__()
        names = [f"G_middle_{index}" for index in range(generator.blocks)]
        middle = [cast(SpadeBlock, generator.get_submodule(name)) for name in names]
        weight, bias = _hidden_weights([norm for block in middle for norm in (block.norm_0, block.norm_1)])
        self.hidden = nn.Conv2d(weight.shape[1], len(weight), 3, padding=1, device="meta")
        set_weights(self.hidden, weight, bias)
        self.fc, self.conv_img = generator.fc, generator.conv_img
        self.middle = nn.ModuleList(MiddleBlock(block) for block in middle)
        self.up_0, self.up_1 = DoublingBlock(generator.up_0), QuadruplingBlock(generator.up_1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, 256, 64, 64) -> (B, 3, 512, 512) in [0, 1]."""
        features = features.contiguous(memory_format=torch.channels_last)
        hidden = functional.relu_(self.hidden(features)).chunk(2 * len(self.middle), dim=1)
        x = self.fc(features)  # (B, 512, 64, 64)
        for index, block in enumerate(self.middle):
            x = block(x, *hidden[2 * index : 2 * index + 2])
        x = self.up_1(self.up_0(x, features), features)  # -> (B, 256, 128, 128) -> (B, 64, 256, 256)
        # (B, 12, 256, 256) -> (B, 3, 512, 512)
        return torch.sigmoid(self.conv_img(functional.leaky_relu_(x, SLOPE)))
