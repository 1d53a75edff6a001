"""Live faces over a websocket: what is sent, what is refused, and how places are limited."""

from __future__ import annotations

import io
import json
import struct
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from starlette.websockets import WebSocketDisconnect

import vortex
import vortex.server.live
from vortex.live import LiveFace
from vortex.media.audio import frame_spans, load_audio
from vortex.server.app import create_app
from vortex.server.context import ServerContext
from vortex.server.routes.live import JPEG_QUALITY
from vortex.server.settings import ServerSettings

KEY = "a-key-of-more-than-sixteen-characters"
RATE_HZ = 24_000

Open = Callable[..., tuple[TestClient, ServerContext, str]]


@pytest.fixture(autouse=True)
def no_frame_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine may be busy with other tests."""
    monkeypatch.setattr(vortex.server.live, "LATE_S", 60)


@pytest.fixture
def open_live(tmp_path: Path, portrait: Path) -> Iterator[Open]:
    """Open a server that knows one portrait; returns client, server and the portrait's id."""
    clients: list[TestClient] = []

    def open_it(**limits: Any) -> tuple[TestClient, ServerContext, str]:
        server = ServerContext(ServerSettings(data=tmp_path / "data", **{"max_running": 1, **limits}))
        headers = {"Authorization": f"Bearer {limits['api_key']}"} if "api_key" in limits else {}
        client = TestClient(create_app(server), base_url="http://127.0.0.1")
        client.__enter__()
        clients.append(client)
        files = {"portrait": ("p.jpg", portrait.read_bytes())}
        return client, server, client.post("/v1/portraits", files=files, headers=headers).json()["id"]

    yield open_it
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture(scope="module")
def voice(speech: Path) -> np.ndarray:
    return load_audio(speech, RATE_HZ).samples


def pcm(samples: np.ndarray) -> bytes:
    return np.round(samples * 32767).astype("<i2").tobytes()


def unpack(message: bytes) -> tuple[int, np.ndarray, np.ndarray]:
    index, length = struct.unpack_from("<II", message)
    sound = np.frombuffer(message[8 : 8 + length], "<i2")
    return index, sound, np.asarray(Image.open(io.BytesIO(message[8 + length :])))


def receive(socket: Any, count: int = 0) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield frames until the event "end", which has to count them and the ``count`` before."""
    while True:
        message = socket.receive()
        if message.get("text") is not None:
            assert json.loads(message["text"]) == {"type": "end", "frames": count, "dropped": 0}
            return
        assert message["type"] == "websocket.send", message
        count += 1
        yield unpack(message["bytes"])


def url(portrait_id: str, **options: Any) -> str:
    query = "&".join(f"{name}={value}" for name, value in {"size_px": 128, "seed": 1, **options}.items())
    return f"ws://127.0.0.1/v1/live?portrait_id={portrait_id}&{query}"


def refusal(client: TestClient, address: str, *messages: bytes | str, **options: Any) -> tuple[int, str]:
    """Return code and reason with which the server closes the connection."""
    with pytest.raises(WebSocketDisconnect) as caught, client.websocket_connect(address, **options) as socket:
        for message in messages:
            (socket.send_bytes if isinstance(message, bytes) else socket.send_text)(message)
        for _ in range(1000):
            message = socket.receive()
            if message["type"] == "websocket.close":
                raise WebSocketDisconnect(message["code"], message.get("reason"))
    return caught.value.code, caught.value.reason or ""


def test_following_the_sound_gives_the_frames_of_the_api(
    open_live: Open, voice: np.ndarray, portrait: Path
) -> None:
    client, _, portrait_id = open_live()
    sent = voice[: RATE_HZ * 2]
    with client.websocket_connect(url(portrait_id, pace="sound", preset="excited")) as socket:
        ready = socket.receive_json()
        assert ready["size_px"] == [128, 128]
        assert ready["fps"] == "24"
        for start in range(0, len(sent), 960):
            socket.send_bytes(pcm(sent[start : start + 960]))
        socket.send_json({"type": "end"})
        frames = list(receive(socket))
    assert [index for index, _, _ in frames] == list(range(48))
    assert [len(sound) for _, sound, _ in frames] == np.diff(frame_spans(48, Fraction(24), RATE_HZ)).tolist()
    assert np.array_equal(np.concatenate([sound for _, sound, _ in frames]), np.frombuffer(pcm(sent), "<i2"))
    face = vortex.open_live_face(portrait, size_px=128, seed=1, preset="excited")
    rounded = np.frombuffer(pcm(sent), "<i2").astype(np.float32) / 32768
    for (_, _, there), here in zip(frames, face.stream([rounded]), strict=True):
        picture = io.BytesIO()
        Image.fromarray(here.image).save(picture, "JPEG", quality=JPEG_QUALITY)
        assert np.array_equal(there, np.asarray(Image.open(picture)))


def test_late_frames_are_left_out_and_no_sound_is_lost(
    open_live: Open, voice: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vortex.server.live, "LATE_S", 0.0)
    render = LiveFace._render

    def slowly(self: LiveFace, motion: Any, rows: list[int]) -> Any:
        for image in render(self, motion, rows):
            time.sleep(0.15)  # 24 frames take 3.6 s
            yield image

    monkeypatch.setattr(LiveFace, "_render", slowly)
    client, _, portrait_id = open_live()
    sent, indices, sounds = voice[: RATE_HZ * 3], [], []
    with client.websocket_connect(url(portrait_id, pace="sound")) as socket:
        socket.receive_json()
        for start in range(0, len(sent), 2400):
            socket.send_bytes(pcm(sent[start : start + 2400]))
        socket.send_json({"type": "end"})
        while (message := socket.receive()).get("bytes"):
            index, sound, _ = unpack(message["bytes"])
            indices.append(index)
            sounds.append(sound)
    end = json.loads(message["text"])
    assert end["frames"] == len(indices) and end["dropped"] > 0
    assert indices == sorted(set(indices))
    heard = np.concatenate(sounds)
    # The frames at the end may be left out, with their sound.
    assert np.array_equal(heard, np.frombuffer(pcm(sent), "<i2")[: len(heard)])
    assert indices[-1] >= 72 - 24
    assert f"vortex_live_frames_dropped_total {end['dropped']:.1f}" in client.get("/metrics").text


def until(socket: Any, enough: Callable[[np.ndarray], bool]) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Return the frames up to the first whose sound is ``enough``."""
    frames: list[tuple[int, np.ndarray, np.ndarray]] = []
    while not frames or not enough(frames[-1][1]):
        frames.append(unpack(socket.receive_bytes()))
        assert len(frames) < 1000
    return frames


def test_with_the_clock_it_idles_speaks_and_can_be_interrupted(
    open_live: Open, voice: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine may fall behind.
    monkeypatch.setattr(vortex.server.live, "MAX_LAG_S", 60)
    client, server, portrait_id = open_live()
    with client.websocket_connect(url(portrait_id)) as socket:
        socket.receive_json()
        started_s = time.monotonic()
        idle = [unpack(socket.receive_bytes()) for _ in range(24)]
        # A second of frames takes a second: it may be late, never early.
        assert time.monotonic() - started_s > 0.8
        assert not any(sound.any() for _, sound, _ in idle)
        socket.send_bytes(pcm(np.tile(voice, 5)))
        spoken = until(socket, lambda sound: bool(sound.any()))
        assert server.metrics.text().decode().count("vortex_live 1.0") == 1
        socket.send_json({"type": "interrupt"})
        socket.send_json({"type": "preset", "preset": "calm"})
        after = until(socket, lambda sound: not sound.any())
        # Fifteen seconds were queued.
        assert len(after) < 10 * 24
        socket.send_bytes(pcm(voice[:2400]))
        socket.send_json({"type": "end"})
        before = [*idle, *spoken, *after]
        rest = list(receive(socket, len(before)))
    assert sum(int(np.count_nonzero(sound)) for _, sound, _ in rest) > 2000
    assert [index for index, _, _ in [*before, *rest]] == list(range(len(before) + len(rest)))
    # The place is free again.
    with client.websocket_connect(url(portrait_id)) as socket:
        assert socket.receive_json()["type"] == "ready"


def test_options_that_make_no_sense_are_refused(open_live: Open) -> None:
    client, _, known = open_live()
    for address in (
        url(known, preset="furious"), url(known, fps=0), url(known, size_px=3), url(known, pace="slow"),
        url(known, colour="red"), url("6f0c1f6a2b8d4e9f00aa11bb"), url("../../etc"), url(known, seed=-1),
        url(known, sample_rate_hz=1), url(known, engine="liveportrait"), url(known, quality="fast"),
        "ws://127.0.0.1/v1/live",
    ):  # fmt: skip
        code, reason = refusal(client, address)
        assert code == 1008, address
        assert reason, address


@pytest.mark.parametrize(
    "message",
    [
        b"odd", "no JSON", "[]", "{}", '{"type": "fly"}', '{"type": "preset"}',
        '{"type": "preset", "preset": "furious"}', "[" * 100_000,
    ],
)  # fmt: skip
def test_messages_that_make_no_sense_end_the_session(open_live: Open, message: bytes | str) -> None:
    client, server, known = open_live()
    code, reason = refusal(client, url(known), message)
    assert code == 1008
    assert reason
    assert "vortex_live 0.0" in server.metrics.text().decode()


def test_no_more_faces_than_there_are_places(open_live: Open) -> None:
    client, _, known = open_live(max_live=1)
    with client.websocket_connect(url(known)) as socket:
        assert socket.receive_json()["type"] == "ready"
        assert refusal(client, url(known))[0] == 1013


def test_limits_on_time_and_on_what_waits(open_live: Open, voice: np.ndarray) -> None:
    client, _, known = open_live(max_live_s=0.3, max_duration_s=3.5)
    assert refusal(client, url(known)) == (1008, "A face may be live for 0.3 s. Connect again.")
    assert refusal(client, url(known), pcm(np.tile(voice, 3)))[0] == 1009


def test_a_stopping_server_closes_with_going_away(open_live: Open) -> None:
    client, server, known = open_live()
    for pace in ("sound", "clock"):
        with client.websocket_connect(url(known, pace=pace)) as socket:
            socket.receive_json()
            server.stopping.set()
            while (message := socket.receive())["type"] != "websocket.close":
                pass
            assert message["code"] == 1001
        server.stopping.clear()


def test_a_websocket_needs_key_host_and_origin(open_live: Open) -> None:
    client, _, known = open_live(api_key=KEY)
    good = {"Authorization": f"Bearer {KEY}"}
    with client.websocket_connect(url(known), headers=good) as socket:
        assert socket.receive_json()["type"] == "ready"
    # As a page sends it, which cannot set headers.
    protocols = ["vortex.v1", f"key.{KEY}"]
    with client.websocket_connect(url(known), subprotocols=protocols) as socket:
        assert socket.accepted_subprotocol == "vortex.v1"
        assert socket.receive_json()["type"] == "ready"
    for headers in (
        {}, {"Authorization": "Bearer wrong-wrong-wrong-wrong"}, good | {"Origin": "http://evil.example"},
        good | {"Host": "evil.example"},
    ):  # fmt: skip
        assert refusal(client, url(known), headers=headers)[0] == 1008
    with client.websocket_connect(url(known), headers=good | {"Origin": "http://127.0.0.1"}) as socket:
        assert socket.receive_json()["type"] == "ready"
