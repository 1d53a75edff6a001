"""The words of the demo recording, and when each sound is spoken by the labels of CMU ARCTIC."""

from __future__ import annotations

import json

from support.paths import DATA, DEMO_SPEECH
from vortex.types import PhonemeSpan

TRANSCRIPT = DEMO_SPEECH.with_suffix(".txt").read_text()
LABELS = [
    PhonemeSpan(row["phone"], row["start_s"], row["end_s"])
    for row in json.loads((DATA / "speech" / "demo_speech.json").read_text())
]
CLOSURES_S = [(span.start_s + span.end_s) / 2 for span in LABELS if span.phoneme in ("P", "B", "M")]
"""Middles of the sounds whose lips meet."""
