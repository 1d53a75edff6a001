"""Speech to visemes: exact phoneme times, else a transcript aligned by PocketSphinx, else recognition."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vortex.errors import AudioError, InputError
from vortex.lipsync import ctc
from vortex.lipsync.acoustic import ACOUSTIC_HZ
from vortex.lipsync.vad import (
    VAD_HZ,
    detect_speech,
    detect_vocalization,
    detect_voice,
    relative_level_db,
    relative_loudness,
    voice_probability,
)
from vortex.lipsync.visemes import IPA_TO_ARPABET, SILENCE, check_spans, coarticulate
from vortex.media.audio import frame_spans, loudness_db, resample
from vortex.types import F32, Audio, PhonemeSpan, VisemeTrack, frame_count, parse_fps

if TYPE_CHECKING:
    from pocketsphinx import Decoder


def recognize_visemes(
    audio: Audio,
    fps: Fraction,
    *,
    transcript: str | None = None,
    phonemes: Sequence[PhonemeSpan] | None = None,
) -> VisemeTrack:
    """Return how the mouth moves, one row for each frame of the sound.

    ``phonemes`` are used as they are; InputError if their times are bad. Else ``transcript`` is aligned, with
    the errors of :func:`align_transcript`. Else the sounds are recognised, in any language.
    """
    samples = resample(audio.samples, audio.sample_rate, ACOUSTIC_HZ)
    if phonemes is not None:
        spans = check_spans(phonemes)
    else:
        spans = recognize_phonemes(samples, transcript)
    frames = frame_count(audio.duration_s, fps)
    loudness = np.zeros(0, np.float32)
    if frames:
        level = loudness_db(audio.samples, frame_spans(frames, fps, audio.sample_rate))
        loudness = relative_loudness(level, float(np.percentile(level, 95)))
    return VisemeTrack(coarticulate(spans, frames, fps), loudness, fps)


def audio_to_visemes(audio: npt.ArrayLike, fps: float | str | Fraction, sample_rate: int = 24_000) -> F32:
    """Return viseme weights (T, 15) float32, columns :data:`vortex.visemes.VISEMES`, rows sum to 1.

    ``audio`` is (N,) mono in [-1, 1]; T is frame_count(duration, fps), and row i shows the middle of frame i.
    AudioError: samples that are not finite. InputError: not (N,), or an impossible frame rate.
    """
    samples = np.asarray(audio, np.float32)
    if samples.ndim == 1 and not np.isfinite(samples).all():
        raise AudioError("audio has samples that are not finite numbers; give mono sound in [-1, 1].")
    return recognize_visemes(Audio(samples, sample_rate), parse_fps(fps)).weights


def recognize_phonemes(samples: F32, transcript: str | None = None) -> list[PhonemeSpan]:
    """Return the sounds of a voice; ``samples`` (N,) float32 at 16 kHz. Other sounds have none.

    With a ``transcript``, it is aligned, with the errors of :func:`align_transcript`. Else the sounds are
    recognised, in any language: the CTC network knows what was said, but not when each sound begins and ends,
    so its words are aligned with the sound, phrase by phrase. Where that fails, each sound lasts from its
    spike until the next one.
    """
    level = relative_level_db(samples)
    voice = detect_voice(voice_probability(samples), len(level))
    speech = detect_speech(level) & voice
    if transcript is not None:
        start_s, end_s = trim_to_voice(0.0, len(level) / VAD_HZ, voice)
        low, high = round(start_s * ACOUSTIC_HZ), round(end_s * ACOUSTIC_HZ)
        return ctc.cut_at_pauses(
            shift_spans(align_transcript(samples[low:high], transcript), start_s), speech
        )
    spikes = ctc.iter_spikes_of_voice(ctc.iter_spikes(ctc.chunk_emissions(samples)), voice)
    aligner = PhonemeAligner()
    following = next(spikes, None)
    spans: list[PhonemeSpan] = []
    for start_s, end_s in ctc.split_phrases(speech):
        phrase = []
        while following is not None and following.start_s < end_s:
            phrase.append(following)
            following = next(spikes, None)
        start_s, end_s = trim_to_voice(start_s, end_s, voice)
        low, high = round(start_s * ACOUSTIC_HZ), round(end_s * ACOUSTIC_HZ)
        aligned = aligner.align(samples[low:high], ctc.words_of_spikes(phrase)) if phrase else []
        spans += shift_spans(aligned, start_s) or ctc.spans_until_next(phrase, end_s)
    return ctc.add_filled_pauses(ctc.cut_at_pauses(spans, speech), detect_vocalization(level) & voice)


def trim_to_voice(start_s: float, end_s: float, voice: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the stretch from the first to the last voice within a stretch, or all of it without one.

    An aligner would spread the first sound over the music before it. ``voice`` (N,) is at 100 Hz.
    """
    first = round(start_s * VAD_HZ)
    spoken = np.flatnonzero(voice[first : round(end_s * VAD_HZ)])
    if len(spoken) == 0:
        return start_s, end_s
    return max(start_s, (first + spoken[0]) / VAD_HZ), min(end_s, (first + spoken[-1] + 1) / VAD_HZ)


def shift_spans(spans: Iterable[PhonemeSpan], late_s: float) -> list[PhonemeSpan]:
    """Return the spans, each later by ``late_s``."""
    return [PhonemeSpan(span.phoneme, span.start_s + late_s, span.end_s + late_s) for span in spans]


def align_transcript(samples: F32, transcript: str) -> list[PhonemeSpan]:
    """Return when each sound of an English text is spoken; ``samples`` (N,) float32 at 16 kHz.

    InputError: no words, or digits in the text. AudioError: the text does not fit the sound.
    """
    digits = re.search(r"\S*\d\S*", transcript)
    if digits:
        raise InputError(f"The transcript has {digits[0]!r}; write numbers as they are spoken, in words.")
    words = re.findall(r"[a-z]+(?:'[a-z]+)*", transcript.lower().replace("\u2019", "'"))
    if not words:
        raise InputError(
            f"The transcript {transcript[:40]!r} has no English words; give the words, or no transcript."
        )
    decoder = _new_decoder()
    for word in dict.fromkeys(words):
        if decoder.lookup_word(word) is None:
            decoder.add_word(word, _pronounce(word), True)
    spans = _align(decoder, samples, words)
    if not spans:
        raise AudioError(
            "The transcript does not match the speech. Correct it word for word, or give no transcript."
        )
    return spans


class PhonemeAligner:
    """Aligns recognised phonemes, grouped into words, with the sound. Not safe for threads."""

    def __init__(self) -> None:
        # Recognised sounds are uncertain: every second frame of 10 ms is exact enough, and half the work.
        # Reading the dictionary takes a tenth of a second, and these words are not in it.
        self._decoder = _new_decoder(dict=None, ds=2)

    def align(self, samples: F32, words: Sequence[Sequence[str]]) -> list[PhonemeSpan]:
        """Return the sounds of ``words`` in their order, or none if they do not fit ``samples`` at 16 kHz."""
        names = ["+".join(phonemes).lower() for phonemes in words]
        for name, phonemes in zip(names, words, strict=True):
            if self._decoder.lookup_word(name) is None:
                self._decoder.add_word(name, " ".join(phonemes), True)
        return _align(self._decoder, samples, names)


def _align(decoder: Decoder, samples: F32, words: Sequence[str]) -> list[PhonemeSpan]:
    """Return the sounds of ``words`` in their order, or none if they do not fit the sound at all."""
    pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
    try:
        decoder.set_align_text(" ".join(words))
        _decode_pcm(decoder, pcm)
        decoder.set_alignment()
        _decode_pcm(decoder, pcm)
        alignment = decoder.get_alignment()
    except RuntimeError:
        return []
    rate = float(decoder.config["frate"])
    # PocketSphinx returns where an analysis window starts; what the window measures is in its middle.
    delay_s = 0.5 * float(decoder.config["wlen"])
    return [
        PhonemeSpan(phone.name, phone.start / rate + delay_s, (phone.start + phone.duration) / rate + delay_s)
        for word in alignment or ()
        for phone in word
        if phone.name not in (SILENCE, "+SPN+", "+NSN+")
    ]


def _new_decoder(**options: int | None) -> Decoder:
    """Return a new decoder: one decoder is not safe for several threads, and keeps the words added to it."""
    from pocketsphinx import Decoder

    # No bestpath: its lattice search fails on long pauses.
    return Decoder(samprate=ACOUSTIC_HZ, lm=None, loglevel="FATAL", bestpath=False, fwdflat=False, **options)


def _decode_pcm(decoder: Decoder, pcm: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()


@lru_cache(maxsize=4096)
def _pronounce(word: str) -> str:
    """Return the ARPAbet sounds, with spaces between, of a word that is not in the dictionary."""
    from hama import G2PModel

    result = G2PModel().predict(word)
    sounds = [IPA_TO_ARPABET[a.phoneme] for a in result.alignments if a.phoneme in IPA_TO_ARPABET]
    if not sounds:
        raise InputError(f"The word {word!r} of the transcript has no known pronunciation; respell it.")
    return " ".join(sounds)
