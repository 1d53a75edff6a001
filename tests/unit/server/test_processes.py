"""Processes with limits: what exceeds them ends, says why, and costs nobody else anything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from support import tasks

from vortex.errors import InputError, VortexError
from vortex.server.processes import (
    SLACK_BYTES,
    BusyError,
    MemoryBudget,
    Readers,
    TaskLimits,
    TooLargeError,
    UnreadableError,
)

FEW = TaskLimits(64 << 20, 30)


@pytest.fixture
def readers() -> Iterator[Readers]:
    made = Readers(1, MemoryBudget(1 << 30), ("support.tasks",))
    yield made
    made.pool.close()


def go_on() -> None:
    """The work is wanted."""


def run(readers: Readers, task: partial[object], limits: TaskLimits = FEW, check: object = go_on) -> object:
    with readers.pool.worker(go_on, 60) as worker:
        return worker.run(task, limits=limits, check=check)  # type: ignore[arg-type]


def test_one_process_runs_task_after_task(readers: Readers) -> None:
    pids = {run(readers, partial(tasks.own_pid)) for _ in range(3)}
    assert len(pids) == 1 and pids != {os.getpid()}
    assert readers.pool.resident_bytes() > 10_000_000


def test_progress_arrives_before_the_result(readers: Readers) -> None:
    seen: list[int] = []
    with readers.pool.worker(go_on, 60) as worker:
        made = worker.run(
            partial(tasks.count, 5), limits=FEW, check=go_on, on_progress=lambda _, at, of: seen.append(at)
        )
    assert (made, seen) == ("counted", [0, 1, 2, 3, 4])


def test_errors_of_a_task_arrive_and_the_process_goes_on(readers: Readers) -> None:
    pid = run(readers, partial(tasks.own_pid))
    with pytest.raises(InputError, match="no"):
        run(readers, partial(tasks.refuse))
    with pytest.raises(VortexError, match="1 and 2"):
        run(readers, partial(tasks.fail_oddly))
    assert run(readers, partial(tasks.own_pid)) == pid


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits address space")
def test_a_task_gets_the_memory_that_was_reckoned_and_no_more(readers: Readers) -> None:
    size = SLACK_BYTES + (512 << 20)
    assert run(readers, partial(tasks.fill_memory, size), TaskLimits(1 << 30, 30)) == size
    with pytest.raises(TooLargeError, match="more than the 67 MB"):
        run(readers, partial(tasks.fill_memory, size))
    assert run(readers, partial(tasks.need, 3)) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on processor time")
def test_a_task_that_computes_for_ever_ends_and_says_why(readers: Readers) -> None:
    first = run(readers, partial(tasks.own_pid))
    with pytest.raises(UnreadableError, match="more than 1 s of processor time"):
        run(readers, partial(tasks.compute_for_ever), TaskLimits(1 << 20, 1))
    assert run(readers, partial(tasks.own_pid)) != first


def test_a_task_that_waits_for_ever_ends_and_says_why(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TaskLimits, "wall_s", 0.5)
    with pytest.raises(UnreadableError, match="longer than"):
        run(readers, partial(tasks.sleep, 1000.0))


def test_a_crash_costs_one_task(readers: Readers) -> None:
    with pytest.raises(UnreadableError, match="SIGSEGV"):
        run(readers, partial(tasks.crash))
    assert run(readers, partial(tasks.need, 3)) == 3


def test_work_that_is_not_wanted_any_more_ends(readers: Readers, tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    def check() -> None:
        if begun.exists() and begun.read_text():
            raise KeyError("cancelled")

    with pytest.raises(KeyError):
        run(readers, partial(tasks.work_after, begun), check=check)
    assert not psutil.pid_exists(int(begun.read_text()))


def test_a_request_waits_for_a_process_and_is_told_when_there_is_none(readers: Readers) -> None:
    with readers.pool.worker(go_on, 1), pytest.raises(BusyError, match="Try again"):
        run_with = readers.pool.worker(go_on, 0.1)
        run_with.__enter__()
    assert run(readers, partial(tasks.need, 3)) == 3


def test_all_requests_share_one_budget_and_refusals_have_the_figures() -> None:
    budget = MemoryBudget(100_000_000)
    with pytest.raises(TooLargeError, match=r"The picture takes 101 MB .* at most 100 MB"):
        budget.reserve(101_000_000, "The picture", go_on, 0).__enter__()
    with budget.reserve(60_000_000, "The picture", go_on, 0):
        with pytest.raises(BusyError, match=r"takes 50 MB .* hold 60 of 100 MB"):
            budget.reserve(50_000_000, "The sound", go_on, 0).__enter__()
        with budget.reserve(40_000_000, "The sound", go_on, 0):
            assert budget.taken_bytes == 100_000_000
    assert budget.taken_bytes == 0


def test_who_waits_for_memory_gets_it_when_it_is_given_back() -> None:
    budget, got = MemoryBudget(100), threading.Event()

    def wait() -> None:
        with budget.reserve(80, "The sound", go_on, 60):
            got.set()

    with budget.reserve(50, "The picture", go_on, 0):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not got.wait(0.3)
    waiting.join(60)
    assert got.is_set()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_processes_end_with_a_server_that_is_killed(tmp_path: Path) -> None:
    program = f"""
import sys
sys.path[:0] = {sys.path!r}
from functools import partial
from pathlib import Path
from support import tasks
from vortex.server.processes import MemoryBudget, Readers
if __name__ == "__main__":
    readers = Readers(1, MemoryBudget(1 << 30), ("support.tasks",))
    work = partial(tasks.work_after, Path({str(tmp_path / "begun")!r}))
    readers.read("It", partial(tasks.need, 1), work, cpu_s=100, check=lambda: None)
"""
    path = tmp_path / "program.py"
    path.write_text(program)
    with subprocess.Popen([sys.executable, str(path)]) as server:
        deadline_s = time.monotonic() + 60
        while not (tmp_path / "begun").exists() or not (tmp_path / "begun").read_text():
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        child = psutil.Process(int((tmp_path / "begun").read_text()))
        server.send_signal(signal.SIGKILL)
        psutil.wait_procs([child], timeout=30)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
