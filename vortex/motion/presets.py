"""Expression presets: four characters as numbers, and timed sequences that pass smoothly between them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vortex.errors import UnknownPresetError

F32 = npt.NDArray[np.float32]

TRANSITION_S = 0.8
"""Length of the cross-fade between two presets of a sequence, centred on its time."""


@dataclass(frozen=True, slots=True)
class Preset:
    """One character.

    ``articulation`` scales mouth openings; ``smile``, ``frown``, ``brow_up``, ``squint`` and ``eye_wide`` are
    held amounts in [0, 1]; ``brow_accent``, ``nod_deg`` and ``sway_deg`` are how far brows and head follow
    the speech and drift; ``blink_period_s`` is the mean time between blinks; ``gaze`` scales glances away.
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
    "neutral": Preset(1.0, 0.08, 0.0, 0.0, 0.0, 0.0, 0.3, 1.5, 1.3, 3.6, 0.35),
    "excited": Preset(1.16, 0.5, 0.0, 0.3, 0.1, 0.25, 0.55, 2.7, 2.2, 3.0, 0.5),
    "manic": Preset(1.3, 0.85, 0.0, 0.6, 0.0, 0.75, 0.8, 3.8, 3.2, 2.4, 0.9),
    "calm": Preset(0.86, 0.2, 0.0, 0.0, 0.2, 0.0, 0.14, 0.8, 0.8, 4.8, 0.2),
}
"""The four characters; ``blink_period_s`` stays within the 2 to 6 s of people at rest and in talk."""

PresetSequence = str | Sequence[tuple[str, float]]


def parse_presets(spec: PresetSequence) -> tuple[tuple[Preset, float], ...]:
    """Return presets with the time each one starts, in seconds, the first at 0.

    ``spec`` is a name; or names with times, "neutral,excited@3.5,calm@8"; or pairs (name, start_s).

    Raises:
        UnknownPresetError: an unknown name, a missing, negative, repeated or falling time.
    """
    if isinstance(spec, str):
        pairs = [_parse_one(part, index) for index, part in enumerate(spec.split(","))]
    else:
        pairs = [(str(name), float(start_s)) for name, start_s in spec]
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
    return tuple((PRESETS[name], start_s) for name, start_s in pairs)


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
    edges = [*starts_s, np.inf]
    reached = np.ones((frames, len(starts_s) + 1))
    reached[:, -1] = 0
    for index in range(1, len(starts_s)):
        span = min(TRANSITION_S, edges[index] - edges[index - 1], edges[index + 1] - edges[index])
        u = np.clip((time_s - edges[index]) / span + 0.5, 0, 1)
        reached[:, index] = u * u * (3 - 2 * u)
    return (reached[:, :-1] - reached[:, 1:]).astype(np.float32)


def blend_presets(
    sequence: Sequence[tuple[Preset, float]], frames: int, fps: Fraction, first: int = 0
) -> dict[str, F32]:
    """Return each number of :class:`Preset` as a curve (T,) float32 over the frames from ``first`` on."""
    weights = preset_weights([start_s for _, start_s in sequence], frames, fps, first)
    names = [field.name for field in fields(Preset)]
    table = np.array([[getattr(preset, name) for name in names] for preset, _ in sequence], np.float32)
    return dict(zip(names, (weights @ table).T, strict=True))
