"""Tasks for worker processes that misbehave: a process finds them by this module and their names."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from vortex.errors import InputError
from vortex.types import ProgressCallback


class OddError(Exception):
    """An error that cannot be made again from its arguments."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def own_pid() -> int:
    return os.getpid()


def need(count: int) -> int:
    return count


def fill_memory(count_bytes: int) -> int:
    return int(np.ones(count_bytes, np.uint8).sum())


def compute_for_ever() -> None:
    while True:
        pass


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def refuse() -> None:
    raise InputError("no")


def fail_oddly() -> None:
    raise OddError(1, 2)


def count(most: int, *, on_progress: ProgressCallback) -> str:
    for number in range(most):
        on_progress("count", number, most)
    return "counted"


def work_after(path: Path) -> None:
    """Say that the work has begun, and go on without end."""
    path.write_text(str(os.getpid()))
    compute_for_ever()
