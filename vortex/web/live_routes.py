"""``/v1/live``: a websocket into which somebody speaks, and out of which a face comes.

To the server: binary messages of 16-bit little-endian mono samples, and orders as JSON texts. To the client:
a JSON text "ready", one binary message for each frame, as :func:`pack` lays it out, and a JSON text "end".
"""

from __future__ import annotations

import asyncio
import io
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from PIL import Image
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from vortex.errors import InputError
from vortex.lipsync.stream import STEP_FRAMES
from vortex.live import LiveFace, LiveFrame, LiveTalk
from vortex.web.schema import LiveOptions
from vortex.web.uploads import summary

if TYPE_CHECKING:
    from vortex.web.app import Server

F32 = npt.NDArray[np.float32]

PROTOCOL = "vortex.v1"
JPEG_QUALITY = 85
MAX_LAG_S = 3.0
"""A face that falls this far behind the clock is given up."""
SEND_TIMEOUT_S = 10.0
POLICY_VIOLATION, TOO_BIG, GOING_AWAY, NORMAL, TRY_AGAIN = 1008, 1009, 1001, 1000, 1013
_HEAD = struct.Struct("<II")

router = APIRouter()


class _RefusedError(Exception):
    """Ends a session with a code of RFC 6455 and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


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
    server: Server = websocket.app.state.server
    offered = websocket.scope.get("subprotocols", [])
    await websocket.accept(PROTOCOL if PROTOCOL in offered else None)
    try:
        with _seat(server):
            session = await _open(server, websocket)
            await session.run()
        await websocket.close(NORMAL)
    except _RefusedError as exc:
        # a reason has room for 123 bytes
        await websocket.close(exc.code, str(exc).encode()[:123].decode(errors="ignore"))
    except (WebSocketDisconnect, asyncio.TimeoutError):
        pass  # nobody is there any more


@contextmanager
def _seat(server: Server) -> Iterator[None]:
    """Take one of the places for live faces."""
    if server.stopping.is_set():
        raise _RefusedError(GOING_AWAY, "The server is stopping.")
    if not server.live_seats.acquire(blocking=False):
        raise _RefusedError(
            TRY_AGAIN, f"All {server.settings.max_live} live faces are taken. Try again later."
        )
    server.metrics.live.inc()
    try:
        yield
    finally:
        server.metrics.live.dec()
        server.live_seats.release()


async def _open(server: Server, websocket: WebSocket) -> _Session:
    try:
        options = LiveOptions.model_validate(dict(websocket.query_params))
    except ValidationError as exc:
        raise _RefusedError(POLICY_VIOLATION, summary(exc)) from exc
    record = server.store.portrait(options.portrait_id)
    if record is None or not record.shared:
        raise _RefusedError(POLICY_VIOLATION, "There is no portrait with that id. Send the picture again.")
    face = await run_in_threadpool(_prepare, server, options)
    return _Session(server, websocket, options, face)


def _prepare(server: Server, options: LiveOptions) -> LiveFace:
    prepared = server.shelf.prepared(
        options.portrait_id, size_px=options.size_px, paste_back=options.paste_back
    )
    return LiveFace(
        server.engine, prepared, fps=options.fps, preset=options.preset, seed=options.seed,
        sample_rate_hz=options.sample_rate_hz,
    )  # fmt: skip


class _Session:
    """One face and the one who speaks through it."""

    def __init__(self, server: Server, websocket: WebSocket, options: LiveOptions, face: LiveFace) -> None:
        self._server, self._websocket, self._options, self._face = server, websocket, options, face
        self._talk = LiveTalk(face)
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue(maxsize=64)
        self._ended = False
        self._frames = 0

    async def run(self) -> None:
        """Serve until the client ends the sound or goes away.

        Raises:
            WebSocketDisconnect, _RefusedError: the session ends before that.
        """
        ready = {
            "type": "ready",
            "fps": str(self._face.fps),
            "size_px": list(self._face.size_px),
            "sample_rate_hz": self._face.sample_rate_hz,
            "delay_s": round(self._face.delay_s, 4),
            "seed": self._face.seed,
        }
        await self._websocket.send_json(ready)
        reader = asyncio.create_task(self._read())
        try:
            await (self._by_clock() if self._options.pace == "clock" else self._by_sound())
            await self._websocket.send_json({"type": "end", "frames": self._frames})
        finally:
            reader.cancel()

    async def _read(self) -> None:
        while True:
            message = await self._websocket.receive()
            await self._messages.put(dict(message))
            if message["type"] == "websocket.disconnect":
                return

    async def _by_clock(self) -> None:
        """Live on by the clock; what is to be said waits its turn."""
        step_s = STEP_FRAMES / float(self._face.fps)
        clock = asyncio.get_running_loop().time
        start_s = clock()
        while not self._ended or self._talk.unspoken_s:
            while not self._messages.empty():
                self._heed(self._messages.get_nowait())
            if self._ended:
                self._talk.end_of_speech()
            now_s = clock() - start_s
            self._check(now_s)
            await self._send(self._talk.advance(now_s))
            if now_s - self._frames / float(self._face.fps) > MAX_LAG_S:
                raise _RefusedError(TRY_AGAIN, "The frames cannot be made or sent in time.")
            await asyncio.sleep(max(start_s + now_s + step_s - clock(), 0))
        await self._send(self._face.finish())

    async def _by_sound(self) -> None:
        """Follow the sound, as fast as it comes."""
        clock = asyncio.get_running_loop().time
        start_s = clock()
        while not self._ended:
            self._check(clock() - start_s)
            try:
                message = await asyncio.wait_for(self._messages.get(), 0.5)
            except asyncio.TimeoutError:
                continue
            samples = self._heed(message)
            if samples is not None:
                await self._send(self._face.push(samples))
        await self._send(self._face.finish())

    def _check(self, spent_s: float) -> None:
        if self._server.stopping.is_set():
            raise _RefusedError(GOING_AWAY, "The server is stopping.")
        most_s = self._server.settings.max_live_s
        if spent_s > most_s:
            raise _RefusedError(POLICY_VIOLATION, f"A face may be live for {most_s:g} s. Connect again.")

    def _heed(self, message: dict[str, Any]) -> F32 | None:
        """Do what a message says; return the samples that came, if they are to be followed at once."""
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", GOING_AWAY))
        if message.get("bytes") is None:
            self._obey(message.get("text") or "")
            return None
        if len(message["bytes"]) % 2:
            raise _RefusedError(POLICY_VIOLATION, "Sound is 16-bit samples; a message had an odd length.")
        samples = np.frombuffer(message["bytes"], "<i2").astype(np.float32) / np.float32(32768)
        if self._options.pace == "sound":
            return samples
        self._talk.say(samples)
        most_s = self._server.settings.max_duration_s
        if self._talk.unspoken_s > most_s:
            raise _RefusedError(TOO_BIG, f"More than {most_s:g} s wait to be spoken. Send them later.")
        return None

    def _obey(self, text: str) -> None:
        """Follow an order: end, end_of_speech, interrupt, or preset with its name."""
        try:
            order = json.loads(text)
            kind = order["type"]
            if kind == "preset":
                self._face.change_preset(str(order["preset"]))
            elif kind == "interrupt":
                self._talk.interrupt()
            elif kind == "end_of_speech":
                self._talk.end_of_speech()
            elif kind == "end":
                self._ended = True
            else:
                raise InputError("give end, end_of_speech, interrupt or preset.")
        except (ValueError, KeyError, TypeError, RecursionError, InputError) as exc:
            raise _RefusedError(POLICY_VIOLATION, f"An order cannot be followed: {exc}") from exc

    async def _send(self, frames: Iterator[LiveFrame]) -> None:
        """Render in a thread, and send; a client that takes nothing for long is left."""
        while batch := await run_in_threadpool(_next_packed, frames):
            for message in batch:
                await asyncio.wait_for(self._websocket.send_bytes(message), SEND_TIMEOUT_S)
            self._frames += len(batch)
            self._server.metrics.live_frames.inc(len(batch))


def _next_packed(frames: Iterator[LiveFrame]) -> list[bytes]:
    """Render and pack a few more frames."""
    return [pack(frame) for _, frame in zip(range(STEP_FRAMES), frames, strict=False)]
