"""The ASGI application with its OpenAPI description, and the socket on which uvicorn serves it."""

from __future__ import annotations

import asyncio
import importlib
import json
import pkgutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from vortex.errors import InputError
from vortex.server import routes
from vortex.server.access_log import AccessLog
from vortex.server.context import ServerContext
from vortex.server.errors import add_error_handlers
from vortex.server.security import Guard, timed_protocol
from vortex.version import __version__

DESCRIPTION = """A portrait and a voice become a lip-synced talking video.

Send `POST /v1/videos`, follow `/v1/videos/{id}/events`, fetch `/v1/videos/{id}/video.mp4`.
Errors are `application/problem+json` (RFC 9457)."""


class _App(FastAPI):
    """FastAPI, whose description shows the engine that the operator chose as the default of requests."""

    def openapi(self) -> dict[str, Any]:
        def with_engine(node: dict[str, Any]) -> dict[str, Any]:
            field = node.get("engine")
            if isinstance(field, dict) and "default" in field:
                field["default"] = self.state.context.engine_spec.name
            return node

        description: dict[str, Any] = json.loads(json.dumps(super().openapi()), object_hook=with_engine)
        return description


def create_app(context: ServerContext) -> FastAPI:
    """Return the ASGI application; it starts the workers, and closes the server at its end."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with context:
            context.workers.start()
            context.webhooks.start()
            try:
                yield
            finally:
                context.stopping.set()
                for offer in list(context.live_offers):
                    offer.cancel()
                await asyncio.gather(*context.live_tasks, return_exceptions=True)

    app = _App(
        title="vortex", version=__version__, description=DESCRIPTION, lifespan=lifespan,
        docs_url=None, redoc_url=None, generate_unique_id_function=lambda route: route.name,
    )  # fmt: skip
    app.state.context = context
    routers = [
        importlib.import_module(f"{routes.__name__}.{module.name}").router
        for module in pkgutil.iter_modules(routes.__path__)
    ]
    for router in routers:
        app.include_router(router)
    add_error_handlers(app, context.folder, [route for router in routers for route in router.routes])
    app.add_middleware(Guard, settings=context.settings, metrics=context.metrics)
    if context.settings.allow_origin:
        # Around the guard: browsers ask without a key whether they may send one.
        app.add_middleware(
            CORSMiddleware, allow_origins=context.settings.allow_origin, allow_methods=["*"],
            allow_headers=["Authorization", "X-API-Key", "Content-Type", "Last-Event-ID", "Range"],
            expose_headers=["Location", "X-Request-Id", "Content-Range"],
        )  # fmt: skip
    app.add_middleware(AccessLog, path=context.settings.access_log)
    return app


def run_server(app: FastAPI, on_ready: Callable[[str], None]) -> None:
    """Serve until a signal comes; ``on_ready`` gets the URL. InputError if it cannot be listened on."""
    context: ServerContext = app.state.context
    settings = context.settings
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
        # From here on, connections are queued until the application is ready.
        listening.listen(settings.max_connections)
    except OSError as exc:
        listening.close()
        raise InputError(
            f"Cannot listen on {settings.host} port {settings.port} ({exc.strerror}). Set another port."
        ) from exc
    context.start_processes()
    config = uvicorn.Config(
        app,
        http=timed_protocol(settings.idle_timeout_s),
        ws_max_size=1 << 20,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=int(settings.grace_s) + 1,
        proxy_headers=False,
    )

    class Listener(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # At the first signal, so that event streams end.
            context.stopping.set()
            super().handle_exit(sig, frame)

    name = f"[{settings.host}]" if family == socket.AF_INET6 else settings.host
    on_ready(f"http://{name}:{listening.getsockname()[1]}")
    Listener(config).run(sockets=[listening])
