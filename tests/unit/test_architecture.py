"""Imports run one way and in no circle, heavy packages stay in their folders, importing vortex is cheap."""

from __future__ import annotations

import ast
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import vortex

PACKAGE = Path(vortex.__file__).parent
LAYERS = [
    {"types", "errors", "version", "visemes", "interpolation"},
    {"runtime"},
    {"extras", "demo", "weights"},
    {"media"},
    {"face"},
    {"lipsync"},
    {"motion"},
    {"engines", "speech", "audio_motion", "captions"},
    {"options"},
    {"performance"},
    {"driving"},
    {"source_video"},
    {"scene"},
    {"render"},
    {"revoice"},
    {"live"},
    {"session"},
    {"generate"},
    {"api"},
    {"cluster"},
    {"batch"},
    {"server"},
    {"cli", "__init__"},
    {"__main__"},
]
"""Folders and files of the package, lowest first: each imports from layers below its own only."""
ALLOWED = {
    "torch": ("engines/liveportrait", "audio_motion/joyvasa", "generate", "runtime/memory.py"),
    "av": ("media", "server/webrtc.py"),
    "cv2": ("media", "face", "engines", "revoice"),
    "mediapipe": ("face/landmarker.py",),
    "argparse": ("cli",),
    "onnxruntime": ("speech/kokoro.py",),
    "misaki": ("speech",),
    "diffusers": ("generate/drawing.py",),
    "transformers": ("generate",),
    "fastapi": ("server",),
    "pydantic": ("server",),
    "ray": ("cluster.py",),
    "aiortc": ("server/webrtc.py",),
}
"""Heavy packages, and the only places that import them."""
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


def ours(path: Path) -> set[str]:
    """Return the modules of vortex that a file imports anywhere, also in functions and behind
    TYPE_CHECKING.
    """
    return {name for name in imported(ast.parse(path.read_text())) if name.startswith("vortex.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in ours(path):
        there = name.split(".")[1]
        if there not in ("version", here):
            assert layer_of(there) < layer_of(here) or layer_of(here) == 0, f"{here} imports {name}"


def test_no_module_imports_itself_through_others() -> None:
    names = {".".join(("vortex", *p.relative_to(PACKAGE).with_suffix("").parts)): p for p in FILES}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    graph = {name: {to for to in ours(path) if to in names and to != name} for name, path in names.items()}
    # what nothing imports, or only what was taken away before, is on no circle
    while leaves := {name for name, targets in graph.items() if not targets & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in leaves}
    circles = {name: targets & graph.keys() for name, targets in graph.items()}
    assert not circles


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_only_where_allowed(path: Path) -> None:
    place = path.relative_to(PACKAGE).as_posix()
    for name in imported(ast.parse(path.read_text())):
        allowed = ALLOWED.get(name.split(".")[0])
        assert allowed is None or place.startswith(allowed), f"{place} imports {name}"


def test_importing_vortex_is_cheap() -> None:
    heavy = ["torch", "cv2", "mediapipe", "av", "matplotlib", "onnxruntime", "transformers"]
    code = f"import sys, vortex; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists() -> None:
    assert sorted(vortex.__all__) == vortex.__all__
    for name in vortex.__all__:
        assert getattr(vortex, name) is not None


def test_type_checkers_and_python_know_the_same_public_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {a.name for node in ast.walk(guarded) if isinstance(node, ast.ImportFrom) for a in node.names}
    assert typed | {"__version__"} == set(vortex.__all__)


def test_help_begins_with_the_functions_and_is_short() -> None:
    text = pydoc.plain(pydoc.render_doc(vortex))
    first = text[: text.index("PACKAGE CONTENTS")]
    for name in ("animate", "drive", "speak", "say", "generate", "check", "open_live_face", "load_portrait"):
        assert name in first
    assert (vortex.__doc__ or "").count("\n") < 15
