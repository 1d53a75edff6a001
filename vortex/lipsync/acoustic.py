"""The acoustic model of hama, run by numpy: sound to probabilities of speech sounds.

The network is a Conformer (Gulati et al. 2020) of four blocks over 80 log-mel bands, trained with CTC. Its
weights are read from hama's wheel; hama's own engine takes more than ten times as long.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import NamedTuple, TypeAlias

import numpy as np

from vortex.errors import EngineError
from vortex.types import F32

ACOUSTIC_HZ = 16_000
HOP_S = 0.02
"""Step of the emissions: two hops of the short-time spectrum, of 160 samples each."""

_FFT, _HOP = 400, 160
_BLOCKS, _WIDTH, _HEADS, _TAPS = 4, 144, 4, 31
_MATRICES = (829, 838, 847, 856)
"""Number of the first unnamed matrix of each block; see :func:`_read_block`."""
_Pair: TypeAlias = tuple[F32, F32]
"""Weight and bias, or the scale and shift of a norm."""


class _Block(NamedTuple):
    """Weights of one Conformer block."""

    feed_in: tuple[_Pair, ...]
    attend: tuple[_Pair, ...]
    convolve: tuple[_Pair, ...]
    feed_out: tuple[_Pair, ...]
    norm: _Pair


class AcousticModel:
    """Loaded weights; safe to use from several threads. ``symbols`` names the 191 columns of the emissions.

    EngineError: the installed hama contains another network.
    """

    def __init__(self) -> None:
        from hama.vocab import Vocabulary

        self.symbols: tuple[str, ...] = (*Vocabulary.load(None).decoder, "<wb>", "<blank>")
        packed = resources.files("hama.assets").joinpath("asr_waveform.hama").read_bytes()
        try:
            tensors = dict(_tensors(packed))
            self._window = tensors["stft_real_kernel"][0, 0]
            self._mel = tensors["mel_fb"]
            stem = tensors["onnx::Conv_801"].reshape(_WIDTH, -1)
            self._stem = (np.ascontiguousarray(stem.T), tensors["onnx::Conv_802"])
            self._blocks = [_read_block(tensors, index) for index in range(_BLOCKS)]
            self._output = _pointwise(tensors, "acoustic_model.model.proj")
        except (KeyError, IndexError, ValueError, struct.error) as exc:
            raise EngineError(
                "The installed hama has a network that vortex cannot read. Run: pip install 'hama==1.7.0'"
            ) from exc

    def emissions(self, samples: F32) -> F32:
        """Return (F, 191) float32 probabilities of the symbols every :data:`HOP_S`; rows sum to 1.

        ``samples`` (N,) float32 at 16 kHz, more than 200 of them; row i is about the sound around i * 20 ms.
        """
        hidden = _gelu(_affine(self._features(samples), self._stem))
        for block in self._blocks:
            hidden = hidden + 0.5 * _feed_forward(hidden, block.feed_in)
            hidden += _attention(hidden, block.attend)
            hidden += _convolution(hidden, block.convolve)
            hidden += 0.5 * _feed_forward(hidden, block.feed_out)
            hidden = _normalize(hidden, block.norm)
        return _softmax(_affine(hidden, self._output))

    def _features(self, samples: F32) -> F32:
        """Return (F, 240): three neighbouring log-mel spectra of 80 bands for each emission."""
        padded = np.pad(samples, _FFT // 2, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP]
        spectrum = np.fft.rfft(frames * self._window)
        power = spectrum.real**2 + spectrum.imag**2
        mel = np.log(np.maximum(power @ self._mel, 1e-10))
        # The exported network has this cast.
        mel = np.pad(mel.astype(np.float16).astype(np.float32), ((1, 1), (0, 0)))
        near = np.lib.stride_tricks.sliding_window_view(mel, 3, axis=0)[::2]
        return np.asarray(near.reshape(len(near), -1))


def _tensors(packed: bytes) -> Iterator[tuple[str, F32]]:
    """Yield name and float32 values of each tensor of hama's container.

    Little-endian: magic, version, kind, count; for each tensor its name, type (0 float32, 1 float16), shape,
    offset and size in bytes; then the data, from a multiple of 16 on.
    """
    if not packed.startswith(b"HAMAPK\x01"):
        raise ValueError("not a HAMAPK container of version 1")
    (count,) = struct.unpack_from("<I", packed, 8)
    at, entries = 12, []
    for _ in range(count):
        (length,) = struct.unpack_from("<H", packed, at)
        name = packed[at + 2 : at + 2 + length].decode()
        at += 2 + length
        kind, rank = packed[at], packed[at + 1]
        shape = struct.unpack_from(f"<{rank}I", packed, at + 2)
        offset, _size = struct.unpack_from("<QQ", packed, at + 2 + 4 * rank)
        at += 18 + 4 * rank
        entries.append((name, (np.dtype("<f4"), np.dtype("<f2"))[kind], shape, offset))
    start = -(-at // 16) * 16
    for name, dtype, shape, offset in entries:
        values = np.frombuffer(packed, dtype, math.prod(shape), start + offset)
        yield name, values.reshape(shape).astype(np.float32)


def _read_block(tensors: Mapping[str, F32], index: int) -> _Block:
    """Return one block; its matrices are named by numbers, in the order in which the network uses them."""
    stem = f"acoustic_model.model.blocks.{index}"
    first = _MATRICES[index]
    in_1, in_2, project, attended, out_1, out_2 = (
        tensors[f"onnx::MatMul_{first + step}"] for step in (0, 1, 2, 6, 7, 8)
    )
    depthwise = tensors[f"onnx::Conv_{804 + 3 * index}"].reshape(_WIDTH, _TAPS)

    def norm(name: str) -> _Pair:
        return tensors[f"{stem}.{name}.weight"], tensors[f"{stem}.{name}.bias"]

    def bias(name: str) -> F32:
        return tensors[f"{stem}.{name}bias"]

    return _Block(
        feed_in=(norm("ffn1.norm"), (in_1, bias("ffn1.fc1.")), (in_2, bias("ffn1.fc2."))),
        attend=(norm("attn_norm"), (project, bias("attn.in_proj_")), (attended, bias("attn.out_proj."))),
        convolve=(
            norm("conv.norm"),
            _pointwise(tensors, f"{stem}.conv.pointwise1"),
            (np.ascontiguousarray(depthwise.T), tensors[f"onnx::Conv_{805 + 3 * index}"]),
            _pointwise(tensors, f"{stem}.conv.pointwise2"),
        ),
        feed_out=(norm("ffn2.norm"), (out_1, bias("ffn2.fc1.")), (out_2, bias("ffn2.fc2."))),
        norm=norm("norm"),
    )


def _pointwise(tensors: Mapping[str, F32], name: str) -> _Pair:
    """Return a convolution with a kernel of one tap as a matrix (inputs, outputs), and its bias."""
    return np.ascontiguousarray(tensors[f"{name}.weight"][:, :, 0].T), tensors[f"{name}.bias"]


def _feed_forward(hidden: F32, weights: tuple[_Pair, ...]) -> F32:
    norm, wide, narrow = weights
    return _affine(_silu(_affine(_normalize(hidden, norm), wide)), narrow)


def _attention(hidden: F32, weights: tuple[_Pair, ...]) -> F32:
    """Return (F, 144): scaled dot-product attention of four heads, without positional encoding."""
    norm, project, output = weights
    split = _affine(_normalize(hidden, norm), project).reshape(len(hidden), 3, _HEADS, -1)
    query, key, value = np.ascontiguousarray(split.transpose(1, 2, 0, 3))
    query *= np.float32(query.shape[-1] ** -0.5)
    heads = _softmax(query @ key.transpose(0, 2, 1)) @ value
    return _affine(np.ascontiguousarray(heads.transpose(1, 0, 2)).reshape(len(hidden), -1), output)


def _convolution(hidden: F32, weights: tuple[_Pair, ...]) -> F32:
    """Return (F, 144): a gated linear unit, then a depthwise convolution of 31 taps over time."""
    norm, gated, depthwise, output = weights
    values = _affine(_normalize(hidden, norm), gated)
    gate = values[:, _WIDTH:]
    padded = np.pad(values[:, :_WIDTH] / (1 + np.exp(-gate)), ((_TAPS // 2, _TAPS // 2), (0, 0)))
    taps, bias = depthwise
    total = np.tile(bias, (len(hidden), 1))
    term = np.empty_like(total)
    for tap, weight in enumerate(taps):
        np.multiply(padded[tap : tap + len(hidden)], weight, out=term)
        total += term
    return _affine(_silu(total), output)


def _affine(values: F32, weights: _Pair) -> F32:
    result = values @ weights[0]
    result += weights[1]
    return np.asarray(result, np.float32)


def _normalize(values: F32, weights: _Pair) -> F32:
    """Return layer normalisation: rows of mean 0 and variance 1, scaled and shifted."""
    centred = values - values.mean(axis=1, keepdims=True)
    variance = np.einsum("ij,ij->i", centred, centred)[:, None] / np.float32(values.shape[1])
    centred /= np.sqrt(variance + np.float32(1e-5))
    return np.asarray(centred * weights[0] + weights[1], np.float32)


def _silu(values: F32) -> F32:
    """Return x / (1 + exp(-x))."""
    divisor = np.exp(-values)
    divisor += 1
    return np.asarray(np.divide(values, divisor, out=divisor), np.float32)


def _gelu(values: F32) -> F32:
    """Return x times the normal distribution up to x, by formula 7.1.26 of Abramowitz and Stegun (1e-7)."""
    size = np.abs(values) * np.float32(math.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * size)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    error = np.copysign(1 - poly * np.exp(-size * size), values)
    return np.asarray(0.5 * values * (1 + error), np.float32)


def _softmax(values: F32) -> F32:
    """Return the last axis as probabilities; overwrites ``values``."""
    values -= values.max(axis=-1, keepdims=True)
    np.exp(values, out=values)
    values /= values.sum(axis=-1, keepdims=True)
    return values
