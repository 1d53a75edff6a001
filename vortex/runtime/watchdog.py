"""Time limits and cancellation for stages that run at the same time in threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from vortex.errors import StageTimeoutError

T = TypeVar("T")

CheckStop = Callable[[], None]
"""Called by a stage again and again; raises when the stage has to end."""
POLL_S = 0.05


class StageStoppedError(BaseException):
    """Ends a stage whose result is not needed; not an Exception, so that no stage catches it by mistake."""


class Watchdog:
    """Keeps the deadline of one video, and stops all of its stages together.

    A thread cannot be killed, so a stage ends at its next ``check``; whoever waits for it continues at once.
    """

    def __init__(self, deadline_s: float | None = None) -> None:
        self.deadline_s = deadline_s
        self._ends_s = time.monotonic() + deadline_s if deadline_s is not None else float("inf")
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self.failure: BaseException | None = None

    def stop(self, failure: BaseException) -> None:
        """End all stages; the first failure is kept, because it caused the later ones."""
        with self._lock:
            if self.failure is None and not isinstance(failure, StageStoppedError):
                self.failure = failure
        self._stopped.set()

    def check(self) -> None:
        """Raise StageStoppedError after :meth:`stop`, or StageTimeoutError after the deadline."""
        if self._stopped.is_set():
            raise StageStoppedError
        if time.monotonic() > self._ends_s:
            raise StageTimeoutError(
                f"The video was not finished within {self.deadline_s:g} s. "
                "Allow more time, or shorten the text."
            )

    def run(self, stage: str, limit_s: float, work: Callable[[CheckStop], T]) -> T:
        """Return ``work(check)``, which runs in a thread; raise if it takes longer than ``limit_s``.

        That is a StageTimeoutError; what :meth:`check` and ``work`` raise is raised, too.
        """
        abandoned = threading.Event()

        def check() -> None:
            if abandoned.is_set():
                raise StageStoppedError
            self.check()

        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work(check))
            except BaseException as exc:
                # Raised again in the thread that waits for the result.
                future.set_exception(exc)

        threading.Thread(target=run, name=f"vortex-{stage}", daemon=True).start()
        ends_s = time.monotonic() + limit_s
        try:
            while not wait([future], POLL_S).done:
                self.check()
                if time.monotonic() > ends_s:
                    raise StageTimeoutError(
                        f"The stage '{stage}' took longer than {limit_s:g} s. "
                        "Allow it more time, or give it less to do."
                    )
            return future.result()
        finally:
            abandoned.set()
