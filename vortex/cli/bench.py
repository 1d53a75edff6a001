"""``vortex bench``: measure this machine with the benchmarks of the project."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, TextIO

from vortex.engines.base import why_unavailable
from vortex.errors import InputError

BENCHMARKS = {
    "import": ("import_time.py", "import_time.json"),
    "mesh": ("mesh_latency.py", "mesh.json"),
    "work": ("mesh_work.py", "mesh_work.json"),
    "lipsync": ("lipsync.py", "lipsync.json"),
    "soak": ("soak.py", "soak.json"),
    "live": ("live_latency.py", "live.json"),
    "server": ("server_load.py", "server_load.json"),
    "networks": ("liveportrait_work.py", "liveportrait_work.json"),
    "liveportrait": ("liveportrait_latency.py", "liveportrait.json"),
}
"""Name: script in benchmarks/, file of records in .tasks/baselines/."""
QUICK = ("import", "mesh", "work", "lipsync")


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands of this file to the parser; ``common`` holds the options of every command."""
    bench = commands.add_parser("bench", parents=[common], help="measure this machine (needs a checkout)")
    bench.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(BENCHMARKS)}; default {', '.join(QUICK)}, and liveportrait where it can run",
    )
    bench.add_argument("--record", action="store_true", help="append the records to .tasks/baselines")
    bench.set_defaults(run=_bench)


def _bench(args: argparse.Namespace, console: TextIO) -> int:
    folder = Path(__file__).parents[2] / "benchmarks"
    if not folder.is_dir():
        raise InputError(
            f"No benchmarks beside {folder.parent / 'vortex'}: they are part of the repository, not of the "
            "installed package. Run this from a checkout."
        )
    unknown = [name for name in args.names if name not in BENCHMARKS]
    if unknown:
        raise InputError(f"Unknown benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}.")
    neural = ["liveportrait"] * (why_unavailable("liveportrait") is None)
    failed = []
    with tempfile.TemporaryDirectory() as records:
        for name in args.names or [*QUICK, *neural]:
            script, file_name = BENCHMARKS[name]
            print(f"== {name}", flush=True)
            if _run(folder / script, "--output", str(Path(records) / file_name)) != 0:
                failed.append(name)
        print("== all", flush=True)
        _run(folder / "table.py", records, *["--record"] * args.record)
    if failed:
        print(f"vortex: failed: {', '.join(failed)}", file=console)
    return 1 if failed else 0


def _run(script: Path, *arguments: str) -> int:
    return subprocess.run([sys.executable, str(script), *arguments]).returncode
