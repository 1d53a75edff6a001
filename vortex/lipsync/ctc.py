"""Recognition of phonemes: the network's CTC emissions (Graves et al. 2006), and the spikes in them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vortex.lipsync.acoustic import ACOUSTIC_HZ, HOP_S, AcousticModel
from vortex.lipsync.vad import VAD_HZ
from vortex.lipsync.visemes import IPA_TO_ARPABET, SILENCE
from vortex.runtime.setting import single_blas_thread
from vortex.types import F32, PhonemeSpan

CTC_DELAY_S = 0.06
"""A network trained with CTC emits most sounds this long after they began."""
SPIKE_DELAYS_S = {
    "AA": 0.085, "AO": 0.08, "AE": 0.075, "P": 0.075, "F": 0.07, "G": 0.07, "K": 0.065, "OW": 0.05, "M": 0.05,
    "V": 0.05, "Z": 0.05, "T": 0.045, "NG": 0.045, "N": 0.04, "D": 0.04, "R": 0.04, "UH": 0.03, "UW": 0.02,
}  # fmt: skip
"""Sounds whose spikes come earlier or later: medians of 2300 spikes in aligned speech of five voices."""
CHUNK_S = 12.0
CONTEXT_S = 1.0
"""Long speech is recognised in chunks, each with this much of its neighbours on both sides."""
MIN_PHRASE_S = 2.0
MIN_FILLED_PAUSE_S = 0.08
MAX_SPIKE_LEAD_S = 0.1
"""The times of spikes vary by some hops: a sound that starts less than this before speech starts with it."""
STRAY_SOUND_S = 0.08
"""Longest sound that is shown inside a pause."""
BLANK = ""
CLASSES: tuple[str, ...] = (BLANK, SILENCE, *dict.fromkeys(IPA_TO_ARPABET.values()))
"""What the emissions tell apart: no new sound, the end of a word, or a phoneme."""


CLOSURE_GAIN = 2.0
"""How much more a closure counts than another sound of the same probability.

A closure that is missed is seen; of those that are only half as probable as another sound, four in ten are
real. In noise, music, echo, telephone and haste, the gain finds one in five of the p, b, m missed without it.
"""
_CLOSING_CLASSES = [np.array([CLASSES.index(name) for name in names]) for names in ("PBM", "FV")]


class Spike(NamedTuple):
    """The time at which the network starts to emit a phoneme, or SILENCE between two words."""

    start_s: float
    phoneme: str


def chunk_emissions(samples: F32) -> list[F32]:
    """Return the emissions of a long sound, (F, 41) for each chunk of 12 s; ``samples`` (N,) are at 16 kHz.

    The chunks run in one thread for each core, and are the same for any number of cores, as is the result.
    """
    step, context = round(CHUNK_S * ACOUSTIC_HZ), round(CONTEXT_S * ACOUSTIC_HZ)

    def emit(start: int) -> F32:
        low = max(start - context, 0)
        emissions = class_emissions(samples[low : start + step + context])
        first = (start - low) // round(HOP_S * ACOUSTIC_HZ)
        return emissions[first : first + round(CHUNK_S / HOP_S)]

    with single_blas_thread(), ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(pool.map(emit, range(0, len(samples), step)))


def class_emissions(samples: F32) -> F32:
    """Return (F, 41) probabilities of :data:`CLASSES` every 20 ms of ``samples`` (N,) at 16 kHz."""
    with _loading:
        model, classes = _load_model()
    samples = np.pad(samples, (0, max(ACOUSTIC_HZ // 10 - len(samples), 0)))
    return np.asarray(model.emissions(samples) @ classes, np.float32)


_loading = threading.Lock()


@lru_cache(maxsize=1)
def _load_model() -> tuple[AcousticModel, F32]:
    """Return the model, and (V, 41): 1 where a symbol of the model belongs to a class."""
    model = AcousticModel()
    classes = np.zeros((len(model.symbols), len(CLASSES)), np.float32)
    for row, token in enumerate(model.symbols):
        name = IPA_TO_ARPABET.get(token, SILENCE if token == "<wb>" else BLANK)
        classes[row, CLASSES.index(name)] = 1
    return model, classes


def iter_spikes(emissions: Iterable[F32]) -> Iterator[Spike]:
    """Yield the spikes of consecutive chunks of emissions (F, 41), decoded greedily, in order of time.

    p, b and m count together, and :data:`CLOSURE_GAIN` times, as do f and v.
    """
    frame, previous, start_s = 0, 0, 0.0
    for chunk in emissions:
        weighted = chunk.copy()
        for columns in _CLOSING_CLASSES:
            likeliest = columns[chunk[:, columns].argmax(axis=1)]
            weighted[np.arange(len(chunk)), likeliest] = CLOSURE_GAIN * chunk[:, columns].sum(axis=1)
        for best in weighted.argmax(axis=1).tolist():
            if best not in (0, previous):
                delay_s = SPIKE_DELAYS_S.get(CLASSES[best], CTC_DELAY_S)
                start_s = max(frame * HOP_S - delay_s, start_s)
                yield Spike(start_s, CLASSES[best])
            frame, previous = frame + 1, best


def closure_certainty(emissions: Sequence[F32]) -> float:
    """Return the mean probability of a closure of the lips at the spikes of p, b and m; 1 without any."""
    if not emissions:
        return 1.0
    heard = np.concatenate(emissions)
    columns = [index for index, name in enumerate(CLASSES) if name in ("P", "B", "M")]
    spikes = np.isin(heard.argmax(axis=1), columns)
    return float(heard[spikes][:, columns].sum(axis=1).mean()) if spikes.any() else 1.0


def iter_spikes_of_voice(spikes: Iterable[Spike], voice: npt.NDArray[np.bool_]) -> Iterator[Spike]:
    """Yield the spikes at which ``voice`` (N,) at 100 Hz is True: the network hears sounds in music, too."""
    for spike in spikes:
        if len(voice) and voice[min(int(spike.start_s * VAD_HZ), len(voice) - 1)]:
            yield spike


def spans_of_spikes(
    spikes: Iterable[Spike], speech: npt.NDArray[np.bool_], vocalized: npt.NDArray[np.bool_]
) -> list[PhonemeSpan]:
    """Return the sounds of a short stretch without alignment: each lasts from its spike until the next one.

    ``speech`` and ``vocalized`` (N,) at 100 Hz are those that :mod:`vortex.lipsync.vad` detects.
    """
    spans = spans_until_next(list(spikes), len(speech) / VAD_HZ)
    return add_filled_pauses(cut_at_pauses(spans, speech), vocalized)


def spans_until_next(spikes: Sequence[Spike], end_s: float) -> list[PhonemeSpan]:
    """Return the sounds of spikes, each until the next one, the last until ``end_s``."""
    sounds = [spike for spike in spikes if spike.phoneme != SILENCE]
    ends = [*(spike.start_s for spike in sounds[1:]), end_s]
    # Without any sound, ``ends`` still holds ``end_s``.
    return [PhonemeSpan(s.phoneme, s.start_s, max(e, s.start_s)) for s, e in zip(sounds, ends, strict=False)]


def words_of_spikes(spikes: Iterable[Spike]) -> list[list[str]]:
    """Return the phonemes of each recognised word."""
    runs = groupby((spike.phoneme for spike in spikes), lambda phoneme: phoneme != SILENCE)
    return [list(phonemes) for is_word, phonemes in runs if is_word]


def split_phrases(speech: npt.NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Return start and end of phrases in seconds; they cover the sound, and all but the last are over 2 s."""
    if not len(speech):
        return []
    cuts = [0.0]
    # A pause at the start or at the end of the sound is no cut.
    edges = np.flatnonzero(np.diff(speech.astype(np.int8))) + 1
    for low, high in pairwise(edges.tolist()):
        middle_s = (low + high) / 2 / VAD_HZ
        if not speech[low] and middle_s - cuts[-1] > MIN_PHRASE_S:
            cuts.append(middle_s)
    return list(pairwise([*cuts, len(speech) / VAD_HZ + HOP_S]))


def cut_at_pauses(spans: Iterable[PhonemeSpan], speech: npt.NDArray[np.bool_]) -> list[PhonemeSpan]:
    """Return the spans, each ended at the first pause within it; one that starts in a pause moves to its end.

    A span that starts too long before the end of its pause is cut to :data:`STRAY_SOUND_S` instead.
    """
    pause_starts = np.flatnonzero(speech[:-1] & ~speech[1:]) + 1
    speech_starts = np.flatnonzero(~speech[:-1] & speech[1:]) + 1
    result = []
    for span in spans:
        low = min(int(span.start_s * VAD_HZ), len(speech) - 1)
        start_s, end_s = span.start_s, span.end_s
        if not speech[low]:
            later = speech_starts[np.searchsorted(speech_starts, low) :][:1]
            if len(later) and later[0] - low < MAX_SPIKE_LEAD_S * VAD_HZ:
                start_s = later[0] / VAD_HZ
            else:
                end_s = min(end_s, start_s + STRAY_SOUND_S)
        pause = pause_starts[np.searchsorted(pause_starts, start_s * VAD_HZ + 1) :][:1]
        if len(pause):
            end_s = min(end_s, pause[0] / VAD_HZ)
        if end_s > start_s:
            result.append(PhonemeSpan(span.phoneme, float(start_s), float(end_s)))
    return result


def add_filled_pauses(spans: list[PhonemeSpan], vocalized: npt.NDArray[np.bool_]) -> list[PhonemeSpan]:
    """Return the spans, and a neutral vowel where a loud sound has no phoneme, such as a drawn-out "um"."""
    unnamed = vocalized.copy()
    for span in spans:
        unnamed[int(span.start_s * VAD_HZ) : int(np.ceil(span.end_s * VAD_HZ))] = False
    edges = np.flatnonzero(np.diff(unnamed.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    long = edges[edges[:, 1] - edges[:, 0] >= MIN_FILLED_PAUSE_S * VAD_HZ]
    vowels = [PhonemeSpan("AH", low / VAD_HZ, high / VAD_HZ) for low, high in long.tolist()]
    return sorted([*spans, *vowels], key=lambda span: span.start_s)
