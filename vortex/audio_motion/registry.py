"""The table of models that turn a voice into motion, and the name of the way without one."""

from __future__ import annotations

import importlib.util

from vortex.audio_motion.base import AudioMotionSpec, AudioToMotion
from vortex.errors import InputError, MissingExtraError
from vortex.weights.cache import require_weights

VISEMES = "visemes"
"""Stands for no model: recognised phonemes and :mod:`vortex.motion` move the face."""


def _load_joyvasa(device: str) -> AudioToMotion:
    check_joyvasa()
    from vortex.audio_motion.joyvasa.model import load_joyvasa

    return load_joyvasa(require_weights("joyvasa"), device=device)


def check_joyvasa() -> None:
    """Raise MissingExtraError without torch, WeightsMissingError without the weights."""
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError(
            "audio_motion joyvasa needs torch. Run: pip install 'vortex-portrait[neural]'"
        )
    require_weights("joyvasa")


AUDIO_MOTIONS: tuple[AudioMotionSpec, ...] = (
    AudioMotionSpec("joyvasa", _load_joyvasa, check_joyvasa, 1200 << 20),
)


AUDIO_MOTION_NAMES: tuple[str, ...] = (VISEMES, *(spec.name for spec in AUDIO_MOTIONS))
"""Values of the option ``audio_motion``."""


def check_audio_motion(name: str) -> str:
    """Return ``name``; InputError if it is not one of :data:`AUDIO_MOTION_NAMES`."""
    if name not in AUDIO_MOTION_NAMES:
        known = ", ".join(AUDIO_MOTION_NAMES)
        raise InputError(f"Unknown audio_motion {str(name)[:40]!r}; vortex has {known}.")
    return name


def find_audio_motion(name: str) -> AudioMotionSpec | None:
    """Return the model called ``name``, None for :data:`VISEMES`; InputError if there is none."""
    check_audio_motion(name)
    return next((spec for spec in AUDIO_MOTIONS if spec.name == name), None)
