"""The access log: a line of JSON for each answer, with an id that the client gets, too."""

from __future__ import annotations

import json
import secrets
import time
from datetime import UTC, datetime
from logging import INFO, Formatter, getLogger
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vortex.errors import InputError


class AccessLog:
    """ASGI middleware that gives each answer an ``X-Request-Id`` and, with a ``path``, logs it to that file.

    A line has time, id, method, path, status, bytes and milliseconds, and ``location`` where something was
    made. It has no headers, query or body, in which keys and texts stand. A file that a rotation moved away
    is made again. Raises InputError if the file cannot be opened.
    """

    def __init__(self, app: ASGIApp, path: Path | None) -> None:
        self._app = app
        self._log = getLogger("vortex.server.access") if path else None
        if self._log is None or path is None:
            return
        for earlier in list(self._log.handlers):
            self._log.removeHandler(earlier)
            earlier.close()
        try:
            handler = WatchedFileHandler(path, encoding="utf-8")
        except OSError as exc:
            raise InputError(
                f"The access log '{path}' cannot be written ({exc.strerror}). Set another file as access_log."
            ) from exc
        handler.setFormatter(Formatter("%(message)s"))
        self._log.addHandler(handler)
        self._log.setLevel(INFO)
        self._log.propagate = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; log it when its answer has ended, or was cut off."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.monotonic()
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "id": secrets.token_hex(8),
            "method": scope["method"],
            "path": scope["path"],
            "status": None,
            "bytes": 0,
        }

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                line["status"] = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = line["id"]
                location = Headers(raw=message["headers"]).get("location")
                line.update({"location": location} if location else {})
            line["bytes"] += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            if self._log is not None:
                line["ms"] = round(1000 * (time.monotonic() - started_s), 1)
                self._log.info(json.dumps(line))
