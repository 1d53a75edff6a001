"""``/v1/videos``: make, follow, fetch, cancel, list and delete videos."""

from __future__ import annotations

import asyncio
import io
import os
import re
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Query
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from vortex.captions.burning import check_captions
from vortex.driving import check_drive
from vortex.errors import InputError, MissingExtraError
from vortex.media.containers import (
    CONTAINERS,
    DEFAULT_CONTAINER,
    Compression,
    check_format,
    check_rate,
    container_of,
)
from vortex.media.reading import iter_timed_frames
from vortex.options import (
    DriveOptions,
    PortraitOptions,
    SpeechOptions,
    VideoOptions,
    check_drives,
    check_picture_options,
    check_speaks,
    options_of,
)
from vortex.revoice.clip import check_clip_options
from vortex.scene import check_framing
from vortex.server.context import Context, Owner, ServerContext
from vortex.server.errors import links, problems
from vortex.server.inputs import (
    check_background,
    check_clip,
    check_driving,
    check_sound,
    check_text,
    check_transcript,
    form_or_json,
    is_clip,
    read_request,
)
from vortex.server.schema import ID_EXAMPLE, Video, VideoPage, VideoRequest
from vortex.server.store import NOBODY, STATES, Job, new_id
from vortex.server.webhooks import check_webhook

POLL_S = 0.2
THUMBNAIL_PX = 160
HEARTBEAT_S = 15.0
"""Proxies close connections on which nothing is sent."""

Given = TypeVar("Given", VideoOptions, DriveOptions)

router = APIRouter(prefix="/v1/videos", tags=["videos"])

_BODY = form_or_json(
    VideoRequest, {"portrait_id": ID_EXAMPLE, "speech_base64": "UklGR...", "preset": "excited", "seed": 7}
)
_LINKS = links("video", "show", "fetch", "follow", "cancel", "delete")


@router.post(
    "",
    status_code=202,
    openapi_extra=_BODY,
    responses={202: {"links": _LINKS}, **problems(400, 404, 408, 413, 415, 422, 429, 501, 503)},
)
async def make_video(context: Context, owner: Owner, request: Request, response: Response) -> Video:
    """Queue a video of a portrait, a file or the id of an earlier one, and a sound, a text or another video.

    Picture, sound and video are checked before the answer: what cannot become a video is refused here.
    """
    context.check_running()
    # In a thread, as everything that uses the database: another process may lock it for a while.
    if await run_in_threadpool(context.store.count_jobs, "queued") >= context.settings.max_queued:
        raise _queue_is_full()
    with context.folder.incoming() as folder:
        wanted = await read_request(request, VideoRequest, folder, context.intake)
        if wanted.webhook_url is not None:
            check_webhook(wanted.webhook_url, context.settings)
        job = await context.intake.run(_queue, context, wanted, folder, owner)
    response.headers["Location"] = f"/v1/videos/{job.id}"
    return Video.of(job, await run_in_threadpool(context.store.count_ahead, job))


def _queue(context: ServerContext, wanted: VideoRequest, folder: Path, owner: str) -> Job:
    """Check a request of ``owner``, whose files are in ``folder``, and queue its job."""
    portrait = folder / "portrait"
    if portrait.exists() == (wanted.portrait_id is not None):
        raise InputError("Give either a portrait or a portrait_id.")
    clip = portrait.exists() and is_clip(portrait)
    options = _checked_options(context, wanted, folder)
    if clip:
        _check_clip(context, options, portrait)
    elif isinstance(options, VideoOptions):
        check_picture_options(options)
    owns = wanted.portrait_id is None and not clip
    portrait_id = _portrait_id(context, wanted, options, portrait, owner) if not clip else ""
    job_id = new_id()
    own: dict[str, Any] = {"name": wanted.name, "text": wanted.text, "clip": clip, "check": wanted.check}
    stored = {
        **options.as_json(),
        **own,
        "driven": isinstance(options, DriveOptions),
        "format": wanted.format,
    }
    most = context.settings.max_queued
    job = None
    try:
        _keep_files(context, wanted, options, folder, job_id)
        if wanted.webhook_url is not None:
            # Before the job, which may be done at once.
            context.store.add_webhook(job_id, wanted.webhook_url)
        job = context.store.add_job(
            job_id, stored, portrait_id, owns_portrait=owns, owner=owner, max_queued=most
        )
    finally:
        if job is None:
            context.folder.delete_job(job_id)
            context.store.delete_webhook(job_id)
            if owns:
                context.portraits.delete(portrait_id)
    if job is None:
        raise _queue_is_full()
    context.workers.wake()
    return job


def _keep_files(
    context: ServerContext,
    wanted: VideoRequest,
    options: VideoOptions | DriveOptions,
    folder: Path,
    job_id: str,
) -> None:
    """Move the files of a request, which its job needs, from ``folder`` to the folder of the job."""
    kept = context.folder
    target = kept.driving(job_id) if isinstance(options, DriveOptions) else kept.speech(job_id)
    target.parent.mkdir()
    if wanted.text is None:
        os.replace(folder / target.name, target)
    if (folder / "portrait").exists() and is_clip(folder / "portrait"):
        os.replace(folder / "portrait", kept.clip(job_id))
    if options.background.kind == "picture":
        os.replace(folder / "background_picture", kept.background(job_id))


def _check_clip(context: ServerContext, options: VideoOptions | DriveOptions, path: Path) -> None:
    """Refuse a clip that cannot get other words, before it is queued."""
    if isinstance(options, DriveOptions):
        raise InputError("A video as the portrait gets other words and cannot be driven. Send a picture.")
    check_clip_options(context.session.engine_name(options), options)
    check_clip(context.intake, path, context.settings.max_duration_s, context.settings.max_pixels)


def _portrait_id(
    context: ServerContext,
    wanted: VideoRequest,
    options: VideoOptions | DriveOptions,
    picture: Path,
    owner: str,
) -> str:
    """Return the id of the portrait of a request, whose picture is kept if it came with it."""
    if wanted.portrait_id is None:
        part = options.part(PortraitOptions)
        return context.portraits.add(picture, part, owner=owner, shared=False).id
    record = context.store.portrait(wanted.portrait_id)
    if record is None or not record.usable_by(owner):
        raise HTTPException(404, "There is no portrait with that id. Send the picture again.")
    return wanted.portrait_id


def _queue_is_full() -> HTTPException:
    return HTTPException(429, "The queue is full. Try again later.", {"Retry-After": "30"})


def _checked_options(
    context: ServerContext, wanted: VideoRequest, folder: Path
) -> VideoOptions | DriveOptions:
    """Check what the portrait follows, a file in ``folder`` or a text, and return the options."""
    speech, driving = folder / "speech", folder / "driving"
    if (speech.exists(), driving.exists(), wanted.text is not None).count(True) != 1:
        raise InputError("Give either speech, as a file, a text, or a driving video.")
    given, most_s = wanted.model_fields_set, context.settings.max_duration_s
    options = wanted.options(VideoOptions)
    if options.duration_s is not None and options.duration_s > most_s:
        raise InputError(f"duration_s is {options.duration_s:g}; at most {most_s:g} are allowed.")
    if driving.exists():
        check_drives(given)
        check_driving(context.intake, driving, most_s, context.settings.max_pixels)
        # What was left out takes the defaults of these options: fps is that of the video.
        known = given & options_of(DriveOptions).keys()
        drive = context.with_engine(DriveOptions(**{name: getattr(wanted, name) for name in known}), given)
        check_drive(context.session.engine_name(drive), drive)
        return _checked_frame(context, wanted, drive, folder)
    check_speaks(given)
    check_captions(options.captions, wanted.text or options.transcript)
    options = context.with_engine(options, given)
    if wanted.text is None:
        check_transcript(wanted.options(VideoOptions).transcript, check_sound(context.intake, speech, most_s))
    elif context.why_no_speech:
        raise MissingExtraError(f"The server cannot speak: {context.why_no_speech}")
    else:
        check_text(wanted.text, options.part(SpeechOptions))
    return _checked_frame(context, wanted, options, folder)


def _checked_frame(context: ServerContext, wanted: VideoRequest, options: Given, folder: Path) -> Given:
    """Check frame, background and format, and return the options with a background that was sent."""
    picture = folder / "background_picture"
    background = check_background(context.intake, picture, options, context.settings.max_pixels)
    name = Path(f"video.{wanted.format}")
    compression = Compression(options.crf, options.bitrate_kbps)
    check_format(name, compression, transparent=background.kind == "none")
    if options.fps is not None:
        check_rate(name, options.fps)
    if wanted.check and container_of(name).audio_encoder is None:
        raise InputError(f"check measures sound and picture, but {wanted.format} has no sound.")
    check_framing(options, options.paste_back)
    return replace(options, background=background)


@router.get("", responses=problems(422))
def list_videos(
    context: Context,
    owner: Owner,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[int | None, Query(ge=0, le=2**62, description="``next`` of the page before")] = None,
    state: Annotated[str | None, Query(json_schema_extra={"enum": list(STATES)})] = None,
    name: Annotated[str | None, Query(max_length=200, description="part of the name")] = None,
) -> VideoPage:
    """List videos, the newest first; all, or those in one state, or whose name contains a text."""
    if state is not None and state not in STATES:
        raise InputError(f"state is {state!r}; give one of {', '.join(STATES)}.")
    store = context.store
    jobs = store.jobs(limit=limit + 1, owner=owner, before=cursor, state=state, name=name)
    more = str(jobs[limit - 1].seq) if len(jobs) > limit else None
    return VideoPage(videos=[Video.of(job, store.count_ahead(job)) for job in jobs[:limit]], next=more)


def _known_job(context: Context, owner: Owner, video_id: str) -> Job:
    job = context.store.job(video_id)
    if job is None or job.owner not in (owner, NOBODY):
        raise HTTPException(404, "There is no video with that id; it may have expired.")
    return job


KnownJob = Annotated[Job, Depends(_known_job)]


@router.get("/{video_id}", responses=problems(404))
def show_video(context: Context, job: KnownJob) -> Video:
    """Return the state of a video."""
    return Video.of(job, context.store.count_ahead(job))


_CONTENT: dict[str, dict[str, str]] = {DEFAULT_CONTAINER.media_type: {}}


@router.head("/{video_id}/video.mp4", include_in_schema=False)
@router.get(
    "/{video_id}/video.mp4",
    response_class=FileResponse,
    responses={
        200: {"content": _CONTENT},
        206: {"description": "Part of the video", "content": _CONTENT},
        400: {"description": "A Range header that cannot be read"},
        416: {"description": "A range outside the video"},
        **problems(404, 409),
    },
)
def fetch_video(context: Context, job: KnownJob) -> FileResponse:
    """Return the video file, or with a Range header a part of it."""
    return _video_file(context, job, DEFAULT_CONTAINER.suffix[1:])


@router.head("/{video_id}/video.{suffix}", include_in_schema=False)
@router.get(
    "/{video_id}/video.{suffix}",
    response_class=FileResponse,
    responses={
        200: {"content": {container.media_type: {} for container in CONTAINERS[1:]}},
        206: {"description": "Part of the video"},
        400: {"description": "A Range header that cannot be read"},
        416: {"description": "A range outside the video"},
        **problems(404, 409),
    },
)
def fetch_other_video(context: Context, job: KnownJob, suffix: str) -> FileResponse:
    """Return the video file of a job with another format than MP4, or a part of it."""
    return _video_file(context, job, suffix)


def _video_file(context: ServerContext, job: Job, suffix: str) -> FileResponse:
    if suffix != job.format:
        raise HTTPException(404, f"The video is a .{job.format}; fetch it by its video_url.")
    path = _finished_file(context, job)
    name = f"{_file_name(job.options.get('name') or '') or job.id}{path.suffix}"
    kind = container_of(path).media_type
    return FileResponse(path, media_type=kind, filename=name, content_disposition_type="inline")


def _finished_file(context: ServerContext, job: Job) -> Path:
    """Return the path of the video; HTTPException 409 while there is none, 404 if it has expired."""
    path = context.folder.video(job)
    if job.state != "done":
        raise HTTPException(409, f"The video is {job.state}; there is no file.")
    if not path.is_file():
        raise HTTPException(404, "The video has expired.")
    return path


def _file_name(name: str) -> str:
    """Return a name as a file can have it on every system: letters and digits, with hyphens between."""
    return re.sub(r"[\W_]+", "-", name).strip("-")[:60]


@router.head("/{video_id}/thumbnail.jpg", include_in_schema=False)
@router.get(
    "/{video_id}/thumbnail.jpg",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, **problems(404, 409)},
)
def fetch_thumbnail(context: Context, job: KnownJob) -> Response:
    """Return the first frame of the video as a small JPEG."""
    small, file = _first_frame(_finished_file(context, job)), io.BytesIO()
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    small.save(file, "JPEG", quality=80)
    return Response(file.getvalue(), media_type="image/jpeg")


def _first_frame(path: Path) -> Image.Image:
    """Return the first frame of a finished video of any format, as RGB."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            first = min(name for name in archive.namelist() if name.endswith(".png"))
            return Image.open(io.BytesIO(archive.read(first))).convert("RGB")
    if path.suffix in (".gif", ".webp"):
        with Image.open(path) as picture:
            return picture.convert("RGB")
    _, frame = next(iter_timed_frames(path))
    return Image.fromarray(frame)


def _fetch_captions(context: ServerContext, job: Job, kind: str, media_type: str) -> FileResponse:
    """Return a caption file that the options of a job asked for."""
    path = _finished_file(context, job).with_suffix(f".{kind}")
    if not path.is_file():
        raise HTTPException(404, f"The video has no such captions. Ask for them with captions={kind}.")
    return FileResponse(path, media_type=media_type, filename=f"{job.id}.{kind}")


@router.get(
    "/{video_id}/captions.srt",
    response_class=FileResponse,
    responses={200: {"content": {"application/x-subrip": {}}}, **problems(404, 409)},
)
def fetch_srt(context: Context, job: KnownJob) -> FileResponse:
    """Return the captions as SubRip, if the job asked for srt."""
    return _fetch_captions(context, job, "srt", "application/x-subrip")


@router.get(
    "/{video_id}/captions.vtt",
    response_class=FileResponse,
    responses={200: {"content": {"text/vtt": {}}}, **problems(404, 409)},
)
def fetch_vtt(context: Context, job: KnownJob) -> FileResponse:
    """Return the captions as WebVTT, if the job asked for vtt."""
    return _fetch_captions(context, job, "vtt", "text/vtt")


@router.get(
    "/{video_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {"description": "Server-sent events", "content": {"text/event-stream": {}}},
        204: {"description": "Nothing will change after Last-Event-ID"},
        **problems(404),
    },
)
async def follow_video(context: Context, request: Request, job: KnownJob) -> Response:
    """Stream the job as server-sent events until it is settled.

    Each event is named by the job's state; its data is the job as from ``GET``, its id the ``revision``. With
    ``Last-Event-ID``, only newer events are sent.
    """
    last = request.headers.get("last-event-id", "")
    seen = int(last) if last.isascii() and last.isdigit() and len(last) < 16 else 0
    if job.settled and seen >= job.revision:
        return Response(status_code=204)
    # X-Accel-Buffering: nginx would hold the events back.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(context, job.id, seen), media_type="text/event-stream", headers=headers)


async def _events(context: ServerContext, job_id: str, seen: int) -> AsyncIterator[str]:
    yield "retry: 1000\n\n"
    silent_s = 0.0
    while not context.stopping.is_set():
        job = await run_in_threadpool(context.store.job, job_id)
        if job is None:
            yield "event: deleted\ndata: {}\n\n"
            return
        if job.revision > seen:
            seen, silent_s = job.revision, 0.0
            view = Video.of(job, await run_in_threadpool(context.store.count_ahead, job))
            yield f"id: {job.revision}\nevent: {job.state}\ndata: {view.model_dump_json()}\n\n"
        if job.settled:
            return
        await asyncio.sleep(POLL_S)
        silent_s += POLL_S
        if silent_s >= HEARTBEAT_S:
            silent_s = 0.0
            yield ": still here\n\n"


@router.post("/{video_id}/cancel", responses=problems(404, 409))
def cancel_video(context: Context, job: KnownJob) -> Video:
    """Cancel a queued or running video; nothing of it stays on the disk but this record."""
    cancelled = context.workers.cancel(job)
    if cancelled is None:
        raise HTTPException(409, "The video is finished already.")
    return Video.of(cancelled, 0)


@router.delete("/{video_id}", status_code=204, responses=problems(404))
def delete_video(context: Context, job: KnownJob) -> None:
    """Delete a video with all that belongs to it; if it is still being made, stop that first."""
    context.workers.delete(job)
