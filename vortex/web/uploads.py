"""Uploads: taken from multipart or JSON, told apart by their first bytes, and checked."""

from __future__ import annotations

import base64
import binascii
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from fastapi import HTTPException
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request

from vortex.audio import load_audio
from vortex.errors import InputError

Model = TypeVar("Model", bound=BaseModel)

MAX_FIELDS = 20
MAX_FIELD_BYTES = 200_000

# Only these formats reach a decoder: others, such as playlists that name further files, do harm on a server.
_PICTURES = ((0, b"\xff\xd8\xff"), (0, b"\x89PNG\r\n\x1a\n"), (8, b"WEBP"))
_SOUNDS = (
    (8, b"WAVE"), (0, b"fLaC"), (0, b"OggS"), (0, b"ID3"), (4, b"ftyp"), (0, b"\x1aE\xdf\xa3"), (8, b"AIFF"),
    *((0, bytes([0xFF, second])) for second in (0xFB, 0xFA, 0xF3, 0xF2, 0xE3, 0xE2, 0xF1, 0xF9)),
)  # fmt: skip


def check_picture(path: Path) -> None:
    """Refuse what does not begin like a JPEG, PNG or WebP file, with status 415."""
    _check_start(path, _PICTURES, "The portrait is not a JPEG, PNG or WebP file.")


def check_sound(path: Path, max_duration_s: float) -> None:
    """Refuse what is not speech: status 415 for other formats, 422 if it is damaged, silent or too long."""
    _check_start(path, _SOUNDS, "The speech is not a WAV, FLAC, MP3, AAC, M4A, OGG, WebM, AIFF or MP4 file.")
    with as_http_error(path, "speech"), warnings.catch_warnings():
        # damage at the end is no reason to refuse; the job's own decoding meets it again
        warnings.simplefilter("ignore", UserWarning)
        load_audio(path, max_duration_s=max_duration_s)


def _check_start(path: Path, known: tuple[tuple[int, bytes], ...], complaint: str) -> None:
    with path.open("rb") as file:
        head = file.read(16)
    if not any(head[at : at + len(start)] == start for at, start in known):
        raise HTTPException(415, complaint)


@contextmanager
def as_http_error(path: Path, name: str) -> Iterator[None]:
    """Turn an InputError into status 422; the message names the field, not a path of the server."""
    try:
        yield
    except InputError as exc:
        raise HTTPException(422, str(exc).replace(f"'{path}'", name).replace(f"'{path.name}'", name)) from exc


async def read_request(request: Request, model: type[Model], folder: Path, max_bytes: int) -> Model:
    """Return the fields of a multipart or JSON request; its files are in ``folder``, named by their field.

    ``portrait`` and ``speech`` of a form, ``portrait_base64`` and ``speech_base64`` of JSON become files.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        fields = await _read_form(request, folder, max_bytes)
    elif kind == "application/json":
        fields = await _read_json(request, folder, max_bytes)
    else:
        raise HTTPException(415, f"Content-Type is {kind!r}; send multipart/form-data or application/json.")
    try:
        return model.model_validate(fields)
    except ValidationError as exc:
        raise HTTPException(422, summary(exc)) from exc


async def _read_form(request: Request, folder: Path, max_bytes: int) -> Mapping[str, Any]:
    fields: dict[str, Any] = {}
    async with request.form(max_files=2, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES) as form:
        for name, value in form.multi_items():
            if name in fields:
                raise HTTPException(422, f"The field {name!r} is there twice; send it once.")
            if not isinstance(value, UploadFile):
                fields[name] = value
            elif name in ("portrait", "speech"):
                await run_in_threadpool(_keep, value, folder / name, name, max_bytes)
                # the model knows files by the names they have in JSON
                fields[f"{name}_base64"] = ""
            else:
                raise HTTPException(422, f"The file {name!r} is not expected; send 'portrait' and 'speech'.")
    return fields


def _keep(upload: UploadFile, path: Path, name: str, max_bytes: int) -> None:
    left = max_bytes
    with path.open("wb") as file:
        while chunk := upload.file.read(1 << 20):
            left -= len(chunk)
            if left < 0:
                raise HTTPException(413, f"The {name} is larger than {max_bytes} bytes. Send a smaller file.")
            file.write(chunk)


async def _read_json(request: Request, folder: Path, max_bytes: int) -> Mapping[str, Any]:
    try:
        fields = json.loads(await request.body())
    except (ValueError, RecursionError) as exc:
        raise HTTPException(400, f"The body is not JSON ({exc}).") from exc
    if not isinstance(fields, dict):
        raise HTTPException(422, "The body is not a JSON object.")
    for name in ("portrait", "speech"):
        text = fields.get(f"{name}_base64")
        if isinstance(text, str):
            await run_in_threadpool(_decode, text, folder / name, name, max_bytes)
            fields[f"{name}_base64"] = ""
    return fields


def _decode(text: str, path: Path, name: str, max_bytes: int) -> None:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise HTTPException(422, f"{name}_base64 is not base64 ({exc}).") from exc
    if len(content) > max_bytes:
        raise HTTPException(413, f"The {name} is larger than {max_bytes} bytes. Send a smaller file.")
    path.write_bytes(content)


def summary(error: ValidationError) -> str:
    """Return the first complaints about a request in one line."""
    found = []
    for item in error.errors(include_url=False)[:3]:
        where = ".".join(str(part) for part in item["loc"])
        found.append(f"{where}: {item['msg']}" if where else str(item["msg"]))
    return "; ".join(found)
