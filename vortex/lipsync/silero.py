"""The voice activity detector Silero VAD, run by numpy: the probability of speech in each 32 ms of a sound.

The network (MIT, https://github.com/snakers4/silero-vad, version 6.2.3) is four convolutions over
magnitudes of a short-time spectrum, then a long short-term memory (Hochreiter & Schmidhuber 1997) that is
carried from block to block. Its weights are in ``vortex/data/silero_vad.npz``, which
``scripts/pack_silero_vad.py`` made.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vortex.types import F32

BLOCK_SAMPLES = 512
"""Samples at 16 kHz of one probability, 32 ms."""
_CONTEXT, _FFT, _HOP, _WIDTH = 64, 256, 128, 128
_BATCH = 512
"""Blocks whose spectra are computed together; 3 MB."""
_STRIDES = (1, 2, 2, 1)
_WEIGHTS = Path(__file__).parents[1] / "data" / "silero_vad.npz"
_loading = threading.Lock()


class _Network(NamedTuple):
    """Weights: each convolution as a matrix (3 * inputs, outputs) and a bias, then the memory, the output."""

    convolutions: tuple[tuple[F32, F32], ...]
    input_gates: F32
    hidden_gates: F32
    gate_bias: F32
    output: F32
    output_bias: float


class SileroVad:
    """The detector of one sound, which arrives in blocks. Not safe for threads."""

    def __init__(self) -> None:
        with _loading:
            self._network = _load_network()
        self._context = np.zeros(_CONTEXT, np.float32)
        self._hidden = self._cell = np.zeros(_WIDTH, np.float32)

    def push(self, samples: F32) -> F32:
        """Return (B,) float32: the probability of speech in each of the next B blocks.

        ``samples`` (B * :data:`BLOCK_SAMPLES`,) float32 at 16 kHz follow those of the last call.
        """
        step = _BATCH * BLOCK_SAMPLES
        parts = [self._push_batch(samples[i : i + step]) for i in range(0, len(samples), step)]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def _push_batch(self, samples: F32) -> F32:
        network = self._network
        blocks = samples.reshape(-1, BLOCK_SAMPLES)
        contexts = np.concatenate([self._context[None], blocks[:-1, -_CONTEXT:]])
        self._context = blocks[-1, -_CONTEXT:].copy()
        gates = _features(np.concatenate([contexts, blocks], axis=1), network) @ network.input_gates
        gates += network.gate_bias
        result = np.empty(len(blocks), np.float32)
        for index, row in enumerate(gates):
            row += self._hidden @ network.hidden_gates
            write, keep, value, show = np.split(row, 4)
            self._cell = _sigmoid(keep) * self._cell + _sigmoid(write) * np.tanh(value)
            self._hidden = _sigmoid(show) * np.tanh(self._cell)
            result[index] = np.maximum(self._hidden, 0) @ network.output
        return _sigmoid(result + np.float32(network.output_bias))


def _features(blocks: F32, network: _Network) -> F32:
    """Return (B, 128) of blocks with their context, (B, 576): what the memory reads."""
    padded = np.pad(blocks, ((0, 0), (0, _CONTEXT)), mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT, axis=1)[:, ::_HOP]
    window = np.hanning(_FFT + 1)[:-1].astype(np.float32)
    values = np.abs(np.fft.rfft(frames * window)).astype(np.float32)
    for (matrix, bias), stride in zip(network.convolutions, _STRIDES, strict=True):
        near = np.lib.stride_tricks.sliding_window_view(np.pad(values, ((0, 0), (1, 1), (0, 0))), 3, axis=1)
        near = near[:, ::stride]
        values = np.maximum(near.reshape(*near.shape[:2], -1) @ matrix + bias, 0)
    return values[:, 0]


@lru_cache(maxsize=1)
def _load_network() -> _Network:
    with np.load(_WEIGHTS) as packed:
        tensors = {name: packed[name].astype(np.float32) for name in packed.files}
    convolutions = []
    for layer in range(len(_STRIDES)):
        weight = tensors[f"encoder.{layer}.reparam_conv.weight"]
        matrix = np.ascontiguousarray(weight.reshape(len(weight), -1).T)
        convolutions.append((matrix, tensors[f"encoder.{layer}.reparam_conv.bias"]))
    return _Network(
        convolutions=tuple(convolutions),
        input_gates=np.ascontiguousarray(tensors["decoder.rnn.weight_ih"].T),
        hidden_gates=np.ascontiguousarray(tensors["decoder.rnn.weight_hh"].T),
        gate_bias=tensors["decoder.rnn.bias_ih"] + tensors["decoder.rnn.bias_hh"],
        output=tensors["decoder.decoder.2.weight"].reshape(-1),
        output_bias=float(tensors["decoder.decoder.2.bias"][0]),
    )


def _sigmoid(values: F32) -> F32:
    """Return 1 / (1 + exp(-x)), as the hyperbolic tangent, which does not overflow."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * values), np.float32)
