"""The brows on emphasis, and the smile at the end of a phrase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vortex.motion.rhythm import Rhythm
from vortex.motion.steps import Steps, Waves
from vortex.types import F32, F64

BROW_RISE_S, BROW_FALL_S = 0.18, 0.7
"""Brows rise as fast as in a brow flash (Grammer 1988), and return slowly."""
ONSET_CHANCE = 0.5
"""How often a phrase starts with raised brows, relative to a stressed syllable."""
DRIFT = 0.05
"""Standard deviation of the height of brows without any emphasis."""
SMILE_RISE_S, SMILE_FALL_S = 0.5, 1.1
"""A felt smile takes half a second to appear and longer to go (Schmidt 2006)."""
HELD = 0.55
"""Height of brows that a preset holds at an amount of 1."""
LEAN = 0.6
"""How much lower one brow, and higher the other, is at an asymmetry of 1, relative to the rise."""
INNER, OUTER = 1.0, 0.85
"""Movement of the inner and outer end of a brow at an amount of 1."""


@dataclass(frozen=True, slots=True, eq=False)
class BrowHeights:
    """Amounts, (T,) each: of the middle, and of the outer ends; a negative one is lowered."""

    inner: F64
    left: F64
    right: F64


class Brows:
    """Both brows: they rise on emphasis, not equally far, and return slowly."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self._steps, self._drift = rng, Steps(2), Waves(rng, 1)
        self._lean = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.0))

    def next(
        self, time_s: F64, step_s: float, style: Mapping[str, F32], rhythm: Rhythm, up: F64
    ) -> BrowHeights:
        """Return the heights in the next frames; ``up`` (T,) is how far the eyes look up, in [0, 1]."""
        for row in np.flatnonzero((rhythm.stress > 0) | rhythm.starts):
            strength = max(float(rhythm.stress[row]), 0.7 * ONSET_CHANCE * rhythm.starts[row])
            if self._rng.random() >= style["brow_chance"][row] * strength:
                continue
            self._raise(float(time_s[row]), {name: float(curve[row]) for name, curve in style.items()})
        drift = DRIFT * self._drift.next(style["pace"], step_s)
        raised, lean = self._steps.at(time_s).T
        height = np.tanh(raised + drift[:, 0] + HELD * style["brow_up"] + 0.2 * up)
        return BrowHeights(INNER * height, OUTER * (height - lean), OUTER * (height + lean))

    def _raise(self, now_s: float, style: Mapping[str, float]) -> None:
        size = style["brow_accent"] * self._rng.uniform(0.55, 1.15)
        lean = style["asymmetry"] * (self._lean + self._rng.normal(0, 0.35))
        slow = style["brow_slow"]
        hold_s = slow * self._rng.uniform(0.05, 0.3)
        fall_s = slow * BROW_FALL_S * self._rng.uniform(0.7, 1.4)
        self._steps.pulse(now_s, slow * BROW_RISE_S, hold_s, fall_s, [size, LEAN * size * lean])


class Smiles:
    """Smiles that come at the end of a phrase and go."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self._steps = rng, Steps(1)
        self._free_s = 0.0

    def next(self, time_s: F64, style: Mapping[str, F32], rhythm: Rhythm) -> F64:
        """Return (T,), what is added to the held smile."""
        for row in np.flatnonzero(rhythm.ends):
            now_s = float(time_s[row])
            if now_s < self._free_s or self._rng.random() >= style["smile_chance"][row]:
                continue
            hold_s = self._rng.uniform(0.5, 1.5)
            size = style["smile_burst"][row] * self._rng.uniform(0.6, 1.2)
            self._steps.pulse(now_s, SMILE_RISE_S, hold_s, SMILE_FALL_S, [size])
            self._free_s = now_s + SMILE_RISE_S + hold_s + SMILE_FALL_S
        return self._steps.at(time_s)[:, 0]
