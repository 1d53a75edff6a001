"""Write docs/benchmarks.md from the records in .tasks/baselines: no figure in it is typed by hand.

Usage: python benchmarks/report.py [--check]

The newest record of each kind is shown, with its machine and commit. ``--check`` writes nothing and fails if
the page is not what the records say.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from compare import likeness, read_records
from harness import ROOT

BASELINES = ROOT / ".tasks" / "baselines"
PAGE = ROOT / "docs" / "benchmarks.md"
SCRIPTS = {
    "mesh_latency": "mesh_latency.py --output .tasks/baselines/mesh.json",
    "mesh_work": "mesh_work.py --output .tasks/baselines/mesh_work.json",
    "soak": "soak.py --output .tasks/baselines/soak.json",
    "long_voice": "long_voice.py --output .tasks/baselines/long_voice.json",
    "live_latency": "live_latency.py --output .tasks/baselines/live.json",
    "server_load": "server_load.py --output .tasks/baselines/server_load.json",
    "import_time": "import_time.py --output .tasks/baselines/import_time.json",
    "liveportrait_latency": "liveportrait_latency.py --output .tasks/baselines/liveportrait.json",
    "liveportrait_work": "liveportrait_work.py --output .tasks/baselines/liveportrait_work.json",
    "liveportrait_blocks": "liveportrait_blocks.py --output .tasks/baselines/liveportrait_blocks.json",
    "liveportrait_reuse": "liveportrait_reuse.py --output .tasks/baselines/reuse.json",
    "lipsync": "lipsync.py --output .tasks/baselines/lipsync.json",
    "lipsync_robustness": "lipsync_robustness.py --output .tasks/baselines/lipsync_robustness.json",
    "lipsync_videos": "lipsync_videos.py FOLDER PORTRAIT... --output .tasks/baselines/lipsync_videos.json",
}
TITLES = {
    "mesh_latency": "The whole command, mesh engine",
    "mesh_work": "Work of a mesh frame",
    "soak": "Memory over many runs, mesh engine",
    "long_voice": "An hour of speech, mesh engine",
    "live_latency": "A live face over a websocket: how far behind the voice",
    "server_load": "A server under load",
    "import_time": "Start of the command",
    "liveportrait_latency": "LivePortrait, tensors to tensors",
    "liveportrait_work": "LivePortrait, counted work of a frame, and the floor it sets for 1080 frames",
    "liveportrait_blocks": "LivePortrait, parts of the networks in each exact form",
    "liveportrait_reuse": "LivePortrait, share of frames rendered in full with quality fast (estimate)",
    "lipsync": "Lip-sync figures",
    "lipsync_robustness": "Lip-sync of hard speech",
    "lipsync_videos": "Lip-sync of finished videos, on the pixels",
}
INTRODUCTION = """# Benchmarks

This page is made by `python benchmarks/report.py` from the records in `.tasks/baselines`; nothing in it is
typed. A record holds the machine, versions, commit, parameters and every sample. `vortex bench` runs the
benchmarks of this machine; `python benchmarks/compare.py BASE NEW` compares records, like with like, and
fails where something got worse.
"""


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail if the page is out of date")
    args = parser.parse_args()
    page = compose()
    if args.check:
        if page != PAGE.read_text():
            print(
                "report: docs/benchmarks.md is out of date; run python benchmarks/report.py", file=sys.stderr
            )
            return 1
        return 0
    PAGE.write_text(page)
    return 0


def compose() -> str:
    """Return the page."""
    records = [entry for path in sorted(BASELINES.glob("*.json")) for entry in read_records(path)]
    parts = [INTRODUCTION]
    for benchmark, title in TITLES.items():
        mine = [entry for entry in records if entry["benchmark"] == benchmark]
        newest = {likeness(entry): entry for entry in mine}
        if newest:
            parts.append(f"## {title}\n\n```bash\npython benchmarks/{SCRIPTS[benchmark]}\n```\n")
            parts += [_section(entry) for entry in newest.values()]
    return "\n".join(parts)


def _section(entry: Mapping[str, Any]) -> str:
    params = ", ".join(f"{name} {short(value)}" for name, value in entry["params"].items())
    rows = "\n".join(f"| {name} | {value} |" for name, value in _rows(entry))
    return f"{params}\n\n| Figure | Value |\n|---|---|\n{rows}\n\n{_provenance(entry)}\n"


def _rows(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    latency = entry.get("latency_s", {})
    for name in ("p50", "p90", "p95", "p99", "max"):
        if latency.get(name) is not None:
            rows.append((f"latency, {name}", f"{latency[name]:.3f} s"))
    rows += [(f"stage: {name}", f"{value:.3f} s") for name, value in entry.get("stage_s", {}).items()]
    for group in (
        "work", "ratio", "floor_s", "encoding_s", "stage_ms_per_frame", "published_ms_per_frame",
        "resident_bytes", "vram_bytes", "figures", "plan", "end",
        "fast_against_full",
    ):  # fmt: skip
        rows += _flat(entry.get(group) or {}, group.replace("_bytes", ""))
    for name in (
        "frames", "wall_s", "cpu_s", "encoding_alone_s", "render_ms_per_frame", "frames_per_s",
        "frames_per_product", "peak_memory_bytes", "output_bytes", "growth", "growth_bytes_per_minute",
        "videos_that_differ",
    ):  # fmt: skip
        if entry.get(name) is not None:
            rows.append((name, short(entry[name])))
    return rows


def _flat(values: Mapping[str, Any], prefix: str) -> list[tuple[str, str]]:
    rows = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix} {name}")
        elif value is not None:
            rows.append((f"{prefix}: {name}", short(value)))
    return rows


def short(value: Any) -> str:
    """Return a value as people read it: a number with four digits that count, or whole."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _provenance(entry: Mapping[str, Any]) -> str:
    env = entry["env"]
    packages = env.get("packages") or {name: env[name] for name in ("numpy", "hama") if name in env}
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    device = entry.get("gpu") or f"{env.get('cores', '?')} cores of {env.get('cpu', '?')}"
    state = " with changes" if entry["dirty"] else ""
    load = f", load before {env['load_before']:.1f}" if "load_before" in env else ""
    return (
        f"{entry['date'][:10]}, commit {str(entry['commit'])[:9]}{state}. {device}{load}; "
        f"Python {env['python']}; {versions}."
    )


if __name__ == "__main__":
    sys.exit(main())
