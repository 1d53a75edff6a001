"""The server's memory: jobs and portraits in an SQLite file that survives restarts and kills."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

STATES: tuple[str, ...] = ("queued", "running", "done", "failed", "cancelled")
ACTIVE = ("queued", "running")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, state TEXT NOT NULL,
    options TEXT NOT NULL, portrait_id TEXT NOT NULL, owns_portrait INTEGER NOT NULL,
    created_s REAL NOT NULL, started_s REAL, finished_s REAL, expires_s REAL,
    stage TEXT, completed INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0, eta_s REAL,
    attempts INTEGER NOT NULL DEFAULT 0, revision INTEGER NOT NULL DEFAULT 1,
    report TEXT, sync TEXT, measuring INTEGER NOT NULL DEFAULT 0, error TEXT
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, seq);
CREATE TABLE IF NOT EXISTS portraits (
    id TEXT PRIMARY KEY, created_s REAL NOT NULL, used_s REAL NOT NULL,
    width_px INTEGER NOT NULL, height_px INTEGER NOT NULL, face_box_px TEXT NOT NULL, notes TEXT NOT NULL,
    shared INTEGER NOT NULL
);
"""
_JSON = frozenset({"options", "report", "sync", "error", "face_box_px", "notes"})
_BOOLEANS = frozenset({"owns_portrait", "measuring", "shared"})


@dataclass(frozen=True, slots=True)
class Job:
    """One video that was asked for. ``revision`` grows with every change; times are seconds since 1970.

    ``measuring``: the video is done, its sync is still being measured.
    """

    seq: int
    id: str
    state: str
    options: Mapping[str, Any]
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
    report: Mapping[str, Any] | None
    sync: Mapping[str, Any] | None
    measuring: bool
    error: Mapping[str, Any] | None

    @property
    def settled(self) -> bool:
        """Whether nothing about it will change any more."""
        return self.state not in ACTIVE and not self.measuring


@dataclass(frozen=True, slots=True)
class PortraitRecord:
    """One picture with its face: ``face_box_px`` is (x0, y0, x1, y1); ``shared`` if others may use its id."""

    id: str
    created_s: float
    used_s: float
    width_px: int
    height_px: int
    face_box_px: tuple[float, ...]
    notes: tuple[str, ...]
    shared: bool


class Store:
    """All access to the database. Safe to call from any thread."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.row_factory = sqlite3.Row
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def _run(self, sql: str, values: Iterable[Any] = ()) -> list[sqlite3.Row]:
        with self._lock:
            return self._database.execute(sql, tuple(values)).fetchall()

    # ---------------------------------------------------------------------------------------------- jobs

    def add_job(
        self, job_id: str, options: Mapping[str, Any], portrait_id: str, *, owns_portrait: bool
    ) -> Job:
        """Queue a job."""
        self._run(
            "INSERT INTO jobs (id, state, options, portrait_id, owns_portrait, created_s) "
            "VALUES (?, 'queued', ?, ?, ?, ?)",
            (job_id, json.dumps(options), portrait_id, owns_portrait, time.time()),
        )
        job = self.job(job_id)
        assert job is not None
        return job

    def job(self, job_id: str) -> Job | None:
        """Return a job, or None."""
        rows = self._run("SELECT * FROM jobs WHERE id = ?", (job_id,))
        return _job(rows[0]) if rows else None

    def jobs(self, *, limit: int, before: int | None = None, state: str | None = None) -> list[Job]:
        """Return the newest jobs, those with ``seq`` below ``before``, in one state or all."""
        rows = self._run(
            "SELECT * FROM jobs WHERE seq < ? AND (? IS NULL OR state = ?) ORDER BY seq DESC LIMIT ?",
            (2**62 if before is None else before, state, state, limit),
        )
        return [_job(row) for row in rows]

    def claim_job(self) -> Job | None:
        """Take the oldest queued job and mark it as running."""
        rows = self._run(
            "UPDATE jobs SET state = 'running', started_s = ?, attempts = attempts + 1, "
            "revision = revision + 1 WHERE seq = (SELECT seq FROM jobs WHERE state = 'queued' "
            "ORDER BY seq LIMIT 1) RETURNING *",
            (time.time(),),
        )
        return _job(rows[0]) if rows else None

    def move_job(self, job_id: str, *, expect: tuple[str, ...], **columns: Any) -> Job | None:
        """Change a job if it is in one of the expected states; return it, or None if it is not."""
        names = ", ".join(f"{name} = ?" for name in columns)
        marks = ", ".join("?" * len(expect))
        values = [_stored(name, value) for name, value in columns.items()]
        rows = self._run(
            f"UPDATE jobs SET {names}, revision = revision + 1 WHERE id = ? AND state IN ({marks}) "
            "RETURNING *",
            (*values, job_id, *expect),
        )
        return _job(rows[0]) if rows else None

    def delete_job(self, job_id: str) -> None:
        """Forget a job."""
        self._run("DELETE FROM jobs WHERE id = ?", (job_id,))

    def recover_jobs(self) -> None:
        """After a restart: queue again what was running; forget measurements that were under way."""
        self._run("UPDATE jobs SET state = 'queued', revision = revision + 1 WHERE state = 'running'")
        self._run("UPDATE jobs SET measuring = 0, revision = revision + 1 WHERE measuring")

    def expired_jobs(self) -> list[Job]:
        """Return the jobs whose time is over."""
        return [_job(row) for row in self._run("SELECT * FROM jobs WHERE expires_s < ?", (time.time(),))]

    def count_jobs(self) -> dict[str, int]:
        """Return how many jobs are in each state."""
        counts = dict.fromkeys(STATES, 0)
        for row in self._run("SELECT state, COUNT(*) AS n FROM jobs GROUP BY state"):
            counts[row["state"]] = row["n"]
        return counts

    def count_ahead(self, job: Job) -> int:
        """Return how many queued jobs will start before this one."""
        sql = "SELECT COUNT(*) AS n FROM jobs WHERE state = 'queued' AND seq < ?"
        return int(self._run(sql, (job.seq,))[0]["n"])

    def job_ids(self) -> set[str]:
        """Return the ids of all jobs."""
        return {row["id"] for row in self._run("SELECT id FROM jobs")}

    # ----------------------------------------------------------------------------------------- portraits

    def add_portrait(self, record: PortraitRecord) -> None:
        """Keep a portrait."""
        values = [_stored(field.name, getattr(record, field.name)) for field in fields(record)]
        self._run(f"INSERT INTO portraits VALUES ({', '.join('?' * len(values))})", values)

    def portrait(self, portrait_id: str) -> PortraitRecord | None:
        """Return a portrait, or None."""
        rows = self._run("SELECT * FROM portraits WHERE id = ?", (portrait_id,))
        return _portrait(rows[0]) if rows else None

    def portraits(self) -> list[PortraitRecord]:
        """Return all shared portraits, the one used last first."""
        sql = "SELECT * FROM portraits WHERE shared ORDER BY used_s DESC, rowid DESC"
        return [_portrait(row) for row in self._run(sql)]

    def touch_portrait(self, portrait_id: str) -> None:
        """Note that a portrait is used now."""
        self._run("UPDATE portraits SET used_s = ? WHERE id = ?", (time.time(), portrait_id))

    def portrait_in_use(self, portrait_id: str) -> bool:
        """Return whether a queued or running job needs the portrait."""
        sql = "SELECT 1 FROM jobs WHERE portrait_id = ? AND state IN ('queued', 'running') LIMIT 1"
        return bool(self._run(sql, (portrait_id,)))

    def idle_portraits(self, before_s: float) -> list[PortraitRecord]:
        """Return shared portraits last used before a time, that no waiting job needs, oldest first."""
        rows = self._run(
            "SELECT * FROM portraits WHERE shared AND used_s < ? AND id NOT IN (SELECT portrait_id FROM jobs "
            "WHERE state IN ('queued', 'running')) ORDER BY used_s",
            (before_s,),
        )
        return [_portrait(row) for row in rows]

    def delete_portrait(self, portrait_id: str) -> None:
        """Forget a portrait."""
        self._run("DELETE FROM portraits WHERE id = ?", (portrait_id,))

    def portrait_ids(self) -> set[str]:
        """Return the ids of all portraits."""
        return {row["id"] for row in self._run("SELECT id FROM portraits")}


def _stored(name: str, value: Any) -> Any:
    return json.dumps(value) if name in _JSON and value is not None else value


def _values(row: sqlite3.Row) -> dict[str, Any]:
    values = dict(row)
    for name in _JSON & values.keys():
        values[name] = json.loads(values[name]) if values[name] is not None else None
    for name in _BOOLEANS & values.keys():
        values[name] = bool(values[name])
    return values


def _job(row: sqlite3.Row) -> Job:
    return Job(**_values(row))


def _portrait(row: sqlite3.Row) -> PortraitRecord:
    values = _values(row)
    return PortraitRecord(
        **{**values, "face_box_px": tuple(values["face_box_px"]), "notes": tuple(values["notes"])}
    )
