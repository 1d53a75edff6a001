"""The ONNX files answer as torch does, for any number of frames, in operators that every runtime has."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import liveportrait_release as release
import pytest
import torch
from torch.nn import functional

from vortex.engines.liveportrait.export import compare_onnx, export_onnx, gather_volume, questions
from vortex.engines.liveportrait.networks import Networks, load_networks
from vortex.engines.liveportrait.rewrites import rewrite_networks
from vortex.errors import InputError, MissingExtraError

SCRIPTS = Path(__file__).parents[2] / "scripts"
NAMES = ("appearance", "motion", "warping", "generator", "stitching", "lip", "eye")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release.write_release(tmp_path_factory.mktemp("toy"), release.TOY)


def export(networks: Networks, name: str, folder: Path) -> Path:
    (question,) = (question for question in questions(networks) if question.name == name)
    return export_onnx(networks, question, folder)


def error(networks: Networks, name: str, path: Path, batch: int) -> float:
    """Return the error of a file over the largest output."""
    (question,) = (question for question in questions(networks) if question.name == name)
    found = compare_onnx(networks, question, path, batch)
    return found.error / found.largest


@pytest.fixture(scope="module")
def networks(folder: Path) -> Networks:
    return load_networks(folder, release.TOY)


@pytest.fixture(scope="module")
def files(networks: Networks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every network; exporting takes seconds each."""
    files = tmp_path_factory.mktemp("files")
    for name in NAMES:
        export(networks, name, files)
    return files


def test_every_network_is_one_file(files: Path) -> None:
    assert {path.name for path in files.iterdir()} == {f"{name}.onnx" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_torch(networks: Networks, files: Path, name: str) -> None:
    for batch in (1, 2, 5):
        # float32 has 24 bits; the networks sum up to a few thousand products
        assert error(networks, name, files / f"{name}.onnx", batch) < 5e-6


def test_half_precision_keeps_grids_in_float32(folder: Path, tmp_path: Path) -> None:
    import onnx

    half = load_networks(folder, release.TOY, dtype=torch.float16)
    path = export(half, "warping", tmp_path)
    assert error(half, "warping", path, 3) < 2e-2
    types = {tensor.name: tensor.type.tensor_type.elem_type for tensor in onnx.load(path).graph.input}
    assert types == {
        "feature_3d": onnx.TensorProto.FLOAT16, "x_s": onnx.TensorProto.FLOAT, "x_d": onnx.TensorProto.FLOAT
    }  # fmt: skip


def test_the_warp_needs_no_operator_that_runtimes_lack(files: Path) -> None:
    """TensorRT reads no GridSample of volumes, and nothing outside the standard's own domain."""
    import onnx

    model = onnx.load(files / "warping.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", 18)}
    operators = {node.op_type for node in model.graph.node}
    assert "Gather" in operators
    assert not operators & {"GridSample", "GatherND", "ScatterND", "Loop", "If"}


def test_gathers_read_a_volume_as_torch_does_beyond_its_edges_too() -> None:
    random = torch.Generator().manual_seed(1)
    volume = torch.randn(2, 3, 4, 5, 6, generator=random)
    grid = 3 * torch.rand(2, 3, 2, 7, 3, generator=random) - 1.5
    expected = functional.grid_sample(volume, grid, align_corners=False)
    assert torch.allclose(gather_volume(volume, grid, 0, 0, False), expected, atol=1e-6)


def test_rewritten_networks_are_refused(folder: Path, tmp_path: Path) -> None:
    networks = rewrite_networks(load_networks(folder, release.TOY))
    with pytest.raises(InputError, match="rewritten"):
        export_onnx(networks, questions(networks)[0], tmp_path)


def test_a_missing_package_is_named(
    networks: Networks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name)
    )
    with pytest.raises(MissingExtraError, match=r"needs onnxscript\. Run: pip install .*\[onnx\]"):
        export_onnx(networks, questions(networks)[0], tmp_path)


# ---------------------------------------- TensorRT


def build(folder: Path, path: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / "build_tensorrt.py"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": path})


def test_tensorrt_is_told_types_and_shapes(files: Path, tmp_path: Path) -> None:
    one, programs = tmp_path / "one", tmp_path / "programs"
    one.mkdir()
    shutil.copy(files / "stitching.onnx", one)
    programs.mkdir()
    trtexec = programs / "trtexec"
    trtexec.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/told\n')
    trtexec.chmod(0o755)
    done = build(one, f"{programs}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "told").read_text().splitlines() == [
        f"--onnx={one}/stitching.onnx",
        f"--saveEngine={one}/stitching.engine",
        "--stronglyTyped",
        "--minShapes=x_d:1x21x3",
        "--optShapes=x_d:4x21x3",
        "--maxShapes=x_d:4x21x3",
    ]
    trtexec.write_text("#!/bin/sh\nexit 3\n")
    done = build(one, f"{programs}:{os.environ['PATH']}")
    assert done.returncode == 1 and "could not build" in done.stderr


def test_without_tensorrt_one_line_tells_what_to_do(tmp_path: Path) -> None:
    done = build(tmp_path, "/nowhere")
    assert done.returncode == 1 and "export_onnx.py" in done.stderr
    (tmp_path / "a.onnx").touch()
    done = build(tmp_path, "/nowhere")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "Install TensorRT" in done.stderr
