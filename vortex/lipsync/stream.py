"""Speech to visemes while it is spoken: rows come a bounded time after their sound.

The recogniser hears the last seconds again at every step, and what it says of the newest stretch that has
enough sound behind it is final. Nothing is aligned: a sound begins at its spike and lasts until the next one.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vortex.audio import loudness_db, mono_chunk
from vortex.blas import single_blas_thread
from vortex.errors import InputError
from vortex.lipsync.acoustic import ACOUSTIC_HZ
from vortex.lipsync.recognize import (
    GATE_HZ,
    band_level,
    class_emissions,
    loud_level,
    murmur_gate,
    spans_of_spikes,
    speech_gate,
)
from vortex.lipsync.visemes import coarticulate
from vortex.types import VISEMES, VisemeTrack, frame_count, parse_fps

F32 = npt.NDArray[np.float32]

LOOK_AHEAD_S = 0.2
"""Sound that must follow the middle of a frame before its row is final."""
STEP_FRAMES = 2
"""Rows that are made at once: half the work of one at a time, for one frame of delay."""
CONTEXT_S = 1.6
"""Sound before a row that the recogniser hears again."""
MEMORY_S = 12.0
"""Sound by which loud and quiet are told apart."""
SPEECH_OVER_NOISE_DB = 25.0
"""How far the loud parts of speech stand over the quietest moments, at the least."""
LOUDNESS_RANGE_DB = 35.0
QUIETEST_LOUD_DBFS = -45.0
"""Speech is taken to be at least this loud, so that the hiss before the first word is none."""


class VisemeStream:
    """Visemes of one voice. Not safe for threads: a stream belongs to whoever pushes.

    Memory does not grow with the sound: some seconds are kept. Row i shows the middle of frame i of the whole
    sound, ``(i + 1/2) / fps``, as in :func:`vortex.lipsync.recognize.recognize_visemes`.
    """

    def __init__(self, fps: float | str | Fraction = 24, sample_rate_hz: int = 24_000) -> None:
        """``sample_rate_hz`` is that of what will be pushed.

        Raises:
            InputError: an impossible frame or sample rate.
        """
        import soxr

        if not 4_000 <= sample_rate_hz <= 384_000:
            raise InputError(f"sample_rate_hz is {sample_rate_hz}; give 4000 to 384000.")
        self.fps, self.sample_rate_hz = parse_fps(fps), sample_rate_hz
        # the better qualities keep up to 40 ms of the sound to themselves
        self._resampler = soxr.ResampleStream(sample_rate_hz, ACOUSTIC_HZ, 1, dtype="float32", quality="LQ")
        self._heard = np.zeros(0, np.float32)  # at 16 kHz, the newest of it
        self._dropped = 0  # samples at 16 kHz that were before
        self._pushed = 0  # samples as given
        self._none = VisemeTrack(np.zeros((0, len(VISEMES)), np.float32), np.zeros(0, np.float32), self.fps)
        self._rows = 0  # returned so far
        self._levels = np.zeros(0, np.float32)  # dB at 100 Hz of the band of speech, the newest MEMORY_S
        self._loudness = np.zeros(0, np.float32)  # dBFS of the newest frames

    def push(self, samples: npt.ArrayLike) -> VisemeTrack:
        """Hear (N,) more samples, mono in [-1, 1], any number; return the rows that are final now, or none.

        Raises:
            AudioError: not (N,), or samples that are not finite.
        """
        chunk = mono_chunk(samples)
        self._pushed += len(chunk)
        self._take(self._resampler.resample_chunk(chunk))
        weights, loudness = [self._none.weights], [self._none.loudness]
        # whatever the chunks, a step hears the same, and so says the same
        while self._end_s(STEP_FRAMES) <= self._heard_s:
            step = self._advance(STEP_FRAMES, round(self._end_s(STEP_FRAMES) * ACOUSTIC_HZ))
            weights.append(step.weights)
            loudness.append(step.loudness)
        return VisemeTrack(np.concatenate(weights), np.concatenate(loudness), self.fps)

    def finish(self) -> VisemeTrack:
        """End the sound and return the rows that are left: together, as many as the sound has frames."""
        self._take(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        left = frame_count(Fraction(self._pushed, self.sample_rate_hz), self.fps) - self._rows
        return self._advance(left, self._dropped + len(self._heard)) if left > 0 else self._none

    def _end_s(self, rows: int) -> float:
        """Return the time of the last sample that the next rows hear."""
        return (self._rows + rows - 0.5) / float(self.fps) + LOOK_AHEAD_S

    @property
    def _heard_s(self) -> float:
        return (self._dropped + len(self._heard)) / ACOUSTIC_HZ

    def _take(self, chunk: F32) -> None:
        self._heard = np.concatenate([self._heard, chunk])

    def _advance(self, rows: int, end: int) -> VisemeTrack:
        """Return the next rows, by the sound before sample ``end`` at 16 kHz."""
        first = max(self._rows - round(CONTEXT_S * self.fps), 0)
        self._forget(round(first / self.fps * ACOUSTIC_HZ))
        offset = round(first / self.fps * ACOUSTIC_HZ) - self._dropped
        window = self._heard[offset : end - self._dropped]
        level, before = self._level(window)
        spans = []
        # a sound can be shorter than its frames by half a frame
        if len(level):
            voiced, loud = speech_gate(level, before), murmur_gate(level, before)
            with single_blas_thread():
                emissions = class_emissions(window)
            spans = spans_of_spikes(emissions, voiced, loud)
        visemes = coarticulate(spans, self._rows - first + rows, self.fps)[-rows:]
        loudness = self._frame_loudness(first, rows)
        self._rows += rows
        return VisemeTrack(visemes, loudness, self.fps)

    def _forget(self, before: int) -> None:
        """Drop the sound before a sample at 16 kHz, and keep what its level says of loud and quiet."""
        gone = (before - self._dropped) // (ACOUSTIC_HZ // GATE_HZ)
        if gone > 0:
            count = gone * ACOUSTIC_HZ // GATE_HZ
            self._levels = np.concatenate([self._levels, band_level(self._heard[:count])])
            self._levels = self._levels[-round(MEMORY_S * GATE_HZ) :]
            self._heard = self._heard[count:]
            self._dropped += count

    def _level(self, window: F32) -> tuple[F32, F32]:
        """Return (N,) dB at 100 Hz of a window and (M,) of the sound before, against its loud parts."""
        level = band_level(window)
        if len(level) == 0:
            return level, self._levels
        known = np.concatenate([self._levels, level])
        # before the first word there is only noise, and the loudest of it is not speech
        loud = np.float32(max(loud_level(known), float(np.percentile(known, 5)) + SPEECH_OVER_NOISE_DB))
        return level - loud, self._levels - loud

    def _frame_loudness(self, first: int, rows: int) -> F32:
        """Return (rows,) in [0, 1] of the next rows, as offline, against the loudest frames so far."""
        frames = np.arange(self._rows, self._rows + rows + 1)
        edges = np.round(frames / float(self.fps) * ACOUSTIC_HZ).astype(np.int64) - self._dropped
        level = loudness_db(self._heard, np.clip(edges, 0, len(self._heard)))
        self._loudness = np.concatenate([self._loudness, level])[-round(MEMORY_S * self.fps) :]
        top = max(float(np.percentile(self._loudness, 95)), QUIETEST_LOUD_DBFS)
        share = (level - top + LOUDNESS_RANGE_DB) / LOUDNESS_RANGE_DB
        return np.asarray(np.clip(share, 0, 1), np.float32)
