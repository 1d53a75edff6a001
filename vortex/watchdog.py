"""Time limits and cancelling for stages that run side by side in threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYetError
from typing import TypeVar

from vortex.errors import StageTimeoutError

T = TypeVar("T")

Check = Callable[[], None]
"""Called by a stage now and then; raises when the stage shall end."""
POLL_S = 0.05


class StoppedError(BaseException):
    """Ends a stage whose result is no longer wanted; it is no Exception, as no stage may swallow it."""


class Watchdog:
    """One for each production: keeps its deadline, and stops all stages together.

    A thread cannot be killed, so a stage ends at its next ``check``; whoever waits for it is free at once.
    """

    def __init__(self, deadline_s: float | None = None) -> None:
        self.deadline_s = deadline_s
        self._ends_s = time.monotonic() + deadline_s if deadline_s is not None else float("inf")
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self.failure: BaseException | None = None
        """What stopped the production first."""

    def stop(self, failure: BaseException | None = None) -> None:
        """End all stages; the first failure is kept, as it caused those behind it."""
        with self._lock:
            if self.failure is None and not isinstance(failure, StoppedError):
                self.failure = failure
        self._stopped.set()

    def check(self) -> None:
        """Raise if the production shall end.

        Raises:
            StoppedError: it was stopped.
            StageTimeoutError: the deadline has passed.
        """
        if self._stopped.is_set():
            raise StoppedError
        if time.monotonic() > self._ends_s:
            raise StageTimeoutError(
                f"The video was not finished within {self.deadline_s:g} s. "
                "Allow more time, or shorten the text."
            )

    def run(self, stage: str, limit_s: float, work: Callable[[Check], T]) -> T:
        """Return ``work(check)``, run in a thread, or raise when it takes longer than ``limit_s``.

        Raises:
            StageTimeoutError: the stage or the production took too long.
            StoppedError: the production was stopped.
            What ``work`` raises.
        """
        abandoned = threading.Event()

        def check() -> None:
            if abandoned.is_set():
                raise StoppedError
            self.check()

        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work(check))
            except BaseException as exc:
                # it belongs to whoever waits for the result
                future.set_exception(exc)

        threading.Thread(target=run, name=f"vortex-{stage}", daemon=True).start()
        ends_s = time.monotonic() + limit_s
        try:
            while True:
                try:
                    return future.result(timeout=POLL_S)
                except NotYetError:
                    if future.done():
                        raise
                self.check()
                if time.monotonic() > ends_s:
                    raise StageTimeoutError(
                        f"The stage '{stage}' took longer than {limit_s:g} s. "
                        "Allow it more time, or give it less to do."
                    )
        finally:
            abandoned.set()
