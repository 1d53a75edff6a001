"""Write the LivePortrait networks as ONNX files, and compare each in ONNX Runtime on the CPU with torch.

Usage: python scripts/export_onnx.py FOLDER [--precision fp32|fp16] [--only NAME ...]

Needs the extra ``onnx`` and the weights (vortex weights fetch liveportrait); takes minutes. Prints the
largest absolute difference from torch and the largest output for each file, and exits with 1 if a difference
is larger than rounding explains.

The files hold the published networks, not the rewritten ones: Fourier transforms and strided writes save
arithmetic in torch, but runtimes fuse plain convolutions better. Sampling a volume at arbitrary positions,
which ONNX supports from opset 20 on and TensorRT not at all, is expressed as eight gathers.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from vortex.engines.liveportrait.networks import Networks, WarpSource, load_networks
from vortex.errors import InputError, MissingExtraError, VortexError
from vortex.weights.cache import weights_dir

TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2}
"""Largest accepted difference, as a share of the largest output."""
OPSET = 18
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
MOTION_OUTPUTS = ("canonical_kp", "exp", "scale", "translation", "angles_deg")
BATCH = "batch"
"""Name of the first axis, of any length, of every input except those of the source."""


@dataclass(frozen=True, slots=True, eq=False)
class ExportSpec:
    """One method of :class:`~vortex.engines.liveportrait.networks.Networks`, exported as ``name``.onnx.

    Args:
        name: name of the file.
        run: computes the outputs from the inputs.
        inputs: name -> shape without batch.
        outputs: names of the outputs.
        of_source: names of the inputs whose batch is always 1.
        half: names of the inputs of the networks' own type; all others are float32.
    """

    name: str
    run: Callable[..., tuple[Tensor, ...]]
    inputs: Mapping[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    of_source: tuple[str, ...] = ()
    half: tuple[str, ...] = ()

    def examples(self, networks: Networks, batch: int, seed: int) -> tuple[Tensor, ...]:
        """Return seeded inputs: pictures and ratios uniform in [0, 1], all others normally distributed."""
        random = torch.Generator().manual_seed(seed)
        examples = []
        for name, shape in self.inputs.items():
            size = (1 if name in self.of_source else batch, *shape)
            draw = torch.rand if name in ("picture", "ratios") else torch.randn
            # Keypoints lie within the square, which is 2 wide.
            values = draw(size, generator=random) * (0.3 if name in ("x_s", "x_d") else 1.0)
            examples.append(values.to(networks.dtype) if name in self.half else values)
        return tuple(examples)


def export_specs(networks: Networks) -> tuple[ExportSpec, ...]:
    """Return one spec per exported network: F, M, W, G, and S for stitching, lips and eyes."""
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
        ExportSpec(
            "appearance",
            lambda picture: (networks.extract_appearance(picture),),
            {"picture": picture},
            ("feature_3d",),
        ),
        ExportSpec(
            "motion",
            extract_motion,
            {"picture": picture},
            MOTION_OUTPUTS,
        ),
        ExportSpec(
            "warping",
            warp,
            {"feature_3d": volume, "x_s": keypoints, "x_d": keypoints},
            ("features",),
            of_source=("feature_3d", "x_s"),
            half=("feature_3d",),
        ),
        ExportSpec(
            "generator",
            lambda features: (networks.decode(features).float(),),
            {"features": (sizes.warped_channels, side, side)},
            ("frame",),
            half=("features",),
        ),
        ExportSpec(
            "stitching",
            lambda x_s, x_d: (networks.stitch(x_s, x_d),),
            {"x_s": keypoints, "x_d": keypoints},
            ("x_d_stitched",),
            of_source=("x_s",),
        ),
        ExportSpec(
            "lip",
            lambda x_s, ratios: (networks.retarget_lips(x_s, ratios),),
            {"x_s": keypoints, "ratios": (2,)},
            ("delta",),
        ),
        ExportSpec(
            "eye",
            lambda x_s, ratios: (networks.retarget_eyes(x_s, ratios),),
            {"x_s": keypoints, "ratios": (3,)},
            ("delta",),
        ),
    )


class _ExportModule(nn.Module):
    """A spec in the form of a module, which the exporter requires."""

    def __init__(self, networks: Networks, spec: ExportSpec) -> None:
        super().__init__()
        self.networks, self.spec = networks, spec

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.spec.run(*inputs)


def export_onnx(networks: Networks, spec: ExportSpec, folder: Path) -> Path:
    """Write one network as ``folder``/NAME.onnx, weights included, and return the path.

    ``networks`` are the published ones on the CPU, as :func:`load_networks` returns them.

    Raises:
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
        InputError: rewritten networks.
    """
    _check_exportable(networks)
    examples = spec.examples(networks, 2, seed=0)
    batch = torch.export.Dim(BATCH, min=1, max=64)
    shapes = tuple(None if name in spec.of_source else {0: batch} for name in spec.inputs)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{spec.name}.onnx"
    with torch.no_grad(), warnings.catch_warnings():
        # The exporter warns about coming changes in torch itself.
        warnings.simplefilter("ignore")
        program = torch.export.export(
            _ExportModule(networks, spec), examples, dynamic_shapes={"inputs": shapes}, strict=False
        ).run_decompositions({torch.ops.aten.grid_sampler.default: gather_volume})
        torch.onnx.export(
            program,
            f=path,
            input_names=list(spec.inputs),
            output_names=list(spec.outputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return path


@dataclass(frozen=True, slots=True)
class Deviation:
    """``error`` is the largest absolute difference from torch, ``largest`` the largest absolute output."""

    error: float
    largest: float


def compare_onnx(networks: Networks, spec: ExportSpec, path: Path, batch: int = 3) -> Deviation:
    """Return how a file's outputs in ONNX Runtime on the CPU differ from torch's, for seeded inputs."""
    import onnxruntime

    inputs = spec.examples(networks, batch, seed=1)
    with torch.no_grad():
        expected = spec.run(*inputs)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {name: values.numpy() for name, values in zip(spec.inputs, inputs, strict=True)}
    got = [torch.from_numpy(np.asarray(output)) for output in session.run(list(spec.outputs), feed)]
    pairs = [(have.double(), want.double()) for have, want in zip(got, expected, strict=True)]
    return Deviation(
        error=max(float((have - want).abs().max()) for have, want in pairs),
        largest=max(float(want.abs().max()) for _, want in pairs),
    )


def _check_exportable(networks: Networks) -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"Export to ONNX needs {', '.join(missing)}. Run: pip install 'vortex-portrait[onnx]'"
        )
    if not hasattr(networks.generator, "G_middle_0"):
        raise InputError("These networks are rewritten for torch; export those that load_networks returns.")


def gather_volume(
    volume: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """Return what torch's grid_sample of (B, c, D, H, W) at (B, D', H', W', 3) returns, using only gathers.

    The last three arguments are those of torch's operator. Only trilinear interpolation (0), zeros beyond the
    edge (0) and edges at the outer sides of the outer cells (False) are supported.
    """
    assert (interpolation_mode, padding_mode, align_corners) == (0, 0, False)
    b, c, d, h, w = volume.shape
    rows = volume.permute(0, 2, 3, 4, 1).reshape(-1, c)  # (B D H W, c)
    first = torch.arange(b, device=volume.device).view(-1, 1, 1, 1) * (d * h * w)
    x, y, z = (
        _neighbours(position, cells) for position, cells in zip(grid.unbind(-1), (w, h, d), strict=True)
    )
    total = None
    for (x_cell, x_share), (y_cell, y_share), (z_cell, z_share) in product(x, y, z):
        cell = first + (z_cell * h + y_cell) * w + x_cell  # (B, D', H', W')
        values = rows.index_select(0, cell.flatten()).view(*cell.shape, c)
        part = values * (x_share * y_share * z_share)[..., None]
        total = part if total is None else total + part
    return cast(Tensor, total).permute(0, 4, 1, 2, 3)


def _neighbours(position: Tensor, cells: int) -> tuple[tuple[Tensor, Tensor], ...]:
    """Positions in [-1, 1] along an axis -> index and weight of the cell before, and of the cell after."""
    at = ((position + 1) * cells - 1) / 2
    before = torch.floor(at)
    pairs = []
    for cell in (before, before + 1):
        inside = ((cell >= 0) & (cell < cells)).to(at.dtype)
        pairs.append((cell.clamp(0, cells - 1).long(), (1 - (at - cell).abs()) * inside))
    return tuple(pairs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the .onnx files go")
    parser.add_argument("--precision", choices=tuple(TOLERANCE), default="fp32")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="export only these networks")
    args = parser.parse_args()
    try:
        return _export(args.folder, args.precision, args.only)
    except VortexError as exc:
        print(f"export_onnx: {exc}", file=sys.stderr)
        return 1


def _export(folder: Path, precision: str, only: list[str] | None) -> int:
    # The exporter warns about operators of packages that are not used.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    dtype = {"fp32": torch.float32, "fp16": torch.float16}[precision]
    networks = load_networks(weights_dir("liveportrait"), dtype=dtype)
    specs = {spec.name: spec for spec in export_specs(networks)}
    if unknown := set(only or ()) - specs.keys():
        raise InputError(
            f"There is no network {', '.join(sorted(unknown))}; give some of {', '.join(specs)}."
        )
    wrong = []
    for name in only or specs:
        path = export_onnx(networks, specs[name], folder)
        found = compare_onnx(networks, specs[name], path)
        print(
            f"{path}: differs by {found.error:.1e} from torch; outputs are up to {found.largest:.3g}",
            flush=True,
        )
        if found.error > TOLERANCE[precision] * found.largest:
            wrong.append(name)
    if wrong:
        print(
            f"export_onnx: {', '.join(wrong)} differ by more than rounding; do not use them", file=sys.stderr
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
