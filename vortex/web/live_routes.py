"""``/v1/live``: a websocket into which somebody speaks, and out of which a face comes.

To the server: binary messages of 16-bit little-endian mono samples, and orders as JSON texts. To the client:
a JSON text "ready", one binary message for each frame, as :func:`pack` lays it out, and a JSON text "end".
"""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from typing import Any

import numpy as np
from fastapi import APIRouter, HTTPException, WebSocket, WebSocketDisconnect
from PIL import Image
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from vortex.extras.installed import why_not_installed
from vortex.live import LiveFrame
from vortex.web.live_session import (
    NORMAL,
    POLICY_VIOLATION,
    HungUpError,
    RefusedError,
    open_session,
    take_seat,
)
from vortex.web.schema import LiveAnswer, LiveOffer, LiveOptions
from vortex.web.uploads import summary
from vortex.web.video_routes import problems, server_of

PROTOCOL = "vortex.v1"
JPEG_QUALITY = 85
_HEAD = struct.Struct("<II")

router = APIRouter()


def pack(frame: LiveFrame) -> bytes:
    """Return a frame as bytes: index and length of the sound, both uint32, the sound, and a JPEG picture.

    The sound is 16-bit mono; all numbers are little-endian.
    """
    # sound that came as 16 bits goes as the same 16 bits
    sound = np.clip(np.round(frame.samples * 32768), -32768, 32767).astype("<i2").tobytes()
    picture = io.BytesIO()
    Image.fromarray(frame.image).save(picture, "JPEG", quality=JPEG_QUALITY)
    return _HEAD.pack(frame.index, len(sound)) + sound + picture.getvalue()


@router.websocket("/v1/live")
async def live(websocket: WebSocket) -> None:
    """Serve one live face; the options are those of :class:`vortex.web.schema.LiveOptions`, as a query."""
    server = websocket.app.state.server
    offered = websocket.scope.get("subprotocols", [])
    await websocket.accept(PROTOCOL if PROTOCOL in offered else None)
    try:
        with take_seat(server):
            options = _read_options(websocket)
            session = await open_session(server, _WebSocketLine(websocket), options)
            await session.run()
        await _close(websocket, NORMAL, "")
    except RefusedError as exc:
        await _close(websocket, exc.code, str(exc))
    except (HungUpError, WebSocketDisconnect):
        pass


@router.post("/v1/live/offer", tags=["live"], responses=problems(400, 408, 413, 422, 501, 503))
async def offer_live(request: Request, offer: LiveOffer) -> LiveAnswer:
    """Answer an offer of WebRTC: the same over a data channel, a video and a sound track."""
    try:
        from vortex.web.webrtc import answer_offer
    except ImportError as exc:
        raise HTTPException(501, f"The server cannot speak WebRTC: {why_not_installed('webrtc')}") from exc
    try:
        answer = await answer_offer(server_of(request), offer)
    except ValueError as exc:
        raise HTTPException(422, f"sdp: it cannot be answered ({exc}).") from exc
    except RefusedError as exc:
        status = 422 if exc.code == POLICY_VIOLATION else 503
        raise HTTPException(status, str(exc), None if status == 422 else {"Retry-After": "10"}) from exc
    return LiveAnswer(sdp=answer.sdp, type="answer")


def _read_options(websocket: WebSocket) -> LiveOptions:
    try:
        return LiveOptions.model_validate(dict(websocket.query_params))
    except ValidationError as exc:
        raise RefusedError(POLICY_VIOLATION, summary(exc)) from exc


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    """Say goodbye, to a client that may have gone a moment ago."""
    with suppress(RuntimeError, WebSocketDisconnect):
        # a reason has room for 123 bytes
        await websocket.close(code, reason.encode()[:123].decode(errors="ignore"))


class _WebSocketLine:
    """The line of :class:`vortex.web.live_session.Line` that a websocket is."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def receive(self) -> bytes | str:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise HungUpError
        sound: bytes | None = message.get("bytes")
        return sound if sound is not None else str(message.get("text") or "")

    async def tell(self, news: dict[str, Any]) -> None:
        await self._websocket.send_json(news)

    async def show(self, frame: LiveFrame) -> None:
        await self._websocket.send_bytes(await run_in_threadpool(pack, frame))
