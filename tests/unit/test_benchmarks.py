"""Comparing benchmark records: only like with like, and anything that got worse is reported."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from harness import summary, tenths
from support.paths import ROOT

from vortex.types import BLENDSHAPE_INDEX

BENCHMARKS = ROOT / "benchmarks"
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


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "compare.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def compare(
    tmp_path: Path, new: dict[str, Any], base: dict[str, Any] = ENTRY, more: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    for name, entry in (("base", base), ("new", new)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"schema": 1, "records": [entry]}))
    return run(tmp_path / "base.json", tmp_path / "new.json", *more)


def changed(path: str, value: Any) -> dict[str, Any]:
    entry = copy.deepcopy(ENTRY)
    *parents, last = path.split(".")
    target = entry
    for name in parents:
        target = target[name]
    target[last] = value
    return entry


def test_an_equal_record_is_not_worse(tmp_path: Path) -> None:
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
def test_a_worse_value_is_reported(tmp_path: Path, path: str, worse: float, within: float) -> None:
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


def test_the_table_shows_a_record_beside_the_earlier_one(tmp_path: Path) -> None:
    lines = [line.split() for line in compare(tmp_path, changed("latency_s.p50", 0.75)).stdout.splitlines()]
    assert ["mesh_latency", "latency_s.p50", "0.75", "1", "-25.0", "%"] in lines
    assert ["mesh_latency", "figures.audio.closure_f1", "0.9", "0.9", "+0.0", "%"] in lines
    assert ["mesh_latency", "peak_memory_bytes", "1,000", "1,000", "+0.0", "%"] in lines


def test_record_appends_and_keeps_what_was_there(tmp_path: Path) -> None:
    compare(tmp_path, changed("latency_s.p50", 0.75), more=["--record"])
    kept = json.loads((tmp_path / "base.json").read_text())["records"]
    assert [entry["latency_s"]["p50"] for entry in kept] == [1.0, 0.75]


def test_a_file_is_compared_with_its_own_earlier_records(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"schema": 1, "records": [ENTRY, changed("latency_s.p50", 2.0)]}))
    done = run(path, path)
    assert done.returncode == 1
    assert "2.0, was 1.0" in done.stdout


def test_percentiles_are_samples_by_the_nearest_rank_method() -> None:
    """Of 1 to 100 in any order, the nearest rank of p percent is p itself; fewer samples have no p99."""
    hundred = summary(random.Random(1).sample(range(1, 101), 100))
    assert (hundred["p50"], hundred["p95"], hundred["p99"]) == (50.5, 95, 99)
    assert summary(range(1, 100))["p99"] is None


def test_tenths_are_medians_in_order() -> None:
    assert tenths(list(range(100))) == [10 * tenth + 4.5 for tenth in range(10)]
    assert len(tenths([1.0, 2.0, 3.0])) == 10


def test_the_benchmarks_page_agrees_with_the_records() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "report.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_take_for_machines_with_a_gpu_is_a_motion() -> None:
    pytest.importorskip("torch", reason="the extra 'neural' is not installed")
    from liveportrait import read_take

    portrait, motion = read_take()
    assert portrait.image.shape == (512, 512, 3)
    assert len(motion) == 1080
    # Somebody speaks: the mouth opens and shuts.
    jaw = motion.blendshapes[:, BLENDSHAPE_INDEX["jawOpen"]]
    assert jaw.max() > 0.3 and jaw.min() < 0.05
