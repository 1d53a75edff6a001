"""A release of JoyVASA with seeded random weights, in the layout of the real files, at any size."""

from __future__ import annotations

import argparse
import pathlib
import pickle
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from vortex.audio_motion.joyvasa.load import CHECKPOINT, TEMPLATE
from vortex.audio_motion.joyvasa.networks import CONV_KERNELS, HubertSizes, JoyVasaSizes
from vortex.types import F32

TOY = JoyVasaSizes(
    hubert=HubertSizes(
        channels=8, width=12, heads=3, layers=2, feed_forward=20, position_kernel=6, position_groups=2
    ),
    window_frames=20,
    context_frames=4,
    width=16,
    heads=2,
    layers=3,
    feed_forward=24,
    steps=6,
    step_rows=7,
    position_rows=30,
)
"""The true architecture, for windows of 0.8 s: milliseconds on a CPU."""
Gains = Mapping[str, float]
GAINS: Gains = {
    **dict.fromkeys(("out_proj", "linear2", "output_dense"), 0.6),
    **dict.fromkeys(("in_proj", "k_proj", "q_proj", "feature_proj.", "conv_layers"), 1.8),
}
"""Part of a key and how far its layer spreads values, for the release's size: parts that are added to their
input spread them less, so that frames stay as different as those of a face that speaks."""
Tensors = dict[str, F32]
STATISTICS = {"scale": 1, "R": 9, "t": 3, "exp": 63, "pitch": 1, "yaw": 1, "roll": 1, "lip": 1, "eyes": 2}


def hubert_shapes(sizes: HubertSizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the keys of the encoder and the shapes of their tensors."""
    channels, width = sizes.channels, sizes.width
    yield "masked_spec_embed", (width,)
    for index, kernel in enumerate(CONV_KERNELS):
        yield (
            f"feature_extractor.conv_layers.{index}.conv.weight",
            (channels, channels if index else 1, kernel),
        )
    yield from affine("feature_extractor.conv_layers.0.layer_norm", channels)
    yield from affine("feature_projection.layer_norm", channels)
    yield from affine("feature_projection.projection", width, channels)
    conv = "encoder.pos_conv_embed.conv"
    yield f"{conv}.bias", (width,)
    yield f"{conv}.parametrizations.weight.original0", (1, 1, sizes.position_kernel)
    direction = (width, width // sizes.position_groups, sizes.position_kernel)
    yield f"{conv}.parametrizations.weight.original1", direction
    yield from affine("encoder.layer_norm", width)
    for index in range(sizes.layers):
        layer = f"encoder.layers.{index}"
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from affine(f"{layer}.attention.{name}", width, width)
        yield from affine(f"{layer}.layer_norm", width)
        yield from affine(f"{layer}.feed_forward.intermediate_dense", sizes.feed_forward, width)
        yield from affine(f"{layer}.feed_forward.output_dense", width, sizes.feed_forward)
        yield from affine(f"{layer}.final_layer_norm", width)


def affine(name: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def denoiser_shapes(sizes: JoyVasaSizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the trained keys of the denoiser and the shapes of their tensors."""
    width = sizes.width
    yield from affine("diff_step_map.0", width, width)
    yield from affine("diff_step_map.2", width, width)
    yield from affine("feature_proj", width, sizes.motion)
    for index in range(sizes.layers):
        layer = f"transformer.layers.{index}"
        for name in ("self_attn", "multihead_attn"):
            yield f"{layer}.{name}.in_proj_weight", (3 * width, width)
            yield f"{layer}.{name}.in_proj_bias", (3 * width,)
            yield from affine(f"{layer}.{name}.out_proj", width, width)
        yield from affine(f"{layer}.linear1", sizes.feed_forward, width)
        yield from affine(f"{layer}.linear2", width, sizes.feed_forward)
        for name in ("norm1", "norm2", "norm3"):
            yield from affine(f"{layer}.{name}", width)
    yield from affine("motion_dec.0", width // 2, width)
    yield from affine("motion_dec.2", sizes.motion, width // 2)


def drawn(key: str, shape: tuple[int, ...], rng: np.random.Generator, gains: Gains) -> F32:
    """Return a tensor whose layer keeps values of about 1; those of norms are near 1 and 0."""
    values = rng.standard_normal(shape)
    if key.endswith("original0"):
        return np.float32(0.5 + rng.random(shape) * 2)
    if "norm" in key and key.endswith("weight"):
        return np.float32(1 + 0.2 * values)
    if len(shape) == 1:
        return np.float32(0.1 * values)
    gain = next((gain for part, gain in gains.items() if part in key), 1.3)
    return np.float32(values * gain / np.sqrt(np.prod(shape[1:])))


def sinusoids(rows: int, width: int) -> F32:
    """Return (rows, width): sine and cosine of row x 10000^(-column / width), in alternate columns."""
    angle = np.arange(rows)[:, None] * 10000.0 ** (-np.arange(0, width, 2) / width)
    return np.stack([np.sin(angle), np.cos(angle)], axis=2).reshape(rows, width).astype(np.float32)


def cosine_betas(steps: int) -> F32:
    """Return (steps + 1,) of the cosine schedule (Nichol and Dhariwal, 2021); entry 0 is 0."""
    level = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.r_[0.0, np.clip(1 - level[1:] / level[:-1], 1e-4, 0.999)].astype(np.float32)


def checkpoint_tensors(sizes: JoyVasaSizes, seed: int = 0, gains: Gains = MappingProxyType({})) -> Tensors:
    """Return every tensor of a checkpoint by its published key, as arrays."""
    rng = np.random.default_rng(seed)
    width, context = sizes.width, sizes.context_frames
    shapes = {
        "start_audio_feat": (1, context, width),
        "start_motion_feat": (1, context, sizes.motion),
        "null_audio_feat": (1, 1, width),
        **{f"audio_encoder.{key}": shape for key, shape in hubert_shapes(sizes.hubert)},
        **dict(affine("audio_feature_map", width, sizes.hubert.width)),
        **{f"denoising_net.{key}": shape for key, shape in denoiser_shapes(sizes)},
    }
    tensors = {key: drawn(key, shape, rng, gains) for key, shape in shapes.items()}
    tensors["denoising_net.alignment_mask"] = ~np.eye(sizes.rows, dtype=bool)  # type: ignore[assignment]
    tensors["denoising_net.TE.pe"] = sinusoids(sizes.step_rows, width)[None]
    tensors["denoising_net.PE.pe"] = sinusoids(sizes.position_rows, width)[None]
    betas = cosine_betas(sizes.steps)
    bars = np.cumprod(1 - betas)
    sigmas = np.sqrt(betas[1:] * (1 - bars[:-1]) / (1 - bars[1:]))
    constants = betas, 1 - betas, bars, np.sqrt(betas), np.r_[0, sigmas]
    names = ("betas", "alphas", "alpha_bars", "sigmas_flex", "sigmas_inflex")
    for name, values in zip(names, constants, strict=True):
        tensors[f"diffusion_sched.{name}"] = np.float32(values)
    return tensors


def statistics(seed: int = 0) -> Tensors:
    """Return the arrays of a motion template."""
    rng = np.random.default_rng([seed, 1])
    arrays = {}
    for name, length in STATISTICS.items():
        low = rng.uniform(-1, 0, length)
        high = low + rng.uniform(0.5, 1, length)
        values = {"mean": (low + high) / 2, "std": (high - low) / 6, "max": high, "min": low}
        arrays |= {f"{key}_{name}": np.float32(value) for key, value in values.items()}
        arrays[f"abs_max_{name}"] = np.float32(np.maximum(abs(low), abs(high)))
    return arrays


def training_options() -> argparse.Namespace:
    """Return options as the release stores them: with a path, and with what is not true of its tensors."""
    return argparse.Namespace(data_root=pathlib.PosixPath("data"), n_layers=6, use_indicator=True, fps=25)


def write_release(
    folder: Path, sizes: JoyVasaSizes = TOY, seed: int = 0, gains: Gains = MappingProxyType({})
) -> Path:
    """Write checkpoint and template; return ``folder``."""
    for name in (CHECKPOINT, TEMPLATE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    tensors = checkpoint_tensors(sizes, seed, gains)
    model = OrderedDict((key, torch.from_numpy(value)) for key, value in tensors.items())
    content: dict[str, Any] = {"args": training_options(), "model": model, "iter": 20000}
    torch.save(content, folder / CHECKPOINT)
    (folder / TEMPLATE).write_bytes(old_numpy(pickle.dumps(statistics(seed), 4)))
    return folder


def old_numpy(pickled: bytes) -> bytes:
    """Return a pickle of protocol 4 in one frame with the name that NumPy's module had before version 2."""
    new, old = b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray"
    if new not in pickled:
        return pickled
    body = pickled[11:].replace(new, old)
    return pickled[:3] + len(body).to_bytes(8, "little") + body
