"""Speech to visemes: exact phoneme times, else a transcript aligned with the sound, else recognition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vortex.errors import AudioError
from vortex.lipsync import ctc
from vortex.lipsync.acoustic import ACOUSTIC_HZ
from vortex.lipsync.alignment import PhonemeAligner, WordAligner
from vortex.lipsync.transcript import match_words
from vortex.lipsync.vad import VAD_HZ, VoiceActivity, detect_activity, relative_loudness
from vortex.lipsync.visemes import check_spans, coarticulate
from vortex.media.audio import frame_spans, loudness_db, resample
from vortex.types import F32, Audio, PhonemeSpan, VisemeTrack, frame_count, parse_fps


def recognize_visemes(
    audio: Audio,
    fps: Fraction,
    *,
    transcript: str | None = None,
    phonemes: Sequence[PhonemeSpan] | None = None,
) -> VisemeTrack:
    """Return how the mouth moves, one row for each frame of the sound.

    The arguments and the errors are those of :func:`recognize_sounds`.
    """
    heard = recognize_sounds(audio, transcript=transcript, phonemes=phonemes)
    return visemes_of_sounds(heard, audio, fps)


def recognize_sounds(
    audio: Audio, *, transcript: str | None = None, phonemes: Sequence[PhonemeSpan] | None = None
) -> Recognition:
    """Return the sounds of a voice.

    ``phonemes`` are used as they are; InputError if their times are bad. Else the sounds are those of
    :func:`recognize_phonemes`, with its errors.
    """
    if phonemes is not None:
        return Recognition(check_spans(phonemes))
    return recognize_phonemes(resample(audio.samples, audio.sample_rate, ACOUSTIC_HZ), transcript)


def visemes_of_sounds(heard: Recognition, audio: Audio, fps: Fraction) -> VisemeTrack:
    """Return how the mouth moves that makes these sounds, one row for each frame of ``audio``."""
    frames = frame_count(audio.duration_s, fps)
    loudness = np.zeros(0, np.float32)
    if frames:
        level = loudness_db(audio.samples, frame_spans(frames, fps, audio.sample_rate))
        loudness = relative_loudness(level, float(np.percentile(level, 95)))
    return VisemeTrack(coarticulate(heard.spans, frames, fps), loudness, fps)


def audio_to_visemes(audio: npt.ArrayLike, fps: float | str | Fraction, sample_rate: int = 24_000) -> F32:
    """Return viseme weights (T, 15) float32, columns :data:`vortex.visemes.VISEMES`, rows sum to 1.

    ``audio`` is (N,) mono in [-1, 1]; T is frame_count(duration, fps), and row i shows the middle of frame i.
    AudioError: samples that are not finite. InputError: not (N,), or an impossible frame rate.
    """
    samples = np.asarray(audio, np.float32)
    if samples.ndim == 1 and not np.isfinite(samples).all():
        raise AudioError("audio has samples that are not finite numbers; give mono sound in [-1, 1].")
    return recognize_visemes(Audio(samples, sample_rate), parse_fps(fps)).weights


class Recognition(NamedTuple):
    """The sounds of a voice in order of time, notes for the user, and how sure its p, b, m are, in [0, 1]."""

    spans: list[PhonemeSpan]
    notes: tuple[str, ...] = ()
    certainty: float = 1.0


def recognize_phonemes(samples: F32, transcript: str | None = None) -> Recognition:
    """Return the sounds of a voice; ``samples`` (N,) float32 at 16 kHz. Other sounds have none.

    The words of a ``transcript`` are aligned with the sound; where it does not match, and without one, the
    sounds are recognised, in any language.

    InputError: no words, or digits in the transcript.
    """
    words = None if transcript is None else WordAligner(transcript)
    activity = detect_activity(samples)
    emissions = ctc.chunk_emissions(samples)
    if words is not None:
        heard = _follow_transcript(samples, emissions, activity, words)
    else:
        heard = Recognition(_recognize_words(samples, emissions, activity))
    spans = ctc.cut_at_pauses(heard.spans, activity.speech)
    if words is None or heard.notes:
        spans = ctc.add_filled_pauses(spans, activity.vocalized)
    certainty = 1.0 if words is not None and not heard.notes else ctc.closure_certainty(emissions)
    return Recognition(spans, heard.notes, certainty)


def _recognize_words(samples: F32, emissions: Sequence[F32], activity: VoiceActivity) -> list[PhonemeSpan]:
    """Return the sounds that the CTC network hears.

    It knows what was said, but not when each sound begins and ends, so its words are aligned with the sound,
    phrase by phrase. Where that fails, each sound lasts from its spike until the next one.
    """
    spikes = ctc.iter_spikes_of_voice(ctc.iter_spikes(emissions), activity.voice)
    aligner = PhonemeAligner()
    following = next(spikes, None)
    spans: list[PhonemeSpan] = []
    for start_s, end_s in ctc.split_phrases(activity.speech):
        phrase = []
        while following is not None and following.start_s < end_s:
            phrase.append(following)
            following = next(spikes, None)
        start_s, end_s = trim_noise(start_s, end_s, activity)
        low, high = round(start_s * ACOUSTIC_HZ), round(end_s * ACOUSTIC_HZ)
        aligned = aligner.align(samples[low:high], ctc.words_of_spikes(phrase)) if phrase else []
        spans += shift_spans(aligned, start_s) or ctc.spans_until_next(phrase, end_s)
    return spans


def _follow_transcript(
    samples: F32, emissions: Sequence[F32], activity: VoiceActivity, words: WordAligner
) -> Recognition:
    """Return the sounds of the words that are spoken; those of the network where others are."""
    match = match_words(np.concatenate(emissions), activity.voice, words.phonemes)
    spans: list[PhonemeSpan] = []
    runs = match.runs()
    for first, end, start_s, end_s in runs:
        start_s, end_s = trim_noise(start_s, end_s, activity)
        low, high = round(start_s * ACOUSTIC_HZ), round(end_s * ACOUSTIC_HZ)
        aligned = words.align(samples[low:high], first, end)
        spans += shift_spans(aligned, start_s) or match.sounds(first, end)
    if not match.wrong.any():
        return Recognition(spans)
    heard = _recognize_words(samples, emissions, activity)
    edges_s = [0.0, *(edge_s for run in runs for edge_s in run[2:]), len(activity.voice) / VAD_HZ]
    between = zip(edges_s[::2], edges_s[1::2], strict=True)
    others = [(start_s, end_s) for start_s, end_s in between if end_s > start_s]
    for start_s, end_s in others:
        spans += [span for span in heard if start_s <= (span.start_s + span.end_s) / 2 < end_s]
    where = ", ".join(f"from {start_s:.1f} to {end_s:.1f} s" for start_s, end_s in others)
    note = f"the transcript does not match the speech {where}; the lips follow the sound there"
    return Recognition(sorted(spans, key=lambda span: span.start_s), (note,))


def trim_noise(start_s: float, end_s: float, activity: VoiceActivity) -> tuple[float, float]:
    """Return a stretch without loud sound before and after its first and last voice.

    An aligner would spread the first and the last sound over music. Silence helps it, and stays.
    """
    first, end = round(start_s * VAD_HZ), round(end_s * VAD_HZ)
    spoken = np.flatnonzero(activity.voice[first:end])
    if len(spoken) == 0:
        return start_s, end_s
    if activity.loud[first : first + spoken[0]].any():
        start_s = (first + spoken[0]) / VAD_HZ
    if activity.loud[first + spoken[-1] + 1 : end].any():
        end_s = (first + spoken[-1] + 1) / VAD_HZ
    return start_s, end_s


def shift_spans(spans: Iterable[PhonemeSpan], late_s: float) -> list[PhonemeSpan]:
    """Return the spans, each later by ``late_s``."""
    return [PhonemeSpan(span.phoneme, span.start_s + late_s, span.end_s + late_s) for span in spans]
