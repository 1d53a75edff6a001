"""The door of the server: who may call it, from where, how much they may send, and how slowly."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from vortex.web.metrics import Metrics
from vortex.web.settings import LOOPBACK, ServerSettings

OPEN_PATHS = ("/", "/healthz", "/openapi.json")
OPEN_FOLDER = "/page/"
KEY_PROTOCOL = "key."
"""A websocket may give its key as a protocol of this prefix, beside that of :mod:`vortex.web.live_routes`."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; worker-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an error in the form of RFC 9457."""
    title = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Error"
    return JSONResponse(
        {"type": "about:blank", "title": title, "status": status, "detail": detail},
        status,
        headers,
        "application/problem+json",
    )


def key_is_known(given: str, keys: Iterable[str]) -> bool:
    """Compare with every key, each in constant time."""
    known = [hmac.compare_digest(given.encode(), key.encode()) for key in keys]
    return any(known)


def _host_of(value: str) -> str:
    """Return the name in a Host header or origin, without port; brackets of IPv6 stay off."""
    return (urlsplit(value if "//" in value else f"//{value}").hostname or "").lower()


class Guard:
    """ASGI middleware round the whole server.

    - A page of another site can make a browser call this server: requests under a foreign host name (DNS
      rebinding) and those that change something from a foreign origin are refused with 403.
    - With API keys, everything but the description, the page and ``/healthz`` needs one.
    - Bodies end at ``max_body_bytes`` (413), must not pause (408) and must be whole in time (408).
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._hosts = {*LOOPBACK, settings.host.lower(), *(name.lower() for name in settings.allowed_hosts)}
        self._any_host = settings.host not in LOOPBACK and not settings.allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] == "websocket":
            if self._refusal(scope):
                # before it is accepted, a websocket is closed with status 403
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        send = self._sealed(scope, send)
        if refusal:
            status, detail = refusal
            headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
            await problem(status, detail, headers)(scope, receive, send)
        else:
            await self._app(scope, _Body(receive, self._settings).receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = _host_of(headers.get("host", ""))
        if not self._any_host and host not in self._hosts:
            return 403, "This server does not answer to that host name. Allow it with --allow-host."
        origin = headers.get("origin")
        # a page may open websockets to any site: only those of its own are let through
        unsafe = scope.get("method") not in SAFE_METHODS
        if origin is not None and unsafe and _host_of(origin) != host:
            return 403, "Pages of other sites may not use this server."
        return self._http_refusal(scope, headers)

    def _http_refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        settings, path = self._settings, scope["path"]
        is_open = path in OPEN_PATHS or path.startswith(OPEN_FOLDER)
        if settings.api_keys and not is_open and not key_is_known(_key_in(headers), settings.api_keys):
            return 401, "An API key is needed. Send it as: Authorization: Bearer KEY"
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > settings.max_body_bytes:
            return 413, (
                f"The request has {length} bytes; at most {settings.max_upload_bytes} bytes for each file "
                "are taken."
            )
        return None

    def _sealed(self, scope: Scope, send: Send) -> Send:
        """Return ``send`` that counts answers and adds the headers that keep browsers safe."""

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
                if scope["path"] != "/docs":
                    headers["Content-Security-Policy"] = CSP
                if scope["path"].startswith("/v1/"):
                    headers.setdefault("Cache-Control", "no-store")
                self._metrics.requests.labels(scope["method"], str(message["status"])).inc()
            await send(message)

        return sealed


def _key_in(headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    # pages can set no header of a websocket but its protocols
    for protocol in headers.get("sec-websocket-protocol", "").split(","):
        if protocol.strip().startswith(KEY_PROTOCOL):
            return protocol.strip()[len(KEY_PROTOCOL) :]
    return headers.get("x-api-key", "")


class _Body:
    """The incoming body of one request, held to its limits."""

    def __init__(self, receive: Receive, settings: ServerSettings) -> None:
        self._receive, self._settings = receive, settings
        self._bytes_left = settings.max_body_bytes
        self._end_s = time.monotonic() + settings.upload_timeout_s
        self._whole = False

    async def receive(self) -> Message:
        """Return the next part of the body.

        Raises:
            HTTPException: 408 or 413.
        """
        if self._whole:
            return await self._receive()
        wait_s = min(self._settings.idle_timeout_s, self._end_s - time.monotonic())
        try:
            message = await asyncio.wait_for(self._receive(), max(wait_s, 0))
        except asyncio.TimeoutError:
            raise HTTPException(408, "The upload is too slow.", {"Connection": "close"}) from None
        self._bytes_left -= len(message.get("body", b""))
        if self._bytes_left < 0:
            most = self._settings.max_upload_bytes
            raise HTTPException(
                413, f"At most {most} bytes for each file are taken.", {"Connection": "close"}
            )
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message


class PunctualProtocol(H11Protocol):
    """Uvicorn's HTTP, closing connections that do not send a whole header in time."""

    header_timeout_s = 15.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
        self._header_timer = self.loop.call_later(self.header_timeout_s, self._late)

    def _late(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Stop the clock: the connection is another protocol's from now on."""
        self._header_timer.cancel()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._header_timer.cancel()
        super().connection_lost(exc)
