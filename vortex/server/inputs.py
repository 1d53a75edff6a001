"""What videos are made of: read from requests, checked before any work starts; portraits are kept."""

from __future__ import annotations

import asyncio
import io
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from fastapi import HTTPException
from PIL import Image
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request

from vortex.errors import InputError
from vortex.face.listing import FoundFace
from vortex.media.background import Background
from vortex.media.formats import HEAD_BYTES, PICTURES, SOUNDS, VIDEOS, Format, format_of
from vortex.motion.template import TEMPLATES
from vortex.options import FrameOptions, FramingOptions, PortraitOptions, SpeechOptions
from vortex.performance import StageClock
from vortex.render import PreparedPortrait
from vortex.server.decoding import (
    FILES,
    check_driver,
    check_video,
    faces_of,
    find_portrait,
    reckon_driver,
    reckon_json,
    reckon_picture,
    reckon_sound,
    reckon_stored,
    reckon_video,
    rewrite_picture,
    sound_length_s,
    stored_portrait,
    unpack_json,
)
from vortex.server.errors import summary
from vortex.server.processes import WAIT_S, BusyError, Readers
from vortex.server.settings import ServerSettings
from vortex.server.store import DataFolder, PortraitRecord, Store, new_id
from vortex.session import Session
from vortex.speech.registry import list_voices
from vortex.types import Portrait

Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")

UPLOAD_CPU_S = 60.0
"""Processor time that each file of a request may take before the answer."""
MAX_CHARACTERS_A_SECOND, MIN_TRANSCRIPT = 50, 200
"""Fast speakers say 25 characters a second; short sounds may have a few more."""

_PICTURES, _SOUNDS, _VIDEOS = (
    tuple(known for known in formats if known.uploads) for formats in (PICTURES, (*SOUNDS, *VIDEOS), VIDEOS)
)
"""The formats that are taken from strangers."""


def is_clip(path: Path) -> bool:
    """Return whether a file that came as the portrait begins like a video."""
    with path.open("rb") as file:
        return format_of(file.read(HEAD_BYTES), _VIDEOS) is not None


@dataclass(frozen=True, slots=True)
class Intake:
    """Reads what requests send, in processes, a few at a time; it ends when the server stops."""

    readers: Readers
    places: asyncio.Semaphore
    """Of requests that are read at the same time; others wait without a thread."""
    stopping: threading.Event
    max_bytes: int
    """Size of one file."""

    def check(self) -> None:
        """Raise BusyError once the server stops."""
        if self.stopping.is_set():
            raise BusyError("The server is stopping. Try again later.")

    async def run(self, work: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
        """Return what ``work`` returns in a thread; BusyError if others are read for too long."""
        try:
            await asyncio.wait_for(self.places.acquire(), WAIT_S)
        except TimeoutError:
            raise BusyError("Many other requests are being read. Try again later.") from None
        try:
            return await run_in_threadpool(work, *arguments, **keywords)
        finally:
            self.places.release()

    def read(self, what: str, reckon: partial[int], task: partial[T]) -> T:
        """Return ``task()``, computed in a process; see :meth:`vortex.server.processes.Readers.read`."""
        return self.readers.read(what, reckon, task, cpu_s=UPLOAD_CPU_S, check=self.check, wait_s=WAIT_S)


def check_picture(path: Path) -> None:
    """Refuse what does not begin like a JPEG, PNG or WebP file, with status 415."""
    _check_start(path, _PICTURES, "portrait")


def check_background(intake: Intake, path: Path, options: FramingOptions, max_pixels: int) -> Background:
    """Return the background that a request asks for, of which ``path`` may be a picture.

    It is read in a process and written again, as a PNG that vortex made. Another format than JPEG, PNG or
    WebP is refused with status 415.

    Raises:
        InputError: a picture and another background, or a path, which names no file that a client may read.
        ImageError: the picture cannot be read.
        What :meth:`Intake.read` raises.
    """
    if options.background.kind == "picture":
        raise InputError("background is the name of a file; send the picture itself as background_picture.")
    if not path.exists():
        return options.background
    if options.background.kind != "keep":
        raise InputError(
            f"background is {options.background}, and there is a background_picture; leave one out."
        )
    _check_start(path, _PICTURES, "background")
    intake.read(
        "The background",
        partial(reckon_picture, path, max_pixels),
        partial(rewrite_picture, path, max_pixels),
    )
    return Background("picture", "./background_picture")


def check_sound(intake: Intake, path: Path, max_duration_s: float) -> float:
    """Return the length in seconds; another format is refused with status 415.

    Raises:
        AudioError: it is damaged, silent or too long.
        What :meth:`Intake.read` raises.
    """
    _check_start(path, _SOUNDS, "speech")
    return intake.read(
        "The speech",
        partial(reckon_sound, path, max_duration_s),
        partial(sound_length_s, path, max_duration_s),
    )


def check_driving(intake: Intake, path: Path, max_duration_s: float, max_pixels: int) -> None:
    """Refuse another format, with status 415, and with InputError what is damaged, too large or too long.

    What :meth:`Intake.read` raises is raised, too.
    """
    _check_start(path, (*_VIDEOS, *_PICTURES, *TEMPLATES), "driving file")
    intake.read(
        "The driving file",
        partial(reckon_driver, path, max_duration_s, max_pixels),
        partial(check_driver, path, max_duration_s, max_pixels),
    )


def check_clip(intake: Intake, path: Path, max_duration_s: float, max_pixels: int) -> None:
    """Refuse, with InputError, a clip that is damaged, too large or too long, as far as its header tells.

    What :meth:`Intake.read` raises is raised, too.
    """
    intake.read(
        "The clip",
        partial(reckon_video, path, max_duration_s, max_pixels),
        partial(check_video, path, "clip", max_duration_s, max_pixels),
    )


def check_transcript(transcript: str | None, length_s: float) -> None:
    """Refuse more words than anybody says in ``length_s`` seconds: aligning them would take minutes."""
    most = round(MAX_CHARACTERS_A_SECOND * length_s) + MIN_TRANSCRIPT
    if transcript is not None and len(transcript) > most:
        raise InputError(
            f"The transcript has {len(transcript)} characters for {length_s:.1f} s of speech; at most {most} "
            "can be spoken in it. Send the words that are spoken."
        )


def _check_start(path: Path, accepted: tuple[Format, ...], what: str) -> None:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if format_of(head, accepted) is None:
        names = [known.name for known in accepted]
        raise HTTPException(415, f"The {what} is not a {', '.join(names[:-1])} or {names[-1]} file.")


def check_text(text: str, options: SpeechOptions) -> None:
    """Refuse an unknown voice or an empty text; raises WeightsError if no voice is installed."""
    names = [known.name for known in list_voices(options.speech_engine)]
    if options.voice not in names:
        raise InputError(f"Unknown voice {options.voice!r}; this server has {', '.join(names)}.")
    if not text.strip():
        raise InputError("text: there is nothing to say.")


def form_or_json(model: type[BaseModel], example: Mapping[str, Any]) -> dict[str, Any]:
    """Return the OpenAPI description of a body that is a form with files, or JSON with files as base64.

    Written by hand: FastAPI describes a body by the parameters of its route, as a form or as JSON, not both.
    A form has the fields of ``model``, with files for base64; they are never null.
    """
    schema = model.model_json_schema()
    fields = {}
    for name, field in schema["properties"].items():
        if name.endswith("_base64"):
            field = {"type": "string", "format": "binary"}
        elif "anyOf" in field:
            # Of several types, the first.
            kept = {key: value for key, value in field.items() if key != "anyOf" and value is not None}
            field = {**next(kind for kind in field["anyOf"] if kind["type"] != "null"), **kept}
        fields[name.removesuffix("_base64")] = field
    required = [name.removesuffix("_base64") for name in schema.get("required", [])]
    form = {"type": "object", "required": required, "additionalProperties": False, "properties": fields}
    content = {
        "multipart/form-data": {"schema": form},
        "application/json": {"schema": schema, "example": dict(example)},
    }
    return {"requestBody": {"required": True, "content": content}}


async def read_request(request: Request, model: type[Model], folder: Path, intake: Intake) -> Model:
    """Return the fields of a form or of JSON; files go to ``folder``. HTTPException 400, 413, 415 or 422."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    try:
        if kind == "multipart/form-data":
            return model.model_validate(await _read_form(request, folder, intake.max_bytes))
        if kind == "application/json":
            return model.model_validate(await _read_json(request, folder, intake))
    except ValidationError as exc:
        raise HTTPException(422, summary(exc)) from exc
    raise HTTPException(415, f"Content-Type is {kind!r}; send multipart/form-data or application/json.")


async def _read_form(request: Request, folder: Path, max_bytes: int) -> Mapping[str, Any]:
    fields: dict[str, Any] = {}
    async with request.form(max_files=len(FILES), max_fields=100, max_part_size=200_000) as form:
        for name, value in form.multi_items():
            if name in fields:
                raise HTTPException(422, f"The field {name!r} is there twice; send it once.")
            if not isinstance(value, UploadFile):
                fields[name] = value
            elif name in FILES:
                _check_size(name, value.size or 0, max_bytes)
                await run_in_threadpool(_save, value, folder / name)
                # The model knows files by their names in JSON.
                fields[f"{name}_base64"] = ""
            else:
                known = ", ".join(FILES)
                raise HTTPException(422, f"The file {name!r} is not expected; known are {known}.")
    return fields


def _save(upload: UploadFile, path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(upload.file, file)


async def _read_json(request: Request, folder: Path, intake: Intake) -> Mapping[str, Any]:
    body = folder / "body"
    with body.open("wb") as file:
        async for part in request.stream():
            await run_in_threadpool(file.write, part)

    def unpack() -> dict[str, Any]:
        # In a process: the parser of Python holds the interpreter while it reads megabytes.
        reckon = partial(reckon_json, body.stat().st_size)
        return intake.read("The body", reckon, partial(unpack_json, body, folder, intake.max_bytes))

    try:
        return await intake.run(unpack)
    except InputError:
        raise
    except ValueError as exc:
        raise HTTPException(400, f"The body is not JSON ({exc}).") from exc


def _check_size(name: str, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise HTTPException(413, f"The {name} is larger than {max_bytes} bytes. Send a smaller file.")


@dataclass(frozen=True, slots=True)
class PortraitCache:
    """Finds the faces of uploaded pictures and keeps the portraits on disk.

    At most ``max_portraits`` shared portraits of each owner stay; the least recently used is deleted. Safe in
    any thread.
    """

    store: Store
    folder: DataFolder
    session: Session
    settings: ServerSettings
    intake: Intake

    def add(self, picture: Path, options: PortraitOptions, *, owner: str, shared: bool) -> PortraitRecord:
        """Find the face and keep it; raises what ``check_picture``, ``load_portrait`` and the intake do."""
        check_picture(picture)
        portrait_id, now_s, most = new_id(), time.time(), self.settings.max_pixels
        path = self.folder.portrait(portrait_id)
        found = self.intake.read(
            "The portrait",
            partial(reckon_picture, picture, most),
            partial(find_portrait, picture, path, most, options.force_face, options.face),
        )
        record = PortraitRecord(
            id=portrait_id,
            created_s=now_s,
            used_s=now_s,
            width_px=found.width_px,
            height_px=found.height_px,
            face_box_px=found.face_box_px,
            notes=found.notes,
            shared=shared,
            owner=owner,
        )
        try:
            self.store.add_portrait(record)
        except sqlite3.Error:
            path.unlink(missing_ok=True)
            raise
        surplus = len(self.store.portraits(owner)) - self.settings.max_portraits
        # The newest is not yet in use, but its client is about to use it.
        for idle in self.store.idle_portraits(time.time(), owner)[:-1][: max(surplus, 0)]:
            self.delete(idle.id)
        return record

    def delete(self, portrait_id: str) -> None:
        """Delete a portrait from the disk, the database and the session's cache."""
        self.store.delete_portrait(portrait_id)
        self.folder.portrait(portrait_id).unlink(missing_ok=True)
        self.session.forget(portrait_id)

    def path_and_notes(self, portrait_id: str) -> tuple[Path, tuple[str, ...]]:
        """Return the file of a portrait and its notes; InputError if it was deleted."""
        path, record = self.folder.portrait(portrait_id), self.store.portrait(portrait_id)
        if record is None or not path.is_file():
            raise InputError("The portrait was deleted before the video was made. Send it again.")
        return path, record.notes

    def faces(self, record: PortraitRecord) -> tuple[FoundFace, ...]:
        """Return the faces in the picture of a portrait, from left to right; raises what the intake does."""
        path, _ = self.path_and_notes(record.id)
        size_px = record.width_px, record.height_px
        return self.intake.read("The picture", partial(reckon_stored, size_px), partial(faces_of, path))

    def picture(self, record: PortraitRecord) -> bytes:
        """Return the picture of a portrait as a JPEG; HTTPException 404 if it was deleted meanwhile."""
        try:
            with np.load(self.folder.portrait(record.id), allow_pickle=False) as arrays:
                image = arrays["image"]
        except FileNotFoundError:
            raise HTTPException(404, "The portrait was deleted. Send it again.") from None
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=90)
        return file.getvalue()

    def prepared(
        self, portrait_id: str, options: FrameOptions, clock: StageClock | None = None
    ) -> PreparedPortrait[Any]:
        """Return a portrait as the engine prepared it; InputError if deleted, or of an impossible size."""

        def load() -> Portrait:
            return stored_portrait(*self.path_and_notes(portrait_id))

        self.store.touch_portrait(portrait_id)
        return self.session.prepare(load, portrait_id, options, clock)
