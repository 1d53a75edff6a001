"""``/v1/portraits``: pictures whose face is found once, and used for any number of videos."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException
from starlette.requests import Request
from starlette.responses import Response

from vortex.options import PortraitOptions
from vortex.server.context import Context, Owner
from vortex.server.errors import links, problems
from vortex.server.inputs import form_or_json, read_request
from vortex.server.schema import FaceList, FaceView, PortraitList, PortraitRequest, PortraitView
from vortex.server.store import PortraitRecord

router = APIRouter(prefix="/v1/portraits", tags=["portraits"])

_BODY = form_or_json(PortraitRequest, {"portrait_base64": "/9j/4AAQ..."})
_LINKS = links("portrait", "show", "delete")


@router.post(
    "",
    status_code=201,
    response_model=PortraitView,
    openapi_extra=_BODY,
    responses={201: {"links": _LINKS}, **problems(400, 408, 413, 415, 422, 503)},
)
async def add_portrait(
    context: Context, request: Request, response: Response, owner: Owner
) -> PortraitRecord:
    """Find the face in a picture and keep it; videos can then name it by its id."""
    context.check_running()
    with context.folder.incoming() as folder:
        wanted = await read_request(request, PortraitRequest, folder, context.intake)
        options, picture = wanted.options(PortraitOptions), folder / "portrait"
        record = await context.intake.run(context.portraits.add, picture, options, owner=owner, shared=True)
    response.headers["Location"] = f"/v1/portraits/{record.id}"
    return record


@router.get("", response_model=PortraitList, responses=problems())
def list_portraits(context: Context, owner: Owner) -> dict[str, list[PortraitRecord]]:
    """List the portraits, the most recently used first."""
    return {"portraits": context.store.portraits(owner)}


def _known_portrait(context: Context, owner: Owner, portrait_id: str) -> PortraitRecord:
    record = context.store.portrait(portrait_id)
    if record is None or not record.usable_by(owner):
        raise HTTPException(
            404, "There is no portrait with that id; it may have been deleted for newer ones."
        )
    return record


KnownPortrait = Annotated[PortraitRecord, Depends(_known_portrait)]


@router.get("/{portrait_id}", response_model=PortraitView, responses=problems(404))
def show_portrait(record: KnownPortrait) -> PortraitRecord:
    """Return where the face is."""
    return record


@router.get("/{portrait_id}/faces", responses=problems(404, 503))
async def list_faces(context: Context, record: KnownPortrait) -> FaceList:
    """List all faces in the picture, so that another one can be chosen by its number."""
    found = await context.intake.run(context.portraits.faces, record)
    return FaceList(faces=[FaceView.model_validate(face) for face in found])


_PICTURE: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}}


@router.head("/{portrait_id}/picture.jpg", include_in_schema=False)
@router.get("/{portrait_id}/picture.jpg", response_class=Response, responses={**_PICTURE, **problems(404)})
def fetch_picture(context: Context, record: KnownPortrait) -> Response:
    """Return the upright picture, in which the box of the face is given, as a JPEG."""
    return Response(context.portraits.picture(record), media_type="image/jpeg")


@router.delete("/{portrait_id}", status_code=204, responses=problems(404, 409))
def delete_portrait(context: Context, record: KnownPortrait) -> None:
    """Delete a portrait; 409 while a queued or running video needs it."""
    if context.store.portrait_in_use(record.id):
        raise HTTPException(409, "A video that is still being made needs this portrait. Cancel it first.")
    context.portraits.delete(record.id)
