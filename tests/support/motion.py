"""Styles and rhythms for tests of motion."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from vortex.motion.presets import PRESETS, Preset
from vortex.motion.rhythm import Rhythm
from vortex.types import F32

FPS = 24.0


def constant_style(preset: str, frames: int) -> dict[str, F32]:
    """Return the curves (T,) of a preset that does not change."""
    return {f.name: np.full(frames, getattr(PRESETS[preset], f.name), np.float32) for f in fields(Preset)}


def quiet(preset: str, frames: int) -> dict[str, F32]:
    """Return the curves of a preset whose amounts in degrees are all 0."""
    style = constant_style(preset, frames)
    return {name: 0 * curve if name.endswith("_deg") else curve for name, curve in style.items()}


def silence(frames: int) -> Rhythm:
    """Return the rhythm of somebody who says nothing."""
    return Rhythm(np.zeros(frames, np.float32), *np.zeros((2, frames), bool))
