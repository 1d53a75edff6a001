"""The threads of NumPy's linear algebra: only the caller's own, where speed or equal results need it.

They wait by spinning: beside threads of our own they cost several times what they save. And sums that are
shared out among them are rounded otherwise than those of one, so that a result would depend on the number of
cores, and on what else the process does.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _BlasThreads:
    """Keep BLAS to one thread while anybody asks for it.

    The setting is that of the whole process, so the last one out restores what the first one found.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._limits: Any = None
        self._libraries: Any = None
        self._modules = 0

    @contextmanager
    def single(self) -> Iterator[None]:
        with self._lock:
            self._users += 1
            if self._users == 1:
                _take_control()
                self._limits = self._found().limit(limits=1, user_api="blas")
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    _take_control()
                    self._limits.restore_original_limits()

    def _found(self) -> Any:
        """Return the libraries of this process; the search takes as long as a small product."""
        from threadpoolctl import ThreadpoolController

        # a library comes with the module that needs it
        if self._libraries is None or self._modules != len(sys.modules):
            self._libraries, self._modules = ThreadpoolController(), len(sys.modules)
        return self._libraries


def _take_control() -> None:
    """Let this thread set limits: from version 3.8 on, threadpoolctl heeds only the first one that did."""
    import threadpoolctl

    openblas = getattr(threadpoolctl, "OpenBLASController", None)
    clear = getattr(openblas, "clear_controlling_thread", None)
    if clear is not None:
        clear(force=True)


_blas = _BlasThreads()
single_blas_thread = _blas.single
