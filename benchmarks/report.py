"""Write docs/benchmarks.md from the records: no figure in it is typed by hand.

Usage: python benchmarks/report.py [--check]

The newest record of each benchmark and parameters is shown, with its machine and commit. ``--check`` writes
nothing and fails if the page differs from what the records say.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from compare import Record, at, flat, read_records, short
from harness import RECORDS, ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
KINDS = {
    "mesh_latency": ("The whole command, mesh engine", "mesh.py"),
    "mesh_work": ("Work of a mesh frame", "mesh.py --work"),
    "soak": ("Memory over many videos, mesh engine", "mesh.py --runs 100"),
    "long_voice": ("An hour of speech, mesh engine", None),
    "live_latency": ("A live face over a websocket: how far behind the voice", "load.py --live"),
    "server_load": ("A server under load", "load.py"),
    "import_time": ("Start of the command", None),
    "liveportrait_latency": ("LivePortrait, tensors to tensors", "liveportrait_latency.py"),
    "liveportrait_work": (
        "LivePortrait, counted work, and the least time for 1080 frames",
        "liveportrait.py",
    ),
    "liveportrait_fast": ("LivePortrait, fast frames against full ones", "liveportrait.py --fast 48"),
    "liveportrait_blocks": ("LivePortrait, parts of the networks in each exact form", None),
    "liveportrait_reuse": ("LivePortrait, share of frames that fast renders in full (estimate)", None),
    "joyvasa_window": ("JoyVASA, CPU seconds of a window of 4 s", "joyvasa.py"),
    "joyvasa_seams": ("JoyVASA, steps of the expression between windows", "joyvasa.py --seams 24"),
    "lipsync": ("Lip-sync figures", "lipsync.py"),
    "lipsync_robustness": ("Lip-sync of hard speech", "lipsync.py FOLDER --hard"),
    "lipsync_videos": ("Lip-sync of finished videos", "lipsync.py FOLDER --videos PORTRAIT..."),
}
"""Benchmark: title, and the command, or None if the benchmark was removed and its records are kept."""
NO_FIGURES = frozenset(
    "params latency_s env gpu schema benchmark engine date commit dirty resident_tenths_bytes "
    "error_in_steps".split()
)
"""Parts of a record that stand elsewhere in its section, or are left out."""
INTRODUCTION = """# Benchmarks

`python benchmarks/report.py` makes this page from the records in `benchmarks/records`; no figure is typed.
A record holds machine, versions, commit, parameters and samples; `--output FILE` appends one.
`vortex bench` runs the benchmarks on your machine. `python benchmarks/compare.py BASE NEW` compares records,
like with like, and fails where something got worse.
"""


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail if the page is out of date")
    if not parser.parse_args().check:
        PAGE.write_text(compose())
    elif compose() != PAGE.read_text():
        print("report: docs/benchmarks.md is out of date. Run: python benchmarks/report.py", file=sys.stderr)
        return 1
    return 0


def compose() -> str:
    """Return the page."""
    records = [entry for path in sorted(RECORDS.glob("*.json")) for entry in read_records(path)]
    parts = [INTRODUCTION]
    for benchmark, (title, command) in KINDS.items():
        newest = {_subject(entry): entry for entry in records if entry["benchmark"] == benchmark}
        run = (
            f"```bash\npython benchmarks/{command}\n```\n"
            if command
            else "The benchmark was removed; commit 61f6e76 has its last version.\n"
        )
        parts += [f"## {title}\n\n{run}"] * bool(newest) + [_section(entry) for entry in newest.values()]
    return "\n".join(parts)


def _subject(entry: Record) -> str:
    """Return what a newer record must share to replace this one on the page."""
    return str([item for item in entry["params"].items() if item[0] not in ("iterations", "warmup")])


def _section(entry: Record) -> str:
    params = ", ".join(f"{name} {short(value)}" for name, value in entry["params"].items())
    rows = "\n".join(f"| {name} | {short(value)} |" for name, value in _rows(entry))
    env = entry["env"]
    packages = env.get("packages") or {name: env[name] for name in ("numpy", "hama") if name in env}
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    device = entry.get("gpu") or f"{env.get('cores', '?')} cores of {env.get('cpu', '?')}"
    made = (
        f"{entry['date'][:10]}, commit {str(entry['commit'])[:9]}{' with changes' if entry['dirty'] else ''}"
    )
    load = f", load before {env['load_before']:.1f}" if "load_before" in env else ""
    source = f"{made}. {device}{load}; Python {env['python']}; {versions}."
    return f"{params}\n\n| Figure | Value |\n|---|---|\n{rows}\n\n{source}\n"


def _rows(entry: Record) -> Iterator[tuple[str, Any]]:
    for name in ("p50", "p90", "p95", "p99", "max"):
        if at(entry, f"latency_s.{name}") is not None:
            yield f"latency_s.{name}", entry["latency_s"][name]
    for name in [name for name in entry if name not in NO_FIGURES]:
        yield from flat(name, entry[name])


if __name__ == "__main__":
    sys.exit(main())
