"""The engine that docs/engines.md shows works as one file in vortex, and in a package of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from support.pages import python_block
from support.paths import DEMO_SPEECH, ROOT

from vortex.demo import demo_portrait

FLAT_ENGINE = python_block("engines.md", "Add an engine")
OPTIONS = ("--engine", "flat", "--size-px", 128, "--seed", 1, "--fps", 8, "--json")


def run(folder: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with ``folder`` before everything else that it imports from."""
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        cwd=cwd,
        capture_output=True,
        text=True,
    )


def animate(folder: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Run ``vortex animate`` with the engine."""
    command = ("-m", "vortex", "animate", demo_portrait(), DEMO_SPEECH, "-o", out)
    return run(folder, *command, *OPTIONS, cwd=out.parent)


def assert_brightness_follows_the_jaw(video: Path) -> None:
    """Check that frames show one picture at 70 to 100 % of its brightness, changing with the speech."""
    with av.open(str(video)) as container:
        frames = np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)]).astype(
            float
        )
    brightness = frames.mean(axis=(1, 2))
    assert 1.03 < brightness.max() / brightness.min() < 1 / 0.7 + 0.02
    # The frames have one pattern: without their brightness, they differ by the video's compression only.
    patterns = frames / brightness[:, None, None]
    assert np.abs(patterns - patterns.mean(axis=0)).mean() < 0.03


def test_an_engine_is_one_file(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "vortex", tmp_path / "vortex", ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "vortex" / "engines" / "flat" / "spec.py"
    file.parent.mkdir()
    file.write_text(FLAT_ENGINE, encoding="utf-8")
    assert len(FLAT_ENGINE.splitlines()) < 60
    out = tmp_path / "out.mp4"
    done = animate(tmp_path, out)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["engine"] == "flat"
    assert_brightness_follows_the_jaw(out)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the same engine as pip installs a package of somebody else's."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "flat_engine.py").write_text(FLAT_ENGINE, encoding="utf-8")
    described = folder / "flat_engine-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: flat-engine\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text("[vortex.engines]\nflat = flat_engine:SPEC\n")
    return folder


def test_an_installed_engine_is_listed_and_renders(installed: Path, tmp_path: Path) -> None:
    code = "from vortex.engines.registry import engine_specs; print(*engine_specs())"
    listed = run(installed, "-c", code, cwd=tmp_path)
    assert {"flat", "mesh", "liveportrait"} <= set(listed.stdout.split()), listed.stderr
    out = tmp_path / "out.mp4"
    done = animate(installed, out)
    assert done.returncode == 0, done.stderr
    assert_brightness_follows_the_jaw(out)


def test_the_contract_suite_checks_an_installed_engine(installed: Path) -> None:
    suite = ROOT / "tests" / "unit" / "engines" / "test_contract.py"
    done = run(installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", suite, "-k", "flat", cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout and "skipped" not in done.stdout
