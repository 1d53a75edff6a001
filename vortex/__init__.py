"""Vortex: a portrait and a voice go in, a lip-synced talking video comes out.

Functions: animate, drive, capture, speak, say, generate, check, open_live_face, load_portrait, read_jobs,
run_batch, list_voices, fetch_weights. A Session keeps engines, speech models and portraits loaded between
calls. Errors are subclasses of VortexError.

    import vortex

    report = vortex.animate("portrait.jpg", "speech.wav", "talking.mp4", preset="excited", seed=7)

Importing this package is cheap: torch, OpenCV and MediaPipe load when a function first needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vortex.version import __version__

if TYPE_CHECKING:
    from vortex import errors
    from vortex.api import animate, capture, check, drive, generate, open_live_face, say, speak
    from vortex.batch.jobs import read_jobs
    from vortex.batch.run import run_batch
    from vortex.driving import CaptureReport
    from vortex.engines.base import Engine, EngineSpec
    from vortex.engines.liveportrait import LivePortraitModel, load_liveportrait
    from vortex.engines.registry import load_engine
    from vortex.errors import VortexError
    from vortex.face.listing import FoundFace, list_faces
    from vortex.face.portrait import load_portrait
    from vortex.generate.request import GenerateReport
    from vortex.lipsync.recognize import audio_to_visemes
    from vortex.lipsync.sync import SyncReport
    from vortex.lipsync.visemes import phoneme_to_viseme, smooth_viseme_sequence
    from vortex.live import LiveFace, LiveFrame, LiveTalk
    from vortex.session import Session
    from vortex.speech.base import Speech
    from vortex.speech.registry import list_voices
    from vortex.types import (
        Audio,
        KeypointTrack,
        MotionTrack,
        PhonemeSpan,
        Portrait,
        RenderReport,
        VisemeTrack,
    )
    from vortex.weights.fetch import fetch_weights

_MODULES = {
    "vortex.api": ("animate", "capture", "check", "drive", "generate", "open_live_face", "say", "speak"),
    "vortex.batch.jobs": ("read_jobs",),
    "vortex.batch.run": ("run_batch",),
    "vortex.driving": ("CaptureReport",),
    "vortex.engines.base": ("Engine", "EngineSpec"),
    "vortex.engines.liveportrait": ("LivePortraitModel", "load_liveportrait"),
    "vortex.engines.registry": ("load_engine",),
    "vortex.errors": ("VortexError",),
    "vortex.face.listing": ("FoundFace", "list_faces"),
    "vortex.face.portrait": ("load_portrait",),
    "vortex.generate.request": ("GenerateReport",),
    "vortex.lipsync.recognize": ("audio_to_visemes",),
    "vortex.lipsync.sync": ("SyncReport",),
    "vortex.lipsync.visemes": ("phoneme_to_viseme", "smooth_viseme_sequence"),
    "vortex.live": ("LiveFace", "LiveFrame", "LiveTalk"),
    "vortex.session": ("Session",),
    "vortex.speech.base": ("Speech",),
    "vortex.speech.registry": ("list_voices",),
    "vortex.types": (
        "Audio",
        "KeypointTrack",
        "MotionTrack",
        "PhonemeSpan",
        "Portrait",
        "RenderReport",
        "VisemeTrack",
    ),
    "vortex.weights.fetch": ("fetch_weights",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Audio",
    "CaptureReport",
    "Engine",
    "EngineSpec",
    "FoundFace",
    "GenerateReport",
    "KeypointTrack",
    "LiveFace",
    "LiveFrame",
    "LivePortraitModel",
    "LiveTalk",
    "MotionTrack",
    "PhonemeSpan",
    "Portrait",
    "RenderReport",
    "Session",
    "Speech",
    "SyncReport",
    "VisemeTrack",
    "VortexError",
    "__version__",
    "animate",
    "audio_to_visemes",
    "capture",
    "check",
    "drive",
    "errors",
    "fetch_weights",
    "generate",
    "list_faces",
    "list_voices",
    "load_engine",
    "load_liveportrait",
    "load_portrait",
    "open_live_face",
    "phoneme_to_viseme",
    "read_jobs",
    "run_batch",
    "say",
    "smooth_viseme_sequence",
    "speak",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name == "errors":
        return importlib.import_module("vortex.errors")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'vortex' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)
