"""The eyes: glances, their share of the head, lids that follow the eyes, and blinks.

Angles are (to the viewer's right, down) in degrees, 0 at the camera. ``next`` of each class takes the times
in seconds of the middles of the next frames: one call for a thousand frames returns the same as a thousand
calls for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vortex.motion.rhythm import Flags, Rhythm
from vortex.motion.steps import Steps
from vortex.types import BLENDSHAPE_INDEX, F32, F64, FloatArray

LOOK_DEG = np.array([24.0, 12.0])
"""How far a gaze column of 1 turns the eyes, across and up or down: an iris moves by 12 mm times the sine of
the angle, and a column of 1 means ``GAZE_REACH`` of an eye 30 mm wide."""
SACCADE_S, SACCADE_S_PER_DEG = 0.021, 0.0022
"""The main sequence: a saccade of A degrees lasts 21 ms + 2.2 ms A (Carpenter 1988)."""
CAMERA_DEG = np.array([1.1, 0.7])
"""Standard deviation of fixations on the camera: people look from eye to eye, and to the mouth."""
FIXATION_S = 0.75
"""Median length of a fixation on the camera."""
GLANCE_S = 0.6
"""Median length of a fixation elsewhere."""
SECOND_GLANCE_CHANCE = 0.25
"""How often a glance goes on to another place instead of back to the camera."""
HEAD_SHARE, HEAD_FREE_DEG = 0.35, 5.0
"""The head takes this part of a glance beyond so many degrees, later than the eyes (Stahl 1999)."""
HEAD_DELAY_S, HEAD_TURN_S = 0.06, 0.45
LARGE_SHIFT_DEG = 8.0
"""A blink often goes with a larger shift of gaze (Evinger 1994)."""
LID_DOWN, LID_UP = 0.32, 0.3
"""Closing and widening of the lids at a gaze column of 1 down or up: 12 degrees lower a lid by a third."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Where the eyes look: ``gaze_deg`` (T, 2) in the world.

    ``head_deg`` (T, 2) is the head's part of it, across and down; ``shifts`` (T,) is True in the frame in
    which a large shift starts.
    """

    gaze_deg: F64
    head_deg: F64
    shifts: Flags


class Gaze:
    """Fixations on the camera, and glances away from it, above all where speech is planned: at pauses."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self._eyes, self._head = rng, Steps(2), Steps(2)
        self._away, self._due_s = False, float(rng.uniform(0.4, 1.2))
        # Most people glance to one side more often than to the other.
        self._side = float(rng.uniform(0.25, 0.75))

    def next(self, time_s: F64, style: Mapping[str, F32], rhythm: Rhythm) -> Look:
        """Return where the eyes look in the next frames."""
        shifts = np.zeros(len(time_s), bool)
        for row, now_s in enumerate(time_s.tolist()):
            chance, pace = float(style["glance_chance"][row]), float(style["gaze_pace"][row])
            pause = bool(rhythm.starts[row] or rhythm.ends[row])
            thinks = pause and not self._away and now_s > 1 and self._rng.random() < 2 * chance
            if not thinks and now_s < self._due_s:
                continue
            again = self._away and self._rng.random() < SECOND_GLANCE_CHANCE
            self._away = thinks or again or (not self._away and self._rng.random() < chance)
            size_deg = self._aim(float(style["glance_deg"][row])) if self._away else self._aim_at_camera()
            shifts[row] = self._shift(now_s, size_deg)
            median_s = GLANCE_S if self._away else FIXATION_S
            self._due_s = now_s + float(np.clip(median_s / pace * self._rng.lognormal(0, 0.5), 0.15, 4))
        return Look(self._eyes.at(time_s), self._head.at(time_s), shifts)

    def _aim(self, size_deg: float) -> F64:
        """Return the direction of a glance: aside, and above or below it."""
        sign = -1.0 if self._rng.random() < self._side else 1.0
        across = sign * self._rng.uniform(0.45, 1.0)
        down = self._rng.choice([-0.4, 0.45]) * self._rng.uniform(0.2, 1.0)
        return np.asarray(size_deg * self._rng.lognormal(0, 0.3) * np.array([across, down]), np.float64)

    def _aim_at_camera(self) -> F64:
        return np.asarray(self._rng.normal(0, 1, 2) * CAMERA_DEG, np.float64)

    def _shift(self, now_s: float, target_deg: F64) -> bool:
        """Move the eyes, and the head if they go far; return whether the shift is large."""
        size_deg = float(np.linalg.norm(target_deg - self._eyes.target))
        self._eyes.move_to(now_s, SACCADE_S + SACCADE_S_PER_DEG * size_deg, target_deg)
        far = max(1 - HEAD_FREE_DEG / max(float(np.linalg.norm(target_deg)), 1e-6), 0.0)
        self._head.move_to(now_s + HEAD_DELAY_S, HEAD_TURN_S, HEAD_SHARE * far * target_deg)
        return size_deg > LARGE_SHIFT_DEG


def eye_amounts(gaze_deg: F64, pose_deg: F32) -> F64:
    """Return (T, 2) in [-1, 1]: across and down, of eyes that look at ``gaze_deg`` from a turned head.

    The eyes turn back by as much as the head turns (the vestibulo-ocular reflex, whose gain is nearly 1), so
    that they stay on what they look at.
    """
    return np.asarray(np.clip((gaze_deg - pose_deg[:, [1, 0]]) / LOOK_DEG, -1, 1), np.float64)


def set_gaze(shapes: FloatArray, eyes: F64) -> None:
    """Write where the eyes look, (T, 2) across and down, into the gaze columns of ``shapes`` (T, 48)."""
    across, down = eyes.T
    for name, amount in (
        ("eyeLookLeft", across),
        ("eyeLookRight", -across),
        ("eyeLookDown", down),
        ("eyeLookUp", -down),
    ):
        shapes[:, BLENDSHAPE_INDEX[name]] = np.maximum(amount, 0)


BLINK_CLOSE_S, BLINK_HOLD_S, BLINK_OPEN_S = (0.08, 0.1), (0.01, 0.05), (0.16, 0.24)
"""A lid falls in 80 to 100 ms, rests shut and rises about half as fast (VanderWerf 2003; Kwon 2013)."""
REST_PERIOD = 1.3
"""People at rest blink less often than in talk: 17 and 26 times a minute (Bentivoglio 1997)."""
INCOMPLETE_CHANCE = 0.14
DOUBLE_CHANCE = 0.07
"""How many blinks do not shut the eye, and how many are followed by a second one at once."""
BLINK_PATIENCE = 0.15
"""A due blink waits this part of the mean gap for a pause or a large shift of gaze."""
BLINK_READY = 0.5
"""From this part of its gap on, a blink can go with a pause or a large shift of gaze."""
TRIGGER_CHANCE = 0.7


class Blinks:
    """The eyelids: blinks at pauses, with large shifts of gaze, and else now and then."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self._lids = rng, Steps(1)
        self._gaps, self._due = 0.0, float(rng.uniform(0.2, 0.8))
        self._last_s, self._free_s, self._speaking = 0.0, 0.3, False

    def next(self, time_s: F64, style: Mapping[str, F32], rhythm: Rhythm, shifts: Flags) -> F64:
        """Return (T,) in [0, 1], 1 where the lids are shut; ``shifts`` (T,) are large shifts of gaze."""
        for row, now_s in enumerate(time_s.tolist()):
            self._speaking = bool(rhythm.starts[row]) or (self._speaking and not rhythm.ends[row])
            period_s = float(style["blink_period_s"][row]) * (1 if self._speaking else REST_PERIOD)
            self._gaps += (now_s - self._last_s) / period_s
            self._last_s = now_s
            trigger = bool(rhythm.ends[row] or shifts[row]) and self._rng.random() < TRIGGER_CHANCE
            wait = self._due * BLINK_READY if trigger else self._due + BLINK_PATIENCE
            if self._gaps >= wait and now_s >= self._free_s:
                self._blink(now_s, float(style["blink_slow"][row]))
        return np.asarray(np.clip(self._lids.at(time_s)[:, 0], 0, 1), np.float64)

    def _blink(self, now_s: float, slow: float) -> None:
        rng = self._rng
        size = rng.uniform(0.45, 0.8) if rng.random() < INCOMPLETE_CHANCE else 1.0
        start_s = now_s
        for _ in range(2 if rng.random() < DOUBLE_CHANCE else 1):
            close_s, hold_s, open_s = (
                slow * rng.uniform(*bounds) for bounds in (BLINK_CLOSE_S, BLINK_HOLD_S, BLINK_OPEN_S)
            )
            self._lids.pulse(start_s, close_s, hold_s, open_s, [size])
            self._free_s = start_s + close_s + hold_s + open_s
            start_s = self._free_s + rng.uniform(0.0, 0.12)
        self._free_s += 0.3
        self._gaps, self._due = 0.0, float(rng.gamma(4, 0.25))


def closing(blinks: F64, down: F64) -> F64:
    """Return (T,) in [0, 1]: how far the lids are closed by a blink and by following the eyes ``down``."""
    return np.asarray(1 - (1 - blinks) * (1 - LID_DOWN * np.maximum(down, 0)), np.float64)
