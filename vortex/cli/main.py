"""Parses the arguments, runs the command, and turns its errors into an exit status."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import TextIO

from vortex.cli import animate, batch, check, faces, machine, serve, speak
from vortex.cli.console import Stop, leave, open_console
from vortex.errors import InputError, VortexError, VortexWarning
from vortex.version import __version__

EXIT_FAILURE, EXIT_INPUT, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 1, 2, 130, 141
SUBJECTS = (animate, speak, faces, check, serve, machine, batch)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; a command that fails ends the process itself."""
    # Stages already run in parallel threads; threads of OpenCV inside each stage would wait for one another.
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")
    args = build_parser().parse_args(argv)
    console = open_console(args.debug)
    args.stop = stop = Stop()
    if not args.debug:
        _show_only_our_warnings(console)
    try:
        stop.listen()
        status: int = args.run(args, console)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("vortex: stopped; nothing was written", file=console)
        leave(stop.status or EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output is gone: nothing can be written, also not when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        leave(EXIT_BROKEN_PIPE)
    except Exception as exc:
        if args.debug:
            traceback.print_exc(file=console)
        else:
            print(f"vortex: {_in_one_line(exc)}", file=console)
        leave(EXIT_INPUT if isinstance(exc, InputError) else EXIT_FAILURE)


def _show_only_our_warnings(console: TextIO) -> None:
    """Print warnings and log records of vortex on the console, and none of other packages."""
    warnings.showwarning = lambda message, *_: print(f"vortex: {message}", file=console)
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", VortexWarning)
    # Only records for which nobody has set up another handler get here.
    logging.lastResort = logging.StreamHandler(console)
    logging.lastResort.setLevel(logging.WARNING)
    logging.lastResort.addFilter(logging.Filter("vortex"))


def _in_one_line(error: Exception) -> str:
    if isinstance(error, VortexError):
        return str(error)
    if isinstance(error, MemoryError):
        return (
            "Out of memory. Close other programs, or give a smaller picture, a smaller --size or less speech."
        )
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"Failed unexpectedly ({what}). Run it again with --debug and report what it prints."


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="vortex", description="A portrait and a voice go in, a lip-synced talking video comes out."
    )
    parser.add_argument("--version", action="version", version=f"vortex {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show tracebacks and native logs")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for subject in SUBJECTS:
        subject.add_commands(commands, common)
    return parser
