"""Convolutions with less arithmetic: batch norms folded in, enlargement folded in, and W's large one.

Doubling a picture by repetition and then convolving it with 3 taps along each axis reads each pixel up to
three times. On the small picture, the same is a transposed convolution of 4 taps with stride 2; see
:data:`DOUBLED`. Fourfold repetition leaves three different results of four along an axis
(:data:`QUADRUPLED`); convolving these needs 10 taps for 4 pixels instead of 12 (:data:`PHASES`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vortex.engines.liveportrait.networks import DenseMotion

Taps = Sequence[Sequence[int]]
"""For each new tap, which of the three old taps it sums."""
DOUBLED: Taps = ((2,), (1, 2), (0, 1), (0,))
"""Taps of the transposed convolution, stride 2, that gives out[2i + p] of the doubled picture.

With taps w and small picture x: out[2i] = w0 x[i-1] + (w1 + w2) x[i], out[2i+1] = (w0 + w1) x[i] + w2 x[i+1].
"""
QUADRUPLED: Taps = ((2,), (1, 2), (0, 1, 2), (0, 1), (0,))
"""The same with stride 3: out[4i] = a, out[4i+1] = out[4i+2] = b, out[4i+3] = c; the result holds a, b, c."""
MIRRORED: Taps = ((2,), (1,), (0,))
"""A transposed convolution of stride 1 reads its taps backwards."""
PHASES: tuple[tuple[int, Taps], ...] = (
    (1, ((0,), (1,), (2,))),  # c a b, with the c of the previous pixel
    (0, ((0,), (1, 2))),  # a b b
    (2, ((0, 1), (2,))),  # b b c
    (2, ((0,), (1,), (2,))),  # b c a, with the a of the next pixel
)
"""For each pixel of four: padding of the row a b c a b c ..., read with stride 3, and what its taps sum."""


def fold_batch_norm(block: nn.Module) -> None:
    """Multiply a block's batch norm, if it still has one, into its convolution in place, in float64."""
    norm = getattr(block, "norm", None)
    if not isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
        return
    conv = cast(nn.Conv2d, block.compress if isinstance(block, DenseMotion) else block.conv)
    mean, var, bias = (cast(Tensor, t).double() for t in (norm.running_mean, norm.running_var, conv.bias))
    gain = norm.weight.double() / torch.sqrt(var + norm.eps)
    shape = (-1, *(1,) * (conv.weight.ndim - 1))
    conv.weight.copy_(conv.weight.double() * gain.view(shape))
    cast(Tensor, conv.bias).copy_((bias - mean) * gain + norm.bias.double())
    block.norm = nn.Identity()


def set_weights(conv: nn.Module, weight: Tensor, bias: Tensor | None = None) -> None:
    """Store ``weight`` and, if given, ``bias`` in a convolution, as float32 that needs no gradient."""
    conv.weight = nn.Parameter(weight.float().contiguous(), requires_grad=False)
    if bias is not None:
        conv.bias = nn.Parameter(bias.float().contiguous(), requires_grad=False)


def merge_taps(weight: Tensor, axis: int, taps: Taps) -> Tensor:
    """Return a kernel whose taps along ``axis`` are sums of those of ``weight``."""
    old = weight.unbind(axis)
    return torch.stack([cast(Tensor, sum(old[tap] for tap in which)) for which in taps], dim=axis)


class DoublingConv(nn.ConvTranspose3d):
    """Doubling of height and width by repetition, 3x3x3 convolution and ReLU, at 4/9 of the arithmetic."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__(
            conv.in_channels, conv.out_channels, (3, 4, 4), stride=(1, 2, 2), padding=1, device="meta"
        )
        weight = merge_taps(conv.weight, 2, MIRRORED)
        weight = merge_taps(merge_taps(weight, 3, DOUBLED), 4, DOUBLED)
        set_weights(self, weight.transpose(0, 1), conv.bias)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(B, c, D, H, W) -> (B, c', D, 2H, 2W), at least 0."""
        return functional.relu_(super().forward(x))


class FourierConv(nn.Module):
    """7x7x7 convolution, padded to the same size: each slice in the Fourier domain, summed over depth.

    Overlapping tiles of the picture are transformed, multiplied and transformed back; the part of a tile that
    wraps round is dropped. Tiles keep the spectra small. Computes in float32 for any input type.
    """

    def __init__(self, conv: nn.Conv3d, size_px: int) -> None:
        """``size_px`` is the side of the picture, which two tiles cover."""
        super().__init__()
        self.taps = conv.kernel_size[0]
        self.fft_px = _smooth_even(-(-size_px // 2) + self.taps - 1)
        self.channels_out = conv.out_channels
        # What networks call convolution is correlation, so the taps are mirrored.
        spectrum = torch.fft.rfft2(conv.weight.flip(-1, -2), s=(self.fft_px, self.fft_px))
        bins = spectrum.permute(3, 4, 1, 2, 0).flatten(0, 1).flatten(2)  # (F, c, 7 c')
        self.spectrum: Tensor
        self.register_buffer("spectrum", bins.contiguous(), persistent=False)
        self.bias = nn.Parameter(cast(Tensor, conv.bias).clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, D, H, W) -> (B, c', D, H, W) float32."""
        b, c, d, h, w = x.shape
        fft_px, margin = self.fft_px, self.taps - 1
        tile_px = fft_px - margin
        rows, columns = -(-h // tile_px), -(-w // tile_px)
        before = margin // 2
        after = [before + n * tile_px - size for n, size in ((columns, w), (rows, h))]
        padded = functional.pad(x, (before, after[0], before, after[1]))
        # (B, c, D, rows, columns, fft, fft)
        tiles = padded.unfold(3, fft_px, tile_px).unfold(4, fft_px, tile_px)
        # (fft, fft/2+1, B, rows, columns, D, c)
        bins = torch.fft.rfft2(tiles.float()).permute(5, 6, 0, 3, 4, 2, 1)
        product = torch.bmm(bins.reshape(len(self.spectrum), -1, c), self.spectrum)
        product = product.view(len(self.spectrum), -1, d, self.taps, self.channels_out)
        total = _sum_along_depth(product)  # (F, B rows columns, D, c')
        total = total.view(fft_px, -1, b, rows, columns, d, self.channels_out).permute(2, 6, 5, 3, 4, 0, 1)
        tiles = torch.fft.irfft2(total, s=(fft_px, fft_px))[..., margin:, margin:]
        # (B, c', D, rows, columns, tile, tile) -> (B, c', D, rows tile, columns tile)
        whole = tiles.transpose(-3, -2).reshape(b, -1, d, rows * tile_px, columns * tile_px)
        return cast(Tensor, whole[..., :h, :w] + self.bias.float().view(-1, 1, 1, 1))


class SliceConv(nn.Module):
    """The same as a 2-D convolution of each slice with the taps of all depths, summed over depth.

    The arithmetic is the published one, in the layout of tensor cores: channels last, in multiples of eight.
    """

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.channels_out, inside, self.taps, *size = conv.weight.shape
        self.channels = -(-inside // 8) * 8
        parts = self.taps * self.channels_out
        weight = torch.zeros((-(-parts // 8) * 8, self.channels, *size), device=conv.weight.device)
        weight[:parts, :inside] = conv.weight.permute(2, 0, 1, 3, 4).flatten(0, 1)  # -> (7 c', c, 7, 7)
        weight = weight.contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(cast(Tensor, conv.bias).clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, D, H, W) -> (B, c', D, H, W) float32."""
        b, c, d, h, w = x.shape
        slices = x.new_empty((b, d, h, w, self.channels))
        slices[..., :c], slices[..., c:] = x.permute(0, 2, 3, 4, 1), 0
        flat = slices.view(b * d, h, w, -1).permute(0, 3, 1, 2)  # (B D, c, H, W), channels last
        parts = functional.conv2d(flat, self.weight, padding=self.taps // 2)
        parts = parts[:, : self.taps * self.channels_out].view(b, d, self.taps, self.channels_out, h, w)
        total = _sum_along_depth(parts[None])[0]  # (B, D, c', H, W)
        return total.transpose(1, 2) + self.bias.float().view(-1, 1, 1, 1)


def _sum_along_depth(product: Tensor) -> Tensor:
    """Sum the slices' contributions: (F, N, D, taps, ...) -> (F, N, D, ...), complex or float32."""
    depth, taps = product.shape[2:4]
    exact = torch.promote_types(product.dtype, torch.float32)
    total = product[:, :, :, taps // 2].to(exact, copy=True)
    for tap in range(taps):
        offset = tap - taps // 2
        low, high = max(0, -offset), min(depth, depth - offset)
        if offset and low < high:
            # Unlike add_, += would copy the slice onto itself afterwards.
            total[:, :, low:high].add_(product[:, :, low + offset : high + offset, tap])
    return total


def _smooth_even(least: int) -> int:
    """Return the smallest even number >= ``least`` without prime factors above 5: FFTs of it are fast."""
    candidates = range(least + least % 2, 2 * least + 2, 2)
    # No prime factor occurs in n more often than n has bits.
    return next(n for n in candidates if 30 ** n.bit_length() % n == 0)
