"""``vortex animate`` and ``vortex demo``: a picture and a voice become a video."""

from __future__ import annotations

import argparse
import json
import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TextIO

from vortex.cli.console import progress_line
from vortex.demo import DEMO_SPEECH, demo_portrait
from vortex.engines.base import ENGINES, why_unavailable
from vortex.errors import InputError
from vortex.types import Hook, RenderReport

if TYPE_CHECKING:
    from vortex.cluster import Cluster


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands of this file to the parser; ``common`` holds the options of every command."""
    animate = commands.add_parser("animate", parents=[common], help="make a talking video")
    animate.add_argument("portrait", metavar="PORTRAIT", help="picture with a face")
    animate.add_argument("speech", metavar="SPEECH", help="sound file, or a video whose sound is used")
    animate.add_argument("-o", "--output", metavar="OUT.mp4", required=True)
    _add_transcript(animate)
    add_cluster_option(animate)
    add_render_options(animate)
    animate.set_defaults(run=_animate)

    demo = commands.add_parser("demo", parents=[common], help="make a video of the built-in example")
    demo.add_argument("-o", "--output", metavar="OUT.mp4", default="demo.mp4")
    _add_transcript(demo)
    add_render_options(demo)
    demo.set_defaults(run=_demo)


def add_render_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that renders a video."""
    add = parser.add_argument
    add(
        "--preset",
        default="neutral",
        metavar="NAMES",
        help="neutral, excited, manic or calm; or neutral,excited@3.5",
    )
    add("--fps", default="24", help="frames per second, such as 24, 25 or 30000/1001 (default 24)")
    add("--size", type=int, default=512, metavar="PX", help="side of the square video (default 512)")
    add("--duration", type=float, metavar="S", help="seconds of video (default: length of the speech)")
    add("--seed", type=int, help="fix blinks, glances and sway")
    add(
        "--engine",
        default="auto",
        choices=("auto", *ENGINES),
        help="auto: liveportrait if it can run",
    )
    add("--device", help="for liveportrait: cuda or cpu")
    add(
        "--quality",
        default="full",
        choices=("full", "fast"),
        help="for liveportrait: fast renders similar frames once (default full)",
    )
    add(
        "--paste-back", action="store_true", help="animate the face inside the whole picture, at its own size"
    )
    add("--no-mark", action="store_true", help="do not write into the file that it is synthetic")
    add("--json", action="store_true", help="print a report as JSON on standard output")


def _add_transcript(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--transcript", metavar="TEXT", help="the English words spoken, for better synchrony")


def _animate(args: argparse.Namespace, console: TextIO) -> int:
    return _render(args, console, args.portrait, args.speech, args.transcript)


def _demo(args: argparse.Namespace, console: TextIO) -> int:
    transcript = args.transcript or DEMO_SPEECH.with_suffix(".txt").read_text(encoding="utf-8")
    return _render(args, console, str(demo_portrait()), str(DEMO_SPEECH), transcript)


def _render(
    args: argparse.Namespace, console: TextIO, portrait: str, speech: str, transcript: str | None
) -> int:
    from vortex.pipeline import animate_file

    engine = chosen_engine(args, console)
    hook = progress_hook(args, console)
    started_s = time.perf_counter()
    with joined_cluster(args, engine) as cluster:
        report = animate_file(
            portrait,
            speech,
            args.output,
            engine=cluster.engine() if cluster else engine,
            preset=args.preset,
            fps=args.fps,
            size_px=args.size,
            duration_s=args.duration,
            seed=args.seed,
            transcript=transcript,
            paste_back=args.paste_back,
            device=args.device,
            quality=args.quality,
            mark=not args.no_mark,
            hook=hook,
        )
    print_report(args, console, report, time.perf_counter() - started_s)
    return 0


def add_cluster_option(parser: argparse.ArgumentParser) -> None:
    """Add the option of commands that can work on a cluster."""
    parser.add_argument(
        "--cluster", metavar="ADDRESS", help="on a Ray cluster: local, auto or ray://HOST:PORT"
    )


def joined_cluster(
    args: argparse.Namespace, engine: str, actors: int | None = None
) -> AbstractContextManager[Cluster | None]:
    """Return the cluster that ``--cluster`` asks for, to be used with ``with``, or none.

    Raises:
        InputError: frames that depend on each other cannot be spread.
    """
    if getattr(args, "cluster", None) is None:
        return nullcontext()
    if getattr(args, "quality", "full") != "full":
        raise InputError("--quality fast derives frames from each other. Leave --cluster or --quality out.")
    from vortex.cluster import Cluster

    return Cluster(args.cluster, engine=engine, device=args.device, actors=actors)


def chosen_engine(args: argparse.Namespace, console: TextIO) -> str:
    """Return the engine that ``--engine`` names, and say which one "auto" is."""
    engine: str = args.engine
    if engine == "auto":
        reason = why_unavailable("liveportrait")
        engine = "mesh" if reason else "liveportrait"
        if not args.json:
            print(f"vortex: engine {engine}" + (f" (liveportrait: {reason})" if reason else ""), file=console)
    return engine


def progress_hook(args: argparse.Namespace, console: TextIO) -> Hook:
    """Return a hook that heeds Ctrl-C, and draws progress on a terminal."""
    show = progress_line(console) if console.isatty() and not args.json else None

    def hook(stage: str, completed: int, total: int) -> None:
        args.stop.check()
        if show:
            show(stage, completed, total)

    return hook


def print_report(args: argparse.Namespace, console: TextIO, report: RenderReport, total_s: float) -> None:
    """Tell what was made: JSON on standard output with ``--json``, else a line on the terminal."""
    from vortex.pipeline import report_as_json

    if args.json:
        print(json.dumps(report_as_json(report, total_s)))
    else:
        if console.isatty():
            print(file=console)
        for note in report.notes:
            print(f"vortex: {note}", file=console)
        print(
            f"{report.path}: {report.frames} frames, {report.duration_s:.2f} s, "
            f"{report.size_px[0]}x{report.size_px[1]}, "
            f"{report.engine}, seed {report.seed}, made in {total_s:.1f} s",
            file=console,
        )
