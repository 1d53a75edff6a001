"""Time what a user waits for before any work: ``import vortex``, ``vortex --version``, ``vortex doctor``.

Usage: python benchmarks/import_time.py [--iterations 10] [--output .tasks/baselines/import_time.json]

Each is a process of its own, beside one that imports nothing; modules are counted too.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from harness import append, measure, record, rounded, summary, vortex_command

COMMANDS = {
    "python": [sys.executable, "-c", "pass"],
    "import": [sys.executable, "-c", "import vortex"],
    "version": [*vortex_command(), "--version"],
    "doctor": [*vortex_command(), "doctor", "--json"],
}
COUNT = "import sys; before = set(sys.modules); import vortex; print(len(set(sys.modules) - before))"


def main() -> int:
    """Measure, print, and keep a record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--output", type=Path, help="file of records to append to")
    args = parser.parse_args()
    samples = {
        name: measure(lambda command=command: _seconds(command), iterations=args.iterations, warmup=1)
        for name, command in COMMANDS.items()
    }
    entry = rounded(
        record(
            "import_time",
            engine=None,
            params={"iterations": args.iterations},
            latency_s=summary(samples["import"]),
            stage_s={name: statistics.median(values) for name, values in samples.items()},
            work={"modules_of_import_vortex": int(subprocess.check_output([sys.executable, "-c", COUNT]))},
        )
    )
    for name, seconds in entry["stage_s"].items():
        print(f"{name:<10}{1000 * seconds:8.0f} ms")
    print(f"import vortex loads {entry['work']['modules_of_import_vortex']} modules")
    if args.output:
        append(args.output, entry)
    return 0


def _seconds(command: list[str]) -> float:
    start_s = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start_s


if __name__ == "__main__":
    sys.exit(main())
