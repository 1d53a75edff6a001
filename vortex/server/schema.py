"""The requests and answers of the server; the OpenAPI description is made from these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, create_model
from pydantic_core import PydanticCustomError

from vortex.engines.registry import engine_specs
from vortex.errors import InputError
from vortex.media.containers import CONTAINERS, DEFAULT_CONTAINER
from vortex.motion.presets import PRESETS
from vortex.options import (
    LiveOptions,
    OptionGroup,
    Options,
    PortraitOptions,
    VideoOptions,
    default_of,
    options_of,
)
from vortex.server.store import STATES, Job

ID_EXAMPLE = "6f0c1f6a2b8d4e9f00aa11bb"
MAX_TEXT_LENGTH = 5000
RTC_HZ = 48_000
"""Sample rate of Opus, the only one that the sound of WebRTC has here."""
_JSON_TYPES = {"text": "string", "whole": "integer", "number": "number", "flag": "boolean"}

Id = Annotated[str, Field(pattern="^[0-9a-f]{24}$", examples=[ID_EXAMPLE])]
Base64 = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]


class RequestModel(BaseModel):
    """Base of requests: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", validate_default=True)

    def options(self, group: type[Options]) -> Options:
        """Return the options of a group; :func:`with_options` made the fields."""
        return group(**{name: getattr(self, name) for name in options_of(group)})


Model = TypeVar("Model", bound=RequestModel)


def with_options(group: type[OptionGroup]) -> Callable[[type[Model]], type[Model]]:
    """Return a class decorator that adds a field for each option of a group that the model does not have.

    A field holds the exact value that its option parses; a value is refused with the message of the option.
    """

    def decorate(model: type[Model]) -> type[Model]:
        made: dict[str, Any] = {name: _option_field(group, name) for name in options_of(group)}
        return create_model(
            model.__name__, __base__=model, __module__=model.__module__, __doc__=model.__doc__, **made
        )

    return decorate


def _option_field(group: type[OptionGroup], name: str) -> tuple[Any, Any]:
    """Return the type and the default of the pydantic field of an option."""
    exact = next(entry.default for entry in fields(group) if entry.name == name)
    option, numbers = options_of(group)[name], isinstance(exact, Fraction)

    def parse(value: Any) -> Any:
        if numbers and isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if value is None and exact is None:
            return None
        try:
            if value is None:
                raise InputError(f"{name} is null; leave it out, or give a value.")
            if option.kind == "text" and not isinstance(value, str):
                raise InputError(f"{name} is {str(value)[:40]}; give a text.")
            return getattr(group.parse(**{name: value}), name)
        except InputError as exc:
            raise PydanticCustomError("option", "{reason}", {"reason": str(exc)}) from exc

    limits = {
        "minimum": option.minimum,
        "maximum": option.maximum,
        "multipleOf": option.multiple_of,
        "maxLength": option.max_length,
    }
    given = {key: value for key, value in limits.items() if value is not None}
    kinds: list[dict[str, Any]] = [{"type": _JSON_TYPES[option.kind], **given}]
    kinds += [{"type": "number"}] if numbers else []
    kinds += [{"type": "null"}] if exact is None else []
    schema = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    shown = {"description": option.help} | ({"examples": list(option.examples)} if option.examples else {})
    # The default is written as JSON, so that the description can show it, and parsed when it is used.
    return Annotated[Any, PlainValidator(parse), WithJsonSchema(schema | shown)], default_of(group, name)


@with_options(VideoOptions)
class VideoRequest(RequestModel):
    """A video as JSON: a portrait by id or as base64; speech, a text or a driving video; and the options."""

    portrait_id: Id | None = None
    portrait_base64: Annotated[
        Base64 | None,
        Field(description="a picture, or a video of a person, who gets other words: all but the mouth stays"),
    ] = None
    speech_base64: Base64 | None = None
    driving_base64: Annotated[
        Base64 | None,
        Field(
            description="a video, a picture or a motion template whose face moves the portrait, instead of "
            "speech; fps is then that of it"
        ),
    ] = None
    text: Annotated[
        str | None, Field(max_length=MAX_TEXT_LENGTH, description="English to be spoken, instead of speech")
    ] = None
    name: Annotated[
        str | None,
        Field(max_length=200, description="what lists and downloads call the video", examples=["Greeting"]),
    ] = None
    webhook_url: Annotated[
        str | None,
        Field(
            max_length=2000,
            pattern="^https?://",
            description="told when the video is done, failed or cancelled",
            examples=["https://example.org/hook"],
        ),
    ] = None
    background_picture_base64: Annotated[
        Base64 | None, Field(description="a picture behind the person, instead of background")
    ] = None
    format: Annotated[
        str,
        Field(
            description="of the file; a ZIP has PNG pictures and the sound as WAV",
            json_schema_extra={"enum": [container.suffix[1:] for container in CONTAINERS]},
            pattern=f"^({'|'.join(container.suffix[1:] for container in CONTAINERS)})$",
        ),
    ] = DEFAULT_CONTAINER.suffix[1:]
    check: Annotated[bool, Field(description="measure the lip-sync of the result")] = False


@with_options(LiveOptions)
class LiveRequest(RequestModel):
    """How a live face looks, and what its frames follow.

    ``pace`` "clock": frames follow the server's clock, and speech may come in bursts; "sound": frames follow
    the sound, such as that of a microphone, which never ends.
    """

    portrait_id: Id
    pace: Literal["clock", "sound"] = "clock"


class LiveOffer(LiveRequest):
    """The offer of a WebRTC client, and how the face looks."""

    sdp: Annotated[str, Field(min_length=1, max_length=100_000, description="RFC 8866, of createOffer()")]
    type: Literal["offer"] = "offer"
    sample_rate_hz: Annotated[int, Field(ge=RTC_HZ, le=RTC_HZ)] = RTC_HZ


class LiveAnswer(BaseModel):
    """The server's answer, for setRemoteDescription()."""

    sdp: str
    type: Literal["answer"]


@with_options(PortraitOptions)
class PortraitRequest(RequestModel):
    """A portrait as JSON."""

    portrait_base64: Base64


class Progress(BaseModel):
    """How far a job is; ``eta_s`` is the time left in seconds, once it is known."""

    stage: str | None
    completed: int
    total: int
    eta_s: float | None


class Failure(BaseModel):
    """Why a job failed: the name of the error in Python, and its message."""

    type: str
    message: str


class Sync(BaseModel):
    """The lip-sync measured on the finished video; see ``vortex check``."""

    offset_ms: float
    offset_frames: float
    correlation: float
    closures_found_s: list[float]
    closures_missed_s: list[float]
    still_in_silence: float | None
    face_share: float
    complaints: list[str]
    verdict: Literal["good", "doubtful", "bad"] | None = None


class Video(BaseModel):
    """A job and its video. ``revision`` grows with every change."""

    id: Annotated[str, Field(examples=[ID_EXAMPLE])]
    state: Annotated[str, Field(json_schema_extra={"enum": list(STATES)})]
    revision: int
    ahead: Annotated[int, Field(description="queued jobs that start before this one")]
    created_at: Annotated[datetime, Field(validation_alias="created_s")]
    started_at: Annotated[datetime | None, Field(validation_alias="started_s")]
    finished_at: Annotated[datetime | None, Field(validation_alias="finished_s")]
    expires_at: Annotated[datetime | None, Field(validation_alias="expires_s")]
    portrait_id: Annotated[str | None, Field(description="null if the picture or the clip came with the job")]
    options: dict[str, Any]
    progress: Progress
    report: Annotated[
        dict[str, Any] | None, Field(description="the report of the command line, without the path")
    ]
    sync: Sync | None
    measuring: Annotated[bool, Field(description="the video is finished, its lip-sync is being measured")]
    error: Failure | None
    video_url: str | None
    captions_urls: Annotated[list[str], Field(description="the caption files that the job asked for")]
    events_url: str

    @classmethod
    def of(cls, job: Job, ahead: int) -> Video:
        """Return a job as clients see it."""
        own = {
            "ahead": ahead,
            "portrait_id": None if job.owns_portrait else job.portrait_id or None,
            "progress": vars(job),
            "video_url": f"/v1/videos/{job.id}/video.{job.format}" if job.state == "done" else None,
            "captions_urls": [
                f"/v1/videos/{job.id}/captions{Path(name).suffix}"
                for name in (job.report or {}).get("captions", ())
            ],
            "events_url": f"/v1/videos/{job.id}/events",
        }
        return cls.model_validate(vars(job) | own)


class VideoPage(BaseModel):
    """Some jobs, the newest first; ``next`` is the ``cursor`` of the next page."""

    videos: list[Video]
    next: str | None


class PortraitView(BaseModel):
    """A face that was found; ``face_box_px`` is in pixels of the upright picture of width by height."""

    id: Annotated[str, Field(examples=[ID_EXAMPLE])]
    created_at: Annotated[datetime, Field(validation_alias="created_s")]
    width_px: int
    height_px: int
    face_box_px: Annotated[list[float], Field(min_length=4, max_length=4, description="x0, y0, x1, y1")]
    notes: list[str]


class SoundRequest(RequestModel):
    """A sound to be checked, as JSON."""

    speech_base64: Base64


class SoundView(BaseModel):
    """A sound that videos can be made of."""

    duration_s: float


class PhoneCode(BaseModel):
    """How a phone in the same network opens the page; ``image`` is a data URI of its QR code."""

    address: str
    image: str


class FaceView(BaseModel):
    """One of the faces in a picture; ``number`` is what the field ``face`` takes, from left to right."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    box_px: Annotated[list[float], Field(min_length=4, max_length=4, description="x0, y0, x1, y1")]
    largest: Annotated[bool, Field(description="whether it is taken without the field face")]
    problem: Annotated[str, Field(description="why it cannot be animated; empty if it can")]


class FaceList(BaseModel):
    """All faces in a picture, from left to right."""

    faces: list[FaceView]


class PortraitList(BaseModel):
    """All portraits, the most recently used first."""

    portraits: list[PortraitView]


class Health(BaseModel):
    """Whether the server takes jobs."""

    status: Annotated[str, Field(json_schema_extra={"enum": ["ok", "stopping"]})]
    version: str
    engine: Annotated[str, Field(json_schema_extra={"enum": list(engine_specs())})]


class Readiness(BaseModel):
    """Whether new videos can be made now, and if not, why."""

    status: Annotated[str, Field(json_schema_extra={"enum": ["ready", "not ready"]})]
    problems: list[str]


class Limits(BaseModel):
    """What the server allows and offers, so that clients know it before they send."""

    presets: list[str] = list(PRESETS)
    engine: str
    qualities: list[str]
    max_upload_bytes: int
    max_pixels: int
    max_duration_s: float
    max_text_length: int


class VoiceView(BaseModel):
    """A voice that can speak a text."""

    name: str
    language: str
    gender: str


class VoiceList(BaseModel):
    """All voices; ``why_not`` says why there is none."""

    voices: list[VoiceView]
    why_not: str | None
