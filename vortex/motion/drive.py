"""The motion of a face from visemes, a preset and idle motion: of a whole speech, or while it arrives."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vortex.errors import UnknownPresetError
from vortex.motion.animator import FaceAnimator
from vortex.motion.presets import PRESETS, TRANSITION_S, PresetLike, PresetTrack, blend_presets
from vortex.motion.rhythm import RhythmStream, rhythm_of
from vortex.types import BLENDSHAPE_INDEX, BLENDSHAPES, F32, MotionTrack, VisemeTrack
from vortex.visemes import SILENT_COLUMN, VISEME_TABLE


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
QUIET_ARTICULATION = 0.78
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
    shapes[:, _MOUTH_CLOSE] = closure(shapes[:, _MOUTH_CLOSE])
    return np.asarray(np.clip(shapes * scale, -1, 1), np.float32)


def closure(amount: npt.ArrayLike) -> F32:
    """Return how far a mouth is shut, in [0, 1], of which visemes that close it have this share.

    A mouth that its neighbours close only in part is still open: only (nearly) full closures count.
    """
    return np.asarray(np.clip((np.asarray(amount, np.float32) - 0.35) / 0.55, 0, 1), np.float32)


def drive(
    visemes: VisemeTrack, preset: PresetLike = "neutral", seed: int = 0, *, share: npt.ArrayLike = 1.0
) -> MotionTrack:
    """Return how the whole face moves.

    ``visemes`` alone decide when the mouth moves; ``preset`` (see
    :meth:`vortex.motion.presets.PresetTrack.parse`) decides how far, and with what expression; ``seed``
    decides blinks, glances and sway. The same arguments give the same track. ``share``, one or (T,), is the
    part of the articulation that the mouth makes.

    Raises:
        UnknownPresetError: a preset or a sequence that cannot be read.
    """
    style = blend_presets(PresetTrack.parse(preset), len(visemes.weights), visemes.fps)
    part = np.broadcast_to(np.asarray(share, np.float32), len(visemes.weights))
    mouth = articulate(visemes, style["articulation"]) * part[:, None]
    return FaceAnimator(visemes.fps, seed).move(mouth, visemes, style, rhythm_of(visemes))


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
        self._animator, self._rhythm = FaceAnimator(fps, seed), RhythmStream(fps)

    def push(self, visemes: VisemeTrack) -> MotionTrack:
        """Return the motion of the next rows, as many as there are visemes."""
        rows = len(visemes.weights)
        style = blend_presets(self._presets, rows, self._fps, self._rows)
        self._rows += rows
        mouth = articulate(visemes, style["articulation"])
        return self._animator.move(mouth, visemes, style, self._rhythm.next(visemes))

    def change_preset(self, name: str) -> None:
        """Cross-fade to another preset, from the next row on; the rest of a sequence is dropped.

        Raises:
            UnknownPresetError: not the name of a preset, such as calm or excited:1.5.
        """
        new = PresetTrack.parse(name)
        if len(new.names) > 1:
            raise UnknownPresetError(f"The preset is {name!r}; give one of {', '.join(PRESETS)}.")
        now_s = self._rows / float(self._fps)
        old = self._presets
        entries = zip(old.names, old.starts_s, old.strengths, strict=True)
        started = [entry for entry in entries if entry[1] - TRANSITION_S / 2 <= now_s][-2:]
        # A cross-fade that has started is finished first.
        start_s = max(now_s + TRANSITION_S / 2, started[-1][1] + TRANSITION_S if len(started) > 1 else 0.0)
        self._presets = PresetTrack(*zip(*started, (new.names[0], start_s, new.strengths[0]), strict=True))
