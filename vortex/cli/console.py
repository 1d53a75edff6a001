"""The terminal: messages, progress, Ctrl-C, and the end of the process."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import NoReturn, TextIO

from vortex.runtime.duration import in_words

RECENT_S, RECENT_REPORTS = 30.0, 8
"""The time left is judged by the reports of so many seconds, and by at least so many."""


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
    """Return a progress callback that draws one line: stage, bar, frames per second, time left.

    The rate is that of the last half minute, or of the last frames: what was there already took no time.
    """
    reports: dict[str, deque[tuple[float, int]]] = {}
    last_s = 0.0

    def show(stage: str, completed: int, total: int) -> None:
        nonlocal last_s
        now_s = time.perf_counter()
        if total > 1 and stage not in reports:
            reports[stage] = deque([(now_s, completed)])
        if completed < total and now_s - last_s < 0.1:
            return
        last_s = now_s
        line = f"{stage:<10}"
        if total > 1:
            filled = 24 * completed // total
            rate = _recent_rate(reports[stage], now_s, completed)
            each, unit = (2**20, "MiB/s") if stage == "fetch" else (1, "fps")
            line += f" [{'#' * filled}{'.' * (24 - filled)}] {completed // each}/{total // each}"
            if rate > 0:
                speed = f"{rate / each:.0f} {unit}" if rate >= 1 else f"{1 / rate:.1f} s each"
                line += f"  {speed}  {in_words((total - completed) / rate)} left"
        print(f"\r\x1b[2K{line}", end="", file=console, flush=True)

    return show


def _recent_rate(reports: deque[tuple[float, int]], now_s: float, completed: int) -> float:
    """Add a report, drop those that are old, and return how many a second were completed between them."""
    reports.append((now_s, completed))
    while len(reports) > RECENT_REPORTS and now_s - reports[1][0] > RECENT_S:
        reports.popleft()
    start_s, before = reports[0]
    return (completed - before) / max(now_s - start_s, 1e-3)
