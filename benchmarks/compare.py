"""Compare records of benchmarks, like with like, and fail where something got worse.

Usage: python benchmarks/compare.py BASE NEW [--tolerance 0.10]

BASE and NEW are files of records; they may be the same file, whose newest record is then compared with the
one before. Records are alike if benchmark, engine, parameters and, where seconds were measured, CPU or GPU
agree. What is compared: ``latency_s.p50`` and peak memory, which may grow by the tolerance; ``work``, which
is counted, by two in a hundred; ``ratio``, times in units of another, by a half, as machines differ;
``figures``, where more is better, may fall by 0.02. Exit status 1 if any did worse, 2 if nothing could be
compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import append

WORK_TOLERANCE = 0.02
RATIO_TOLERANCE = 0.5
FIGURE_TOLERANCE = 0.02
TIMED = "latency_s"
MEMORY = ("peak_memory_bytes", "vram_bytes.peak_allocated")


def main() -> int:
    """Compare the newest record of every kind in NEW."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.10, help="for seconds and bytes; default 0.10")
    args = parser.parse_args()
    base, new = read_records(args.base), read_records(args.new)
    if args.base.resolve() == args.new.resolve():
        base = base[:-1]
        new = new[-1:]
    pairs = list(alike_pairs(base, new))
    if not pairs:
        print(f"compare: no record in {args.base} is like one in {args.new}", file=sys.stderr)
        return 2
    complaints = [line for old, entry in pairs for line in worse(old, entry, args.tolerance)]
    for line in complaints:
        print(f"worse: {line}")
    print(f"{len(pairs)} compared, {len(complaints)} worse")
    return 1 if complaints else 0


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file, oldest first."""
    records: list[dict[str, Any]] = json.loads(path.read_text())["records"]
    return records


def compare_with_newest(baseline: Path, entry: Mapping[str, Any], tolerance: float = 0.10) -> list[str]:
    """Return what is worse in ``entry`` than in the newest record like it, in words."""
    pairs = list(alike_pairs(read_records(baseline), [entry]))
    if not pairs:
        return [f"{baseline} has no record like this one, {likeness(entry)}"]
    return worse(*pairs[0], tolerance)


def keep(entry: dict[str, Any], output: Path | None, baseline: Path | None) -> int:
    """Append a record to ``output``, tell what is worse than in ``baseline``; return the exit status."""
    if output:
        append(output, entry)
    complaints = compare_with_newest(baseline, entry) if baseline else []
    for complaint in complaints:
        print(f"worse: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


def alike_pairs(
    base: list[dict[str, Any]], new: list[Any]
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Yield, for the newest record of each kind in ``new``, the newest one like it in ``base``, and it."""
    newest = {likeness(entry): entry for entry in new}
    known = {likeness(entry): entry for entry in base}
    for kind, entry in newest.items():
        if kind in known:
            yield known[kind], entry


def likeness(entry: Mapping[str, Any]) -> str:
    """Return what two records must share to be compared."""
    shared = {name: entry.get(name) for name in ("benchmark", "engine", "params")}
    if TIMED in entry:
        environment = entry["env"]
        shared["machine"] = entry.get("gpu") or [environment.get("cpu"), environment.get("cores")]
    return json.dumps(shared, sort_keys=True)


def worse(old: Mapping[str, Any], new: Mapping[str, Any], tolerance: float) -> list[str]:
    """Return what got worse from one record to another, in words."""
    limits = {f"{TIMED}.p50": tolerance, **{name: tolerance for name in MEMORY}}
    limits |= {f"work.{name}": WORK_TOLERANCE for name in old.get("work", {})}
    limits |= {f"ratio.{name}": RATIO_TOLERANCE for name in old.get("ratio", {})}
    lines = []
    for name, limit in limits.items():
        before, after = at(old, name), at(new, name)
        if before is not None and (after is None or after > before * (1 + limit)):
            lines.append(
                f"{new['benchmark']} {name}: {after}, was {before} (at most {100 * limit:.0f} % more)"
            )
    return lines + _worse_figures(new["benchmark"], old.get("figures", {}), new.get("figures", {}))


def _worse_figures(benchmark: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, before in old.items():
        after = new.get(name)
        if isinstance(before, Mapping):
            lines += _worse_figures(f"{benchmark} {name}", before, after or {})
        elif name.startswith("lag"):
            if after is None or abs(after) > abs(before) + 0.25:
                lines.append(f"{benchmark} {name}: {after}, was {before}")
        elif after is None or after < before - FIGURE_TOLERANCE:
            lines.append(f"{benchmark} {name}: {after}, was {before}")
    return lines


def at(entry: Mapping[str, Any], path: str) -> Any:
    """Return what stands at a path such as ``latency_s.p50`` of a record, None if nothing does."""
    value: Any = entry
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


if __name__ == "__main__":
    sys.exit(main())
