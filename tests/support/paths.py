"""Folders of the checkout."""

from __future__ import annotations

from pathlib import Path

import vortex

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
DEMO_SPEECH = Path(vortex.__file__).parent / "data" / "demo_speech.flac"
