"""One live face and the one who speaks through it, whatever the line between them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from starlette.concurrency import run_in_threadpool

from vortex.errors import InputError
from vortex.lipsync.stream import STEP_FRAMES
from vortex.live import LiveFace, LiveFrame, LiveTalk
from vortex.web.schema import LiveOptions

if TYPE_CHECKING:
    from vortex.web.app import Server

F32: TypeAlias = npt.NDArray[np.float32]

MAX_LAG_S = 3.0
"""A face that falls this far behind the clock is given up."""
SEND_TIMEOUT_S = 10.0
NORMAL, GOING_AWAY, POLICY_VIOLATION, TOO_BIG, TRY_AGAIN = 1000, 1001, 1008, 1009, 1013
"""Why a session ended, in the codes of RFC 6455."""


class RefusedError(Exception):
    """Ends a session, with a code and a reason for the client."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class HungUpError(Exception):
    """The client has gone."""


class Line(Protocol):
    """How a session hears and speaks."""

    async def receive(self) -> F32 | bytes | str:
        """Return what comes next: samples, samples as 16-bit little-endian bytes, or an order.

        Raises:
            HungUpError: nothing comes any more.
        """
        ...

    async def tell(self, news: dict[str, Any]) -> None:
        """Send a piece of news."""
        ...

    async def show(self, frame: LiveFrame) -> None:
        """Send a frame with its sound."""
        ...


@contextmanager
def take_seat(server: Server) -> Iterator[None]:
    """Take one of the places for live faces.

    Raises:
        RefusedError: none is free, or the server stops.
    """
    if server.stopping.is_set():
        raise RefusedError(GOING_AWAY, "The server is stopping.")
    if not server.live_seats.acquire(blocking=False):
        raise RefusedError(TRY_AGAIN, "All live faces are taken. Try again later.")
    server.metrics.live.inc()
    try:
        yield
    finally:
        server.metrics.live.dec()
        server.live_seats.release()


async def open_session(server: Server, line: Line, options: LiveOptions) -> LiveSession:
    """Prepare the face that the options ask for.

    Raises:
        RefusedError: there is no such portrait.
    """
    record = server.store.portrait(options.portrait_id)
    if record is None or not record.shared:
        raise RefusedError(POLICY_VIOLATION, "There is no portrait with that id. Send the picture again.")
    return LiveSession(server, line, options.pace, await run_in_threadpool(_prepare, server, options))


def _prepare(server: Server, options: LiveOptions) -> LiveFace:
    prepared = server.shelf.prepared(
        options.portrait_id, size_px=options.size_px, paste_back=options.paste_back
    )
    return LiveFace(
        server.engine, prepared, fps=options.fps, preset=options.preset, seed=options.seed,
        sample_rate_hz=options.sample_rate_hz,
    )  # fmt: skip


class LiveSession:
    """Serves one face, by the clock or by the sound; see :class:`vortex.web.schema.LiveOptions`."""

    def __init__(self, server: Server, line: Line, pace: str, face: LiveFace) -> None:
        self.face = face
        self._server, self._line, self._pace = server, line, pace
        self._talk = LiveTalk(face)
        self._messages: asyncio.Queue[F32 | bytes | str | HungUpError] = asyncio.Queue(maxsize=64)
        self._ended = False
        self._frames = 0

    async def run(self) -> None:
        """Serve until the client ends the sound.

        Raises:
            HungUpError: the client has gone.
            RefusedError: something that cannot be followed came, or a limit is reached.
        """
        ready = {
            "type": "ready",
            "fps": str(self.face.fps),
            "size_px": list(self.face.size_px),
            "sample_rate_hz": self.face.sample_rate_hz,
            "delay_s": round(self.face.delay_s, 4),
            "seed": self.face.seed,
        }
        await self._line.tell(ready)
        reader = asyncio.create_task(self._read())
        try:
            await (self._by_clock() if self._pace == "clock" else self._by_sound())
            await self._line.tell({"type": "end", "frames": self._frames})
        finally:
            reader.cancel()

    async def _read(self) -> None:
        try:
            while True:
                await self._messages.put(await self._line.receive())
        except HungUpError as exc:
            await self._messages.put(exc)

    async def _by_clock(self) -> None:
        """Live on by the clock; what is to be said waits its turn."""
        step_s = STEP_FRAMES / float(self.face.fps)
        clock = asyncio.get_running_loop().time
        start_s = clock()
        while not self._ended or self._talk.unspoken_s:
            while not self._messages.empty():
                self._heed(self._messages.get_nowait())
            if self._ended:
                self._talk.end_of_speech()
            now_s = clock() - start_s
            self._check(now_s)
            await self._show(self._talk.advance(now_s))
            if now_s - self._frames / float(self.face.fps) > MAX_LAG_S:
                raise RefusedError(TRY_AGAIN, "The frames cannot be made or sent in time.")
            await asyncio.sleep(max(start_s + now_s + step_s - clock(), 0))
        await self._show(self.face.finish())

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
                await self._show(self.face.push(samples))
        await self._show(self.face.finish())

    def _check(self, spent_s: float) -> None:
        if self._server.stopping.is_set():
            raise RefusedError(GOING_AWAY, "The server is stopping.")
        most_s = self._server.settings.max_live_s
        if spent_s > most_s:
            raise RefusedError(POLICY_VIOLATION, f"A face may be live for {most_s:g} s. Connect again.")

    def _heed(self, message: F32 | bytes | str | HungUpError) -> F32 | None:
        """Do what a message says; return the samples that came, if they are to be followed at once."""
        if isinstance(message, HungUpError):
            raise message
        if isinstance(message, str):
            self._obey(message)
            return None
        samples = _as_samples(message)
        if self._pace == "sound":
            return samples
        self._talk.say(samples)
        most_s = self._server.settings.max_duration_s
        if self._talk.unspoken_s > most_s:
            raise RefusedError(TOO_BIG, f"More than {most_s:g} s wait to be spoken. Send them later.")
        return None

    def _obey(self, text: str) -> None:
        """Follow an order: end, end_of_speech, interrupt, or preset with its name."""
        try:
            order = json.loads(text)
            kind = order["type"]
            if kind == "preset":
                self.face.change_preset(str(order["preset"]))
            elif kind == "interrupt":
                self._talk.interrupt()
            elif kind == "end_of_speech":
                self._talk.end_of_speech()
            elif kind == "end":
                self._ended = True
            else:
                raise InputError("give end, end_of_speech, interrupt or preset.")
        except (ValueError, KeyError, TypeError, RecursionError, InputError) as exc:
            raise RefusedError(POLICY_VIOLATION, f"An order cannot be followed: {exc}") from exc

    async def _show(self, frames: Iterator[LiveFrame]) -> None:
        """Render in a thread, and send; a client that takes nothing for long has gone."""
        while (frame := await run_in_threadpool(next, frames, None)) is not None:
            try:
                await asyncio.wait_for(self._line.show(frame), SEND_TIMEOUT_S)
            except asyncio.TimeoutError as exc:
                raise HungUpError from exc
            self._frames += 1
            self._server.metrics.live_frames.inc()


def _as_samples(message: F32 | bytes) -> F32:
    if not isinstance(message, bytes):
        return message
    if len(message) % 2:
        raise RefusedError(POLICY_VIOLATION, "Sound is 16-bit samples; a message had an odd length.")
    return np.frombuffer(message, "<i2").astype(np.float32) / np.float32(32768)
