"""W's dense motion with less arithmetic: the source's own contribution is computed once for a portrait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vortex.engines.liveportrait.fast.convolution import DoublingConv, set_weights
from vortex.engines.liveportrait.networks import (
    DenseMotion,
    WarpSource,
    coordinate_grid,
    gaussian,
    sample_volume,
)


@dataclass(frozen=True, slots=True)
class RewrittenSource(WarpSource):
    """What :class:`RewrittenDenseMotion` computes once for a source.

    ``compressed`` (1, 4, 16, 64, 64) float32; ``heat`` (1, 21, 16, 64, 64) float32; ``first`` (1, 64, 16, 64,
    64) and ``last`` (1, 142, 16, 64, 64) are what the unmoved volume adds to the first and last convolution
    of the hourglass, biases included.
    """

    compressed: Tensor
    heat: Tensor
    first: Tensor
    last: Tensor


class RewrittenDenseMotion(nn.Module):
    """:class:`~vortex.engines.liveportrait.networks.DenseMotion` without the work that repeats for a source.

    The motion of the still background depends on the source alone, and its heat is zero. The other 21 motions
    are sampled in one pass and stacked by channel: the heat of every keypoint, then each compressed channel
    of every keypoint. Convolutions are linear, so the background's contribution is added to their results.
    """

    def __init__(self, dense: DenseMotion, mask: nn.Module) -> None:
        """``mask`` computes what ``dense.mask`` does, in float32 or a half type, and returns float32."""
        super().__init__()
        self.compress, self.occlusion = dense.compress, dense.occlusion
        self.mask = mask
        encoder, decoder = dense.hourglass.encoder, dense.hourglass.decoder
        self.down_blocks = encoder.down_blocks[1:]
        ups = [cast(nn.Conv3d, block.get_submodule("conv")) for block in decoder.up_blocks]
        self.up_blocks = nn.ModuleList(map(DoublingConv, ups))
        first = cast(nn.Conv3d, encoder.down_blocks[0].get_submodule("conv"))
        self.first, self.first_still = _split_still(first, 0, self.compress.out_channels)
        skip = decoder.channels_out - first.in_channels
        self.last, self.last_still = _split_still(decoder.conv, skip, self.compress.out_channels)

    def prepare(self, feature_3d: Tensor, x_s: Tensor) -> RewrittenSource:
        """f_s (1, 32, 16, 64, 64) and x_s (1, 21, 3) -> what every frame needs of the source."""
        x_s = x_s.float()
        compressed = functional.relu(self.compress(feature_3d))  # (1, 4, 16, 64, 64)
        d, h, w = compressed.shape[2:]
        grid = coordinate_grid(d, h, w, feature_3d.device)
        # Sampling counts from cell edges, the grid from cell centres: it changes the unmoved volume, too.
        still = sample_volume(compressed, grid[None])
        return RewrittenSource(
            feature_3d=feature_3d,
            x_s=x_s,
            compressed=compressed.float(),
            heat=gaussian(grid, x_s),
            first=self.first_still(still),
            last=self.last_still(still),
        )

    def forward(self, source: RewrittenSource, x_d: Tensor) -> tuple[Tensor, Tensor]:
        """A source and x_d (B, 21, 3) -> deformation (B, 16, 64, 64, 3) float32 and occlusion
        (B, 1, 64, 64) in [0, 1]."""
        b, k = x_d.shape[:2]
        d, h, w = source.compressed.shape[2:]
        grid = coordinate_grid(d, h, w, x_d.device)
        shift = source.x_s - x_d.float()  # (B, 21, 3)
        places = (grid + shift[:, :, None, None, None]).view(b, k * d, h, w, 3)
        moved = sample_volume(source.compressed.expand(b, -1, -1, -1, -1), places)  # (B, 4, 21 x 16, 64, 64)
        heat = gaussian(grid, x_d.float()) - source.heat  # (B, 21, 16, 64, 64)
        parts = (heat, moved.view(b, -1, d, h, w))
        stacked = torch.cat([part.to(source.first.dtype) for part in parts], dim=1)  # (B, 105, 16, 64, 64)
        prediction = self._hourglass(stacked, source)  # (B, 142, 16, 64, 64)
        mask = functional.softmax(self.mask(prediction), dim=1)  # (B, 22, 16, 64, 64)
        # The masks sum to one, so the grid itself is common to all motions.
        deformation = grid + torch.einsum("bkdhw,bkx->bdhwx", mask[:, 1:], shift)
        flat = prediction.reshape(b, -1, h, w)  # (B, 142, 16, 64, 64) -> (B, 2272, 64, 64)
        return deformation, torch.sigmoid(self.occlusion(flat))

    def _hourglass(self, x: Tensor, source: RewrittenSource) -> Tensor:
        """(B, 105, 16, 64, 64) -> (B, 142, 16, 64, 64)."""
        y = functional.relu_(self.first(x).add_(source.first))
        levels = [x, _halve(y)]
        for block in self.down_blocks:
            levels.append(block(levels[-1]))
        y = levels.pop()
        for block in self.up_blocks:
            y = torch.cat([block(y), levels.pop()], dim=1)
        return functional.relu_(self.last(y).add_(source.last))


def _halve(x: Tensor) -> Tensor:
    """(B, c, D, H, W) -> (B, c, D, H/2, W/2), averaged."""
    pooled = functional.avg_pool2d(x.flatten(1, 2), 2)
    return pooled.view(*x.shape[:-2], *pooled.shape[-2:])


def _split_still(conv: nn.Conv3d, skip: int, compressed: int) -> tuple[nn.Conv3d, nn.Conv3d]:
    """Split the convolution: ``skip`` and moving channels, without bias, and the 4 still ones, with it."""
    weight = conv.weight.data
    # (c', 22, 5, 3, 3, 3)
    moving = weight[:, skip:].reshape(len(weight), -1, 1 + compressed, *weight.shape[2:])
    # The heat of the still motion, [:, 0, 0], is zero.
    still, moving = moving[:, 0, 1:], moving[:, 1:].transpose(1, 2).flatten(1, 2)
    parts = []
    for part, bias in ((torch.cat([weight[:, :skip], moving], dim=1), None), (still, conv.bias)):
        split = nn.Conv3d(part.shape[1], len(part), 3, padding=1, bias=bias is not None, device="meta")
        set_weights(split, part, bias)
        parts.append(split)
    return parts[0], parts[1]
