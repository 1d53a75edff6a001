"""The server, put together: what it holds while it runs, and what it answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from vortex.engines.base import Engine, load_engine
from vortex.version import __version__
from vortex.web import live_routes, page_routes, portrait_routes, video_routes
from vortex.web.folders import DataFolder
from vortex.web.guard import Guard, problem
from vortex.web.metrics import CONTENT_TYPE, Metrics
from vortex.web.portraits import PortraitShelf
from vortex.web.schema import MAX_TEXT_LENGTH, Health, Limits, VoiceList, VoiceView
from vortex.web.settings import ServerSettings
from vortex.web.store import Store
from vortex.web.voices import VoiceBox
from vortex.web.workers import Workers

DESCRIPTION = """A portrait and a voice go in, a lip-synced talking video comes out.

Send `POST /v1/videos`, follow `/v1/videos/{id}/events`, fetch `/v1/videos/{id}/video.mp4`.
Errors are `application/problem+json` (RFC 9457)."""


@dataclass(frozen=True, slots=True)
class Server:
    """Everything a running server holds; routes find it as ``request.app.state.server``."""

    settings: ServerSettings
    folder: DataFolder
    store: Store
    engine: Engine
    shelf: PortraitShelf
    metrics: Metrics
    workers: Workers
    voices: VoiceBox
    live_seats: threading.BoundedSemaphore
    live_tasks: set[asyncio.Task[None]] = field(default_factory=set)
    stopping: threading.Event = field(default_factory=threading.Event)


def open_server(settings: ServerSettings) -> Server:
    """Load the engine and take up the work that an earlier server left.

    Raises:
        InputError: the data folder cannot be used.
        EngineError, WeightsError, MissingExtraError: the engine cannot run here.
    """
    engine = load_engine(settings.engine, device=settings.device)
    folder = DataFolder(settings.data_dir)
    store = Store(folder.database)
    store.recover_jobs()
    folder.sweep(store.job_ids(), store.portrait_ids())
    shelf = PortraitShelf(
        store,
        folder,
        engine,
        max_pixels=settings.max_pixels,
        max_portraits=settings.max_portraits,
        max_prepared=settings.max_prepared,
    )
    metrics = Metrics(store.count_jobs, lambda: shelf.ready_count)
    voices = VoiceBox(settings.max_duration_s)
    workers = Workers(
        store, folder, shelf, engine, voices, metrics, count=settings.max_running, keep_s=settings.keep_s
    )
    return Server(
        settings,
        folder,
        store,
        engine,
        shelf,
        metrics,
        workers,
        voices,
        threading.BoundedSemaphore(settings.max_live),
    )


def close_server(server: Server) -> None:
    """End the work, within ``grace_s``, and let go of everything."""
    server.stopping.set()
    server.workers.stop(server.settings.grace_s)
    server.engine.close()
    server.store.close()
    server.folder.close()


def create_app(server: Server) -> FastAPI:
    """Return the ASGI application; it starts the workers, and closes the server at its end."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        server.workers.start()
        try:
            yield
        finally:
            server.stopping.set()
            await asyncio.gather(*server.live_tasks, return_exceptions=True)
            close_server(server)

    app = FastAPI(
        title="vortex", version=__version__, description=DESCRIPTION, lifespan=lifespan,
        docs_url=None, redoc_url=None, generate_unique_id_function=lambda route: route.name,
    )  # fmt: skip
    app.state.server = server
    app.include_router(video_routes.router)
    app.include_router(portrait_routes.router)
    app.include_router(live_routes.router)
    app.include_router(page_routes.router)
    app.mount("/page", page_routes.page_files)
    app.add_exception_handler(StarletteHTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(ClientDisconnect, _cut_off)
    _add_service_routes(app, server)
    app.add_middleware(Guard, settings=server.settings, metrics=server.metrics)
    return app


def _add_service_routes(app: FastAPI, server: Server) -> None:
    @app.get("/healthz", tags=["service"], responses={503: {"model": Health}})
    def health(response: Response) -> Health:
        """Tell whether the server takes jobs; needs no key."""
        stopping = server.stopping.is_set()
        response.status_code = 503 if stopping else 200
        return Health(status="stopping" if stopping else "ok", version=__version__, engine=server.engine.name)

    @app.get("/v1/limits", tags=["service"])
    def limits() -> Limits:
        """Tell what is allowed."""
        settings = server.settings
        return Limits(
            max_upload_bytes=settings.max_upload_bytes,
            max_pixels=settings.max_pixels,
            max_duration_s=settings.max_duration_s,
            max_text_length=MAX_TEXT_LENGTH,
        )

    @app.get("/v1/voices", tags=["service"])
    def voices() -> VoiceList:
        """Tell which voices can speak a text."""
        known = [VoiceView(name=v.name, language=v.language, gender=v.gender) for v in server.voices.voices]
        return VoiceList(voices=known, why_not=server.voices.why_not)

    @app.get("/metrics", tags=["service"], response_class=Response)
    def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(server.metrics.text(), media_type=CONTENT_TYPE)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(sorted(_allowed_methods(request)))
    return problem(error.status_code, str(error.detail), headers)


def _allowed_methods(request: Request) -> set[str]:
    """Return all methods of an address; the router itself names those of one of its routes."""
    matching = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return {method for route in matching for method in getattr(route, "methods", None) or ()}


async def _cut_off(_: Request, error: Exception) -> JSONResponse:
    # nobody reads this; without it, the log would tell of an error in the server
    return problem(400, "The upload was cut off.")


async def _validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return problem(422, f"{where}: {first['msg']}")
