"""The networks as ONNX files, one for each question, for runtimes without torch: ONNX Runtime, TensorRT.

They are the published networks, not the rewritten ones: Fourier transforms and strided writes save arithmetic
in torch, but runtimes fuse plain convolutions better. Reading a volume at arbitrary places, which ONNX knows
from opset 20 on and TensorRT not at all, is written out as eight gathers.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from vortex.engines.liveportrait.networks import Networks, WarpSource
from vortex.errors import InputError, MissingExtraError

OPSET = 18
NEEDS = ("onnx", "onnxscript", "onnxruntime")
MOTION_OUTPUTS = ("canonical_kp", "exp", "scale", "translation", "angles_deg")
BATCH = "batch"
"""Name of the first axis, of any length, of every input but those of the one source."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One method of :class:`~vortex.engines.liveportrait.networks.Networks` as a file ``name``.onnx.

    ``inputs`` name -> shape without batch; ``of_source`` are those whose batch is always 1.
    """

    name: str
    answer: Callable[..., tuple[Tensor, ...]]
    inputs: Mapping[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    of_source: tuple[str, ...] = ()
    half: tuple[str, ...] = ()
    """Inputs of the type the networks compute in; all others are float32."""

    def examples(self, networks: Networks, batch: int, seed: int) -> tuple[Tensor, ...]:
        """Return seeded inputs: pictures and ratios in [0, 1], all else of a normal distribution."""
        random = torch.Generator().manual_seed(seed)
        examples = []
        for name, shape in self.inputs.items():
            size = (1 if name in self.of_source else batch, *shape)
            draw = torch.rand if name in ("picture", "ratios") else torch.randn
            # keypoints lie within the square, which is 2 wide
            values = draw(size, generator=random) * (0.3 if name in ("x_s", "x_d") else 1.0)
            examples.append(values.to(networks.dtype) if name in self.half else values)
        return tuple(examples)


def questions(networks: Networks) -> tuple[Question, ...]:
    """Return what is exported: F, M, W, G, and S for stitching, lips and eyes."""
    sizes = networks.sizes
    picture, keypoints = (3, sizes.input_px, sizes.input_px), (sizes.keypoints, 3)
    side = sizes.feature_px
    volume = (sizes.feature_channels, sizes.feature_depth, side, side)

    def extract_motion(picture: Tensor) -> tuple[Tensor, ...]:
        info = networks.extract_motion(picture)
        return tuple(getattr(info, name) for name in MOTION_OUTPUTS)

    def warp(feature_3d: Tensor, x_s: Tensor, x_d: Tensor) -> tuple[Tensor, ...]:
        return (networks.warp(WarpSource(feature_3d, x_s), x_d).features,)

    return (
        Question(
            "appearance",
            lambda picture: (networks.extract_appearance(picture),),
            {"picture": picture},
            ("feature_3d",),
        ),
        Question(
            "motion",
            extract_motion,
            {"picture": picture},
            MOTION_OUTPUTS,
        ),
        Question(
            "warping",
            warp,
            {"feature_3d": volume, "x_s": keypoints, "x_d": keypoints},
            ("features",),
            of_source=("feature_3d", "x_s"),
            half=("feature_3d",),
        ),
        Question(
            "generator",
            lambda features: (networks.decode(features).float(),),
            {"features": (sizes.warped_channels, side, side)},
            ("frame",),
            half=("features",),
        ),
        Question(
            "stitching",
            lambda x_s, x_d: (networks.stitch(x_s, x_d),),
            {"x_s": keypoints, "x_d": keypoints},
            ("x_d_stitched",),
            of_source=("x_s",),
        ),
        Question(
            "lip",
            lambda x_s, ratios: (networks.retarget_lips(x_s, ratios),),
            {"x_s": keypoints, "ratios": (2,)},
            ("delta",),
        ),
        Question(
            "eye",
            lambda x_s, ratios: (networks.retarget_eyes(x_s, ratios),),
            {"x_s": keypoints, "ratios": (3,)},
            ("delta",),
        ),
    )


class _Asked(nn.Module):
    """A question as the module that the exporter wants."""

    def __init__(self, networks: Networks, question: Question) -> None:
        super().__init__()
        self.networks, self.question = networks, question

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.question.answer(*inputs)


def export_onnx(networks: Networks, question: Question, folder: Path) -> Path:
    """Write one question as ``folder``/NAME.onnx, weights included, and return the path.

    ``networks`` are the published ones on the CPU, as :func:`load_networks` returns them.

    Raises:
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
        InputError: rewritten networks.
    """
    _check(networks)
    examples = question.examples(networks, 2, seed=0)
    batch = torch.export.Dim(BATCH, min=1, max=64)
    shapes = tuple(None if name in question.of_source else {0: batch} for name in question.inputs)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{question.name}.onnx"
    with torch.no_grad(), warnings.catch_warnings():
        # torch's exporter warns of what its own parts will do to each other in future
        warnings.simplefilter("ignore")
        program = torch.export.export(
            _Asked(networks, question), examples, dynamic_shapes={"inputs": shapes}, strict=False
        ).run_decompositions({torch.ops.aten.grid_sampler.default: gather_volume})
        torch.onnx.export(
            program,
            f=path,
            input_names=list(question.inputs),
            output_names=list(question.outputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return path


@dataclass(frozen=True, slots=True)
class Deviation:
    """``error`` is the largest absolute difference to torch, ``largest`` the largest absolute output."""

    error: float
    largest: float


def compare_onnx(networks: Networks, question: Question, path: Path, batch: int = 3) -> Deviation:
    """Ask a file in ONNX Runtime on the CPU, and torch, the same seeded question."""
    import onnxruntime

    inputs = question.examples(networks, batch, seed=1)
    with torch.no_grad():
        expected = question.answer(*inputs)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {name: values.numpy() for name, values in zip(question.inputs, inputs, strict=True)}
    got = [torch.from_numpy(np.asarray(output)) for output in session.run(list(question.outputs), feed)]
    pairs = [(have.double(), want.double()) for have, want in zip(got, expected, strict=True)]
    return Deviation(
        error=max(float((have - want).abs().max()) for have, want in pairs),
        largest=max(float(want.abs().max()) for _, want in pairs),
    )


def _check(networks: Networks) -> None:
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"Export to ONNX needs {', '.join(missing)}. Run: pip install 'vortex-portrait[onnx]'"
        )
    if not hasattr(networks.generator, "G_middle_0"):
        raise InputError("These networks are rewritten ones; export those that load_networks returns.")


def gather_volume(
    volume: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """Do what grid_sample does to (B, c, D, H, W) at (B, D', H', W', 3), by gathers alone.

    Trilinear, zeros beyond the edge, the edge at the outer sides of the outer cells; the last three arguments
    are those of torch's operator and have to say just that.
    """
    assert (interpolation_mode, padding_mode, align_corners) == (0, 0, False)
    b, c, d, h, w = volume.shape
    rows = volume.permute(0, 2, 3, 4, 1).reshape(-1, c)  # (B D H W, c)
    first = torch.arange(b, device=volume.device).view(-1, 1, 1, 1) * (d * h * w)
    x, y, z = (_neighbours(place, cells) for place, cells in zip(grid.unbind(-1), (w, h, d), strict=True))
    total = None
    for (x_cell, x_share), (y_cell, y_share), (z_cell, z_share) in product(x, y, z):
        cell = first + (z_cell * h + y_cell) * w + x_cell  # (B, D', H', W')
        values = rows.index_select(0, cell.flatten()).view(*cell.shape, c)
        part = values * (x_share * y_share * z_share)[..., None]
        total = part if total is None else total + part
    return cast(Tensor, total).permute(0, 4, 1, 2, 3)


def _neighbours(place: Tensor, cells: int) -> tuple[tuple[Tensor, Tensor], ...]:
    """Places in [-1, 1] along an axis -> number and share of the cell before, and of the one after."""
    at = ((place + 1) * cells - 1) / 2
    before = torch.floor(at)
    pairs = []
    for cell in (before, before + 1):
        inside = ((cell >= 0) & (cell < cells)).to(at.dtype)
        pairs.append((cell.clamp(0, cells - 1).long(), (1 - (at - cell).abs()) * inside))
    return tuple(pairs)
