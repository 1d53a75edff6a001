"""The table of speech engines."""

from __future__ import annotations

from functools import partial

from vortex.errors import InputError
from vortex.speech.base import SpeechEngine, SpeechEngineSpec, Voice


def _load(name: str) -> SpeechEngine:
    from vortex.speech.kokoro import Kokoro

    return Kokoro(name)


def _list_voices(name: str) -> tuple[Voice, ...]:
    from vortex.speech.kokoro import list_kokoro_voices

    return list_kokoro_voices(name)


SPEECH_ENGINES: tuple[SpeechEngineSpec, ...] = tuple(
    SpeechEngineSpec(name, partial(_load, name), partial(_list_voices, name), memory_bytes)
    for name, memory_bytes in (("kokoro", 1100 << 20), ("kokoro-fp32", 1700 << 20))
)


def find_speech_engine(name: str) -> SpeechEngineSpec:
    """Return the speech engine called ``name``; InputError if there is none."""
    for spec in SPEECH_ENGINES:
        if spec.name == name:
            return spec
    known = " and ".join(spec.name for spec in SPEECH_ENGINES)
    raise InputError(f"Unknown speech engine {name!r}; vortex has {known}.")


def list_voices(speech_engine: str = "kokoro") -> tuple[Voice, ...]:
    """Return the voices of a speech engine without loading its model; InputError: no such speech engine.

    WeightsMissingError, WeightsCorruptError: kokoro-fp32 was not fetched, or is not as published.
    """
    return find_speech_engine(speech_engine).list_voices()
