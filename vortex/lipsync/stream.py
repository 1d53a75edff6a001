"""Speech to visemes while somebody speaks: each row is returned a bounded time after its sound.

At every step the recogniser processes the last seconds again, and the rows that have enough sound after them
are final. Nothing is aligned: a sound lasts from its spike until the next one.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vortex.errors import InputError
from vortex.lipsync import vad
from vortex.lipsync.acoustic import ACOUSTIC_HZ
from vortex.lipsync.ctc import class_emissions, iter_spikes, iter_spikes_of_voice, spans_of_spikes
from vortex.lipsync.silero import BLOCK_SAMPLES, SileroVad
from vortex.lipsync.visemes import coarticulate
from vortex.media.audio import loudness_db, mono_chunk
from vortex.runtime.setting import single_blas_thread
from vortex.types import F32, PhonemeSpan, VisemeTrack, frame_count, parse_fps
from vortex.visemes import VISEMES

LOOK_AHEAD_S = 0.2
"""Sound that must follow the middle of a frame before its row is final."""
STEP_FRAMES = 2
"""Rows made in one step: half the work of one at a time, for one frame more of delay."""
CONTEXT_S = 1.6
"""Sound before a row that the recogniser processes again for it."""
LEVEL_MEMORY_S = 12.0
"""How much of the past decides what counts as loud and as quiet."""
SPEECH_OVER_NOISE_DB = 25.0
"""Least distance of the loud parts of speech from the noise floor."""
MIN_LOUD_DBFS = -45.0
"""Least level of the loudest speech, so that the first soft sounds do not count as loud."""


class VisemeStream:
    """Visemes of one voice. Not safe for threads: only one thread may push.

    Memory does not grow with the sound: only the last seconds are kept. Row i shows the middle of frame i of
    the whole sound, ``(i + 1/2) / fps``, as in :func:`vortex.lipsync.recognize.recognize_visemes`.
    ``sample_rate_hz`` is that of the sound to come; InputError if it or the frame rate is impossible.
    """

    def __init__(self, fps: float | str | Fraction = 24, sample_rate_hz: int = 24_000) -> None:
        import soxr

        if not 4_000 <= sample_rate_hz <= 384_000:
            raise InputError(f"sample_rate_hz is {sample_rate_hz}; give 4000 to 384000.")
        self.fps, self.sample_rate_hz = parse_fps(fps), sample_rate_hz
        # Better qualities of soxr delay the sound by up to 40 ms.
        self._resampler = soxr.ResampleStream(sample_rate_hz, ACOUSTIC_HZ, 1, dtype="float32", quality="LQ")
        self._samples = np.zeros(0, np.float32)  # the newest sound, at 16 kHz
        self._dropped = 0  # how many samples at 16 kHz were before it
        self._pushed = 0  # samples as given
        none = np.zeros((0, len(VISEMES)), np.float32)
        self._no_rows = VisemeTrack(none, none[:, 0], self.fps)
        self._rows = 0  # returned so far
        self._levels = np.zeros(0, np.float32)  # band_level_db of the dropped sound, the last LEVEL_MEMORY_S
        self._loudness = np.zeros(0, np.float32)  # dBFS of the newest frames
        self._detector = SileroVad()
        self._voice = np.zeros(0, np.float32)  # probability of a voice in the newest blocks
        self._first_block = 0  # how many blocks were before them

    def push(self, samples: npt.ArrayLike) -> VisemeTrack:
        """Add (N,) samples, mono in [-1, 1], any number; return the rows that are final now, or none.

        AudioError: not (N,), or samples that are not finite.
        """
        chunk = mono_chunk(samples)
        self._pushed += len(chunk)
        self._samples = np.concatenate([self._samples, self._resampler.resample_chunk(chunk)])
        steps = [self._no_rows]
        # A step uses the same samples, and so returns the same rows, however the sound was cut into chunks.
        received_s = (self._dropped + len(self._samples)) / ACOUSTIC_HZ
        while (end_s := (self._rows + STEP_FRAMES - 0.5) / float(self.fps) + LOOK_AHEAD_S) <= received_s:
            steps.append(self._advance(STEP_FRAMES, round(end_s * ACOUSTIC_HZ)))
        weights, loudness = (np.concatenate([getattr(s, n) for s in steps]) for n in ("weights", "loudness"))
        return VisemeTrack(weights, loudness, self.fps)

    def finish(self) -> VisemeTrack:
        """End the sound and return the remaining rows: there is one row for each frame of the sound."""
        rest = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        self._samples = np.concatenate([self._samples, rest])
        left = frame_count(Fraction(self._pushed, self.sample_rate_hz), self.fps) - self._rows
        return self._advance(left, self._dropped + len(self._samples)) if left > 0 else self._no_rows

    def _advance(self, rows: int, end: int) -> VisemeTrack:
        """Return the next rows, from the sound before sample ``end`` at 16 kHz."""
        first = max(self._rows - round(CONTEXT_S * self.fps), 0)
        start = round(first / self.fps * ACOUSTIC_HZ)
        with single_blas_thread():
            self._listen(end)
            self._drop_before(start)
            spans = self._recognize(start, end)
        visemes = coarticulate(spans, self._rows - first + rows, self.fps)[-rows:]
        loudness = self._frame_loudness(rows)
        self._rows += rows
        return VisemeTrack(visemes, loudness, self.fps)

    def _listen(self, end: int) -> None:
        """Let the voice activity detector hear the whole blocks before sample ``end`` at 16 kHz."""
        heard = self._first_block + len(self._voice)
        blocks = end // BLOCK_SAMPLES - heard
        if blocks > 0:
            low = heard * BLOCK_SAMPLES - self._dropped
            samples = self._samples[low : low + blocks * BLOCK_SAMPLES]
            self._voice = np.concatenate([self._voice, self._detector.push(samples)])

    def _recognize(self, start: int, end: int) -> list[PhonemeSpan]:
        """Return the sounds between two samples at 16 kHz, in seconds after the first of them."""
        window = self._samples[start - self._dropped : end - self._dropped]
        level, before = self._relative_levels(window)
        # The sound can be up to half a frame shorter than its frames, so the last window can be empty.
        if len(level) == 0:
            return []
        voice = vad.detect_voice(self._voice, len(level), start - self._first_block * BLOCK_SAMPLES)
        spikes = iter_spikes_of_voice(iter_spikes([class_emissions(window)]), voice) if voice.any() else []
        speech = vad.detect_speech(level, before) & voice
        return spans_of_spikes(spikes, speech, vad.detect_vocalization(level, before) & voice)

    def _drop_before(self, end: int) -> None:
        """Drop the sound before sample ``end`` at 16 kHz, and keep its levels."""
        hop = ACOUSTIC_HZ // vad.VAD_HZ
        count = (end - self._dropped) // hop * hop
        if count > 0:
            self._levels = np.concatenate([self._levels, vad.band_level_db(self._samples[:count])])
            self._levels = self._levels[-round(LEVEL_MEMORY_S * vad.VAD_HZ) :]
            self._samples = self._samples[count:]
            self._dropped += count
            # detect_voice looks back a little.
            blocks = self._dropped // BLOCK_SAMPLES - vad.TAIL_BLOCKS - self._first_block
            if blocks > 0:
                self._voice, self._first_block = self._voice[blocks:], self._first_block + blocks

    def _relative_levels(self, window: F32) -> tuple[F32, F32]:
        """Return (N,) dB at 100 Hz of a window and (M,) of the sound before, relative to the loud parts."""
        level = vad.band_level_db(window)
        if len(level) == 0:
            return level, self._levels
        known = np.concatenate([self._levels, level])
        # Before the first word there is only noise, whose loud parts must not count as speech.
        least = float(np.percentile(known, 5)) + SPEECH_OVER_NOISE_DB
        loud = np.float32(max(vad.loud_level_db(known), least))
        return level - loud, self._levels - loud

    def _frame_loudness(self, rows: int) -> F32:
        """Return (rows,) in [0, 1]: the loudness of the next rows relative to the loudest frames so far."""
        frames = np.arange(self._rows, self._rows + rows + 1)
        edges = np.round(frames / float(self.fps) * ACOUSTIC_HZ).astype(np.int64) - self._dropped
        level = loudness_db(self._samples, np.clip(edges, 0, len(self._samples)))
        self._loudness = np.concatenate([self._loudness, level])[-round(LEVEL_MEMORY_S * self.fps) :]
        return vad.relative_loudness(level, max(float(np.percentile(self._loudness, 95)), MIN_LOUD_DBFS))
