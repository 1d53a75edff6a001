"""Process-wide settings that several threads may need at the same time: BLAS threads, standard error."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

Restore = Callable[[], object]


class RefCountedSetting:
    """A setting that the first thread to need it applies, and the last one restores."""

    def __init__(self, apply: Callable[[], Restore]) -> None:
        """``apply`` changes the setting and returns a function that changes it back."""
        self._apply, self._lock, self._holders = apply, threading.Lock(), 0
        self._restore: Restore | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the setting applied for a block."""
        with self._lock:
            if self._restore is None:
                self._restore = self._apply()
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if self._holders == 0:
                    restore, self._restore = self._restore, None
                    restore()


def _limit_blas() -> Restore:
    """Let BLAS compute in one thread."""
    _take_control()
    limits = _blas_controller(len(sys.modules)).limit(limits=1, user_api="blas")

    def restore() -> None:
        _take_control()
        limits.restore_original_limits()

    return restore


@lru_cache(maxsize=1)
def _blas_controller(modules: int) -> Any:
    """Return the controller; scan again only after imports, as a scan costs as much as a small matmul."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _take_control() -> None:
    """Let this thread set limits: threadpoolctl 3.8 accepts them only from the first thread that set any."""
    import threadpoolctl

    clear = getattr(getattr(threadpoolctl, "OpenBLASController", None), "clear_controlling_thread", None)
    if clear is not None:
        clear(force=True)


single_blas_thread = RefCountedSetting(_limit_blas).held
"""A context manager: while any thread is inside, NumPy's linear algebra computes in one thread.

The threads of a BLAS wait in a busy loop: beside other threads they cost several times what they save. And a
sum that is split among threads is rounded differently, so a result would depend on the number of cores.
"""

_ROUTINE_LINE = re.compile(
    rb"[IW]\d{4} \d\d:\d\d:[\d.]+ +\d+ \S+:\d+\] "
    rb"|WARNING: (Logging before InitGoogle|All log messages before absl::InitializeLog)"
    rb"|INFO: Created TensorFlow Lite "
)
"""Start of an information or warning line of Abseil or TensorFlow Lite; errors do not match."""
_END = b"\0vortex: end of the filtered part\n"


def _divert_log() -> Restore:
    """Send descriptor 2, of other threads and of children, too, through a thread that drops routine lines."""
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        console = os.dup(2)
    except OSError:
        # The process has no standard error.
        return lambda: None
    reader, writer = os.pipe()
    os.dup2(writer, 2)
    ended = threading.Event()
    threading.Thread(
        target=_forward_log, args=(reader, os.dup(console), ended), name="vortex-native-log", daemon=True
    ).start()

    def restore() -> None:
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(console, 2)
        os.close(console)
        with suppress(OSError):
            os.write(writer, _END)
        os.close(writer)
        ended.wait()

    return restore


def _forward_log(reader: int, console: int, ended: threading.Event) -> None:
    """Copy all but routine lines to the console, also those of a child that still holds the pipe."""
    # OSError: nobody reads the console any more.
    with suppress(OSError), os.fdopen(reader, "rb") as lines, os.fdopen(console, "wb", buffering=0) as out:
        for line in lines:
            kept = line.removesuffix(_END)
            if kept and not _ROUTINE_LINE.match(kept):
                out.write(kept)
            if line.endswith(_END):
                ended.set()
    ended.set()


native_log_filtered = RefCountedSetting(_divert_log).held
"""A context manager: while any thread is inside, routine lines of MediaPipe do not reach standard error.

MediaPipe 0.10 to 1.2 logs to descriptor 2; no exported function and no environment variable sets the level.
"""
