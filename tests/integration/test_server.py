"""The server, called in-process: what it makes, what it refuses, and what it leaves on the disk."""

from __future__ import annotations

import base64
import io
import json
import socket
import struct
import time
import wave
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from running_server import get_json, running_server

import vortex
from vortex.web.app import Server, create_app, open_server
from vortex.web.settings import ServerSettings

KEY = "a-key-of-more-than-sixteen-characters"
BASE = "http://127.0.0.1"

Open = Callable[..., tuple[TestClient, Server]]


@pytest.fixture
def open_client(tmp_path: Path) -> Iterator[Open]:
    clients: list[TestClient] = []

    def open_it(**limits: Any) -> tuple[TestClient, Server]:
        server = open_server(ServerSettings(tmp_path / "data", **{"max_running": 1, "grace_s": 5, **limits}))
        client = TestClient(create_app(server), base_url=BASE)
        client.__enter__()
        clients.append(client)
        return client, server

    yield open_it
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(open_client: Open) -> TestClient:
    return open_client()[0]


@pytest.fixture(scope="module")
def clip(speech: Path) -> bytes:
    """Half a second of speech."""
    return wav(vortex_samples(speech)[6_000:14_000])


def vortex_samples(path: Path) -> np.ndarray:
    from vortex.audio import load_audio

    return load_audio(path, 16_000).samples


def wav(samples: np.ndarray, rate: int = 16_000) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", "not compressed"))
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def send(client: TestClient, portrait: Path, clip: bytes, **options: Any) -> Any:
    files = {"portrait": ("p.jpg", portrait.read_bytes()), "speech": ("s.wav", clip)}
    return client.post("/v1/videos", files=files, data={"size_px": "128", **options})


def wait(client: TestClient, video_id: str, *states: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + 60
    while True:
        video: dict[str, Any] = client.get(f"/v1/videos/{video_id}").json()
        if video["state"] in states:
            return video
        assert time.monotonic() < deadline_s, video
        time.sleep(0.02)


def frames_of(content: bytes) -> np.ndarray:
    with av.open(io.BytesIO(content)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def files_in(server: Server) -> list[str]:
    folder = server.settings.data_dir
    return sorted(
        str(path.relative_to(folder))
        for name in ("incoming", "jobs", "portraits")
        for path in (folder / name).rglob("*")
    )


def test_an_upload_becomes_the_video_that_animate_makes(
    open_client: Open, portrait: Path, clip: bytes, tmp_path: Path
) -> None:
    client, server = open_client()
    asked = send(client, portrait, clip, seed=5, preset="excited")
    assert asked.status_code == 202
    assert asked.headers["location"] == f"/v1/videos/{asked.json()['id']}"
    with client.stream("GET", asked.json()["events_url"]) as answer:
        events = [line for line in answer.iter_lines() if line.startswith(("id:", "event:", "data:"))]
    ids = [int(line[3:]) for line in events if line.startswith("id:")]
    assert ids == sorted(set(ids))
    final = json.loads(events[-1][5:])
    assert final["state"] == "done"
    got = client.get(final["video_url"])
    assert got.headers["content-type"] == "video/mp4"
    (tmp_path / "clip.wav").write_bytes(clip)
    vortex.animate_file(
        portrait, tmp_path / "clip.wav", tmp_path / "own.mp4", size_px=128, seed=5, preset="excited"
    )
    np.testing.assert_array_equal(frames_of(got.content), frames_of((tmp_path / "own.mp4").read_bytes()))
    assert final["report"]["frames"] == 12
    # the result stays, picture and voice do not
    assert files_in(server) == [f"jobs/{final['id']}", f"jobs/{final['id']}/video.mp4"]


def test_browsers_can_seek(client: TestClient, portrait: Path, clip: bytes) -> None:
    video = wait(client, send(client, portrait, clip).json()["id"], "done")
    whole = client.get(video["video_url"]).content
    part = client.get(video["video_url"], headers={"Range": "bytes=100-299"})
    assert part.status_code == 206
    assert part.headers["content-range"] == f"bytes 100-299/{len(whole)}"
    assert part.content == whole[100:300]


def test_a_portrait_is_prepared_once_and_used_by_its_id(
    open_client: Open, portrait: Path, clip: bytes
) -> None:
    client, server = open_client()
    found = client.post("/v1/portraits", files={"portrait": portrait.read_bytes()})
    assert found.status_code == 201
    face = found.json()
    with Image.open(portrait) as picture:
        assert (face["width_px"], face["height_px"]) == picture.size
    # where a person sees the face: brows to chin, ear to ear
    assert np.abs(np.subtract(face["face_box_px"], (170, 130, 355, 335))).max() < 15
    prepared = []
    prepare = server.engine.prepare
    server.engine.prepare = lambda *args, **options: prepared.append(args) or prepare(*args, **options)  # type: ignore[method-assign]
    body = {"portrait_id": face["id"], "speech_base64": base64.b64encode(clip).decode(), "size_px": 128}
    for _ in range(2):
        asked = client.post("/v1/videos", json=body)
        assert asked.status_code == 202, asked.text
        assert wait(client, asked.json()["id"], "done", "failed")["portrait_id"] == face["id"]
    assert len(prepared) == 1
    assert client.delete(f"/v1/portraits/{face['id']}").status_code == 204
    assert client.post("/v1/videos", json=body).status_code == 404
    assert not [name for name in files_in(server) if name.startswith("portraits/")]


def test_the_sync_of_the_result_is_measured_on_request(
    client: TestClient, portrait: Path, speech: Path
) -> None:
    asked = send(client, portrait, speech.read_bytes(), size_px="256", check="true")
    with client.stream("GET", asked.json()["events_url"]) as answer:
        last = [line for line in answer.iter_lines() if line.startswith("data:")][-1]
    sync = json.loads(last[5:])["sync"]
    assert abs(sync["offset_frames"]) < 1
    assert sync["complaints"] == []


def bomb() -> bytes:
    """Return a PNG of 20 kB that claims, and has, 400 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(2501) * 20_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (300, 300), "white").save(buffer, kind)
    return buffer.getvalue()


def long_sound() -> bytes:
    """Return a small FLAC of six minutes."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=8_000, layout="mono")
        tone = np.tile(np.int16([8000, -8000]), 4000 * 60)[None]
        for minute in range(6):
            frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 8_000, minute * tone.shape[1]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


BAD_FILES = [
    ("portrait", lambda: b"a text", 415, "JPEG, PNG or WebP"),
    ("portrait", lambda: picture("GIF"), 415, "JPEG, PNG or WebP"),
    ("portrait", lambda: picture("JPEG")[:300], 422, "cannot be decoded"),
    ("portrait", lambda: picture("PNG"), 422, "No face found in portrait"),
    ("portrait", bomb, 422, "at most 40 million pixels"),
    ("portrait", lambda: b"", 415, "JPEG, PNG or WebP"),
    ("portrait", lambda: bytes(1_100_000), 413, "larger than 1000000 bytes"),
    ("speech", lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", 415, "is not a WAV"),
    ("speech", lambda: b"ffconcat version 1.0\nfile /etc/passwd\n", 415, "is not a WAV"),
    ("speech", lambda: b"RIFF\x00\x00\x00\x00WAVEnonsense" * 20, 422, "speech"),
    ("speech", lambda: wav(np.zeros(16_000)), 422, "silent"),
    ("speech", lambda: wav(np.ones(100)), 422, "at least 0.1 s"),
    ("speech", long_sound, 422, "more than 300 s"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "make", "status", "message"), BAD_FILES)
def test_bad_files_are_refused_at_once_and_leave_nothing(
    open_client: Open, portrait: Path, clip: bytes, field: str, make: Callable[[], bytes], status: int,
    message: str,
) -> None:  # fmt: skip
    client, server = open_client(max_upload_mb=1)
    files = {"portrait": ("../../p.jpg", portrait.read_bytes()), "speech": ("s.wav", clip)}
    answer = client.post("/v1/videos", files=files | {field: ("../../evil", make())})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert message in answer.json()["detail"]
    assert str(server.settings.data_dir) not in answer.text
    assert files_in(server) == []
    assert client.get("/v1/videos").json()["videos"] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "angry"}, "neutral, excited, manic, calm"),
        ({"fps": "1000"}, "1 to 120"),
        ({"size_px": "129"}, "multiple of 2"),
        ({"duration_s": "301"}, "at most 300"),
        ({"seed": "-1"}, "greater than or equal to 0"),
        ({"colour": "red"}, "colour"),
        ({"portrait_id": "0" * 24}, "either"),
        ({"portrait_id": "../../etc/passwd"}, "portrait_id"),
    ],
)
def test_bad_options_are_refused_by_name(
    open_client: Open, portrait: Path, clip: bytes, options: dict[str, str], message: str
) -> None:
    client, server = open_client()
    answer = send(client, portrait, clip, **options)
    assert answer.status_code == 422
    assert message in answer.json()["detail"]
    assert files_in(server) == []


def test_bodies_that_are_neither_form_nor_json_are_refused(client: TestClient) -> None:
    assert client.post("/v1/videos", content=b"x", headers={"content-type": "text/plain"}).status_code == 415
    broken = client.post("/v1/videos", content=b"{", headers={"content-type": "application/json"})
    assert broken.status_code == 400
    assert client.post("/v1/videos", json={"speech_base64": "***"}).status_code == 422
    half = "multipart/form-data; boundary=x"
    # cut off in its first line, a form is either broken or lacks its fields
    cut = client.post("/v1/videos", content=b"--x\r\n", headers={"content-type": half})
    assert cut.status_code in (400, 422)


def test_paths_lead_nowhere_else(client: TestClient) -> None:
    for path in ("/v1/videos/..%2f..%2fserver.sqlite3", "/static/..%2f..%2fapp.py", "/static/%2e%2e/app.py"):
        assert client.get(path).status_code == 404


def test_cancelling_stops_a_running_job_and_frees_its_place(
    open_client: Open, portrait: Path, clip: bytes
) -> None:
    client, server = open_client()
    long = send(client, portrait, clip, duration_s="280", size_px="512").json()["id"]
    waiting = send(client, portrait, clip).json()
    assert waiting["ahead"] == 0
    deadline_s = time.monotonic() + 30
    while client.get(f"/v1/videos/{long}").json()["progress"]["stage"] != "render":
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    assert client.get(f"/v1/videos/{long}").json()["progress"]["total"] == 280 * 24
    assert client.post(f"/v1/videos/{long}/cancel").json()["state"] == "cancelled"
    wait(client, waiting["id"], "done")
    assert client.post(f"/v1/videos/{long}/cancel").status_code == 409
    assert client.get(f"/v1/videos/{long}/video.mp4").status_code == 409
    assert [name for name in files_in(server) if long in name] == [f"jobs/{long}"]
    assert client.delete(f"/v1/videos/{long}").status_code == 204
    assert client.get(f"/v1/videos/{long}").status_code == 404
    assert not [name for name in files_in(server) if long in name]


def test_a_full_queue_says_so_and_a_deleted_job_makes_room(
    open_client: Open, portrait: Path, clip: bytes
) -> None:
    client, _server = open_client(max_queued=1)
    running = send(client, portrait, clip, duration_s="200", size_px="512").json()["id"]
    wait(client, running, "running")
    queued = send(client, portrait, clip).json()["id"]
    full = send(client, portrait, clip)
    assert full.status_code == 429
    assert int(full.headers["retry-after"]) > 0
    assert client.delete(f"/v1/videos/{queued}").status_code == 204
    assert send(client, portrait, clip).status_code == 202
    assert client.delete(f"/v1/videos/{running}").status_code == 204


def test_paging_visits_every_video_once_newest_first(open_client: Open, portrait: Path, clip: bytes) -> None:
    client, server = open_client()
    face = client.post("/v1/portraits", files={"portrait": portrait.read_bytes()}).json()["id"]
    for index in range(7):
        server.store.add_job(f"{index:024x}", {}, face, owns_portrait=False)
        server.store.move_job(f"{index:024x}", expect=("queued",), state="done")
    seen, cursor = [], None
    while True:
        query = {"limit": 3, "state": "done"} | ({"cursor": cursor} if cursor else {})
        page = client.get("/v1/videos", params=query).json()
        seen += [int(video["id"], 16) for video in page["videos"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [6, 5, 4, 3, 2, 1, 0]
    assert client.get("/v1/videos", params={"state": "failed"}).json()["videos"] == []


def test_events_resume_after_the_last_one_seen(client: TestClient, portrait: Path, clip: bytes) -> None:
    video = wait(client, send(client, portrait, clip).json()["id"], "done")
    url, revision = video["events_url"], video["revision"]
    older = client.get(url, headers={"Last-Event-ID": str(revision - 1)})
    assert f"id: {revision}\nevent: done" in older.text
    assert client.get(url, headers={"Last-Event-ID": str(revision)}).status_code == 204
    assert client.get(url, headers={"Last-Event-ID": "nonsense"}).text.count("event: ") == 1


def test_without_the_key_only_the_description_and_the_pulse_are_open(open_client: Open) -> None:
    client, _ = open_client(api_keys=(KEY, KEY + "2"))
    for path in ("/v1/videos", "/v1/portraits", "/metrics", "/v1/limits"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"Authorization": f"Bearer {KEY[:-1]}"}).status_code == 401
        assert client.get(path, headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
        assert client.get(path, headers={"X-API-Key": KEY + "2"}).status_code == 200
    assert client.get("/healthz").json()["status"] == "ok"
    assert client.get("/openapi.json").status_code == 200


def test_other_sites_cannot_use_a_visitors_browser(client: TestClient) -> None:
    assert client.get("/v1/videos", headers={"Host": "evil.example"}).status_code == 403
    assert client.post("/v1/videos", headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.post("/v1/videos", headers={"Origin": "null"}).status_code == 403
    assert client.post("/v1/videos", headers={"Origin": BASE}).status_code == 415
    assert client.get("/v1/videos", headers={"Host": "localhost:8321"}).status_code == 200


def test_results_expire_with_all_their_files(open_client: Open, portrait: Path, clip: bytes) -> None:
    client, server = open_client()
    video = wait(client, send(client, portrait, clip).json()["id"], "done")
    face = client.post("/v1/portraits", files={"portrait": portrait.read_bytes()}).json()["id"]
    server.workers.delete_expired()
    assert client.get(video["video_url"]).status_code == 200
    server.store.move_job(video["id"], expect=("done",), expires_s=time.time() - 1)
    server.store._run("UPDATE portraits SET used_s = ? WHERE id = ?", (time.time() - 2 * 86400, face))
    server.workers.delete_expired()
    assert client.get(video["video_url"]).status_code == 404
    assert client.get(f"/v1/portraits/{face}").status_code == 404
    assert files_in(server) == []


def test_the_portraits_used_longest_ago_make_room(open_client: Open, portrait: Path) -> None:
    client, server = open_client(max_portraits=2)
    ids = []
    for _ in range(3):
        ids.append(client.post("/v1/portraits", files={"portrait": portrait.read_bytes()}).json()["id"])
        if len(ids) == 2:
            server.store.touch_portrait(ids[0])
    kept = {face["id"] for face in client.get("/v1/portraits").json()["portraits"]}
    assert kept == {ids[0], ids[2]}
    assert len(files_in(server)) == 2


def test_metrics_count_what_happened(client: TestClient, portrait: Path, clip: bytes) -> None:
    wait(client, send(client, portrait, clip).json()["id"], "done")
    lines = client.get("/metrics").text.splitlines()
    assert 'vortex_jobs_total{state="done"} 1.0' in lines
    assert "vortex_video_seconds_total 0.5" in lines
    assert 'vortex_http_requests_total{method="POST",status="202"} 1.0' in lines


def test_a_job_that_was_running_when_the_server_died_is_made_by_the_next_one(
    open_client: Open, portrait: Path, clip: bytes, tmp_path: Path
) -> None:
    client, server = open_client()
    job = wait(client, send(client, portrait, clip).json()["id"], "done")["id"]
    server.store.move_job(job, expect=("done",), state="running")
    client.__exit__(None, None, None)
    (tmp_path / "data" / "jobs" / job / ".vortex-1-1.part").write_bytes(b"half a video")
    (tmp_path / "data" / "jobs" / job / "speech").write_bytes(clip)
    (tmp_path / "data" / "incoming" / "left").mkdir()
    again, server = open_client()
    failed = wait(again, job, "done", "failed")
    # its picture is gone, as this test began with a finished job: but it was taken up
    assert failed["error"]["message"].startswith("The portrait was deleted")
    assert not [name for name in files_in(server) if "part" in name or "left" in name]
    client.__enter__ = lambda: None  # type: ignore[method-assign]


def test_a_job_that_kills_the_server_again_and_again_is_given_up(open_client: Open, tmp_path: Path) -> None:
    client, server = open_client()
    server.store.add_job("0" * 24, {}, "1" * 24, owns_portrait=False)
    server.store.move_job("0" * 24, expect=("queued", "running", "failed"), state="queued", attempts=3)
    server.workers.wake()
    assert "stopped 3 times" in wait(client, "0" * 24, "failed")["error"]["message"]


def test_settings_that_open_the_door_are_refused(tmp_path: Path) -> None:
    with pytest.raises(vortex.VortexError, match="API key"):
        ServerSettings(tmp_path, host="0.0.0.0")
    with pytest.raises(vortex.VortexError, match="fewer than 16"):
        ServerSettings(tmp_path, api_keys=("short",))
    with pytest.raises(vortex.VortexError, match="max_queued is 0"):
        ServerSettings(tmp_path, max_queued=0)
    assert ServerSettings(tmp_path, host="0.0.0.0", api_keys=(KEY,)).host == "0.0.0.0"


def test_two_servers_never_share_a_folder(open_client: Open, tmp_path: Path) -> None:
    open_client()
    with pytest.raises(vortex.VortexError, match="Another server"):
        open_server(ServerSettings(tmp_path / "data"))


def test_an_upload_that_is_cut_off_is_no_error_of_the_server(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as address:
        host, port = address.removeprefix("http://").split(":")
        for kind in ("multipart/form-data; boundary=x", "application/json"):
            with socket.create_connection((host, int(port))) as line:
                head = f"POST /v1/videos HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n"
                line.sendall(f"{head}Content-Length: 100000\r\n\r\n--x\r\n".encode())
                time.sleep(0.3)
        assert get_json(address + "/healthz")["status"] == "ok"
    # running_server looks for what was left, and for complaints
