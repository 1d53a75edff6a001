"""Expression presets: four characters as numbers, and timed sequences with cross-fades between them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from vortex.errors import UnknownPresetError
from vortex.interpolation import smoothstep
from vortex.types import F32

TRANSITION_S = 0.8
"""Length of the cross-fade between two presets of a sequence, centred on its time."""


@dataclass(frozen=True, slots=True)
class Preset:
    """One character: ``smile``, ``frown``, ``brow_up``, ``squint`` and ``eye_wide`` are held, in [0, 1].

    ``articulation`` scales mouth openings; stressed syllables move brows and head by ``brow_accent`` and
    ``nod_deg``; ``sway_deg`` is how far the head drifts; ``blink_period_s`` is the mean time between blinks;
    ``gaze`` scales glances away.
    """

    articulation: float
    smile: float
    frown: float
    brow_up: float
    squint: float
    eye_wide: float
    brow_accent: float
    nod_deg: float
    sway_deg: float
    blink_period_s: float
    gaze: float


PRESETS: Mapping[str, Preset] = {
    "neutral": Preset(
        articulation=1.0, smile=0.08, frown=0.0, brow_up=0.0, squint=0.0, eye_wide=0.0,
        brow_accent=0.3, nod_deg=1.5, sway_deg=1.3, blink_period_s=3.6, gaze=0.35,
    ),
    "excited": Preset(
        articulation=1.16, smile=0.5, frown=0.0, brow_up=0.3, squint=0.1, eye_wide=0.25,
        brow_accent=0.55, nod_deg=2.7, sway_deg=2.2, blink_period_s=3.0, gaze=0.5,
    ),
    "manic": Preset(
        articulation=1.3, smile=0.85, frown=0.0, brow_up=0.6, squint=0.0, eye_wide=0.75,
        brow_accent=0.8, nod_deg=3.8, sway_deg=3.2, blink_period_s=2.4, gaze=0.9,
    ),
    "calm": Preset(
        articulation=0.86, smile=0.2, frown=0.0, brow_up=0.0, squint=0.2, eye_wide=0.0,
        brow_accent=0.14, nod_deg=0.8, sway_deg=0.8, blink_period_s=4.8, gaze=0.2,
    ),
}  # fmt: skip
"""The four presets; ``blink_period_s`` stays within the 2 to 6 s measured on people at rest and in talk."""


@dataclass(frozen=True, slots=True)
class PresetTrack:
    """Preset names and the times in seconds at which they start; the first starts at 0 and times rise."""

    names: tuple[str, ...]
    starts_s: tuple[float, ...]

    @classmethod
    def parse(cls, given: PresetLike) -> PresetTrack:
        """Read one name, "neutral,excited@3.5,calm@8", or pairs (name, start_s).

        Raises:
            UnknownPresetError: an unknown name; a missing, negative, repeated or falling time.
        """
        if isinstance(given, PresetTrack):
            return given
        if isinstance(given, str):
            pairs = [_parse_one(part, index) for index, part in enumerate(given.split(","))]
        else:
            pairs = [(str(name), float(start_s)) for name, start_s in given]
        if not pairs:
            raise UnknownPresetError(f"The preset sequence is empty; give one of {', '.join(PRESETS)}.")
        for name, start_s in pairs:
            if name not in PRESETS:
                raise UnknownPresetError(f"Unknown preset {name!r}; vortex has {', '.join(PRESETS)}.")
            if not np.isfinite(start_s) or start_s < 0:
                raise UnknownPresetError(f"Preset {name!r} starts at {start_s} s; give a time from 0 on.")
        times = [start_s for _, start_s in pairs]
        if times[0] != 0 or any(later <= earlier for earlier, later in pairwise(times)):
            raise UnknownPresetError(
                f"Preset times are {', '.join(f'{t:g}' for t in times)} s; the first must be 0 and they must "
                "rise, such as neutral,excited@3.5,calm@8."
            )
        return cls(tuple(name for name, _ in pairs), tuple(times))

    def __str__(self) -> str:
        """Return the text that :meth:`parse` reads."""
        first, *rest = zip(self.names, self.starts_s, strict=True)
        return ",".join([first[0], *(f"{name}@{start_s:.12g}" for name, start_s in rest)])


PresetLike: TypeAlias = str | Sequence[tuple[str, float]] | PresetTrack


def _parse_one(part: str, index: int) -> tuple[str, float]:
    match = re.fullmatch(r"\s*([^@\s]+)\s*(?:@\s*([0-9]*\.?[0-9]+)\s*)?", part)
    if match is None or (index > 0 and match[2] is None):
        raise UnknownPresetError(
            f"Cannot read preset {part!r}; write a name, or a sequence such as neutral,excited@3.5,calm@8."
        )
    return match[1], float(match[2] or 0)


def preset_weights(starts_s: Sequence[float], frames: int, fps: Fraction, first: int = 0) -> F32:
    """Return (T, P) float32, rows sum to 1: how much of each preset of a sequence shows in each frame.

    Neighbours cross-fade by smoothstep, 3u² - 2u³, over TRANSITION_S, or the shorter of the two presets.
    The rows are those of ``frames`` frames from frame ``first`` on.
    """
    time_s = (np.arange(first, first + frames) + 0.5) / float(fps)
    reached = np.ones((frames, len(starts_s) + 1))
    reached[:, -1] = 0
    edges = zip(starts_s, starts_s[1:], [*starts_s[2:], np.inf], strict=False)
    for index, (before, now, after) in enumerate(edges, 1):
        span = min(TRANSITION_S, now - before, after - now)
        reached[:, index] = smoothstep((time_s - now) / span + 0.5, dtype=np.float64)
    return (reached[:, :-1] - reached[:, 1:]).astype(np.float32)


def blend_presets(track: PresetTrack, frames: int, fps: Fraction, first: int = 0) -> dict[str, F32]:
    """Return each field of :class:`Preset` as a curve (T,) float32: ``frames`` frames from ``first`` on."""
    weights = preset_weights(track.starts_s, frames, fps, first)
    names = [field.name for field in fields(Preset)]
    table = np.array([[getattr(PRESETS[p], name) for name in names] for p in track.names], np.float32)
    return dict(zip(names, (weights @ table).T, strict=True))
