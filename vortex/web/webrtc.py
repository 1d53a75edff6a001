"""A live face over WebRTC: a video and a sound track, for networks that lose packets.

The client's data channel carries what a websocket would: orders and news as JSON texts, and speech as 16-bit
little-endian samples at 48 kHz. With the pace "sound", the face follows the client's microphone track.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, AudioResampler, VideoFrame

from vortex.live import LiveFrame
from vortex.web.live_session import MAX_LAG_S, HungUpError, RefusedError, open_session, take_seat
from vortex.web.schema import RTC_HZ, LiveOffer

if TYPE_CHECKING:
    from vortex.web.app import Server

F32 = npt.NDArray[np.float32]

log = logging.getLogger("vortex.web")

SOUND_STEP = RTC_HZ // 50
PICTURE_CLOCK_HZ = 90_000
CONNECT_TIMEOUT_S = 15.0
DRAIN_S = 0.5
"""What has been sent last still travels when the face has ended."""


class PeerLine:
    """The line of :class:`vortex.web.live_session.Line` that a peer connection is."""

    def __init__(self, ice_servers: Sequence[str]) -> None:
        servers = [RTCIceServer(url) for url in ice_servers]
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self._channel: RTCDataChannel | None = None
        self._early_news: list[dict[str, Any]] = []
        self._heard: asyncio.Queue[F32 | bytes | str | None] = asyncio.Queue()
        self._pictures, self._sound = _PictureTrack(), _SoundTrack()
        self._ears: set[asyncio.Task[None]] = set()
        self._connected = asyncio.Event()
        self._peer.on("connectionstatechange", self._notice)
        self._peer.on("datachannel", self._use_channel)
        self._peer.on("track", self._use_track)

    async def answer(self, offer: LiveOffer) -> RTCSessionDescription:
        """Return the answer to an offer.

        Raises:
            ValueError: it cannot be answered.
        """
        try:
            await self._peer.setRemoteDescription(RTCSessionDescription(offer.sdp, offer.type))
            # nothing can be answered that was not asked for
            wanted = {transceiver.kind for transceiver in self._peer.getTransceivers()}
            for track in (self._pictures, self._sound):
                if track.kind in wanted:
                    self._peer.addTrack(track)
            await self._peer.setLocalDescription(await self._peer.createAnswer())
        except Exception as exc:  # whatever its parsers raise
            raise ValueError(f"{type(exc).__name__}: {exc}") from exc
        return self._peer.localDescription

    async def connect(self, fps: Fraction) -> None:
        """Wait for the client.

        Raises:
            HungUpError: it does not come.
        """
        self._pictures.fps = fps
        try:
            await asyncio.wait_for(self._connected.wait(), CONNECT_TIMEOUT_S)
        except asyncio.TimeoutError as exc:
            raise HungUpError from exc

    async def close(self) -> None:
        """Hang up."""
        for ear in self._ears:
            ear.cancel()
        await self._peer.close()

    async def receive(self) -> F32 | bytes | str:
        """Return what the data channel or the microphone brings."""
        message = await self._heard.get()
        if message is None:
            raise HungUpError
        return message

    async def tell(self, news: dict[str, Any]) -> None:
        """Send news over the data channel; if it is not open yet, as soon as it is."""
        if self._channel is None:
            self._early_news.append(news)
        elif self._channel.readyState == "open":
            self._channel.send(json.dumps(news))

    async def show(self, frame: LiveFrame) -> None:
        """Hand a frame and its sound to the tracks; a client that takes none for long has gone."""
        self._pictures.waiting.put_nowait(frame)
        self._sound.waiting.put_nowait(frame.samples)
        if self._pictures.waiting.qsize() > MAX_LAG_S * self._pictures.fps:
            raise HungUpError

    def _notice(self) -> None:
        if self._peer.connectionState == "connected":
            self._connected.set()
        if self._peer.connectionState in ("failed", "closed"):
            self._heard.put_nowait(None)

    def _use_channel(self, channel: RTCDataChannel) -> None:
        self._channel = channel
        channel.on("message", self._heard.put_nowait)
        for news in self._early_news:
            channel.send(json.dumps(news))

    def _use_track(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio":
            ear = asyncio.get_running_loop().create_task(self._listen(track))
            self._ears.add(ear)

    async def _listen(self, track: MediaStreamTrack) -> None:
        """Pass the microphone on, 20 ms at a time."""
        resampler = AudioResampler(format="fltp", layout="mono", rate=RTC_HZ)
        try:
            while True:
                frame = await track.recv()
                assert isinstance(frame, AudioFrame)
                for part in resampler.resample(frame):
                    await self._heard.put(np.asarray(part.to_ndarray()[0], np.float32))
        except MediaStreamError:
            await self._heard.put(json.dumps({"type": "end"}))


class _PictureTrack(MediaStreamTrack):
    """Frames in the order in which they came."""

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


class _SoundTrack(MediaStreamTrack):
    """The sound of the frames, in steps of 20 ms."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.waiting: asyncio.Queue[F32] = asyncio.Queue()
        self._begun, self._sent = np.zeros(0, np.float32), 0

    async def recv(self) -> AudioFrame:
        while len(self._begun) < SOUND_STEP:
            self._begun = np.concatenate([self._begun, await self.waiting.get()])
        step, self._begun = self._begun[:SOUND_STEP], self._begun[SOUND_STEP:]
        sound = AudioFrame.from_ndarray(np.round(step * 32767).astype(np.int16)[None], "s16", "mono")
        sound.sample_rate = RTC_HZ
        sound.pts, sound.time_base = self._sent, Fraction(1, RTC_HZ)
        self._sent += SOUND_STEP
        return sound


async def answer_offer(server: Server, offer: LiveOffer) -> RTCSessionDescription:
    """Return the answer to an offer; the face lives on its own until the connection ends.

    Raises:
        ValueError: the offer cannot be answered.
        RefusedError: there is no place, or no such portrait.
    """
    line = PeerLine(server.settings.ice_servers)
    try:
        answer = await line.answer(offer)
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.get_running_loop().create_task(_serve(server, line, offer, started))
        server.live_tasks.add(task)
        task.add_done_callback(server.live_tasks.discard)
        await started
    except BaseException:
        await line.close()
        raise
    return answer


async def _serve(server: Server, line: PeerLine, offer: LiveOffer, started: asyncio.Future[None]) -> None:
    """Serve one face; ``started`` is told as soon as there is one, or why there is none."""
    try:
        with take_seat(server):
            session = await open_session(server, line, offer)
            started.set_result(None)
            await line.connect(session.face.fps)
            await session.run()
            await asyncio.sleep(DRAIN_S)
    except HungUpError:
        pass
    except Exception as exc:
        if not started.done():
            started.set_exception(exc)
        elif isinstance(exc, RefusedError):
            await line.tell({"type": "refused", "code": exc.code, "reason": str(exc)})
            await asyncio.sleep(DRAIN_S)
        else:
            log.exception("a live face failed")
    finally:
        await line.close()
