"""What every benchmark needs: repeated measurement, percentiles, the machine, records that are only appended
to."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "benchmarks" / "records"
SCHEMA = 1
PACKAGES = (
    "numpy", "opencv-contrib-python", "mediapipe", "av", "hama", "pocketsphinx", "soxr", "torch", "triton"
)  # fmt: skip
MIN_SAMPLES_FOR_P99 = 100
"""With fewer samples, the 99th percentile equals the maximum."""


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has; its help is the docstring of the script."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, help="file of records to append to")
    parser.add_argument(
        "--check", type=Path, metavar="BASELINE", help="fail if worse than its newest like record"
    )
    return parser


def measure(work: Callable[[], float], *, iterations: int, warmup: int) -> list[float]:
    """Call ``work``, which returns its seconds, and return those of all but the first ``warmup`` calls."""
    for _ in range(warmup):
        work()
    return [work() for _ in range(iterations)]


def summary(samples_s: Sequence[float]) -> dict[str, Any]:
    """Return the distribution of samples in seconds; ``p99`` is None below 100 samples.

    A percentile is the smallest sample that at least so many percent of the samples do not exceed.
    """
    ordered = sorted(samples_s)

    def percentile(percent: float) -> float:
        return ordered[max(math.ceil(percent / 100 * len(ordered)) - 1, 0)]

    return {
        "min": ordered[0],
        "p50": statistics.median(ordered),
        "p90": percentile(90),
        "p95": percentile(95),
        "p99": percentile(99) if len(ordered) >= MIN_SAMPLES_FOR_P99 else None,
        "max": ordered[-1],
        "mean": statistics.fmean(ordered),
        "stdev": statistics.stdev(ordered) if len(ordered) > 1 else None,
        "samples": list(samples_s),
    }


def tenths(values: Sequence[float]) -> list[float]:
    """Return the median of each tenth of a series, in order: memory that grows shows from tenth to tenth."""
    edges = [round(index * len(values) / 10) for index in range(11)]
    return [statistics.median(values[min(a, len(values) - 1) : max(b, a + 1)]) for a, b in pairwise(edges)]


def record(benchmark: str, **content: Any) -> dict[str, Any]:
    """Return a record with date, commit, machine and versions; floats are rounded."""
    entry: dict[str, Any] = rounded(
        {
            "schema": SCHEMA,
            "benchmark": benchmark,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": _git("rev-parse", "HEAD"),
            "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
            "env": {
                "cpu": _cpu(),
                "cores": os.cpu_count(),
                "load_before": os.getloadavg()[0],
                "system": f"{platform.system()} {platform.release()}",
                "python": platform.python_version(),
                "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
            },
            **content,
        }
    )
    return entry


def append(path: Path, entry: dict[str, Any]) -> None:
    """Add a record to a file of records; those already in it are kept."""
    path = path.resolve()  # one of the files in records/ is a link
    stored: dict[str, Any] = {"schema": SCHEMA, "records": []}
    if path.exists():
        stored = json.loads(path.read_text())
    stored["records"].append(entry)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(stored, indent=1) + "\n")
    part.replace(path)


def rounded(value: Any, digits: int = 4) -> Any:
    """Return a structure with all its floats rounded."""
    if isinstance(value, float):
        return round(value, digits)
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item, digits) for item in value]
    return value


def vortex_command() -> list[str]:
    """Return the start of a command line that runs this environment's vortex."""
    return [sys.executable, "-m", "vortex"]


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None
