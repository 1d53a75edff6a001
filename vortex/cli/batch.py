"""``vortex batch``: the videos of a list."""

from __future__ import annotations

import argparse
import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TextIO

from vortex.cli.animate import add_cluster_option, add_json_option
from vortex.cli.options import add_options, parsed_options
from vortex.errors import InputError
from vortex.options import OutputOptions, VideoOptions, options_of


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands of this file; ``common`` holds the options of every command."""
    batch = commands.add_parser(
        "batch", parents=[common], help="make the videos of a list of jobs",
        description="Each option is also a column of the list; given here, it is the default of its rows.",
    )  # fmt: skip
    batch.add_argument(
        "jobs",
        metavar="JOBS",
        help="a .csv with a header, or a .jsonl: portrait, speech, text or driving, output, ...",
    )
    batch.add_argument("--out", metavar="DIR", required=True, help="folder of the videos and the report")
    batch.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes at a time (default half of the cores, at least one)",
    )
    batch.add_argument(
        "--row-timeout-s", type=float, metavar="S", help="seconds after which a row fails (default a day)"
    )
    add_cluster_option(batch)
    add_options(batch, OutputOptions)
    add_options(batch, VideoOptions)
    add_json_option(batch)
    batch.set_defaults(run=_batch)


def _batch(args: argparse.Namespace, console: TextIO) -> int:
    from vortex.batch.jobs import JOURNAL, REPORT, Outcome, read_jobs
    from vortex.batch.run import ROW_TIMEOUT_S, count_statuses, run_batch
    from vortex.cluster import Cluster

    options = parsed_options(args, VideoOptions)
    rows = read_jobs(args.jobs, **{name: getattr(args, name) for name in options_of(VideoOptions)})

    def on_outcome(outcome: Outcome, ended: int, total: int) -> None:
        args.stop.check()
        if not args.json:
            detail = outcome.reason or f"{outcome.frames} frames in {outcome.duration_s:.1f} s"
            name = outcome.output or f"row {outcome.number}"
            print(f"[{ended}/{total}] {outcome.status:<8}{name}  {detail}", file=console)

    if os.path.realpath(args.jobs) == os.path.realpath(Path(args.out) / JOURNAL):
        raise InputError(f"Jobs '{args.jobs}' are the journal of the folder. Rename the list.")
    joined = Cluster(args.cluster, options, actors=args.workers) if args.cluster else nullcontext()
    with joined as cluster:
        outcomes = run_batch(
            rows,
            args.out,
            workers=args.workers,
            cluster=cluster,
            force=parsed_options(args, OutputOptions).force,
            row_timeout_s=ROW_TIMEOUT_S if args.row_timeout_s is None else args.row_timeout_s,
            on_outcome=on_outcome,
        )
    counts = count_statuses(outcomes)
    if args.json:
        print(json.dumps({**counts, "report": str(Path(args.out) / REPORT)}))
    else:
        said = ", ".join(f"{count} {status}" for status, count in counts.items())
        print(f"{said}; see {Path(args.out) / REPORT}", file=console)
    return 1 if counts["failed"] else 0
