"""Errors as clients see them: problem details of RFC 9457, for our own errors and for those of HTTP."""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException, WebSocketException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match
from websockets.frames import CloseCode

from vortex.errors import (
    InputError,
    MissingExtraError,
    OutOfMemoryError,
    VortexError,
    WeightsError,
    in_one_line,
)
from vortex.server.processes import BusyError, TooLargeError
from vortex.server.store import DataFolder

log = logging.getLogger("vortex.server")

_STATUS_OF: Mapping[type[VortexError], int] = {
    TooLargeError: 413,
    BusyError: 503,
    InputError: 422,
    MissingExtraError: 501,
    WeightsError: 501,
    OutOfMemoryError: 503,
}
"""Status of our errors, the first class that matches; others are 500."""


class Problem(BaseModel):
    """What went wrong, in the form of RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an answer in the form of RFC 9457."""
    content = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail).model_dump()
    return JSONResponse(content, status, headers, "application/problem+json")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of errors with these statuses; 401 and 403 can always happen."""
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    return {status: {"description": "Problem", "content": content} for status in (401, 403, *statuses)}


def links(kind: str, *names: str) -> dict[str, Any]:
    """Return OpenAPI links: the operations on the "video" or "portrait" whose id is in an answer."""
    parameters = {f"{kind}_id": "$response.body#/id"}
    return {name: {"operationId": f"{name}_{kind}", "parameters": parameters} for name in names}


def summary(error: ValidationError | RequestValidationError) -> str:
    """Return the first complaints about a request in one line."""
    found = []
    for item in error.errors()[:3]:
        where = ".".join(str(part) for part in item["loc"] if part not in ("body", "query"))
        # The message of an option names it already.
        found.append(f"{where}: {item['msg']}" if where and item["type"] != "option" else str(item["msg"]))
    return "; ".join(found)


def add_error_handlers(app: FastAPI, folder: DataFolder, routes: Sequence[BaseRoute]) -> None:
    """Let the application answer with problem details, in which no path of the server is shown.

    ``routes`` are all routes: which methods a path allows is told where a request has another one.
    """

    async def answer(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, HTTPException):
            headers = dict(error.headers or {})
            if error.status_code == 405:
                headers["Allow"] = ", ".join(sorted(_allowed_methods(request, routes)))
            return problem(error.status_code, str(error.detail), headers)
        if isinstance(error, RequestValidationError):
            return problem(422, summary(error))
        if isinstance(error, ClientDisconnect):
            # Nobody reads this answer; without it, the log would report an error of the server.
            return problem(400, "The upload was cut off.")
        if isinstance(error, WebSocketException):
            if error.code == CloseCode.POLICY_VIOLATION:
                return problem(422, error.reason)
            return problem(503, error.reason, {"Retry-After": "10"})
        if not isinstance(error, VortexError):
            return _unexpected(error)
        status = next((status for kind, status in _STATUS_OF.items() if isinstance(error, kind)), 500)
        later = {"Retry-After": "10"} if isinstance(error, BusyError) else None
        return problem(status, folder.without_paths(str(error)), later)

    kinds = (VortexError, HTTPException, RequestValidationError, WebSocketException, ClientDisconnect)
    for kind in (*kinds, sqlite3.Error, OSError, Exception):
        app.add_exception_handler(kind, answer)


def _unexpected(error: Exception) -> JSONResponse:
    """Return the answer to a fault of the server: one that may pass, as of a full disk, or another."""
    log.error("a request failed: %s", in_one_line(error), exc_info=error)
    if not isinstance(error, sqlite3.Error | OSError):
        return problem(500, "The server failed on this request; its log has the reason.")
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    what = "The disk of the server is full." if full else "The server cannot store anything now."
    return problem(503, f"{what} Try again later.", {"Retry-After": "30"})


def _allowed_methods(request: Request, routes: Sequence[BaseRoute]) -> set[str]:
    """Return all methods of a path; the router itself names those of one of its routes."""
    matching = (route for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    return {method for route in matching for method in getattr(route, "methods", None) or ()}
