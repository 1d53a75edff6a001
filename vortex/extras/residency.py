"""Which models stay loaded: within a budget of memory, the ones used last."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from vortex.errors import OutOfMemoryError

T = TypeVar("T")

MODEL_BYTES: Mapping[str, int] = {
    "kokoro": 1100 << 20,
    "kokoro-fp32": 1700 << 20,
    "clip": 1400 << 20,
    "flux-schnell": 12 << 30,
}
"""Most memory that each model takes with its work space; Flux in 4 bits."""
SHARE = 0.8
"""Part of the memory that is free at the start which models may take by default."""


@dataclass(slots=True)
class _Resident:
    need_bytes: int
    device: str
    model: Any = None
    users: int = 0
    used_at: int = 0


class ModelRegistry:
    """Loads models once and keeps them as long as their sum stays within the budget of their device.

    ``budget_bytes`` gives the budget by device, such as {"cpu": 8 << 30}; default, SHARE of what is free.
    ``tell`` is given a line before each load. Safe to use from many threads at once.
    """

    def __init__(
        self,
        budget_bytes: Mapping[str, int] | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._budget = dict(budget_bytes or {})
        self._tell = tell
        self._residents: dict[str, _Resident] = {}
        self._changed = threading.Condition()
        self._uses = 0

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the models in memory, the one used last at the end."""
        with self._changed:
            found = [(r.used_at, name) for name, r in self._residents.items() if r.model is not None]
        return tuple(name for _, name in sorted(found))

    @contextmanager
    def use(self, name: str, need_bytes: int, load: Callable[[], T], *, device: str = "cpu") -> Iterator[T]:
        """Lend the model ``name``, loaded by ``load`` unless it is there; it stays while there is room.

        Models that nobody uses make room, the longest unused first; those in use are waited for.

        Raises:
            OutOfMemoryError: the model alone needs more than the whole budget.
            What ``load`` raises.
        """
        resident = self._claim(name, need_bytes, device)
        try:
            if resident.model is None:
                resident.model = load()
            with self._changed:
                self._changed.notify_all()
            yield cast(T, resident.model)
        finally:
            with self._changed:
                resident.users -= 1
                if resident.model is None:
                    del self._residents[name]
                self._changed.notify_all()

    def _claim(self, name: str, need_bytes: int, device: str) -> _Resident:
        """Return the entry of a model, counted as used; a new one has its room reserved."""
        with self._changed:
            while True:
                self._uses += 1
                there = self._residents.get(name)
                if there is not None and there.model is not None:
                    there.users, there.used_at = there.users + 1, self._uses
                    return there
                if there is None and self._make_room(name, need_bytes, device):
                    self._say(name, need_bytes, device)
                    new = _Resident(need_bytes, device, users=1, used_at=self._uses)
                    self._residents[name] = new
                    return new
                # another thread loads this very model, or uses what would have to go
                self._changed.wait()

    def _make_room(self, name: str, need_bytes: int, device: str) -> bool:
        budget = self._budget.setdefault(device, round(SHARE * free_bytes(device)))
        if need_bytes > budget:
            raise OutOfMemoryError(
                f"{name} needs {_gb(need_bytes)} of memory on {device}, and {_gb(budget)} may be used. "
                "Free some, or give a larger budget."
            )
        idle = sorted(
            (r.used_at, other) for other, r in self._residents.items() if r.device == device and r.users == 0
        )
        while self._used_bytes(device) + need_bytes > budget and idle:
            del self._residents[idle.pop(0)[1]]
            _collect()
        return self._used_bytes(device) + need_bytes <= budget

    def _used_bytes(self, device: str) -> int:
        return sum(r.need_bytes for r in self._residents.values() if r.device == device)

    def _say(self, name: str, need_bytes: int, device: str) -> None:
        if self._tell:
            used, budget = self._used_bytes(device), self._budget[device]
            self._tell(
                f"loading {name}: needs {_gb(need_bytes)} on {device}; {_gb(used)} of {_gb(budget)} in use"
            )


def free_bytes(device: str) -> int:
    """Return the memory that is free on a device: "cpu", or one of CUDA."""
    if device == "cpu":
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    import torch

    return int(torch.cuda.mem_get_info(device)[0])


def _collect() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GB"
