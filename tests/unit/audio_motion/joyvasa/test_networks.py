"""The networks compute what a second implementation computes, and have the properties that follow from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support import joyvasa_numpy as oracle
from support.joyvasa_release import TOY, checkpoint_tensors
from torch import Tensor

from vortex.audio_motion.joyvasa.diffusion import sample_window, step_weights
from vortex.audio_motion.joyvasa.load import load_networks
from vortex.audio_motion.joyvasa.model import JoyVasa
from vortex.audio_motion.joyvasa.networks import FRAME_SAMPLES, JOYVASA_V1, JoyVasaNetworks
from vortex.types import F32, FloatArray

TOLERANCE = 1e-5
"""Relative L2 distance of float32 from float64."""
WEIGHTS = {
    name: value if value.dtype == bool else value.astype(np.float64)
    for name, value in checkpoint_tensors(TOY).items()
}
RNG = np.random.default_rng(3)
SOUND = (0.3 * RNG.standard_normal(TOY.window_frames * FRAME_SAMPLES)).astype(np.float32)
MOTION = RNG.standard_normal((TOY.rows, TOY.motion)).astype(np.float32)
TOKENS = RNG.standard_normal((TOY.rows, TOY.width)).astype(np.float32)
NOISE = RNG.standard_normal((TOY.steps, TOY.window_frames, TOY.motion)).astype(np.float32)


def assert_near(got: Tensor, expected: FloatArray) -> None:
    assert tuple(got.shape) == expected.shape
    assert np.linalg.norm(got.numpy() - expected) < TOLERANCE * np.linalg.norm(expected)


def denoised(networks: JoyVasaNetworks, motion: F32, tokens: F32, step: int) -> Tensor:
    network = networks.denoising_net
    return network(torch.from_numpy(motion)[None], step, network.hear(torch.from_numpy(tokens)[None]))[0]


def test_the_sound_becomes_the_tokens_of_the_second_implementation(model: JoyVasa) -> None:
    sizes = TOY.hubert
    expected = oracle.tokens(WEIGHTS, SOUND.astype(np.float64), sizes.heads, sizes.position_groups)
    assert_near(model.networks.tokens(torch.from_numpy(SOUND)[None])[0], expected)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("step", [1, TOY.steps])
def test_the_denoiser_agrees_with_the_second_implementation(release: Path, ordered: bool, step: int) -> None:
    networks = load_networks(release, TOY, ordered=ordered)
    expected = oracle.denoise(
        WEIGHTS, MOTION.astype(float), step, TOKENS.astype(float), TOY.heads, ordered=ordered
    )
    assert_near(denoised(networks, MOTION, TOKENS, step), expected)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 1.2, 2.0])
@pytest.mark.parametrize("first", [True, False])
def test_a_window_is_sampled_as_by_the_second_implementation(
    model: JoyVasa, guidance: float, first: bool
) -> None:
    before = MOTION[: TOY.context_frames], TOKENS[: TOY.context_frames]
    tokens = TOKENS[TOY.context_frames :]
    expected = oracle.sample(
        WEIGHTS,
        tokens.astype(float),
        None if first else (before[0].astype(float), before[1].astype(float)),
        NOISE.astype(float),
        guidance,
        TOY.heads,
    )
    context = None if first else (torch.from_numpy(before[0]), torch.from_numpy(before[1]))
    got = sample_window(
        model.networks,
        torch.from_numpy(tokens),
        torch.from_numpy(NOISE),
        guidance=guidance,
        context=context,
    )
    assert_near(got, expected)


def test_frames_that_are_not_numbered_can_be_shuffled(release: Path) -> None:
    order = np.random.default_rng(0).permutation(TOY.rows)
    for ordered in (False, True):
        networks = load_networks(release, TOY, ordered=ordered)
        straight, shuffled = (
            denoised(networks, MOTION[rows], TOKENS[rows], 3).numpy() for rows in (np.arange(TOY.rows), order)
        )
        assert np.allclose(straight[order], shuffled, atol=1e-4) is not ordered


def test_the_last_step_returns_the_clean_motion() -> None:
    with torch.device("meta"):
        networks = JoyVasaNetworks(JOYVASA_V1)
    steps = JOYVASA_V1.steps
    level = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
    networks.betas = torch.from_numpy(np.r_[0, np.clip(1 - level[1:] / level[:-1], 1e-4, 0.999)]).float()
    weights = step_weights(networks)
    assert weights[1] == pytest.approx([0, 1, 0], abs=1e-12)
    # published figures of the release's schedule: weights of x_t, of the clean motion, of the noise
    published = {2: (0.32123, 0.678769, 0.0344557), 25: (0.91016, 0.0849658, 0.236008)}
    published |= {49: (0.498786, 0.0467535, 0.864623), 50: (0.0315921, 0.0311328, 0.999015)}
    for step, row in published.items():
        assert weights[step] == pytest.approx(row, rel=2e-5)


def test_loudness_and_a_constant_offset_hardly_change_the_tokens(model: JoyVasa) -> None:
    plain, loud, shifted = (
        model.networks.tokens(torch.from_numpy(wave.astype(np.float32))[None])[0].numpy()
        for wave in (SOUND, 3 * SOUND, SOUND + 0.2)
    )
    other = model.networks.tokens(torch.from_numpy(SOUND[::-1].copy())[None])[0].numpy()
    size = np.linalg.norm(plain - other)
    assert np.linalg.norm(plain - loud) < 0.02 * size
    assert np.linalg.norm(plain - shifted) < 0.02 * size


def test_the_release_has_as_many_weights_as_published() -> None:
    with torch.device("meta"):
        networks = JoyVasaNetworks(JOYVASA_V1)
    hubert = sum(p.numel() for p in networks.audio_encoder.parameters())
    # 94,371,712 with the token that only training uses, and the gain of the position convolution
    assert hubert == 94_371_712 - 768 - 128
    folded = 8 * (4 * 256 * 256 + 4 * 256 - 256 * 256 - 256)
    assert sum(p.numel() for p in networks.denoising_net.parameters()) == 8_620_361 - folded
