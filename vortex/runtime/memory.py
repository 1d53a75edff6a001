"""Memory: caches that bound it, how much is free, and giving freed memory back to the system."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from vortex.errors import OutOfMemoryError

MIN_ADDRESS_SPACE_BYTES = 1536 << 20
"""Least address space in which the mesh engine made a video of 512 px on two cores (1.4 GiB failed)."""

T = TypeVar("T")
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

DEFAULT_SHARE = 0.8
"""Share of the memory free at the first use of a device that models may take by default."""


def release_freed_memory() -> None:
    """Return freed memory to the system, where the C library is glibc; do nothing elsewhere.

    Without this, the heaps of ended threads keep a little more memory after each video.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def machine_bytes() -> int:
    """Return the memory of the machine, or of the container if that may use less, in bytes."""
    import psutil

    total = int(psutil.virtual_memory().total)
    # Version 2 of control groups, then version 1.
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError), open(name, encoding="ascii") as file:
            total = min(total, int(file.read()))
    return total


def free_bytes(device: str) -> int:
    """Return the free memory of "cpu" or of a CUDA device such as "cuda:0", in bytes."""
    if device == "cpu":
        import psutil

        return int(psutil.virtual_memory().available)
    import torch

    return int(torch.cuda.mem_get_info(device)[0])


def require_address_space() -> None:
    """Refuse a limit on address space (``ulimit -v``) that is too low to render in.

    Below it, native libraries abort, and ``Thread.start`` can wait for ever for a thread that had no
    memory to begin. Systems without this limit pass.

    Raises:
        OutOfMemoryError: the limit is below MIN_ADDRESS_SPACE_BYTES.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit.
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < MIN_ADDRESS_SPACE_BYTES:
        raise OutOfMemoryError(
            f"This process may use {limit >> 20} MiB of address space; rendering needs at least "
            f"{MIN_ADDRESS_SPACE_BYTES >> 20} MiB. Raise the limit: ulimit -v unlimited"
        )


class BoundedCache(Generic[Key, Value]):
    """Keeps at most ``max_entries`` values and drops the least recently used. Safe to call from any thread.

    ``functools.lru_cache`` would compute a value several times if threads need it at the same time. Values of
    different keys are made at the same time.
    """

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        # The list is empty while the value is being made; the lock is held meanwhile.
        self._entries: OrderedDict[Key, tuple[threading.Lock, list[Value]]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return the value of ``key``; call ``make`` if it is not cached. Its errors are not cached."""
        with self._lock:
            entry = being_made, value = self._entries.setdefault(key, (threading.Lock(), []))
            self._entries.move_to_end(key)
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)
        with being_made:
            if not value:
                try:
                    value.append(make())
                except BaseException:
                    with self._lock:
                        if self._entries.get(key) is entry:
                            del self._entries[key]
                    raise
            return value[0]

    def discard(self, matches: Callable[[Key], bool]) -> None:
        """Drop every entry whose key ``matches``."""
        with self._lock:
            for key in [key for key in self._entries if matches(key)]:
                del self._entries[key]

    def clear(self) -> None:
        """Drop every entry."""
        self.discard(lambda key: True)

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._entries)


@dataclass(slots=True)
class _Model:
    need_bytes: int
    device: str
    users: int = 1
    model: Any = None  # while it loads


class ModelCache:
    """Loads each model once, and keeps it as long as the models on its device fit into the budget.

    Safe to call from any thread. Different models load at the same time. ``memory_gb`` is the budget of the
    CPU and of CUDA each; default, DEFAULT_SHARE of the free memory. ``log`` gets one line before each load.
    """

    def __init__(self, memory_gb: float | None = None, log: Callable[[str], None] | None = None) -> None:
        self._budget_bytes: dict[str, int] = {}
        if memory_gb is not None:
            self._budget_bytes = dict.fromkeys(("cpu", "cuda"), round(memory_gb * 2**30))
        self._log = log
        self._models: OrderedDict[str, _Model] = OrderedDict()  # The most recently used is the last.
        self._changed = threading.Condition()

    @contextmanager
    def use(self, name: str, need_bytes: int, load: Callable[[], T], *, device: str = "cpu") -> Iterator[T]:
        """Yield the model ``name``; ``load`` is called if it is not in memory.

        Models without users are dropped to make room, the least recently used first. If those in use leave no
        room, this waits for them. OutOfMemoryError if ``need_bytes`` alone exceeds the budget of ``device``.
        """
        entry = self._acquire(name, need_bytes, device)
        try:
            if entry.model is None:
                entry.model = load()
                with self._changed:
                    self._changed.notify_all()
            yield cast(T, entry.model)
        finally:
            with self._changed:
                entry.users -= 1
                if entry.model is None:
                    del self._models[name]
                self._changed.notify_all()

    def _acquire(self, name: str, need_bytes: int, device: str) -> _Model:
        """Return a loaded model, or a new entry that the caller has to load."""
        with self._changed:
            while True:
                entry = self._models.get(name)
                if entry is not None and entry.model is not None:
                    entry.users += 1
                    self._models.move_to_end(name)
                    return entry
                if entry is None and self._make_room(name, need_bytes, device):
                    entry = self._models[name] = _Model(need_bytes, device)
                    return entry
                # Another thread loads this model, or uses a model that would have to be dropped.
                self._changed.wait()

    def _make_room(self, name: str, need_bytes: int, device: str) -> bool:
        """Drop models without users until ``need_bytes`` fit; return whether they do."""
        budget = self._budget_bytes.setdefault(device, round(DEFAULT_SHARE * free_bytes(device)))
        if need_bytes > budget:
            raise OutOfMemoryError(
                f"{name} needs {_gb(need_bytes)} of memory on {device}, and {_gb(budget)} may be used. "
                "Free some, or give a larger budget."
            )
        used = sum(entry.need_bytes for entry in self._models.values() if entry.device == device)
        idle = [n for n, entry in self._models.items() if entry.device == device and entry.users == 0]
        while used + need_bytes > budget and idle:
            used -= self._models.pop(idle.pop(0)).need_bytes
            gc.collect()
            torch = sys.modules.get("torch")
            if torch is not None and torch.cuda.is_available():
                torch.cuda.empty_cache()
        if used + need_bytes > budget:
            return False
        if self._log:
            in_use = f"{_gb(used)} of {_gb(budget)} in use"
            self._log(f"loading {name}: needs {_gb(need_bytes)} on {device}; {in_use}")
        return True


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GB"
