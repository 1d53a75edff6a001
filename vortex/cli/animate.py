"""``vortex animate``, ``drive``, ``demo``: a picture and a sound or a driver become a video; ``capture``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from vortex.cli.console import progress_line
from vortex.cli.options import add_options, parsed_options
from vortex.demo import DEMO_SPEECH, demo_portrait
from vortex.engines.registry import AUTO, resolve_engine
from vortex.errors import InputError
from vortex.media.containers import PIPE, SUFFIXES
from vortex.options import (
    AnimateOptions,
    CaptureOptions,
    DriveOptions,
    EngineOptions,
    OutputOptions,
    default_of,
)
from vortex.runtime.memory import require_address_space
from vortex.types import ProgressCallback, RenderReport

if TYPE_CHECKING:
    from vortex.session import Session


OUTPUT_HELP = f"the video: {', '.join(SUFFIXES)} (PNG and WAV), or - for MP4 on standard output"


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands of this file; ``common`` holds the options of every command."""
    animate = commands.add_parser("animate", parents=[common], help="make a talking video")
    animate.add_argument(
        "portrait",
        metavar="PORTRAIT",
        help="picture with a face, or a video of somebody, who gets other words",
    )
    animate.add_argument("speech", metavar="SPEECH", help="sound file, or a video whose sound is used")
    animate.add_argument("-o", "--output", metavar="OUT.mp4", required=True, help=OUTPUT_HELP)
    add_cluster_option(animate)
    add_options(animate, OutputOptions)
    add_options(animate, AnimateOptions)
    add_json_option(animate)
    animate.set_defaults(run=_animate)

    drive = commands.add_parser(
        "drive", parents=[common], help="make a video that moves as the face in another one",
        description="The portrait moves as the face in DRIVER does, with the sound of a driving video.",
    )  # fmt: skip
    drive.add_argument(
        "portrait", metavar="PORTRAIT", help="picture with a face; for liveportrait also a video"
    )
    drive.add_argument(
        "driving", metavar="DRIVER", help="video or picture with a face, or a motion template (.npz, .pkl)"
    )
    drive.add_argument("-o", "--output", metavar="OUT.mp4", required=True, help=OUTPUT_HELP)
    add_cluster_option(drive)
    add_options(drive, OutputOptions)
    add_options(drive, DriveOptions)
    add_json_option(drive)
    drive.set_defaults(run=_drive)

    capture = commands.add_parser(
        "capture", parents=[common], help="make a motion template of a video or a picture",
        description="Write the motion of the face in DRIVER into a file that drives any portrait.",
    )  # fmt: skip
    capture.add_argument("driving", metavar="DRIVER", help="video or picture with a face, or a template")
    capture.add_argument("-o", "--output", metavar="OUT.npz", required=True)
    add_options(capture, OutputOptions)
    add_options(capture, CaptureOptions)
    add_json_option(capture)
    capture.set_defaults(run=_capture)

    demo = commands.add_parser("demo", parents=[common], help="make a video of the built-in example")
    demo.add_argument("-o", "--output", metavar="OUT.mp4", default="demo.mp4", help=OUTPUT_HELP)
    add_options(demo, OutputOptions)
    add_options(demo, AnimateOptions)
    add_json_option(demo)
    demo.set_defaults(run=_demo)


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON report on standard output")


def add_cluster_option(parser: argparse.ArgumentParser) -> None:
    """Add the option of commands that can render on a cluster."""
    where = "on a Ray cluster: local, auto or ray://HOST:PORT"
    parser.add_argument("--cluster", metavar="ADDRESS", help=where)


def _animate(args: argparse.Namespace, console: TextIO) -> int:
    options, force = parsed_options(args, AnimateOptions), parsed_options(args, OutputOptions).force

    def make(session: Session, on_progress: ProgressCallback) -> RenderReport:
        return session.animate(
            args.portrait, args.speech, args.output, options, force=force, on_progress=on_progress
        )

    return make_video(args, console, options, make)


def _drive(args: argparse.Namespace, console: TextIO) -> int:
    options, force = parsed_options(args, DriveOptions), parsed_options(args, OutputOptions).force

    def make(session: Session, on_progress: ProgressCallback) -> RenderReport:
        return session.drive(
            args.portrait, args.driving, args.output, options, force=force, on_progress=on_progress
        )

    return make_video(args, console, options, make)


def _capture(args: argparse.Namespace, console: TextIO) -> int:
    options, force = parsed_options(args, CaptureOptions), parsed_options(args, OutputOptions).force
    require_address_space()
    from vortex.session import Session

    with Session() as session:
        on_progress = progress_callback(args, console)
        report = session.capture(args.driving, args.output, options, force=force, on_progress=on_progress)
    if args.json:
        shown = {"path": str(report.path), "frames": report.frames, "fps": str(report.fps)}
        print(json.dumps({**shown, "engine": report.engine, "notes": list(report.notes)}))
        return 0
    if console.isatty():
        print(file=console)
    for note in report.notes:
        print(f"vortex: {note}", file=console)
    print(f"{report.path}: {report.frames} frames at {report.fps} per second", file=console)
    return 0


def _demo(args: argparse.Namespace, console: TextIO) -> int:
    args.portrait, args.speech = str(demo_portrait()), str(DEMO_SPEECH)
    if args.transcript is None:
        args.transcript = DEMO_SPEECH.with_suffix(".txt").read_text(encoding="utf-8")
    return _animate(args, console)


def make_video(
    args: argparse.Namespace,
    console: TextIO,
    options: EngineOptions,
    make: Callable[[Session, ProgressCallback], RenderReport],
) -> int:
    """Make a video in a session, with ``--cluster`` on that cluster, and print the report on it."""
    require_address_space()
    check_standard_output(args)
    if getattr(args, "cluster", None) and options.quality != "full":
        raise InputError(
            f"quality is {options.quality!r}, which derives frames from each other. "
            "Give quality 'full', or render without a cluster."
        )
    from vortex.cluster import Cluster
    from vortex.session import Session

    address = getattr(args, "cluster", None)
    started_s = time.perf_counter()
    if args.engine is None and not args.json and address is None:
        best, _ = resolve_engine(AUTO)
        if best.name != default_of(EngineOptions, "engine"):
            print(f"vortex: {best.name} can run here, too: --engine {best.name}", file=console)
    joined = nullcontext() if address is None else Cluster(address, options)
    with joined as engine, Session(engine=engine) as session:
        report = make(session, progress_callback(args, console))
    print_report(args, console, report, time.perf_counter() - started_s)
    return 0


def check_standard_output(args: argparse.Namespace) -> None:
    """Raise InputError if the video goes to standard output, and that has another use."""
    if Path(args.output) != PIPE:
        return
    if args.json:
        raise InputError("Output - writes the video to standard output, where --json prints; leave one out.")
    if sys.stdout.isatty():
        raise InputError("Output - would write a video to the terminal; add '> FILE' or '| PROGRAM'.")


def progress_callback(args: argparse.Namespace, console: TextIO) -> ProgressCallback:
    """Return a callback that raises after Ctrl-C, and draws progress on a terminal."""
    show = progress_line(console) if console.isatty() and not args.json else None

    def on_progress(stage: str, completed: int, total: int) -> None:
        args.stop.check()
        if show:
            show(stage, completed, total)

    return on_progress


def print_report(args: argparse.Namespace, console: TextIO, report: RenderReport, total_s: float) -> None:
    """Print what was made: JSON on standard output with ``--json``, else a line on the terminal."""
    from vortex.render import report_as_json

    if args.json:
        print(json.dumps(report_as_json(report, total_s)))
        return
    shown = "standard output" if report.path == PIPE else report.path
    if console.isatty():
        print(file=console)
    for note in report.notes:
        print(f"vortex: {note}", file=console)
    width, height = report.size_px
    seed = "" if report.seed is None else f"seed {report.seed}, "
    print(
        f"{shown}: {report.frames} frames, {report.duration_s:.2f} s, {width}x{height}, "
        f"{report.engine}, {seed}made in {total_s:.1f} s",
        file=console,
    )
