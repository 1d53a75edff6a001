"""``vortex batch``: the videos of a list."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any, TextIO

from vortex.cli.animate import add_cluster_option, chosen_engine, joined_cluster
from vortex.engines.base import ENGINES
from vortex.errors import InputError


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands of this file to the parser; ``common`` holds the options of every command."""
    batch = commands.add_parser("batch", parents=[common], help="make the videos of a list of jobs")
    batch.add_argument(
        "jobs", metavar="JOBS", help="a .csv with a header, or a .jsonl: portrait, speech, ..."
    )
    batch.add_argument("--out", metavar="DIR", required=True, help="folder of the videos and the report")
    batch.add_argument(
        "--workers", type=int, metavar="N", help="processes at a time (default: half the cores, at least one)"
    )
    batch.add_argument("--engine", default="mesh", choices=("auto", *ENGINES), help="default mesh")
    batch.add_argument("--device", help="for liveportrait: cuda or cpu")
    add_cluster_option(batch)
    batch.add_argument("--json", action="store_true", help="print the report as JSON on standard output")
    batch.set_defaults(run=_batch)


def _batch(args: argparse.Namespace, console: TextIO) -> int:
    from vortex.batch import REPORT, Outcome, read_jobs, run_batch

    workers = args.workers if args.workers is not None else max((os.cpu_count() or 1) // 2, 1)
    if workers < 1:
        raise InputError(f"--workers is {workers}; give 1 or more.")
    rows = read_jobs(Path(args.jobs))

    def listen(outcome: Outcome, ended: int, total: int) -> None:
        args.stop.check()
        if not args.json:
            detail = outcome.reason or f"{outcome.frames} frames in {outcome.seconds:.1f} s"
            name = outcome.output or f"row {outcome.number}"
            print(f"[{ended}/{total}] {outcome.status:<8}{name}  {detail}", file=console)

    engine = chosen_engine(args, console)
    with joined_cluster(args, engine, args.workers) as cluster:
        outcomes = run_batch(
            rows,
            Path(args.out),
            workers=workers,
            engine=engine,
            device=args.device,
            cluster=cluster,
            listen=listen,
        )
    counts = {status: sum(o.status == status for o in outcomes) for status in ("done", "skipped", "failed")}
    if args.json:
        print(json.dumps({**counts, "report": str(Path(args.out) / REPORT)}))
    else:
        said = ", ".join(f"{count} {status}" for status, count in counts.items())
        print(f"{said}; see {Path(args.out) / REPORT}", file=console)
    return 1 if counts["failed"] else 0
