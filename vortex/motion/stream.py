"""Motion while somebody speaks: nothing is known of what comes."""

from __future__ import annotations

import math
from collections import deque
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vortex.motion.drive import Life
from vortex.motion.presets import TRANSITION_S, PresetSequence, blend_presets, parse_presets
from vortex.types import MotionTrack, VisemeTrack

F32 = npt.NDArray[np.float32]

FAST_S = 0.06
SLOW_S = 0.6
"""Time constants of the two averages of loudness whose difference rises on a stressed syllable."""
ACCENT_PEAK_S = 0.2
"""Brows and head reach their furthest this long after the syllable that moves them."""
ACCENT_LENGTH_S = 8 * ACCENT_PEAK_S


class MotionStream:
    """The motion of one talking face, as its visemes come. Not safe for threads.

    Rows do not depend on how the visemes are cut into pieces. The mouth moves as in
    :func:`vortex.motion.drive.drive`; nods follow their syllables a little later, as they cannot be foreseen.

    Raises:
        UnknownPresetError: a preset or a sequence that cannot be read.
    """

    def __init__(self, fps: Fraction, preset: PresetSequence = "neutral", seed: int = 0) -> None:
        """Times of a sequence count from the first frame."""
        self._fps, self._rows = fps, 0
        self._sequence = list(parse_presets(preset))
        life_seed, accent_seed = np.random.SeedSequence(seed).spawn(2)
        self._life = Life(fps, life_seed)
        self._accents = _Accents(fps, np.random.default_rng(accent_seed))

    def push(self, visemes: VisemeTrack) -> MotionTrack:
        """Return the motion of the next rows, as many as there are visemes."""
        rows = len(visemes.weights)
        style = blend_presets(self._sequence, rows, self._fps, self._rows)
        self._rows += rows
        return self._life.move(visemes, style, self._accents.next(visemes.loudness))

    def change_preset(self, name: str) -> None:
        """Pass smoothly to another preset, from the next row on; what was to come of a sequence is dropped.

        Raises:
            UnknownPresetError: no such preset.
        """
        ((preset, _),) = parse_presets([(name, 0.0)])
        now_s = self._rows / float(self._fps)
        begun = [entry for entry in self._sequence if entry[1] - TRANSITION_S / 2 <= now_s]
        # a cross-fade that has begun is finished first
        start_s = max(now_s + TRANSITION_S / 2, begun[-1][1] + TRANSITION_S if len(begun) > 1 else 0.0)
        self._sequence = [*begun[-2:], (preset, start_s)]


class _Accents:
    """Soft pulses after stressed syllables, where loudness has just peaked."""

    def __init__(self, fps: Fraction, rng: np.random.Generator) -> None:
        self._fps, self._rng, self._frame = float(fps), rng, 0
        self._fast = self._slow = 0.0
        self._rises = (0.0, 0.0)
        self._pulses: deque[tuple[float, float]] = deque()

    def next(self, loudness: F32) -> F32:
        """Return (T,) of about [0, 1], for (T,) loudness in [0, 1]."""
        result = np.empty(len(loudness), np.float32)
        for row, loud in enumerate(loudness.tolist()):
            now_s = self._frame / self._fps
            self._listen(loud, now_s)
            while self._pulses and now_s - self._pulses[0][0] > ACCENT_LENGTH_S:
                self._pulses.popleft()
            ages = [((now_s - at_s) / ACCENT_PEAK_S, strength) for at_s, strength in self._pulses]
            result[row] = sum(strength * age * math.exp(1 - age) for age, strength in ages)
            self._frame += 1
        return np.asarray(1.2 * np.tanh(result / 1.2), np.float32)

    def _listen(self, loud: float, now_s: float) -> None:
        """Start a pulse if the rise of loudness has just passed its peak."""
        self._fast += (loud - self._fast) * (1 - math.exp(-1 / (FAST_S * self._fps)))
        self._slow += (loud - self._slow) * (1 - math.exp(-1 / (SLOW_S * self._fps)))
        before, peak = self._rises
        rise = max(self._fast - self._slow - 0.1, 0.0)
        if peak > before and peak >= rise:
            # one syllable in a few gets the nod, and not all alike
            share = self._rng.uniform(0.5, 1.0) if self._rng.random() < 0.7 else 0.15
            self._pulses.append((now_s, 0.75 * min(peak / 0.35, 1.0) * share))
        self._rises = (peak, rise)
