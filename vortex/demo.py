"""The built-in example: a portrait and a voice that need no download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from vortex.errors import MissingExtraError

DEMO_SPEECH = Path(__file__).parent / "data" / "demo_speech.flac"
"""A sentence of CMU ARCTIC, 3 s; the words stand beside it in a .txt file."""


def demo_portrait() -> Path:
    """Return the photo of Grace Hopper that matplotlib ships, in the public domain (US Navy, 1984).

    Raises:
        MissingExtraError: matplotlib is not installed whole.
    """
    spec = importlib.util.find_spec("matplotlib")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"
        if path.is_file():
            return path
    raise MissingExtraError("The demo portrait is missing. Run: pip install --force-reinstall matplotlib")
