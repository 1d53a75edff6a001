"""The journal of a batch's folder: which videos earlier runs began and finished there, and of what."""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from pathlib import Path

from vortex.batch.jobs import JOURNAL, REPORT, Outcome
from vortex.errors import InputError
from vortex.runtime.files import check_new_file


class Journal(AbstractContextManager["Journal"]):
    """Opens the journal of a folder, which is created: a line for each video begun, and each one finished.

    A line that cannot be read is left out. A line that cannot be written, as on a full disk, costs only that
    a later run makes its video again.

    Raises InputError: the folder cannot be written, or holds a report of something else and not ``force``.
    """

    def __init__(self, folder: Path, *, force: bool) -> None:
        self._finished: dict[str, tuple[str, int | None]] = {}
        """Output -> key and size in bytes of its video; an empty key, if it was begun and not finished."""
        path = folder / JOURNAL
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                check_new_file(folder / REPORT, "Report", force=force)
            content = path.read_bytes() if path.exists() else b""
            self._read(content)
            # Without a buffer, because closing would try again what could not be written.
            self._file = open(path, "ab", buffering=0)
            if content and not content.endswith(b"\n"):  # a kill cut the last line off
                self._file.write(b"\n")
        except OSError as exc:
            raise InputError(
                f"Folder '{folder}' cannot be written ({exc.strerror}). Choose another one."
            ) from exc

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def knows(self, output: str) -> bool:
        """Return whether this or an earlier run began the video."""
        return output in self._finished

    def has(self, output: str, key: str, path: Path) -> bool:
        """Return whether the video at ``path`` is the one that was made of ``key``."""
        known_key, size_bytes = self._finished.get(output, ("", None))
        if known_key != key or not path.is_file():
            return False
        return size_bytes is None or path.stat().st_size == size_bytes

    def begin(self, output: str) -> None:
        """Record that a video is begun: from now on it may be replaced."""
        if not self.knows(output):
            self._write({"output": output, "key": "", "status": "begun"})
            self._finished[output] = ("", None)

    def finish(self, outcome: Outcome, path: Path) -> None:
        """Record a finished video."""
        size_bytes = None
        with suppress(OSError):
            size_bytes = path.stat().st_size
        self._write({**asdict(outcome), "size_bytes": size_bytes})
        self._finished[outcome.output] = (outcome.key, size_bytes)

    def _write(self, entry: dict[str, object]) -> None:
        with suppress(OSError):
            os.write(self._file.fileno(), (json.dumps(entry) + "\n").encode())

    def _read(self, content: bytes) -> None:
        for line in content.split(b"\n"):
            with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
                entry = json.loads(line)
                size = entry.get("size_bytes")
                self._finished[str(entry["output"])] = (
                    str(entry["key"]),
                    None if size is None else int(size),
                )
