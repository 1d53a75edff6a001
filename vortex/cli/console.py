"""The terminal: messages, progress, Ctrl-C, and the end of the process."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn, TextIO


class Stop:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt, and remembers that one came.

    Native code may discard the exception; ``check``, called for every frame, raises it again.
    """

    def __init__(self) -> None:
        self.status = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            # A shell has background jobs ignore Ctrl-C; that stays.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._receive)

    def _receive(self, number: int, _frame: object) -> None:
        self.status = 128 + number
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has come."""
        if self.status:
            raise KeyboardInterrupt


def leave(status: int) -> NoReturn:
    """End the process now: Python itself would wait for a thread that still recognises long speech."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def open_console(debug: bool) -> TextIO:
    """Return a stream to the terminal, and send descriptor 2, to which native libraries log, to /dev/null.

    With ``debug``, nothing is redirected.
    """
    if debug:
        return sys.stderr
    sys.stderr.flush()
    console = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    # Python's own reports, such as a crash, must still reach the terminal.
    sys.stderr = console
    return console


def progress_line(console: TextIO) -> Callable[[str, int, int], None]:
    """Return a progress callback that draws one line: stage, bar, frames per second, time left."""
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
