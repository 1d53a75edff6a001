"""``/v1/videos``: make, follow, fetch, cancel, list and delete videos."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from fastapi import APIRouter, HTTPException, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from vortex.errors import InputError, MissingExtraError
from vortex.web.folders import new_id
from vortex.web.schema import ID, Problem, Video, VideoOptions, VideoPage, VideoRequest, view_video
from vortex.web.store import STATES, Job
from vortex.web.uploads import as_http_error, check_picture, check_sound, read_request

if TYPE_CHECKING:
    from vortex.web.app import Server

POLL_S = 0.2
HEARTBEAT_S = 15.0
"""Proxies cut connections on which nothing is said."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of errors with these statuses; 401 and 403 can always happen."""
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    return {status: {"description": "Problem", "content": content} for status in (401, 403, *statuses)}


router = APIRouter(prefix="/v1/videos", tags=["videos"])


def _form_fields() -> dict[str, Any]:
    """Return the options as fields of a form, which are there or not, but never null."""
    fields = VideoOptions.model_json_schema()["properties"]
    for name, field in fields.items():
        if "anyOf" in field:
            kind = next(choice for choice in field.pop("anyOf") if choice["type"] != "null")
            fields[name] = kind | {key: value for key, value in field.items() if key != "default"}
    return dict(fields)


def links(operations: Mapping[str, str], parameter: str) -> dict[str, Any]:
    """Return OpenAPI links: what can be done with the id in an answer, by name and operation."""
    return {
        name: {"operationId": operation, "parameters": {parameter: "$response.body#/id"}}
        for name, operation in operations.items()
    }


_FILE = {"type": "string", "format": "binary"}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [],
                    "additionalProperties": False,
                    "properties": {
                        "portrait": _FILE,
                        "portrait_id": {"type": "string", "pattern": "^[0-9a-f]{24}$"},
                        "speech": _FILE,
                        **_form_fields(),
                    },
                },
            },
            "application/json": {
                "schema": VideoRequest.model_json_schema(),
                "example": {"portrait_id": ID, "speech_base64": "UklGR...", "preset": "excited", "seed": 7},
            },
        },
    }
}


def server_of(request: Request) -> Server:
    """Return what the running server holds."""
    return cast("Server", request.app.state.server)


_LINKS = links(
    {
        "show": "show_video",
        "fetch": "fetch_video",
        "follow": "follow_video",
        "cancel": "cancel_video",
        "delete": "delete_video",
    },
    "video_id",
)


@router.post(
    "",
    status_code=202,
    openapi_extra=_BODY,
    responses={202: {"links": _LINKS}, **problems(400, 404, 408, 413, 415, 422, 429, 501, 503)},
)
async def make_video(request: Request, response: Response) -> Video:
    """Queue a video of a portrait, a file or the id of an earlier one, that speaks the sound.

    Picture and sound are looked at before the answer: whatever cannot become a video is refused here.
    """
    server = server_of(request)
    _check_room(server)
    with server.folder.incoming() as folder:
        wanted = await read_request(request, VideoRequest, folder, server.settings.max_upload_bytes)
        job = await run_in_threadpool(_queue, server, wanted, folder)
    response.headers["Location"] = f"/v1/videos/{job.id}"
    return view_video(job, server.store.count_ahead(job))


def _check_room(server: Server) -> None:
    if server.stopping.is_set():
        raise HTTPException(503, "The server is stopping.", {"Retry-After": "10"})
    if server.store.count_jobs()["queued"] >= server.settings.max_queued:
        raise HTTPException(429, "The queue is full. Try again later.", {"Retry-After": "30"})


def _queue(server: Server, wanted: VideoRequest, folder: Path) -> Job:
    settings, speech, picture = server.settings, folder / "speech", folder / "portrait"
    if picture.exists() == (wanted.portrait_id is not None):
        raise HTTPException(422, "Give either a portrait or a portrait_id.")
    if speech.exists() == (wanted.text is not None):
        raise HTTPException(422, "Give either speech, as a file, or a text.")
    if wanted.duration_s is not None and wanted.duration_s > settings.max_duration_s:
        raise HTTPException(
            422, f"duration_s is {wanted.duration_s:g}; at most {settings.max_duration_s:g} are allowed."
        )
    if wanted.text is None:
        check_sound(speech, settings.max_duration_s)
    else:
        _check_text(server, wanted.text, wanted.voice)
    if wanted.portrait_id is None:
        check_picture(picture)
        with as_http_error(picture, "portrait"):
            portrait_id = server.shelf.add(picture, shared=False).id
    else:
        portrait_id = wanted.portrait_id
        if server.store.portrait(portrait_id) is None:
            raise HTTPException(404, "There is no portrait with that id. Send the picture again.")
    job_id = new_id()
    target = server.folder.speech(job_id)
    target.parent.mkdir()
    if wanted.text is None:
        os.replace(speech, target)
    options = wanted.model_dump(include=set(VideoOptions.model_fields))
    job = server.store.add_job(job_id, options, portrait_id, owns_portrait=wanted.portrait_id is None)
    server.workers.wake()
    return job


def _check_text(server: Server, text: str, voice: str) -> None:
    try:
        server.voices.check(voice)
    except MissingExtraError as exc:
        raise HTTPException(501, str(exc)) from exc
    except InputError as exc:
        raise HTTPException(422, str(exc)) from exc
    if not text.strip():
        raise HTTPException(422, "text: there is nothing to say.")


@router.get("", responses=problems(422))
def list_videos(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[int | None, Query(ge=0, le=2**62, description="``next`` of the page before")] = None,
    state: Annotated[str | None, Query(json_schema_extra={"enum": list(STATES)})] = None,
) -> VideoPage:
    """List videos, the newest first."""
    if state is not None and state not in STATES:
        raise HTTPException(422, f"state is {state!r}; give one of {', '.join(STATES)}.")
    store = server_of(request).store
    jobs = store.jobs(limit=limit + 1, before=cursor, state=state)
    more = str(jobs[limit - 1].seq) if len(jobs) > limit else None
    return VideoPage(videos=[view_video(job, store.count_ahead(job)) for job in jobs[:limit]], next=more)


def _known_job(request: Request, video_id: str) -> Job:
    job = server_of(request).store.job(video_id)
    if job is None:
        raise HTTPException(404, "There is no video with that id; it may have expired.")
    return job


@router.get("/{video_id}", responses=problems(404))
def show_video(request: Request, video_id: str) -> Video:
    """Tell how a video is doing."""
    job = _known_job(request, video_id)
    return view_video(job, server_of(request).store.count_ahead(job))


@router.get(
    "/{video_id}/video.mp4",
    response_class=FileResponse,
    responses={
        200: {"content": {"video/mp4": {}}},
        206: {"description": "Part of the video", "content": {"video/mp4": {}}},
        400: {"description": "A Range header that cannot be read"},
        416: {"description": "A range outside the video"},
        **problems(404, 409),
    },
)
def fetch_video(request: Request, video_id: str) -> FileResponse:
    """Return the MP4, or with a Range header a part of it."""
    job = _known_job(request, video_id)
    path = server_of(request).folder.video(job.id)
    if job.state != "done":
        raise HTTPException(409, f"The video is {job.state}; there is no file.")
    if not path.is_file():
        raise HTTPException(404, "The video has expired.")
    return FileResponse(path, media_type="video/mp4", filename=f"{job.id}.mp4",
                        content_disposition_type="inline")  # fmt: skip


@router.get(
    "/{video_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {"description": "Server-sent events", "content": {"text/event-stream": {}}},
        204: {"description": "Nothing will change after Last-Event-ID"},
        **problems(404),
    },
)
async def follow_video(request: Request, video_id: str) -> Response:
    """Stream the job as server-sent events until it is settled.

    Each event is named by the job's state; its data is the job as from ``GET``, its id the ``revision``. With
    ``Last-Event-ID``, only what is newer comes.
    """
    job = await run_in_threadpool(_known_job, request, video_id)
    last = request.headers.get("last-event-id", "")
    seen = int(last) if last.isascii() and last.isdigit() and len(last) < 16 else 0
    if job.settled and seen >= job.revision:
        return Response(status_code=204)
    # X-Accel-Buffering: nginx would hold the events back
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        _events(server_of(request), job.id, seen), media_type="text/event-stream", headers=headers
    )


async def _events(server: Server, job_id: str, seen: int) -> AsyncIterator[str]:
    yield "retry: 1000\n\n"
    silent_s = 0.0
    while not server.stopping.is_set():
        job = await run_in_threadpool(server.store.job, job_id)
        if job is None:
            yield "event: deleted\ndata: {}\n\n"
            return
        if job.revision > seen:
            seen, silent_s = job.revision, 0.0
            view = view_video(job, await run_in_threadpool(server.store.count_ahead, job))
            yield f"id: {job.revision}\nevent: {job.state}\ndata: {view.model_dump_json()}\n\n"
        if job.settled:
            return
        await asyncio.sleep(POLL_S)
        silent_s += POLL_S
        if silent_s >= HEARTBEAT_S:
            silent_s = 0.0
            yield ": still here\n\n"


@router.post("/{video_id}/cancel", responses=problems(404, 409))
def cancel_video(request: Request, video_id: str) -> Video:
    """Cancel a queued or running video; nothing of it stays on the disk but this record."""
    job = _known_job(request, video_id)
    cancelled = server_of(request).workers.cancel(job)
    if cancelled is None:
        raise HTTPException(409, "The video is finished already.")
    return view_video(cancelled, 0)


@router.delete("/{video_id}", status_code=204, responses=problems(404))
def delete_video(request: Request, video_id: str) -> Response:
    """Delete a video with all that belongs to it; if it is still being made, stop that first."""
    server_of(request).workers.delete(_known_job(request, video_id))
    return Response(status_code=204)
