"""The one composer of motion: speech, preset and idle life into a MotionTrack."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vortex.motion import idle
from vortex.motion.blendshapes import articulate, expand
from vortex.motion.presets import PresetSequence, blend_presets, parse_presets
from vortex.types import BLENDSHAPE_INDEX, VISEMES, MotionTrack, VisemeTrack

F32 = npt.NDArray[np.float32]

MAX_POSE_DEG = np.array([6.0, 6.0, 4.0], np.float32)
"""Pitch, yaw and roll stay within this of the source; a picture turned further tears."""
ACCENT_RISE_S = 0.16
ACCENT_FALL_S = 0.5
SILENT_SHARE = 0.6
ASYMMETRY = 0.12
"""Share by which one side of a smile or a raised brow differs from the other; no face is symmetric."""


def drive(visemes: VisemeTrack, preset: PresetSequence = "neutral", seed: int = 0) -> MotionTrack:
    """Return how the whole face moves.

    Mouth timing comes from ``visemes`` alone; ``preset`` (see :func:`vortex.motion.presets.parse_presets`)
    sets how strongly and with what expression; ``seed`` decides blinks, glances and sway. The same arguments
    give the same track.

    Raises:
        UnknownPresetError: a preset or a sequence that cannot be read.
    """
    frames, fps = len(visemes.weights), visemes.fps
    if frames == 0:
        return still(0, fps)
    life_seed, accent_seed = np.random.SeedSequence(seed).spawn(2)
    style = blend_presets(parse_presets(preset), frames, fps)
    return Life(fps, life_seed).move(visemes, style, _accents(visemes, np.random.default_rng(accent_seed)))


class Life:
    """One living face: composes speech, character and what it does unasked, and goes on where it stopped."""

    def __init__(self, fps: Fraction, seed: np.random.SeedSequence) -> None:
        rngs = map(np.random.default_rng, seed.spawn(5))
        self._blinks, self._gaze = idle.Blinks(fps, next(rngs)), idle.Gaze(fps, next(rngs))
        self._sway, self._breath = idle.Sway(fps, next(rngs)), idle.Breath(fps, next(rngs))
        self._lean = float(next(rngs).uniform(-ASYMMETRY, ASYMMETRY))
        self._speaking = False

    def move(self, visemes: VisemeTrack, style: Mapping[str, F32], accents: F32) -> MotionTrack:
        """Return the next frames.

        ``style`` holds each number of :class:`vortex.motion.presets.Preset` as a curve (T,); ``accents`` (T,)
        says how far a stressed syllable moves brows and head, in about [0, 1].
        """
        frames = len(visemes.weights)
        shapes = articulate(visemes, style["articulation"])
        self._hold_expression(shapes, style, visemes)
        brow = style["brow_up"] * 0.55 + style["brow_accent"] * accents
        shapes += brow[:, None] * expand({"browInnerUp": 0.9, "browOuterUp": 0.6})
        lids = self._blinks.next(style["blink_period_s"], self._phrase_ends(visemes))
        _look(shapes, self._gaze.next(frames) * style["gaze"][:, None], lids)
        pose = self._sway.next(frames) * style["sway_deg"][:, None] * [0.55, 1.0, 0.5]
        pose[:, 0] += style["nod_deg"] * accents + 0.18 * self._breath.next(frames)
        bounded = MAX_POSE_DEG * np.tanh(pose / MAX_POSE_DEG)
        return MotionTrack(np.clip(shapes, 0, 1), bounded.astype(np.float32), visemes.fps)

    def _hold_expression(self, shapes: F32, style: Mapping[str, F32], visemes: VisemeTrack) -> None:
        """Add the held expression in place; a smile gives way to rounded lips, which cannot smile."""
        rounded = visemes.weights[:, [VISEMES.index(name) for name in ("oh", "ou", "CH")]].sum(axis=1)
        smile = style["smile"] * (1 - 0.75 * rounded)
        for side, factor in (("Left", 1 + self._lean), ("Right", 1 - self._lean)):
            shapes[:, BLENDSHAPE_INDEX[f"mouthSmile{side}"]] += smile * factor
            shapes[:, BLENDSHAPE_INDEX[f"mouthFrown{side}"]] += style["frown"]
            shapes[:, BLENDSHAPE_INDEX[f"eyeSquint{side}"]] += style["squint"] + 0.35 * smile
            shapes[:, BLENDSHAPE_INDEX[f"eyeWide{side}"]] += style["eye_wide"]

    def _phrase_ends(self, visemes: VisemeTrack) -> npt.NDArray[np.bool_]:
        """Return (T,): true in the first frame of each silence after speech."""
        speaking = np.r_[self._speaking, visemes.weights[:, VISEMES.index("sil")] <= SILENT_SHARE]
        self._speaking = bool(speaking[-1])
        return np.asarray(speaking[:-1] & ~speaking[1:])


def _accents(visemes: VisemeTrack, rng: np.random.Generator) -> F32:
    """Return (T,) of about [0, 1]: a soft pulse on stressed syllables, where loudness peaks."""
    fps = float(visemes.fps)
    fast = _smooth(visemes.loudness, 0.06 * fps)
    slow = _smooth(visemes.loudness, 0.6 * fps)
    rise = np.clip(fast - slow - 0.04, 0, None)
    inner = np.r_[False, (rise[1:-1] > rise[:-2]) & (rise[1:-1] >= rise[2:]), False][: len(rise)]
    strength = np.where(inner, np.clip(rise / 0.25, 0, 1), 0)
    # one syllable in a few gets the nod, and not all alike
    strength *= np.where(rng.random(len(strength)) < 0.7, rng.uniform(0.5, 1.0, len(strength)), 0.15)
    reach = int(np.ceil(3 * ACCENT_FALL_S * fps))
    time_s = np.arange(-reach, reach + 1) / fps
    pulse = np.where(
        time_s < 0, np.exp(-0.5 * (time_s / ACCENT_RISE_S) ** 2), np.exp(-0.5 * (time_s / ACCENT_FALL_S) ** 2)
    )
    summed = np.convolve(np.pad(strength, reach), pulse, "valid")
    return np.asarray(1.2 * np.tanh(summed / 1.2), np.float32)


def _smooth(values: F32, sigma: float) -> F32:
    reach = max(int(np.ceil(3 * sigma)), 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 0.3)) ** 2)
    return np.convolve(np.pad(values, reach, mode="edge"), kernel / kernel.sum(), "valid").astype(np.float32)


def _look(shapes: F32, looking: F32, lids: F32) -> None:
    """Write gaze and lids in place; the upper lid follows the eye down a little."""
    for name, amount in (
        ("eyeLookLeft", looking[:, 0]),
        ("eyeLookRight", -looking[:, 0]),
        ("eyeLookDown", looking[:, 1]),
        ("eyeLookUp", -looking[:, 1]),
    ):
        shapes[:, BLENDSHAPE_INDEX[name]] = np.maximum(amount, 0)
    closed = np.maximum(lids, 0.25 * np.maximum(looking[:, 1], 0))
    for side in ("Left", "Right"):
        shapes[:, BLENDSHAPE_INDEX[f"eyeBlink{side}"]] = closed


def still(frames: int, fps: Fraction) -> MotionTrack:
    """Return a track in which nothing moves: the picture itself, with the mouth shut."""
    row = expand({"mouthClose": 1.0})
    return MotionTrack(np.tile(row, (frames, 1)), np.zeros((frames, 3), np.float32), fps)
