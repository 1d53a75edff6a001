"""Everything a running server holds, opened and closed in order, and how routes get it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from collections import deque
from collections.abc import Set
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import replace
from typing import Annotated, TypeVar

from fastapi import Depends, HTTPException
from starlette.requests import HTTPConnection

from vortex.engines.registry import AUTO, check_engine_options, find_engine
from vortex.errors import InputError
from vortex.extras import why_not_installed
from vortex.options import EngineOptions
from vortex.server.inputs import Intake, PortraitCache
from vortex.server.metrics import Metrics
from vortex.server.processes import MemoryBudget, Readers
from vortex.server.settings import ServerSettings
from vortex.server.store import NOBODY, DataFolder, Store
from vortex.server.webhooks import Webhooks
from vortex.server.workers import Workers
from vortex.session import Session

MODULES_OF_PROCESSES = ("vortex.server.decoding",)
"""What processes import before they are ready."""
MIN_FREE_BYTES = 100_000_000
"""Space on the disk below which the server says that it is not ready: a few uploads and videos."""

Engines = TypeVar("Engines", bound=EngineOptions)


class ServerContext(AbstractContextManager["ServerContext"]):
    """The parts of one server, with the jobs that an earlier one left; as a context manager, it closes them.

    Raises InputError if the data folder or the engine's name cannot be used; EngineError, WeightsError or
    MissingExtraError if the engine cannot run here.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.stopping = threading.Event()
        self.why_no_speech = why_not_installed("speech")
        self.live_places = threading.BoundedSemaphore(settings.max_live)
        self.live_offers: deque[asyncio.Task[None]] = deque()
        """Answered offers of WebRTC whose clients have not connected yet, the oldest first."""
        self.live_tasks: set[asyncio.Task[None]] = set()
        with ExitStack() as stack:
            self.session = session = stack.enter_context(Session(max_prepared=settings.max_prepared))
            # The folder first: a second server is refused before it loads the engine.
            self.folder = folder = stack.enter_context(closing(DataFolder(settings.data)))
            self.store = store = stack.enter_context(closing(Store(folder)))
            options = EngineOptions.parse(engine=settings.engine, device=settings.device)
            self.engine, _ = session.engine(options)
            self.engine_spec = find_engine(self.engine.name)
            folder.sweep(store)
            budget = MemoryBudget(round(settings.max_memory_mb * 1e6))
            # Two sets of processes, so that long jobs do not keep requests from being answered.
            uploads, jobs = (Readers(settings.max_running, budget, MODULES_OF_PROCESSES) for _ in range(2))
            for readers in (uploads, jobs):
                stack.callback(readers.pool.close)
            self.metrics = Metrics(store, session, budget, (uploads.pool, jobs.pool))
            places = asyncio.Semaphore(settings.max_running)
            self.intake = Intake(uploads, places, self.stopping, settings.max_upload_bytes)
            self.portraits = PortraitCache(store, folder, session, settings, self.intake)
            self.workers = Workers(store, folder, self.portraits, session, self.metrics, settings, jobs)
            self.webhooks = Webhooks(store, settings)
            self._resources = stack.pop_all()

    def __exit__(self, *_: object) -> None:
        """End the jobs within ``grace_s``, and close the database, the folder and the session."""
        self.stopping.set()
        self.workers.stop(self.settings.grace_s)
        self.webhooks.stop()
        self._resources.close()

    def with_engine(self, options: Engines, given: Set[str]) -> Engines:
        """Return the options with the engine and device of the server, which its operator chose.

        ``given`` names the fields that the request has: only an engine among them was chosen by the client.
        Raises InputError for another engine or device, or a quality that the engine lacks.
        """
        name, device = self.engine_spec.name, self.engine.device
        if "engine" in given and options.engine not in (name, AUTO):
            raise InputError(f"This server renders with {name}; engine is {options.engine!r}. Leave it out.")
        if options.device not in (None, self.settings.device, device, device.split(":")[0]):
            raise InputError(f"This server renders on {device}; device is {options.device!r}. Leave it out.")
        check_engine_options(self.engine_spec, None, options.quality)
        return replace(options, engine=name, device=self.settings.device)

    def start_processes(self) -> None:
        """Start the processes for the first upload and the first job before they come."""
        for readers in (self.intake.readers, self.workers.readers):
            readers.pool.start_one()

    def problems(self) -> list[str]:
        """Return what keeps new videos from being made now; none if all is well."""
        found = ["the server is stopping"] if self.stopping.is_set() else []
        if not self.workers.alive():
            found.append("a worker has ended")
        try:
            self.store.check_writable()
        except sqlite3.Error as exc:
            found.append(f"the database cannot be written ({exc})")
        try:
            if shutil.disk_usage(self.folder.root).free < MIN_FREE_BYTES:
                found.append(f"the disk has less than {MIN_FREE_BYTES // 10**6} MB left")
        except OSError as exc:
            found.append(f"the data folder cannot be used ({exc.strerror})")
        return found

    def check_running(self) -> None:
        """Refuse new work with status 503 while the server stops."""
        if self.stopping.is_set():
            raise HTTPException(503, "The server is stopping.", {"Retry-After": "10"})


async def _context(connection: HTTPConnection) -> ServerContext:
    # Asynchronous, because FastAPI calls other functions in a thread.
    context: ServerContext = connection.app.state.context
    return context


async def _owner(connection: HTTPConnection) -> str:
    owner: str = connection.scope.get("vortex.owner", NOBODY)
    return owner


Owner = Annotated[str, Depends(_owner)]
"""Type of a route's parameter that is the owner of the request: its key's name, or NOBODY."""
Context = Annotated[ServerContext, Depends(_context)]
"""Type of a route's parameter that is the server's context."""
