"""The same W and G with less arithmetic: every rewrite gives the published numbers, up to rounding.

What is saved, for the release's sizes, stands in docs/liveportrait.md. The algebra, each time on loaded
weights:

- A batch norm after a convolution, and the one that SPADE adds to its scale, go into weights and bias.
- Doubling a picture by repetition and then convolving it with 3 taps an axis reads each pixel up to three
  times. On the small picture that is a transposed convolution of 4 taps with stride 2; see :data:`DOUBLED`.
- Fourfold repetition leaves three different results of four along an axis (:data:`QUADRUPLED`); a convolution
  of them needs 10 taps for 4 pixels instead of 12 (:data:`PHASES`).
- A convolution is linear: what the source alone puts into it is computed once for a portrait, and a 1x1
  convolution after SPADE's shift is multiplied into the shift's weights.
- A convolution of 7x7 taps is a product in the Fourier domain; tiles keep the spectra small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vortex.engines.liveportrait.modulation import SLOPE, Standardise, TorchStandard
from vortex.engines.liveportrait.networks import (
    ConvNorm,
    DenseMotion,
    HourglassDecoder,
    Networks,
    Spade,
    SpadeBlock,
    SpadeGenerator,
    WarpSource,
    coordinate_grid,
    gaussian,
    sample_volume,
)

Taps = Sequence[Sequence[int]]
DOUBLED: Taps = ((2,), (1, 2), (0, 1), (0,))
"""New tap -> the taps of three that it sums: out[2i + p] of the doubled picture, as a transposed convolution.

With taps w and small picture x: out[2i] = w0 x[i-1] + (w1 + w2) x[i], out[2i+1] = (w0 + w1) x[i] + w2 x[i+1].
"""
QUADRUPLED: Taps = ((2,), (1, 2), (0, 1, 2), (0, 1), (0,))
"""The same with stride 3: out[4i] = a, out[4i+1] = out[4i+2] = b, out[4i+3] = c; the result holds a, b, c."""
MIRRORED: Taps = ((2,), (1,), (0,))
"""A transposed convolution of stride 1 reads its taps backwards."""
PHASES: tuple[tuple[int, Taps], ...] = (
    (1, ((0,), (1,), (2,))),  # c a b, the c of the pixel before
    (0, ((0,), (1, 2))),  # a b, and b again
    (2, ((0, 1), (2,))),  # b, b again, c
    (2, ((0,), (1,), (2,))),  # b c a, the a of the next pixel
)
"""For each pixel of four: padding of the row a b c a b c ..., read with stride 3, and what its taps sum."""


def rewrite_networks(networks: Networks, *, tensor_cores: bool = False) -> Networks:
    """Replace W's dense motion and G of float32 networks by their cheaper equals, in place.

    ``tensor_cores``: the networks will compute in a half type on a GPU. Plain convolutions are cheap there,
    and memory is dear, so that W's mask is convolved directly, not in the Fourier domain.
    """
    _fold(networks.warping.third)
    for block in networks.warping.modules():
        if isinstance(block, ConvNorm | HourglassDecoder | DenseMotion):
            _fold(block)
    dense = networks.warping.dense_motion_network
    if isinstance(dense, DenseMotion):
        mask = SliceConv(dense.mask) if tensor_cores else FourierConv(dense.mask, networks.sizes.feature_px)
        networks.warping.dense_motion_network = RewrittenDenseMotion(dense, mask)
    if isinstance(networks.generator, SpadeGenerator):
        networks.generator = RewrittenGenerator(networks.generator)
    networks.eval().requires_grad_(False)
    # colours of one pixel side by side: what fast convolutions read
    for module in networks.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return networks


def modulate_by(networks: Networks, standardise: Standardise) -> None:
    """Let a rewritten generator compute its modulations by ``standardise``."""
    for block in networks.generator.modules():
        if isinstance(block, ModulatedBlock):
            block.standardise = standardise


def _fold(block: nn.Module) -> None:
    """Multiply the batch norm of a block into its convolution; in float64, to round once only."""
    conv = cast(nn.Conv2d, block.compress if isinstance(block, DenseMotion) else block.conv)
    norm = block.norm
    if not isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
        return
    mean, var, bias = (cast(Tensor, t).double() for t in (norm.running_mean, norm.running_var, conv.bias))
    gain = norm.weight.double() / torch.sqrt(var + norm.eps)
    shape = (-1, *(1,) * (conv.weight.ndim - 1))
    conv.weight.copy_(conv.weight.double() * gain.view(shape))
    cast(Tensor, conv.bias).copy_((bias - mean) * gain + norm.bias.double())
    block.norm = nn.Identity()


def merge_taps(weight: Tensor, axis: int, taps: Taps) -> Tensor:
    """Return a kernel whose taps along ``axis`` are sums of those of ``weight``."""
    old = weight.unbind(axis)
    return torch.stack([cast(Tensor, sum(old[tap] for tap in which)) for which in taps], dim=axis)


def _set(conv: nn.Module, weight: Tensor, bias: Tensor | None = None) -> None:
    """Give a convolution its weights."""
    conv.weight = nn.Parameter(weight.float().contiguous(), requires_grad=False)
    if bias is not None:
        conv.bias = nn.Parameter(bias.float().contiguous(), requires_grad=False)


# ---------------------------------------- W


class DoublingConv(nn.ConvTranspose3d):
    """Doubling of height and width by repetition, 3x3x3 convolution and ReLU, at 4/9 of the arithmetic."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__(
            conv.in_channels, conv.out_channels, (3, 4, 4), stride=(1, 2, 2), padding=1, device="meta"
        )
        weight = merge_taps(conv.weight, 2, MIRRORED)
        weight = merge_taps(merge_taps(weight, 3, DOUBLED), 4, DOUBLED)
        _set(self, weight.transpose(0, 1), conv.bias)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(B, c, D, H, W) -> (B, c', D, 2H, 2W), from 0 on."""
        return functional.relu_(super().forward(x))


class FourierConv(nn.Module):
    """Convolution of 7x7x7 taps, padded to the same size: Fourier domain across, plain sum along the depth.

    Overlapping tiles of the picture are transformed, multiplied and transformed back; what wraps round in a
    tile is thrown away. Computes in float32 whatever comes in.
    """

    def __init__(self, conv: nn.Conv3d, size_px: int) -> None:
        """``size_px`` is the side of the picture; two tiles cover it."""
        super().__init__()
        self.taps = conv.kernel_size[0]
        self.fft_px = _smooth_even(-(-size_px // 2) + self.taps - 1)
        self.channels_out = conv.out_channels
        # convolution in the sense of networks is correlation: the taps are mirrored
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
    """Convolution of 7x7x7 taps, padded to the same size: plain ones across, a plain sum along the depth.

    Each slice is convolved once, for all taps along the depth side by side. That is as much arithmetic as in
    the published one, in the form that tensor cores are fed best: channels last, in multiples of eight.
    """

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.channels_out, inside, self.taps, *size = conv.weight.shape
        self.channels = -(-inside // 8) * 8
        parts = self.taps * self.channels_out
        weight = torch.zeros((-(-parts // 8) * 8, self.channels, *size), device=conv.weight.device)
        # (c', c, 7, 7, 7) -> (7 c', c, 7, 7)
        weight[:parts, :inside] = conv.weight.permute(2, 0, 1, 3, 4).flatten(0, 1)
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
    """(F, N, D, taps, ...) that slices give to their neighbours -> (F, N, D, ...), complex or float32."""
    depth, taps = product.shape[2:4]
    exact = torch.promote_types(product.dtype, torch.float32)
    total = product[:, :, :, taps // 2].to(exact, copy=True)
    for tap in range(taps):
        offset = tap - taps // 2
        low, high = max(0, -offset), min(depth, depth - offset)
        if offset and low < high:
            # not +=, which would copy the slice onto itself afterwards
            total[:, :, low:high].add_(product[:, :, low + offset : high + offset, tap])
    return total


def _smooth_even(least: int) -> int:
    """Return the smallest even number from ``least`` on without prime factors above 5: fast to transform."""

    def rest(number: int) -> int:
        for prime in (2, 3, 5):
            while number % prime == 0:
                number //= prime
        return number

    return next(n for n in range(least + least % 2, 2 * least + 2, 2) if rest(n) == 1)


@dataclass(frozen=True, slots=True)
class RewrittenSource(WarpSource):
    """Source work of :class:`RewrittenDenseMotion`.

    ``compressed`` (1, 4, 16, 64, 64) float32; ``heat`` (1, 21, 16, 64, 64) float32; ``first``
    (1, 64, 16, 64, 64) and ``last`` (1, 142, 16, 64, 64), what the unmoved volume adds to the first and last
    convolution of the hourglass, with their biases.
    """

    compressed: Tensor
    heat: Tensor
    first: Tensor
    last: Tensor


class RewrittenDenseMotion(nn.Module):
    """:class:`~vortex.engines.liveportrait.networks.DenseMotion` with 22 motions fewer than it seems.

    The first motion, that of the still background, depends on the source alone, and its heat is zero. The
    others are read in one pass, channels first: heat of every keypoint, then each compressed channel of every
    keypoint.
    """

    def __init__(self, dense: DenseMotion, mask: nn.Module) -> None:
        """``mask`` computes what ``dense.mask`` does, in float32 or a half type, and gives float32."""
        super().__init__()
        self.compress, self.occlusion = dense.compress, dense.occlusion
        self.mask = mask
        encoder, decoder = dense.hourglass.encoder, dense.hourglass.decoder
        first, *self.rest = (cast(ConvNorm, block) for block in encoder.down_blocks)
        self.down_blocks = nn.ModuleList(self.rest)
        self.up_blocks = nn.ModuleList(
            DoublingConv(cast(nn.Conv3d, cast(ConvNorm, block).conv)) for block in decoder.up_blocks
        )
        skip = decoder.channels_out - cast(nn.Conv3d, first.conv).in_channels
        self.first, self.first_still = _split_still(
            cast(nn.Conv3d, first.conv), 0, self.compress.out_channels
        )
        self.last, self.last_still = _split_still(decoder.conv, skip, self.compress.out_channels)

    def prepare(self, feature_3d: Tensor, x_s: Tensor) -> RewrittenSource:
        """f_s (1, 32, 16, 64, 64) and x_s (1, 21, 3) -> everything about the source, once a portrait."""
        x_s = x_s.float()
        compressed = functional.relu(self.compress(feature_3d))  # (1, 4, 16, 64, 64)
        d, h, w = compressed.shape[2:]
        grid = coordinate_grid(d, h, w, feature_3d.device)
        # the grid's corners are cell centres, those of the sampling are not: unmoved is not unchanged
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
        # masks sum to one, so that the grid itself is common to all motions
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
    """Split a convolution of ``skip`` channels and 22 motions of 1 + 4 channels each.

    Returns the one of the channels that move, (21 + 21 x 4) after the skipped ones and without bias, and the
    one of the 4 still ones, with it.
    """
    weight = conv.weight.data
    # (c', 22, 5, 3, 3, 3)
    moving = weight[:, skip:].reshape(len(weight), -1, 1 + compressed, *weight.shape[2:])
    # heat of the still motion, [:, 0, 0], is zero
    still, moving = moving[:, 0, 1:], moving[:, 1:].transpose(1, 2).flatten(1, 2)
    parts = []
    for part, bias in ((torch.cat([weight[:, :skip], moving], dim=1), None), (still, conv.bias)):
        split = nn.Conv3d(part.shape[1], len(part), 3, padding=1, bias=bias is not None, device="meta")
        _set(split, part, bias)
        parts.append(split)
    return parts[0], parts[1]


# ---------------------------------------- G


def _spade_weights(spade: Spade, shortcut: nn.Conv2d | None = None) -> tuple[Tensor, Tensor]:
    """Return weight and bias of scale and shift in one convolution; the scale has its 1 in the bias.

    With ``shortcut``, a 1x1 convolution that follows, the shift is what comes out behind it.
    """
    weight, bias = spade.mlp_beta.weight.double(), cast(Tensor, spade.mlp_beta.bias).double()
    if shortcut is not None:
        matrix = shortcut.weight.double().flatten(1)
        weight, bias = torch.einsum("oc,cikl->oikl", matrix, weight), matrix @ bias
    scale_bias = cast(Tensor, spade.mlp_gamma.bias).double() + 1
    return torch.cat([spade.mlp_gamma.weight.double(), weight]), torch.cat([scale_bias, bias])


def _hidden_weights(spades: Sequence[Spade]) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the shared convolutions of several norms in one."""
    convs = [cast(nn.Conv2d, spade.mlp_shared[0]) for spade in spades]
    return torch.cat([conv.weight for conv in convs]), torch.cat([cast(Tensor, conv.bias) for conv in convs])


class ScaleShift(nn.Conv2d):
    """SPADE's scale, 1 included, and shift from the hidden map: one convolution of 3x3."""

    def __init__(self, spade: Spade, shortcut: nn.Conv2d | None = None) -> None:
        weight, bias = _spade_weights(spade, shortcut)
        super().__init__(weight.shape[1], weight.shape[0], 3, padding=1, device="meta")
        _set(self, weight, bias)
        self.channels = spade.mlp_gamma.out_channels

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """(B, 128, H, W) -> scale (B, c, H, W) and shift (B, c', H, W)."""
        both = super().forward(hidden)
        return both[:, : self.channels], both[:, self.channels :]


class ModulatedBlock(nn.Module):
    """A SPADE block; ``standardise`` decides what its modulations are computed by."""

    standardise: Standardise = TorchStandard


class MiddleBlock(ModulatedBlock):
    """A SPADE block that keeps its width and size."""

    def __init__(self, block: SpadeBlock) -> None:
        super().__init__()
        self.norm_0, self.norm_1 = ScaleShift(block.norm_0), ScaleShift(block.norm_1)
        self.conv_0, self.conv_1 = block.conv_0, block.conv_1

    def forward(self, x: Tensor, hidden_0: Tensor, hidden_1: Tensor) -> Tensor:
        """x (B, c, H, W) and hidden maps (B, 128, H, W) -> (B, c, H, W)."""
        y = self.conv_0(self.standardise(x).modulated(*self.norm_0(hidden_0)))
        return x + cast(Tensor, self.conv_1(self.standardise(y).modulated(*self.norm_1(hidden_1))))


class DoublingHidden(nn.ConvTranspose2d):
    """SPADE's hidden map of features that are enlarged by repetition, from the small features."""

    def __init__(self, spade: Spade, taps: Taps) -> None:
        weight, bias = _hidden_weights([spade])
        super().__init__(
            weight.shape[1], len(weight), len(taps), stride=len(taps) - 2, padding=1, device="meta"
        )
        _set(self, merge_taps(merge_taps(weight, 2, taps), 3, taps).transpose(0, 1), bias)

    def forward(self, features: Tensor) -> Tensor:  # type: ignore[override]
        """(B, 256, H, W) -> (B, 128, 2H, 2W), or (B, 128, 3H, 3W) for :data:`QUADRUPLED`."""
        return functional.relu_(super().forward(features))


class DoublingBlock(ModulatedBlock):
    """A SPADE block whose input and features are doubled first, which is never done."""

    def __init__(self, block: SpadeBlock) -> None:
        super().__init__()
        norms = (block.norm_0, block.norm_1, block.norm_s)
        self.hidden = nn.ModuleList(DoublingHidden(norm, DOUBLED) for norm in norms)
        self.norm_0, self.norm_1 = ScaleShift(block.norm_0), ScaleShift(block.norm_1)
        self.norm_s = ScaleShift(block.norm_s, block.conv_s)
        self.conv_0, self.conv_1, self.conv_s = block.conv_0, block.conv_1, block.conv_s

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """x (B, c, H, W) and features (B, 256, H, W) -> (B, c', 2H, 2W)."""
        small = self.standardise(x)
        y = self.conv_0(small.modulated(*self.norm_0(self.hidden[0](features)), repeat=2))
        y = self.conv_1(self.standardise(y).modulated(*self.norm_1(self.hidden[1](features))))
        scale, shift = self.norm_s(self.hidden[2](features))
        return cast(Tensor, y.add_(shift).add_(self.conv_s(small.scaled(scale, repeat=2))))


class PhaseScaleShift(nn.Module):
    """:class:`ScaleShift` behind a fourfold repetition: one small convolution for each pixel of 4x4."""

    def __init__(self, spade: Spade, shortcut: nn.Conv2d | None = None) -> None:
        super().__init__()
        weight, bias = _spade_weights(spade, shortcut)
        self.channels = spade.mlp_gamma.out_channels
        self.hidden = DoublingHidden(spade, QUADRUPLED)
        self.convs = nn.ModuleList()
        for row_padding, row_taps in PHASES:
            for column_padding, column_taps in PHASES:
                kernel = merge_taps(merge_taps(weight, 2, row_taps), 3, column_taps)
                conv = nn.Conv2d(
                    weight.shape[1],
                    len(weight),
                    (len(row_taps), len(column_taps)),
                    stride=3,
                    padding=(row_padding, column_padding),
                    device="meta",
                )
                _set(conv, kernel, bias)
                self.convs.append(conv)

    def forward(self, features: Tensor) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """(B, 256, H, W) -> row, column of each of 4x4 pixels, scale (B, c, H, W), shift (B, c', H, W)."""
        hidden = self.hidden(features)
        rows, columns = features.shape[2:]
        for index, conv in enumerate(self.convs):
            # a padding of 2 gives one result too many, before the first
            both = conv(hidden)[:, :, -rows:, -columns:]
            yield *divmod(index, 4), both[:, : self.channels], both[:, self.channels :]


class QuadruplingBlock(ModulatedBlock):
    """A SPADE block whose features are a fourfold repetition, and its input a double one."""

    def __init__(self, block: SpadeBlock) -> None:
        super().__init__()
        self.norm_0, self.norm_1 = PhaseScaleShift(block.norm_0), PhaseScaleShift(block.norm_1)
        self.norm_s = PhaseScaleShift(block.norm_s, block.conv_s)
        self.conv_0, self.conv_1, self.conv_s = block.conv_0, block.conv_1, block.conv_s

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """x (B, c, 2H, 2W) and features (B, 256, H, W) -> (B, c', 4H, 4W)."""
        b, c, h, w = x.shape
        small = self.standardise(x)
        y = torch.empty(
            (b, c, 2 * h, 2 * w), dtype=x.dtype, device=x.device, memory_format=torch.channels_last
        )
        for row, column, scale, shift in self.norm_0(features):
            small.phase(row // 2, column // 2, 2).modulated(scale, shift, out=y[:, :, row::4, column::4])
        y = self.conv_0(y)
        large, y = self.standardise(y), torch.empty_like(y)
        for row, column, scale, shift in self.norm_1(features):
            large.phase(row, column, 4).modulated(scale, shift, out=y[:, :, row::4, column::4])
        y = self.conv_1(y)
        for row, column, scale, shift in self.norm_s(features):
            part = small.phase(row // 2, column // 2, 2).scaled(scale)
            y[:, :, row::4, column::4].add_(self.conv_s(part).add_(shift))
        return cast(Tensor, y)


class RewrittenGenerator(nn.Module):
    """:class:`~vortex.engines.liveportrait.networks.SpadeGenerator` at 78 % of its arithmetic."""

    def __init__(self, generator: SpadeGenerator) -> None:
        super().__init__()
        middle = [
            cast(SpadeBlock, generator.get_submodule(f"G_middle_{index}"))
            for index in range(generator.blocks)
        ]
        weight, bias = _hidden_weights([norm for block in middle for norm in (block.norm_0, block.norm_1)])
        self.hidden = nn.Conv2d(weight.shape[1], len(weight), 3, padding=1, device="meta")
        _set(self.hidden, weight, bias)
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
