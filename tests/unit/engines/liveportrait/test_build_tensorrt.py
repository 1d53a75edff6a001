"""The TensorRT script gives trtexec types and shapes, and says in one line what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from export_onnx import export_onnx, export_specs
from support.paths import ROOT

from vortex.engines.liveportrait.networks import Networks


def build(folder: Path, path: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "build_tensorrt.py"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": path})


def test_trtexec_receives_types_and_shapes(networks: Networks, tmp_path: Path) -> None:
    one, programs = tmp_path / "one", tmp_path / "programs"
    (stitching,) = (spec for spec in export_specs(networks) if spec.name == "stitching")
    export_onnx(networks, stitching, one)
    programs.mkdir()
    trtexec = programs / "trtexec"
    trtexec.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/arguments\n')
    trtexec.chmod(0o755)
    done = build(one, f"{programs}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "arguments").read_text().splitlines() == [
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


def test_without_tensorrt_one_line_says_what_to_do(tmp_path: Path) -> None:
    done = build(tmp_path, "/nowhere")
    assert done.returncode == 1 and "export_onnx.py" in done.stderr
    (tmp_path / "a.onnx").touch()
    done = build(tmp_path, "/nowhere")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "Install TensorRT" in done.stderr
