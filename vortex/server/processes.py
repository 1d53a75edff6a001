"""Processes that read what strangers send, each with limits on memory, processor time and time.

A process that dies, or that exceeds a limit, costs the request it served and is replaced; the server goes on.
Tasks are partial functions of modules; they, their results and their errors are pickled.
"""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar, cast

from vortex.errors import InputError, OutOfMemoryError, VortexError, in_one_line
from vortex.types import ProgressCallback

T = TypeVar("T")

POLL_S = 0.2
"""How often a caller looks whether its work is still wanted."""
START_TIMEOUT_S = 120.0
WAIT_S = 30.0
"""How long a request waits for a process, and for memory."""
SLACK_BYTES = 768 << 20
"""Address space beside what a task was reckoned to take: stacks and heaps of threads, mostly untouched."""
KEEP_BYTES = 3 << 29
"""A process that still holds so much after a task is replaced."""
NICENESS = 5
PR_SET_PDEATHSIG = 1  # linux/prctl.h

CheckStop = Callable[[], None]
"""Called while a process works; what it raises ends the process and the call."""


class UnreadableError(InputError):
    """The process that read a file died, or took too long."""


class TooLargeError(InputError):
    """A request needs more memory than its file states, or than all requests together may take."""


class BusyError(VortexError):
    """The memory or the processes are taken by other requests; the same request may succeed later."""


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """What one task may take: memory and processor time; by the clock, it may last four times as long."""

    memory_bytes: int
    cpu_s: float

    @property
    def wall_s(self) -> float:
        """Seconds after which the task ends, however busy the machine is."""
        return 4 * self.cpu_s + 30


READ_HEADER = TaskLimits(256 << 20, 20)
"""For tasks that read no more than the header of a file."""


class MemoryBudget:
    """Memory that all requests share: each reserves what it is reckoned to take before it is worked on.

    Safe to call from any thread.
    """

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._taken_bytes = 0
        self._changed = threading.Condition()

    @property
    def taken_bytes(self) -> int:
        """How much is reserved now."""
        return self._taken_bytes

    @contextmanager
    def reserve(self, need_bytes: int, what: str, check: CheckStop, wait_s: float) -> Iterator[None]:
        """Hold ``need_bytes`` for a block; wait for them up to ``wait_s``, and call ``check`` meanwhile.

        ``what`` begins messages.

        Raises:
            TooLargeError: more than the whole budget.
            BusyError: others held too much for ``wait_s``.
        """
        if need_bytes > self.total_bytes:
            raise TooLargeError(
                f"{what} takes {need_bytes / 1e6:.0f} MB of memory to read; at most "
                f"{self.total_bytes / 1e6:.0f} MB may be used. Send a smaller one."
            )
        ends_s = time.monotonic() + wait_s
        with self._changed:
            while self._taken_bytes + need_bytes > self.total_bytes:
                if time.monotonic() > ends_s:
                    raise BusyError(
                        f"{what} takes {need_bytes / 1e6:.0f} MB of memory to read; other requests hold "
                        f"{self._taken_bytes / 1e6:.0f} of {self.total_bytes / 1e6:.0f} MB. Try again later."
                    )
                check()
                self._changed.wait(POLL_S)
            self._taken_bytes += need_bytes
        try:
            yield
        finally:
            with self._changed:
                self._taken_bytes -= need_bytes
                self._changed.notify_all()


class Worker:
    """One process and the pipe to it. Use it from one thread at a time."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        context = multiprocessing.get_context("spawn")  # MediaPipe and OpenCV hang in forked children
        self._pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_serve, args=(theirs, modules), name="vortex-worker", daemon=True
        )
        self._process.start()
        theirs.close()
        self._resident_bytes = 0
        self._ready = False

    @property
    def pid(self) -> int:
        """Identifies the process."""
        return self._process.pid or 0

    @property
    def usable(self) -> bool:
        """Whether the process lives, and holds no more memory than it may keep."""
        return self._process.is_alive() and self._resident_bytes < KEEP_BYTES

    def run(
        self,
        task: partial[T],
        *,
        limits: TaskLimits,
        check: CheckStop,
        on_progress: ProgressCallback | None = None,
    ) -> T:
        """Return ``task()``, computed in the process.

        With ``on_progress``, the task gets another one as its keyword ``on_progress``; what it reports
        arrives here. After any error but one of the task's own, the process has ended.

        Raises:
            UnreadableError: the process died or exceeded its time.
            TooLargeError: it exceeded its memory.
            What ``task``, ``check`` and ``on_progress`` raise.
        """
        finished = False
        try:
            self._wait_until_ready(check)
            self._pipe.send((task, limits, on_progress is not None))
            kind, value = self._answer(limits, check, on_progress)
            finished = True
        except (EOFError, OSError) as exc:
            self._process.join(5)
            raise UnreadableError(self._why_dead(limits)) from exc
        finally:
            if not finished:
                self.end()
        if kind == "memory":
            raise TooLargeError(
                f"This takes more than the {limits.memory_bytes / 1e6:.0f} MB of memory that it states. "
                "Send another file."
            )
        if kind == "error":
            raise value
        return cast(T, value)

    def _wait_until_ready(self, check: CheckStop) -> None:
        ends_s = time.monotonic() + START_TIMEOUT_S
        while not self._ready:
            check()
            if self._pipe.poll(POLL_S):
                self._pipe.recv()
                self._ready = True
            elif time.monotonic() > ends_s:
                raise BusyError("The machine is too busy to start a process. Try again later.")

    def _answer(
        self, limits: TaskLimits, check: CheckStop, on_progress: ProgressCallback | None
    ) -> tuple[str, Any]:
        ends_s = time.monotonic() + limits.wall_s
        while True:
            if not self._pipe.poll(POLL_S):
                check()
                if time.monotonic() > ends_s:
                    raise UnreadableError(f"This took longer than {limits.wall_s:.0f} s. Send less.")
                continue
            kind, value = self._pipe.recv()
            if kind != "progress":
                self._resident_bytes, answer = value
                return kind, answer
            if on_progress:
                on_progress(*value)

    def _why_dead(self, limits: TaskLimits) -> str:
        code = self._process.exitcode or 0
        if code == -getattr(signal, "SIGXCPU", 0):
            return f"This took more than {limits.cpu_s:.0f} s of processor time. Send less."
        how = signal.Signals(-code).name if code < 0 else f"status {code}"
        return (
            f"The process that read this ended ({how}); it may use {limits.memory_bytes / 1e6:.0f} MB of "
            "memory. Send another file."
        )

    def end(self) -> None:
        """End the process at once, whatever it does."""
        self._process.kill()
        self._process.join(5)
        self._pipe.close()


class WorkerPool:
    """At most ``size`` processes, started when they are needed and kept for later tasks.

    ``modules`` are imported before a process is ready. Safe to call from any thread.
    """

    def __init__(self, size: int, modules: tuple[str, ...]) -> None:
        self._modules = modules
        self._free = threading.Semaphore(size)
        self._idle: list[Worker] = []
        self._all: set[Worker] = set()
        self._lock = threading.Lock()
        self._closed = False
        # The kernel ends a child with the thread that started it, so that thread lasts as long as the pool.
        self._starter = ThreadPoolExecutor(1, "vortex-starter")

    def start_one(self) -> None:
        """Start a process before it is needed."""
        self._starter.submit(lambda: self._put_back(self._new()))

    def _new(self) -> Worker:
        worker = Worker(self._modules)
        with self._lock:
            self._all.add(worker)
        return worker

    @contextmanager
    def worker(self, check: CheckStop, wait_s: float) -> Iterator[Worker]:
        """Yield a process for a block; BusyError if none becomes free within ``wait_s``."""
        ends_s = time.monotonic() + wait_s
        while not self._free.acquire(timeout=POLL_S):
            check()
            if time.monotonic() > ends_s:
                raise BusyError("All processes are at work for other requests. Try again later.")
        try:
            if self._closed:
                raise BusyError("The server is stopping.")
            worker = self._take() or self._starter.submit(self._new).result()
            try:
                yield worker
            finally:
                self._put_back(worker)
        finally:
            self._free.release()

    def _take(self) -> Worker | None:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.usable:
                    return worker
                self._all.discard(worker)
        return None

    def _put_back(self, worker: Worker) -> None:
        with self._lock:
            if worker.usable and not self._closed:
                self._idle.append(worker)
                return
            self._all.discard(worker)
        worker.end()

    def resident_bytes(self) -> int:
        """Return the memory of all processes."""
        import psutil

        total = 0
        with self._lock:
            pids = [worker.pid for worker in self._all]
        for pid in pids:
            with suppress(psutil.Error):
                total += int(psutil.Process(pid).memory_info().rss)
        return total

    def close(self) -> None:
        """End all processes; calls that still wait for one get an error."""
        with self._lock:
            self._closed = True
            workers, self._all, self._idle = list(self._all), set(), []
        self._starter.shutdown(cancel_futures=True)
        for worker in workers:
            worker.end()


class Readers:
    """What reads the files of all requests: processes, and the memory that they share.

    Safe to call from any thread.
    """

    def __init__(self, size: int, budget: MemoryBudget, modules: tuple[str, ...]) -> None:
        """``size`` processes, which have imported ``modules``; several readers may share one budget."""
        self.pool, self.budget = WorkerPool(size, modules), budget

    def read(
        self,
        what: str,
        reckon: partial[int],
        task: partial[T],
        *,
        cpu_s: float,
        check: CheckStop,
        wait_s: float = WAIT_S,
        on_progress: ProgressCallback | None = None,
    ) -> T:
        """Return ``task()``, computed in a process that may take as many bytes as ``reckon()`` returns.

        Both run in one process, which is waited for, as is memory, up to ``wait_s`` each. ``what`` begins
        messages; for ``check`` and ``on_progress`` see :meth:`Worker.run`.

        Raises:
            TooLargeError, BusyError: see :meth:`MemoryBudget.reserve` and :meth:`WorkerPool.worker`.
            What :meth:`Worker.run` raises.
        """
        with self.pool.worker(check, wait_s) as worker:
            need_bytes = worker.run(reckon, limits=READ_HEADER, check=check)
            with self.budget.reserve(need_bytes, what, check, wait_s):
                limits = TaskLimits(need_bytes, cpu_s)
                return worker.run(task, limits=limits, check=check, on_progress=on_progress)


def _serve(pipe: Connection, modules: tuple[str, ...]) -> None:
    """Run tasks until the server closes the pipe or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the server ends this one
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # Live faces, in the server's process, come first.
    with suppress(AttributeError, OSError):
        os.nice(NICENESS)
    for module in modules:
        importlib.import_module(module)
    with suppress(EOFError, OSError):
        pipe.send("ready")
        while True:
            task, limits, reports = pipe.recv()
            _send(pipe, *_run(pipe, task, limits, reports))


def _run(pipe: Connection, task: partial[Any], limits: TaskLimits, reports: bool) -> tuple[str, Any]:
    """Return "done" and the result, "memory" where a task had too little, or "error" and what failed."""

    def on_progress(stage: str, completed: int, total: int) -> None:
        pipe.send(("progress", (stage, completed, total)))

    keywords = {"on_progress": on_progress} if reports else {}
    try:
        with _limited(limits), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return "done", task(**keywords)
    except (MemoryError, OutOfMemoryError):
        return "memory", None
    except Exception as exc:
        return "error", exc


def _send(pipe: Connection, kind: str, value: Any) -> None:
    if kind == "error":
        try:
            pickle.loads(pickle.dumps(value))
        except Exception:  # an error whose class cannot be made again from its arguments
            value = VortexError(in_one_line(value))
    pipe.send((kind, (_resident_bytes(), value)))


@contextmanager
def _limited(limits: TaskLimits) -> Iterator[None]:
    """Set the limits of this process for a block, where the system has them: Windows has none.

    Linux alone limits address space; macOS takes the limit and does not keep it.
    """
    try:
        import resource
    except ImportError:
        yield
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    wanted = {resource.RLIMIT_CPU: int(used.ru_utime + used.ru_stime + limits.cpu_s) + 1}
    if sys.platform == "linux":
        wanted[resource.RLIMIT_AS] = _address_space_bytes() + limits.memory_bytes + SLACK_BYTES
    before = {kind: resource.getrlimit(kind) for kind in wanted}
    for kind, most in wanted.items():
        soft, hard = before[kind]
        # A limit that the operator set stays.
        known = [most, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)]
        resource.setrlimit(kind, (min(known), hard))
    try:
        yield
    finally:
        for kind, old in before.items():
            resource.setrlimit(kind, old)


def _address_space_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _resident_bytes() -> int:
    """Return the memory of this process; 0 where Linux's file about it is missing."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
