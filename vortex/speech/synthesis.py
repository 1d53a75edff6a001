"""A text of any length becomes one sound with the exact times of its phonemes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vortex.errors import InputError
from vortex.lipsync.visemes import SILENCE
from vortex.motion.presets import PresetLike, PresetTrack
from vortex.speech.base import DEFAULT_VOICE, PAUSE_RANGE, SPEED_RANGE, Speech, SpeechEngine, Utterance
from vortex.speech.markup import parse_markup
from vortex.speech.text import Sentence, read_text
from vortex.types import F32, I64, MAX_DURATION_S, Audio, PhonemeSpan, ProgressCallback

LEAD_S, TAIL_S = 0.25, 0.45
"""Silence before the first word, so that the face can take a breath, and after the last."""
SENTENCE_PAUSE_S, PARAGRAPH_PAUSE_S = 0.3, 0.65
ONSET_S, RELEASE_S = 0.05, 0.1
"""How much of the engine's own silence is kept before and after a sentence: it contains breath and decay."""
FADE_S = 0.01
"""Length of the fades at both ends of a sentence, which prevent clicks."""
PEAK = 0.97
"""Largest magnitude of a sample, whatever gain the preset adds."""


@dataclass(frozen=True, slots=True)
class Prosody:
    """How a preset sounds: ``speed`` multiplies the speed, ``gain_db`` is added to the level."""

    speed: float
    gain_db: float

    def at_strength(self, strength: float) -> Prosody:
        """Return the plain voice at 0, this one at 1, and what lies on the line through both else."""
        return Prosody(1 + strength * (self.speed - 1), strength * self.gain_db)


PRESET_PROSODY: Mapping[str, Prosody] = {
    "neutral": Prosody(1.0, 0.0),
    "excited": Prosody(1.1, 2.0),
    "manic": Prosody(1.22, 3.5),
    "calm": Prosody(0.9, -2.0),
    "serious": Prosody(0.95, 0.0),
    "happy": Prosody(1.05, 1.0),
    "sad": Prosody(0.85, -3.0),
    "angry": Prosody(1.08, 3.0),
}
"""Name of a preset of :data:`vortex.motion.presets.PRESETS` -> how it sounds."""


def synthesize(
    text: str,
    engine: SpeechEngine,
    *,
    voice: str = DEFAULT_VOICE,
    speed: float = 1.0,
    pause: float = 1.0,
    preset: PresetLike = "neutral",
    output: F32 | None = None,
    max_duration_s: float = MAX_DURATION_S,
    on_progress: ProgressCallback | None = None,
) -> Speech:
    """Speak an English text of any length; ``engine`` may be ``find_speech_engine("kokoro").load()``.

    Each sentence is spoken separately, with the prosody of the preset at its start, and placed between pauses
    of exact length, so that times do not drift, however long the text. ``Speech.notes`` name
    what cannot be read aloud.

    Args:
        text: as one writes it, with ``<break time="1s"/>`` where one wants; see
            :func:`vortex.speech.text.read_text`.
        voice: a name of ``engine.voices``.
        speed: 0.5 (slow) to 2 (fast); the preset's own speed multiplies it, within these limits.
        pause: 0 to 10, multiplies the pauses between sentences.
        preset: sets speed and level, see :data:`PRESET_PROSODY`; a timed sequence changes between sentences.
        output: (M,) float32 that receives the samples; ``Speech.audio`` is then a view of its beginning.
        max_duration_s: a text that takes longer is refused at the sentence that exceeds it.
        on_progress: called as on_progress("speech", sentences done, sentences); what it raises ends the work.

    Raises:
        InputError: no words or too many, an unknown voice or preset, a speed out of range, an unfit or short
            ``output``.
        MissingExtraError: the extra "speech" is not installed.
    """
    if not SPEED_RANGE[0] <= speed <= SPEED_RANGE[1]:
        raise InputError(f"speed is {speed:g}; give {SPEED_RANGE[0]:g} (slow) to {SPEED_RANGE[1]:g} (fast).")
    if not PAUSE_RANGE[0] <= pause <= PAUSE_RANGE[1]:
        raise InputError(f"pause is {pause:g}; give {PAUSE_RANGE[0]:g} to {PAUSE_RANGE[1]:g}.")
    track = PresetTrack.parse(preset)
    prosodies = [
        (PRESET_PROSODY[name].at_strength(strength), start_s)
        for name, strength, start_s in zip(track.names, track.strengths, track.starts_s, strict=True)
    ]
    reading = read_text(text)
    sentences = reading.sentences
    buffer = _SpeechBuffer(output, engine.sample_rate_hz)
    _check_length(LEAD_S + reading.lead_s, max_duration_s)
    buffer.add_silence(LEAD_S + reading.lead_s)
    for index, sentence in enumerate(sentences):
        if on_progress:
            on_progress("speech", index, len(sentences))
        prosody = [prosody for prosody, start_s in prosodies if start_s <= buffer.length_s][-1]
        pace = min(max(speed * prosody.speed, SPEED_RANGE[0]), SPEED_RANGE[1])
        before = sentences[index - 1] if index else None
        if before and before.pause_s is None:
            buffer.add_silence(_usual_pause_s(before) * pause / pace)
        pause_s = before.pause_s if before else None
        _check_length(buffer.length_s + (pause_s or 0.0), max_duration_s)
        buffer.add(engine.say(sentence.text, voice=voice, speed=pace), prosody.gain_db, pause_s)
    tail_s = TAIL_S + (sentences[-1].pause_s or 0.0)
    _check_length(buffer.length_s + tail_s, max_duration_s)
    buffer.add_silence(tail_s)
    if on_progress:
        on_progress("speech", len(sentences), len(sentences))
    words = " ".join(sentence.text for sentence in sentences)
    written = " ".join(passage.text for passage in parse_markup(text)[0])
    return Speech(buffer.audio(), tuple(buffer.spans()), words, voice, engine.name, reading.notes, written)


def _check_length(length_s: float, max_duration_s: float) -> None:
    if length_s > max_duration_s:
        raise InputError(f"The text takes more than {max_duration_s:g} s to say. Shorten it.")


def _usual_pause_s(sentence: Sentence) -> float:
    return PARAGRAPH_PAUSE_S if sentence.ends_paragraph else SENTENCE_PAUSE_S


class _SpeechBuffer:
    """Collects the samples and phonemes of sentences and pauses in order."""

    def __init__(self, output: F32 | None, rate_hz: int) -> None:
        if output is not None and (output.dtype != np.float32 or output.ndim != 1):
            raise InputError(
                f"output is {output.dtype} of shape {output.shape}; give float32 of shape (M,), 24 kHz mono."
            )
        self.rate_hz, self._output, self._length = rate_hz, output, 0
        self._chunks: list[F32] = []
        self._phonemes: list[str] = []
        self._ends: list[int] = []

    @property
    def length_s(self) -> float:
        """Seconds collected so far."""
        return self._length / self.rate_hz

    def add_silence(self, length_s: float) -> None:
        """Append a pause."""
        samples = np.zeros(round(length_s * self.rate_hz), np.float32)
        self._append(samples, (SILENCE,), np.array([len(samples)]))

    def add(self, utterance: Utterance, gain_db: float, pause_s: float | None = None) -> None:
        """Append a sentence, trimmed, amplified and faded; ``pause_s`` is the whole silence before it."""
        part = utterance.trimmed(round(ONSET_S * self.rate_hz), round(RELEASE_S * self.rate_hz))
        if pause_s is not None:
            wanted = round(pause_s * self.rate_hz) - self._silence_at_end()
            onset = int(part.ends[0]) if part.phonemes[0] == SILENCE else 0
            if wanted < onset:
                part = part.trimmed(max(wanted, 0), len(part.samples))
            self.add_silence(max(wanted - onset, 0) / self.rate_hz)
        samples = part.samples * np.float32(10 ** (gain_db / 20))
        samples *= min(1.0, PEAK / max(float(np.abs(samples).max(initial=0)), 1e-9))
        fade = np.linspace(0, 1, min(round(FADE_S * self.rate_hz), len(samples) // 2), dtype=np.float32)
        samples[: len(fade)] *= fade
        samples[len(samples) - len(fade) :] *= fade[::-1]
        self._append(samples, part.phonemes, part.ends)

    def _silence_at_end(self) -> int:
        """Return the number of samples of the silence that ends what is collected."""
        spoken = next((i for i in reversed(range(len(self._ends))) if self._phonemes[i] != SILENCE), None)
        return self._length - (0 if spoken is None else self._ends[spoken])

    def _append(self, samples: F32, phonemes: Sequence[str], ends: I64) -> None:
        if self._output is None:
            self._chunks.append(samples)
        else:
            end = self._length + len(samples)
            if end > len(self._output):
                raise InputError(
                    f"output holds {len(self._output)} samples, which is too short for the speech; "
                    f"give at least {end}, and 24000 more for each further second."
                )
            self._output[self._length : end] = samples
        self._phonemes += phonemes
        self._ends += (ends + self._length).tolist()
        self._length += len(samples)

    def audio(self) -> Audio:
        """Return the sound collected so far."""
        samples = np.concatenate(self._chunks) if self._output is None else self._output[: self._length]
        return Audio(samples, self.rate_hz)

    def spans(self) -> Iterator[PhonemeSpan]:
        """Yield the phonemes with their times; adjacent silences become one."""
        start = 0
        for index, (name, end) in enumerate(zip(self._phonemes, self._ends, strict=True)):
            following = self._phonemes[index + 1 : index + 2]
            if end == start or (name == SILENCE and following == [SILENCE]):
                continue
            yield PhonemeSpan(name, start / self.rate_hz, end / self.rate_hz)
            start = end
