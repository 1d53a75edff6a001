"""``/v1/sounds``: whether a video can be made of a sound, before anybody waits for one."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request

from vortex.server.context import Context
from vortex.server.errors import problems
from vortex.server.inputs import check_sound, form_or_json, read_request
from vortex.server.schema import SoundRequest, SoundView

router = APIRouter(prefix="/v1/sounds", tags=["videos"])


@router.post(
    "/check",
    openapi_extra=form_or_json(SoundRequest, {"speech_base64": "UklGR..."}),
    responses=problems(400, 408, 413, 415, 422, 503),
)
async def check_speech(context: Context, request: Request) -> SoundView:
    """Refuse a sound as ``POST /v1/videos`` does: of another format, damaged, silent or too long."""
    context.check_running()
    with context.folder.incoming() as folder:
        await read_request(request, SoundRequest, folder, context.intake)
        sound, most_s = folder / "speech", context.settings.max_duration_s
        duration_s = await context.intake.run(check_sound, context.intake, sound, most_s)
    return SoundView(duration_s=duration_s)
