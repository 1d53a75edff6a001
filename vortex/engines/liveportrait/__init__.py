"""The neural engine: LivePortrait's published networks, driven by speech. Torch is imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from vortex.errors import MissingExtraError

if TYPE_CHECKING:
    from vortex.engines.liveportrait.engine import LivePortraitEngine, load_liveportrait_engine
    from vortex.engines.liveportrait.model import LivePortraitModel, load_liveportrait

_MODULES = {
    "LivePortraitEngine": "engine",
    "LivePortraitModel": "model",
    "load_liveportrait": "model",
    "load_liveportrait_engine": "engine",
}

__all__ = ["LivePortraitEngine", "LivePortraitModel", "load_liveportrait", "load_liveportrait_engine"]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562); MissingExtraError if torch is not installed."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as exc:
        if exc.name != "torch":
            raise
        raise MissingExtraError(
            "The liveportrait engine needs torch. Run: pip install 'vortex-portrait[neural]'"
        ) from exc
