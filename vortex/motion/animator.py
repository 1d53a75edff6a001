"""The whole face around a speaking mouth: expression, brows, eyes, blinks and head."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from vortex.motion.brows import BrowHeights, Brows, Smiles
from vortex.motion.eyes import LID_UP, Blinks, Gaze, closing, eye_amounts, set_gaze
from vortex.motion.head import Head, bounded
from vortex.motion.rhythm import Rhythm
from vortex.types import BLENDSHAPE_INDEX, F32, F64, MotionTrack, VisemeTrack
from vortex.visemes import ROUNDING_COLUMNS

ASYMMETRY = 0.12
"""Largest difference of each side of a smile from the mean of both, as no face is symmetric."""
LOPSIDED = (0.35, 0.8)
"""Part of its opening by which a mouth goes to one side, least and most: nobody speaks quite evenly."""
LOWERED = 0.5
"""A brow that is lowered frowns by this part of the amount by which it would rise."""
SMILE_SQUINT, SMILE_CHEEK = 0.35, 0.4
"""A smile raises the cheeks and narrows the eyes (Duchenne), unless they are held wide open."""
BLOCK_ROWS = 256
"""Rows computed together: what ended before a block is no longer summed up."""


class FaceAnimator:
    """Moves the face around a speaking mouth. Each :meth:`move` continues where the last one ended."""

    def __init__(self, fps: Fraction, seed: int) -> None:
        # Each effect has its own generator, so that a new effect never shifts another.
        head, *seeds = np.random.SeedSequence(seed).spawn(6)
        gaze, blinks, brows, smiles, sides = map(np.random.default_rng, seeds)
        self._head, self._gaze, self._blinks = Head(head), Gaze(gaze), Blinks(blinks)
        self._brows, self._smiles = Brows(brows), Smiles(smiles)
        self._asymmetry = float(sides.uniform(-ASYMMETRY, ASYMMETRY))
        self._lopsided = float(sides.choice((-1, 1)) * sides.uniform(*LOPSIDED))
        self._fps, self._frames = float(fps), 0

    def move(self, mouth: F32, visemes: VisemeTrack, style: Mapping[str, F32], rhythm: Rhythm) -> MotionTrack:
        """Return the next frames.

        ``mouth`` (T, 48) are the blendshapes of the mouth; ``style`` has each field of
        :class:`vortex.motion.presets.Preset` as a curve (T,).
        """
        shapes, pose = mouth.copy(), np.zeros((len(mouth), 3), np.float32)
        rounded = visemes.weights[:, ROUNDING_COLUMNS].sum(axis=1)
        for start in range(0, len(mouth), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            part = {name: curve[rows] for name, curve in style.items()}
            pose[rows] = self._move(shapes[rows], rounded[rows], part, rhythm.rows(rows.start, rows.stop))
        return MotionTrack(np.clip(shapes, -1, 1), pose, visemes.fps)

    def _move(self, shapes: F32, rounded: F32, style: Mapping[str, F32], rhythm: Rhythm) -> F32:
        """Add the face to ``shapes`` (T, 48) in place; return the pose (T, 3)."""
        first, self._frames = self._frames, self._frames + len(shapes)
        time_s = np.asarray((np.arange(first, self._frames) + 0.5) / self._fps, np.float64)
        look = self._gaze.next(time_s, style, rhythm)
        pose = self._head.next(time_s, 1 / self._fps, style, rhythm)
        pose[:, [1, 0]] += look.head_deg
        pose_deg = bounded(pose)
        eyes = eye_amounts(look.gaze_deg, pose_deg)
        blinks = self._blinks.next(time_s, style, rhythm, look.shifts)
        smile = (style["smile"] + self._smiles.next(time_s, style, rhythm)) * (1 - 0.75 * rounded)
        _add_sideways(shapes, self._lopsided)
        self._add_expression(shapes, style, smile)
        up = np.maximum(-eyes[:, 1], 0)
        _add_brows(shapes, self._brows.next(time_s, 1 / self._fps, style, rhythm, up))
        _set_eyes(shapes, eyes, blinks)
        return pose_deg

    def _add_expression(self, shapes: F32, style: Mapping[str, F32], smile: F64) -> None:
        """Add the expression of the preset in place; rounded lips cannot smile, so the smile fades there."""
        for side, factor in (("Left", 1 + self._asymmetry), ("Right", 1 - self._asymmetry)):
            shapes[:, BLENDSHAPE_INDEX[f"mouthSmile{side}"]] += smile * factor
            shapes[:, BLENDSHAPE_INDEX[f"mouthFrown{side}"]] += style["frown"]
            narrowed = style["squint"] + SMILE_SQUINT * smile * (1 - style["eye_wide"])
            shapes[:, BLENDSHAPE_INDEX[f"eyeSquint{side}"]] += narrowed
            shapes[:, BLENDSHAPE_INDEX[f"cheekSquint{side}"]] += SMILE_CHEEK * smile
            shapes[:, BLENDSHAPE_INDEX[f"eyeWide{side}"]] += style["eye_wide"]
            shapes[:, BLENDSHAPE_INDEX[f"browDown{side}"]] += style["brow_down"]
        shapes[:, BLENDSHAPE_INDEX["browInnerUp"]] += style["brow_inner"]


def _add_sideways(shapes: F32, part: float) -> None:
    """Move the mouth to one side by ``part`` of its opening, the person's left if positive, in place."""
    opening = shapes[:, BLENDSHAPE_INDEX["jawOpen"]] + shapes[:, BLENDSHAPE_INDEX["mouthLowerDownLeft"]] / 2
    side = "mouthLeft" if part > 0 else "mouthRight"
    shapes[:, BLENDSHAPE_INDEX[side]] += abs(part) * opening


def _add_brows(shapes: F32, heights: BrowHeights) -> None:
    shapes[:, BLENDSHAPE_INDEX["browInnerUp"]] += np.maximum(heights.inner, 0)
    for side, height in (("Left", heights.left), ("Right", heights.right)):
        shapes[:, BLENDSHAPE_INDEX[f"browOuterUp{side}"]] += np.maximum(height, 0)
        shapes[:, BLENDSHAPE_INDEX[f"browDown{side}"]] += LOWERED * np.maximum(-height, 0)


def _set_eyes(shapes: F32, eyes: F64, blinks: F64) -> None:
    """Write eyes (T, 2), across and down in [-1, 1], and lids (T,) in place; the lids follow the eyes."""
    set_gaze(shapes, eyes)
    for side in ("Left", "Right"):
        shapes[:, BLENDSHAPE_INDEX[f"eyeBlink{side}"]] = closing(blinks, eyes[:, 1])
        shapes[:, BLENDSHAPE_INDEX[f"eyeWide{side}"]] += LID_UP * np.maximum(-eyes[:, 1], 0)
