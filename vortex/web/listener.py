"""The socket: uvicorn, set up for uploads from strangers, and stopped in order."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from vortex.errors import InputError
from vortex.web.app import Server
from vortex.web.guard import PunctualProtocol


class _Listener(uvicorn.Server):
    """Tells the application at the first signal, so that its event streams end."""

    def __init__(self, config: uvicorn.Config, server: Server) -> None:
        super().__init__(config)
        self._server = server

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._server.stopping.set()
        super().handle_exit(sig, frame)


def run_server(app: FastAPI, server: Server, ready: Callable[[str], None]) -> None:
    """Serve until a signal comes; ``ready`` is called with the address once the port is open.

    Raises:
        InputError: the address cannot be listened on.
    """
    settings = server.settings
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
        # from here on nobody is refused: who comes before all is ready waits
        listening.listen(settings.max_connections)
    except OSError as exc:
        raise InputError(
            f"Cannot listen on {settings.host} port {settings.port} ({exc.strerror}). Give another --port."
        ) from exc
    PunctualProtocol.header_timeout_s = settings.idle_timeout_s
    config = uvicorn.Config(
        app,
        http=PunctualProtocol,
        ws_max_size=1 << 20,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=int(settings.grace_s) + 1,
        proxy_headers=False,
    )
    name = f"[{settings.host}]" if family == socket.AF_INET6 else settings.host
    ready(f"http://{name}:{listening.getsockname()[1]}")
    _Listener(config, server).run(sockets=[listening])
