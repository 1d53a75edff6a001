"""Imports run one way, heavy packages stay in their rooms, and importing vortex is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vortex

PACKAGE = Path(vortex.__file__).parent
LAYERS = [
    {"types", "errors", "version"},
    {"weights", "switch"},
    {"audio", "blas", "portrait", "video", "demo", "timeline", "watchdog"},
    {"lipsync"},
    {"motion"},
    {"engines", "encoder", "extras"},
    {"pipeline", "check", "live"},
    {"production"},
    {"cluster"},
    {"batch"},
    {"web"},
    {"cli", "__init__"},
    {"__main__"},
]
ROOMS = {
    "torch": ("engines/liveportrait", "extras", "lipsync"),
    "av": ("audio.py", "encoder.py", "video.py", "web/webrtc.py"),
    "cv2": ("portrait.py", "encoder.py", "engines"),
    "mediapipe": ("portrait.py",),
    "argparse": ("cli",),
    "onnxruntime": ("extras", "engines/liveportrait/export.py"),
    "misaki": ("extras",),
    "diffusers": ("extras",),
    "transformers": ("extras",),
    "fastapi": ("web",),
    "ray": ("cluster.py",),
    "aiortc": ("web/webrtc.py",),
    "gradio": ("web",),
}
FILES = sorted(PACKAGE.rglob("*.py"))


def layer_of(name: str) -> int:
    return next(index for index, names in enumerate(LAYERS) if name in names)


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            if node.module == "vortex":
                names |= {f"vortex.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imported(ast.parse(path.read_text())):
        if not name.startswith("vortex."):
            continue
        there = name.split(".")[1]
        if there in ("version", here) or layer_of(here) == 0:
            assert there in ("version", here) or layer_of(there) == 0
        else:
            assert layer_of(there) < layer_of(here), f"{here} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_stay_in_their_rooms(path: Path) -> None:
    place = path.relative_to(PACKAGE).as_posix()
    for name in imported(ast.parse(path.read_text())):
        rooms = ROOMS.get(name.split(".")[0])
        assert rooms is None or place.startswith(rooms), f"{place} imports {name}"


def test_importing_vortex_is_cheap() -> None:
    heavy = ["torch", "cv2", "mediapipe", "av", "matplotlib", "onnxruntime", "transformers"]
    code = f"import sys, vortex; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists() -> None:
    assert sorted(vortex.__all__) == vortex.__all__
    for name in vortex.__all__:
        assert getattr(vortex, name) is not None
