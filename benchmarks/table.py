"""Print records as one table, beside the newest like them in .tasks/baselines, and keep them if asked to.

Usage: python benchmarks/table.py FOLDER [--record]

FOLDER holds files of records, such as benchmarks write with --output. "before" is empty where no record of
the same benchmark, parameters and, for seconds, machine is kept. ``--record`` appends each record to the file
of the same name in .tasks/baselines.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compare import alike_pairs, at, read_records
from harness import append
from report import BASELINES, short

SHOWN = (
    "latency_s.p50", "latency_s.p99", "cpu_s", "frames_per_s", "peak_memory_bytes", "vram_bytes.peak",
    "growth", "videos_that_differ", "work", "ratio", "figures", "encoding_s", "stage_ms_per_frame", "floor_s",
)  # fmt: skip
"""What of a record the table has, in this order."""
WIDTHS = (22, 44, 14, 14, 8)
Row = tuple[str, str, str, str, str]


def main() -> int:
    """Print the table, and append the records if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--record", action="store_true", help="append the records to .tasks/baselines")
    args = parser.parse_args()
    print_row(("benchmark", "figure", "now", "before", "change"))
    for path in sorted(args.folder.glob("*.json")):
        known = BASELINES / path.name
        kept = read_records(known) if known.exists() else []
        for entry in read_records(path):
            before = next((old for old, _ in alike_pairs(kept, [entry])), {})
            for row in rows(entry, before):
                print_row(row)
            if args.record:
                append(known, entry)
    return 0


def rows(entry: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the rows of one record: benchmark, figure, now, before, change in percent."""
    old = dict(figures(before))
    for name, value in figures(entry):
        then = old.get(name)
        change = f"{100 * (value / then - 1):+.1f} %" if then else ""
        yield entry["benchmark"], name, short(value), "" if then is None else short(then), change


def figures(entry: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield name and value of what the table shows of a record."""
    for path in SHOWN:
        yield from _flat(path, at(entry, path))


def _flat(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for part, inner in value.items():
            yield from _flat(f"{name}.{part}", inner)
    elif isinstance(value, (int, float)):
        yield name, value


def print_row(row: Row) -> None:
    """Print a line: names to the left, numbers to the right."""
    cells = [
        cell.ljust(width) if index < 2 else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(row, WIDTHS, strict=True))
    ]
    print("  ".join(cells).rstrip())


if __name__ == "__main__":
    sys.exit(main())
