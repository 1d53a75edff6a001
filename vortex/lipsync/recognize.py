"""Speech to visemes: exact phoneme times if given, else alignment of a transcript, else recognition."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from vortex.audio import frame_spans, loudness_db, resample
from vortex.blas import single_blas_thread
from vortex.errors import AudioError, InputError
from vortex.lipsync.acoustic import ACOUSTIC_HZ, HOP_S, AcousticModel
from vortex.lipsync.phonemes import IPA_TO_ARPABET, SILENCE, check_spans
from vortex.lipsync.visemes import coarticulate
from vortex.types import Audio, PhonemeSpan, VisemeTrack, frame_count, parse_fps

F32 = npt.NDArray[np.float32]

CTC_DELAY_S = 0.06
"""A network trained with CTC says a sound this long after it began."""
CHUNK_S = 12.0
OVERLAP_S = 1.0
"""Long speech is recognised in chunks with this much context on both sides."""
GATE_HZ = 100
AUDIBLE_DBFS = -60.0
SPEECH_BAND_HZ = (170.0, 5000.0)
MIN_MURMUR_S = 0.08
MURMUR_DB = -16.0
MIN_PAUSE_S = 0.14
"""Quiet gaps shorter than this belong to the sounds around them, such as the closure of a t."""


def recognize_visemes(
    audio: Audio,
    fps: Fraction,
    *,
    transcript: str | None = None,
    phonemes: Sequence[PhonemeSpan] | None = None,
) -> VisemeTrack:
    """Return how the mouth moves, one row for each frame of the sound.

    ``phonemes`` are used as they are. Else ``transcript`` (English words) is aligned with the sound. Else the
    sounds are recognised, in any language.

    Raises:
        AudioError: the transcript does not match the speech.
        InputError: a transcript without words or with digits; bad phoneme times.
    """
    samples = resample(audio.samples, audio.sample_rate, ACOUSTIC_HZ)
    level = speech_level(samples)
    if phonemes is not None:
        spans = check_spans(phonemes)
    elif transcript is not None:
        spans = _cut_at_pauses(align_transcript(samples, transcript), speech_gate(level))
    else:
        spans = _recognize(samples, level)
    frames = frame_count(audio.duration_s, fps)
    weights = coarticulate(spans, frames, fps)
    return VisemeTrack(weights, _loudness(audio, frames, fps), fps)


def audio_to_visemes(audio: npt.ArrayLike, fps: float | str | Fraction, sample_rate: int = 24_000) -> F32:
    """Return viseme weights (T, 15) float32, columns :data:`vortex.types.VISEMES`, rows sum to 1.

    ``audio`` is (N,) mono in [-1, 1]; T is round(duration * fps), and row i shows the middle of frame i.

    Raises:
        InputError: not (N,), or an impossible frame rate.
        AudioError: samples that are not finite.
    """
    samples = np.asarray(audio, np.float32)
    if samples.ndim == 1 and not np.isfinite(samples).all():
        raise AudioError("audio has samples that are not finite numbers; give mono sound in [-1, 1].")
    return recognize_visemes(Audio(samples, sample_rate), parse_fps(fps)).weights


# ------------------------------------------------------------------------------------------------ loudness


def speech_level(samples: F32) -> F32:
    """Return (N,) dB at 100 Hz against the loud parts of this very sound; ``samples`` are at 16 kHz.

    Only the band of speech counts: hum below it would hide the pauses, hiss above it the soft sounds. Where
    even the loud parts are hardly audible, the level stays as low as they are.
    """
    level = band_level(samples)
    return level if len(level) == 0 else np.asarray(level - loud_level(level), np.float32)


def band_level(samples: F32) -> F32:
    """Return (N,) dB at 100 Hz of the band of speech, in units of its own; ``samples`` are at 16 kHz."""
    hop, window = ACOUSTIC_HZ // GATE_HZ, ACOUSTIC_HZ // 40
    count = len(samples) // hop
    if count == 0:
        return np.zeros(0, np.float32)
    padded = np.pad(samples, (window - hop) // 2 + 1)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][:count]
    taper = np.hanning(window).astype(np.float32)
    frequency_hz = np.fft.rfftfreq(window, 1 / ACOUSTIC_HZ)
    band = (frequency_hz >= SPEECH_BAND_HZ[0]) & (frequency_hz <= SPEECH_BAND_HZ[1])
    power = np.concatenate(
        [
            (np.abs(np.fft.rfft(frames[i : i + 4096] * taper)[:, band]) ** 2).sum(axis=1)
            for i in range(0, count, 4096)
        ]
    )
    level = 10 * np.log10(np.maximum(power, 1e-10))
    return np.convolve(np.pad(level, 1, mode="edge"), np.ones(3) / 3, "valid").astype(np.float32)


def loud_level(level: F32) -> float:
    """Return the level of the loud parts of a sound, its 95th percentile, or what is just audible."""
    window = ACOUSTIC_HZ // 40
    # power of a tone at AUDIBLE_DBFS in the same units (Parseval)
    audible = 10 * np.log10(window / 2 * float((np.hanning(window) ** 2).sum())) + AUDIBLE_DBFS
    return max(float(np.percentile(level, 95)), float(audible))


def speech_gate(level: F32, before: F32 | None = None) -> npt.NDArray[np.bool_]:
    """Return (N,): True where there is speech, by a threshold between the noise floor and the loud parts.

    ``before`` (M,) is the level of earlier sound, which helps to tell the noise floor.
    """
    if len(level) == 0:
        return np.zeros(0, bool)
    floor = float(np.percentile(level if before is None else np.concatenate([before, level]), 5))
    return _without_short_gaps(level > max(0.7 * floor, -38.0))


def murmur_gate(level: F32, before: F32 | None = None) -> npt.NDArray[np.bool_]:
    """Return (N,): True where there is a voice even if no sound of it has a name; arguments as above.

    Steady noise under the voice is loud, too: as for speech, the threshold rises with it.
    """
    if len(level) == 0:
        return np.zeros(0, bool)
    floor = float(np.percentile(level if before is None else np.concatenate([before, level]), 5))
    return np.asarray(level > max(MURMUR_DB, 0.7 * floor))


def _without_short_gaps(active: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Fill quiet gaps too short to be a pause, then drop clicks of under 30 ms."""
    result = active.copy()
    for value, shortest in ((False, MIN_PAUSE_S), (True, 0.03)):
        edges = np.flatnonzero(np.diff(result)) + 1
        starts, ends = np.r_[0, edges], np.r_[edges, len(result)]
        for start, end in zip(starts, ends, strict=True):
            inside = value or (start > 0 and end < len(result))
            if result[start] == value and inside and end - start < shortest * GATE_HZ:
                result[start:end] = not value
    return result


def _loudness(audio: Audio, frames: int, fps: Fraction) -> F32:
    """Return (T,) in [0, 1]: energy of each frame, from 35 dB under the loudest speech up to it."""
    if frames == 0:
        return np.zeros(0, np.float32)
    level = loudness_db(audio.samples, frame_spans(frames, fps, audio.sample_rate))
    top = float(np.percentile(level, 95))
    return np.clip((level - top + 35) / 35, 0, 1).astype(np.float32)


# ---------------------------------------------------------------------------------------------- recognition


def _recognize(samples: F32, level: F32) -> list[PhonemeSpan]:
    step = round(CHUNK_S * ACOUSTIC_HZ)
    context = round(OVERLAP_S * ACOUSTIC_HZ)

    def emit(start: int) -> F32:
        low = max(start - context, 0)
        emissions = class_emissions(samples[low : start + step + context])
        first = (start - low) // round(HOP_S * ACOUSTIC_HZ)
        return emissions[first : first + round(CHUNK_S / HOP_S)]

    # the chunks are the same however many threads there are, and so is the result
    with single_blas_thread(), ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        emissions = list(pool.map(emit, range(0, len(samples), step)))
    return _spans(samples, emissions, level)


def class_emissions(samples: F32) -> F32:
    """Return (F, 41) probabilities of :data:`CLASSES` every 20 ms of ``samples`` (N,) at 16 kHz."""
    model, classes = _recognizer()
    if len(samples) < ACOUSTIC_HZ // 10:
        samples = np.pad(samples, (0, ACOUSTIC_HZ // 10 - len(samples)))
    return np.asarray(model.emissions(samples) @ classes, np.float32)


def _recognizer() -> tuple[AcousticModel, F32]:
    with _loading:
        return _load_recognizer()


@lru_cache(maxsize=1)
def _load_recognizer() -> tuple[AcousticModel, F32]:
    """Return the model, and (V, 41): which of its symbols count as blank, silence, or a phoneme."""
    model = AcousticModel()
    classes = np.zeros((len(model.symbols), len(CLASSES)), np.float32)
    for row, token in enumerate(model.symbols):
        name = IPA_TO_ARPABET.get(token, SILENCE if token == "<wb>" else "")
        classes[row, CLASSES.index(name)] = 1
    return model, classes


_loading = threading.Lock()
CLASSES: tuple[str, ...] = ("", SILENCE, *dict.fromkeys(IPA_TO_ARPABET.values()))
"""What the recogniser tells apart: nothing new, the end of a word, or a phoneme."""


def _spans(samples: F32, emissions: Iterable[F32], level: F32) -> list[PhonemeSpan]:
    """Turn spikes of a CTC network, chunks of (F, C), into spans of sounds.

    The network knows what was said, but not when each sound begins and ends: its own words are aligned with
    the sound, phrase by phrase. A phrase that cannot be aligned keeps the times of its spikes, each sound
    lasting until the next one.
    """
    voiced, decoder = speech_gate(level), _aligner(english=False)
    spikes = _spikes(emissions)
    ahead = next(spikes, None)
    spans: list[PhonemeSpan] = []
    for start_s, end_s in _phrases(voiced):
        phrase = []
        while ahead is not None and ahead[0] < end_s:
            phrase.append(ahead)
            ahead = next(spikes, None)
        low, high = round(start_s * ACOUSTIC_HZ), round(end_s * ACOUSTIC_HZ)
        aligned = _align(decoder, samples[low:high], _add_words(decoder, phrase))
        if aligned:
            spans += [PhonemeSpan(s.phoneme, s.start_s + start_s, s.end_s + start_s) for s in aligned]
        else:
            spans += _until_the_next(phrase, end_s)
    return _with_murmurs(_cut_at_pauses(spans, voiced), murmur_gate(level))


def spans_of_spikes(
    emissions: F32, voiced: npt.NDArray[np.bool_], loud: npt.NDArray[np.bool_]
) -> list[PhonemeSpan]:
    """Return the sounds of a short stretch by their spikes alone, each lasting until the next one.

    ``emissions`` (F, 41) of :func:`class_emissions`; ``voiced`` and ``loud`` (N,) at 100 Hz, by
    :func:`speech_gate` and :func:`murmur_gate`.
    """
    end_s = len(voiced) / GATE_HZ
    spans = _until_the_next(list(_spikes([emissions])), end_s)
    return _with_murmurs(_cut_at_pauses(spans, voiced), loud)


def _until_the_next(spikes: Sequence[tuple[float, str]], end_s: float) -> list[PhonemeSpan]:
    sounds = [(start_s, phoneme) for start_s, phoneme in spikes if phoneme != SILENCE]
    ends = [*(start_s for start_s, _ in sounds[1:]), end_s]
    # without a sound there is an end too many
    return [PhonemeSpan(p, start, max(end, start)) for (start, p), end in zip(sounds, ends, strict=False)]


def _spikes(emissions: Iterable[F32]) -> Iterator[tuple[float, str]]:
    """Yield when the network begins to say each sound, and which; SILENCE stands between words."""
    frame, previous = 0, 0
    for chunk in emissions:
        for best in chunk.argmax(axis=1).tolist():
            if best not in (0, previous):
                yield max(frame * HOP_S - CTC_DELAY_S, 0.0), CLASSES[best]
            frame, previous = frame + 1, best


def _with_murmurs(spans: list[PhonemeSpan], loud: npt.NDArray[np.bool_]) -> list[PhonemeSpan]:
    """Add a neutral vowel where a loud sound has no name: one that is held long, or swallowed."""
    unnamed = loud.copy()
    for span in spans:
        unnamed[int(span.start_s * GATE_HZ) : int(np.ceil(span.end_s * GATE_HZ))] = False
    edges = np.flatnonzero(np.diff(unnamed.astype(np.int8), prepend=0, append=0))
    murmurs = [
        PhonemeSpan("AH", start / GATE_HZ, end / GATE_HZ)
        for start, end in edges.reshape(-1, 2).tolist()
        if end - start >= MIN_MURMUR_S * GATE_HZ
    ]
    return sorted([*spans, *murmurs], key=lambda span: span.start_s)


def _phrases(voiced: npt.NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Cut the time line in the middle of pauses, into phrases of at least two seconds where it can."""
    if not len(voiced):
        return []
    edges = np.flatnonzero(np.diff(voiced.astype(np.int8))) + 1
    bounds = np.r_[0, edges, len(voiced)]
    cuts = [0.0]
    for low, high in pairwise(bounds):
        middle = (low + high) / 2 / GATE_HZ
        if not voiced[low] and low > 0 and high < len(voiced) and middle - cuts[-1] > 2.0:
            cuts.append(float(middle))
    cuts.append(len(voiced) / GATE_HZ + HOP_S)
    return list(pairwise(cuts))


def _add_words(decoder: Any, spikes: Sequence[tuple[float, str]]) -> list[str]:
    """Teach the decoder the recognised sounds as words, and return these."""
    words: list[str] = []
    current: list[str] = []
    for phoneme in [*(phoneme for _, phoneme in spikes), SILENCE]:
        if phoneme != SILENCE:
            current.append(phoneme)
        elif current:
            word = "+".join(current).lower()
            if decoder.lookup_word(word) is None:
                decoder.add_word(word, " ".join(current), True)
            words.append(word)
            current = []
    return words


def _cut_at_pauses(spans: list[PhonemeSpan], voiced: npt.NDArray[np.bool_]) -> list[PhonemeSpan]:
    """End each span where the first pause within it begins; one that lies in a pause moves to its edge."""
    pause_starts = np.flatnonzero(voiced[:-1] & ~voiced[1:]) + 1
    speech_starts = np.flatnonzero(~voiced[:-1] & voiced[1:]) + 1
    result = []
    for span in spans:
        low = min(int(span.start_s * GATE_HZ), len(voiced) - 1)
        start_s, end_s = span.start_s, span.end_s
        if not voiced[low]:
            # spikes scatter by some hops; a sound said to begin just before speech begins with it
            later = speech_starts[np.searchsorted(speech_starts, low) :][:1]
            if len(later) and later[0] - low < 0.1 * GATE_HZ:
                start_s = later[0] / GATE_HZ
            else:
                end_s = min(end_s, start_s + 0.08)
        pause = pause_starts[np.searchsorted(pause_starts, start_s * GATE_HZ + 1) :][:1]
        if len(pause):
            end_s = min(end_s, pause[0] / GATE_HZ)
        if end_s > start_s:
            result.append(PhonemeSpan(span.phoneme, float(start_s), float(end_s)))
    return result


# ------------------------------------------------------------------------------------------------ alignment


def align_transcript(samples: F32, transcript: str) -> list[PhonemeSpan]:
    """Return when each sound of an English text is spoken; ``samples`` (N,) float32 at 16 kHz.

    Raises:
        InputError: no words, or digits in the text.
        AudioError: the text cannot be found in the sound.
    """
    words = _words(transcript)
    decoder = _aligner()
    for word in dict.fromkeys(words):
        if decoder.lookup_word(word) is None:
            decoder.add_word(word, _spell(word), True)
    spans = _align(decoder, samples, words)
    if not spans:
        raise AudioError(
            "The transcript does not match the speech. Correct it word for word, or leave --transcript out."
        )
    return spans


def _align(decoder: Any, samples: F32, words: Sequence[str]) -> list[PhonemeSpan]:
    """Return the sounds of ``words`` in their order, none if they do not fit the sound at all."""
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
    # a frame is named by where its analysis window starts; what it hears lies in the window's middle
    delay_s = 0.5 * float(decoder.config["wlen"])
    return [
        PhonemeSpan(phone.name, phone.start / rate + delay_s, (phone.start + phone.duration) / rate + delay_s)
        for word in alignment or ()
        for phone in word
        if phone.name not in (SILENCE, "+SPN+", "+NSN+")
    ]


def _words(transcript: str) -> list[str]:
    digits = re.search(r"\S*\d\S*", transcript)
    if digits:
        raise InputError(f"The transcript has {digits[0]!r}; write numbers as they are spoken, in words.")
    words = re.findall(r"[a-z]+(?:'[a-z]+)*", transcript.lower().replace("\u2019", "'"))
    if not words:
        raise InputError(f"The transcript {transcript[:40]!r} has no English words; leave it out.")
    return words


def _aligner(*, english: bool = True) -> Any:
    """Return a new decoder: one is not safe in several threads, and words may have been added to it.

    ``english``: with the dictionary of English words, whose reading takes a tenth of a second.
    """
    from pocketsphinx import Decoder

    # sounds that were only recognised are no surer than every second frame of 10 ms: half the work
    options = {} if english else {"dict": None, "ds": 2}
    # without bestpath: its lattice search gives up on long pauses
    return Decoder(samprate=ACOUSTIC_HZ, lm=None, loglevel="FATAL", bestpath=False, fwdflat=False, **options)


def _decode_pcm(decoder: Any, pcm: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()


@lru_cache(maxsize=4096)
def _spell(word: str) -> str:
    """Return the ARPAbet sounds of a word that the dictionary lacks."""
    from hama import G2PModel

    result = G2PModel().predict(word)
    sounds = [IPA_TO_ARPABET[a.phoneme] for a in result.alignments if a.phoneme in IPA_TO_ARPABET]
    if not sounds:
        raise InputError(f"The word {word!r} of the transcript has no known pronunciation; respell it.")
    return " ".join(sounds)
