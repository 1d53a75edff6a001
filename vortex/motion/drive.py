"""The motion of a face from visemes, a preset and idle motion: of a whole speech, or while it arrives."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vortex.errors import UnknownPresetError
from vortex.motion import idle
from vortex.motion.presets import PRESETS, TRANSITION_S, PresetLike, PresetTrack, blend_presets
from vortex.types import BLENDSHAPE_INDEX, BLENDSHAPES, F32, MotionTrack, VisemeTrack
from vortex.visemes import ROUNDING_COLUMNS, SILENT_COLUMN, VISEME_TABLE

MAX_POSE_DEG = np.array([10.0, 12.0, 8.0], np.float32)
"""Largest pitch, yaw and roll relative to the source; beyond it a photo shows that it has one side only."""
FAST_S = 0.06
SLOW_S = 0.6
"""Time constants of the two averages of loudness whose difference peaks on a stressed syllable."""
ACCENT_PEAK_S = 0.2
"""While somebody speaks, brows and head move furthest this long after the syllable."""
ACCENT_LENGTH_S = 8 * ACCENT_PEAK_S
ACCENT_RISE_S = 0.16
ACCENT_FALL_S = 0.5
"""Standard deviations of the two halves of the pulse that a stressed syllable of a whole speech gives."""
SILENT_WEIGHT = 0.6
"""A frame with more silence than this is silent."""
ASYMMETRY = 0.12
"""Largest difference of each side of a smile from the mean of both, as no face is symmetric."""


def expand(amounts: Mapping[str, float]) -> F32:
    """Return (48,) float32, columns :data:`vortex.types.BLENDSHAPES`, from amounts by name.

    A name without its side means both sides.
    """
    row = np.zeros(len(BLENDSHAPES), np.float32)
    for name, amount in amounts.items():
        for column in (name,) if name in BLENDSHAPE_INDEX else (name + side for side in ("Left", "Right")):
            row[BLENDSHAPE_INDEX[column]] += amount
    return row


VISEME_BLENDSHAPES = np.stack([expand(row.blendshapes) for row in VISEME_TABLE])
"""(15, 48) float32: the mouth of each viseme."""

_MOUTH_CLOSE = BLENDSHAPE_INDEX["mouthClose"]
_CLOSING = [
    BLENDSHAPE_INDEX[name]
    for name in ("mouthClose", "mouthRollLower", "mouthRollUpper", "mouthPressLeft", "mouthPressRight")
]
QUIET_ARTICULATION = 0.7
"""Share of the full movement at zero loudness."""


def articulate(visemes: VisemeTrack, gain: npt.ArrayLike) -> F32:
    """Return (T, 48) float32 in [-1, 1]: the mouth while speaking.

    ``gain`` (T,) scales how far the mouth moves; it scales openings only, never closures. Loud speech opens
    the mouth further than quiet speech.
    """
    shapes = visemes.weights @ VISEME_BLENDSHAPES
    loud = QUIET_ARTICULATION + (1 - QUIET_ARTICULATION) * visemes.loudness
    scale = np.repeat((loud * np.asarray(gain, np.float32))[:, None], shapes.shape[1], axis=1)
    # Rolled lips close; unrolled ones, below zero, are part of an opening.
    scale[:, _CLOSING] = np.where(shapes[:, _CLOSING] > 0, 1, scale[:, _CLOSING])
    # A mouth that its neighbours close only in part is still open: only (nearly) full closures count.
    shapes[:, _MOUTH_CLOSE] = np.clip((shapes[:, _MOUTH_CLOSE] - 0.35) / 0.55, 0, 1)
    return np.asarray(np.clip(shapes * scale, -1, 1), np.float32)


def drive(visemes: VisemeTrack, preset: PresetLike = "neutral", seed: int = 0) -> MotionTrack:
    """Return how the whole face moves.

    ``visemes`` alone decide when the mouth moves; ``preset`` (see
    :meth:`vortex.motion.presets.PresetTrack.parse`) decides how far, and with what expression; ``seed``
    decides blinks, glances and sway. The same arguments give the same track.

    Raises:
        UnknownPresetError: a preset or a sequence that cannot be read.
    """
    frames, fps = len(visemes.weights), visemes.fps
    if frames == 0:
        return still(0, fps)
    idle_seed, accent_seed = np.random.SeedSequence(seed).spawn(2)
    style = blend_presets(PresetTrack.parse(preset), frames, fps)
    accents = _accents(visemes, np.random.default_rng(accent_seed))
    return FaceAnimator(fps, idle_seed).move(visemes, style, accents)


class FaceAnimator:
    """Composes visemes, expression and idle motion. Each :meth:`move` continues where the last one ended."""

    def __init__(self, fps: Fraction, seed: np.random.SeedSequence) -> None:
        blinks, gaze, sway, breath, sides = map(np.random.default_rng, seed.spawn(5))
        self._blinks, self._gaze = idle.Blinks(blinks), idle.Gaze(gaze)
        self._sway, self._breath = idle.Sway(sway), idle.Breath(breath)
        self._asymmetry = float(sides.uniform(-ASYMMETRY, ASYMMETRY))
        self._fps, self._frames, self._speaking = float(fps), 0, False

    def move(self, visemes: VisemeTrack, style: Mapping[str, F32], accents: F32) -> MotionTrack:
        """Return the next frames.

        ``style`` has each field of :class:`vortex.motion.presets.Preset` as a curve (T,); ``accents`` (T,),
        about [0, 1], is how far stressed syllables move brows and head.
        """
        first, self._frames = self._frames, self._frames + len(visemes.weights)
        time_s = np.asarray((np.arange(first, self._frames) + 0.5) / self._fps, np.float64)
        shapes = articulate(visemes, style["articulation"])
        self._add_expression(shapes, style, visemes)
        brow = style["brow_up"] * 0.55 + style["brow_accent"] * accents
        shapes += brow[:, None] * expand({"browInnerUp": 0.9, "browOuterUp": 0.6})
        lids = self._blinks.next(time_s, style["blink_period_s"], self._phrase_ends(visemes))
        _set_eyes(shapes, self._gaze.next(time_s) * style["gaze"][:, None], lids)
        pose = self._sway.next(time_s) * style["sway_deg"][:, None] * [0.55, 1.0, 0.5]
        pose[:, 0] += style["nod_deg"] * accents + 0.18 * self._breath.next(time_s)
        bounded = MAX_POSE_DEG * np.tanh(pose / MAX_POSE_DEG)
        return MotionTrack(np.clip(shapes, -1, 1), bounded.astype(np.float32), visemes.fps)

    def _add_expression(self, shapes: F32, style: Mapping[str, F32], visemes: VisemeTrack) -> None:
        """Add the expression of the preset in place; rounded lips cannot smile, so the smile fades there."""
        # The order of this sum in float32 decides the last bit of the frames that are on record.
        rounded = visemes.weights[:, ROUNDING_COLUMNS[::-1]].sum(axis=1)
        smile = style["smile"] * (1 - 0.75 * rounded)
        for side, factor in (("Left", 1 + self._asymmetry), ("Right", 1 - self._asymmetry)):
            shapes[:, BLENDSHAPE_INDEX[f"mouthSmile{side}"]] += smile * factor
            shapes[:, BLENDSHAPE_INDEX[f"mouthFrown{side}"]] += style["frown"]
            shapes[:, BLENDSHAPE_INDEX[f"eyeSquint{side}"]] += style["squint"] + 0.35 * smile
            shapes[:, BLENDSHAPE_INDEX[f"eyeWide{side}"]] += style["eye_wide"]

    def _phrase_ends(self, visemes: VisemeTrack) -> npt.NDArray[np.bool_]:
        """Return (T,) True in the first frame of each silence after speech."""
        speaking = np.r_[self._speaking, visemes.weights[:, SILENT_COLUMN] <= SILENT_WEIGHT]
        self._speaking = bool(speaking[-1])
        return np.asarray(speaking[:-1] & ~speaking[1:])


def _accents(visemes: VisemeTrack, rng: np.random.Generator) -> F32:
    """Return (T,), about [0, 1]: a pulse on each stressed syllable, where loudness peaks."""
    fps = float(visemes.fps)
    fast = _smooth(visemes.loudness, FAST_S * fps)
    slow = _smooth(visemes.loudness, SLOW_S * fps)
    rise = np.clip(fast - slow - 0.04, 0, None)
    inner = np.r_[False, (rise[1:-1] > rise[:-2]) & (rise[1:-1] >= rise[2:]), False][: len(rise)]
    strength = np.where(inner, np.clip(rise / 0.25, 0, 1), 0)
    # People nod on some syllables only, and not equally far.
    strength *= np.where(rng.random(len(strength)) < 0.7, rng.uniform(0.5, 1.0, len(strength)), 0.15)
    reach = int(np.ceil(3 * ACCENT_FALL_S * fps))
    time_s = np.arange(-reach, reach + 1) / fps
    pulse = np.exp(-0.5 * (time_s / np.where(time_s < 0, ACCENT_RISE_S, ACCENT_FALL_S)) ** 2)
    summed = np.convolve(np.pad(strength, reach), pulse, "valid")
    return np.asarray(1.2 * np.tanh(summed / 1.2), np.float32)


def _smooth(values: F32, sigma: float) -> F32:
    """Return (T,) smoothed by a Gaussian of ``sigma`` frames; both ends are repeated."""
    reach = max(int(np.ceil(3 * sigma)), 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 0.3)) ** 2)
    return np.convolve(np.pad(values, reach, mode="edge"), kernel / kernel.sum(), "valid").astype(np.float32)


def _set_eyes(shapes: F32, gaze: F32, lids: F32) -> None:
    """Write gaze (T, 2) and lids (T,) in place; the upper lids follow the eyes down a little."""
    for name, amount in (
        ("eyeLookLeft", gaze[:, 0]),
        ("eyeLookRight", -gaze[:, 0]),
        ("eyeLookDown", gaze[:, 1]),
        ("eyeLookUp", -gaze[:, 1]),
    ):
        shapes[:, BLENDSHAPE_INDEX[name]] = np.maximum(amount, 0)
    closed = np.maximum(lids, 0.25 * np.maximum(gaze[:, 1], 0))
    for side in ("Left", "Right"):
        shapes[:, BLENDSHAPE_INDEX[f"eyeBlink{side}"]] = closed


def still(frames: int, fps: Fraction) -> MotionTrack:
    """Return a track in which nothing moves and the mouth is shut."""
    shapes = np.tile(VISEME_BLENDSHAPES[SILENT_COLUMN], (frames, 1))
    return MotionTrack(shapes, np.zeros((frames, 3), np.float32), fps)


class MotionStream:
    """The motion of one talking face while its visemes arrive. Not safe for threads.

    Rows do not depend on how the visemes are cut into chunks. The mouth moves as in :func:`drive`; a nod
    follows its syllable a little later, as the syllable is not known before. ``preset`` may be a sequence,
    whose times count from the first frame.

    Raises:
        UnknownPresetError: a preset or a sequence that cannot be read.
    """

    def __init__(self, fps: Fraction, preset: PresetLike = "neutral", seed: int = 0) -> None:
        self._fps, self._rows = fps, 0
        self._presets = PresetTrack.parse(preset)
        idle_seed, accent_seed = np.random.SeedSequence(seed).spawn(2)
        self._animator = FaceAnimator(fps, idle_seed)
        self._accents = _Accents(fps, np.random.default_rng(accent_seed))

    def push(self, visemes: VisemeTrack) -> MotionTrack:
        """Return the motion of the next rows, as many as there are visemes."""
        rows = len(visemes.weights)
        style = blend_presets(self._presets, rows, self._fps, self._rows)
        self._rows += rows
        return self._animator.move(visemes, style, self._accents.next(visemes.loudness))

    def change_preset(self, name: str) -> None:
        """Cross-fade to another preset, from the next row on; the rest of a sequence is dropped.

        Raises:
            UnknownPresetError: not the name of a preset.
        """
        names = PresetTrack.parse(name).names
        if len(names) > 1:
            raise UnknownPresetError(f"The preset is {name!r}; give one of {', '.join(PRESETS)}.")
        now_s = self._rows / float(self._fps)
        entries = zip(self._presets.names, self._presets.starts_s, strict=True)
        started = [entry for entry in entries if entry[1] - TRANSITION_S / 2 <= now_s][-2:]
        # A cross-fade that has started is finished first.
        start_s = max(now_s + TRANSITION_S / 2, started[-1][1] + TRANSITION_S if len(started) > 1 else 0.0)
        kept, starts_s = zip(*started, (names[0], start_s), strict=True)
        self._presets = PresetTrack(kept, starts_s)


class _Accents:
    """Pulses after stressed syllables, where loudness has just peaked."""

    def __init__(self, fps: Fraction, rng: np.random.Generator) -> None:
        self._fps, self._rng, self._frame = float(fps), rng, 0
        self._fast = self._slow = 0.0
        self._rises = (0.0, 0.0)
        self._pulses: deque[tuple[float, float]] = deque()

    def next(self, loudness: F32) -> F32:
        """Return (T,), about [0, 1], for (T,) loudness in [0, 1]."""
        result = np.empty(len(loudness), np.float32)
        for row, loud in enumerate(loudness.tolist()):
            now_s = self._frame / self._fps
            self._update(loud, now_s)
            while self._pulses and now_s - self._pulses[0][0] > ACCENT_LENGTH_S:
                self._pulses.popleft()
            ages = [((now_s - at_s) / ACCENT_PEAK_S, strength) for at_s, strength in self._pulses]
            result[row] = sum(strength * age * math.exp(1 - age) for age, strength in ages)
            self._frame += 1
        return np.asarray(1.2 * np.tanh(result / 1.2), np.float32)

    def _update(self, loud: float, now_s: float) -> None:
        """Take the loudness of one frame; start a pulse if its rise has just passed a peak."""
        self._fast += (loud - self._fast) * (1 - math.exp(-1 / (FAST_S * self._fps)))
        self._slow += (loud - self._slow) * (1 - math.exp(-1 / (SLOW_S * self._fps)))
        before, peak = self._rises
        rise = max(self._fast - self._slow - 0.1, 0.0)
        if peak > before and peak >= rise:
            # People nod on some syllables only, and not equally far.
            share = self._rng.uniform(0.5, 1.0) if self._rng.random() < 0.7 else 0.15
            self._pulses.append((now_s, 0.75 * min(peak / 0.35, 1.0) * share))
        self._rises = (peak, rise)
