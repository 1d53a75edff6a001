"""The command line as a user runs it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.run import Run

import vortex
from vortex.demo import demo_portrait


@pytest.fixture(scope="session")
def run_vortex() -> Run:
    """Run ``vortex ARGUMENTS`` and return what it printed and its exit status."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "vortex", *map(str, arguments)]
        env = {**os.environ, "PYTHONWARNINGS": ""}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)

    return run


@pytest.fixture(scope="session")
def portrait() -> Path:
    return demo_portrait()


@pytest.fixture(scope="session")
def speech() -> Path:
    return Path(vortex.__file__).parent / "data" / "demo_speech.flac"
