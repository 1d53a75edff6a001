"""A fixed piece of work, timed beside a measurement: the ratio of both hardly depends on the machine."""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np

_ROUNDS = 5


def cpu_s(work: Callable[[], object], rounds: int = _ROUNDS) -> float:
    """Return the least CPU time of this thread, in seconds, that ``work`` took in some rounds.

    CPU time, and the least of several, so that other processes on the machine disturb it little.
    """
    samples_s = []
    for _ in range(rounds):
        start_s = time.thread_time()
        work()
        samples_s.append(time.thread_time() - start_s)
    return min(samples_s)


def reference_work() -> None:
    """Resample a 512 px picture and sum products, 20 times: what a mesh frame is made of, but frozen.

    Never change it: every recorded ratio is a ratio to this.
    """
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (512, 512, 3), dtype=np.uint8)
    where = np.stack(np.meshgrid(np.arange(512), np.arange(512)), axis=2).astype(np.float32) + 0.3
    rows = rng.random((24, 30)).astype(np.float32)
    fields = rng.random((30, 16_000)).astype(np.float32)
    for _ in range(20):
        cv2.remap(picture, where, None, cv2.INTER_LINEAR)  # type: ignore[call-overload]
        np.einsum("tk,kc->tc", rows, fields)
