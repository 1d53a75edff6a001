"""Synthetic speech for tests: syllables whose times are known."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from vortex.lipsync.visemes import coarticulate
from vortex.types import BLENDSHAPE_INDEX, MotionTrack, PhonemeSpan, VisemeTrack

FPS = Fraction(24)


def syllables(duration_s: float) -> list[PhonemeSpan]:
    """Return AA-T-IY-M syllables with pauses."""
    spans: list[PhonemeSpan] = []
    time_s = 0.5
    while time_s < duration_s - 1:
        for name, length_s in (("AA", 0.14), ("T", 0.06), ("IY", 0.12), ("M", 0.09)):
            spans.append(PhonemeSpan(name, time_s, time_s + length_s))
            time_s += length_s
        time_s += 0.7 if len(spans) % 24 == 0 else 0.0
    return spans


def speech(duration_s: float) -> VisemeTrack:
    """Return the track of :func:`syllables`, loud where there is sound."""
    spans = syllables(duration_s)
    frames = round(duration_s * FPS)
    at_s = (np.arange(frames) + 0.5) / 24
    loud = np.array([any(s.start_s <= t < s.end_s and s.phoneme != "T" for s in spans) for t in at_s])
    rng = np.random.default_rng(3)
    return VisemeTrack(coarticulate(spans, frames, FPS), loud * rng.uniform(0.6, 1, frames), FPS)


def column(motion: MotionTrack, name: str) -> np.ndarray:
    """Return one blendshape (T,) of a motion."""
    return motion.blendshapes[:, BLENDSHAPE_INDEX[name]]
