"""The JoyVASA networks: a HuBERT that hears 4 s of sound, and a transformer that denoises their motion.

Facts of the published model (Cao et al., 2024, arXiv:2411.09209); attribute names equal the keys of its
checkpoint, but for what :mod:`vortex.audio_motion.joyvasa.load` folds. Letters: B batch, N sound frames of
20 ms, F frames of a window (100), P frames before it (10), M motion columns (73). Everything is float32: the
model is small, and half types have given NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

SAMPLE_RATE_HZ = 16_000
FPS = 25
FRAME_SAMPLES = SAMPLE_RATE_HZ // FPS
CONV_KERNELS, CONV_STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
"""HuBERT's convolutions: together they see 400 samples, and step by 320."""
MIRRORED_SAMPLES = 20
"""A window is mirrored by this much at both ends, twice, so that it gives two sound frames for each frame."""


@dataclass(frozen=True, slots=True)
class HubertSizes:
    """Every number that determines the shape of the HuBERT; the defaults are those of HuBERT-base."""

    channels: int = 512
    width: int = 768
    heads: int = 12
    layers: int = 12
    feed_forward: int = 3072
    position_kernel: int = 128
    position_groups: int = 16


@dataclass(frozen=True, slots=True)
class JoyVasaSizes:
    """Every number that determines the shape of the networks; the defaults are the release's.

    The options stored in the release say six layers and an indicator channel; its tensors have eight, and no
    such channel.
    """

    hubert: HubertSizes = field(default_factory=HubertSizes)
    motion: int = 73
    window_frames: int = 100
    context_frames: int = 10
    width: int = 256
    heads: int = 8
    layers: int = 8
    feed_forward: int = 1024
    steps: int = 50
    step_rows: int = 501
    position_rows: int = 600

    @property
    def rows(self) -> int:
        """Frames that the denoiser sees: those before the window, and the window."""
        return self.context_frames + self.window_frames


JOYVASA_V1 = JoyVasaSizes()
"""The published model with the Chinese HuBERT."""


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """(B, rows, width) three times -> (B, rows, width): scaled dot products in ``heads`` parts."""
    # each -> (B, heads, rows, width / heads)
    query, key, value = (x.view(*x.shape[:2], heads, -1).transpose(1, 2) for x in (query, key, value))
    return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class ConvLayer(nn.Module):
    """One convolution of the HuBERT, and GELU; the first one normalises each channel over the window."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int, *, normalise: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels, kernel, stride, bias=False)
        self.layer_norm = nn.GroupNorm(channels, channels) if normalise else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, samples) -> (B, channels, fewer)."""
        x = self.conv(x)
        return functional.gelu(self.layer_norm(x) if self.layer_norm else x)


class ConvFeatures(nn.Module):
    """Sound -> one row of features for each 20 ms."""

    def __init__(self, sizes: HubertSizes) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(
            ConvLayer(sizes.channels if index else 1, sizes.channels, kernel, stride, normalise=index == 0)
            for index, (kernel, stride) in enumerate(zip(CONV_KERNELS, CONV_STRIDES, strict=True))
        )

    def forward(self, wave: Tensor) -> Tensor:
        """(B, samples) -> (B, N, 512)."""
        x = wave[:, None]
        for layer in self.conv_layers:
            x = layer(x)
        return x.transpose(1, 2)


class FeatureProjection(nn.Module):
    """Features -> the width of the transformer."""

    def __init__(self, sizes: HubertSizes) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(sizes.channels)
        self.projection = nn.Linear(sizes.channels, sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, 512) -> (B, N, 768)."""
        return cast(Tensor, self.projection(self.layer_norm(x)))


class PositionConv(nn.Module):
    """What a row's neighbours say of its position: one wide convolution in groups."""

    def __init__(self, sizes: HubertSizes) -> None:
        super().__init__()
        kernel = sizes.position_kernel
        self.conv = nn.Conv1d(
            sizes.width, sizes.width, kernel, padding=kernel // 2, groups=sizes.position_groups
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, 768) -> the same shape."""
        # An even kernel gives one row too many.
        return functional.gelu(self.conv(x.transpose(1, 2))[..., :-1]).transpose(1, 2)


class HubertAttention(nn.Module):
    """Self-attention with separate projections."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj, self.v_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.q_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, 768) -> the same shape."""
        mixed = attend(self.q_proj(x), self.k_proj(x), self.v_proj(x), self.heads)
        return cast(Tensor, self.out_proj(mixed))


class HubertFeedForward(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(width, hidden)
        self.output_dense = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, 768) -> the same shape."""
        return cast(Tensor, self.output_dense(functional.gelu(self.intermediate_dense(x))))


class HubertLayer(nn.Module):
    """One transformer layer, normalised after each part."""

    def __init__(self, sizes: HubertSizes) -> None:
        super().__init__()
        self.attention = HubertAttention(sizes.width, sizes.heads)
        self.layer_norm = nn.LayerNorm(sizes.width)
        self.feed_forward = HubertFeedForward(sizes.width, sizes.feed_forward)
        self.final_layer_norm = nn.LayerNorm(sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, 768) -> the same shape."""
        x = self.layer_norm(x + self.attention(x))
        return cast(Tensor, self.final_layer_norm(x + self.feed_forward(x)))


class HubertTransformer(nn.Module):
    """Positions, and the layers."""

    def __init__(self, sizes: HubertSizes) -> None:
        super().__init__()
        self.pos_conv_embed = PositionConv(sizes)
        self.layer_norm = nn.LayerNorm(sizes.width)
        self.layers = nn.ModuleList(HubertLayer(sizes) for _ in range(sizes.layers))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, 768) -> the same shape."""
        x = self.layer_norm(x + self.pos_conv_embed(x))
        for layer in self.layers:
            x = layer(x)
        return x


class Hubert(nn.Module):
    """HuBERT-base (Hsu et al., 2021): sound -> what is said, 50 rows a second."""

    def __init__(self, sizes: HubertSizes) -> None:
        super().__init__()
        self.feature_extractor = ConvFeatures(sizes)
        self.feature_projection = FeatureProjection(sizes)
        self.encoder = HubertTransformer(sizes)

    def forward(self, wave: Tensor) -> Tensor:
        """(B, samples) at 16 kHz -> (B, N, 768)."""
        return cast(Tensor, self.encoder(self.feature_projection(self.feature_extractor(wave))))


class SelfAttention(nn.Module):
    """Self-attention whose query, key and value are rows of one projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, rows, 256) -> the same shape."""
        query, key, value = functional.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        return cast(Tensor, self.out_proj(attend(query, key, value, self.heads)))


class DecoderLayer(nn.Module):
    """One layer of the denoiser, normalised after each part: the other frames, the sound, two linear layers.

    The published layer attends to the sound through a mask that leaves each frame only its own token. A
    softmax over one entry is 1, so this is the linear map ``heard`` of that token, whatever the query is.
    """

    def __init__(self, sizes: JoyVasaSizes) -> None:
        super().__init__()
        self.self_attn = SelfAttention(sizes.width, sizes.heads)
        self.heard = nn.Linear(sizes.width, sizes.width)
        self.linear1 = nn.Linear(sizes.width, sizes.feed_forward)
        self.linear2 = nn.Linear(sizes.feed_forward, sizes.width)
        self.norm1, self.norm2 = nn.LayerNorm(sizes.width), nn.LayerNorm(sizes.width)
        self.norm3 = nn.LayerNorm(sizes.width)

    def forward(self, x: Tensor, heard: Tensor) -> Tensor:
        """(B, rows, 256), and what ``self.heard`` makes of the tokens (B, rows, 256) -> (B, rows, 256)."""
        x = self.norm1(x + self.self_attn(x))
        x = self.norm2(x + heard)
        return cast(Tensor, self.norm3(x + self.linear2(functional.gelu(self.linear1(x)))))


class DecoderStack(nn.Module):
    """The layers of the denoiser."""

    def __init__(self, sizes: JoyVasaSizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(sizes) for _ in range(sizes.layers))


class Denoiser(nn.Module):
    """Noisy motion of a window, the frames before it, their sound and the step -> the clean motion.

    ``ordered`` says how frames are numbered. False, as in every version of the published code until
    2025-12-09, and so in the training of the released weights by all dates: every frame gets the same row of
    the table, that of their count, so the network does not know their order. True: frame i gets row i.
    """

    def __init__(self, sizes: JoyVasaSizes, *, ordered: bool = False) -> None:
        super().__init__()
        width = sizes.width
        self.rows, self.context_frames, self.ordered = sizes.rows, sizes.context_frames, ordered
        self.register_buffer("step_table", torch.empty(sizes.step_rows, width))
        self.register_buffer("position_table", torch.empty(sizes.position_rows, width))
        self.diff_step_map = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.feature_proj = nn.Linear(sizes.motion, width)
        self.transformer = DecoderStack(sizes)
        self.motion_dec = nn.Sequential(
            nn.Linear(width, width // 2), nn.GELU(), nn.Linear(width // 2, sizes.motion)
        )

    def hear(self, tokens: Tensor) -> list[Tensor]:
        """Tokens (B, P + F, 256) -> what each layer takes of them; the same for every step."""
        return [cast(DecoderLayer, layer).heard(tokens) for layer in self.transformer.layers]

    def step_embedding(self, step: int) -> Tensor:
        """Return (256,), which tells the network how noisy the motion is; steps count from 1."""
        return cast(Tensor, self.diff_step_map(cast(Tensor, self.step_table)[step]))

    def positions(self) -> Tensor:
        """Return (P + F or 1, 256), which is added to the frames."""
        table = cast(Tensor, self.position_table)
        return table[: self.rows] if self.ordered else table[self.rows, None]

    def forward(self, motion: Tensor, step: int, heard: list[Tensor]) -> Tensor:
        """Motion (B, P + F, M), clean in its first P rows, and :meth:`hear`'s result -> (B, P + F, M)."""
        x = self.feature_proj(motion) + self.positions() + self.step_embedding(step)
        for layer, sound in zip(self.transformer.layers, heard, strict=True):
            x = layer(x, sound)
        return cast(Tensor, self.motion_dec(x))


class JoyVasaNetworks(nn.Module):
    """The networks of one release, in evaluation mode; calls change no state, so threads may share them."""

    def __init__(self, sizes: JoyVasaSizes = JOYVASA_V1, *, ordered: bool = False) -> None:
        """Build them with undefined weights; :func:`vortex.audio_motion.joyvasa.load.load_networks` reads."""
        super().__init__()
        self.sizes = sizes
        self.start_audio_feat = nn.Parameter(torch.empty(1, sizes.context_frames, sizes.width))
        self.start_motion_feat = nn.Parameter(torch.empty(1, sizes.context_frames, sizes.motion))
        self.null_audio_feat = nn.Parameter(torch.empty(1, 1, sizes.width))
        self.audio_encoder = Hubert(sizes.hubert)
        self.audio_feature_map = nn.Linear(sizes.hubert.width, sizes.width)
        self.denoising_net = Denoiser(sizes, ordered=ordered)
        self.register_buffer("betas", torch.empty(sizes.steps + 1))
        self.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.null_audio_feat.device

    def tokens(self, wave: Tensor) -> Tensor:
        """A window of sound (B, 640 F) at 16 kHz in [-1, 1] -> one token for each frame, (B, F, 256)."""
        heard = self.audio_encoder(mirror_ends(wave))  # (B, 2 F, 768)
        pairs = (heard[:, 0::2] + heard[:, 1::2]) / 2  # (B, F, 768)
        return cast(Tensor, self.audio_feature_map(pairs))


def mirror_ends(wave: Tensor) -> Tensor:
    """(B, samples) -> (B, samples + 80): mirrored by 20 at both ends, and what results once more."""
    for _ in range(2):
        wave = functional.pad(wave[:, None], (MIRRORED_SAMPLES, MIRRORED_SAMPLES), mode="reflect")[:, 0]
    return wave
