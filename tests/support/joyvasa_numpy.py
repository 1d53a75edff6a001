"""A second implementation of JoyVASA's networks, in NumPy and float64, from the formulas of the papers.

It takes the tensors of a checkpoint by their published keys, attends to the sound through the published mask,
and keeps no line of ours, so that it can be the oracle of the networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import erf

import numpy as np

from vortex.types import F64

GELU = np.vectorize(lambda x: 0.5 * x * (1 + erf(x / 2**0.5)), otypes=[float])
Weights = Mapping[str, F64]


def linear(w: Weights, name: str, x: F64) -> F64:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def norm(w: Weights, name: str, x: F64) -> F64:
    centred = x - x.mean(axis=-1, keepdims=True)
    unit = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return unit * w[f"{name}.weight"] + w[f"{name}.bias"]


def softmax(x: F64) -> F64:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attention(query: F64, key: F64, value: F64, heads: int, hidden: F64 | None = None) -> F64:
    parts = []
    for q, k, v in zip(*(np.split(x, heads, axis=1) for x in (query, key, value)), strict=True):
        scores = q @ k.T / np.sqrt(q.shape[1])
        parts.append(softmax(scores if hidden is None else np.where(hidden, -np.inf, scores)) @ v)
    return np.concatenate(parts, axis=1)


def convolve(x: F64, weight: F64, stride: int = 1) -> F64:
    """(channels_in, n) with (channels, channels_in, k) -> (channels, m)."""
    taps = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2], axis=1)[:, ::stride]
    return np.einsum("cmk,ock->om", taps, weight, optimize=True)


def tokens(w: Weights, wave: F64, heads: int, groups: int) -> F64:
    """(640 F,) -> (F, width): the sound of a window."""
    x = wave
    for _ in range(2):
        x = np.concatenate([x[1:21][::-1], x, x[-21:-1][::-1]])
    x = x[None]
    p = "audio_encoder."
    for index, stride in enumerate((5, 2, 2, 2, 2, 2, 2)):
        layer = f"{p}feature_extractor.conv_layers.{index}"
        x = convolve(x, w[f"{layer}.conv.weight"], stride)
        if index == 0:
            x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
            gain, shift = (w[f"{layer}.layer_norm.{part}"][:, None] for part in ("weight", "bias"))
            x = x * gain + shift
        x = GELU(x)
    x = linear(w, f"{p}feature_projection.projection", norm(w, f"{p}feature_projection.layer_norm", x.T))
    conv = f"{p}encoder.pos_conv_embed.conv"
    direction = w[f"{conv}.parametrizations.weight.original1"]
    length = np.sqrt((direction**2).sum(axis=(0, 1)))
    weight = direction / length * w[f"{conv}.parametrizations.weight.original0"]
    reach = weight.shape[2] // 2
    padded = np.pad(x.T, ((0, 0), (reach, reach)))
    pairs = zip(np.split(padded, groups), np.split(weight, groups), strict=True)
    positions = np.concatenate([convolve(part, taps) for part, taps in pairs])[:, :-1]
    x = norm(w, f"{p}encoder.layer_norm", x + GELU(positions + w[f"{conv}.bias"][:, None]).T)
    index = 0
    while f"{p}encoder.layers.{index}.layer_norm.weight" in w:
        layer = f"{p}encoder.layers.{index}"
        q, k, v = (linear(w, f"{layer}.attention.{name}_proj", x) for name in "qkv")
        x = norm(
            w,
            f"{layer}.layer_norm",
            x + linear(w, f"{layer}.attention.out_proj", attention(q, k, v, heads)),
        )
        inner = GELU(linear(w, f"{layer}.feed_forward.intermediate_dense", x))
        x = norm(w, f"{layer}.final_layer_norm", x + linear(w, f"{layer}.feed_forward.output_dense", inner))
        index += 1
    return linear(w, "audio_feature_map", (x[0::2] + x[1::2]) / 2)


def project(w: Weights, name: str, query: F64, memory: F64, heads: int, hidden: F64 | None = None) -> F64:
    weights, biases = np.split(w[f"{name}.in_proj_weight"], 3), np.split(w[f"{name}.in_proj_bias"], 3)
    q, k, v = (x @ a.T + b for x, a, b in zip((query, memory, memory), weights, biases, strict=True))
    return linear(w, f"{name}.out_proj", attention(q, k, v, heads, hidden))


def denoise(w: Weights, rows: F64, step: int, memory: F64, heads: int, *, ordered: bool) -> F64:
    """Motion (P + F, M), a step and tokens (P + F, width) -> the clean motion (P + F, M)."""
    p = "denoising_net."
    time = GELU(linear(w, f"{p}diff_step_map.0", w[f"{p}TE.pe"][0, step]))
    table = w[f"{p}PE.pe"][0]
    places = table[: len(rows)] if ordered else table[len(rows)]
    x = linear(w, f"{p}feature_proj", rows) + places + linear(w, f"{p}diff_step_map.2", time)
    index = 0
    while f"{p}transformer.layers.{index}.norm1.weight" in w:
        layer = f"{p}transformer.layers.{index}"
        x = norm(w, f"{layer}.norm1", x + project(w, f"{layer}.self_attn", x, x, heads))
        heard = project(w, f"{layer}.multihead_attn", x, memory, heads, w[f"{p}alignment_mask"])
        x = norm(w, f"{layer}.norm2", x + heard)
        inner = linear(w, f"{layer}.linear2", GELU(linear(w, f"{layer}.linear1", x)))
        x = norm(w, f"{layer}.norm3", x + inner)
        index += 1
    return linear(w, f"{p}motion_dec.2", GELU(linear(w, f"{p}motion_dec.0", x)))


def sample(
    w: Weights, memory: F64, before: tuple[F64, F64] | None, noise: F64, scale: float, heads: int
) -> F64:
    """Tokens (F, width) of a window, noise (steps, F, M) -> its clean motion (F, M), frames in no order."""
    motion, sound = before or (w["start_motion_feat"][0], w["start_audio_feat"][0])
    silent = np.tile(w["null_audio_feat"][0], (len(memory), 1))
    beta = w["diffusion_sched.betas"]
    alpha, bar = 1 - beta, np.cumprod(1 - beta)
    x, steps = noise[0], len(noise)
    for t in range(steps, 0, -1):
        rows = np.concatenate([motion, x])
        without, heard = (
            denoise(w, rows, t, np.concatenate([sound, part]), heads, ordered=False)[len(motion) :]
            for part in (silent, memory)
        )
        clean = without + scale * (heard - without)
        if t == 1:
            return clean
        mean = np.sqrt(bar[t - 1]) * beta[t] * clean + np.sqrt(alpha[t]) * (1 - bar[t - 1]) * x
        deviation = np.sqrt(beta[t] * (1 - bar[t - 1]) / (1 - bar[t]))
        x = mean / (1 - bar[t]) + deviation * noise[steps + 1 - t]
    raise AssertionError("no step")
