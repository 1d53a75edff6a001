"""The server's folder on disk: uploads, portraits, and a folder for each job."""

from __future__ import annotations

import fcntl
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vortex.errors import InputError


def new_id() -> str:
    """Return a name nobody can guess, safe in paths and addresses."""
    return secrets.token_hex(12)


class DataFolder:
    """Paths below ``root``. Ids come from :func:`new_id` or the database, never from a request.

    Raises:
        InputError: the folder cannot be made, or another server works in it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in ("incoming", "portraits", "jobs"):
                (root / name).mkdir(exist_ok=True)
            self._lock = (root / "lock").open("w")
        except OSError as exc:
            raise InputError(
                f"The data folder '{root}' cannot be used ({exc.strerror}). Give another one with --data."
            ) from exc
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            self._lock.close()
            raise InputError(
                f"Another server works in '{root}'. Stop it, or give this one its own folder with --data."
            ) from exc

    @property
    def database(self) -> Path:
        """The file of :class:`vortex.web.store.Store`."""
        return self.root / "server.sqlite3"

    def speech(self, job_id: str) -> Path:
        """The sound of a job."""
        return self.root / "jobs" / job_id / "speech"

    def video(self, job_id: str) -> Path:
        """The result of a job."""
        return self.root / "jobs" / job_id / "video.mp4"

    def portrait(self, portrait_id: str) -> Path:
        """The arrays of a portrait."""
        return self.root / "portraits" / f"{portrait_id}.npz"

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """Give a new folder for the files of one request; it is gone afterwards, whatever happens."""
        folder = self.root / "incoming" / new_id()
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def delete_job(self, job_id: str) -> None:
        """Delete all files of a job."""
        shutil.rmtree(self.root / "jobs" / job_id, ignore_errors=True)

    def sweep(self, job_ids: set[str], portrait_ids: set[str]) -> None:
        """Delete what a killed server left behind: uploads, half videos, files that nothing refers to."""
        for folder in (self.root / "incoming").iterdir():
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.root / "jobs").iterdir():
            if folder.name not in job_ids:
                shutil.rmtree(folder, ignore_errors=True)
        for part in (self.root / "jobs").glob("*/.vortex-*.part"):
            part.unlink(missing_ok=True)
        for file in (self.root / "portraits").iterdir():
            if file.stem not in portrait_ids:
                file.unlink(missing_ok=True)

    def close(self) -> None:
        """Let another server use the folder."""
        self._lock.close()
