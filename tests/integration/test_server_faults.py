"""A locked or damaged database, a full disk and hostile connections cost the server nothing but time."""

from __future__ import annotations

import io
import json
import shutil
import socket
import sqlite3
import threading
import time
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from fastapi.testclient import TestClient
from support.disks import small_file_system
from support.running_server import running_server

import vortex.server.store
from vortex.errors import InputError
from vortex.live import LiveFace
from vortex.media.audio import load_audio
from vortex.server.app import create_app
from vortex.server.context import ServerContext
from vortex.server.inputs import PortraitCache
from vortex.server.settings import ServerSettings
from vortex.server.store import DataFolder, Store

BASE = "http://127.0.0.1"


@pytest.fixture(scope="module")
def clip(speech: Path) -> bytes:
    """Half a second of speech."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        file.writeframes((load_audio(speech, 16_000).samples[6_000:14_000] * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def client(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(vortex.server.store, "BUSY_TIMEOUT_S", 0.1)
    server = ServerContext(ServerSettings(data=data, max_running=1, grace_s=5))
    with TestClient(create_app(server), base_url=BASE, raise_server_exceptions=False) as opened:
        yield opened


def send(client: TestClient, portrait: Path, clip: bytes) -> Any:
    files = {"portrait": ("p.jpg", portrait.read_bytes()), "speech": ("s.wav", clip)}
    return client.post("/v1/videos", files=files, data={"size_px": "128"})


def state_of(client: TestClient, video_id: str, *states: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + 90
    while True:
        video: dict[str, Any] = client.get(f"/v1/videos/{video_id}").json()
        if video.get("state") in states:
            return video
        assert time.monotonic() < deadline_s, video
        time.sleep(0.05)


def files_in(data: Path) -> list[str]:
    return [
        str(p.relative_to(data))
        for name in ("incoming", "jobs", "portraits")
        for p in (data / name).rglob("*")
    ]


def test_a_job_waits_for_a_locked_database_and_is_made(
    client: TestClient, data: Path, portrait: Path, clip: bytes
) -> None:
    video_id = send(client, portrait, clip).json()["id"]
    other = sqlite3.connect(data / "server.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        ready = client.get("/readyz")
        assert ready.status_code == 503 and "database" in ready.json()["problems"][0]
        assert client.get("/healthz").status_code == 200
        refused = send(client, portrait, clip)
        assert refused.status_code == 503 and refused.headers["retry-after"]
        assert refused.headers["content-type"] == "application/problem+json"
        time.sleep(3)  # the video is rendered meanwhile, and cannot be recorded
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert state_of(client, video_id, "done", "failed")["state"] == "done"
    assert state_of(client, send(client, portrait, clip).json()["id"], "done", "failed")["state"] == "done"
    assert client.get("/readyz").json() == {"status": "ready", "problems": []}


def test_a_worker_goes_on_after_any_exception(
    client: TestClient, portrait: Path, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, left = (
        Store.claim_job,
        [sqlite3.OperationalError("disk I/O error"), RuntimeError("x"), OSError(28, "full")],
    )

    def failing(self: Store) -> Any:
        if left:
            raise left.pop()
        return claim(self)

    monkeypatch.setattr(Store, "claim_job", failing)
    assert state_of(client, send(client, portrait, clip).json()["id"], "done")
    assert not left


def test_a_row_that_is_damaged_hides_no_other(
    client: TestClient, data: Path, portrait: Path, clip: bytes
) -> None:
    first = send(client, portrait, clip).json()["id"]
    state_of(client, first, "done")
    with sqlite3.connect(data / "server.sqlite3") as database:
        database.execute("UPDATE jobs SET report = '{' WHERE id = ?", (first,))
        database.execute(
            "INSERT INTO jobs (id, state, options, portrait_id, owns_portrait, created_s) "
            "VALUES ('x', 'queued', '{', 'y', 0, 0)"
        )
    database.close()
    second = send(client, portrait, clip).json()["id"]
    assert state_of(client, second, "done", "failed")["state"] == "done"
    listed = client.get("/v1/videos")
    assert listed.status_code == 200 and [video["id"] for video in listed.json()["videos"]] == [second]


def spoil(path: Path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "cut":
        path.write_bytes(content[: len(content) // 2 - 100])
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(1).bytes(len(content)))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "missing":
        path.unlink()
    else:
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("kind", ["cut", "noise", "empty", "missing", "folder"])
def test_a_damaged_database_is_named_and_no_video_is_deleted(data: Path, kind: str) -> None:
    folder = DataFolder(data)
    store = Store(folder)
    for number in range(300):
        store.add_job(f"job{number}", {"text": "x" * 100}, "p", owns_portrait=False)
    store.close()
    folder.close()
    (data / "jobs" / "job1").mkdir()
    (data / "jobs" / "job1" / "video.mp4").write_bytes(b"a video")
    for beside in data.glob("server.sqlite3-*"):
        beside.unlink()
    spoil(data / "server.sqlite3", kind)
    with pytest.raises(InputError, match=r"server\.sqlite3'.*(Restore|move)"):
        ServerContext(ServerSettings(data=data))
    assert (data / "jobs" / "job1" / "video.mp4").read_bytes() == b"a video"


def test_no_more_jobs_wait_than_are_allowed(data: Path) -> None:
    folder = DataFolder(data)
    store = Store(folder)
    made = [store.add_job(str(n), {}, "p", owns_portrait=False, max_queued=2) for n in range(4)]
    assert [job is not None for job in made] == [True, True, False, False]
    store.close()
    folder.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_file_system(tmp_path / "small", "1m") as folder:
        yield folder


def test_an_upload_to_a_full_disk_is_refused_and_leaves_nothing(
    small_disk: Path, portrait: Path, clip: bytes
) -> None:
    server = ServerContext(ServerSettings(data=small_disk / "data", max_running=1, grace_s=5))
    with TestClient(create_app(server), base_url=BASE, raise_server_exceptions=False) as client:
        (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free - 200_000))
        refused = send(client, portrait, clip)
        assert refused.status_code == 503 and refused.json()["detail"].startswith(
            "The disk of the server is full"
        )
        assert files_in(small_disk / "data") == []
        assert client.get("/readyz").status_code == 503
        (small_disk / "ballast").unlink()
        assert client.get("/healthz").status_code == 200


_POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n{} loop\n"
DISGUISED = [
    ("portrait", b"%!PS\n%% WEBP\n" + _POSTSCRIPT, 415),
    ("portrait", b"P6 8 8   WEBP255\n" + bytes(300), 415),
    ("portrait", b"RIFF\0\0\0\0WEBP" + _POSTSCRIPT, 422),
    ("portrait", b"\xff\xd8\xff" + _POSTSCRIPT, 422),
    ("speech", b"v=0\no=x \nWAVE s=x\nm=audio 9 RTP/AVP 0\n", 415),
    ("speech", b"WEBVTT\n\nWAVE\n00:00.000 --> 00:01.000\nx\n", 415),
    ("speech", b"ID3#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", 422),
    ("speech", b"ID3\nffconcat version 1.0\nfile /etc/passwd\n", 422),
    ("speech", b"RIFF\0\0\0\0WAVE#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", 422),
]


@pytest.mark.parametrize(("field", "content", "status"), DISGUISED, ids=range(len(DISGUISED)))
def test_what_has_the_marks_of_another_format_reaches_no_other_decoder(
    client: TestClient, data: Path, portrait: Path, clip: bytes, field: str, content: bytes, status: int
) -> None:
    files = {"portrait": ("p", portrait.read_bytes()), "speech": ("s", clip), field: ("x", content)}
    assert client.post("/v1/videos", files=files).status_code == status
    assert files_in(data) == []


def test_invented_methods_add_no_figures(client: TestClient) -> None:
    for number in range(30):
        assert client.request(f"M{number}", "/").status_code == 405
    told = client.get("/metrics").text
    assert 'method="other"' in told and "M1" not in told


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/healthz", "GET, HEAD"), ("PUT", "/v1/videos", "GET, POST"), ("POST", "/v1/limits", "GET"),
     ("PUT", "/v1/videos/abc", "DELETE, GET")],
)  # fmt: skip
def test_a_method_that_is_not_allowed_is_answered_with_those_that_are(
    client: TestClient, method: str, path: str, allowed: str
) -> None:
    refused = client.request(method, path)
    assert (refused.status_code, refused.headers["allow"]) == (405, allowed)
    assert client.head("/healthz").status_code == client.head("/readyz").status_code == 200


def test_as_many_uploads_are_decoded_at_once_as_jobs_may_run(
    client: TestClient, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may take hundreds of megabytes; the others wait, and nothing else waits for them."""
    at_once, most, find = [0], [0], PortraitCache.add

    def counted(self: PortraitCache, *args: Any, **options: Any) -> Any:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        time.sleep(0.1)
        try:
            return find(self, *args, **options)
        finally:
            at_once[0] -= 1

    monkeypatch.setattr(PortraitCache, "add", counted)
    content = portrait.read_bytes()
    with ThreadPoolExecutor(6) as senders:
        sent = [
            senders.submit(client.post, "/v1/portraits", files={"portrait": ("p.jpg", content)})
            for _ in range(6)
        ]
        assert [future.result().status_code for future in sent] == [201] * 6
    assert most[0] == 1


@pytest.mark.parametrize(
    ("origin", "own"),
    [("http://127.0.0.1:8321", True), ("http://127.0.0.1:3000", False),
     ("https://127.0.0.1:8321", False),
     ("http://127.0.0.1", False), ("http://localhost:8321", False),
     ("http://[", False), ("http://a[b]", False)],
)  # fmt: skip
def test_only_pages_of_the_same_scheme_name_and_port_are_own(
    client: TestClient, origin: str, own: bool
) -> None:
    headers = {"Host": "127.0.0.1:8321", "Origin": origin}
    assert client.post("/v1/videos", headers=headers).status_code == (415 if own else 403)


@pytest.mark.parametrize("host", ["[", "a[b]", "[::1", "]", "127.0.0.1:x", "127.0.0.1:99999", ""])
def test_no_host_header_is_a_fault_of_the_server(client: TestClient, host: str) -> None:
    for path in ("/healthz", "/", "/v1/videos"):
        assert client.get(path, headers={"Host": host}).status_code < 500
        assert client.post(path, headers={"Host": host, "Origin": "http://["}).status_code < 500


def test_a_header_may_pause_on_no_request_of_a_connection(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "serve", "--idle-timeout-s", "1") as address:
        place = (urlsplit(address).hostname, urlsplit(address).port)
        for before in (0, 1, 3):
            with socket.create_connection(place, timeout=30) as connection:
                for _ in range(before):
                    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                    answer = b""
                    while not answer.endswith(b"}"):
                        answer += connection.recv(65_536)
                    assert answer.startswith(b"HTTP/1.1 200")
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost:")
                assert connection.recv(65_536) == b""  # the server closes it; else this ends with a time-out


def test_a_long_live_message_is_recognised_in_parts_outside_the_loop(
    client: TestClient, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[tuple[int, bool]] = []
    push = LiveFace.push

    def spied(self: LiveFace, samples: Any) -> Any:
        in_loop = True
        try:
            import asyncio

            asyncio.get_running_loop()
        except RuntimeError:
            in_loop = False
        pushed.append((len(samples), in_loop))
        return push(self, samples)

    monkeypatch.setattr(LiveFace, "push", spied)
    files = {"portrait": ("p.jpg", portrait.read_bytes())}
    known = client.post("/v1/portraits", files=files).json()["id"]
    address = (
        f"ws://127.0.0.1/v1/live?portrait_id={known}&size_px=128&seed=1&pace=sound&sample_rate_hz=8000&fps=4"
    )
    with client.websocket_connect(address) as live:
        live.receive_json()
        live.send_bytes(bytes(2 * 8_000 * 5))
        live.send_text(json.dumps({"type": "end"}))
        while live.receive().get("text") is None:
            pass
    assert sum(length for length, _ in pushed) == 40_000
    assert max(length for length, _ in pushed) <= 8_000 * 0.5
    assert not any(in_loop for _, in_loop in pushed)


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", 99_999), ("port", -1), ("grace_s", float("inf")), ("max_connections", 10**11),
     ("keep_s", 1e300),
     ("max_upload_mb", float("inf")), ("max_duration_s", float("nan")),
     ("idle_timeout_s", 0), ("max_running", 10**9),
     ("ice_server", "foo"), ("ice_server", "http://example.org"), ("max_pixels", 10**12)],
)  # fmt: skip
def test_a_setting_outside_its_range_is_refused(data: Path, name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"The setting {name}"):
        ServerSettings(data=data, **{name: value})  # type: ignore[arg-type]


def test_threads_that_wait_end_with_the_server(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Store) -> Any:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(Store, "claim_job", failing)
    server = ServerContext(ServerSettings(data=data, max_running=2, grace_s=5))
    with TestClient(create_app(server), base_url=BASE):
        pass
    assert not any(thread.is_alive() for thread in server.workers._threads)
    assert threading.active_count() < 20
