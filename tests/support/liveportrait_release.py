"""A release of LivePortrait with seeded random weights, in the layout of the real files, at any size.

Each tensor is drawn from its own PCG64 generator of numpy, seeded by the tensor's name. The weights are thus
the same on every machine, and those behind ``tests/data/liveportrait/reference.npz`` need not be stored.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from vortex.engines.liveportrait.keypoints import transform_keypoints
from vortex.engines.liveportrait.load import rewrite_networks
from vortex.engines.liveportrait.networks import FILES, LIVEPORTRAIT_V1, NetworkSizes, load_networks
from vortex.types import Frame
from vortex.weights.cache import WEIGHTS, WeightsFile

SEED = 20261123
State = dict[str, Any]

TOY = NetworkSizes(
    input_px=32,
    feature_channels=4,
    feature_depth=2,
    appearance_channels=(4, 6, 8),
    appearance_blocks=1,
    motion_channels=(8, 8, 8, 8),
    motion_blocks=(1, 1, 1, 1),
    compressed_channels=1,
    hourglass_channels=(4, 6, 8),
    warped_channels=8,
    generator_channels=(8, 6, 4),
    generator_blocks=1,
    spade_hidden=4,
    stitching_hidden=(8,),
    lip_hidden=(8,),
    eye_hidden=(8,),
)
"""The true architecture, ten thousand times cheaper: a frame of 64 px takes milliseconds on a CPU."""


def generator(*key: object) -> np.random.Generator:
    """Return the generator of one tensor, seeded by ``key``."""
    digest = 0
    for letter in "/".join(map(str, key)):
        digest = (digest * 1000003 + ord(letter)) & 0xFFFFFFFF
    return np.random.Generator(np.random.PCG64([SEED, digest]))


def as_tensor(values: npt.ArrayLike) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


class Writer:
    """Fills the state dict of one network; the network's letter is part of every generator's key."""

    def __init__(self, letter: str, prefix: str = "") -> None:
        self.letter, self.prefix, self.state = letter, prefix, State()

    def conv(self, name: str, shape: tuple[int, ...], gain: float = 1.414, bias: float | None = 0.1) -> None:
        """Add a convolution or linear layer with weights of variance gain^2 / fan-in."""
        name = self.prefix + name
        rng = generator(self.letter, name)
        fan_in = int(np.prod(shape[1:]))
        self.state[name + ".weight"] = as_tensor(rng.standard_normal(shape) * (gain / np.sqrt(fan_in)))
        if bias is not None:
            self.state[name + ".bias"] = as_tensor(rng.standard_normal(shape[0]) * bias)

    def batch_norm(self, name: str, channels: int) -> None:
        """Add a batch norm with random statistics; a tenth of the gains are negative."""
        rng = generator(self.letter, name)
        gain = rng.uniform(0.7, 1.3, channels)
        self.state[name + ".weight"] = as_tensor(gain * np.where(rng.random(channels) < 0.1, -1, 1))
        self.state[name + ".bias"] = as_tensor(rng.standard_normal(channels) * 0.2)
        self.state[name + ".running_mean"] = as_tensor(rng.standard_normal(channels) * 0.3)
        self.state[name + ".running_var"] = as_tensor(rng.uniform(0.5, 2.0, channels))
        self.state[name + ".num_batches_tracked"] = torch.tensor(int(rng.integers(1000, 100000)))

    def layer_norm(self, name: str, channels: int) -> None:
        """Add a layer norm near the identity; its generator's key has no prefix."""
        rng = generator(self.letter, name)
        self.state[f"{self.prefix}{name}.weight"] = as_tensor(1 + 0.2 * rng.standard_normal(channels))
        self.state[f"{self.prefix}{name}.bias"] = as_tensor(0.02 * rng.standard_normal(channels))

    def spectral_conv(self, name: str, shape: tuple[int, ...], bias: bool = True) -> None:
        """Add a spectral-normalized convolution with unconverged u and v, as training leaves them."""
        rng = generator(self.letter, name)
        weight = np.float32(rng.standard_normal(shape) * 0.02)
        matrix = weight.reshape(shape[0], -1).astype(np.float64)
        u = rng.standard_normal(shape[0])
        u /= np.linalg.norm(u)
        for _ in range(6):
            v = u @ matrix
            v /= np.linalg.norm(v)
            u = matrix @ v
            u /= np.linalg.norm(u)
        u, v = (x + rng.standard_normal(x.shape) * 0.25 / np.sqrt(x.size) for x in (u, v))
        # Rounded, so that sums in another order give the same numbers.
        u, v = (np.round(x / np.linalg.norm(x) * 2**16) / 2**16 for x in (u, v))
        if bias:
            self.state[name + ".bias"] = as_tensor(rng.standard_normal(shape[0]) * 0.1)
        self.state[name + ".weight_orig"] = as_tensor(weight)
        self.state[name + ".weight_u"], self.state[name + ".weight_v"] = as_tensor(u), as_tensor(v)


def appearance_state(sizes: NetworkSizes) -> State:
    write, widths, depth_channels = Writer("F"), sizes.appearance_channels, sizes.feature_channels
    write.conv("first.conv", (widths[0], 3, 3, 3), 2.5)
    write.batch_norm("first.norm", widths[0])
    for index, (a, b) in enumerate(pairwise(widths)):
        write.conv(f"down_blocks.{index}.conv", (b, a, 3, 3))
        write.batch_norm(f"down_blocks.{index}.norm", b)
    write.conv("second", (depth_channels * sizes.feature_depth, widths[-1], 1, 1), 1.0)
    for index in range(sizes.appearance_blocks):
        block = f"resblocks_3d.3dr{index}"
        for number, gain in (("1", 1.414), ("2", 0.6)):
            write.conv(f"{block}.conv{number}", (depth_channels, depth_channels, 3, 3, 3), gain)
            write.batch_norm(f"{block}.norm{number}", depth_channels)
    return write.state


def motion_state(sizes: NetworkSizes) -> State:
    write, widths, points = Writer("M", "detector."), sizes.motion_channels, 3 * sizes.keypoints
    write.conv("downsample_layers.0.0", (widths[0], 3, 4, 4), 6.0, 0.02)
    write.layer_norm("downsample_layers.0.1", widths[0])
    for index, (a, b) in enumerate(pairwise(widths), start=1):
        write.layer_norm(f"downsample_layers.{index}.0", a)
        write.conv(f"downsample_layers.{index}.1", (b, a, 2, 2), 1.0, 0.02)
    for stage, (count, width) in enumerate(zip(sizes.motion_blocks, widths, strict=True)):
        for index in range(count):
            block = f"stages.{stage}.{index}"
            write.conv(f"{block}.dwconv", (width, 1, 7, 7), 1.5, 0.02)
            write.layer_norm(f"{block}.norm", width)
            write.conv(f"{block}.pwconv1", (4 * width, width), 1.4, 0.02)
            rng, shape = generator("M", f"{block}.grn"), (1, 1, 1, 4 * width)
            write.state[f"detector.{block}.grn.gamma"] = as_tensor(0.3 * rng.standard_normal(shape))
            write.state[f"detector.{block}.grn.beta"] = as_tensor(0.05 * rng.standard_normal(shape))
            write.conv(f"{block}.pwconv2", (width, 4 * width), 0.7, 0.02)
    width = widths[-1]
    write.layer_norm("norm", width)
    write.conv("fc_kp", (points, width), 0.15, 0.15)
    write.conv("fc_scale", (1, width), 0.05, 0.0)
    write.state["detector.fc_scale.bias"] = as_tensor([1.3])
    bins = np.arange(sizes.angle_bins)
    for angle in ("pitch", "yaw", "roll"):
        write.conv(f"fc_{angle}", (sizes.angle_bins, width), 1.2, 0.3)
        centre = 32.5 + generator("M", angle, "c").uniform(-4, 4)
        write.state[f"detector.fc_{angle}.bias"] += as_tensor(-0.5 * ((bins - centre) / 3.0) ** 2 * 0.5)
    write.conv("fc_t", (3, width), 0.05, 0.02)
    write.conv("fc_exp", (points, width), 0.03, 0.01)
    return write.state


def warping_state(sizes: NetworkSizes) -> State:
    write, dense = Writer("W"), "dense_motion_network."
    motions, widths = sizes.keypoints + 1, sizes.hourglass_channels
    inputs = motions * (sizes.compressed_channels + 1)
    for index, (a, b) in enumerate(zip((inputs, *widths[1:-1]), widths[1:], strict=True)):
        block = f"{dense}hourglass.encoder.down_blocks.{index}"
        write.conv(f"{block}.conv", (b, a, 3, 3, 3), 1.414 if index else 2.0)
        write.batch_norm(f"{block}.norm", b)
    down = widths[::-1]
    for index, (a, b) in enumerate(zip((down[0], *(2 * w for w in down[1:-1])), down[1:], strict=True)):
        block = f"{dense}hourglass.decoder.up_blocks.{index}"
        write.conv(f"{block}.conv", (b, a, 3, 3, 3))
        write.batch_norm(f"{block}.norm", b)
    out = widths[0] + inputs
    write.conv(f"{dense}hourglass.decoder.conv", (out, out, 3, 3, 3), 2.0)
    write.batch_norm(f"{dense}hourglass.decoder.norm", out)
    write.conv(f"{dense}mask", (motions, out, 7, 7, 7), 3.0)
    write.conv(f"{dense}compress", (sizes.compressed_channels, sizes.feature_channels, 1, 1, 1))
    write.batch_norm(f"{dense}norm", sizes.compressed_channels)
    write.conv(f"{dense}occlusion", (1, out * sizes.feature_depth, 7, 7), 0.8, 0.0)
    write.state[f"{dense}occlusion.bias"] = as_tensor([1.0])
    warped, flat = sizes.warped_channels, sizes.feature_channels * sizes.feature_depth
    write.conv("third.conv", (warped, flat, 3, 3))
    write.batch_norm("third.norm", warped)
    write.conv("fourth", (warped, warped, 1, 1), 1.2)
    return write.state


def generator_state(sizes: NetworkSizes) -> State:
    write, condition, hidden = Writer("G"), sizes.warped_channels, sizes.spade_hidden
    wide, middle, narrow = sizes.generator_channels

    def spade(name: str, channels: int) -> None:
        write.conv(f"{name}.mlp_shared.0", (hidden, condition, 3, 3), 2.0)
        write.conv(f"{name}.mlp_gamma", (channels, hidden, 3, 3), 0.5, 0.2)
        write.conv(f"{name}.mlp_beta", (channels, hidden, 3, 3), 0.5, 0.2)

    def block(name: str, a: int, b: int) -> None:
        write.spectral_conv(f"{name}.conv_0", (min(a, b), a, 3, 3))
        write.spectral_conv(f"{name}.conv_1", (b, min(a, b), 3, 3))
        spade(f"{name}.norm_0", a)
        spade(f"{name}.norm_1", min(a, b))
        if a != b:
            write.spectral_conv(f"{name}.conv_s", (b, a, 1, 1), bias=False)
            spade(f"{name}.norm_s", a)

    write.conv("fc", (wide, condition, 3, 3), 1.0)
    for index in range(sizes.generator_blocks):
        block(f"G_middle_{index}", wide, wide)
    block("up_0", wide, middle)
    block("up_1", middle, narrow)
    write.conv("conv_img.0", (12, narrow, 3, 3), 1.5, 0.3)
    return write.state


def retargeting_state(sizes: NetworkSizes) -> State:
    """Return the nested file, which like the real one has an entry that is not used."""
    points = 3 * sizes.keypoints

    def perceptron(letter: str, widths: tuple[int, ...], gain: float, bias: float) -> State:
        write, last = Writer(letter), len(widths) - 2
        for index, (a, b) in enumerate(pairwise(widths)):
            ends = index == last
            write.conv(f"module.mlp.{2 * index}", (b, a), gain if ends else 1.6, bias if ends else 0.05)
        return write.state

    return {
        "retarget_shoulder": perceptron("S", (2 * points, *sizes.stitching_hidden, points + 2), 0.02, 0.01),
        "retarget_mouth": perceptron("Rl", (points + 2, *sizes.lip_hidden, points), 0.1, 0.05),
        "retarget_eye": perceptron("Re", (points + 3, *sizes.eye_hidden, points), 0.1, 0.05),
        "epoch": 0,
    }


STATES = {
    "appearance": appearance_state,
    "motion": motion_state,
    "warping": warping_state,
    "generator": generator_state,
    "retargeting": retargeting_state,
}


def write_release(directory: Path, sizes: NetworkSizes = LIVEPORTRAIT_V1) -> Path:
    """Write the five files below ``directory`` and return it; 500 MB at the real size."""
    for name, make_state in STATES.items():
        path = directory / FILES[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(make_state(sizes), path)
    return directory


class PublishedNames:
    """Our networks with the method names of the published code, for tools that compare the two."""

    def __init__(self, weights_dir: str | Path, device: str, dtype: torch.dtype) -> None:
        # The parent of the release's folder is accepted, too.
        directory = Path(weights_dir)
        nested = directory / "liveportrait"
        networks = rewrite_networks(load_networks(nested if nested.is_dir() else directory))
        self.networks = networks.set_precision(dtype).to(device)
        self.device = device

    def prepare_source(self, picture: Frame) -> Tensor:
        import cv2

        size = self.networks.sizes.input_px
        if picture.shape[:2] != (size, size):
            picture = cv2.resize(picture, (size, size))
        return torch.from_numpy(picture).to(self.device).permute(2, 0, 1)[None].float() / 255

    def extract_feature_3d(self, x: Tensor) -> Tensor:
        return self.networks.extract_appearance(x)

    def get_kp_info(self, x: Tensor) -> dict[str, Tensor]:
        info = self.networks.extract_motion(x)
        pitch, yaw, roll = info.angles_deg.split(1, dim=1)
        return {
            "pitch": pitch, "yaw": yaw, "roll": roll, "t": info.translation,
            "exp": info.exp, "scale": info.scale, "kp": info.canonical_kp,
        }  # fmt: skip

    def transform_keypoint(self, info: dict[str, Tensor]) -> Tensor:
        angles_deg = torch.cat([info["pitch"], info["yaw"], info["roll"]], dim=1)
        return transform_keypoints(info["kp"], info["exp"], info["scale"], info["t"], angles_deg)

    def stitching(self, x_s: Tensor, x_d: Tensor) -> Tensor:
        return self.networks.stitch(x_s, x_d)

    def retarget_eye(self, x_s: Tensor, ratios: Tensor) -> Tensor:
        return self.networks.retarget_eyes(x_s, ratios)

    def retarget_lip(self, x_s: Tensor, ratios: Tensor) -> Tensor:
        return self.networks.retarget_lips(x_s, ratios)

    def warp_decode(self, feature_3d: Tensor, x_s: Tensor, x_d: Tensor) -> dict[str, Tensor]:
        warped = self.networks.warp(self.networks.prepare_warp(feature_3d, x_s), x_d)
        return {
            "out": self.networks.decode(warped.features),
            "deformation": warped.deformation,
            "occlusion_map": warped.occlusion,
            "warp_out": warped.features,
        }


def publish(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the files of a release below ``folder`` be the published ones, whose hashes are checked."""
    monkeypatch.setitem(WEIGHTS, "liveportrait", described(folder))  # type: ignore[arg-type]


def described(folder: Path) -> tuple[WeightsFile, ...]:
    """Return the files of a release below ``folder`` as if published: with their own sizes and hashes."""
    files = []
    for file in WEIGHTS["liveportrait"]:
        content = (folder / file.path).read_bytes()
        files.append(replace(file, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest()))
    return tuple(files)
