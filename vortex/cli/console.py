"""The terminal: messages, progress, Ctrl-C, and the end of the process."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn, TextIO


class Stop:
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


def leave(status: int) -> NoReturn:
    """End the process now; a thread may still listen to long speech, and Python would wait for it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def open_console(debug: bool) -> TextIO:
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


def progress_line(console: TextIO) -> Callable[[str, int, int], None]:
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
