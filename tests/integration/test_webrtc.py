"""A live face over WebRTC, with a real peer as its client."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
from support.running_server import post_json, running_server

from vortex.face.portrait import iter_landmarks
from vortex.media.audio import load_audio

pytest.importorskip("aiortc", reason="the extra 'webrtc' is not installed")

from aioice.ice import get_host_addresses
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from av import AudioFrame

RATE_HZ = 48_000

pytestmark = [
    pytest.mark.skipif(
        not get_host_addresses(True, True), reason="no network address but loopback, which ICE does not use"
    ),
    # aiortc leaves sockets to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, portrait: Path) -> Iterator[tuple[str, str]]:
    """Return the address of a server, and the id of a portrait that it knows."""
    picture = b64encode(portrait.read_bytes()).decode()
    with running_server(tmp_path_factory.mktemp("server"), "serve", "--max-live", "1") as address:
        yield address, post_json(address + "/v1/portraits", portrait_base64=picture)["id"]


@pytest.fixture(scope="module")
def voice(speech: Path) -> np.ndarray:
    return load_audio(speech, RATE_HZ).samples


class Microphone(MediaStreamTrack):
    """A voice in real time, then silence."""

    kind = "audio"

    def __init__(self, samples: np.ndarray) -> None:
        super().__init__()
        self._samples, self._at, self._start_s = np.pad(samples, (0, 60 * RATE_HZ)), 0, time.monotonic()

    async def recv(self) -> AudioFrame:
        step = RATE_HZ // 50
        part = self._samples[self._at : self._at + step]
        frame = AudioFrame.from_ndarray((part * 32767).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, self._at, Fraction(1, RATE_HZ)
        self._at += step
        await asyncio.sleep(max(self._start_s + self._at / RATE_HZ - time.monotonic(), 0))
        return frame


class Viewer:
    """A client that keeps all events, pictures and sounds."""

    def __init__(self) -> None:
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.channel = self.peer.createDataChannel("vortex")
        self.events: list[dict[str, Any]] = []
        self.pictures: list[np.ndarray] = []
        self.sounds: list[np.ndarray] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.channel.on("message", lambda text: self.events.append(json.loads(text)))
        self.peer.on("track", lambda track: self._tasks.append(asyncio.create_task(self._collect(track))))

    async def _collect(self, track: Any) -> None:
        from aiortc.mediastreams import MediaStreamError

        try:
            while True:
                frame = await track.recv()
                if track.kind == "video":
                    self.pictures.append(frame.to_ndarray(format="rgb24"))
                else:
                    self.sounds.append(frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0])
        except MediaStreamError:
            pass

    async def call(self, address: str, **options: Any) -> None:
        await self.peer.setLocalDescription(await self.peer.createOffer())
        description = self.peer.localDescription
        body = {"sdp": description.sdp, "type": description.type, "size_px": 128, "seed": 1, **options}
        answer = await asyncio.to_thread(post_json, address + "/v1/live/offer", **body)
        await self.peer.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))

    async def until(self, enough: Any) -> None:
        deadline_s = time.monotonic() + 60
        while not enough():
            assert time.monotonic() < deadline_s, (self.events, len(self.pictures), len(self.sounds))
            await asyncio.sleep(0.05)


def likeness(received: np.ndarray, voice: np.ndarray) -> float:
    """Return the highest normalised cross-correlation of a sound with a voice."""
    size = 1 << int(np.ceil(np.log2(len(received) + len(voice))))
    product = np.fft.irfft(np.fft.rfft(received, size) * np.conj(np.fft.rfft(voice, size)), size)
    return float(product.max() / np.linalg.norm(voice) / max(np.linalg.norm(received), 1e-9))


def test_speech_over_the_channel_comes_back_as_picture_and_sound(
    server: tuple[str, str], voice: np.ndarray
) -> None:
    async def converse() -> Viewer:
        viewer = Viewer()
        for kind in ("video", "audio"):
            viewer.peer.addTransceiver(kind, direction="recvonly")
        await viewer.call(server[0], portrait_id=server[1], pace="clock", preset="excited")
        await viewer.until(lambda: viewer.events)
        pcm = (voice * 32767).astype("<i2")
        for start in range(0, len(pcm), 4800):
            viewer.channel.send(pcm[start : start + 4800].tobytes())
        viewer.channel.send(json.dumps({"type": "end"}))
        await viewer.until(lambda: viewer.events[-1]["type"] == "end")
        await asyncio.sleep(0.3)
        await viewer.peer.close()
        return viewer

    viewer = asyncio.run(converse())
    assert viewer.events[0]["type"] == "ready"
    assert viewer.events[0]["sample_rate_hz"] == RATE_HZ
    # 3 s at 24 fps; the first ones may be lost while the connection is set up.
    assert len(viewer.pictures) > 48
    assert viewer.pictures[-1].shape == (128, 128, 3)
    received = np.concatenate(viewer.sounds).astype(np.float64)
    # Opus changes the samples, but not the sound.
    assert likeness(received, voice.astype(np.float64)) > 0.6
    found = [points for points in iter_landmarks(iter(viewer.pictures)) if points is not None]
    openings = [np.linalg.norm(points[13, :2] - points[14, :2]) for points in found]
    assert max(openings) > min(openings) + 1


def test_the_face_follows_a_microphone_and_places_are_limited(
    server: tuple[str, str], voice: np.ndarray
) -> None:
    async def converse() -> Viewer:
        viewer = Viewer()
        viewer.peer.addTrack(Microphone(voice))
        viewer.peer.addTransceiver("video", direction="recvonly")
        await viewer.call(server[0], portrait_id=server[1], pace="sound")
        await viewer.until(lambda: len(viewer.pictures) > 40)
        with pytest.raises(urllib.error.HTTPError) as refused:
            await viewer_of(server)
        assert refused.value.code == 503
        refused.value.close()
        await viewer.peer.close()
        return viewer

    viewer = asyncio.run(converse())
    moved = np.abs(viewer.pictures[-1].astype(int) - viewer.pictures[10]).max()
    assert moved > 20


async def viewer_of(server: tuple[str, str], **options: Any) -> None:
    viewer = Viewer()
    viewer.peer.addTransceiver("video", direction="recvonly")
    try:
        await viewer.call(server[0], **{"portrait_id": server[1], **options})
    finally:
        await viewer.peer.close()


@pytest.fixture
def free(server: tuple[str, str]) -> tuple[str, str]:
    """Return the server once it has noticed that the client of the test before has gone."""
    deadline_s = time.monotonic() + 90
    while True:
        with urllib.request.urlopen(server[0] + "/metrics", timeout=60) as answer:
            if b"\nvortex_live 0.0" in answer.read():
                return server
        assert time.monotonic() < deadline_s
        time.sleep(0.2)


def udp_addresses(server: str) -> set[str]:
    """Return the addresses on which the server takes UDP."""
    port = urlsplit(server).port
    listening = [c for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.pid]
    own = {c.pid for c in listening if c.status == psutil.CONN_LISTEN}
    return {c.laddr.ip for c in psutil.net_connections("udp") if c.pid in own and c.laddr}


def test_media_come_to_the_address_of_the_server_only_and_offers_hold_no_place(
    free: tuple[str, str], voice: np.ndarray
) -> None:
    server = free

    async def offer_without_connecting() -> RTCPeerConnection:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peer.addTransceiver("video", direction="recvonly")
        await peer.setLocalDescription(await peer.createOffer())
        body = {"sdp": peer.localDescription.sdp, "portrait_id": server[1], "size_px": 128}
        await asyncio.to_thread(post_json, server[0] + "/v1/live/offer", **body)
        return peer

    async def converse() -> set[str]:
        for _ in range(3):  # the server has one place
            await (await offer_without_connecting()).close()
        viewer = Viewer()
        viewer.peer.addTrack(Microphone(voice))
        viewer.peer.addTransceiver("video", direction="recvonly")
        await viewer.call(server[0], portrait_id=server[1], pace="sound")
        await viewer.until(lambda: len(viewer.pictures) > 2)
        found = await asyncio.to_thread(udp_addresses, server[0])
        await viewer.peer.close()
        return found

    assert asyncio.run(converse()) == {"127.0.0.1"}


VIDEO = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n"
KEYS = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\na=fingerprint:sha-256 00:11\r\n"


@pytest.mark.parametrize(
    "options",
    [
        {"portrait_id": "0" * 24},
        {"preset": "furious"},
        {"sdp": "nonsense"},
        {"sdp": "x"},
        {"sdp": "v=0\r\n" + VIDEO},
        {"sdp": "v=0\r\n" + VIDEO * 2000 + KEYS},
        {"sdp": "v=0\r\n" + VIDEO + KEYS + "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n" * 900},
    ],
)
def test_offers_that_make_no_sense_are_refused(free: tuple[str, str], options: dict[str, Any]) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        asyncio.run(viewer_of(free, **options))
    assert refused.value.code == 422
    refused.value.close()
