"""The built-in example: a portrait and a voice that need no download."""

from __future__ import annotations

from pathlib import Path

from vortex.errors import MissingExtraError
from vortex.runtime.files import package_file

DEMO_SPEECH = Path(__file__).parent / "data" / "demo_speech.flac"
"""A sentence of CMU ARCTIC, 3 s; its words are in the .txt file with the same name."""


def demo_portrait() -> Path:
    """Return the photo of Grace Hopper that matplotlib ships, in the public domain (US Navy, 1984).

    Raises:
        MissingExtraError: matplotlib or its sample data are missing.
    """
    path = package_file("matplotlib", "mpl-data/sample_data/grace_hopper.jpg")
    if path is None:
        raise MissingExtraError("The demo portrait is missing. Run: pip install --force-reinstall matplotlib")
    return path
