"""Expression presets: characters as numbers, their strength, and timed sequences with cross-fades."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from vortex.errors import UnknownPresetError
from vortex.interpolation import smoothstep
from vortex.types import F32, read_only

TRANSITION_S = 0.8
"""Length of the cross-fade between two presets of a sequence, centred on its time."""


def _within(least: float, most: float) -> Any:
    """Return a field of :class:`Preset` whose values, at any strength, are cut to these limits."""
    return field(metadata={"limits": (least, most)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One character: what a face holds, how far it moves, how often, and how fast.

    Args:
        articulation: scales mouth openings.
        smile, frown, brow_up, squint, eye_wide: held, as amounts of blendshapes.
        brow_down, brow_inner: brows that are held together and low, and inner ends that are held high.
        smile_burst, smile_chance: a further smile, and how many phrases end with one.
        brow_accent, brow_chance: how far brows rise, and on what share of stressed syllables.
        brow_slow: scales the time that brows take.
        asymmetry: how unequally brows rise; from 1 on, one of them is lowered.
        nod_deg, nod_chance: pitch of a nod, and its share of stressed syllables.
        sway_deg: standard deviation of the yaw of sway while speaking.
        pace: scales the frequencies of sway and the speed of nods.
        posture_deg, posture_s: yaw of postures (standard deviation), and the time that a change takes.
        lean_deg: pitch that is held; positive leans forward.
        breath_deg: pitch of a calm breath.
        glance_chance, glance_deg: share of fixations away from the camera, and how far away.
        gaze_pace: scales how often the eyes move.
        blink_period_s: mean time between blinks while speaking.
        blink_slow: scales the time that a blink takes.
    """

    articulation: float = _within(0.5, 1.6)
    smile: float = _within(0, 1)
    frown: float = _within(0, 1)
    brow_up: float = _within(0, 1)
    squint: float = _within(0, 1)
    eye_wide: float = _within(0, 1)
    brow_down: float = _within(0, 1)
    brow_inner: float = _within(0, 1)
    smile_burst: float = _within(0, 0.8)
    smile_chance: float = _within(0, 1)
    brow_accent: float = _within(0, 2)
    brow_chance: float = _within(0, 1)
    brow_slow: float = _within(0.4, 2.5)
    asymmetry: float = _within(0, 1.6)
    nod_deg: float = _within(0, 10)
    nod_chance: float = _within(0, 1)
    sway_deg: float = _within(0, 5)
    pace: float = _within(0.4, 2.2)
    posture_deg: float = _within(0, 5)
    posture_s: float = _within(0.25, 2)
    lean_deg: float = _within(-4, 4)
    breath_deg: float = _within(0, 1.5)
    glance_chance: float = _within(0, 0.6)
    glance_deg: float = _within(0, 24)
    gaze_pace: float = _within(0.4, 2.5)
    blink_period_s: float = _within(1.6, 8)
    blink_slow: float = _within(0.7, 2)

    def at_strength(self, strength: float) -> Preset:
        """Return neutral's numbers at 0, these at 1, and what lies on the line through both else."""
        values = {}
        for entry in fields(Preset):
            plain, own = getattr(PRESETS[PLAIN], entry.name), getattr(self, entry.name)
            least, most = entry.metadata["limits"]
            values[entry.name] = min(max((1 - strength) * plain + strength * own, least), most)
        return Preset(**values)


PRESETS: Mapping[str, Preset] = {
    # A newsreader: eyes on the camera, nods on stressed syllables, a steady face.
    "neutral": Preset(
        articulation=1.0, smile=0.08, frown=0.0, brow_up=0.0, squint=0.0, eye_wide=0.0, brow_down=0.0,
        brow_inner=0.0,
        smile_burst=0.12, smile_chance=0.3, brow_accent=0.75, brow_chance=0.5, brow_slow=1.0, asymmetry=0.2,
        nod_deg=4.4, nod_chance=0.75, sway_deg=1.6, pace=1.0, posture_deg=1.3, posture_s=0.8, lean_deg=0.0,
        breath_deg=0.4, glance_chance=0.16, glance_deg=11.0, gaze_pace=1.0, blink_period_s=3.2,
        blink_slow=1.0,
    ),
    # Quick brow flashes, many nods, leaning forward, a smile that reaches the eyes.
    "excited": Preset(
        articulation=1.32, smile=0.5, frown=0.0, brow_up=0.2, squint=0.1, eye_wide=0.25, brow_down=0.0,
        brow_inner=0.0,
        smile_burst=0.3, smile_chance=0.7, brow_accent=1.2, brow_chance=0.75, brow_slow=0.65, asymmetry=0.15,
        nod_deg=6.4, nod_chance=0.95, sway_deg=2.0, pace=1.25, posture_deg=2.1, posture_s=0.55, lean_deg=1.5,
        breath_deg=0.55, glance_chance=0.2, glance_deg=12.0, gaze_pace=1.3, blink_period_s=2.7,
        blink_slow=0.9,
    ),
    # Wide eyes that dart, one brow higher, jerky shifts of the head, few blinks, all at full reach.
    "manic": Preset(
        articulation=1.45, smile=0.85, frown=0.0, brow_up=0.45, squint=0.0, eye_wide=0.75, brow_down=0.0,
        brow_inner=0.0,
        smile_burst=0.15, smile_chance=0.5, brow_accent=1.2, brow_chance=0.65, brow_slow=0.8, asymmetry=0.9,
        nod_deg=6.4, nod_chance=0.65, sway_deg=2.6, pace=1.6, posture_deg=3.4, posture_s=0.3, lean_deg=0.8,
        breath_deg=0.6, glance_chance=0.34, glance_deg=14.0, gaze_pace=2.0, blink_period_s=4.6,
        blink_slow=0.8,
    ),
    # Slow and still: eyes that stay, long blinks, a small smile, few nods, deep breath.
    "calm": Preset(
        articulation=0.86, smile=0.2, frown=0.0, brow_up=0.0, squint=0.2, eye_wide=0.0, brow_down=0.0,
        brow_inner=0.0,
        smile_burst=0.12, smile_chance=0.4, brow_accent=0.5, brow_chance=0.2, brow_slow=1.6, asymmetry=0.15,
        nod_deg=2.2, nod_chance=0.4, sway_deg=1.2, pace=0.6, posture_deg=1.2, posture_s=1.4, lean_deg=0.0,
        breath_deg=0.6, glance_chance=0.06, glance_deg=8.0, gaze_pace=0.6, blink_period_s=3.8, blink_slow=1.5,
    ),
    # A newsreader with bad news: brows a little low, no smile, few and small gestures, eyes that stay.
    "serious": Preset(
        articulation=1.0, smile=0.0, frown=0.08, brow_up=0.0, squint=0.08, eye_wide=0.0, brow_down=0.3,
        brow_inner=0.0,
        smile_burst=0.0, smile_chance=0.0, brow_accent=0.45, brow_chance=0.3, brow_slow=1.2, asymmetry=0.15,
        nod_deg=3.6, nod_chance=0.6, sway_deg=1.2, pace=0.85, posture_deg=1.0, posture_s=1.0, lean_deg=0.6,
        breath_deg=0.4, glance_chance=0.08, glance_deg=9.0, gaze_pace=0.8, blink_period_s=3.8, blink_slow=1.1,
    ),
    # A smile that raises the cheeks and grows at the ends of phrases, light brows, easy nods.
    "happy": Preset(
        articulation=1.15, smile=0.6, frown=0.0, brow_up=0.12, squint=0.05, eye_wide=0.0, brow_down=0.0,
        brow_inner=0.0,
        smile_burst=0.3, smile_chance=0.85, brow_accent=0.9, brow_chance=0.6, brow_slow=0.9, asymmetry=0.2,
        nod_deg=4.8, nod_chance=0.8, sway_deg=1.9, pace=1.1, posture_deg=1.8, posture_s=0.7, lean_deg=0.5,
        breath_deg=0.45, glance_chance=0.15, glance_deg=11.0, gaze_pace=1.1, blink_period_s=3.0,
        blink_slow=1.0,
    ),
    # Inner ends of the brows high, corners of the mouth and head low, slow, eyes that often look away.
    "sad": Preset(
        articulation=0.85, smile=0.0, frown=0.35, brow_up=0.0, squint=0.1, eye_wide=0.0, brow_down=0.0,
        brow_inner=0.65,
        smile_burst=0.0, smile_chance=0.0, brow_accent=0.5, brow_chance=0.25, brow_slow=1.7, asymmetry=0.15,
        nod_deg=2.4, nod_chance=0.35, sway_deg=1.1, pace=0.6, posture_deg=1.4, posture_s=1.4, lean_deg=2.4,
        breath_deg=0.7, glance_chance=0.3, glance_deg=10.0, gaze_pace=0.7, blink_period_s=3.0, blink_slow=1.5,
    ),
    # Brows low and together, narrow eyes that do not leave the camera, hard nods, the head thrust forward.
    "angry": Preset(
        articulation=1.25, smile=0.0, frown=0.25, brow_up=0.0, squint=0.35, eye_wide=0.1, brow_down=0.85,
        brow_inner=0.0,
        smile_burst=0.0, smile_chance=0.0, brow_accent=0.4, brow_chance=0.3, brow_slow=0.7, asymmetry=0.3,
        nod_deg=6.8, nod_chance=0.9, sway_deg=1.5, pace=1.3, posture_deg=1.8, posture_s=0.4, lean_deg=2.0,
        breath_deg=0.6, glance_chance=0.04, glance_deg=9.0, gaze_pace=0.8, blink_period_s=4.6, blink_slow=0.9,
    ),
}  # fmt: skip
"""The presets. Each differs in what it does and how fast, not only in how much."""
PLAIN = "neutral"
"""The preset that strength 0 of every preset is equal to."""
MAX_STRENGTH = 2.0


@dataclass(frozen=True, slots=True)
class PresetTrack:
    """Preset names, the times in seconds at which they start, and their strengths, 1 if none are given.

    The first starts at 0, and times rise.
    """

    names: tuple[str, ...]
    starts_s: tuple[float, ...]
    strengths: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Fill in the strengths."""
        if not self.strengths:
            object.__setattr__(self, "strengths", (1.0,) * len(self.names))

    @classmethod
    def parse(cls, given: PresetLike) -> PresetTrack:
        """Read one name, "neutral,excited:1.5@3.5,calm@8", or pairs such as ("excited:1.5", 3.5).

        Raises:
            UnknownPresetError: an unknown name; a missing, negative, repeated or falling time; a strength
                outside 0 to 2.
        """
        if isinstance(given, PresetTrack):
            return given
        if isinstance(given, str):
            texts = [_split_time(part, index) for index, part in enumerate(given.split(","))]
        else:
            texts = [(str(name), float(start_s)) for name, start_s in given]
        if not texts:
            raise UnknownPresetError(f"The preset sequence is empty; give one of {', '.join(PRESETS)}.")
        entries = [(*_split_strength(text), start_s) for text, start_s in texts]
        for name, strength, start_s in entries:
            if name not in PRESETS:
                raise UnknownPresetError(f"Unknown preset {name!r}; vortex has {', '.join(PRESETS)}.")
            if not 0 <= strength <= MAX_STRENGTH:
                raise UnknownPresetError(
                    f"Preset {name!r} has strength {strength:g}; give 0 (as neutral) to {MAX_STRENGTH:g}."
                )
            if not np.isfinite(start_s) or start_s < 0:
                raise UnknownPresetError(f"Preset {name!r} starts at {start_s} s; give a time from 0 on.")
        names, strengths, times = zip(*entries, strict=True)
        if times[0] != 0 or any(later <= earlier for earlier, later in pairwise(times)):
            raise UnknownPresetError(
                f"Preset times are {', '.join(f'{t:g}' for t in times)} s; the first must be 0 and they must "
                "rise, such as neutral,excited@3.5,calm@8."
            )
        return cls(names, times, strengths)

    def __str__(self) -> str:
        """Return the text that :meth:`parse` reads."""
        texts = [
            name + (f":{strength:.12g}" if strength != 1 else "") + (f"@{start_s:.12g}" if start_s else "")
            for name, strength, start_s in zip(self.names, self.strengths, self.starts_s, strict=True)
        ]
        return ",".join(texts)


PresetLike: TypeAlias = str | Sequence[tuple[str, float]] | PresetTrack

_NUMBER = r"[0-9]*\.?[0-9]+"


def _split_time(part: str, index: int) -> tuple[str, float]:
    match = re.fullmatch(rf"\s*([^@\s]+(?:\s*:\s*[^@\s]+)?)\s*(?:@\s*({_NUMBER})\s*)?", part)
    if match is None or (index > 0 and match[2] is None):
        raise UnknownPresetError(
            f"Cannot read preset {part!r}; write a name, or a sequence such as neutral,excited@3.5,calm@8."
        )
    return match[1], float(match[2] or 0)


def _split_strength(text: str) -> tuple[str, float]:
    name, colon, strength = (part.strip() for part in text.partition(":"))
    if colon and not re.fullmatch(_NUMBER, strength):
        raise UnknownPresetError(
            f"Cannot read the strength of preset {text!r}; write a number from 0 (as neutral) to "
            f"{MAX_STRENGTH:g} after the colon, such as excited:1.5."
        )
    return name, float(strength) if colon else 1.0


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
    blended = np.zeros((frames, len(fields(Preset))), np.float32)
    # Not a matrix product: its rounding depends on how many frames are asked for together.
    for weight, name, strength in zip(weights.T, track.names, track.strengths, strict=True):
        blended += weight[:, None] * _numbers(name, strength)
    return dict(zip((entry.name for entry in fields(Preset)), blended.T, strict=True))


@lru_cache(256)
def _numbers(name: str, strength: float) -> F32:
    """Return the numbers of a preset at a strength, in the order of their fields."""
    return read_only(list(astuple(PRESETS[name].at_strength(strength))), np.float32)
