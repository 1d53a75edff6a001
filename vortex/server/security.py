"""The checks that every request passes before a route sees it.

Starlette's ``TrustedHostMiddleware`` decides which host names are accepted. Neither it nor uvicorn has the
other checks: the origin of requests, API keys, the size and time of bodies, and the time-out of headers.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from vortex.server.errors import problem
from vortex.server.metrics import Metrics
from vortex.server.settings import LOOPBACK, ServerSettings

OPEN_PATHS = ("/", "/docs", "/healthz", "/readyz", "/openapi.json")
KEY_PROTOCOL = "key."
"""A websocket may send its key as a protocol with this prefix, beside that of the live route."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; worker-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
}


METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
"""Methods that the figures tell apart: clients may invent others."""
READ_PATIENCE = 4
"""How many idle time-outs a client may read nothing of an answer."""
PORTS = {"http": 80, "https": 443}


def _place_of(url: str, scheme: str) -> tuple[str, int] | None:
    """Return host name and port of an origin or a Host header; None for none, or of another scheme."""
    try:
        parts = urlsplit(url if "//" in url else f"{scheme}://{url}")
        if parts.scheme != scheme or not parts.hostname:
            return None
        return parts.hostname.lower(), parts.port or PORTS[scheme]
    except ValueError:
        return None


class Guard:
    """ASGI middleware around the whole server.

    - A page of another site can make a browser call this server: requests under an unknown host name (DNS
      rebinding), and requests from another origin that change something, are refused with 403.
    - With API keys, everything but the description, the page, ``/healthz`` and ``/readyz`` needs one (401).
    - Bodies end at ``max_body_bytes`` (413), must not pause (408) and must be complete in time (408).
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        names = (*LOOPBACK, settings.host, *settings.allow_host)
        # A public address without allow_host may have any name.
        known = settings.host in LOOPBACK or settings.allow_host
        # A proxy may speak TLS to the browser; to this machine alone, nobody does.
        self._schemes = (
            ("http", "https") if settings.host not in LOOPBACK or settings.allow_host else ("http",)
        )
        self._hosts = [f"[{name}]" if ":" in name else name for name in names] if known else ["*"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
        refusal = await self._refusal(scope, receive) if scope["type"] in ("http", "websocket") else None
        if scope["type"] == "http":
            send = self._with_headers(scope, send)
            receive = receive if refusal else _limited(receive, self._settings)
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            # A websocket that is closed before it is accepted gets status 403.
            await send({"type": "websocket.close", "code": 1008})
        else:
            status, detail = refusal
            headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
            await problem(status, detail, headers)(scope, receive, send)

    async def _refusal(self, scope: Scope, receive: Receive) -> tuple[int, str] | None:
        """Return status and reason if a request must be refused."""
        headers, settings, path = Headers(scope=scope), self._settings, scope["path"]
        if not await self._host_is_known(scope, receive):
            return 403, "This server does not answer to that host name. Add it to the setting allow_host."
        if scope.get("method") not in SAFE_METHODS and "origin" in headers:
            # A page may open websockets to any site, too: only those of the own origin are accepted.
            allowed = headers["origin"] in self._settings.allow_origin
            if not allowed and not self._is_own(headers["origin"], headers.get("host", "")):
                return (
                    403,
                    "Pages of other sites may not use this server. Add them to the setting allow_origin.",
                )
        if settings.api_keys and path not in OPEN_PATHS and not path.startswith("/page/"):
            given = key_in(headers).encode()
            scope["vortex.owner"] = owner_of(given)
            # All are compared, each in constant time.
            if not any([hmac.compare_digest(given, key.encode()) for key in settings.api_keys]):
                return 401, "An API key is needed. Send it as: Authorization: Bearer KEY"
        length, most = headers.get("content-length", ""), settings.max_upload_bytes
        if length.isdigit() and int(length) > settings.max_body_bytes:
            return 413, f"The request has {length} bytes; at most {most} bytes are accepted for each file."
        return None

    def _is_own(self, origin: str, host: str) -> bool:
        """Return whether a page's origin is this server: scheme, name and port."""
        places = ((_place_of(origin, scheme), _place_of(host, scheme)) for scheme in self._schemes)
        return any(page is not None and page == server for page, server in places)

    async def _host_is_known(self, scope: Scope, receive: Receive) -> bool:
        """Return what Starlette's middleware decides; its own answer is a text without a next step."""
        known = False

        async def accept(*_: object) -> None:
            nonlocal known
            known = True

        async def discard(_: Message) -> None:
            pass

        check = TrustedHostMiddleware(accept, self._hosts, www_redirect=False)
        await check({**scope, "type": "http"}, receive, discard)
        return known

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        """Return ``send`` that counts answers and adds the headers that keep browsers safe."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SAFE_HEADERS)
                if scope["path"].startswith("/v1/"):
                    headers.setdefault("Cache-Control", "no-store")
                method = scope["method"] if scope["method"] in METHODS else "other"
                self._metrics.requests.labels(method, str(message["status"])).inc()
            await send(message)

        return send_with_headers


def owner_of(key: bytes) -> str:
    """Return the name under which the server keeps what a key makes; nobody can tell the key from it."""
    return hashlib.sha256(b"vortex owner " + key).hexdigest()[:24]


def key_in(headers: Headers) -> str:
    """Return the key that a request sends, or an empty text."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    # The only header of a websocket that a page can set is its protocols.
    for protocol in headers.get("sec-websocket-protocol", "").split(","):
        if protocol.strip().startswith(KEY_PROTOCOL):
            return protocol.strip()[len(KEY_PROTOCOL) :]
    return headers.get("x-api-key", "")


def _limited(receive: Receive, settings: ServerSettings) -> Receive:
    """Return ``receive`` that raises HTTPException, 408 or 413, for a body that is too slow or too large."""
    bytes_left = settings.max_body_bytes
    end_s = time.monotonic() + settings.upload_timeout_s
    complete = False

    async def receive_part() -> Message:
        nonlocal bytes_left, complete
        if complete:
            return await receive()
        wait_s = min(settings.idle_timeout_s, end_s - time.monotonic())
        try:
            message = await asyncio.wait_for(receive(), max(wait_s, 0))
        except TimeoutError:
            raise HTTPException(408, "The upload is too slow.", {"Connection": "close"}) from None
        bytes_left -= len(message.get("body", b""))
        if bytes_left < 0:
            detail = f"At most {settings.max_upload_bytes} bytes are accepted for each file."
            raise HTTPException(413, detail, {"Connection": "close"})
        complete = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    return receive_part


class _TimedProtocol(H11Protocol):
    """uvicorn's HTTP protocol with time-outs for every header, and for a client that reads nothing.

    uvicorn has one for connections on which nothing at all arrives between requests.
    """

    timeout_s: float
    _header_timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None
    _is_websocket = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_header()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_header()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_header()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reader_timer = self.loop.call_later(self.timeout_s * READ_PATIENCE, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_reader_timer()

    def handle_websocket_upgrade(self, event: Any) -> None:
        # From here on, the connection belongs to the websocket protocol.
        self._is_websocket = True
        self._stop_header_timer()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_header_timer()
        self._stop_reader_timer()
        super().connection_lost(exc)

    def _waits_for_header(self) -> bool:
        idle = self.cycle is None or self.cycle.response_complete
        return idle and not self._is_websocket and not self.transport.is_closing()

    def _watch_header(self) -> None:
        if not self._waits_for_header():
            self._stop_header_timer()
        elif self._header_timer is None:
            self._header_timer = self.loop.call_later(self.timeout_s, self._close_if_no_request)

    def _close_if_no_request(self) -> None:
        self._header_timer = None
        if self._waits_for_header():
            self.transport.close()

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _stop_reader_timer(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None


def timed_protocol(timeout_s: float) -> type[H11Protocol]:
    """Return the HTTP protocol of the server, which closes connections that are idle for ``timeout_s``."""
    return type("TimedProtocol", (_TimedProtocol,), {"timeout_s": timeout_s})
