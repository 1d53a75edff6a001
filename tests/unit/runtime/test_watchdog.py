"""Time limits and failures stop all stages."""

from __future__ import annotations

import threading

import pytest

from vortex.errors import StageTimeoutError
from vortex.runtime.watchdog import StageStoppedError, Watchdog


def test_a_stage_returns_its_result_or_raises_its_error() -> None:
    watchdog = Watchdog()
    assert watchdog.run("speech", 5, lambda check: 7) == 7
    with pytest.raises(ZeroDivisionError):
        watchdog.run("speech", 5, lambda check: 1 // 0)
    with pytest.raises(TimeoutError, match="of its own"):

        def fail(check: object) -> None:
            raise TimeoutError("of its own")

        watchdog.run("speech", 5, fail)


def test_a_stage_that_takes_too_long_is_stopped() -> None:
    ended = threading.Event()

    def work(check: object) -> None:
        try:
            while True:
                check()  # type: ignore[operator]
        except StageStoppedError:
            ended.set()

    with pytest.raises(StageTimeoutError, match=r"'image' took longer than 0.1 s"):
        Watchdog().run("image", 0.1, work)
    assert ended.wait(5)


def test_the_deadline_ends_all_stages() -> None:
    watchdog = Watchdog(0.1)
    with pytest.raises(StageTimeoutError, match=r"not finished within 0.1 s"):
        watchdog.run("image", 60, lambda check: threading.Event().wait(1))


def test_the_first_failure_is_kept() -> None:
    watchdog = Watchdog()
    first = ValueError("first")
    watchdog.stop(StageStoppedError())
    watchdog.stop(first)
    watchdog.stop(KeyError("second"))
    assert watchdog.failure is first
    with pytest.raises(StageStoppedError):
        watchdog.check()
