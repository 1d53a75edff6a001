"""The LivePortrait networks: F appearance, M motion, W warping, G decoder, S stitching and retargeting MLPs.

One class per box of the paper (Guo et al., 2024, arXiv:2407.03168). Attribute names equal the keys of the
release files, so these load strictly. Comments give shapes at every reshape, with the release's sizes.
Letters: B batch, K keypoints (21), C x D feature channels and depth (32 x 16), H = W = 64.

F, W and G may compute in a half type. Keypoints, sampling grids and both softmaxes stay in float32: a grid in
half precision has errors of 1/30 of a feature pixel, which are visible as shimmer on hair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vortex.errors import WeightsCorruptError, WeightsMissingError

LAYER_NORM_EPS = 1e-6
GRN_EPS = 1e-6
KEYPOINT_VARIANCE = 0.01
"""Variance of the gaussian around each keypoint, in squared units of the [-1, 1] feature cube."""
FILES: Mapping[str, str] = {
    "appearance": "base_models/appearance_feature_extractor.pth",
    "motion": "base_models/motion_extractor.pth",
    "warping": "base_models/warping_module.pth",
    "generator": "base_models/spade_generator.pth",
    "retargeting": "retargeting_models/stitching_retargeting_module.pth",
}
"""Network -> path below :func:`vortex.weights.cache.weights_dir`, the release's folder ``liveportrait``."""


@dataclass(frozen=True, slots=True)
class NetworkSizes:
    """Every number that determines the shape of the networks; the defaults are the release's."""

    input_px: int = 256
    keypoints: int = 21
    angle_bins: int = 66
    feature_channels: int = 32
    feature_depth: int = 16
    appearance_channels: tuple[int, ...] = (64, 128, 256)
    appearance_blocks: int = 6
    motion_channels: tuple[int, ...] = (96, 192, 384, 768)
    motion_blocks: tuple[int, ...] = (3, 3, 9, 3)
    compressed_channels: int = 4
    hourglass_channels: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    warped_channels: int = 256
    generator_channels: tuple[int, int, int] = (512, 256, 64)
    generator_blocks: int = 6
    spade_hidden: int = 128
    stitching_hidden: tuple[int, ...] = (128, 128, 64)
    lip_hidden: tuple[int, ...] = (128, 128, 64)
    eye_hidden: tuple[int, ...] = (256, 256, 128, 128, 64)

    @property
    def feature_px(self) -> int:
        """Side of the feature volume: F halves the input at each step between its channel counts."""
        return self.input_px >> (len(self.appearance_channels) - 1)

    @property
    def output_px(self) -> int:
        """Side of the rendered frame: G doubles the features three times."""
        return self.feature_px * 8


LIVEPORTRAIT_V1 = NetworkSizes()
"""The published human model."""


class ConvNorm(nn.Module):
    """Convolution, batch norm, activation: the repeated unit of F and W, in 2-D or 3-D."""

    def __init__(self, channels_in: int, channels_out: int, *, dims: int = 2, slope: float = 0.0) -> None:
        """``slope`` is the activation's slope for negative values, 0 for a plain ReLU."""
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.conv = conv(channels_in, channels_out, 3, padding=1)
        self.norm: nn.Module = norm(channels_out)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, ...) -> (B, channels_out, ...), same size."""
        return functional.leaky_relu(self.norm(self.conv(x)), self.slope)


class DownBlock(ConvNorm):
    """ConvNorm, then averaging to half the height and width; depth is kept."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, [D,] H, W) -> (B, c', [D,] H/2, W/2)."""
        x = super().forward(x)
        # 3-D pooling has no half types on a CPU, so depth joins the channels: -> (B, c' D, H, W)
        pooled = functional.avg_pool2d(x.flatten(1, -3), 2)
        return pooled.view(*x.shape[:-2], *pooled.shape[-2:])


class UpBlock(ConvNorm):
    """Doubling of height and width by repetition, then ConvNorm; depth is kept."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, D, H, W) -> (B, c', D, 2H, 2W)."""
        return super().forward(functional.interpolate(x, scale_factor=(1.0, 2.0, 2.0)))


class ResBlock3d(nn.Module):
    """Pre-activation residual block on the feature volume."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm1 = nn.BatchNorm3d(channels)
        self.norm2 = nn.BatchNorm3d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) -> the same shape."""
        y = self.conv1(functional.relu(self.norm1(x)))
        return x + cast(Tensor, self.conv2(functional.relu(self.norm2(y))))


class AppearanceExtractor(nn.Module):
    """F: source picture -> feature volume f_s."""

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        self.channels, self.depth = sizes.feature_channels, sizes.feature_depth
        widths = sizes.appearance_channels
        self.first = ConvNorm(3, widths[0])
        self.down_blocks = nn.ModuleList(DownBlock(a, b) for a, b in pairwise(widths))
        self.second = nn.Conv2d(widths[-1], self.channels * self.depth, 1)
        self.resblocks_3d = nn.Sequential()
        for index in range(sizes.appearance_blocks):
            self.resblocks_3d.add_module(f"3dr{index}", ResBlock3d(self.channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 256, 256) in [0, 1] -> (B, 32, 16, 64, 64)."""
        x = self.first(x)  # (B, 64, 256, 256)
        for block in self.down_blocks:
            x = block(x)  # -> (B, 256, 64, 64)
        x = self.second(x)  # (B, 512, 64, 64)
        b, _, h, w = x.shape
        x = x.view(b, self.channels, self.depth, h, w)  # (B, 512, 64, 64) -> (B, 32, 16, 64, 64)
        return cast(Tensor, self.resblocks_3d(x))


class ChannelsFirstNorm(nn.LayerNorm):
    """Layer norm over the channels of a picture."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> the same shape, each pixel normalized over c."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GlobalResponseNorm(nn.Module):
    """Scales each channel by its energy over the picture, relative to the mean energy (ConvNeXt V2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, c) -> the same shape."""
        energy = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)  # (B, 1, 1, c)
        relative = energy / (energy.mean(dim=-1, keepdim=True) + GRN_EPS)
        return cast(Tensor, self.gamma * (x * relative) + self.beta + x)


class ConvNextBlock(nn.Module):
    """Depth-wise 7x7 convolution, then a per-pixel MLP with global response norm, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=LAYER_NORM_EPS)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.grn = GlobalResponseNorm(4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> the same shape."""
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))  # (B, c, H, W) -> (B, H, W, c)
        y = self.pwconv2(self.grn(functional.gelu(self.pwconv1(y))))
        return cast(Tensor, x + y.permute(0, 3, 1, 2))  # (B, H, W, c) -> (B, c, H, W)


@dataclass(frozen=True, slots=True)
class KeypointInfo:
    """M's result for B pictures.

    ``canonical_kp`` x_c and ``exp`` (B, K, 3), ``scale`` (B, 1), ``translation`` (B, 3), ``angles_deg``
    (B, 3) pitch, yaw, roll in the network's signs; float32.
    """

    canonical_kp: Tensor
    exp: Tensor
    scale: Tensor
    translation: Tensor
    angles_deg: Tensor


class MotionExtractor(nn.Module):
    """M: picture -> canonical keypoints, expression, scale, translation, head angles (ConvNeXtV2-tiny)."""

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        widths, k = sizes.motion_channels, sizes.keypoints
        stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 4, stride=4), ChannelsFirstNorm(widths[0], eps=LAYER_NORM_EPS)
        )
        self.downsample_layers = nn.ModuleList([stem])
        for a, b in pairwise(widths):
            self.downsample_layers.append(
                nn.Sequential(ChannelsFirstNorm(a, eps=LAYER_NORM_EPS), nn.Conv2d(a, b, 2, stride=2))
            )
        self.stages = nn.ModuleList(
            nn.Sequential(*(ConvNextBlock(width) for _ in range(count)))
            for width, count in zip(widths, sizes.motion_blocks, strict=True)
        )
        self.norm = nn.LayerNorm(widths[-1], eps=LAYER_NORM_EPS)
        self.fc_kp = nn.Linear(widths[-1], 3 * k)
        self.fc_scale = nn.Linear(widths[-1], 1)
        self.fc_pitch = nn.Linear(widths[-1], sizes.angle_bins)
        self.fc_yaw = nn.Linear(widths[-1], sizes.angle_bins)
        self.fc_roll = nn.Linear(widths[-1], sizes.angle_bins)
        self.fc_t = nn.Linear(widths[-1], 3)
        self.fc_exp = nn.Linear(widths[-1], 3 * k)

    def forward(self, x: Tensor) -> KeypointInfo:
        """(B, 3, 256, 256) in [0, 1] -> KeypointInfo of B pictures."""
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))  # -> (B, 768, 8, 8)
        x = self.norm(x.mean(dim=(-2, -1)))  # (B, 768)
        angles = [angle_from_bins(head(x)) for head in (self.fc_pitch, self.fc_yaw, self.fc_roll)]
        return KeypointInfo(
            canonical_kp=self.fc_kp(x).view(x.shape[0], -1, 3),  # (B, 63) -> (B, 21, 3)
            exp=self.fc_exp(x).view(x.shape[0], -1, 3),
            scale=self.fc_scale(x),
            translation=self.fc_t(x),
            angles_deg=torch.stack(angles, dim=1),
        )


def angle_from_bins(logits: Tensor) -> Tensor:
    """(B, 66) logits of 3-degree bins -> (B,) expected angle in degrees; bin 32.5 is zero."""
    probability = functional.softmax(logits.float(), dim=1)
    bins = torch.arange(logits.shape[1], dtype=torch.float32, device=logits.device)
    return (probability * bins).sum(dim=1) * 3.0 - 97.5


def coordinate_grid(depth: int, height: int, width: int, device: torch.device) -> Tensor:
    """Return (D, H, W, 3) float32: x, y, z of each cell; the outer cells are at -1 and 1."""
    z, y, x = (
        torch.linspace(-1.0, 1.0, n, dtype=torch.float32, device=device) for n in (depth, height, width)
    )
    zz, yy, xx = torch.meshgrid(z, y, x, indexing="ij")
    return torch.stack([xx, yy, zz], dim=-1)


def sample_volume(volume: Tensor, grid: Tensor) -> Tensor:
    """Read (B, c, D, H, W) at (B, D', H', W', 3) float32 in [-1, 1] -> (B, c, D', H', W'), dtype kept."""
    place = grid.device if samples_volumes(grid.device.type) else torch.device("cpu")
    sampled = functional.grid_sample(volume.to(place, torch.float32), grid.to(place), align_corners=False)
    return sampled.to(grid.device, volume.dtype)


@cache
def samples_volumes(device_type: str) -> bool:
    """Return whether torch can sample volumes on a device; on Apple's "mps" it cannot before torch 2.9."""
    if device_type != "mps":
        return True
    try:
        functional.grid_sample(
            torch.zeros(1, 1, 2, 2, 2, device=device_type),
            torch.zeros(1, 1, 1, 1, 3, device=device_type),
            align_corners=False,
        )
    except (NotImplementedError, RuntimeError):
        return False
    return True


class HourglassEncoder(nn.Module):
    """Five halvings; the decoder receives every level."""

    def __init__(self, channels_in: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.down_blocks = nn.ModuleList(
            DownBlock(a, b, dims=3) for a, b in zip((channels_in, *widths[1:-1]), widths[1:], strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 110, 16, 64, 64) -> that and its five coarser levels, the last (B, 1024, 16, 2, 2)."""
        levels = [x]
        for block in self.down_blocks:
            levels.append(block(levels[-1]))
        return levels


class HourglassDecoder(nn.Module):
    """Five doublings; the encoder's level of the same size is appended after each."""

    def __init__(self, channels_in: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        down = widths[::-1]  # 1024, 512, 256, 128, 64, 32
        inputs = [down[0], *(2 * width for width in down[1:-1])]
        self.up_blocks = nn.ModuleList(UpBlock(a, b, dims=3) for a, b in zip(inputs, down[1:], strict=True))
        self.channels_out = widths[0] + channels_in
        self.conv = nn.Conv3d(self.channels_out, self.channels_out, 3, padding=1)
        self.norm: nn.Module = nn.BatchNorm3d(self.channels_out)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """The encoder's levels -> (B, 142, 16, 64, 64)."""
        x = levels[-1]
        for block, skip in zip(self.up_blocks, levels[-2::-1], strict=True):
            x = torch.cat([block(x), skip], dim=1)
        return functional.relu(self.norm(self.conv(x)))


class Hourglass(nn.Module):
    """The U-net from which the weights of the keypoints' motions are predicted."""

    def __init__(self, channels_in: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = HourglassEncoder(channels_in, widths)
        self.decoder = HourglassDecoder(channels_in, widths)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 110, 16, 64, 64) -> (B, 142, 16, 64, 64)."""
        return cast(Tensor, self.decoder(self.encoder(x)))


@dataclass(frozen=True, slots=True)
class WarpSource:
    """What W needs of one source: f_s, ``feature_3d`` (1, 32, 16, 64, 64), and ``x_s`` (1, 21, 3) float32."""

    feature_3d: Tensor
    x_s: Tensor


class DenseMotion(nn.Module):
    """Source and driven keypoints -> where each cell of the driven volume comes from; what is occluded."""

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        motions = sizes.keypoints + 1  # one per keypoint, and the still background first
        self.hourglass = Hourglass(motions * (sizes.compressed_channels + 1), sizes.hourglass_channels)
        width = self.hourglass.decoder.channels_out
        self.mask = nn.Conv3d(width, motions, 7, padding=3)
        self.compress = nn.Conv3d(sizes.feature_channels, sizes.compressed_channels, 1)
        self.norm: nn.Module = nn.BatchNorm3d(sizes.compressed_channels)
        self.occlusion = nn.Conv2d(width * sizes.feature_depth, 1, 7, padding=3)

    def prepare(self, feature_3d: Tensor, x_s: Tensor) -> WarpSource:
        """Return what depends on the source alone; the published network precomputes nothing."""
        return WarpSource(feature_3d, x_s.float())

    def forward(self, source: WarpSource, x_d: Tensor) -> tuple[Tensor, Tensor]:
        """A source and x_d (B, 21, 3) -> deformation (B, 16, 64, 64, 3) float32 and occlusion
        (B, 1, 64, 64) in [0, 1]."""
        feature, x_d = source.feature_3d.expand(x_d.shape[0], -1, -1, -1, -1), x_d.float()
        feature = functional.relu(self.norm(self.compress(feature)))  # (B, 4, 16, 64, 64)
        b, c, d, h, w = feature.shape
        x_s = source.x_s.expand_as(x_d)
        grid = coordinate_grid(d, h, w, feature.device)
        shift = (x_s - x_d)[:, :, None, None, None, :]  # (B, 21, 1, 1, 1, 3)
        still = grid.expand(b, 1, d, h, w, 3)
        motions = torch.cat([still, grid + shift], dim=1)  # (B, 22, 16, 64, 64, 3)
        k = motions.shape[1]
        repeated = feature[:, None].expand(b, k, c, d, h, w).reshape(b * k, c, d, h, w)
        moved = sample_volume(repeated, motions.view(b * k, d, h, w, 3)).view(b, k, c, d, h, w)
        heat = gaussian(grid, x_d) - gaussian(grid, x_s)  # (B, 21, 16, 64, 64)
        heat = torch.cat([torch.zeros_like(heat[:, :1]), heat], dim=1)[:, :, None]  # (B, 22, 1, 16, 64, 64)
        stacked = torch.cat([heat.to(moved.dtype), moved], dim=2)  # (B, 22, 5, 16, 64, 64)
        prediction = self.hourglass(stacked.view(b, k * (c + 1), d, h, w))  # (B, 142, 16, 64, 64)
        mask = functional.softmax(self.mask(prediction).float(), dim=1)  # (B, 22, 16, 64, 64)
        deformation = torch.einsum("bkdhw,bkdhwx->bdhwx", mask, motions)
        flat = prediction.reshape(b, -1, h, w)  # (B, 142, 16, 64, 64) -> (B, 2272, 64, 64)
        return deformation, torch.sigmoid(self.occlusion(flat))


def gaussian(grid: Tensor, keypoints: Tensor) -> Tensor:
    """(D, H, W, 3), (B, K, 3) -> (B, K, D, H, W): a gaussian per keypoint, peak 1, as a product over axes."""
    axes = (grid[0, 0, :, 0], grid[0, :, 0, 1], grid[:, 0, 0, 2])
    x, y, z = (
        torch.exp(-0.5 / KEYPOINT_VARIANCE * (axis - keypoints[:, :, index, None]) ** 2)
        for index, axis in enumerate(axes)
    )
    return z[:, :, :, None, None] * y[:, :, None, :, None] * x[:, :, None, None, :]


@dataclass(frozen=True, slots=True)
class Warped:
    """``features`` (B, 256, 64, 64); ``deformation`` (B, 16, 64, 64, 3); ``occlusion`` (B, 1, 64, 64)."""

    features: Tensor
    deformation: Tensor
    occlusion: Tensor


class WarpingNetwork(nn.Module):
    """W: feature volume and keypoints of source and driven face -> flat features of the driven face."""

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        self.dense_motion_network: nn.Module = DenseMotion(sizes)
        flat = sizes.feature_channels * sizes.feature_depth
        self.third = ConvNorm(flat, sizes.warped_channels, slope=0.01)
        self.fourth = nn.Conv2d(sizes.warped_channels, sizes.warped_channels, 1)

    def forward(self, source: WarpSource, x_d: Tensor) -> Warped:
        """A source and x_d (B, 21, 3) -> Warped."""
        deformation, occlusion = self.dense_motion_network(source, x_d)
        moved = sample_volume(source.feature_3d.expand(x_d.shape[0], -1, -1, -1, -1), deformation)
        x = moved.flatten(1, 2)  # (B, 32, 16, 64, 64) -> (B, 512, 64, 64)
        x = self.fourth(self.third(x)) * occlusion
        return Warped(x, deformation, occlusion)


class Spade(nn.Module):
    """Instance norm whose scale and shift are computed from the warped features."""

    def __init__(self, channels: int, condition: int, hidden: int) -> None:
        super().__init__()
        self.mlp_shared = nn.Sequential(nn.Conv2d(condition, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, c, H, W) and condition (B, 256, H, W) -> (B, c, H, W)."""
        hidden = self.mlp_shared(condition)
        scale, shift = self.mlp_gamma(hidden), self.mlp_beta(hidden)
        return cast(Tensor, functional.instance_norm(x) * (1 + scale) + shift)


class SpadeBlock(nn.Module):
    """Residual block of two Spade-normalized convolutions; a third adapts the channels of the input."""

    def __init__(self, channels_in: int, channels_out: int, condition: int, hidden: int) -> None:
        super().__init__()
        middle = min(channels_in, channels_out)
        self.conv_0 = nn.Conv2d(channels_in, middle, 3, padding=1)
        self.conv_1 = nn.Conv2d(middle, channels_out, 3, padding=1)
        self.norm_0 = Spade(channels_in, condition, hidden)
        self.norm_1 = Spade(middle, condition, hidden)
        self.widens = channels_in != channels_out
        if self.widens:
            self.conv_s = nn.Conv2d(channels_in, channels_out, 1, bias=False)
            self.norm_s = Spade(channels_in, condition, hidden)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, channels_in, H, W) and condition (B, 256, H, W) -> (B, channels_out, H, W)."""
        y = self.conv_0(functional.leaky_relu(self.norm_0(x, condition), 0.2))
        y = self.conv_1(functional.leaky_relu(self.norm_1(y, condition), 0.2))
        return cast(Tensor, y + (self.conv_s(self.norm_s(x, condition)) if self.widens else x))


class SpadeGenerator(nn.Module):
    """G: warped features -> picture."""

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        condition, hidden = sizes.warped_channels, sizes.spade_hidden
        wide, middle, narrow = sizes.generator_channels
        self.blocks = sizes.generator_blocks
        self.fc = nn.Conv2d(condition, wide, 3, padding=1)
        for index in range(self.blocks):
            self.add_module(f"G_middle_{index}", SpadeBlock(wide, wide, condition, hidden))
        self.up_0 = SpadeBlock(wide, middle, condition, hidden)
        self.up_1 = SpadeBlock(middle, narrow, condition, hidden)
        self.conv_img = nn.Sequential(nn.Conv2d(narrow, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, features: Tensor) -> Tensor:
        """(B, 256, 64, 64) -> (B, 3, 512, 512) in [0, 1]."""
        x = self.fc(features)  # (B, 512, 64, 64)
        for index in range(self.blocks):
            x = self.get_submodule(f"G_middle_{index}")(x, features)
        for block in (self.up_0, self.up_1):  # -> (B, 256, 128, 128) -> (B, 64, 256, 256)
            features = _double(features)
            x = block(_double(x), features)
        return torch.sigmoid(
            self.conv_img(functional.leaky_relu(x, 0.2))
        )  # (B, 12, 256, 256) -> (B, 3, 512, 512)


def _double(x: Tensor) -> Tensor:
    """(B, c, H, W) -> (B, c, 2H, 2W), each pixel four times."""
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


class KeypointMlp(nn.Module):
    """S and the retargeting networks: a small perceptron on flattened keypoints."""

    def __init__(self, inputs: int, hidden: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        widths = (inputs, *hidden, outputs)
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.mlp = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) -> (B, outputs)."""
        return cast(Tensor, self.mlp(x))


class Networks(nn.Module):
    """The networks of one release, in evaluation mode; calls change no state, so threads may share them."""

    def __init__(self, sizes: NetworkSizes = LIVEPORTRAIT_V1) -> None:
        """Build the networks with torch's random initial weights; :func:`load_networks` reads real ones."""
        super().__init__()
        self.sizes = sizes
        self.appearance = AppearanceExtractor(sizes)
        self.motion = MotionExtractor(sizes)
        self.warping = WarpingNetwork(sizes)
        self.generator: nn.Module = SpadeGenerator(sizes)
        points = 3 * sizes.keypoints
        self.stitching = KeypointMlp(2 * points, sizes.stitching_hidden, points + 2)
        self.lip = KeypointMlp(points + 2, sizes.lip_hidden, points)
        self.eye = KeypointMlp(points + 3, sizes.eye_hidden, points)
        self.eval().requires_grad_(False)

    @property
    def dtype(self) -> torch.dtype:
        """The type in which F, W and G compute."""
        return next(self.generator.parameters()).dtype

    def set_precision(self, dtype: torch.dtype) -> Networks:
        """Make F, W and G compute in ``dtype`` and return the networks.

        M and the keypoint MLPs, whose cost is negligible, and spectra of a rewritten W are left as they are.
        """
        for module in (self.appearance, self.warping, self.generator):
            cast_floating(module, dtype)
        return self

    def extract_appearance(self, picture: Tensor) -> Tensor:
        """(1, 3, 256, 256) float32 in [0, 1] -> f_s (1, 32, 16, 64, 64) of :attr:`dtype`."""
        return cast(Tensor, self.appearance(picture.to(self.dtype)))

    def extract_motion(self, picture: Tensor) -> KeypointInfo:
        """(B, 3, 256, 256) float32 in [0, 1] -> KeypointInfo, float32."""
        return cast(KeypointInfo, self.motion(picture.float()))

    def stitch(self, x_s: Tensor, x_d: Tensor) -> Tensor:
        """Return x_d (B, 21, 3) moved so that shoulders and hair stay where x_s (1 or B, 21, 3) has them."""
        x_s = x_s.expand_as(x_d)
        delta = self.stitching(torch.cat([x_s.flatten(1), x_d.flatten(1)], dim=1))  # (B, 65)
        moved = x_d + delta[:, :-2].view_as(x_d)
        shift = functional.pad(delta[:, -2:], (0, 1))  # tx, ty and no tz
        return cast(Tensor, moved + shift[:, None])

    def retarget_lips(self, x_s: Tensor, ratios: Tensor) -> Tensor:
        """x_s (B, 21, 3) and (B, 2) source and target lip ratio -> keypoint delta (B, 21, 3)."""
        return cast(Tensor, self.lip(torch.cat([x_s.flatten(1), ratios], dim=1))).view_as(x_s)

    def retarget_eyes(self, x_s: Tensor, ratios: Tensor) -> Tensor:
        """x_s (B, 21, 3) and (B, 3) left, right and target eye ratio -> keypoint delta (B, 21, 3)."""
        return cast(Tensor, self.eye(torch.cat([x_s.flatten(1), ratios], dim=1))).view_as(x_s)

    def prepare_warp(self, feature_3d: Tensor, x_s: Tensor) -> WarpSource:
        """f_s (1, 32, 16, 64, 64) and x_s (1, 21, 3) -> what :meth:`warp` needs of them."""
        dense_motion = cast(DenseMotion, self.warping.dense_motion_network)
        return dense_motion.prepare(feature_3d, x_s)

    def warp(self, source: WarpSource, x_d: Tensor) -> Warped:
        """A source and x_d (B, 21, 3) -> Warped."""
        return cast(Warped, self.warping(source, x_d))

    def decode(self, features: Tensor) -> Tensor:
        """(B, 256, 64, 64) -> (B, 3, 512, 512) of :attr:`dtype` in [0, 1]."""
        return cast(Tensor, self.generator(features))


def cast_floating(module: nn.Module, dtype: torch.dtype) -> None:
    """Convert the floating-point tensors of a network to ``dtype``; complex ones are not converted."""
    for tensor in chain(module.parameters(), module.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)


def load_networks(
    directory: Path, sizes: NetworkSizes = LIVEPORTRAIT_V1, *, dtype: torch.dtype = torch.float32
) -> Networks:
    """Return the networks of the five release files below ``directory``, on the CPU; F, W and G in ``dtype``.

    WeightsMissingError is raised if a file is missing, WeightsCorruptError if it is not a plain tensor file,
    or a tensor is missing, unknown or of another shape.
    """
    with torch.device("meta"):
        networks = Networks(sizes)
    parts: list[tuple[str, nn.Module, dict[str, Tensor]]] = []
    for name in ("appearance", "motion", "warping", "generator"):
        path = directory / FILES[name]
        state = _tensors(path, _read(path))
        if name == "motion":
            state = {key.removeprefix("detector."): value for key, value in state.items()}
        elif name == "generator":
            state = fold_spectral_norms(state)
        parts.append((str(path), networks.get_submodule(name), state))
    path = directory / FILES["retargeting"]
    nested = _read(path)
    retargeting: dict[str, nn.Module] = {
        "retarget_shoulder": networks.stitching,
        "retarget_mouth": networks.lip,
        "retarget_eye": networks.eye,
    }
    for key, module in retargeting.items():
        part = nested.get(key)
        if not isinstance(part, dict):
            raise WeightsCorruptError(f"{path} has no part {key!r}; it has {', '.join(map(str, nested))}.")
        state = {k.removeprefix("module."): v for k, v in _tensors(path, part).items()}
        parts.append((f"{path} [{key}]", module, state))
    for label, module, state in parts:
        try:
            module.load_state_dict(state, strict=True, assign=True)
        except RuntimeError as exc:
            raise WeightsCorruptError(
                f"{label} does not fit the network: {' '.join(str(exc).split())}"
            ) from exc
    networks.eval().requires_grad_(False)
    return networks.set_precision(dtype)


def fold_spectral_norms(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace each ``weight_orig``, ``weight_u``, ``weight_v`` by ``weight`` = W / (u^T W v), in a copy.

    u and v are used as stored, though training left them unconverged, as the published network does.
    """
    folded = dict(state)
    for key in [key for key in state if key.endswith("weight_orig")]:
        prefix = key.removesuffix("weight_orig")
        try:
            weight, u, v = (folded.pop(prefix + part) for part in ("weight_orig", "weight_u", "weight_v"))
        except KeyError as exc:
            raise WeightsCorruptError(f"{prefix}* lacks {exc} of its spectral norm.") from exc
        sigma = torch.dot(u.double(), torch.mv(weight.flatten(1).double(), v.double()))
        folded[prefix + "weight"] = (weight.double() / sigma).to(weight.dtype)
    return folded


def _read(path: Path) -> dict[str, object]:
    """Return the content of a release file without executing code from it."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as exc:
        raise WeightsMissingError(
            f"Weights {path} are missing. Run: vortex weights fetch liveportrait"
        ) from exc
    except Exception as exc:  # For a damaged zip or a refused pickle torch raises many types.
        raise WeightsCorruptError(
            f"{path} cannot be read as a tensor file ({type(exc).__name__}). "
            "Run: vortex weights verify liveportrait, then fetch again."
        ) from exc
    if not isinstance(content, dict):
        raise WeightsCorruptError(f"{path} holds a {type(content).__name__}; a state dict is expected.")
    return content


def _tensors(path: Path, content: Mapping[str, object]) -> dict[str, Tensor]:
    """Return a state dict that is checked to hold only tensors."""
    tensors: dict[str, Tensor] = {}
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise WeightsCorruptError(f"{path}: {key!r} is a {type(value).__name__}; a tensor is expected.")
        tensors[key] = value
    return tensors
