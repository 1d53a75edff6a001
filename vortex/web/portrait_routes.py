"""``/v1/portraits``: pictures whose face is found once, and used for any number of videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, HTTPException
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from vortex.web.schema import PortraitList, PortraitRequest, PortraitView, view_portrait
from vortex.web.store import PortraitRecord
from vortex.web.uploads import as_http_error, check_picture, read_request
from vortex.web.video_routes import links, problems, server_of

if TYPE_CHECKING:
    from vortex.web.app import Server

router = APIRouter(prefix="/v1/portraits", tags=["portraits"])

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["portrait"],
                    "additionalProperties": False,
                    "properties": {"portrait": {"type": "string", "format": "binary"}},
                }
            },
            "application/json": {
                "schema": PortraitRequest.model_json_schema(),
                "example": {"portrait_base64": "/9j/4AAQ..."},
            },
        },
    }
}


_LINKS = links({"show": "show_portrait", "delete": "delete_portrait"}, "portrait_id")


@router.post(
    "",
    status_code=201,
    openapi_extra=_BODY,
    responses={201: {"links": _LINKS}, **problems(400, 408, 413, 415, 422, 503)},
)
async def add_portrait(request: Request, response: Response) -> PortraitView:
    """Find the face in a picture and keep it; videos can then name it by its id."""
    server = server_of(request)
    if server.stopping.is_set():
        raise HTTPException(503, "The server is stopping.", {"Retry-After": "10"})
    with server.folder.incoming() as folder:
        await read_request(request, PortraitRequest, folder, server.settings.max_upload_bytes)
        record = await run_in_threadpool(_add, server, folder / "portrait")
    response.headers["Location"] = f"/v1/portraits/{record.id}"
    return view_portrait(record)


def _add(server: Server, picture: Path) -> PortraitRecord:
    check_picture(picture)
    with as_http_error(picture, "portrait"):
        return server.shelf.add(picture, shared=True)


@router.get("", responses=problems())
def list_portraits(request: Request) -> PortraitList:
    """List the portraits, the one used last first."""
    records = server_of(request).store.portraits()
    return PortraitList(portraits=[view_portrait(record) for record in records])


def _known(request: Request, portrait_id: str) -> PortraitRecord:
    record = server_of(request).store.portrait(portrait_id)
    if record is None or not record.shared:
        raise HTTPException(404, "There is no portrait with that id; it may have made room for newer ones.")
    return record


@router.get("/{portrait_id}", responses=problems(404))
def show_portrait(request: Request, portrait_id: str) -> PortraitView:
    """Tell where the face is."""
    return view_portrait(_known(request, portrait_id))


@router.delete("/{portrait_id}", status_code=204, responses=problems(404, 409))
def delete_portrait(request: Request, portrait_id: str) -> Response:
    """Delete a portrait; 409 while a queued or running video needs it."""
    record, server = _known(request, portrait_id), server_of(request)
    if server.store.portrait_in_use(record.id):
        raise HTTPException(409, "A video that is still being made needs this portrait. Cancel it first.")
    server.shelf.delete(record.id)
    return Response(status_code=204)
