"""``python -m vortex``: ends at once on Ctrl-C while modules are imported, then runs the command line."""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    """Run the command line, and return its exit status."""
    _open_standard_streams()
    for number in (signal.SIGINT, signal.SIGTERM):
        # A shell has background jobs ignore Ctrl-C; that stays.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    from vortex.cli.main import main as run

    status = run()
    for number in (signal.SIGINT, signal.SIGTERM):
        # The command is done: while Python ends, a signal would print a traceback.
        signal.signal(number, signal.SIG_IGN)
    return status


def _leave(number: int, _frame: object) -> None:
    try:
        os.write(2, b"vortex: stopped; nothing was written\n")
    finally:
        os._exit(128 + number)


def _open_standard_streams() -> None:
    """Open /dev/null for each standard stream that was closed: else a file of ours would get its number."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))


if __name__ == "__main__":
    sys.exit(main())
