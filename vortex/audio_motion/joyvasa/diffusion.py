"""From noise to motion: the denoising steps of one window, with guidance by its sound."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor

from vortex.audio_motion.joyvasa.networks import JoyVasaNetworks
from vortex.types import F64


def step_weights(networks: JoyVasaNetworks) -> F64:
    """Return (steps + 1, 3) float64: weights of x_t, of the clean motion, and of new noise in x_{t-1}.

    These are the mean and the deviation of the posterior of DDPM (Ho et al., 2020, equations 6 and 7). Row 0
    stands for no step.
    """
    beta = cast(Tensor, networks.betas).double().cpu().numpy()[1:]
    alpha = 1 - beta
    # From the betas alone: 1 - alpha_bar would magnify the rounding of the other stored constants.
    alpha_bar = np.cumprod(np.r_[1.0, alpha])
    rest = 1 - alpha_bar[1:]
    noisy = (1 - alpha_bar[:-1]) * np.sqrt(alpha) / rest
    clean = beta * np.sqrt(alpha_bar[:-1]) / rest
    deviation = np.sqrt(beta * (1 - alpha_bar[:-1]) / rest)
    return np.pad(np.stack([noisy, clean, deviation], axis=1), ((1, 0), (0, 0)))


def pass_tokens(networks: JoyVasaNetworks, tokens: Tensor, context: Tensor, guidance: float) -> Tensor:
    """Return tokens (B, P + F, 256) for each pass that ``guidance`` needs: without the sound, with it, both.

    ``tokens`` (F, 256) are those of the window, ``context`` (P, 256) those before it, which are never hidden.
    """
    silent = networks.null_audio_feat[0].expand_as(tokens)
    with_sound, without = torch.cat([context, tokens]), torch.cat([context, silent])
    if guidance in (0.0, 1.0):
        return (with_sound if guidance else without)[None]
    return torch.stack([without, with_sound])


def sample_window(
    networks: JoyVasaNetworks,
    tokens: Tensor,
    noise: Tensor,
    *,
    guidance: float,
    context: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Return the normalised motion of a window, (F, M).

    Args:
        networks: the model.
        tokens: (F, 256), the sound of the window.
        noise: (steps, F, M), normal: the start, then what is added after each step but the last.
        guidance: 0 ignores the sound, 1 follows it as learned, more exaggerates what it changes.
        context: motion (P, M) and tokens (P, 256) of the frames before; None: nothing was before.
    """
    sizes, network = networks.sizes, networks.denoising_net
    motion_before, tokens_before = context or (networks.start_motion_feat[0], networks.start_audio_feat[0])
    passes = pass_tokens(networks, tokens, tokens_before, guidance)
    heard, before = network.hear(passes), motion_before.expand(len(passes), -1, -1)
    weights = step_weights(networks)
    x = noise[0]
    for step in range(sizes.steps, 0, -1):
        rows = torch.cat([before, x.expand(len(passes), -1, -1)], dim=1)
        results = network(rows, step, heard)[:, sizes.context_frames :]
        clean = results[0] if len(passes) == 1 else torch.lerp(results[0], results[1], guidance)
        noisy_weight, clean_weight, sigma = map(float, weights[step])
        x = noisy_weight * x + clean_weight * clean
        if step > 1:
            x = x + sigma * noise[sizes.steps + 1 - step]
    return x
