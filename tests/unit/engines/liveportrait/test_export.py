"""The ONNX files return what torch returns, for any number of frames, with widely supported operators."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from export_onnx import compare_onnx, export_onnx, export_specs, gather_volume
from support import liveportrait_release as release
from torch.nn import functional

from vortex.engines.liveportrait.networks import Networks, load_networks
from vortex.errors import InputError, MissingExtraError

NAMES = ("appearance", "motion", "warping", "generator", "stitching", "lip", "eye")


def export(networks: Networks, name: str, folder: Path) -> Path:
    (spec,) = (spec for spec in export_specs(networks) if spec.name == name)
    return export_onnx(networks, spec, folder)


def error(networks: Networks, name: str, path: Path, batch: int) -> float:
    """Return the error of a file over the largest output."""
    (spec,) = (spec for spec in export_specs(networks) if spec.name == name)
    found = compare_onnx(networks, spec, path, batch)
    return found.error / found.largest


@pytest.fixture(scope="module")
def files(networks: Networks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with every network exported, which takes seconds each."""
    files = tmp_path_factory.mktemp("files")
    for name in NAMES:
        export(networks, name, files)
    return files


def test_every_network_is_one_file(files: Path) -> None:
    assert {path.name for path in files.iterdir()} == {f"{name}.onnx" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_torch(networks: Networks, files: Path, name: str) -> None:
    for batch in (1, 2, 5):
        # float32 has 24 bits, and the networks add up to a few thousand products.
        assert error(networks, name, files / f"{name}.onnx", batch) < 5e-6


def test_half_precision_keeps_grids_in_float32(toy_folder: Path, tmp_path: Path) -> None:
    import onnx

    half = load_networks(toy_folder, release.TOY, dtype=torch.float16)
    path = export(half, "warping", tmp_path)
    assert error(half, "warping", path, 3) < 2e-2
    types = {tensor.name: tensor.type.tensor_type.elem_type for tensor in onnx.load(path).graph.input}
    assert types == {
        "feature_3d": onnx.TensorProto.FLOAT16, "x_s": onnx.TensorProto.FLOAT, "x_d": onnx.TensorProto.FLOAT
    }  # fmt: skip


def test_the_warp_needs_no_operator_that_tensorrt_lacks(files: Path) -> None:
    """TensorRT supports neither GridSample of volumes nor operators outside the standard domain."""
    import onnx

    model = onnx.load(files / "warping.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", 18)}
    operators = {node.op_type for node in model.graph.node}
    assert "Gather" in operators
    assert not operators & {"GridSample", "GatherND", "ScatterND", "Loop", "If"}


def test_gathers_equal_grid_sample_also_beyond_the_edges() -> None:
    random = torch.Generator().manual_seed(1)
    volume = torch.randn(2, 3, 4, 5, 6, generator=random)
    grid = 3 * torch.rand(2, 3, 2, 7, 3, generator=random) - 1.5
    expected = functional.grid_sample(volume, grid, align_corners=False)
    assert torch.allclose(gather_volume(volume, grid, 0, 0, False), expected, atol=1e-6)


def test_rewritten_networks_are_refused(rewritten: Networks, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rewritten"):
        export_onnx(rewritten, export_specs(rewritten)[0], tmp_path)


def test_a_missing_package_is_named(
    networks: Networks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name)
    )
    with pytest.raises(MissingExtraError, match=r"needs onnxscript\. Run: pip install .*\[onnx\]"):
        export_onnx(networks, export_specs(networks)[0], tmp_path)
