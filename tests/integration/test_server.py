"""The server, called in this process: what it renders, what it refuses, and what it leaves on the disk."""

from __future__ import annotations

import argparse
import base64
import io
import json
import socket
import struct
import time
import urllib.error
import wave
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageDraw
from support.driving import write_known_video
from support.running_server import get_json, running_server

import vortex
from vortex import errors
from vortex.cli import serve
from vortex.engines.registry import engine_specs
from vortex.media.audio import load_audio
from vortex.options import LiveOptions, VideoOptions
from vortex.server.app import create_app
from vortex.server.context import ServerContext
from vortex.server.decoding import sync_of
from vortex.server.processes import Readers
from vortex.server.settings import ServerSettings
from vortex.session import Session

KEY = "a-key-of-more-than-sixteen-characters"
BASE = "http://127.0.0.1"

Open = Callable[..., tuple[TestClient, ServerContext]]


@pytest.fixture
def open_client(tmp_path: Path) -> Iterator[Open]:
    clients: list[TestClient] = []

    def open_it(**limits: Any) -> tuple[TestClient, ServerContext]:
        server = ServerContext(
            ServerSettings(data=tmp_path / "data", **{"max_running": 1, "grace_s": 5, **limits})
        )
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
    return wav(load_audio(speech, 16_000).samples[6_000:14_000])


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


def files_in(server: ServerContext) -> list[str]:
    folder = server.folder.root
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
    vortex.animate(
        portrait, tmp_path / "clip.wav", tmp_path / "own.mp4", size_px=128, seed=5, preset="excited"
    )
    np.testing.assert_array_equal(frames_of(got.content), frames_of((tmp_path / "own.mp4").read_bytes()))
    assert final["report"]["frames"] == 12
    # The result stays; picture and voice are deleted.
    assert files_in(server) == [f"jobs/{final['id']}", f"jobs/{final['id']}/video.mp4"]


def test_a_clip_as_the_portrait_gets_other_words(
    open_client: Open, portrait: Path, clip: bytes, tmp_path: Path
) -> None:
    client, server = open_client()
    person, sound = tmp_path / "person.mp4", tmp_path / "clip.wav"
    write_known_video(person)
    sound.write_bytes(clip)

    def send_clip(**options: Any) -> Any:
        files = {"portrait": ("person.mp4", person.read_bytes()), "speech": ("s.wav", clip)}
        return client.post("/v1/videos", files=files, data=options)

    assert "keeps its own frames" in send_clip(size_px="128").json()["detail"]
    assert "no effect on a picture" in send(client, portrait, clip, rest="closed").json()["detail"]
    driving = {"portrait": ("p.mp4", person.read_bytes()), "driving": ("d.mp4", person.read_bytes())}
    assert "cannot be driven" in client.post("/v1/videos", files=driving).json()["detail"]
    assert files_in(server) == []

    asked = send_clip(seed=5).json()
    assert asked["portrait_id"] is None
    done = wait(client, asked["id"], "done")
    vortex.animate(person, sound, tmp_path / "own.mp4", seed=5)
    got = client.get(done["video_url"]).content
    np.testing.assert_array_equal(frames_of(got), frames_of((tmp_path / "own.mp4").read_bytes()))
    assert files_in(server) == [f"jobs/{done['id']}", f"jobs/{done['id']}/video.mp4"]


def test_a_range_of_the_video_can_be_fetched(client: TestClient, portrait: Path, clip: bytes) -> None:
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
    # Where a person sees the face: brows to chin, ear to ear.
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


REFUSED_ENGINES = [
    ({"engine": "liveportrait"}, "This server renders with mesh"),
    ({"engine": "none"}, "Unknown engine 'none'"),
    ({"device": "cuda"}, "This server renders on cpu"),
    ({"quality": "fast"}, "quality is 'fast'"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED_ENGINES)
def test_the_operator_chooses_the_engine(
    client: TestClient, portrait: Path, clip: bytes, options: dict[str, str], message: str
) -> None:
    refused = send(client, portrait, clip, **options)
    assert refused.status_code == 422
    assert message in refused.json()["detail"]


@pytest.mark.parametrize(
    "options", [{"engine": "auto"}, {"engine": "mesh", "device": "cpu", "quality": "full"}]
)
def test_a_request_may_name_the_engine_that_the_server_has(
    client: TestClient, portrait: Path, clip: bytes, options: dict[str, str]
) -> None:
    queued = send(client, portrait, clip, **options).json()
    assert queued["options"]["engine"] == "mesh"
    assert wait(client, queued["id"], "done", "failed")["report"]["engine"] == "mesh"


def test_the_description_shows_the_engine_of_the_server(open_client: Open) -> None:
    _, server = open_client()
    for spec in engine_specs().values():
        server.engine_spec = spec
        body = create_app(server).openapi()["paths"]["/v1/videos"]["post"]
        for content in body["requestBody"]["content"].values():
            assert content["schema"]["properties"]["engine"]["default"] == spec.name


def test_a_job_has_the_options_of_vortex_with_their_defaults(
    client: TestClient, portrait: Path, clip: bytes
) -> None:
    files = {"portrait": portrait.read_bytes(), "speech": clip}
    stored = client.post("/v1/videos", files=files).json()["options"]
    request = {"text": None, "driven": False, "clip": False, "check": False, "format": "mp4"}
    assert stored == {**VideoOptions().as_json(), **request}
    face = client.post("/v1/portraits", files={"portrait": portrait.read_bytes()}).json()["id"]
    body = {"portrait_id": face, "speech_base64": base64.b64encode(clip).decode()}
    stored = client.post("/v1/videos", json={**body, "fps": 29.97, "seed": None, "paste_back": True}).json()
    assert stored["options"]["fps"] == "30000/1001"
    assert (stored["options"]["seed"], stored["options"]["paste_back"]) == (None, True)
    for wrong in ({"fps": None}, {"preset": 3}, {"size_px": True}, {"transcript": ["a"]}, {"mark": "maybe"}):
        refused = client.post("/v1/videos", json={**body, **wrong})
        assert (refused.status_code, next(iter(wrong)) in refused.json()["detail"]) == (422, True), (
            refused.text
        )


@pytest.mark.parametrize("mark", [True, False])
def test_the_file_says_that_it_is_synthetic_unless_the_client_declines(
    client: TestClient, portrait: Path, clip: bytes, mark: bool
) -> None:
    video = wait(client, send(client, portrait, clip, mark=str(mark).lower()).json()["id"], "done")
    with av.open(io.BytesIO(client.get(video["video_url"]).content)) as container:
        assert ("compositeSynthetic" in container.metadata["comment"]) is mark


def test_the_sync_of_a_text_is_measured_against_its_planned_phonemes(
    open_client: Open, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, server = open_client()
    if server.why_no_speech:
        pytest.skip(server.why_no_speech)
    given: list[Any] = []

    read = Readers.read

    def spied(self: Readers, what: str, reckon: Any, task: Any, **limits: Any) -> Any:
        if task.func is sync_of:
            given.append(task.args[2])
        return read(self, what, reckon, task, **limits)

    monkeypatch.setattr(Readers, "read", spied)
    files = {"portrait": portrait.read_bytes()}
    asked = client.post(
        "/v1/videos", files=files, data={"text": "Peppy puppies.", "size_px": "256", "check": "true"}
    )
    assert asked.status_code == 202, asked.text
    with client.stream("GET", asked.json()["events_url"]) as answer:
        last = [line for line in answer.iter_lines() if line.startswith("data:")][-1]
    assert json.loads(last[5:])["sync"]["face_share"] == 1
    spoken = [span.phoneme for span in given[0] if span.phoneme != "SIL"]
    # CMU's dictionary: PEPPY P EH P IY, PUPPIES P AH P IY Z
    assert spoken == ["P", "EH", "P", "IY", "P", "AH", "P", "IY", "Z"]


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
def test_bad_files_are_refused_before_they_are_queued_and_leave_nothing(
    open_client: Open, portrait: Path, clip: bytes, field: str, make: Callable[[], bytes], status: int,
    message: str,
) -> None:  # fmt: skip
    client, server = open_client(max_upload_mb=1)
    files = {"portrait": ("../../p.jpg", portrait.read_bytes()), "speech": ("s.wav", clip)}
    answer = client.post("/v1/videos", files=files | {field: ("../../evil", make())})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert message in answer.json()["detail"]
    assert str(server.folder.root) not in answer.text
    assert files_in(server) == []
    assert client.get("/v1/videos").json()["videos"] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "furious"}, "neutral, excited, manic, calm, serious, happy, sad, angry"),
        ({"fps": "1000"}, "1 to 120"),
        ({"size_px": "129"}, "an even whole number from 128 to 2048"),
        ({"duration_s": "301"}, "at most 300"),
        ({"seed": "-1"}, "a whole number from 0"),
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
    # A form that is cut off in its first line is either broken or lacks its fields.
    cut = client.post("/v1/videos", content=b"--x\r\n", headers={"content-type": half})
    assert cut.status_code in (400, 422)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/videos/..%2f..%2fserver.sqlite3", "/page/..%2fapp.py", "/page/x/..%2f..%2fapp.py",
        "/page/%2fetc%2fpasswd", "/page/..%5capp.py",
    ],
)  # fmt: skip
def test_paths_outside_their_folder_are_not_found(client: TestClient, path: str) -> None:
    assert client.get("/page/app.js").status_code == 200
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_cancelling_stops_a_running_job_and_starts_the_next(
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


def test_a_full_queue_refuses_jobs_until_one_is_deleted(
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


def test_without_a_key_only_the_description_and_the_health_are_open(
    open_client: Open, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text(f"{KEY}2\n")
    client, _ = open_client(api_key=KEY, api_key_file=tmp_path / "keys")
    for path in ("/v1/videos", "/v1/portraits", "/metrics", "/v1/limits"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"Authorization": f"Bearer {KEY[:-1]}"}).status_code == 401
        assert client.get(path, headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
        assert client.get(path, headers={"X-API-Key": KEY + "2"}).status_code == 200
    assert client.get("/healthz").json()["status"] == "ok"
    assert client.get("/openapi.json").status_code == 200


def test_pages_of_other_sites_are_refused(client: TestClient) -> None:
    assert client.get("/v1/videos", headers={"Host": "evil.example"}).status_code == 403
    assert client.post("/v1/videos", headers={"Origin": "https://evil.example"}).status_code == 403
    for origin in ("null", "", "http://[::1", "http://127.0.0.1.evil.example"):
        assert client.post("/v1/videos", headers={"Origin": origin}).status_code == 403, origin
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


def test_a_close_up_is_kept_with_its_portrait(open_client: Open, portrait: Path) -> None:
    with Image.open(portrait) as small:
        large = Image.new("RGB", (4000, 2600), (120, 130, 110))
        large.paste(small, (2500, 1500))
    sent = io.BytesIO()
    large.save(sent, "PNG")
    client, server = open_client()
    face = client.post("/v1/portraits", files={"portrait": sent.getvalue()}).json()
    assert (face["width_px"], face["height_px"]) == (1920, 1248)
    options = LiveOptions.parse(size_px=256)
    kept = server.portraits.prepared(face["id"], options).prepared
    direct = server.session.prepare_source(sent.getvalue(), options).prepared
    np.testing.assert_array_equal(kept.landmarks_px, direct.landmarks_px)
    np.testing.assert_array_equal(kept.canvas, direct.canvas)


def test_a_covered_mouth_is_refused_unless_forced(client: TestClient, portrait: Path) -> None:
    points = vortex.load_portrait(portrait).landmarks_px[[227, 197, 447, 397, 152, 172], :2]
    with Image.open(portrait) as picture:
        ImageDraw.Draw(picture).polygon([tuple(point) for point in points], fill=(90, 160, 220))
        sent = io.BytesIO()
        picture.save(sent, "PNG")
    refused = client.post("/v1/portraits", files={"portrait": sent.getvalue()})
    assert refused.status_code == 422 and "looks covered" in refused.json()["detail"]
    forced = client.post("/v1/portraits", files={"portrait": sent.getvalue()}, data={"force_face": "true"})
    assert forced.status_code == 201 and "looks covered" in " ".join(forced.json()["notes"])


def test_the_least_recently_used_portraits_are_deleted(open_client: Open, portrait: Path) -> None:
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


def test_a_job_that_was_running_when_the_server_died_runs_again(
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
    # It ran again, and failed, because its picture was deleted when it was finished the first time.
    assert failed["error"]["message"].startswith("The portrait was deleted")
    assert not [name for name in files_in(server) if "part" in name or "left" in name]
    client.__enter__ = lambda: None  # type: ignore[method-assign]


def test_a_job_that_kills_the_server_again_and_again_fails(open_client: Open, tmp_path: Path) -> None:
    client, server = open_client()
    server.store.add_job("0" * 24, {}, "1" * 24, owns_portrait=False)
    server.store.move_job("0" * 24, expect=("queued", "running", "failed"), state="queued", attempts=3)
    server.workers.wake()
    assert "stopped 3 times" in wait(client, "0" * 24, "failed")["error"]["message"]


def test_unsafe_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(vortex.VortexError, match="API key"):
        ServerSettings(data=tmp_path, host="0.0.0.0")
    with pytest.raises(vortex.VortexError, match="fewer than 16"):
        ServerSettings(data=tmp_path, api_key="short")
    with pytest.raises(vortex.VortexError, match="max_queued is 0"):
        ServerSettings(data=tmp_path, max_queued=0)
    assert ServerSettings(data=tmp_path, host="0.0.0.0", api_key=KEY).host == "0.0.0.0"


def test_two_servers_never_share_a_folder(open_client: Open, tmp_path: Path) -> None:
    open_client()
    with pytest.raises(vortex.VortexError, match="Another server"):
        ServerContext(ServerSettings(data=tmp_path / "data"))


def test_a_server_closes_its_session_also_if_it_cannot_be_opened(
    open_client: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Session] = []
    close = Session.close
    monkeypatch.setattr(Session, "close", lambda self: (closed.append(self), close(self)))
    client, server = open_client()
    with pytest.raises(vortex.VortexError, match="Another server"):
        ServerContext(ServerSettings(data=tmp_path / "data"))
    assert len(closed) == 1 and closed[0] is not server.session
    client.__exit__(None, None, None)
    assert server.session in closed


ERRORS = [
    (errors.NoFaceError("No face in '{folder}/incoming/1/portrait'."), 422, "No face in portrait."),
    (errors.MissingExtraError("Run: pip install 'vortex-portrait[speech]'"), 501, "Run: pip install"),
    (errors.WeightsMissingError("Weights 'a' are not in /home/me/.cache/a. See https://b.c/d/e"), 501,
     "Weights 'a' are not in a. See https://b.c/d/e"),
    (errors.OutOfMemoryError("Not enough memory."), 503, "Not enough memory."),
    (errors.EncodeError("'{folder}/jobs/1/video.mp4' cannot be written."), 500, "video cannot be written."),
]  # fmt: skip


@pytest.mark.parametrize(("error", "status", "message"), ERRORS)
def test_our_errors_become_problems_without_paths(
    open_client: Open,
    portrait: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    message: str,
) -> None:
    client, server = open_client()
    shown = type(error)(str(error).format(folder=server.folder.root))

    def fail(*_: object, **__: object) -> None:
        raise shown

    monkeypatch.setattr(Readers, "read", fail)
    answer = client.post("/v1/portraits", files={"portrait": portrait.read_bytes()})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert message in answer.json()["detail"]
    assert str(server.folder.root) not in answer.text and "/home" not in answer.text


def test_a_flag_counts_more_than_the_environment_and_that_more_than_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = argparse.ArgumentParser()
    serve.add_commands(parser.add_subparsers(), argparse.ArgumentParser(add_help=False))
    monkeypatch.setenv("VORTEX_MAX_QUEUED", "7")
    monkeypatch.setenv("VORTEX_ALLOW_HOST", "a.example, b.example,")
    monkeypatch.setenv("VORTEX_KEEP_S", "")
    monkeypatch.setenv("VORTEX_API_KEY", KEY)
    (tmp_path / "keys").write_text(f"{KEY}1\n{KEY}2\n")
    flags = ["--port", "0", "--max-queued", "8", "--ice-server", "stun:a:1", "--ice-server", "stun:b:2"]
    settings = serve.read_settings(
        parser.parse_args(["serve", *flags, "--api-key-file", str(tmp_path / "keys")])
    )
    assert (settings.port, settings.max_queued, settings.keep_s) == (0, 8, 24 * 3600)
    assert settings.allow_host == ("a.example", "b.example")
    assert settings.ice_server == ("stun:a:1", "stun:b:2")
    assert set(settings.api_keys) == {KEY, KEY + "1", KEY + "2"}
    assert KEY not in repr(settings)
    assert serve.read_settings(parser.parse_args(["serve"])).max_queued == 7
    # Other users of a machine can read the arguments of a command.
    assert "api_key" not in vars(parser.parse_args(["serve"]))
    monkeypatch.setenv("VORTEX_PORT", "high")
    with pytest.raises(vortex.VortexError, match="setting port is 'high'"):
        serve.read_settings(parser.parse_args(["serve"]))


def test_a_proxy_may_call_the_server_by_the_names_that_are_allowed(open_client: Open) -> None:
    client, _ = open_client(allow_host=("videos.example.org", "*.example.com"))
    for host, status in (
        ("videos.example.org", 200), ("VIDEOS.example.org:443", 200), ("a.example.com", 200),
        ("[::1]:8321", 200), ("example.org", 403), ("videos.example.org.evil.example", 403), ("", 403),
    ):  # fmt: skip
        assert client.get("/v1/videos", headers={"Host": host}).status_code == status, host


def test_a_failing_test_leaves_no_server(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), running_server(tmp_path / "data") as address:
        raise ZeroDivisionError
    with pytest.raises(urllib.error.URLError):
        get_json(address + "/healthz")


def test_slow_clients_are_cut_off(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "serve", "--idle-timeout-s", "0.5") as address:
        host, port = address.removeprefix("http://").split(":")
        head = f"POST /v1/videos HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        with socket.create_connection((host, int(port)), timeout=60) as line:
            line.sendall(head.encode())
            # The header is not complete: the connection is closed without an answer.
            assert line.recv(100) == b""
        with socket.create_connection((host, int(port)), timeout=60) as line:
            line.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            assert line.recv(100).startswith(b"HTTP/1.1 408 ")


def test_an_upload_that_is_cut_off_is_no_error_of_the_server(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as address:
        host, port = address.removeprefix("http://").split(":")
        for kind in ("multipart/form-data; boundary=x", "application/json"):
            with socket.create_connection((host, int(port))) as line:
                head = f"POST /v1/videos HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n"
                line.sendall(f"{head}Content-Length: 100000\r\n\r\n--x\r\n".encode())
                time.sleep(0.3)
        assert get_json(address + "/healthz")["status"] == "ok"
    # running_server itself checks that no upload and no traceback is left.


def test_a_job_has_a_format_and_a_picture_behind_the_person(
    client: TestClient, portrait: Path, clip: bytes
) -> None:
    green = io.BytesIO()
    Image.new("RGB", (64, 64), (0, 200, 0)).save(green, "PNG")
    files = {"portrait": portrait.read_bytes(), "speech": clip, "background_picture": green.getvalue()}
    asked = client.post(
        "/v1/videos", files=files, data={"format": "webm", "size_px": "128", "aspect": "9:16"}
    )
    assert asked.status_code == 202, asked.text
    job = wait(client, asked.json()["id"], "done", "failed")
    assert job["state"] == "done", job
    assert job["video_url"].endswith("/video.webm") and job["report"]["size_px"] == [128, 228]
    assert "/" not in job["options"]["background"].removeprefix("./")
    video = client.get(job["video_url"])
    assert video.headers["content-type"] == "video/webm"
    with av.open(io.BytesIO(video.content)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(frame[:6, :6].astype(int) - (0, 200, 0)).max() < 25
    assert client.get(job["video_url"].replace(".webm", ".mp4")).status_code == 404


REFUSED_FRAMES = [
    ({"background": "/etc/passwd"}, "send the picture itself as background_picture"),
    ({"background": "none"}, "MP4 has no transparency"),
    ({"aspect": "2:1"}, "give 1:1, 9:16"),
    ({"format": "avi"}, "format"),
    ({"format": "gif", "check": "true"}, "gif has no sound"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED_FRAMES)
def test_a_frame_that_cannot_be_made_is_refused_at_once(
    client: TestClient, portrait: Path, clip: bytes, options: dict[str, str], message: str
) -> None:
    refused = send(client, portrait, clip, **options)
    assert refused.status_code == 422 and message in refused.json()["detail"]
