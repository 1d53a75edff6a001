"""The acoustic model: the same probabilities as hama's own engine."""

from __future__ import annotations

import numpy as np
import pytest
from support.paths import DEMO_SPEECH

from vortex.errors import EngineError
from vortex.lipsync import acoustic
from vortex.lipsync.acoustic import ACOUSTIC_HZ, AcousticModel
from vortex.media.audio import load_audio


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return load_audio(DEMO_SPEECH, ACOUSTIC_HZ).samples


def test_the_probabilities_are_those_of_hamas_engine(samples: np.ndarray) -> None:
    from hama.asr import ASRModel

    engine = ASRModel()
    feeds = {"waveform": samples[None], "waveform_lengths": np.array([len(samples)])}
    expected = np.exp(engine.session.run(["log_probs"], feeds)[0][0])
    model = AcousticModel()
    assert model.symbols == tuple(engine.decoder_tokens)
    found = model.emissions(samples)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 0.01
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()


def test_probabilities_sum_to_one_and_noise_is_finite() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 1_600).astype(np.float32)
    for sound in (noise, np.zeros(1_600, np.float32), np.ones(201, np.float32)):
        found = AcousticModel().emissions(sound)
        assert len(found) == len(sound) // 320 + 1
        assert found.sum(axis=1) == pytest.approx(1, abs=1e-4)


def test_another_network_is_refused_with_the_command_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acoustic, "_tensors", lambda packed: iter([("mel_fb", np.zeros(3))]))
    with pytest.raises(EngineError, match="Run: pip install"):
        AcousticModel()
