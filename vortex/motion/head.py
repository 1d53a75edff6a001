"""The head: sway, postures that change between phrases, nods on stressed syllables, and breath.

``next`` of each class takes the times in seconds of the middles of the next frames: one call for a thousand
frames returns the same as a thousand calls for one. Angles are pitch, yaw and roll in degrees, signs as in
:class:`vortex.types.MotionTrack`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vortex.interpolation import smoothstep, soft_limit
from vortex.motion.rhythm import Rhythm
from vortex.motion.steps import Steps, Waves
from vortex.types import F32, F64

MAX_POSE_DEG = np.array([10.0, 12.0, 8.0], np.float32)
"""Largest pitch, yaw and roll relative to the source; a picture that is turned further shows tears."""
EASE_IN_S = 1.0
"""Time over which movement sets in, so that a video starts in the pose of its picture."""
SWAY_AXES = np.array([0.7, 1.0, 0.55])
POSTURE_AXES = np.array([0.6, 1.0, 0.55])
"""Pitch, yaw and roll of sway and of postures, relative to yaw."""
REST_SHARE = 0.55
"""Part of the sway of somebody who talks that remains in somebody who is silent."""
POSTURE_GAP_S = (3.0, 7.0)
"""A posture without a new phrase lasts this long, divided by the square of the pace."""
POSTURE_CHANCE = 0.7
"""How often a phrase starts with a new posture."""
UPWARD_CHANCE = 0.2
"""How often the gesture of a syllable lifts the head instead of lowering it."""
NOD_SIDEWAYS = np.array([0.0, 0.35, 0.3])
"""Standard deviation of the turn and the tilt of a nod, relative to its pitch."""
NOD_RISE_S, NOD_FALL_S = 0.19, 0.34
ONSET_DEG, CLOSE_DEG = -0.45, 0.35
"""Pitch in units of a nod with which a phrase starts (chin up) and ends (chin down)."""
INHALE_S, EXHALE_S = (1.2, 1.7), (1.9, 2.7)
"""A breath at rest: 13 to 19 a minute."""
CATCH_S, SPEAK_S = 0.4, (3.0, 5.0)
"""A breath for speech: quickly in, slowly out (Hixon 1973)."""


class Head:
    """The pose of the head, without its share of glances."""

    def __init__(self, seed: np.random.SeedSequence) -> None:
        sway, posture, nod, breath = map(np.random.default_rng, seed.spawn(4))
        self._sway, self._talk = Waves(sway, 3), Steps(1)
        self._postures, self._nods, self._breath = _Postures(posture), _Nods(nod), Breath(breath)

    def next(self, time_s: F64, step_s: float, style: Mapping[str, F32], rhythm: Rhythm) -> F64:
        """Return (T, 3) degrees, 0 in the first frame of all; ``step_s`` is the time between frames."""
        for row in np.flatnonzero(rhythm.starts | rhythm.ends):
            talks = bool(rhythm.starts[row])
            self._talk.move_to(float(time_s[row]), 0.6 if talks else 1.2, [float(talks)])
        energy = style["sway_deg"][:, None] * (REST_SHARE + (1 - REST_SHARE) * self._talk.at(time_s))
        pose = self._sway.next(style["pace"], step_s) * energy * SWAY_AXES
        pose += self._postures.next(time_s, style, rhythm)
        pose += self._nods.next(time_s, style, rhythm)
        pose[:, 0] += style["lean_deg"] - style["breath_deg"] * self._breath.next(time_s, rhythm)
        return np.asarray(pose * smoothstep(time_s / EASE_IN_S, dtype=np.float64)[:, None], np.float64)


class _Postures:
    """Where the head rests: another turn, tilt and height after some time, most often with a new phrase."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self._steps = rng, Steps(3)
        self._due_s = 0.0

    def next(self, time_s: F64, style: Mapping[str, F32], rhythm: Rhythm) -> F64:
        for row, now_s in enumerate(time_s.tolist()):
            shifts = bool(rhythm.starts[row]) and self._rng.random() < POSTURE_CHANCE
            if not shifts and now_s < self._due_s:
                continue
            pace = float(style["pace"][row])
            target = self._rng.normal(0, float(style["posture_deg"][row]), 3) * POSTURE_AXES
            duration_s = float(style["posture_s"][row]) * self._rng.uniform(0.75, 1.35)
            self._steps.move_to(now_s, duration_s, target)
            self._due_s = now_s + self._rng.uniform(*POSTURE_GAP_S) / pace**2
        return self._steps.at(time_s)


class _Nods:
    """Gestures of the head on stressed syllables, and at both ends of a phrase."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self._steps = rng, Steps(3)

    def next(self, time_s: F64, style: Mapping[str, F32], rhythm: Rhythm) -> F64:
        for row in np.flatnonzero((rhythm.stress > 0) | rhythm.starts | rhythm.ends):
            now_s, size_deg = float(time_s[row]), float(style["nod_deg"][row])
            slow = 1 / float(style["pace"][row]) ** 0.5
            if rhythm.starts[row]:
                self._steps.pulse(now_s, 0.45 * slow, 0.2, 1.8 * slow, [ONSET_DEG * size_deg, 0, 0])
            if rhythm.ends[row]:
                self._steps.pulse(now_s, 0.35 * slow, 0.1, 0.9 * slow, [CLOSE_DEG * size_deg, 0, 0])
            strength = float(rhythm.stress[row])
            # Weak stresses get fewer and smaller nods.
            if strength > 0 and self._rng.random() < style["nod_chance"][row] * (0.4 + 0.6 * strength):
                strength *= self._rng.uniform(0.5, 1.15)
                sign = -0.7 if self._rng.random() < UPWARD_CHANCE else 1.0
                turn = np.array([sign, 0.0, 0.0]) + self._rng.normal(0, 1, 3) * NOD_SIDEWAYS
                fall_s = NOD_FALL_S * slow * self._rng.uniform(0.8, 1.4)
                self._steps.pulse(now_s, NOD_RISE_S * slow, 0.04, fall_s, size_deg * strength * turn)
        return self._steps.at(time_s)


class Breath:
    """The volume of air: calm breaths at rest; before a phrase a quick one, deeper after a longer pause."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self._steps = rng, Steps(1)
        self._due_s, self._since_s = 0.0, 0.0
        self._speaking = self._full = False

    def next(self, time_s: F64, rhythm: Rhythm) -> F64:
        """Return (T,) from 0 to 1.6 or so; 1 is a calm breath."""
        for row, now_s in enumerate(time_s.tolist()):
            if rhythm.starts[row]:
                depth = 0.8 + 0.5 * min(now_s - self._since_s, 1.6)
                self._steps.move_to(now_s, CATCH_S, [depth])
                self._due_s, self._speaking, self._full = now_s + CATCH_S, True, True
            if rhythm.ends[row]:
                self._speaking, self._since_s = False, now_s
                self._due_s = max(self._due_s, now_s + 0.5)
            if now_s < self._due_s:
                continue
            if self._full:
                out_s = self._rng.uniform(*(SPEAK_S if self._speaking else EXHALE_S))
                self._steps.move_to(now_s, out_s, [0.0])
                self._due_s, self._full = now_s + out_s, False
            elif not self._speaking:
                in_s = self._rng.uniform(*INHALE_S)
                self._steps.move_to(now_s, in_s, [self._rng.uniform(0.85, 1.15)])
                self._due_s, self._full = now_s + in_s, True
        return self._steps.at(time_s)[:, 0]


def bounded(pose_deg: F64) -> F32:
    """Return (T, 3) within :data:`MAX_POSE_DEG`, nearly unchanged where it is well within."""
    return soft_limit(pose_deg, MAX_POSE_DEG)
