"""What the server is and allows: health, readiness, limits, voices and metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from vortex.server.context import Context
from vortex.server.schema import MAX_TEXT_LENGTH, Health, Limits, Readiness, VoiceList
from vortex.speech.registry import list_voices
from vortex.version import __version__

router = APIRouter(tags=["service"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", responses={503: {"model": Health}})
async def health(context: Context, response: Response) -> Health:
    """Return whether the server runs; needs no key."""
    # Asynchronous, because a thread for it may be hard to get while many uploads are read.
    stopping = context.stopping.is_set()
    response.status_code = 503 if stopping else 200
    status = "stopping" if stopping else "ok"
    return Health(status=status, version=__version__, engine=context.engine_spec.name)


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={503: {"model": Readiness}})
def readiness(context: Context, response: Response) -> Readiness:
    """Return whether new videos can be made: workers, database and disk; needs no key."""
    problems = context.problems()
    response.status_code = 503 if problems else 200
    return Readiness(status="not ready" if problems else "ready", problems=problems)


@router.get("/v1/limits")
def limits(context: Context) -> Limits:
    """Return what is allowed and offered."""
    settings = context.settings
    return Limits(
        engine=context.engine_spec.name,
        qualities=list(context.engine_spec.qualities),
        max_upload_bytes=settings.max_upload_bytes,
        max_pixels=settings.max_pixels,
        max_duration_s=settings.max_duration_s,
        max_text_length=MAX_TEXT_LENGTH,
    )


@router.get("/v1/voices", response_model=VoiceList)
def voices(context: Context) -> dict[str, Any]:
    """Return the voices that can speak a text."""
    return {"voices": [] if context.why_no_speech else list_voices(), "why_not": context.why_no_speech}


@router.get("/metrics", response_class=Response)
def metrics(context: Context) -> Response:
    """Return the figures for Prometheus."""
    return Response(context.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
