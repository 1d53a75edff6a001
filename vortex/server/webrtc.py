"""A live face over WebRTC: a video and a sound track, for networks that lose packets.

The client's data channel carries what a websocket would: commands and events as JSON texts, and speech as
16-bit little-endian samples at 48 kHz. With the pace "sound", the face follows the client's microphone track.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from contextvars import ContextVar
from fractions import Fraction
from typing import Any, cast

import aioice.ice
import aiortc
import numpy as np
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, AudioResampler, VideoFrame
from fastapi import WebSocketDisconnect, WebSocketException

from vortex.errors import InputError
from vortex.live import LiveFrame
from vortex.server.context import ServerContext
from vortex.server.live import MAX_LAG_S, LiveSession, Message, open_session, reserve_place
from vortex.server.schema import RTC_HZ, LiveOffer
from vortex.types import F32

log = logging.getLogger("vortex.server")

SOUND_STEP = RTC_HZ // 50
"""Samples of one Opus packet: 20 ms."""
PICTURE_CLOCK_HZ = 90_000
CONNECT_TIMEOUT_S = 15.0
MEDIA = frozenset({"application", "audio", "video"})
"""Kinds of media that an offer may have, each once."""
MAX_CANDIDATES = 40
MAX_OFFERS = 32
"""Offers that wait for their client to connect."""
DRAIN_S = 0.5
"""Time for the last packets to arrive before the connection is closed."""


_all_addresses = aioice.ice.get_host_addresses
_only_address: ContextVar[str | None] = ContextVar("_only_address", default=None)


def _addresses(use_ipv4: bool, use_ipv6: bool) -> list[str]:
    only = _only_address.get()
    return _all_addresses(use_ipv4, use_ipv6) if only is None else [only]


# aioice listens on every address of the machine, and has no option to listen on one.
aioice.ice.get_host_addresses = _addresses


def own_address(host: str) -> str | None:
    """Return the one address on which media may come to a server that listens on ``host``; None for all."""
    if host in ("0.0.0.0", "::"):
        return None
    return str(socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)[0][4][0])


def check_offer(sdp: str) -> None:
    """Raise InputError for an offer that no client of this server makes, before anything is opened for it."""
    lines = sdp.splitlines()
    kinds = [line.removeprefix("m=").split(" ")[0] for line in lines if line.startswith("m=")]
    if not kinds or len(kinds) != len(set(kinds)) or not set(kinds) <= MEDIA:
        found = ", ".join(kinds)[:60] or "none"
        raise InputError(f"sdp: its media are {found}; offer one each of {', '.join(sorted(MEDIA))} at most.")
    for need in ("a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:"):
        if not any(line.startswith(need) for line in lines):
            raise InputError(f"sdp: it has no {need[2:-1]}, without which nobody can connect.")
    if sum(line.startswith("a=candidate:") for line in lines) > MAX_CANDIDATES:
        raise InputError(f"sdp: it has more than {MAX_CANDIDATES} candidates.")


def _without_names(sdp: str) -> str:
    """Return an offer without candidates that are names: to resolve them asks the whole network."""
    kept = [line for line in sdp.splitlines() if not (line.startswith("a=candidate:") and ".local " in line)]
    return "\r\n".join([*kept, ""])


class PeerTransport:
    """The :class:`vortex.server.live.Transport` over a peer connection."""

    def __init__(self, host: str, ice_servers: Sequence[str]) -> None:
        self._only_address = own_address(host)
        servers = [aiortc.RTCIceServer(url) for url in ice_servers]
        self._peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=servers))
        self._channel: aiortc.RTCDataChannel | None = None
        self._early_events: list[dict[str, Any]] = []
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue()
        self._pictures, self._sound = _PictureTrack(), _SoundTrack()
        self._readers: set[asyncio.Task[None]] = set()
        self._connected = asyncio.Event()
        self._peer.on("connectionstatechange", self._note_state)
        self._peer.on("datachannel", self._use_channel)
        self._peer.on("track", self._use_track)

    async def answer(self, offer: LiveOffer) -> aiortc.RTCSessionDescription:
        """Return the answer to an offer; raises InputError if it cannot be answered."""
        check_offer(offer.sdp)
        _only_address.set(self._only_address)
        sdp = offer.sdp if self._only_address is None else _without_names(offer.sdp)
        try:
            await self._peer.setRemoteDescription(aiortc.RTCSessionDescription(sdp, offer.type))
            # An answer may only have tracks of the kinds that the offer has.
            wanted = {transceiver.kind for transceiver in self._peer.getTransceivers()}
            for track in (self._pictures, self._sound):
                if track.kind in wanted:
                    self._peer.addTrack(track)
            await self._peer.setLocalDescription(await self._peer.createAnswer())
        except Exception as exc:  # the parsers of aiortc raise many kinds
            raise InputError(f"sdp: it cannot be answered ({type(exc).__name__}: {exc}).") from exc
        return self._peer.localDescription

    async def connect(self, fps: Fraction) -> None:
        """Wait until the client is connected; raises WebSocketDisconnect if that takes too long."""
        self._pictures.fps = fps
        try:
            await asyncio.wait_for(self._connected.wait(), CONNECT_TIMEOUT_S)
        except TimeoutError as exc:
            raise WebSocketDisconnect from exc

    async def close(self) -> None:
        """Close the connection."""
        for reader in self._readers:
            reader.cancel()
        await self._peer.close()

    async def receive(self) -> Message:
        """Return the next message of the data channel or the microphone."""
        message = await self._messages.get()
        if message is None:
            raise WebSocketDisconnect
        return message

    async def send_event(self, event: dict[str, Any]) -> None:
        """Send an event over the data channel; if it is not open yet, as soon as it is."""
        if self._channel is None:
            self._early_events.append(event)
        elif self._channel.readyState == "open":
            self._channel.send(json.dumps(event))

    def encode(self, frame: LiveFrame) -> LiveFrame:
        """Return the frame: its tracks encode it."""
        return frame

    async def send_frame(self, frame: LiveFrame) -> None:
        """Queue a frame and its sound; a client that takes none for long counts as disconnected."""
        self._pictures.waiting.put_nowait(frame)
        self._sound.waiting.put_nowait(frame.samples)
        if self._pictures.waiting.qsize() > MAX_LAG_S * self._pictures.fps:
            raise WebSocketDisconnect

    def _note_state(self) -> None:
        if self._peer.connectionState == "connected":
            self._connected.set()
        if self._peer.connectionState in ("failed", "closed"):
            self._messages.put_nowait(None)

    def _use_channel(self, channel: aiortc.RTCDataChannel) -> None:
        self._channel = channel
        channel.on("message", self._messages.put_nowait)
        for event in self._early_events:
            channel.send(json.dumps(event))

    def _use_track(self, track: aiortc.MediaStreamTrack) -> None:
        if track.kind == "audio":
            self._readers.add(asyncio.get_running_loop().create_task(self._read_microphone(track)))

    async def _read_microphone(self, track: aiortc.MediaStreamTrack) -> None:
        """Queue the sound of the microphone, one packet at a time."""
        resampler = AudioResampler(format="fltp", layout="mono", rate=RTC_HZ)
        try:
            while True:
                frame = await track.recv()
                assert isinstance(frame, AudioFrame)
                for part in resampler.resample(frame):
                    await self._messages.put(np.asarray(part.to_ndarray()[0], np.float32))
        except MediaStreamError:
            await self._messages.put(json.dumps({"type": "end"}))


class _PictureTrack(aiortc.MediaStreamTrack):
    """The frames as a video track."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self.waiting: asyncio.Queue[LiveFrame] = asyncio.Queue()
        self.fps = Fraction(24)

    async def recv(self) -> VideoFrame:
        frame = await self.waiting.get()
        picture = VideoFrame.from_ndarray(frame.image, format="rgb24")
        picture.pts = round(frame.index / self.fps * PICTURE_CLOCK_HZ)
        picture.time_base = Fraction(1, PICTURE_CLOCK_HZ)
        return picture


class _SoundTrack(aiortc.MediaStreamTrack):
    """The sound of the frames as a track, in packets of 20 ms."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.waiting: asyncio.Queue[F32] = asyncio.Queue()
        self._pending, self._sent = np.zeros(0, np.float32), 0

    async def recv(self) -> AudioFrame:
        while len(self._pending) < SOUND_STEP:
            self._pending = np.concatenate([self._pending, await self.waiting.get()])
        step, self._pending = self._pending[:SOUND_STEP], self._pending[SOUND_STEP:]
        sound = AudioFrame.from_ndarray(np.round(step * 32767).astype(np.int16)[None], "s16", "mono")
        sound.sample_rate = RTC_HZ
        sound.pts, sound.time_base = self._sent, Fraction(1, RTC_HZ)
        self._sent += SOUND_STEP
        return sound


async def answer_offer(context: ServerContext, offer: LiveOffer, owner: str) -> aiortc.RTCSessionDescription:
    """Return the answer to an offer; a task of its own serves the face until the connection ends.

    A client takes a place when it connects, not when it offers to: of more than MAX_OFFERS that did not
    connect yet, the oldest is dropped.

    Raises InputError if the offer cannot be answered, WebSocketException without a place or the portrait.
    """
    check_offer(offer.sdp)
    with reserve_place(context):
        pass  # refused at once if there is none
    async with AsyncExitStack() as stack:
        transport = PeerTransport(context.settings.host, context.settings.ice_server)
        stack.push_async_callback(transport.close)
        answer = await transport.answer(offer)
        session = await open_session(context, transport, offer, owner)
        task = asyncio.get_running_loop().create_task(_serve(context, session, transport, stack.pop_all()))
        context.live_tasks.add(task)
        task.add_done_callback(context.live_tasks.discard)
        context.live_offers.append(task)
        if len(context.live_offers) > MAX_OFFERS:
            context.live_offers.popleft().cancel()
    return answer


async def _serve(
    context: ServerContext, session: LiveSession, transport: PeerTransport, resources: AsyncExitStack
) -> None:
    async with resources:
        try:
            try:
                await transport.connect(session.face.fps)
            finally:
                with suppress(ValueError):  # dropped already
                    context.live_offers.remove(cast("asyncio.Task[None]", asyncio.current_task()))
            with reserve_place(context):
                await session.run()
                await asyncio.sleep(DRAIN_S)
        except WebSocketDisconnect:
            pass
        except WebSocketException as exc:
            await transport.send_event({"type": "refused", "code": exc.code, "reason": exc.reason})
            await asyncio.sleep(DRAIN_S)
        except Exception:
            log.exception("a live face failed")
