"""Our networks as the published program runs them, for a comparison with its stored outputs.

Windows do not overlap, and the last one is filled up with zeros.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from vortex.audio_motion.joyvasa.diffusion import sample_window, step_weights
from vortex.audio_motion.joyvasa.load import MotionStatistics, load_networks, load_statistics
from vortex.audio_motion.joyvasa.networks import FRAME_SAMPLES, JoyVasaNetworks, mirror_ends
from vortex.types import F32

Context = tuple[Tensor, Tensor] | None


class Published:
    """One method for each stored output; arrays are float32 and have no batch axis."""

    def __init__(self, networks: JoyVasaNetworks, statistics: MotionStatistics) -> None:
        self.networks, self.statistics = networks, statistics

    def pad_window(self, wave: F32) -> F32:
        return mirror_ends(tensor(wave)[None])[0].numpy()

    def hubert_taps(self, wave: F32) -> dict[str, F32]:
        hubert = self.networks.audio_encoder
        taps = {"conv": hubert.feature_extractor(mirror_ends(tensor(wave)[None]))}
        taps["proj"] = x = hubert.feature_projection(taps["conv"])
        taps["enc_in"] = x = hubert.encoder.layer_norm(x + hubert.encoder.pos_conv_embed(x))
        for index, layer in enumerate(hubert.encoder.layers):
            x = layer(x)
            if index in (0, 5):
                taps[f"layer{index}"] = x
        taps["last"] = x
        return {name: value[0].numpy() for name, value in taps.items()}

    def audio_features(self, wave: F32) -> F32:
        return self.networks.tokens(tensor(wave)[None])[0].numpy()

    def schedule(self) -> dict[str, F32]:
        betas = cast(Tensor, self.networks.betas).numpy()
        return {"betas": betas, "sigmas": step_weights(self.networks)[:, 2].astype(np.float32)}

    def step_embedding(self, step: int) -> F32:
        return self.networks.denoising_net.step_embedding(step).numpy()

    def position_rows(self) -> F32:
        sizes = self.networks.sizes
        return self.networks.denoising_net.positions().expand(sizes.rows, sizes.width).numpy()

    def ddpm_step(self, x: F32, step: int, clean: F32, z: F32) -> F32:
        weights = step_weights(self.networks)[step]
        return weights[0] * x + weights[1] * clean + weights[2] * z

    def denoise(self, x: F32, step: int, audio: F32 | None, motion: F32 | None, before: F32 | None) -> F32:
        net = self.networks
        tokens = net.null_audio_feat[0].expand(len(x), -1) if audio is None else tensor(audio)
        motion_before = net.start_motion_feat[0] if motion is None else tensor(motion)
        tokens_before = net.start_audio_feat[0] if before is None else tensor(before)
        heard = net.denoising_net.hear(torch.cat([tokens_before, tokens])[None])
        return net.denoising_net(torch.cat([motion_before, tensor(x)])[None], step, heard)[0].numpy()

    def sample(
        self, audio: F32, start: F32, z: F32, scale: float, motion: F32 | None, before: F32 | None
    ) -> F32:
        context = None if motion is None or before is None else (tensor(motion), tensor(before))
        return self._sample(tensor(audio), start, z, scale, context).numpy()

    def _sample(self, tokens: Tensor, start: F32, z: F32, scale: float, context: Context) -> Tensor:
        noise = np.concatenate([start[None], z[: self.networks.sizes.steps : -1], z[-1:1:-1]])
        return sample_window(self.networks, tokens, tensor(noise), guidance=scale, context=context)

    def generate(self, wave: F32, start: F32, z: F32, scale: float, pad: tuple[int, int]) -> F32:
        sizes = self.networks.sizes
        wave = np.pad(wave, pad)
        frames, window = len(wave) // FRAME_SAMPLES, sizes.window_frames
        count = max(-(-frames // window), 1)
        wave = np.pad(wave, (0, max(count * window * FRAME_SAMPLES - len(wave), 0)))
        parts: list[Tensor] = []
        context: Context = None
        for index in range(count):
            first = index * window * FRAME_SAMPLES
            tokens = self.networks.tokens(tensor(wave[first : first + window * FRAME_SAMPLES])[None])[0]
            parts.append(self._sample(tokens, start, z[index], scale, context))
            context = parts[-1][-sizes.context_frames :], tokens[-sizes.context_frames :]
        return torch.cat(parts)[:frames].numpy()

    def denormalise(self, motion: F32) -> dict[str, F32]:
        exp, pose = self.statistics.denormalise(motion)
        columns = {"scale": pose[:, :1], "t": pose[:, 1:4], "pitch": pose[:, 4:5]}
        return {"exp": exp.reshape(-1, 21, 3), **columns, "yaw": pose[:, 5:6], "roll": pose[:, 6:7]}


def tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def factory(weights_dir: str, pe: str, device: str, dtype: torch.dtype) -> Published:
    folder = Path(weights_dir) / "JoyVASA"
    networks = load_networks(folder, ordered={"legacy": False, "fixed": True}[pe])
    return Published(networks.to(device, dtype), load_statistics(folder))
