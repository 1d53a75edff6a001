"""The threads of NumPy's linear algebra: only the caller's own, where speed or equal results need it.

They wait by spinning: beside threads of our own they cost several times what they save. And sums that are
shared out among them are rounded otherwise than those of one, so that a result would depend on the number of
cores, and on what else the process does.
"""

from __future__ import annotations

import sys
from typing import Any

from vortex.switch import Switch, TurnBack


class _Libraries:
    """The libraries of this process that compute in threads."""

    def __init__(self) -> None:
        self._controller: Any = None
        self._modules = 0

    def limit(self) -> TurnBack:
        """Let BLAS compute in one thread; return what gives the others back."""
        _take_control()
        limits = self._found().limit(limits=1, user_api="blas")

        def restore() -> None:
            _take_control()
            limits.restore_original_limits()

        return restore

    def _found(self) -> Any:
        """Return threadpoolctl's view of them; the search takes as long as a small product."""
        from threadpoolctl import ThreadpoolController

        # a library comes with the module that needs it
        if self._controller is None or self._modules != len(sys.modules):
            self._controller, self._modules = ThreadpoolController(), len(sys.modules)
        return self._controller


def _take_control() -> None:
    """Let this thread set limits: from version 3.8 on, threadpoolctl heeds only the first one that did."""
    import threadpoolctl

    openblas = getattr(threadpoolctl, "OpenBLASController", None)
    clear = getattr(openblas, "clear_controlling_thread", None)
    if clear is not None:
        clear(force=True)


single_blas_thread = Switch(_Libraries().limit).held
