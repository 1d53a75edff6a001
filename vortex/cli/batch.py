"""``vortex batch``: the videos of a list."""

from __future__ import annotations

import argparse
import json
import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from vortex.cli.animate import add_cluster_option, add_json_option
from vortex.cli.options import add_options, parsed_options
from vortex.errors import InputError
from vortex.options import OutputOptions, VideoOptions, options_of
from vortex.runtime.duration import in_words
from vortex.runtime.files import check_new_file, check_output_path

if TYPE_CHECKING:
    from vortex.batch.jobs import Outcome


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands of this file; ``common`` holds the options of every command."""
    batch = commands.add_parser(
        "batch", parents=[common], help="make the videos of a list of jobs",
        description="Each option is also a column of the list; given here, it is the default of its rows.",
    )  # fmt: skip
    batch.add_argument(
        "jobs",
        metavar="JOBS",
        help="a .csv or .tsv with a header, or a .jsonl: portrait, speech, text or driving, output, ...",
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
    batch.add_argument("--report", metavar="HTML", help="write a page with a thumbnail of every video")
    add_cluster_option(batch)
    add_options(batch, OutputOptions)
    add_options(batch, VideoOptions)
    add_json_option(batch)
    batch.set_defaults(run=_batch)


class _Remaining:
    """Says how long the rows that are left will take, from those that were made in this run."""

    def __init__(self) -> None:
        self._started_s, self._made = time.perf_counter(), 0

    def left(self, outcome: Outcome, rows: int) -> str:
        """Return ", about 5 minutes left" after a row; "" while nothing was made, or nothing is left."""
        self._made += outcome.status != "skipped" and bool(outcome.duration_s)
        if not (self._made and rows):
            return ""
        each_s = (time.perf_counter() - self._started_s) / self._made
        return f", about {in_words(each_s * rows)} left"


def _batch(args: argparse.Namespace, console: TextIO) -> int:
    from vortex.batch.jobs import JOURNAL, REPORT, read_jobs
    from vortex.batch.run import ROW_TIMEOUT_S, count_statuses, run_batch
    from vortex.cluster import Cluster

    options = parsed_options(args, VideoOptions)
    rows = read_jobs(args.jobs, **{name: getattr(args, name) for name in options_of(VideoOptions)})

    remaining = _Remaining()

    def on_outcome(outcome: Outcome, ended: int, total: int) -> None:
        args.stop.check()
        if not args.json:
            detail = outcome.reason or f"{outcome.frames} frames in {outcome.duration_s:.1f} s"
            name = f"row {outcome.number}  {outcome.output}".rstrip()
            left = remaining.left(outcome, total - ended)
            print(f"[{ended}/{total}{left}] {outcome.status:<8}{name}  {detail}", file=console)

    if args.report is not None:
        check_output_path(Path(args.report), (".html",), "Report")
        force = parsed_options(args, OutputOptions).force
        check_new_file(Path(args.report), "Report", force=force, inputs=(args.jobs,))
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
            html_report=args.report,
        )
    counts = count_statuses(outcomes)
    if args.json:
        print(json.dumps({**counts, "report": str(Path(args.out) / REPORT)}))
    else:
        said = ", ".join(f"{count} {status}" for status, count in counts.items())
        print(f"{said}; see {Path(args.out) / REPORT}", file=console)
    return 1 if counts["failed"] else 0
