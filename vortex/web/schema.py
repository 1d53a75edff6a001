"""What requests and answers look like; the OpenAPI description is made from these."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vortex.engines.base import ENGINES
from vortex.extras.speech import DEFAULT_VOICE, SPEED_RANGE
from vortex.motion.presets import PRESETS, parse_presets
from vortex.types import parse_fps
from vortex.web.store import STATES, Job, PortraitRecord

ID = "6f0c1f6a2b8d4e9f00aa11bb"
MAX_SEED = 2**31 - 1
MAX_TEXT_LENGTH = 5000
RTC_HZ = 48_000
"""Opus, the sound of WebRTC, knows no other rate."""


class Look(BaseModel):
    """How a face is to be shown."""

    model_config = ConfigDict(extra="forbid")

    preset: Annotated[str, Field(max_length=500, examples=["neutral", "neutral,excited@3.5"])] = "neutral"
    fps: Annotated[str, Field(max_length=20, examples=["24", "30000/1001"])] = "24"
    size_px: Annotated[int, Field(ge=128, le=2048, multiple_of=2)] = 512
    seed: Annotated[int | None, Field(ge=0, le=MAX_SEED, description="default: drawn by the server")] = None
    paste_back: Annotated[bool, Field(description="animate the face inside the whole picture")] = False

    @field_validator("fps", mode="before")
    @classmethod
    def _fps_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator("fps")
    @classmethod
    def _known_fps(cls, value: str) -> str:
        parse_fps(value)
        return value

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, value: str) -> str:
        parse_presets(value)
        return value


class VideoOptions(Look):
    """How a video is to look; the same options as those of ``vortex animate``."""

    duration_s: Annotated[float | None, Field(gt=0, description="default: that of the speech")] = None
    transcript: Annotated[str | None, Field(max_length=100_000, description="the English words spoken")] = (
        None
    )
    check: Annotated[bool, Field(description="measure the lip-sync of the result too")] = False
    text: Annotated[
        str | None, Field(max_length=MAX_TEXT_LENGTH, description="English to be spoken, instead of speech")
    ] = None
    voice: Annotated[str, Field(max_length=50, description="one of /v1/voices, for a text")] = DEFAULT_VOICE
    speed: Annotated[float, Field(ge=SPEED_RANGE[0], le=SPEED_RANGE[1], description="for a text")] = 1.0


class LiveOptions(Look):
    """How a live face is to look, and what it hears.

    ``pace`` "clock": the face lives on by the server's clock, and speech may come in bursts; "sound": frames
    follow the sound, as that of a microphone, which never ends.
    """

    portrait_id: Annotated[str, Field(pattern="^[0-9a-f]{24}$")]
    sample_rate_hz: Annotated[int, Field(ge=8_000, le=48_000)] = 24_000
    pace: Literal["clock", "sound"] = "clock"


class LiveOffer(LiveOptions):
    """What a client of WebRTC offers, and how the face is to look."""

    sdp: Annotated[str, Field(min_length=1, max_length=100_000, description="RFC 8866, of createOffer()")]
    type: Literal["offer"] = "offer"
    sample_rate_hz: Annotated[int, Field(ge=RTC_HZ, le=RTC_HZ)] = RTC_HZ


class LiveAnswer(BaseModel):
    """What the server answers, for setRemoteDescription()."""

    sdp: str
    type: Literal["answer"]


class VideoRequest(VideoOptions):
    """A video as JSON: a portrait by id or as base64, and a text, or speech as base64."""

    portrait_id: Annotated[str | None, Field(pattern="^[0-9a-f]{24}$", examples=[ID])] = None
    portrait_base64: Annotated[str | None, Field(json_schema_extra={"contentEncoding": "base64"})] = None
    speech_base64: Annotated[str | None, Field(json_schema_extra={"contentEncoding": "base64"})] = None


class PortraitRequest(BaseModel):
    """A portrait as JSON."""

    model_config = ConfigDict(extra="forbid")

    portrait_base64: Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]


class Problem(BaseModel):
    """What went wrong, in the form of RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class Progress(BaseModel):
    """Where a job is; ``eta_s`` is the time left in seconds, once it is known."""

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


class Video(BaseModel):
    """A job and its video. ``revision`` grows with every change."""

    id: Annotated[str, Field(examples=[ID])]
    state: Annotated[str, Field(json_schema_extra={"enum": list(STATES)})]
    revision: int
    ahead: Annotated[int, Field(description="queued jobs that start before this one")]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    portrait_id: Annotated[str | None, Field(description="null if the picture came with the job")]
    options: dict[str, Any]
    progress: Progress
    report: Annotated[dict[str, Any] | None, Field(description="as from vortex animate --json")]
    sync: Sync | None
    measuring: Annotated[bool, Field(description="the video is there, its sync is still being measured")]
    error: Failure | None
    video_url: str | None
    events_url: str


class VideoPage(BaseModel):
    """Some jobs, the newest first; ``next`` is the ``cursor`` of the page that follows."""

    videos: list[Video]
    next: str | None


class PortraitView(BaseModel):
    """A face that was found. The box is in pixels of the upright picture, which measures width by height."""

    id: Annotated[str, Field(examples=[ID])]
    created_at: datetime
    width_px: int
    height_px: int
    face_box_px: Annotated[list[float], Field(min_length=4, max_length=4, description="x0, y0, x1, y1")]
    notes: list[str]


class PortraitList(BaseModel):
    """All portraits, the one used last first."""

    portraits: list[PortraitView]


class Health(BaseModel):
    """Whether the server takes jobs."""

    status: Annotated[str, Field(json_schema_extra={"enum": ["ok", "stopping"]})]
    version: str
    engine: Annotated[str, Field(json_schema_extra={"enum": list(ENGINES)})]


class Limits(BaseModel):
    """What the server allows, for clients to tell before they send."""

    presets: list[str] = list(PRESETS)
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
    """All voices; if there is none, why."""

    voices: list[VoiceView]
    why_not: str | None


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)


def view_video(job: Job, ahead: int) -> Video:
    """Return a job as clients see it."""
    return Video(
        id=job.id,
        state=job.state,
        revision=job.revision,
        ahead=ahead,
        created_at=datetime.fromtimestamp(job.created_s, timezone.utc),
        started_at=_time(job.started_s),
        finished_at=_time(job.finished_s),
        expires_at=_time(job.expires_s),
        portrait_id=None if job.owns_portrait else job.portrait_id,
        options=dict(job.options),
        progress=Progress(stage=job.stage, completed=job.completed, total=job.total, eta_s=job.eta_s),
        report=None if job.report is None else dict(job.report),
        sync=None if job.sync is None else Sync(**job.sync),
        measuring=job.measuring,
        error=None if job.error is None else Failure(**job.error),
        video_url=f"/v1/videos/{job.id}/video.mp4" if job.state == "done" else None,
        events_url=f"/v1/videos/{job.id}/events",
    )


def view_portrait(record: PortraitRecord) -> PortraitView:
    """Return a portrait as clients see it."""
    return PortraitView(
        id=record.id,
        created_at=datetime.fromtimestamp(record.created_s, timezone.utc),
        width_px=record.width_px,
        height_px=record.height_px,
        face_box_px=list(record.face_box_px),
        notes=list(record.notes),
    )
