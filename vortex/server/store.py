"""What a server keeps: a folder of files, and a database of jobs and portraits that survives kills."""

from __future__ import annotations

import fcntl
import json
import logging
import re
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict

from vortex.errors import InputError
from vortex.media.containers import DEFAULT_CONTAINER

STATES: tuple[str, ...] = ("queued", "running", "done", "failed", "cancelled")
ACTIVE = ("queued", "running")

_AT_START = """
CREATE TABLE IF NOT EXISTS jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, state TEXT NOT NULL,
    options TEXT NOT NULL, portrait_id TEXT NOT NULL, owns_portrait INTEGER NOT NULL,
    created_s REAL NOT NULL, started_s REAL, finished_s REAL, expires_s REAL,
    stage TEXT, completed INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0, eta_s REAL,
    attempts INTEGER NOT NULL DEFAULT 0, revision INTEGER NOT NULL DEFAULT 1,
    report TEXT, sync TEXT, measuring INTEGER NOT NULL DEFAULT 0, error TEXT,
    owner TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, seq);
CREATE TABLE IF NOT EXISTS portraits (
    id TEXT PRIMARY KEY, created_s REAL NOT NULL, used_s REAL NOT NULL,
    width_px INTEGER NOT NULL, height_px INTEGER NOT NULL, face_box_px TEXT NOT NULL, notes TEXT NOT NULL,
    shared INTEGER NOT NULL, owner TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS webhooks (
    job_id TEXT PRIMARY KEY, url TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    next_s REAL NOT NULL DEFAULT 0
);
DELETE FROM webhooks WHERE job_id NOT IN (SELECT id FROM jobs);
UPDATE jobs SET state = 'queued', revision = revision + 1 WHERE state = 'running';
UPDATE jobs SET measuring = 0, revision = revision + 1 WHERE measuring;
"""
NOBODY = ""
"""Owner of what was made without a key, which everybody may use who may use the server."""
_ADDED = ("owner TEXT NOT NULL DEFAULT ''",)
"""Columns that the tables of earlier versions lack."""
_OWN = "(owner = ? OR owner = '')"
log = logging.getLogger("vortex.server")

BUSY_TIMEOUT_S = 2.0
"""How long a change waits for another process that uses the database, such as a backup."""
_PATH = re.compile(r"(?<![\w:/.])/(?:[^\s'/]+/)+[^\s'/]*")
"""An absolute path, but not that of a URL."""

_FromJson = BeforeValidator(lambda value: json.loads(value) if isinstance(value, str) else value)
_Object = Annotated[Mapping[str, Any], _FromJson]
Record = TypeVar("Record", bound=BaseModel)


class Job(BaseModel):
    """One requested video. ``revision`` grows with every change; times are seconds since 1970.

    ``owner``: whose key it was requested with, as :func:`vortex.server.security.owner_of` names keys.

    ``portrait_id`` is "" where a clip came with the job, which is kept in its folder.
    ``measuring``: the video is finished, its lip-sync is being measured.
    """

    model_config = ConfigDict(frozen=True)

    seq: int
    id: str
    state: str
    options: _Object
    portrait_id: str
    owns_portrait: bool
    created_s: float
    started_s: float | None
    finished_s: float | None
    expires_s: float | None
    stage: str | None
    completed: int
    total: int
    eta_s: float | None
    attempts: int
    revision: int
    report: _Object | None
    sync: _Object | None
    measuring: bool
    error: _Object | None
    owner: str

    @property
    def settled(self) -> bool:
        """Whether the job will not change any more."""
        return self.state not in ACTIVE and not self.measuring

    @property
    def format(self) -> str:
        """Suffix of the file, without the dot; jobs of earlier versions have none."""
        return str(self.options.get("format") or DEFAULT_CONTAINER.suffix[1:])


class Webhook(BaseModel):
    """Who is told when a job is settled; ``next_s`` is the time of the next attempt in seconds since 1970."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    url: str
    attempts: int
    next_s: float


class PortraitRecord(BaseModel):
    """One picture with its face: ``face_box_px`` is (x0, y0, x1, y1); ``shared`` if others may use its id."""

    model_config = ConfigDict(frozen=True)

    id: str
    created_s: float
    used_s: float
    width_px: int
    height_px: int
    face_box_px: Annotated[tuple[float, ...], _FromJson]
    notes: Annotated[tuple[str, ...], _FromJson]
    shared: bool
    owner: str

    def usable_by(self, owner: str) -> bool:
        """Return whether requests of ``owner`` may name the portrait."""
        return self.shared and self.owner in (owner, NOBODY)


def new_id() -> str:
    """Return an id that nobody can guess, safe in paths and URLs."""
    return secrets.token_hex(12)


class DataFolder:
    """Paths below ``root``. Ids come from :func:`new_id` or the database, never from a request.

    Raises InputError if the folder cannot be made, or another server uses it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root = root.absolute()
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in ("incoming", "portraits", "jobs"):
                (root / name).mkdir(exist_ok=True)
            self._lock = (root / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            self._lock.close()
            raise InputError(
                f"Another server uses '{root}'. Stop it, or set another folder as data."
            ) from exc
        except OSError as exc:
            raise InputError(
                f"The data folder '{root}' cannot be used ({exc.strerror}). Set another folder as data."
            ) from exc

    def speech(self, job_id: str) -> Path:
        """Return the path of the sound of a job."""
        return self.root / "jobs" / job_id / "speech"

    def driving(self, job_id: str) -> Path:
        """Return the path of the video that drives the portrait of a job."""
        return self.root / "jobs" / job_id / "driving"

    def clip(self, job_id: str) -> Path:
        """Return the path of the video that is the portrait of a job."""
        return self.root / "jobs" / job_id / "clip"

    def inputs(self, job_id: str) -> tuple[Path, ...]:
        """Return the paths of all files that a job is made of, of which some may be missing."""
        return self.speech(job_id), self.driving(job_id), self.clip(job_id), self.background(job_id)

    def background(self, job_id: str) -> Path:
        """Return the path of the picture behind the person of a job."""
        return self.root / "jobs" / job_id / "background_picture"

    def video(self, job: Job) -> Path:
        """Return the path of the result of a job."""
        return self.root / "jobs" / job.id / f"video.{job.format}"

    def portrait(self, portrait_id: str) -> Path:
        """Return the path of the arrays of a portrait."""
        return self.root / "portraits" / f"{portrait_id}.npz"

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """Yield a new folder for the files of one request; it is deleted afterwards, whatever happens."""
        folder = self.root / "incoming" / new_id()
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def delete_job(self, job_id: str) -> None:
        """Delete all files of a job."""
        shutil.rmtree(self.root / "jobs" / job_id, ignore_errors=True)

    def sweep(self, store: Store) -> None:
        """Delete what a killed server left: uploads, unfinished videos, and files that nothing refers to."""
        for folder in (self.root / "incoming").iterdir():
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.root / "jobs").iterdir():
            if store.job(folder.name) is None:
                shutil.rmtree(folder, ignore_errors=True)
        for part in (self.root / "jobs").glob("*/.vortex-*.part"):
            part.unlink(missing_ok=True)
        for file in (self.root / "portraits").iterdir():
            if store.portrait(file.stem) is None:
                file.unlink(missing_ok=True)

    def has_results(self) -> bool:
        """Return whether there are files of jobs or portraits."""
        return any(any((self.root / name).iterdir()) for name in ("jobs", "portraits"))

    def without_paths(self, message: str) -> str:
        """Return a message for clients, in which paths are cut to their last part, and fields not quoted."""
        message = _PATH.sub(lambda path: Path(path[0]).name, message.replace(str(self.root), "/server/data"))
        return re.sub(r"'(portrait|speech|driving|background_picture|video)(?:\.\w+)?'", r"\1", message)

    def close(self) -> None:
        """Let another server use the folder."""
        self._lock.close()


class Store:
    """The database, an SQLite file in the data folder. Safe to call from any thread.

    At the start, jobs that were running are queued again, and unfinished measurements are dropped. Each
    method raises sqlite3.Error while the database is locked, full or read-only.

    Raises InputError if the database is damaged, cannot be written, or is missing where there are videos.
    """

    def __init__(self, folder: DataFolder) -> None:
        self._lock = threading.Lock()
        path = folder.root / "server.sqlite3"
        try:
            self._database = sqlite3.connect(
                path, check_same_thread=False, isolation_level=None, timeout=BUSY_TIMEOUT_S
            )
            self._database.row_factory = sqlite3.Row
            self._check_content(path, folder)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._add_columns()
            self._database.executescript(_AT_START)
        except sqlite3.Error as exc:
            raise InputError(
                f"The database '{path}' cannot be used ({exc}). Restore it from a backup, or set another "
                "folder as data."
            ) from exc

    def _check_content(self, path: Path, folder: DataFolder) -> None:
        """Refuse a damaged database, and an empty one beside files that it does not know any more."""
        (found,) = self._database.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        known = self._database.execute("SELECT name FROM sqlite_master WHERE name = 'jobs'").fetchone()
        if known is None and folder.has_results():
            raise InputError(
                f"The database '{path}' is empty or missing, but its folder has videos or portraits. "
                "Restore it from a backup, or move the folders 'jobs' and 'portraits' away."
            )

    def _add_columns(self) -> None:
        """Add what the tables of an earlier version lack."""
        for table in ("jobs", "portraits"):
            known = [row["name"] for row in self._database.execute(f"PRAGMA table_info({table})")]
            for column in _ADDED:
                if known and column.split()[0] not in known:
                    self._database.execute(f"ALTER TABLE {table} ADD COLUMN {column}")

    def check_writable(self) -> None:
        """Raise sqlite3.Error if nothing can be written now."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def _run(self, sql: str, values: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        """Return the rows; what SQLite has no type for is stored as JSON."""
        stored = [json.dumps(value) if isinstance(value, dict | tuple) else value for value in values]
        with self._lock:
            return [dict(row) for row in self._database.execute(sql, stored)]

    def _all(self, kind: type[Record], sql: str, *values: Any) -> list[Record]:
        """Return the records of a query; a row that cannot be read is left out, and logged."""
        records = []
        for row in self._run(sql, values):
            try:
                records.append(kind.model_validate(row))
            except ValueError as exc:
                log.error(
                    "a row of the database is damaged: id %s: %s", row.get("id"), " ".join(str(exc).split())
                )
        return records

    def _first(self, kind: type[Record], sql: str, *values: Any) -> Record | None:
        return next(iter(self._all(kind, sql, *values)), None)

    def add_job(
        self,
        job_id: str,
        options: Mapping[str, Any],
        portrait_id: str,
        *,
        owns_portrait: bool,
        owner: str = NOBODY,
        max_queued: int = 2**62,
    ) -> Job | None:
        """Queue a job; return None if so many are queued already."""
        sql = (
            "INSERT INTO jobs (id, state, options, portrait_id, owns_portrait, created_s, owner) "
            "SELECT ?, 'queued', ?, ?, ?, ?, ? WHERE (SELECT COUNT(*) FROM jobs WHERE state = 'queued') < ? "
            "RETURNING *"
        )
        values = (job_id, dict(options), portrait_id, owns_portrait, time.time(), owner, max_queued)
        return self._first(Job, sql, *values)

    def job(self, job_id: str) -> Job | None:
        """Return a job, or None."""
        return self._first(Job, "SELECT * FROM jobs WHERE id = ?", job_id)

    def jobs(
        self,
        *,
        limit: int,
        owner: str = NOBODY,
        before: int | None = None,
        state: str | None = None,
        name: str | None = None,
    ) -> list[Job]:
        """Return the newest jobs of an owner, those with ``seq`` below ``before``, in one state or all.

        With ``name``, only those whose name contains it; letters of ASCII match in either case.
        """
        # LIKE would give % and _ a meaning.
        sql = (
            f"SELECT * FROM jobs WHERE {_OWN} AND seq < ? AND (? IS NULL OR state = ?) AND (? IS NULL OR "
            "instr(lower(json_extract(options, '$.name')), lower(?)) > 0) ORDER BY seq DESC LIMIT ?"
        )
        newest = 2**62 if before is None else before
        return self._all(Job, sql, owner, newest, state, state, name, name, limit)

    def claim_job(self) -> Job | None:
        """Mark the oldest queued job as running and return it, or None; one that cannot be read fails."""
        sql = (
            "UPDATE jobs SET state = 'running', started_s = ?, attempts = attempts + 1, "
            "revision = revision + 1 WHERE seq = (SELECT seq FROM jobs WHERE state = 'queued' "
            "ORDER BY seq LIMIT 1) RETURNING id"
        )
        while claimed := self._run(sql, (time.time(),)):
            job = self.job(claimed[0]["id"])
            if job is not None:
                return job
            self._run("UPDATE jobs SET state = 'failed' WHERE id = ?", (claimed[0]["id"],))
        return None

    def move_job(self, job_id: str, *, expect: tuple[str, ...], **columns: Any) -> Job | None:
        """Change a job if it is in one of the expected states; return it, or None if it is not."""
        names = ", ".join(f"{name} = ?" for name in columns)
        marks = ", ".join("?" * len(expect))
        change = f"{names}, revision = revision + 1 WHERE id = ? AND state IN ({marks})"
        return self._first(Job, f"UPDATE jobs SET {change} RETURNING *", *columns.values(), job_id, *expect)

    def delete_job(self, job_id: str) -> None:
        """Delete a job, and its webhook."""
        self._run("DELETE FROM jobs WHERE id = ?", (job_id,))
        self.delete_webhook(job_id)

    def expired_jobs(self) -> list[Job]:
        """Return the expired jobs."""
        return self._all(Job, "SELECT * FROM jobs WHERE expires_s < ?", time.time())

    def count_jobs(self, state: str) -> int:
        """Return how many jobs are in a state."""
        return int(self._run("SELECT COUNT(*) AS n FROM jobs WHERE state = ?", (state,))[0]["n"])

    def count_ahead(self, job: Job) -> int:
        """Return how many queued jobs will start before this one."""
        sql = "SELECT COUNT(*) AS n FROM jobs WHERE state = 'queued' AND seq < ?"
        return int(self._run(sql, (job.seq,))[0]["n"])

    def add_webhook(self, job_id: str, url: str) -> None:
        """Let a URL be told when a job is settled; the job may be added later."""
        self._run("INSERT INTO webhooks (job_id, url) VALUES (?, ?)", (job_id, url))

    def due_webhooks(self) -> list[Webhook]:
        """Return the webhooks of settled jobs whose next attempt is due, the longest due first."""
        return self._all(
            Webhook,
            "SELECT webhooks.* FROM webhooks JOIN jobs ON id = job_id WHERE next_s <= ? AND NOT measuring "
            "AND state NOT IN ('queued', 'running') ORDER BY next_s",
            time.time(),
        )

    def postpone_webhook(self, job_id: str, delay_s: float) -> None:
        """Count a failed attempt, and set the time of the next one."""
        sql = "UPDATE webhooks SET attempts = attempts + 1, next_s = ? WHERE job_id = ?"
        self._run(sql, (time.time() + delay_s, job_id))

    def delete_webhook(self, job_id: str) -> None:
        """Forget who is told of a job."""
        self._run("DELETE FROM webhooks WHERE job_id = ?", (job_id,))

    def add_portrait(self, record: PortraitRecord) -> None:
        """Add a portrait."""
        columns = record.model_dump()
        sql = f"INSERT INTO portraits ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        self._run(sql, tuple(columns.values()))

    def portrait(self, portrait_id: str) -> PortraitRecord | None:
        """Return a portrait, or None."""
        return self._first(PortraitRecord, "SELECT * FROM portraits WHERE id = ?", portrait_id)

    def portraits(self, owner: str = NOBODY) -> list[PortraitRecord]:
        """Return the shared portraits of an owner, the most recently used first."""
        sql = f"SELECT * FROM portraits WHERE shared AND {_OWN} ORDER BY used_s DESC, rowid DESC"
        return self._all(PortraitRecord, sql, owner)

    def touch_portrait(self, portrait_id: str) -> None:
        """Record that a portrait is used now."""
        self._run("UPDATE portraits SET used_s = ? WHERE id = ?", (time.time(), portrait_id))

    def portrait_in_use(self, portrait_id: str) -> bool:
        """Return whether a queued or running job needs the portrait."""
        sql = "SELECT 1 FROM jobs WHERE portrait_id = ? AND state IN ('queued', 'running') LIMIT 1"
        return bool(self._run(sql, (portrait_id,)))

    def idle_portraits(self, before_s: float, owner: str | None = None) -> list[PortraitRecord]:
        """Return shared portraits last used before a time, oldest first, without those of unfinished jobs.

        Those of one owner, or of all.
        """
        return self._all(
            PortraitRecord,
            "SELECT * FROM portraits WHERE shared AND (? IS NULL OR owner = ?) AND used_s < ? "
            "AND id NOT IN "
            "(SELECT portrait_id FROM jobs WHERE state IN ('queued', 'running')) ORDER BY used_s",
            owner,
            owner,
            before_s,
        )

    def delete_portrait(self, portrait_id: str) -> None:
        """Delete a portrait."""
        self._run("DELETE FROM portraits WHERE id = ?", (portrait_id,))
