"""Reads the release of JoyVASA, a pickled checkpoint and pickled statistics, without running code of them."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vortex.audio_motion.joyvasa.networks import JOYVASA_V1, JoyVasaNetworks, JoyVasaSizes
from vortex.errors import WeightsCorruptError, WeightsMissingError
from vortex.runtime.pickles import PickledArray, read_pickle
from vortex.types import F32, read_only

CHECKPOINT = "motion_generator/motion_generator_hubert_chinese.pt"
TEMPLATE = "motion_template/motion_template.pkl"
"""Files below :func:`vortex.weights.cache.weights_dir`."""
POSE_COLUMNS = {"scale": 1, "t": 3, "pitch": 1, "yaw": 1, "roll": 1}
"""Columns of a motion after the 63 of the expression, in their order; angles in degrees."""
EXP_COLUMNS = 63

_STORED_OPTIONS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (SimpleNamespace, "argparse.Namespace"),
    # A stored path is never used; a pure one can be made on every system, and in Python 3.13, which moved it.
    (pathlib.PurePosixPath, "pathlib.PosixPath"),
    (pathlib.PurePosixPath, "pathlib._local.PosixPath"),
]
"""Classes beside tensors that the checkpoint may name: its training options are in it."""
_loading = threading.Lock()  # torch keeps the list of allowed classes for the whole process


@dataclass(frozen=True, slots=True, eq=False)
class MotionStatistics:
    """The range of the motions that the networks learned; all float32.

    ``exp_mean`` and ``exp_deviation`` (63,); ``pose_low`` and ``pose_range`` (7,), columns
    :data:`POSE_COLUMNS`.
    """

    exp_mean: F32
    exp_deviation: F32
    pose_low: F32
    pose_range: F32

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        for name in self.__slots__:
            object.__setattr__(self, name, read_only(getattr(self, name), np.float32))

    def denormalise(self, motion: F32) -> tuple[F32, F32]:
        """Return expression (T, 63) and pose (T, 7) of a normalised motion (T, 70 or more)."""
        exp = motion[:, :EXP_COLUMNS] * self.exp_deviation + self.exp_mean
        pose = motion[:, EXP_COLUMNS : EXP_COLUMNS + len(self.pose_low)] * self.pose_range + self.pose_low
        return exp, pose


def load_networks(
    folder: Path, sizes: JoyVasaSizes = JOYVASA_V1, *, ordered: bool = False
) -> JoyVasaNetworks:
    """Return the networks of the checkpoint below ``folder``, on the CPU; ``ordered`` as of the Denoiser.

    The HuBERT is in the checkpoint: it was trained further, so the published Chinese HuBERT is another one.
    WeightsMissingError is raised if the file is missing, WeightsCorruptError if it names a class that is not
    allowed, or a tensor is missing, unknown or of another shape.
    """
    path = folder / CHECKPOINT
    content = _read_checkpoint(path)
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsCorruptError(f"{path} has no state dict 'model'. {_FETCH}")
    with torch.device("meta"):
        networks = JoyVasaNetworks(sizes, ordered=ordered)
    try:
        networks.load_state_dict(fold_checkpoint(state, sizes), strict=True, assign=True)
    except (RuntimeError, KeyError) as exc:
        problem = " ".join(str(exc).split())
        raise WeightsCorruptError(f"{path} does not fit the network: {problem}") from exc
    return networks.eval().requires_grad_(False)


_FETCH = "Run: vortex weights verify joyvasa, then fetch again."


def _read_checkpoint(path: Path) -> object:
    """Return the content of the checkpoint; only tensors and the classes of stored options are made."""
    try:
        with _loading, torch.serialization.safe_globals(_STORED_OPTIONS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as exc:
        raise WeightsMissingError(f"Weights {path} are missing. Run: vortex weights fetch joyvasa") from exc
    except Exception as exc:  # For a damaged zip or a refused pickle torch raises many types.
        raise WeightsCorruptError(
            f"{path} cannot be read as a tensor file ({type(exc).__name__}). {_FETCH}"
        ) from exc


def fold_checkpoint(state: Mapping[str, Tensor], sizes: JoyVasaSizes) -> dict[str, Tensor]:
    """Return the tensors of :class:`JoyVasaNetworks`, in a copy of the dict.

    Left out are a token that only training uses, the constants that follow from the betas, and the mask of
    the frames, which must be the one that :class:`vortex.audio_motion.joyvasa.networks.DecoderLayer` stands
    for; KeyError if a tensor is missing, WeightsCorruptError if the mask is another one.
    """
    folded = dict(state)
    folded.pop("audio_encoder.masked_spec_embed", None)
    mask = folded.pop("denoising_net.alignment_mask")
    if not torch.equal(mask, ~torch.eye(sizes.rows, dtype=torch.bool)):
        raise WeightsCorruptError("In the checkpoint, frames hear the sound of others; that is not JoyVASA.")
    folded["betas"] = folded["diffusion_sched.betas"]
    for constant in ("betas", "alphas", "alpha_bars", "sigmas_flex", "sigmas_inflex"):
        folded.pop(f"diffusion_sched.{constant}")
    for published, ours in (("TE.pe", "step_table"), ("PE.pe", "position_table")):
        folded[f"denoising_net.{ours}"] = folded.pop(f"denoising_net.{published}").squeeze(0)
    for index in range(sizes.layers):
        _fold_attention(folded, f"denoising_net.transformer.layers.{index}.")
    _fold_position_weight(folded, "audio_encoder.encoder.pos_conv_embed.conv.")
    return folded


def _fold_attention(state: dict[str, Tensor], layer: str) -> None:
    """Replace the attention to one token, W_o (W_v m + b_v) + b_o, by one linear map of m, in place."""
    attention = f"{layer}multihead_attn."
    weight, bias, out_weight, out_bias = (
        state.pop(attention + name).double()
        for name in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    )
    value_weight, value_bias = weight.chunk(3)[2], bias.chunk(3)[2]
    state[f"{layer}heard.weight"] = (out_weight @ value_weight).float()
    state[f"{layer}heard.bias"] = (out_weight @ value_bias + out_bias).float()


def _fold_position_weight(state: dict[str, Tensor], conv: str) -> None:
    """Replace gain and direction of a weight-normalised convolution by its weight, g v / ||v|| for each tap.

    Two spellings of their names are known; a checkpoint may hold the weight itself, too.
    """
    for gain, direction in (
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
        ("weight_g", "weight_v"),
    ):
        if conv + gain in state:
            g, v = state.pop(conv + gain), state.pop(conv + direction).double()
            weight = g.double() * v / v.norm(dim=(0, 1), keepdim=True)
            state[conv + "weight"] = weight.float()


def load_statistics(folder: Path) -> MotionStatistics:
    """Return the statistics below ``folder``; errors as of :func:`load_networks`."""
    path = folder / TEMPLATE
    try:
        stored = read_pickle(path.read_bytes())
    except FileNotFoundError as exc:
        raise WeightsMissingError(f"Weights {path} are missing. Run: vortex weights fetch joyvasa") from exc
    except Exception as exc:  # A damaged pickle raises almost any type.
        raise WeightsCorruptError(f"{path} cannot be read as arrays ({exc}). {_FETCH}") from exc

    def array(name: str, length: int) -> F32:
        pickled = stored[name]
        value = np.asarray(pickled.values if isinstance(pickled, PickledArray) else pickled, np.float32)
        if value.shape != (length,) or not np.isfinite(value).all():
            raise ValueError(f"{name} has shape {value.shape}; ({length},) is expected")
        return value

    try:
        low, high = (
            np.concatenate([array(f"{end}_{name}", length) for name, length in POSE_COLUMNS.items()])
            for end in ("min", "max")
        )
        exp = array("mean_exp", EXP_COLUMNS), array("std_exp", EXP_COLUMNS)
    except (KeyError, IndexError, TypeError, ValueError) as exc:
        raise WeightsCorruptError(f"{path} are not the statistics of JoyVASA ({exc}). {_FETCH}") from exc
    return MotionStatistics(*exp, low, high - low)
