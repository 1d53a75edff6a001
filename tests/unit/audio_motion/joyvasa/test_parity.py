"""Our networks match stored outputs of the published ones, at full size and in both position forms."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

FOLDER = os.environ.get("VORTEX_JOYVASA_REFERENCE", "")
"""Folder of the stored outputs and of the program that makes the weights behind them, and compares."""


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER, reason="VORTEX_JOYVASA_REFERENCE names no folder with outputs of JoyVASA")
def test_networks_agree_with_the_published_ones(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}

    def run(*arguments: str) -> str:
        command = [sys.executable, str(Path(FOLDER) / "joyvasa_parity.py"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    run("make-weights", str(tmp_path))
    reference = Path(FOLDER) / "reference.npz"
    implementation = "support.joyvasa_published:factory"
    try:
        shown = run("compare", str(reference), str(tmp_path), "--impl", implementation)
    finally:
        for path in tmp_path.rglob("*.pt"):
            path.unlink()  # 414 MB
    assert shown.splitlines()[-1].startswith("PASS")
    assert {"audio_features", "legacy/generate", "fixed/generate"} <= {
        line.split()[0] for line in shown.splitlines()
    }
