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
        raise MissingExtraError("The motion joyvasa needs torch. Run: pip install 'vortex-portrait[neural]'")
    require_weights("joyvasa")


AUDIO_MOTIONS: tuple[AudioMotionSpec, ...] = (
    AudioMotionSpec("joyvasa", _load_joyvasa, check_joyvasa, 1200 << 20),
)


def find_audio_motion(name: str) -> AudioMotionSpec | None:
    """Return the model called ``name``, None for :data:`VISEMES`; InputError if there is none."""
    if name == VISEMES:
        return None
    for spec in AUDIO_MOTIONS:
        if spec.name == name:
            return spec
    known = ", ".join([VISEMES, *(spec.name for spec in AUDIO_MOTIONS)])
    raise InputError(f"Unknown motion {name!r}; vortex has {known}.")
