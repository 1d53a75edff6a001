"""Vortex: a portrait and a voice go in, a lip-synced talking video comes out.

Importing this package is cheap; torch, OpenCV and MediaPipe load when a function that needs them is called.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vortex.version import __version__

if TYPE_CHECKING:
    from vortex.engines.base import Engine, load_engine
    from vortex.engines.liveportrait import LivePortraitModel, load_liveportrait
    from vortex.errors import VortexError
    from vortex.lipsync.recognize import audio_to_visemes
    from vortex.lipsync.visemes import phoneme_to_viseme, smooth_viseme_sequence
    from vortex.live import LiveFace, LiveFrame, LiveTalk, open_live_face
    from vortex.pipeline import animate_file
    from vortex.types import Audio, MotionTrack, PhonemeSpan, Portrait, RenderReport, VisemeTrack
    from vortex.weights import fetch_weights

_HOME = {
    "Audio": "vortex.types",
    "Engine": "vortex.engines.base",
    "LiveFace": "vortex.live",
    "LiveFrame": "vortex.live",
    "LivePortraitModel": "vortex.engines.liveportrait",
    "LiveTalk": "vortex.live",
    "MotionTrack": "vortex.types",
    "PhonemeSpan": "vortex.types",
    "Portrait": "vortex.types",
    "RenderReport": "vortex.types",
    "VisemeTrack": "vortex.types",
    "VortexError": "vortex.errors",
    "animate_file": "vortex.pipeline",
    "audio_to_visemes": "vortex.lipsync.recognize",
    "fetch_weights": "vortex.weights",
    "load_engine": "vortex.engines.base",
    "load_liveportrait": "vortex.engines.liveportrait",
    "open_live_face": "vortex.live",
    "phoneme_to_viseme": "vortex.lipsync.visemes",
    "smooth_viseme_sequence": "vortex.lipsync.visemes",
}

__all__ = [
    "Audio",
    "Engine",
    "LiveFace",
    "LiveFrame",
    "LivePortraitModel",
    "LiveTalk",
    "MotionTrack",
    "PhonemeSpan",
    "Portrait",
    "RenderReport",
    "VisemeTrack",
    "VortexError",
    "__version__",
    "animate_file",
    "audio_to_visemes",
    "fetch_weights",
    "load_engine",
    "load_liveportrait",
    "open_live_face",
    "phoneme_to_viseme",
    "smooth_viseme_sequence",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'vortex' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)
