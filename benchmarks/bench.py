"""What ``vortex bench`` runs: the named benchmarks, then a table of their figures beside earlier records.

Usage: python benchmarks/bench.py [NAME ...] [--record]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from vortex.engines.registry import find_engine

FOLDER = Path(__file__).parent
BENCHMARKS = {
    "mesh": ("mesh.py", "mesh.json"),
    "work": ("mesh.py --work", "mesh_work.json"),
    "memory": ("mesh.py --runs 100", "soak.json"),
    "lipsync": ("lipsync.py", "lipsync.json"),
    "live": ("load.py --live", "live.json"),
    "server": ("load.py", "server_load.json"),
    "networks": ("liveportrait.py", "liveportrait_work.json"),
    "liveportrait": ("liveportrait_latency.py", "liveportrait.json"),
    "joyvasa": ("joyvasa.py", "joyvasa.json"),
}
"""Name: script with its options, file of records in benchmarks/records/."""
QUICK = ("mesh", "work", "lipsync")
"""Run by default: they need no extra."""


def main() -> int:
    """Run the benchmarks; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=[*BENCHMARKS, []], metavar="NAME", help=", ".join(BENCHMARKS)
    )
    parser.add_argument("--record", action="store_true", help="append the records to benchmarks/records")
    args = parser.parse_args()
    neural = ["liveportrait"] * (find_engine("liveportrait").why_unavailable(None) is None)
    failed = []
    with tempfile.TemporaryDirectory() as new:
        for name in args.names or [*QUICK, *neural]:
            command, records = BENCHMARKS[name]
            print(f"== {name}", flush=True)
            if _run(*command.split(), "--output", f"{new}/{records}") != 0:
                failed.append(name)
        print("== beside the earlier records", flush=True)
        for records in sorted(file.name for file in Path(new).iterdir()):
            options = ["--record"] * args.record
            _run("compare.py", f"{FOLDER}/records/{records}", f"{new}/{records}", *options)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run(script: str, *arguments: str) -> int:
    return subprocess.run([sys.executable, str(FOLDER / script), *arguments]).returncode


if __name__ == "__main__":
    sys.exit(main())
