"""SPADE's modulation in two fused Triton passes: the first measures the features, the second modulates.

In torch operations, normalizing, scaling, shifting and activating moves 34 bytes of memory for each number of
half precision: a float32 copy for the measurement (2 + 4 read and written, 4 read), the normalized features
(2 + 4, 4 + 2), the modulated (6 + 2) and the activated ones (2 + 2). Here it is 2 + (6 + 2) = 10. All
arithmetic is float32. Tensors are channels last, as convolutions leave them, so neighbouring threads read
neighbouring channels of a pixel. Triton comes with torch for CUDA on Linux.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from vortex.engines.liveportrait.fast.generator import EPS, SLOPE, NormalizedFeatures

MAX_SPLITS = 64
"""Most parts of a picture that are measured in parallel; one program then merges them."""
BLOCK_PIXELS, BLOCK_CHANNELS = 32, 64
"""What one program processes at a time: 8 numbers for each of 256 threads."""
WARPS = 8


@triton.jit  # type: ignore[untyped-decorator]
def measure_kernel(  # type: ignore[no-untyped-def]
    x, means, squares, counts, pixels, width, channels, x_image, x_row, x_pixel,
    STEPS: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Compute mean and sum of squared deviations of a range of pixels, for each channel.

    Blocks are merged by the formula of Chan, Golub & LeVeque (1983); plain sums of squares would cancel.
    """
    image, split = tl.program_id(0), tl.program_id(1)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    inside = channel < channels
    base = x + image.to(tl.int64) * x_image + channel[None, :]
    first = split * STEPS * PIXELS
    count = 0.0
    mean = tl.zeros([CHANNELS], tl.float32)
    square = tl.zeros([CHANNELS], tl.float32)
    for step in range(STEPS):
        start = first + step * PIXELS
        pixel = start + tl.arange(0, PIXELS)
        taken = (pixel < pixels)[:, None] & inside[None, :]
        offset = (pixel // width) * x_row + (pixel % width) * x_pixel
        values = tl.load(base + offset[:, None], mask=taken, other=0.0).to(tl.float32)
        # The last steps of the last program may have no pixels.
        more = tl.maximum(tl.minimum(pixels - start, PIXELS), 0).to(tl.float32)
        more_mean = tl.sum(values, axis=0) / tl.maximum(more, 1.0)
        off = tl.where(taken, values - more_mean[None, :], 0.0)
        apart = more_mean - mean
        total = count + more
        square += tl.sum(off * off, axis=0) + apart * apart * (count * more / total)
        mean += apart * (more / total)
        count = total
    where = (image * tl.num_programs(1) + split) * channels + channel
    tl.store(means + where, mean, mask=inside)
    tl.store(squares + where, square, mask=inside)
    tl.store(counts + image * tl.num_programs(1) + split, count)


@triton.jit  # type: ignore[untyped-decorator]
def merge_kernel(  # type: ignore[no-untyped-def]
    means, squares, counts, gains, offsets, splits, channels, eps,
    SPLITS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Merge the parts into gain and offset per channel: (x - mean) / deviation = x gain + offset."""
    image = tl.program_id(0)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    split = tl.arange(0, SPLITS)
    taken = (split < splits)[:, None] & (channel < channels)[None, :]
    where = (image * splits + split)[:, None] * channels + channel[None, :]
    count = tl.load(counts + image * splits + split, mask=split < splits, other=0.0)
    mean = tl.load(means + where, mask=taken, other=0.0)
    square = tl.load(squares + where, mask=taken, other=0.0)
    total = tl.sum(count, axis=0)
    middle = tl.sum(mean * count[:, None], axis=0) / total
    apart = tl.where(taken, mean - middle[None, :], 0.0)
    variance = (tl.sum(square, axis=0) + tl.sum(apart * apart * count[:, None], axis=0)) / total
    gain = 1.0 / tl.sqrt(variance + eps)
    tl.store(gains + image * channels + channel, gain, mask=channel < channels)
    tl.store(offsets + image * channels + channel, -middle * gain, mask=channel < channels)


@triton.jit  # type: ignore[untyped-decorator]
def modulate_kernel(  # type: ignore[no-untyped-def]
    x, gains, offsets, scale, shift, out, pixels, width, channels, slope,
    x_image, x_row, x_pixel, scale_image, scale_row, scale_pixel,
    shift_image, shift_row, shift_pixel, out_image, out_row, out_pixel,
    SHIFTS: tl.constexpr, REPEAT: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Compute out = activation((x gain + offset) scale + shift), or the same without shift and activation."""
    image = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    row, column = pixel // width, pixel % width
    inside = channel < channels
    taken = (pixel < pixels)[:, None] & inside[None, :]
    x_at = (row // REPEAT) * x_row + (column // REPEAT) * x_pixel
    value = tl.load(x + image * x_image + x_at[:, None] + channel[None, :], mask=taken).to(tl.float32)
    gain = tl.load(gains + image * channels + channel, mask=inside)
    offset = tl.load(offsets + image * channels + channel, mask=inside)
    scale_at = image * scale_image + (row * scale_row + column * scale_pixel)[:, None] + channel[None, :]
    value = (value * gain[None, :] + offset[None, :]) * tl.load(scale + scale_at, mask=taken).to(tl.float32)
    if SHIFTS:
        shift_at = image * shift_image + (row * shift_row + column * shift_pixel)[:, None] + channel[None, :]
        value += tl.load(shift + shift_at, mask=taken).to(tl.float32)
        value = tl.where(value > 0, value, value * slope)
    out_at = image * out_image + (row * out_row + column * out_pixel)[:, None] + channel[None, :]
    tl.store(out + out_at, value.to(out.dtype.element_ty), mask=taken)


class FusedNormalizedFeatures(NormalizedFeatures):
    """:class:`vortex.engines.liveportrait.fast.generator.NormalizedFeatures` on a GPU, normalized on use."""

    def __init__(self, x: Tensor) -> None:
        self.x = channels_last(x)
        self.gains, self.offsets = measure(self.x)

    def modulated(
        self, scale: Tensor, shift: Tensor | None = None, *, repeat: int = 1, out: Tensor | None = None
    ) -> Tensor:
        """See :class:`vortex.engines.liveportrait.fast.generator.NormalizedFeatures`."""
        scale = channels_last(scale)
        shift = scale if shift is None else channels_last(shift)
        if out is None:
            out = torch.empty_like(scale, dtype=self.x.dtype, memory_format=torch.channels_last)
        images, channels, rows, columns = scale.shape
        pixels = rows * columns
        grid = (images, triton.cdiv(pixels, BLOCK_PIXELS), triton.cdiv(channels, BLOCK_CHANNELS))
        # Triton launches on the current device, which may be another than that of the tensors.
        with torch.cuda.device_of(out):  # type: ignore[no-untyped-call]
            modulate_kernel[grid](
                self.x, self.gains, self.offsets, scale, shift, out, pixels, columns, channels, SLOPE,
                *_strides(self.x), *_strides(scale), *_strides(shift), *_strides(out),
                SHIFTS=shift is not scale, REPEAT=repeat, PIXELS=BLOCK_PIXELS, CHANNELS=BLOCK_CHANNELS,
                num_warps=WARPS,
            )  # fmt: skip
        return out


def kernel_error_eps(device: torch.device, dtype: torch.dtype) -> float:
    """Return the relative L2 distance of these kernels from torch's operations, in epsilons of ``dtype``."""
    random = torch.Generator().manual_seed(0)
    x = channels_last(torch.randn((1, 70, 4, 12), generator=random).to(device, dtype) + 3)
    both = channels_last(torch.randn((1, 140, 8, 24), generator=random).to(device, dtype))
    scale, shift = both[:, :70], both[:, 70:]
    kinds = (FusedNormalizedFeatures, NormalizedFeatures)
    fused, plain = (kind(x).modulated(scale, shift, repeat=2) for kind in kinds)
    error = torch.linalg.vector_norm(fused.double() - plain.double())
    return float(error / torch.linalg.vector_norm(plain.double())) / torch.finfo(dtype).eps


def channels_last(x: Tensor) -> Tensor:
    """Return (B, c, H, W) with the channels of a pixel adjacent in memory; copies only if they are not."""
    return x if x.stride(1) == 1 else x.contiguous(memory_format=torch.channels_last)


def measure(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return gain and offset (B, c) float32 that normalize x (B, c, H, W), channels last."""
    images, channels, rows, columns = x.shape
    pixels = rows * columns
    steps = triton.cdiv(pixels, MAX_SPLITS * BLOCK_PIXELS)
    splits = triton.cdiv(pixels, steps * BLOCK_PIXELS)
    means, squares = x.new_empty((2, images, splits, channels), dtype=torch.float32)
    counts = x.new_empty((images, splits), dtype=torch.float32)
    groups = triton.cdiv(channels, BLOCK_CHANNELS)
    gains, offsets = x.new_empty((2, images, channels), dtype=torch.float32)
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        measure_kernel[images, splits, groups](
            x, means, squares, counts, pixels, columns, channels, *_strides(x),
            STEPS=steps, PIXELS=BLOCK_PIXELS, CHANNELS=BLOCK_CHANNELS, num_warps=WARPS,
        )  # fmt: skip
        merge_kernel[images, groups](
            means, squares, counts, gains, offsets, splits, channels, EPS,
            SPLITS=MAX_SPLITS, CHANNELS=BLOCK_CHANNELS, num_warps=WARPS,
        )  # fmt: skip
    return gains, offsets


def _strides(x: Tensor) -> tuple[int, int, int]:
    """Return the strides of images, rows and pixels, in elements."""
    return x.stride(0), x.stride(2), x.stride(3)
