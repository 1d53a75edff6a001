"""Settings that a process has once: turned by the first who needs them, and back by the last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TurnBack = Callable[[], object]


class Switch:
    """A setting of the whole process that any number of threads may hold at once."""

    def __init__(self, turn: Callable[[], TurnBack]) -> None:
        """``turn`` changes the setting, and returns what changes it back."""
        self._turn, self._lock, self._holders = turn, threading.Lock(), 0
        self._turn_back: TurnBack | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the setting turned for a block."""
        with self._lock:
            if self._turn_back is None:
                self._turn_back = self._turn()
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if self._holders == 0:
                    back, self._turn_back = self._turn_back, None
                    back()
