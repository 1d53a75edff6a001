"""The benchmarks compare like with like, and notice what got worse."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ENTRY: dict[str, Any] = {
    "benchmark": "mesh_latency",
    "engine": "mesh",
    "date": "2026-01-01T00:00:00+00:00",
    "env": {"cpu": "a", "cores": 2},
    "params": {"frames": 10},
    "latency_s": {"p50": 1.0},
    "peak_memory_bytes": 1000,
    "work": {"calls_per_frame": 100.0},
    "ratio": {"frame_to_kernel": 1.0},
    "figures": {"audio": {"closure_f1": 0.9, "lag_frames": 0.2}},
}


def compare(
    tmp_path: Path, new: dict[str, Any], base: dict[str, Any] = ENTRY
) -> subprocess.CompletedProcess[str]:
    for name, entry in (("base", base), ("new", new)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"schema": 1, "records": [entry]}))
    command = [sys.executable, str(BENCHMARKS / "compare.py"), str(tmp_path / "base.json")]
    return subprocess.run([*command, str(tmp_path / "new.json")], capture_output=True, text=True)


def changed(path: str, value: Any) -> dict[str, Any]:
    entry = copy.deepcopy(ENTRY)
    *parents, last = path.split(".")
    target = entry
    for name in parents:
        target = target[name]
    target[last] = value
    return entry


def test_the_same_is_no_worse(tmp_path: Path) -> None:
    assert compare(tmp_path, ENTRY).returncode == 0


@pytest.mark.parametrize(
    ("path", "worse", "within"),
    [
        ("latency_s.p50", 1.2, 1.09),
        ("peak_memory_bytes", 1200, 1090),
        ("work.calls_per_frame", 103.0, 101.0),
        ("ratio.frame_to_kernel", 1.6, 1.4),
        ("figures.audio.closure_f1", 0.87, 0.89),
        ("figures.audio.lag_frames", -0.5, 0.4),
    ],
)
def test_what_got_worse_is_named(tmp_path: Path, path: str, worse: float, within: float) -> None:
    done = compare(tmp_path, changed(path, worse))
    assert done.returncode == 1
    assert path.rsplit(".", 1)[-1] in done.stdout
    assert compare(tmp_path, changed(path, within)).returncode == 0


@pytest.mark.parametrize(
    ("path", "value"), [("env.cores", 4), ("params.frames", 20), ("engine", "liveportrait")]
)
def test_unlike_records_are_not_compared(tmp_path: Path, path: str, value: Any) -> None:
    done = compare(tmp_path, changed(path, value))
    assert done.returncode == 2
    assert "no record" in done.stderr


def test_counted_work_is_compared_across_machines(tmp_path: Path) -> None:
    counted = changed("env.cpu", "another")
    del counted["latency_s"]
    assert compare(tmp_path, counted, base={**counted, "env": ENTRY["env"]}).returncode == 0


def test_the_table_shows_what_a_record_has_beside_the_one_before(tmp_path: Path) -> None:
    """Run on a copy of the scripts, whose baselines are our own."""
    project = tmp_path / "project"
    shutil.copytree(BENCHMARKS, project / "benchmarks")
    baselines, new = project / ".tasks" / "baselines", tmp_path / "new"
    for folder, entry in ((baselines, ENTRY), (new, changed("latency_s.p50", 0.75))):
        folder.mkdir(parents=True)
        (folder / "mesh.json").write_text(json.dumps({"schema": 1, "records": [entry]}))
    command = [sys.executable, str(project / "benchmarks" / "table.py"), str(new), "--record"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["mesh_latency", "latency_s.p50", "0.75", "1", "-25.0", "%"] in lines
    assert ["mesh_latency", "figures.audio.closure_f1", "0.9", "0.9", "+0.0", "%"] in lines
    assert ["mesh_latency", "peak_memory_bytes", "1,000", "1,000", "+0.0", "%"] in lines
    kept = json.loads((baselines / "mesh.json").read_text())["records"]
    assert [entry["latency_s"]["p50"] for entry in kept] == [1.0, 0.75]


def test_the_page_of_benchmarks_is_what_the_records_say() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "report.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
