"""The terminal: messages, progress, Ctrl-C, and the end of the process."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, TextIO, cast

from vortex.runtime.duration import in_words

STOP_WITHIN_S = 1.5
"""How long a command may take to end after a signal, before the process is ended."""
RECENT_S, RECENT_REPORTS = 30.0, 8
"""The time left is judged by the reports of so many seconds, and by at least so many."""


class Stop:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt, and remembers that one came.

    Native code may discard the exception; ``check``, called for every frame, raises it again. A command that
    has not ended soon after is ended: what it writes has no name yet.
    """

    def __init__(self) -> None:
        self.status = 0

    def listen(self) -> None:
        """Turn signals into KeyboardInterrupt from now on."""
        sys.unraisablehook = self._report_unraisable
        for number in (signal.SIGINT, signal.SIGTERM):
            # A shell has background jobs ignore Ctrl-C; that stays.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._receive)

    def _receive(self, number: int, _frame: object) -> None:
        if not self.status:
            threading.Thread(target=self._end, daemon=True).start()
        self.status = 128 + number
        raise KeyboardInterrupt

    def _report_unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Report an exception that nobody can catch, but not that of a signal.

        Python prints and drops what is raised inside ``__del__`` or the callback of a weak reference.
        """
        if not (self.status and issubclass(unraisable.exc_type, KeyboardInterrupt)):
            sys.__unraisablehook__(unraisable)

    def _end(self) -> None:
        time.sleep(STOP_WITHIN_S)
        with suppress(OSError):
            sys.stderr.write("vortex: stopped; nothing was written\n")
        os._exit(self.status)

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has come."""
        if self.status:
            raise KeyboardInterrupt


def leave(status: int) -> NoReturn:
    """End the process now: Python itself would wait for a thread that still recognises long speech."""
    with suppress(OSError):  # a full or closed stream
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


class _Console(io.TextIOBase):
    """Text to a descriptor; what cannot be written, as on a full disk, is lost without an error."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        with suppress(OSError):
            os.write(self._descriptor, text.encode("utf-8", "backslashreplace"))
        return len(text)

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def fileno(self) -> int:
        return self._descriptor


def open_console(debug: bool) -> TextIO:
    """Return a stream to the terminal, and send descriptor 2, to which native libraries log, to /dev/null.

    With ``debug``, nothing is redirected.
    """
    if debug:
        return sys.stderr
    sys.stderr.flush()
    console = cast("TextIO", _Console(os.dup(2)))
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
