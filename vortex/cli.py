"""The command line: ``vortex animate | demo | check | weights | doctor``."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, TextIO

from vortex.engines.base import ENGINES, why_unavailable
from vortex.errors import InputError, MissingExtraError, VortexError
from vortex.types import PhonemeSpan, RenderReport
from vortex.version import __version__

EXIT_FAILURE, EXIT_INPUT, EXIT_INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; a command that fails ends the process itself."""
    args = _parser().parse_args(argv)
    console = _console(args.debug)
    args.stop = stop = _Stop()
    warnings.showwarning = lambda message, *_: print(f"vortex: {message}", file=console)
    warnings.simplefilter("always", UserWarning)
    try:
        status: int = args.run(args, console)
        return status
    except KeyboardInterrupt:
        print("vortex: stopped; nothing was written", file=console)
        _leave(stop.status or EXIT_INTERRUPTED)
    except VortexError as exc:
        if args.debug:
            traceback.print_exc(file=console)
        else:
            print(f"vortex: {exc}", file=console)
        _leave(EXIT_INPUT if isinstance(exc, InputError) else EXIT_FAILURE)


class _Stop:
    """Ctrl-C or a polite kill: raises KeyboardInterrupt, and remembers it.

    The exception can be lost when the signal arrives inside native code that discards errors; ``check``,
    called for every frame, raises it again.
    """

    def __init__(self) -> None:
        self.status = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            # a job in the background of a script does not heed Ctrl-C
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._receive)

    def _receive(self, number: int, _frame: object) -> None:
        self.status = 128 + number
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has come."""
        if self.status:
            raise KeyboardInterrupt


def _leave(status: int) -> NoReturn:
    """End the process now; a thread may still listen to long speech, and Python would wait for it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _console(debug: bool) -> TextIO:
    """Return a stream to the terminal; native libraries, which log to descriptor 2, are sent away.

    With ``debug`` they keep it.
    """
    if debug:
        return sys.stderr
    sys.stderr.flush()
    console = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    # what Python itself reports, such as a crash, must still be seen
    sys.stderr = console
    return console


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vortex", description="A portrait and a voice go in, a lip-synced talking video comes out."
    )
    parser.add_argument("--version", action="version", version=f"vortex {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show tracebacks and native logs")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    animate = commands.add_parser("animate", parents=[common], help="make a talking video")
    animate.add_argument("portrait", metavar="PORTRAIT", help="picture with a face")
    animate.add_argument("speech", metavar="SPEECH", help="sound file, or a video whose sound is used")
    animate.add_argument("-o", "--output", metavar="OUT.mp4", required=True)
    _add_render_options(animate)
    animate.set_defaults(run=_animate)

    demo = commands.add_parser("demo", parents=[common], help="make a video of the built-in example")
    demo.add_argument("-o", "--output", metavar="OUT.mp4", default="demo.mp4")
    _add_render_options(demo)
    demo.set_defaults(run=_demo)

    check = commands.add_parser("check", parents=[common], help="measure the lip-sync of a finished video")
    check.add_argument("video", metavar="VIDEO", help="any video with one talking face")
    check.add_argument("--transcript", metavar="TEXT", help="the English words spoken, for exact closures")
    check.add_argument("--phonemes", metavar="FILE", help="JSON list of {phone, start_s, end_s}, ARPAbet")
    check.add_argument("--max-offset-frames", type=float, default=2.0, metavar="N", help="default 2")
    check.add_argument("--plot", metavar="PNG", help="draw the opening of the lips over the waveform")
    check.add_argument("--json", action="store_true", help="print the figures as JSON")
    check.set_defaults(run=_check)

    weights = commands.add_parser("weights", parents=[common], help="fetch and verify network weights")
    weights.add_argument("action", choices=("fetch", "verify", "list", "path"))
    weights.add_argument(
        "name", nargs="?", default="liveportrait", metavar="NAME", help="default liveportrait"
    )
    weights.set_defaults(run=_weights)

    doctor = commands.add_parser("doctor", parents=[common], help="tell what can run here, and why not")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_render_options(parser: argparse.ArgumentParser) -> None:
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
    add("--transcript", metavar="TEXT", help="the English words spoken, for better synchrony")
    add(
        "--paste-back", action="store_true", help="animate the face inside the whole picture, at its own size"
    )
    add("--json", action="store_true", help="print a report as JSON on standard output")


def _animate(args: argparse.Namespace, console: TextIO) -> int:
    return _render(args, console, args.portrait, args.speech, args.transcript)


def _demo(args: argparse.Namespace, console: TextIO) -> int:
    speech = Path(__file__).parent / "data" / "demo_speech.flac"
    transcript = args.transcript or speech.with_suffix(".txt").read_text(encoding="utf-8")
    return _render(args, console, str(demo_portrait()), str(speech), transcript)


def demo_portrait() -> Path:
    """Return the photo of Grace Hopper that matplotlib ships, in the public domain (US Navy, 1984).

    Raises:
        MissingExtraError: matplotlib is not installed whole.
    """
    spec = importlib.util.find_spec("matplotlib")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"
        if path.is_file():
            return path
    raise MissingExtraError("The demo portrait is missing. Run: pip install --force-reinstall matplotlib")


def _render(
    args: argparse.Namespace, console: TextIO, portrait: str, speech: str, transcript: str | None
) -> int:
    from vortex.pipeline import animate_file

    engine = args.engine
    if engine == "auto":
        reason = why_unavailable("liveportrait")
        engine = "mesh" if reason else "liveportrait"
        if not args.json:
            print(f"vortex: engine {engine}" + (f" (liveportrait: {reason})" if reason else ""), file=console)
    show = _progress(console) if console.isatty() and not args.json else None

    def hook(stage: str, completed: int, total: int) -> None:
        args.stop.check()
        if show:
            show(stage, completed, total)

    started_s = time.perf_counter()
    report = animate_file(
        portrait,
        speech,
        args.output,
        engine=engine,
        preset=args.preset,
        fps=args.fps,
        size_px=args.size,
        duration_s=args.duration,
        seed=args.seed,
        transcript=transcript,
        paste_back=args.paste_back,
        device=args.device,
        hook=hook,
    )
    total_s = time.perf_counter() - started_s
    if show:
        print(file=console)
    if args.json:
        print(json.dumps(_as_json(report, total_s)))
    else:
        for note in report.notes:
            print(f"vortex: {note}", file=console)
        print(
            f"{report.path}: {report.frames} frames, {report.duration_s:.2f} s, "
            f"{report.size_px[0]}x{report.size_px[1]}, "
            f"{report.engine}, seed {report.seed}, made in {total_s:.1f} s",
            file=console,
        )
    return 0


def _as_json(report: RenderReport, total_s: float) -> dict[str, Any]:
    return {
        "path": str(report.path),
        "frames": report.frames,
        "fps": str(report.fps),
        "size_px": list(report.size_px),
        "duration_s": report.duration_s,
        "engine": report.engine,
        "preset": report.preset,
        "seed": report.seed,
        "total_s": round(total_s, 3),
        "stage_s": {name: round(seconds, 3) for name, seconds in report.stage_s.items()},
        "peak_vram_bytes": report.peak_vram_bytes,
        "notes": list(report.notes),
    }


def _progress(console: TextIO) -> Callable[[str, int, int], None]:
    """Return a hook that draws one line: stage, bar, frames per second, time left."""
    first_s: dict[str, float] = {}
    last_s = 0.0

    def show(stage: str, completed: int, total: int) -> None:
        nonlocal last_s
        now_s = time.perf_counter()
        started_s = first_s.setdefault(stage, now_s)
        if completed < total and now_s - last_s < 0.1:
            return
        last_s = now_s
        line = f"{stage:<10}"
        if total > 1:
            filled = 24 * completed // total
            rate = completed / max(now_s - started_s, 1e-3)
            left_s = (total - completed) / max(rate, 1e-3)
            each, unit = (2**20, "MiB/s") if stage == "fetch" else (1, "fps")
            line += f" [{'#' * filled}{'.' * (24 - filled)}] {completed // each}/{total // each}"
            line += f"  {rate / each:.0f} {unit}  {left_s:.0f} s left"
        print(f"\r\x1b[2K{line}", end="", file=console, flush=True)

    return show


def _check(args: argparse.Namespace, console: TextIO) -> int:
    from vortex.check import check_video, plot_sync

    phonemes = _read_phonemes(Path(args.phonemes)) if args.phonemes else None
    report, mouth, audio = check_video(args.video, transcript=args.transcript, phonemes=phonemes)
    complaints = report.complaints(args.max_offset_frames)
    if args.plot:
        plot_sync(Path(args.plot), report, mouth, audio)
    if args.json:
        figures = {**asdict(report), "fps": str(report.fps), "complaints": complaints}
        print(json.dumps(figures))
    else:
        found, missed = len(report.closures_found_s), report.closures_missed_s
        still = "-" if report.still_in_silence is None else f"{report.still_in_silence:.0%}"
        print(
            f"offset       {report.offset_ms:+.0f} ms ({report.offset_frames:+.2f} frames; + is late picture)"
        )
        print(f"correlation  {report.correlation:.2f}")
        print(
            f"closures     {found} of {found + len(missed)} of p, b, m"
            + "".join(f"  missed {t} s" for t in missed)
        )
        print(f"silence      lips still in {still} of it")
        print(f"jitter       {1000 * report.jitter:.1f} thousandths of the outer-eye width")
        print(f"face         in {report.face_share:.0%} of {report.frames} frames")
    for complaint in complaints:
        print(f"vortex: {complaint}", file=console)
    return EXIT_FAILURE if complaints else 0


def _read_phonemes(path: Path) -> list[PhonemeSpan]:
    """Read a JSON list of {phone, start_s, end_s}.

    Raises:
        InputError: no such file, or another content.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [PhonemeSpan(str(r["phone"]), float(r["start_s"]), float(r["end_s"])) for r in rows]
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise InputError(
            f"Phonemes '{path}' cannot be read ({exc}). Give a JSON list of {{phone, start_s, end_s}}."
        ) from exc


def _weights(args: argparse.Namespace, console: TextIO) -> int:
    # urllib and ssl come with it, which the other commands need not wait for
    from vortex import weights

    name = args.name
    if args.action == "fetch":
        # the licence is shown before anything is downloaded
        print(weights.describe_weights(name), file=console)
        folder = weights.fetch_weights(name, hook=_progress(console) if console.isatty() else None)
        print(folder)
    elif args.action == "verify":
        folder = weights.verify_weights(name)
        print(f"{folder}: {len(weights.weights_files(name))} files, all as published")
    elif args.action == "list":
        missing = weights.missing_weights(name)
        print(weights.describe_weights(name))
        for file in weights.weights_files(name):
            state = "missing" if file in missing else "there"
            print(f"  {state:<8}{file.size_bytes:>13,} bytes  {file.path}")
    else:
        print(weights.weights_dir(name))
    return 0


def _doctor(args: argparse.Namespace, console: TextIO) -> int:
    engines = {name: why_unavailable(name) for name in ENGINES}
    if args.json:
        print(json.dumps({"vortex": __version__, "python": platform.python_version(), "engines": engines}))
    else:
        print(f"vortex {__version__}, Python {platform.python_version()}, {os.cpu_count()} CPUs")
        for name, reason in engines.items():
            print(f"  {name:<13} {'can run' if reason is None else 'cannot run: ' + reason}")
    return 0 if engines["mesh"] is None else EXIT_FAILURE
