"""``/v1/live``: a websocket that takes sound and sends the frames of a face.

To the server: binary messages of 16-bit little-endian mono samples, and commands as JSON texts. To the
client: a JSON text "ready", a binary message for each frame, as :func:`pack` makes it, and a JSON text "end".
"""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from typing import Any

import numpy as np
from fastapi import APIRouter, WebSocket, WebSocketDisconnect, WebSocketException
from PIL import Image
from pydantic import ValidationError
from websockets.frames import CloseCode

from vortex.errors import MissingExtraError
from vortex.extras import why_not_installed
from vortex.live import LiveFrame
from vortex.server.context import Context, Owner
from vortex.server.errors import problems, summary
from vortex.server.live import open_session, reserve_place
from vortex.server.schema import LiveAnswer, LiveOffer, LiveRequest

PROTOCOL = "vortex.v1"
JPEG_QUALITY = 85

router = APIRouter()


def pack(frame: LiveFrame) -> bytes:
    """Return, little-endian, uint32 index and length of the sound, the sound as 16-bit mono, and a JPEG."""
    # The inverse of how samples are read: 16 bits that a client sent come back unchanged.
    sound = np.clip(np.round(frame.samples * 32768), -32768, 32767).astype("<i2").tobytes()
    picture = io.BytesIO()
    Image.fromarray(frame.image).save(picture, "JPEG", quality=JPEG_QUALITY)
    return struct.pack("<II", frame.index, len(sound)) + sound + picture.getvalue()


@router.websocket("/v1/live")
async def live(context: Context, owner: Owner, websocket: WebSocket) -> None:
    """Serve one live face; the query has the fields of :class:`vortex.server.schema.LiveRequest`."""
    offered = websocket.scope.get("subprotocols", [])
    await websocket.accept(PROTOCOL if PROTOCOL in offered else None)
    code, reason = int(CloseCode.NORMAL_CLOSURE), ""
    try:
        with reserve_place(context):
            request = LiveRequest.model_validate(dict(websocket.query_params))
            session = await open_session(context, _WebSocketTransport(websocket), request, owner)
            await session.run()
    except ValidationError as exc:
        code, reason = CloseCode.POLICY_VIOLATION, summary(exc)
    except WebSocketException as exc:
        code, reason = exc.code, exc.reason
    except WebSocketDisconnect:
        return
    # The client may have closed the connection a moment ago.
    with suppress(RuntimeError, WebSocketDisconnect):
        # RFC 6455 leaves 123 bytes for the reason.
        await websocket.close(code, reason.encode()[:123].decode(errors="ignore"))


@router.post("/v1/live/offer", tags=["live"], responses=problems(400, 408, 413, 422, 501, 503))
async def offer_live(context: Context, owner: Owner, offer: LiveOffer) -> LiveAnswer:
    """Answer an offer of WebRTC: the same over a data channel, a video and a sound track."""
    try:
        from vortex.server.webrtc import answer_offer
    except ImportError as exc:
        raise MissingExtraError(f"The server cannot speak WebRTC: {why_not_installed('webrtc')}") from exc
    answer = await answer_offer(context, offer, owner)
    return LiveAnswer(sdp=answer.sdp, type="answer")


class _WebSocketTransport:
    """The :class:`vortex.server.live.Transport` over a websocket."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def receive(self) -> bytes | str:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        sound: bytes | None = message.get("bytes")
        return sound if sound is not None else str(message.get("text") or "")

    async def send_event(self, event: dict[str, Any]) -> None:
        await self._websocket.send_json(event)

    def encode(self, frame: LiveFrame) -> bytes:
        return pack(frame)

    async def send_frame(self, encoded: bytes) -> None:
        await self._websocket.send_bytes(encoded)
