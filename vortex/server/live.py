"""One live face and its client, whatever the transport between them."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

import numpy as np
from fastapi import WebSocketDisconnect, WebSocketException
from starlette.concurrency import run_in_threadpool
from websockets.frames import CloseCode

from vortex.errors import InputError, VortexError
from vortex.lipsync.stream import STEP_FRAMES
from vortex.live import LiveFace, LiveFrame, LiveTalk
from vortex.options import LiveOptions
from vortex.server.context import ServerContext
from vortex.server.schema import LiveRequest
from vortex.types import F32

MAX_LAG_S = 3.0
"""A session ends when its frames are this far behind the clock."""
LATE_S = 0.1
"""A frame that would be sent later than this after it could have been begun is left out: no delay grows."""
RECENT_FRAMES = 12
"""How many frames tell how long the next one takes."""
MIN_FPS = 2.0
"""Frames a second that are shown however late they are."""
SEND_TIMEOUT_S = 10.0
AHEAD_S = 5.0
"""How far frames run ahead of the clock where sound comes faster than it is spoken: others need a turn."""
PUSHED_S = 0.25
"""Sound that is recognised at a time, in a thread: a long message must not keep the server from others."""

Message: TypeAlias = "F32 | bytes | str"
"""What a client sends: samples (N,) float32, samples as 16-bit little-endian bytes, or a command as JSON."""


class Transport(Protocol):
    """A connection to the client of a live face."""

    async def receive(self) -> Message:
        """Return the next message; raises WebSocketDisconnect once the connection is closed."""

    async def send_event(self, event: dict[str, Any]) -> None:
        """Send an event: a dictionary with a "type"."""

    def encode(self, frame: LiveFrame) -> Any:
        """Return a frame with its sound as :meth:`send_frame` takes it; called in a thread."""

    async def send_frame(self, encoded: Any) -> None:
        """Send a frame with its sound."""


@contextmanager
def reserve_place(context: ServerContext) -> Iterator[None]:
    """Reserve one of the ``max_live`` places; raises WebSocketException if there is none."""
    if context.stopping.is_set():
        raise WebSocketException(CloseCode.GOING_AWAY, "The server is stopping.")
    if not context.live_places.acquire(blocking=False):
        raise WebSocketException(
            CloseCode.TRY_AGAIN_LATER, "All places for live faces are taken. Try again later."
        )
    context.metrics.live.inc()
    try:
        yield
    finally:
        context.metrics.live.dec()
        context.live_places.release()


async def open_session(
    context: ServerContext, transport: Transport, request: LiveRequest, owner: str
) -> LiveSession:
    """Prepare a face; raises WebSocketException for an unknown portrait, or an option not offered here."""
    record = await run_in_threadpool(context.store.portrait, request.portrait_id)
    if record is None or not record.usable_by(owner):
        reason = "There is no portrait with that id. Send the picture again."
        raise WebSocketException(CloseCode.POLICY_VIOLATION, reason)

    def open_face() -> LiveFace:
        options = context.with_engine(request.options(LiveOptions), request.model_fields_set)
        prepared = context.portraits.prepared(request.portrait_id, options).prepared
        return LiveFace(context.engine, prepared, options)

    try:
        face = await run_in_threadpool(open_face)
    except VortexError as exc:
        code = CloseCode.POLICY_VIOLATION if isinstance(exc, InputError) else CloseCode.INTERNAL_ERROR
        raise WebSocketException(code, context.folder.without_paths(str(exc))) from exc
    return LiveSession(context, transport, request.pace, face)


class LiveSession:
    """Serves one face, by the clock or by the sound; see :class:`vortex.server.schema.LiveRequest`."""

    def __init__(self, context: ServerContext, transport: Transport, pace: str, face: LiveFace) -> None:
        self.face = face
        self._context, self._transport, self._pace = context, transport, pace
        self._talk = LiveTalk(face)
        self._messages: asyncio.Queue[tuple[float, Message | WebSocketDisconnect]]
        self._messages = asyncio.Queue(maxsize=64)
        """Each with the time when it arrived."""
        self._held: tuple[float, Message | WebSocketDisconnect] | None = None
        """The command that came after the sound that is followed now."""
        self._ended = False
        self._gone: WebSocketDisconnect | None = None
        self._next, self._sent, self._dropped = 0, 0, 0
        self._sound_start_s = -math.inf
        """Time at which the sound of frame 0 began."""
        self._shown_s = -math.inf
        self._took_s: deque[float] = deque([0.0], maxlen=RECENT_FRAMES)
        """From the start of rendering to the end of sending."""
        face.wanted = self._is_in_time

    async def run(self) -> None:
        """Serve to the end of the sound; WebSocketException for an unknown message or at a limit."""
        ready = {
            "type": "ready",
            "fps": str(self.face.fps),
            "size_px": list(self.face.size_px),
            "sample_rate_hz": self.face.sample_rate_hz,
            "delay_s": round(self.face.delay_s, 4),
            "seed": self.face.seed,
        }
        await self._transport.send_event(ready)
        reader = asyncio.create_task(self._read())
        try:
            await (self._follow_clock() if self._pace == "clock" else self._follow_sound())
            end = {"type": "end", "frames": self._sent, "dropped": self._dropped}
            await self._transport.send_event(end)
        finally:
            reader.cancel()

    async def _read(self) -> None:
        try:
            while True:
                message = await self._transport.receive()
                await self._messages.put((time.monotonic(), message))
        except WebSocketDisconnect as exc:
            self._gone = exc
            await self._messages.put((time.monotonic(), exc))

    async def _follow_clock(self) -> None:
        """Send frames at the pace of the clock; sound waits in a queue until its time."""
        step_s = STEP_FRAMES / float(self.face.fps)
        clock = time.monotonic
        start_s = self._sound_start_s = clock()
        while not self._ended or self._talk.unspoken_s:
            while not self._messages.empty():
                self._handle(self._messages.get_nowait()[1])
            if self._ended:
                self._talk.end_of_speech()
            now_s = clock() - start_s
            self._check_limits(now_s)
            await self._send(await run_in_threadpool(self._talk.advance, now_s))
            self._check_lag(clock())
            await asyncio.sleep(max(start_s + now_s + step_s - clock(), 0))
        await self._send(await run_in_threadpool(self.face.finish))

    async def _follow_sound(self) -> None:
        """Send the frames of the sound, as fast as it arrives."""
        clock = time.monotonic
        start_s, received_s = clock(), 0.0
        while not self._ended:
            self._check_limits(clock() - start_s)
            try:
                arrived_s, samples = await asyncio.wait_for(self._next_sound(), 0.5)
            except TimeoutError:
                continue
            if samples is None:
                continue
            # Sound that arrives faster than it is spoken is early; after a pause, what follows is not late.
            self._sound_start_s = max(self._sound_start_s, arrived_s - received_s)
            received_s += len(samples) / self.face.sample_rate_hz
            part = self._part
            for first in range(0, len(samples), part):
                heard_s = received_s - (len(samples) - first) / self.face.sample_rate_hz
                while (ahead_s := self._sound_start_s + heard_s - clock()) > AHEAD_S:
                    self._check_limits(clock() - start_s)
                    await asyncio.sleep(min(ahead_s - AHEAD_S, 0.5))
                self._check_limits(clock() - start_s)
                frames = await run_in_threadpool(self.face.push, samples[first : first + part])
                await self._send(frames)
                self._check_lag(clock())
        await self._send(await run_in_threadpool(self.face.finish))

    @property
    def _part(self) -> int:
        """Samples that are recognised at a time."""
        return int(self.face.sample_rate_hz * PUSHED_S)

    async def _next_sound(self) -> tuple[float, F32 | None]:
        """Return the sound that has arrived and when its first message did; None after a command.

        What waits is taken together, because on a busy machine each step waits for a processor.
        """
        arrived_s, message = self._held or await self._messages.get()
        self._held = None
        samples = self._handle(message)
        while samples is not None and len(samples) < self._part and not self._messages.empty():
            following = self._messages.get_nowait()
            if isinstance(following[1], str | WebSocketDisconnect):
                self._held = following
                break
            more = self._handle(following[1])
            samples = samples if more is None else np.concatenate([samples, more])
        return arrived_s, samples

    def _is_in_time(self, index: int) -> bool:
        """Return whether a frame is to be rendered: it can be shown in time, or nothing was for a while."""
        now_s, fps = time.monotonic(), float(self.face.fps)
        due_s = self._sound_start_s + index / fps + self.face.delay_s
        if now_s + max(self._took_s) > due_s + LATE_S and now_s < self._shown_s + 1 / MIN_FPS:
            self._dropped += 1
            self._context.metrics.live_dropped.inc()
            return False
        self._shown_s = now_s
        return True

    def _check_lag(self, now_s: float) -> None:
        """End a session whose sound is recognised, or whose frames are sent, too late to drop any more."""
        if now_s - self._sound_start_s - self._next / float(self.face.fps) > MAX_LAG_S:
            reason = "The frames cannot be made or sent in time."
            raise WebSocketException(CloseCode.TRY_AGAIN_LATER, reason)

    def _check_limits(self, spent_s: float) -> None:
        if self._gone is not None:
            raise self._gone
        if self._context.stopping.is_set():
            raise WebSocketException(CloseCode.GOING_AWAY, "The server is stopping.")
        if spent_s > (most_s := self._context.settings.max_live_s):
            reason = f"A face may be live for {most_s:g} s. Connect again."
            raise WebSocketException(CloseCode.POLICY_VIOLATION, reason)

    def _handle(self, message: Message | WebSocketDisconnect) -> F32 | None:
        """Run a command, or queue samples; with the pace "sound", return the samples instead."""
        if isinstance(message, WebSocketDisconnect):
            raise message
        if isinstance(message, str):
            self._run_command(message)
            return None
        if isinstance(message, bytes):
            if len(message) % 2:
                reason = "Sound is 16-bit samples; a message had an odd length."
                raise WebSocketException(CloseCode.POLICY_VIOLATION, reason)
            message = np.frombuffer(message, "<i2").astype(np.float32) / np.float32(32768)
        if self._pace == "sound":
            return message
        self._talk.say(message)
        if self._talk.unspoken_s > (most_s := self._context.settings.max_duration_s):
            reason = f"More than {most_s:g} s wait to be spoken. Send them later."
            raise WebSocketException(CloseCode.MESSAGE_TOO_BIG, reason)
        return None

    def _run_command(self, text: str) -> None:
        """Run a command: end, end_of_speech, interrupt, or preset with its name."""
        try:
            command = json.loads(text)
            kind = command["type"]
            if kind == "preset":
                self.face.change_preset(str(command["preset"]))
            elif kind == "interrupt":
                self._talk.interrupt()
            elif kind == "end_of_speech":
                self._talk.end_of_speech()
            elif kind == "end":
                self._ended = True
            else:
                raise InputError("give end, end_of_speech, interrupt or preset.")
        except (ValueError, KeyError, TypeError, RecursionError, InputError) as exc:
            reason = f"Not a command that is known: {exc}"
            raise WebSocketException(CloseCode.POLICY_VIOLATION, reason) from exc

    async def _send(self, frames: Iterator[LiveFrame]) -> None:
        """Render in a thread, and send; a client that accepts no frame for long counts as disconnected."""

        def encode_next() -> tuple[int, float, Any] | None:
            frame = next(frames, None)
            return None if frame is None else (frame.index, self._shown_s, self._transport.encode(frame))

        while (made := await run_in_threadpool(encode_next)) is not None:
            index, begun_s, encoded = made
            try:
                await asyncio.wait_for(self._transport.send_frame(encoded), SEND_TIMEOUT_S)
            except TimeoutError as exc:
                raise WebSocketDisconnect from exc
            self._took_s.append(time.monotonic() - begun_s)
            self._next = index + 1
            self._sent += 1
            self._context.metrics.live_frames.inc()
