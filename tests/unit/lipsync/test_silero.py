"""The voice activity detector: the probabilities of the published network, block by block."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.paths import DATA, DEMO_SPEECH

from vortex.lipsync.silero import BLOCK_SAMPLES, SileroVad
from vortex.media.audio import load_audio

PUBLISHED = np.array(json.loads((DATA / "speech" / "silero_vad.json").read_text()))
"""What onnxruntime returns with the ONNX file of silero-vad 6.2.3, see scripts/pack_silero_vad.py."""


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    whole = load_audio(DEMO_SPEECH, 16_000).samples
    return whole[: len(whole) // BLOCK_SAMPLES * BLOCK_SAMPLES]


def test_the_probabilities_are_those_of_the_published_network(samples: np.ndarray) -> None:
    found = SileroVad().push(samples)
    assert found.shape == PUBLISHED.shape
    # The weights are rounded to half precision.
    assert np.abs(found - PUBLISHED).max() < 0.005


def test_blocks_may_arrive_one_by_one(samples: np.ndarray) -> None:
    detector, whole = SileroVad(), SileroVad().push(samples)
    parts = [detector.push(block) for block in samples.reshape(-1, BLOCK_SAMPLES)]
    assert np.concatenate(parts) == pytest.approx(whole, abs=1e-4)
    assert len(detector.push(samples[:0])) == 0
