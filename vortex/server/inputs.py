"""What videos are made of: read from requests, checked before any work starts; portraits are kept."""

from __future__ import annotations

import base64
import io
import json
import shutil
import sqlite3
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from fastapi import HTTPException
from PIL import Image
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request

from vortex.driving import Driver, open_driver
from vortex.errors import InputError
from vortex.face.landmarks import SKIN_LANDMARKS
from vortex.face.portrait import load_portrait
from vortex.media.audio import load_audio
from vortex.media.formats import HEAD_BYTES, PICTURES, SOUNDS, VIDEOS, Format, format_of
from vortex.media.picture import load_picture
from vortex.media.reading import VideoFile, iter_timed_frames, probe_video
from vortex.motion.template import TEMPLATES, load_template
from vortex.options import FrameOptions, PortraitOptions, SpeechOptions
from vortex.performance import StageClock
from vortex.render import PreparedPortrait
from vortex.runtime.files import whole_file
from vortex.server.errors import summary
from vortex.server.settings import ServerSettings
from vortex.server.store import DataFolder, PortraitRecord, Store, new_id
from vortex.session import Session
from vortex.speech.registry import list_voices
from vortex.types import Portrait

Model = TypeVar("Model", bound=BaseModel)

FILES = ("portrait", "speech", "driving")
"""Fields of a form that are files; in JSON their names end in ``_base64``."""

_ARRAYS = tuple(entry.name for entry in fields(Portrait) if entry.name not in ("notes", "close_up"))
_CLOSE_UP = "close_up."
"""Begins the names of the arrays of a portrait's close-up."""

_PICTURES, _SOUNDS, _VIDEOS = (
    tuple(known for known in formats if known.uploads) for formats in (PICTURES, (*SOUNDS, *VIDEOS), VIDEOS)
)
"""The formats that are taken from strangers."""


def is_clip(path: Path) -> bool:
    """Return whether a file that came as the portrait begins like a video."""
    with path.open("rb") as file:
        return format_of(file.read(HEAD_BYTES), _VIDEOS) is not None


def check_clip(path: Path, max_duration_s: float, max_pixels: int) -> None:
    """Refuse, with InputError, a clip that is damaged, too large or too long, as far as its header tells."""
    _check_video(probe_video(path), "clip", max_duration_s, max_pixels)
    next(iter_timed_frames(path))


def check_picture(path: Path) -> None:
    """Refuse what does not begin like a JPEG, PNG or WebP file, with status 415."""
    _check_start(path, _PICTURES, "portrait")


def check_sound(path: Path, max_duration_s: float) -> float:
    """Return the length of a sound in seconds.

    Refuse another format, with status 415, and with AudioError what is damaged, silent or too long.
    """
    _check_start(path, _SOUNDS, "speech")
    with warnings.catch_warnings():
        # A truncated file is accepted: the job warns when it decodes it again.
        warnings.simplefilter("ignore", UserWarning)
        return float(load_audio(path, max_duration_s=max_duration_s).duration_s)


def check_driving(path: Path, max_duration_s: float, max_pixels: int) -> Driver:
    """Return what drives. Refuse another format, with status 415, and what is damaged, too large or too long.

    InputError is raised for the latter.
    """
    _check_start(path, (*_VIDEOS, *_PICTURES, *TEMPLATES), "driving file")
    driver = open_driver(path)
    if driver.kind == "template":
        # A template takes milliseconds to read, a picture is decoded once more by the job.
        track = load_template(path)
        _check_length("motion template", len(track) / float(track.fps), max_duration_s)
    elif driver.kind == "picture":
        load_picture(path, max_pixels=max_pixels)
    elif driver.video is not None:
        _check_video(driver.video, "driving video", max_duration_s, max_pixels)
        next(iter_timed_frames(path))
    return driver


def _check_video(video: VideoFile, what: str, max_duration_s: float, max_pixels: int) -> None:
    width, height = video.size_px
    if width * height > max_pixels:
        raise InputError(f"The {what} is {width}x{height}; at most {max_pixels} pixels are read.")
    # A file may say what it likes of its length: the job measures it.
    if video.frames and video.fps:
        _check_length(what, (video.frames - 1) / float(video.fps), max_duration_s)


def _check_length(what: str, length_s: float, max_duration_s: float) -> None:
    if length_s > max_duration_s:
        raise InputError(f"The {what} lasts more than {max_duration_s:g} s. Cut it.")


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


async def read_request(request: Request, model: type[Model], folder: Path, max_bytes: int) -> Model:
    """Return the fields of a form or of JSON; files go to ``folder``. HTTPException 400, 413, 415 or 422."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    try:
        if kind == "multipart/form-data":
            return model.model_validate(await _read_form(request, folder, max_bytes))
        if kind == "application/json":
            return model.model_validate(await _read_json(request, folder, max_bytes))
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


async def _read_json(request: Request, folder: Path, max_bytes: int) -> Mapping[str, Any]:
    try:
        fields = json.loads(await request.body())
    except (ValueError, RecursionError) as exc:
        raise HTTPException(400, f"The body is not JSON ({exc}).") from exc
    if not isinstance(fields, dict):
        raise HTTPException(422, "The body is not a JSON object.")
    for name in FILES:
        text = fields.get(f"{name}_base64")
        if isinstance(text, str):
            await run_in_threadpool(_decode, text, folder / name, max_bytes)
            fields[f"{name}_base64"] = ""
    return fields


def _decode(text: str, path: Path, max_bytes: int) -> None:
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError as exc:
        raise HTTPException(422, f"{path.name}_base64 is not base64 ({exc}).") from exc
    _check_size(path.name, len(content), max_bytes)
    path.write_bytes(content)


def _check_size(name: str, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise HTTPException(413, f"The {name} is larger than {max_bytes} bytes. Send a smaller file.")


@dataclass(frozen=True, slots=True)
class PortraitCache:
    """Finds the faces of uploaded pictures and keeps the portraits on disk.

    At most ``max_portraits`` shared portraits stay; the least recently used is deleted. Safe in any thread.
    """

    store: Store
    folder: DataFolder
    session: Session
    settings: ServerSettings

    def add(self, picture: Path, options: PortraitOptions, *, shared: bool) -> PortraitRecord:
        """Find the face and keep it; raises what ``check_picture`` and ``load_portrait`` raise."""
        check_picture(picture)
        portrait = load_portrait(
            picture,
            max_pixels=self.settings.max_pixels,
            force_face=options.force_face,
            face=options.face,
        )
        portrait_id, now_s = new_id(), time.time()
        # Uncompressed, the largest one would take 11 MB, and its close-up as much.
        with whole_file(self.folder.portrait(portrait_id)) as part, part.open("wb") as file:
            np.savez_compressed(file, **_arrays(portrait))
        height_px, width_px = portrait.image.shape[:2]
        face = portrait.landmarks_px[:SKIN_LANDMARKS, :2]
        record = PortraitRecord(
            id=portrait_id,
            created_s=now_s,
            used_s=now_s,
            width_px=width_px,
            height_px=height_px,
            face_box_px=tuple(round(float(edge), 1) for edge in (*face.min(0), *face.max(0))),
            notes=portrait.notes,
            shared=shared,
        )
        try:
            self.store.add_portrait(record)
        except sqlite3.Error:
            self.folder.portrait(portrait_id).unlink(missing_ok=True)
            raise
        surplus = len(self.store.portraits()) - self.settings.max_portraits
        # The newest is not yet in use, but its client is about to use it.
        for idle in self.store.idle_portraits(time.time())[:-1][: max(surplus, 0)]:
            self.delete(idle.id)
        return record

    def delete(self, portrait_id: str) -> None:
        """Delete a portrait from the disk, the database and the session's cache."""
        self.store.delete_portrait(portrait_id)
        self.folder.portrait(portrait_id).unlink(missing_ok=True)
        self.session.forget(portrait_id)

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
            path, record = self.folder.portrait(portrait_id), self.store.portrait(portrait_id)
            if record is None or not path.is_file():
                raise InputError("The portrait was deleted before the video was made. Send it again.")
            with np.load(path, allow_pickle=False) as arrays:
                return _portrait(arrays, record.notes)

        self.store.touch_portrait(portrait_id)
        return self.session.prepare(load, portrait_id, options, clock)


def _arrays(portrait: Portrait, start: str = "") -> dict[str, Any]:
    """Return the arrays of a portrait and of its close-up, by names that begin with ``start``."""
    own = {start + name: getattr(portrait, name) for name in _ARRAYS}
    return own | (_arrays(portrait.close_up, _CLOSE_UP) if portrait.close_up else {})


def _portrait(arrays: Mapping[str, Any], notes: tuple[str, ...]) -> Portrait:
    """Return the portrait whose arrays :func:`_arrays` returned."""
    close_up = {name: arrays[_CLOSE_UP + name] for name in _ARRAYS if _CLOSE_UP + name in arrays}
    return Portrait(
        **{name: arrays[name] for name in _ARRAYS},
        notes=notes,
        close_up=Portrait(**close_up) if close_up else None,
    )
