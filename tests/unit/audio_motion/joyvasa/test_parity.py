"""Our networks match stored outputs of the published ones, at full size and in both position forms."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

PROGRAM = os.environ.get("VORTEX_JOYVASA_PARITY", "")
"""A program with ``make-weights FOLDER`` and ``compare REFERENCE FOLDER --impl MODULE:FACTORY``."""


@pytest.mark.slow
@pytest.mark.skipif(not PROGRAM, reason="VORTEX_JOYVASA_PARITY names no program with the numeric reference")
def test_networks_agree_with_the_published_ones(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}

    def run(*arguments: str) -> str:
        command = [sys.executable, PROGRAM, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    run("make-weights", str(tmp_path))
    reference = Path(PROGRAM).with_name("reference.npz")
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
