"""Results that took long, kept in files so that a process that was killed need not compute them again."""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from pathlib import Path

from vortex.errors import VortexWarning
from vortex.runtime.files import whole_file

DIGEST_BYTES = 32
MAX_RESULT_BYTES = 4_000_000_000
"""Default limit of a folder: 5000 squares of 512 px, or 75 s of video at 1024 px and 24 fps."""


def state_dir() -> Path:
    """Return the folder of what vortex keeps between runs, which may not exist yet.

    It is ``$VORTEX_STATE``, or else ``vortex`` in ``$XDG_STATE_HOME`` or ``~/.local/state``.
    """
    if own := os.environ.get("VORTEX_STATE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "vortex"


class ResultFolder:
    """A folder of results, each a file that is whole or not there. Threads and processes may share it.

    A file is the SHA-256 of the content, then the content. When ``max_bytes`` are full, the oldest files make
    room, except those that this object wrote or read; if only such are left, nothing more is kept.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_RESULT_BYTES) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._used: set[str] = set()
        self._failed = False
        self._lock = threading.Lock()

    def __contains__(self, name: str) -> bool:
        """Return whether there is a file; its content is checked only when it is read."""
        return (self.folder / name).is_file()

    def read(self, name: str) -> bytes | None:
        """Return a result; None if it is missing, or its file is damaged, which is then deleted."""
        path = self.folder / name
        try:
            data = path.read_bytes()
        except OSError:
            return None
        content = data[DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != data[:DIGEST_BYTES]:
            path.unlink(missing_ok=True)
            return None
        self._used.add(name)
        return content

    def write(self, name: str, content: bytes) -> bool:
        """Keep a result, and return whether there was room; a folder that cannot be written is a warning."""
        if self._failed:
            return False
        try:
            with self._lock:
                self.folder.mkdir(parents=True, exist_ok=True)
                if not self._make_room(len(content) + DIGEST_BYTES):
                    return False
                self._used.add(name)
                with whole_file(self.folder / name) as part, open(part, "wb") as stream:
                    stream.write(hashlib.sha256(content).digest())
                    stream.write(content)
        except OSError as exc:
            self._failed = True
            warnings.warn(
                f"Rendered frames cannot be kept in {self.folder} ({exc.strerror or exc}), so a video that "
                "is stopped begins again. Set VORTEX_STATE to a folder that you can write.",
                VortexWarning,
                stacklevel=2,
            )
            return False
        return True

    def remove(self, names: list[str]) -> None:
        """Delete results that are there."""
        with self._lock:
            for name in names:
                self._used.discard(name)
                (self.folder / name).unlink(missing_ok=True)

    def _make_room(self, size_bytes: int) -> bool:
        with os.scandir(self.folder) as entries:
            files = [(entry.name, entry.stat()) for entry in entries]
        total = sum(state.st_size for _, state in files)
        for name, state in sorted(files, key=lambda file: file[1].st_mtime_ns):
            if total + size_bytes <= self.max_bytes:
                break
            if name not in self._used:
                (self.folder / name).unlink(missing_ok=True)
                total -= state.st_size
        return total + size_bytes <= self.max_bytes
