"""The lip-sync figures do not get worse than the recorded ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from support.paths import ROOT

BASELINE = ROOT / "benchmarks" / "records" / "lipsync.json"


def check(baseline: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "lipsync.py"), "--check", str(baseline)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_figures_are_as_good_as_the_recorded_ones() -> None:
    done = check(BASELINE)
    assert done.returncode == 0, done.stderr


def test_a_better_baseline_makes_the_check_fail(tmp_path: Path) -> None:
    better = json.loads(BASELINE.read_text())
    better["records"][-1]["figures"]["audio"]["jaw_correlation"] = 0.999
    (tmp_path / "better.json").write_text(json.dumps(better))
    done = check(tmp_path / "better.json")
    assert done.returncode == 1
    assert "audio jaw_correlation" in done.stderr
