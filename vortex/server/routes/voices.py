"""``/v1/voices/.../sample.wav`` and ``/v1/preview``: hear a voice, or the first sentence of a text."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from pydantic import Field
from starlette.responses import Response

from vortex.errors import MissingExtraError
from vortex.options import SayOptions, SpeechOptions
from vortex.runtime.memory import BoundedCache
from vortex.server.context import Context, ServerContext
from vortex.server.decoding import reckon_text, speak_wav
from vortex.server.errors import problems
from vortex.server.inputs import check_text
from vortex.server.schema import MAX_TEXT_LENGTH, RequestModel, with_options
from vortex.speech.base import SAMPLE_TEXT
from vortex.speech.registry import list_voices

router = APIRouter(tags=["voices"])

_WAV: dict[int | str, dict[str, Any]] = {200: {"content": {"audio/wav": {}}}}
SAMPLE_MAX_AGE_S = 86_400
MAX_PREVIEW_S = 30.0
"""More seconds than a preview lasts, to reckon its memory."""
_SAMPLES: BoundedCache[str, bytes] = BoundedCache(64)
"""Voice -> its sample as a WAV file."""


@with_options(SpeechOptions)
class PreviewRequest(RequestModel):
    """A text of which the first sentence is spoken, and how."""

    text: Annotated[str, Field(max_length=MAX_TEXT_LENGTH, description="English")]


@router.get("/v1/voices/{name}/sample.wav", response_class=Response, responses={**_WAV, **problems(404, 501)})
def sample(context: Context, name: str) -> Response:
    """Return a sentence or two in a voice; it is spoken once and kept in memory."""
    _check_speech(context)
    if name not in [voice.name for voice in list_voices()]:
        raise HTTPException(404, "There is no voice with that name; GET /v1/voices lists them.")
    content = _SAMPLES.get(name, lambda: _wav(context, SAMPLE_TEXT, SayOptions(voice=name)))
    headers = {"Cache-Control": f"private, max-age={SAMPLE_MAX_AGE_S}"}
    return Response(content, media_type="audio/wav", headers=headers)


@router.post(
    "/v1/preview", response_class=Response, responses={**_WAV, **problems(400, 408, 413, 415, 422, 501)}
)
def preview(context: Context, wanted: PreviewRequest) -> Response:
    """Return the beginning of a text as a sound, at most its first sentence, without waiting for a job."""
    _check_speech(context)
    options = wanted.options(SpeechOptions)
    check_text(wanted.text, options)
    first = SayOptions.parse(**options.as_json(), preview=True)
    return Response(_wav(context, wanted.text, first), media_type="audio/wav")


def _check_speech(context: ServerContext) -> None:
    if context.why_no_speech:
        raise MissingExtraError(f"The server cannot speak: {context.why_no_speech}")


def _wav(context: ServerContext, text: str, options: SayOptions) -> bytes:
    """Return a spoken text as a WAV file; it is spoken in a process, so that it stalls no live face."""
    reckon = partial(reckon_text, MAX_PREVIEW_S)
    return context.intake.read("The text", reckon, partial(speak_wav, text, options))
