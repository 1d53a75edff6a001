"""Text to speech: the engines' interface, and long text as one sound with the exact times of its phonemes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vortex.errors import InputError
from vortex.extras.text import Sentence, split_sentences
from vortex.lipsync.phonemes import SILENCE
from vortex.motion.presets import PRESETS, Preset, PresetSequence, parse_presets
from vortex.types import Audio, Hook, PhonemeSpan, read_only

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

SPEECH_ENGINES: tuple[str, ...] = ("kokoro", "kokoro-fp32")
DEFAULT_VOICE = "af_heart"
SPEED_RANGE = (0.5, 2.0)
LEAD_S, TAIL_S = 0.25, 0.45
"""Silence before the first word, so that the face can take breath, and behind the last."""
SENTENCE_PAUSE_S, PARAGRAPH_PAUSE_S = 0.3, 0.65
ONSET_S, RELEASE_S = 0.05, 0.1
"""How much of an engine's own silence is kept on both sides of a sentence: breath and decay lie in it."""
FADE_S = 0.01
PEAK = 0.97
"""No sample is louder than this, however energetic the preset."""


@dataclass(frozen=True, slots=True)
class VoiceStyle:
    """How a preset sounds: ``speed`` multiplies the speed, ``gain_db`` is added to the level."""

    speed: float
    gain_db: float


VOICE_STYLES: Mapping[str, VoiceStyle] = {
    "neutral": VoiceStyle(1.0, 0.0),
    "excited": VoiceStyle(1.1, 2.0),
    "manic": VoiceStyle(1.22, 3.5),
    "calm": VoiceStyle(0.9, -2.0),
}
"""One for each of :data:`vortex.motion.presets.PRESETS`."""


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice that an engine has."""

    name: str
    language: str
    gender: str


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """Samples (N,) float32 in [-1, 1], and the sounds in them.

    ``phonemes`` are ARPAbet symbols or "SIL", ``ends`` (M,) int64 the rising sample index at which each one
    ends; the first starts at 0 and the last ends at N, so that nothing is left out.
    """

    samples: F32
    phonemes: tuple[str, ...]
    ends: I64

    def __post_init__(self) -> None:
        """Make the arrays read-only, and make sure that the sounds cover all samples."""
        object.__setattr__(self, "samples", read_only(self.samples, np.float32))
        object.__setattr__(self, "ends", read_only(self.ends, np.int64))
        if len(self.phonemes) != len(self.ends) or (self.ends[-1] if len(self.ends) else 0) != len(
            self.samples
        ):
            raise InputError(
                f"Utterance has {len(self.phonemes)} phonemes, {len(self.ends)} ends and "
                f"{len(self.samples)} samples; the last end must be the number of samples."
            )

    def trimmed(self, before: int, behind: int) -> Utterance:
        """Return the utterance with at most so many samples of silence before and behind it."""
        ends = self.ends
        first = max(int(ends[0]) - before, 0) if self.phonemes[0] == SILENCE else 0
        last = len(self.samples)
        if self.phonemes[-1] == SILENCE and len(ends) > 1:
            last = min(int(ends[-2]) + behind, last)
        return Utterance(self.samples[first:last], self.phonemes, np.minimum(ends, last) - first)


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """A text spoken: 24 kHz ``audio``, the ``phonemes`` that cover it to the sample, and the ``words``.

    ``words`` is the text as it was read, without digits and abbreviations.
    """

    audio: Audio
    phonemes: tuple[PhonemeSpan, ...]
    words: str
    voice: str
    engine: str


class SpeechEngine(Protocol):
    """Speaks one sentence at a time. Safe to call from many threads at once."""

    @property
    def name(self) -> str:
        """One of :data:`SPEECH_ENGINES`, for those of vortex."""
        ...

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the samples."""
        ...

    @property
    def voices(self) -> tuple[Voice, ...]:
        """The voices it has."""
        ...

    def say(self, sentence: str, *, voice: str, speed: float = 1.0) -> Utterance:
        """Return one sentence, written in words, spoken.

        Raises:
            InputError: unknown voice, or nothing that can be spoken.
        """
        ...


def load_speech_engine(name: str = "kokoro") -> SpeechEngine:
    """Return the speech engine called ``name``; it never substitutes another one.

    Raises:
        InputError: unknown name.
        MissingExtraError, WeightsError, EngineError: it cannot run here; the message says why.
    """
    if name not in SPEECH_ENGINES:
        raise InputError(f"Unknown speech engine {name!r}; vortex has {' and '.join(SPEECH_ENGINES)}.")
    from vortex.extras.kokoro import Kokoro

    return Kokoro(name)


def synthesize(
    text: str,
    engine: SpeechEngine,
    *,
    voice: str = DEFAULT_VOICE,
    speed: float = 1.0,
    preset: PresetSequence = "neutral",
    output: F32 | None = None,
    hook: Hook | None = None,
) -> Speech:
    """Speak a text of any length.

    Each sentence is spoken by itself, in the style of the preset at its start, and laid between exact pauses,
    so that nothing clicks and no time drifts however long the text.

    Args:
        text: English, as one writes it; see :func:`vortex.extras.text.split_sentences`.
        engine: see :func:`load_speech_engine`.
        voice: a name of ``engine.voices``.
        speed: 0.5 (slow) to 2 (fast); the preset's own speed multiplies it, within these limits.
        preset: sets speed and level, see :data:`VOICE_STYLES`; a timed sequence changes at sentences.
        output: (M,) float32 to fill, so that nothing is allocated for the sound; ``Speech.audio`` is a
            view of its beginning.
        hook: called as hook("speech", sentences done, sentences); what it raises ends the work.

    Raises:
        InputError: no words, a voice, speed or preset that is not there, an ``output`` of another type or too
            short for the speech.
        MissingExtraError: the extra "speech" is not installed.
    """
    check_speed(speed)
    styles = [(_style(preset), start_s) for preset, start_s in parse_presets(preset)]
    sentences = split_sentences(text)
    target = _Target(output, engine.sample_rate_hz)
    target.add_silence(LEAD_S)
    for index, sentence in enumerate(sentences):
        if hook:
            hook("speech", index, len(sentences))
        style = [style for style, start_s in styles if start_s <= target.length_s][-1]
        pace = min(max(speed * style.speed, SPEED_RANGE[0]), SPEED_RANGE[1])
        target.add(engine.say(sentence.text, voice=voice, speed=pace), style.gain_db)
        target.add_silence(_pause_s(sentence, pace) if index + 1 < len(sentences) else TAIL_S)
    if hook:
        hook("speech", len(sentences), len(sentences))
    words = " ".join(sentence.text for sentence in sentences)
    return Speech(target.audio(), tuple(target.spans()), words, voice, engine.name)


def check_speed(speed: float) -> None:
    """Make sure that a speed can be spoken.

    Raises:
        InputError: it lies outside :data:`SPEED_RANGE`.
    """
    if not SPEED_RANGE[0] <= speed <= SPEED_RANGE[1]:
        raise InputError(f"speed is {speed:g}; give {SPEED_RANGE[0]:g} (slow) to {SPEED_RANGE[1]:g} (fast).")


def _style(preset: Preset) -> VoiceStyle:
    return next(VOICE_STYLES[name] for name, known in PRESETS.items() if known is preset)


def _pause_s(sentence: Sentence, pace: float) -> float:
    return (PARAGRAPH_PAUSE_S if sentence.ends_paragraph else SENTENCE_PAUSE_S) / pace


class _Target:
    """Where sentences and pauses are laid one behind the other."""

    def __init__(self, output: F32 | None, rate_hz: int) -> None:
        if output is not None and (output.dtype != np.float32 or output.ndim != 1):
            raise InputError(
                f"output is {output.dtype} of shape {output.shape}; give float32 of shape (M,), 24 kHz mono."
            )
        self.rate_hz = rate_hz
        self._output = output
        self._chunks: list[F32] = []
        self._length = 0
        self._phonemes: list[str] = []
        self._ends: list[int] = []

    @property
    def length_s(self) -> float:
        return self._length / self.rate_hz

    def add_silence(self, length_s: float) -> None:
        samples = np.zeros(round(length_s * self.rate_hz), np.float32)
        self._append(samples, (SILENCE,), np.array([len(samples)]))

    def add(self, utterance: Utterance, gain_db: float) -> None:
        part = utterance.trimmed(round(ONSET_S * self.rate_hz), round(RELEASE_S * self.rate_hz))
        samples = part.samples * np.float32(10 ** (gain_db / 20))
        samples *= min(1.0, PEAK / max(float(np.abs(samples).max(initial=0)), 1e-9))
        fade = np.linspace(0, 1, min(round(FADE_S * self.rate_hz), len(samples) // 2), dtype=np.float32)
        samples[: len(fade)] *= fade
        samples[len(samples) - len(fade) :] *= fade[::-1]
        self._append(samples, part.phonemes, part.ends)

    def _append(self, samples: F32, phonemes: Sequence[str], ends: I64) -> None:
        if self._output is None:
            self._chunks.append(samples)
        else:
            room = len(self._output) - self._length
            if len(samples) > room:
                raise InputError(
                    f"output holds {len(self._output)} samples, which is too short for the speech; "
                    f"give at least {self._length + len(samples)}, and 24000 more for each further second."
                )
            self._output[self._length : self._length + len(samples)] = samples
        self._phonemes += phonemes
        self._ends += (ends + self._length).tolist()
        self._length += len(samples)

    def audio(self) -> Audio:
        whole = np.concatenate(self._chunks) if self._output is None else self._output[: self._length]
        return Audio(whole, self.rate_hz)

    def spans(self) -> Iterator[PhonemeSpan]:
        """Yield the sounds with their times, silences that touch as one."""
        start = 0
        for index, (name, end) in enumerate(zip(self._phonemes, self._ends, strict=True)):
            follows = self._phonemes[index + 1 : index + 2]
            if end == start or (name == SILENCE and follows == [SILENCE]):
                continue
            yield PhonemeSpan(name, start / self.rate_hz, end / self.rate_hz)
            start = end
