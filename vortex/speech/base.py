"""The interface of a speech engine, and the values that it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vortex.errors import InputError
from vortex.lipsync.visemes import SILENCE
from vortex.types import F32, I64, Audio, PhonemeSpan, read_only

DEFAULT_VOICE = "af_heart"
SPEED_RANGE = (0.5, 2.0)
PAUSE_RANGE = (0.0, 10.0)
SAMPLE_TEXT = "Hello! This is how I sound. Shall we begin?"
"""What a voice says in its sample."""


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice of an engine."""

    name: str
    language: str
    gender: str


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """One spoken sentence: ``samples`` (N,) float32 in [-1, 1], and the M phonemes that cover them.

    ``phonemes`` are ARPAbet symbols or "SIL"; ``ends`` (M,) int64, rising, is the sample index at which each
    one ends. The first starts at 0 and the last ends at N.
    """

    samples: F32
    phonemes: tuple[str, ...]
    ends: I64

    def __post_init__(self) -> None:
        """Make the arrays read-only, and make sure that the phonemes cover all samples."""
        object.__setattr__(self, "samples", read_only(self.samples, np.float32))
        object.__setattr__(self, "ends", read_only(self.ends, np.int64))
        covered = self.ends[-1] if len(self.ends) else 0
        if len(self.phonemes) != len(self.ends) or covered != len(self.samples):
            raise InputError(
                f"Utterance has {len(self.phonemes)} phonemes, {len(self.ends)} ends and "
                f"{len(self.samples)} samples; the last end must be the number of samples."
            )

    def trimmed(self, before: int, after: int) -> Utterance:
        """Return the utterance with at most this many samples of silence before and after it."""
        ends = self.ends
        first = max(int(ends[0]) - before, 0) if self.phonemes[0] == SILENCE else 0
        last = len(self.samples)
        if self.phonemes[-1] == SILENCE and len(ends) > 1:
            last = min(int(ends[-2]) + after, last)
        return Utterance(self.samples[first:last], self.phonemes, np.minimum(ends, last) - first)


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """A spoken text: ``audio`` at 24 kHz, ``phonemes`` that cover it to the sample, the text in ``words``.

    ``notes`` name what is in the text and could not be read aloud. ``written`` is the text as its author
    wrote it, without markup.
    """

    audio: Audio
    phonemes: tuple[PhonemeSpan, ...]
    words: str
    voice: str
    engine: str
    notes: tuple[str, ...] = ()
    written: str = ""


class SpeechEngine(Protocol):
    """Speaks one sentence at a time. Safe to call from many threads at once."""

    name: str
    """Its name in :data:`vortex.speech.registry.SPEECH_ENGINES`."""
    sample_rate_hz: int
    voices: tuple[Voice, ...]

    def say(self, sentence: str, *, voice: str, speed: float = 1.0) -> Utterance:
        """Speak a sentence of words at ``speed`` times normal; InputError: unknown voice, nothing to say."""


@dataclass(frozen=True, slots=True)
class SpeechEngineSpec:
    """One speech engine of the registry; making a spec imports no heavy package.

    ``name`` is the value of the option ``speech_engine``. ``load`` raises MissingExtraError, WeightsError or
    EngineError where the engine cannot run; ``list_voices`` does not load its model. ``memory_bytes`` is the
    most memory that it uses, work space included.
    """

    name: str
    load: Callable[[], SpeechEngine]
    list_voices: Callable[[], tuple[Voice, ...]]
    memory_bytes: int
