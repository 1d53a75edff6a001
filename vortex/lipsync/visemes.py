"""Phonemes to visemes: which visemes each sound shows, and how neighbours blend (co-articulation)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from vortex.errors import InputError, UnknownPhonemeError
from vortex.interpolation import convolve_columns
from vortex.types import F32, F64, PhonemeSpan
from vortex.visemes import (
    CLOSING_COLUMNS,
    ROUNDING_COLUMNS,
    SILENT_COLUMN,
    VISEME_INDEX,
    VISEME_TABLE,
    VISEMES,
)

SILENCE = "SIL"
VOWELS = frozenset({"AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"})
IPA_TO_ARPABET: Mapping[str, str] = {
    "a": "AA", "aɪ": "AY", "aʊ": "AW", "b": "B", "c": "K", "d": "D", "d͡ʒ": "JH", "e": "EY", "eə": "EH",
    "eɪ": "EY", "f": "F", "g": "G", "h": "HH", "i": "IY", "j": "Y", "ja": "AA", "je": "EH", "jo": "OW",
    "ju": "UW", "jʌ": "AH", "k": "K", "kʰ": "K", "k͈": "K", "l": "L", "m": "M", "n": "N", "o": "OW",
    "oʊ": "OW", "p": "P", "pʰ": "P", "p͈": "P", "r": "R", "s": "S", "s͈": "S", "t": "T", "tʰ": "T",
    "t͈": "T", "t͡ɕ": "CH", "t͡ɕʰ": "CH", "t͡ɕ͈": "CH", "t͡ʃ": "CH", "u": "UW", "v": "V", "w": "W",
    "wa": "AA", "we": "EH", "wi": "IY", "wʌ": "AH", "x": "HH", "y": "UW", "z": "Z", "à": "AA", "ã": "AA",
    "ä": "AA", "å": "AO", "æ": "AE", "ç": "HH", "ì": "IY", "ð": "DH", "ñ": "N", "õ": "OW", "ø": "UH",
    "ħ": "HH", "ĩ": "IY", "ŋ": "NG", "œ": "ER", "ũ": "UW", "ǐ": "IY", "ɐ": "AH", "ɑ": "AA", "ɒ": "AO",
    "ɓ": "B", "ɔ": "AO", "ɔɪ": "OY", "ɕ": "SH", "ɖ": "D", "ɗ": "D", "ɘ": "AH", "ə": "AH", "ɚ": "ER",
    "ɛ": "EH", "ɜ": "ER", "ɝ": "ER", "ɟ": "G", "ɡ": "G", "ɣ": "G", "ɤ": "AH", "ɥ": "W", "ɦ": "HH",
    "ɨ": "IH", "ɪ": "IH", "ɪə": "IH", "ɫ": "L", "ɮ": "L", "ɯ": "IH", "ɯi": "IH", "ɰ": "G", "ɱ": "M",
    "ɲ": "N", "ɴ": "NG", "ɵ": "UH", "ɸ": "F", "ɹ": "R", "ɻ": "R", "ɽ": "D", "ɾ": "D", "ʀ": "R", "ʁ": "R",
    "ʂ": "SH", "ʃ": "SH", "ʈ": "T", "ʉ": "UW", "ʊ": "UH", "ʋ": "V", "ʌ": "AH", "ʎ": "L", "ʏ": "UH",
    "ʐ": "ZH", "ʑ": "ZH", "ʒ": "ZH", "ʙ": "B", "ʝ": "Y", "β": "B", "θ": "TH", "χ": "HH", "ẑ": "Z", "ẽ": "EY",
}  # fmt: skip
"""Symbol of the recogniser -> ARPAbet sound with the most similar mouth. Tone and length marks have none."""

RATE_HZ = 200
"""Sample rate of the articulation curves, before they are sampled at the frame rate."""
BLOCK_S = 30
"""Long speech is blended in blocks of this length, so that memory does not grow with it."""
SMOOTHING_S = 0.035
"""Standard deviation of the Gaussian that models the inertia of lips and jaw; 28 to 55 ms look natural."""
CLOSURE_S = 0.015
"""Standard deviation of the edges of a closure, the fastest gesture of the mouth."""
CLOSURE_STRENGTH = {"lips": 1.0, "teeth": 0.95}
"""How far each kind of closure shuts; the lower lip leaves some air at the teeth."""
_CLOSURE_STRENGTHS = np.array([CLOSURE_STRENGTH[row.closes] for row in VISEME_TABLE if row.closes])
ROUNDING_S, LEAST_REST = 0.035, 0.02
"""Standard deviation of a further Gaussian, over which lips round and spread, slower than tongue or jaw; the
least share of other shapes that these are scaled by."""
ANTICIPATION_S = 0.045
"""Rounding starts this long before the sound, as the lips are free until then."""


@dataclass(frozen=True, slots=True)
class Articulation:
    """The mouth in one sound: the share of each viseme; ``offglide`` is the second half of a diphthong.

    ``dominance`` says how strongly the sound imposes its shape on its neighbours (Cohen & Massaro 1993).
    """

    target: Mapping[str, float]
    offglide: Mapping[str, float] | None = None
    dominance: float = 1.0

    @property
    def viseme(self) -> str:
        """The viseme that the sound shows most."""
        return max(self.target, key=lambda name: self.target[name])

    @property
    def closes(self) -> Literal["lips", "teeth"] | None:
        """What the sound shuts, if anything."""
        return VISEME_TABLE[VISEME_INDEX[self.viseme]].closes

    @property
    def rounds(self) -> bool:
        """Whether the lips round for the sound."""
        return VISEME_TABLE[VISEME_INDEX[self.viseme]].rounds


# The tip of the tongue at the ridge holds the jaw up more firmly than vowels lower it (Keating et al. 1994).
_MOUTHS: Mapping[str, Articulation] = {
    SILENCE: Articulation({"sil": 1}, dominance=0.5),
    "P B M": Articulation({"PP": 1}, dominance=6),
    "F V": Articulation({"FF": 1}, dominance=5),
    "TH DH": Articulation({"TH": 1}),
    "T D": Articulation({"DD": 1}, dominance=2),
    "K G NG": Articulation({"kk": 1}, dominance=0.6),
    "HH": Articulation({"kk": 0.5, "E": 0.5}, dominance=0.2),
    "CH JH SH ZH": Articulation({"CH": 1}, dominance=2),
    "S Z": Articulation({"SS": 1}),
    "N": Articulation({"nn": 1}, dominance=2),
    "L": Articulation({"nn": 0.8, "E": 0.2}, dominance=2),
    "R": Articulation({"RR": 1}),
    "ER": Articulation({"RR": 0.8, "E": 0.2}),
    "AA": Articulation({"aa": 1}),
    "AE": Articulation({"aa": 0.75, "E": 0.25}),
    "AH": Articulation({"aa": 0.5, "E": 0.2, "kk": 0.3}, dominance=0.7),
    "AO": Articulation({"oh": 0.6, "aa": 0.4}),
    "AY": Articulation({"aa": 1}, {"ih": 0.6, "E": 0.4}),
    "AW": Articulation({"aa": 1}, {"ou": 0.6, "oh": 0.4}),
    "EH": Articulation({"E": 1}),
    "EY": Articulation({"E": 1}, {"ih": 1}),
    "IH": Articulation({"ih": 0.8, "E": 0.2}),
    "IY Y": Articulation({"ih": 1}),
    "OW": Articulation({"oh": 1}, {"oh": 0.4, "ou": 0.6}),
    "OY": Articulation({"oh": 1}, {"ih": 0.7, "E": 0.3}),
    "UH": Articulation({"ou": 0.6, "oh": 0.4}),
    "UW": Articulation({"ou": 1}, dominance=2),
    "W": Articulation({"ou": 1}, dominance=3),
}
ARTICULATIONS = {name: mouth for names, mouth in _MOUTHS.items() for name in names.split()}
"""The 39 phonemes and silence; those with the same mouth share a row above."""
PHONEMES: tuple[str, ...] = tuple(sorted(ARTICULATIONS.keys() - {SILENCE}))
"""The 39 phonemes of the CMU pronouncing dictionary, without stress digits."""

MOUTH_SHAPES = np.array([(row.jaw_open, row.lip_width, row.lip_rounding) for row in VISEME_TABLE], np.float32)
"""(15, 3) jaw_open, lip_width, lip_rounding of each viseme, all in [0, 1]."""


def normalize_phoneme(phoneme: str) -> str:
    """Return an ARPAbet symbol in upper case without stress, "SIL" for silence; else UnknownPhonemeError."""
    symbol = phoneme.strip().upper().rstrip("012")
    if symbol in ("", "SIL", "SP", "SPN", "<SIL>", "_", "PAU", "H#", "+SPN+", "+NSN+"):
        return SILENCE
    if symbol in PHONEMES:
        return symbol
    raise UnknownPhonemeError(
        f"Unknown phoneme {phoneme!r}; vortex reads ARPAbet: {' '.join(PHONEMES)}, and SIL."
    )


def check_spans(spans: Sequence[PhonemeSpan]) -> list[PhonemeSpan]:
    """Return the spans in order of time, their symbols as of :func:`normalize_phoneme`, with its error.

    InputError is raised if a span ends before it starts, or starts before zero.
    """
    result = []
    for span in sorted(spans, key=lambda s: s.start_s):
        if not 0 <= span.start_s <= span.end_s:
            raise InputError(f"Phoneme {span} has no valid time; give 0 <= start_s <= end_s in seconds.")
        result.append(PhonemeSpan(normalize_phoneme(span.phoneme), span.start_s, span.end_s))
    return result


@lru_cache(maxsize=256)
def phoneme_to_viseme(phoneme: str) -> str:
    """Return the viseme, one of :data:`vortex.visemes.VISEMES`, that an ARPAbet phoneme shows most.

    UnknownPhonemeError: not one of the 39 phonemes or SIL, stress digits allowed.
    """
    return ARTICULATIONS[normalize_phoneme(phoneme)].viseme


def smooth_viseme_sequence(visemes: npt.ArrayLike, window_size: int = 3) -> F32:
    """Return (T, C) float32: each column smoothed by a triangle of ``window_size`` frames.

    ``visemes`` is (T, C), such as viseme weights or mouth shapes. Beyond both ends the first and the last row
    are repeated, so that the sums of rows are kept. InputError: another shape, values that are not finite, or
    a window that is even or below 1.
    """
    values = np.asarray(visemes, np.float32)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise InputError(f"visemes has shape {values.shape}; give finite numbers of shape (T, C).")
    if window_size < 1 or window_size % 2 == 0:
        raise InputError(f"window_size is {window_size}; give an odd number of frames, 1 or more.")
    if window_size == 1 or len(values) == 0:
        return values.copy()
    half = window_size // 2
    kernel = (half + 1 - np.abs(np.arange(-half, half + 1))).astype(np.float32)
    return convolve_columns(values, kernel / kernel.sum()).astype(np.float32)


def mouth_shape(weights: npt.ArrayLike) -> F32:
    """Return (T, 3) float32 jaw_open, lip_width, lip_rounding in [0, 1] of viseme weights (T, 15)."""
    return np.asarray(np.clip(np.asarray(weights, np.float32) @ MOUTH_SHAPES, 0, 1), np.float32)


def coarticulate(spans: Sequence[PhonemeSpan], frames: int, fps: Fraction) -> F32:
    """Return viseme weights (T, 15) float32, rows sum to 1, sampled at the centres of the frames.

    Neighbouring sounds blend by dominance under a Gaussian of :data:`SMOOTHING_S`. Closures of the lips, and
    of the lower lip at the teeth, are not smoothed away, however short: viewers notice a p, b or m without
    one. Outside the spans is silence.
    """
    result = np.empty((frames, len(VISEMES)), np.float32)
    block = max(int(BLOCK_S * fps), 1)
    margin = round(5 * (SMOOTHING_S + ROUNDING_S) * RATE_HZ)
    sampled = _rows_of_frames(spans, frames, fps)
    for first in range(0, frames, block):
        rows = sampled[first : first + block]
        low, high = max(int(rows.min()) - margin, 0), int(rows.max()) + margin
        first_s, last_s = (low - 1) / RATE_HZ, (high + 1) / RATE_HZ + ANTICIPATION_S
        near = [span for span in spans if span.end_s > first_s and span.start_s < last_s]
        result[first : first + block] = _blend(near, low, high)[rows - low]
    return result


def _rows_of_frames(spans: Sequence[PhonemeSpan], frames: int, fps: Fraction) -> npt.NDArray[np.intp]:
    """Return (T,) the row at RATE_HZ that each frame shows: its middle, or a closure in any part of it.

    Every closure has a frame. Where the lips and the teeth close within one frame, the second of them is
    shown in the next.
    """
    middles = np.round((np.arange(frames) + 0.5) / float(fps) * RATE_HZ).astype(np.intp)
    rows, half = middles.copy(), int(RATE_HZ / fps / 2)
    closing = [(ARTICULATIONS[span.phoneme].closes, *_row_range(span)) for span in spans]
    # Lips last: they are seen better than the teeth.
    for lips_or_teeth in ("teeth", "lips"):
        for _, start, end in (closure for closure in closing if closure[0] == lips_or_teeth):
            low, high = np.searchsorted(middles, (start - half, end + half))
            rows[low:high] = np.clip(middles[low:high], start, end - 1)
    before: str | None = None
    taken = -1
    for kind, start, end in (closure for closure in closing if closure[0]):
        middle = (start + end - 1) // 2
        frame = int(middle / RATE_HZ * fps)
        if kind != before:
            frame = max(frame, taken + 1)
        if frame < frames:
            rows[frame] = middle
        before, taken = kind, max(frame, taken)
    return rows


def _row_range(span: PhonemeSpan) -> tuple[int, int]:
    """Return the first row of a sound at RATE_HZ and the one after its last; each sound has one at least."""
    start = round(span.start_s * RATE_HZ)
    return start, max(round(span.end_s * RATE_HZ), start + 1)


def _blend(spans: Sequence[PhonemeSpan], low: int, high: int) -> F64:
    """Return the weights (N, 15) of rows ``low`` to ``high`` at RATE_HZ."""
    targets, dominance = _articulation_curves(spans, low, high)
    kernel = _gaussian(SMOOTHING_S)
    blended = convolve_columns(targets * dominance, kernel) / convolve_columns(dominance, kernel)
    _slow_rounding(blended)
    shut = _closure_curves(spans, low, high)
    blended *= 1 - shut.sum(axis=1, keepdims=True)
    blended[:, CLOSING_COLUMNS] += shut
    return np.asarray(blended / blended.sum(axis=1, keepdims=True))


def _slow_rounding(weights: F64) -> None:
    """Let lips round and spread over :data:`ROUNDING_S`, in place; the other weights (N, 15) give way."""
    before = weights[:, ROUNDING_COLUMNS].sum(axis=1, keepdims=True)
    kernel = _gaussian(ROUNDING_S)
    rounded = convolve_columns(weights[:, ROUNDING_COLUMNS], kernel / kernel.sum())
    # Where all was rounded, there is no other shape to go to.
    weights *= (1 - rounded.sum(axis=1, keepdims=True)) / np.maximum(1 - before, LEAST_REST)
    weights[:, ROUNDING_COLUMNS] = rounded


def _articulation_curves(spans: Sequence[PhonemeSpan], low: int, high: int) -> tuple[F64, F64]:
    """Return targets (N, 15) and dominance (N, 1) of rows ``low`` to ``high`` at RATE_HZ."""
    count = high - low
    targets = np.zeros((count, len(VISEMES)))
    targets[:, SILENT_COLUMN] = 1
    dominance = np.full((count, 1), ARTICULATIONS[SILENCE].dominance)
    # Closures last: a rounded sound begins early, but the lips cannot round before they have closed.
    for span in sorted(spans, key=lambda span: ARTICULATIONS[span.phoneme].closes is not None):
        sound = ARTICULATIONS[span.phoneme]
        start, end = _row_range(span)
        start -= round(ANTICIPATION_S * RATE_HZ) if sound.rounds else 0
        parts = [part for part in (sound.target, sound.offglide) if part]
        edges = np.clip(np.linspace(start, end, len(parts) + 1).round().astype(int) - low, 0, count)
        for part, first, last in zip(parts, edges[:-1], edges[1:], strict=True):
            targets[first:last] = 0
            for name, share in part.items():
                targets[first:last, VISEME_INDEX[name]] = share
            dominance[first:last] = sound.dominance
    return targets, dominance


def _closure_curves(spans: Sequence[PhonemeSpan], low: int, high: int) -> F64:
    """Return (N, C) in [0, 1], columns CLOSING_COLUMNS, of rows ``low`` to ``high``: how far each one shuts.

    A closure is full during its sound, whatever its length, and has Gaussian edges of :data:`CLOSURE_S`.
    """
    rows = np.arange(low, high)
    shut = np.zeros((high - low, len(CLOSING_COLUMNS)))
    closing = [(span, ARTICULATIONS[span.phoneme]) for span in spans if ARTICULATIONS[span.phoneme].closes]
    columns = [CLOSING_COLUMNS.index(VISEME_INDEX[sound.viseme]) for _, sound in closing]
    for (span, _), column in zip(closing, columns, strict=True):
        start, end = _row_range(span)
        distance_s = np.maximum(np.maximum(start - rows, rows - end + 1), 0) / RATE_HZ
        edge = np.exp(-0.5 * (distance_s / CLOSURE_S) ** 2)
        shut[:, column] = np.maximum(shut[:, column], edge)
    shut /= np.maximum(shut.sum(axis=1, keepdims=True), 1)
    for (span, _), column in zip(closing, columns, strict=True):
        start, end = np.clip(_row_range(span), low, high) - low
        shut[start:end] = 0
        shut[start:end, column] = 1
    return np.asarray(shut * _CLOSURE_STRENGTHS)


def _gaussian(sigma_s: float) -> F64:
    reach = round(4 * sigma_s * RATE_HZ)
    return np.asarray(np.exp(-0.5 * (np.arange(-reach, reach + 1) / (sigma_s * RATE_HZ)) ** 2))
