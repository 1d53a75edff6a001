"""Compare records of benchmarks, print them as a table, and fail where something got worse.

Usage: python benchmarks/compare.py BASE NEW [--tolerance 0.10] [--record]

BASE and NEW are files of records; if they are the same file, its newest record is compared with the earlier
ones. The newest record of each kind in NEW is compared with the newest like it in BASE: benchmark, engine,
parameters and, where seconds were measured, CPU or GPU must be equal. ``latency_s.p50`` and peak memory may
grow by the tolerance; ``work``, which is counted, by 2 %; ``ratio``, times in units of another time, by 50 %,
as machines differ; ``figures``, where more is better, may fall by 0.02, and a lag may grow by 0.25.
``--record`` appends NEW to BASE. Exit status 1 if anything got worse, 2 if nothing could be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import append

WORK_TOLERANCE = 0.02
RATIO_TOLERANCE = 0.5
FIGURE_TOLERANCE = 0.02
LAG_TOLERANCE_FRAMES = 0.25
MEMORY = ("peak_memory_bytes", "vram_bytes.peak_allocated")
SHOWN = (
    "latency_s.p50", "latency_s.p95", "latency_s.p99", "cpu_s", "frames_per_s", "peak_memory_bytes",
    "vram_bytes.peak", "growth", "videos_that_differ", "work", "ratio", "figures", "encoding_s",
    "stage_ms_per_frame", "floor_s",
)  # fmt: skip
"""What the table shows of a record, in this order."""
Record = Mapping[str, Any]


def main() -> int:
    """Print the table, and what got worse."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.10, help="for seconds and bytes; default 0.10")
    parser.add_argument("--record", action="store_true", help="append the records of NEW to BASE")
    args = parser.parse_args()
    base, new = read_records(args.base), read_records(args.new)
    if args.base.resolve() == args.new.resolve():
        base, new = base[:-1], new[-1:]
    newest = list({likeness(entry): entry for entry in new}.values())
    pairs = [(newest_like(entry, base), entry) for entry in newest]
    print_table(pairs)
    if args.record:
        for entry in new:
            append(args.base, entry)
    known = [(old, entry) for old, entry in pairs if old is not None]
    if not known:
        print(f"compare: no record in {args.base} is like one in {args.new}", file=sys.stderr)
        return 2
    complaints = [line for old, entry in known for line in worse(old, entry, args.tolerance)]
    for line in complaints:
        print(f"worse: {line}")
    print(f"{len(known)} compared, {len(complaints)} worse")
    return 1 if complaints else 0


def keep(entry: dict[str, Any], args: argparse.Namespace) -> int:
    """Print a record, append it to ``args.output``, compare it with ``args.check``.

    Returns the exit status: 1 if it is worse than the newest record like it, or if there is no such record.
    """
    shown = {name: value for name, value in entry.items() if name not in ("schema", "date", "commit", "env")}
    if "latency_s" in shown:
        shown["latency_s"] = {name: value for name, value in shown["latency_s"].items() if name != "samples"}
    print(json.dumps(shown, indent=1))
    if args.output:
        append(args.output, entry)
    if not args.check:
        return 0
    old = newest_like(entry, read_records(args.check))
    complaints = worse(old, entry, 0.10) if old else [f"{args.check} has no record like {likeness(entry)}"]
    for complaint in complaints:
        print(f"worse: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file, oldest first; none if there is no such file."""
    return list(json.loads(path.read_text())["records"]) if path.exists() else []


def newest_like(entry: Record, base: Sequence[Record]) -> Record | None:
    """Return the newest record of ``base`` that may be compared with ``entry``."""
    return next((old for old in reversed(base) if likeness(old) == likeness(entry)), None)


def likeness(entry: Record) -> str:
    """Return what two records must share to be compared."""
    shared = {name: entry.get(name) for name in ("benchmark", "engine", "params")}
    if "latency_s" in entry:
        environment = entry["env"]
        shared["machine"] = entry.get("gpu") or [environment.get("cpu"), environment.get("cores")]
    return json.dumps(shared, sort_keys=True)


def worse(old: Record, new: Record, tolerance: float) -> list[str]:
    """Return what got worse from one record to another, in words."""
    limits = {"latency_s.p50": tolerance, **{name: tolerance for name in MEMORY}}
    limits |= {f"work.{name}": WORK_TOLERANCE for name in old.get("work", {})}
    limits |= {f"ratio.{name}": RATIO_TOLERANCE for name in old.get("ratio") or {}}
    lines = []
    for name, limit in limits.items():
        before, after = at(old, name), at(new, name)
        if before is not None and (after is None or after > before * (1 + limit)):
            lines.append(
                f"{new['benchmark']} {name}: {after}, was {before} (at most {100 * limit:.0f} % more)"
            )
    return lines + _worse_figures(new["benchmark"], old.get("figures", {}), new.get("figures", {}))


def _worse_figures(benchmark: str, old: Record, new: Record) -> list[str]:
    lines = []
    for name, before in old.items():
        after = new.get(name)
        if isinstance(before, Mapping):
            lines += _worse_figures(f"{benchmark} {name}", before, after or {})
        elif after is None or (
            abs(after) > abs(before) + LAG_TOLERANCE_FRAMES
            if name.startswith("lag")
            else after < before - FIGURE_TOLERANCE
        ):
            lines.append(f"{benchmark} {name}: {after}, was {before}")
    return lines


def at(entry: Record, path: str) -> Any:
    """Return the value at a path such as ``latency_s.p50`` of a record, None if there is none."""
    value: Any = entry
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def print_table(pairs: Sequence[tuple[Record | None, Record]]) -> None:
    """Print every figure of new records beside that of the old ones, and the change."""
    print(f"{'benchmark':<22}{'figure':<44}{'now':>16}{'before':>16}{'change':>10}")
    for old, new in pairs:
        before = dict(_figures(old)) if old else {}
        for name, value in _figures(new):
            then = before.get(name)
            change = f"{100 * (value / then - 1):+.1f} %" if then else ""
            shown = "" if then is None else short(then)
            print(f"{new['benchmark']:<22}{name:<44}{short(value):>16}{shown:>16}{change:>10}".rstrip())


def _figures(entry: Record) -> Iterator[tuple[str, float]]:
    for path in SHOWN:
        yield from flat(path, at(entry, path))


def flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings with their paths, such as ("figures.audio.closure_f1", 0.9)."""
    if isinstance(value, Mapping):
        for part, inner in value.items():
            yield from flat(f"{name}.{part}", inner)
    elif value is not None:
        yield name, value


def short(value: Any) -> str:
    """Return a value for readers: a number with four significant digits, or whole; a list with commas."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    sys.exit(main())
