"""What programs use beside the videos: names, pages, HEAD, CORS, webhooks, the access log, the phone."""

from __future__ import annotations

import hmac
import io
import json
import threading
import time
import wave
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from support.pages import python_block
from support.running_server import running_server

from vortex.media.audio import load_audio
from vortex.media.reading import iter_timed_frames
from vortex.options import VideoOptions, options_of
from vortex.server import webhooks
from vortex.server.app import create_app
from vortex.server.context import ServerContext
from vortex.server.settings import ServerSettings

KEY = "a-key-of-more-than-sixteen-characters"
SECRET = "whsec_" + b64encode(b"x" * 32).decode()
ORIGIN = "https://app.example.org"

Open = Callable[..., TestClient]


@pytest.fixture
def open_client(tmp_path: Path) -> Iterator[Open]:
    clients: list[TestClient] = []

    def open_it(name: str = "127.0.0.1", **settings: Any) -> TestClient:
        chosen = ServerSettings(data=tmp_path / "data", **{"max_running": 1, "grace_s": 5, **settings})
        client = TestClient(create_app(ServerContext(chosen)), base_url=f"http://{name}")
        client.__enter__()
        clients.append(client)
        return client

    yield open_it
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture(scope="module")
def short(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a second of speech."""
    path = tmp_path_factory.mktemp("sound") / "short.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        file.writeframes((load_audio(speech, 16_000).samples[6_000:14_000] * 32767).astype("<i2").tobytes())
    return path


def make(client: TestClient, portrait: Path, speech: Path, **fields: Any) -> dict[str, Any]:
    files = {"portrait": portrait.read_bytes(), "speech": speech.read_bytes()}
    data = {"size_px": "128", **fields}
    asked = client.post("/v1/videos", files=files, data=data)
    assert asked.status_code == 202, asked.text
    deadline_s = time.monotonic() + 60
    while True:
        video: dict[str, Any] = client.get(f"/v1/videos/{asked.json()['id']}").json()
        assert video["state"] != "failed", video["error"]
        if video["state"] not in ("queued", "running"):
            return video
        assert time.monotonic() < deadline_s, video
        time.sleep(0.02)


def test_videos_are_found_by_name_and_state_page_by_page(
    open_client: Open, portrait: Path, short: Path
) -> None:
    client = open_client()
    for name in ("Greeting one", "other", "greeting 100%"):
        assert make(client, portrait, short, name=name)["options"]["name"] == name

    def names(**query: Any) -> list[str]:
        page = client.get("/v1/videos", params=query).json()
        return [video["options"]["name"] for video in page["videos"]]

    assert names(name="GREETING") == ["greeting 100%", "Greeting one"]
    assert names(name="%") == ["greeting 100%"]
    assert names(name="greeting", state="failed") == []
    first = client.get("/v1/videos", params={"name": "greeting", "limit": 1}).json()
    assert names(name="greeting", limit=1, cursor=first["next"]) == ["Greeting one"]


def test_a_download_is_called_by_its_name_and_answers_head(
    open_client: Open, portrait: Path, short: Path
) -> None:
    client = open_client()
    video = make(client, portrait, short, name="Grüße: aus/../Köln?")
    got, head = client.get(video["video_url"]), client.head(video["video_url"])
    # RFC 6266: what is not ASCII is percent-encoded.
    assert "Gr%C3%BC%C3%9Fe-aus-K%C3%B6ln.mp4" in got.headers["content-disposition"]
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(got.content))
    for path in ("/", "/docs", "/page/app.js", "/page/example.jpg"):
        assert client.head(path).headers["content-length"] == str(len(client.get(path).content)), path


def test_the_thumbnail_shows_the_first_frame(
    open_client: Open, portrait: Path, short: Path, tmp_path: Path
) -> None:
    client = open_client()
    video = make(client, portrait, short)
    (tmp_path / "v.mp4").write_bytes(client.get(video["video_url"]).content)
    small = client.get(f"/v1/videos/{video['id']}/thumbnail.jpg")
    assert small.headers["content-type"] == "image/jpeg"
    shown = np.asarray(Image.open(io.BytesIO(small.content)), float)
    _, frame = next(iter_timed_frames(tmp_path / "v.mp4"))
    assert shown.shape == (128, 128, 3)
    assert np.abs(shown - frame).mean() < 5


def test_the_picture_of_a_portrait_comes_back(open_client: Open, portrait: Path) -> None:
    client = open_client()
    found = client.post("/v1/portraits", files={"portrait": portrait.read_bytes()}).json()
    got = client.get(f"/v1/portraits/{found['id']}/picture.jpg")
    sent = Image.open(portrait).convert("RGB")
    shown = Image.open(io.BytesIO(got.content))
    assert shown.size == (found["width_px"], found["height_px"])
    assert np.abs(np.asarray(shown, float) - np.asarray(sent.resize(shown.size), float)).mean() < 5


def test_a_sound_is_checked_before_a_video_is_asked_for(open_client: Open, speech: Path) -> None:
    client = open_client()

    def check(content: bytes) -> Any:
        return client.post("/v1/sounds/check", files={"speech": content})

    assert check(speech.read_bytes()).json()["duration_s"] == pytest.approx(3.1, abs=0.1)
    silent = b"RIFF" + (36 + 32_000).to_bytes(4, "little") + b"WAVEfmt " + bytes.fromhex(
        "10000000 0100 0100 803e0000 007d0000 0200 1000"
    ) + b"data" + (32_000).to_bytes(4, "little") + bytes(32_000)  # fmt: skip
    assert (check(silent).status_code, "silent" in check(silent).json()["detail"]) == (422, True)
    assert check(b"no sound at all").status_code == 415


def test_pages_of_another_site_may_use_the_server_only_if_it_is_allowed(open_client: Open) -> None:
    client = open_client(allow_origin=ORIGIN, api_key=KEY)
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "authorization"}  # fmt: skip
    answer = client.options("/v1/portraits", headers=asked)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, ORIGIN)
    key = {"Authorization": f"Bearer {KEY}"}
    assert client.post("/v1/portraits", headers={"Origin": ORIGIN}).status_code == 401
    assert client.post("/v1/portraits", headers={"Origin": ORIGIN, **key}).status_code == 415
    other = client.post("/v1/portraits", headers={"Origin": "https://evil.example", **key})
    assert (other.status_code, "access-control-allow-origin" in other.headers) == (403, False)


def test_without_the_setting_no_site_is_allowed(open_client: Open) -> None:
    client = open_client()
    assert client.post("/v1/portraits", headers={"Origin": ORIGIN}).status_code == 403
    assert "access-control-allow-origin" not in client.get("/v1/limits", headers={"Origin": ORIGIN}).headers


class Receiver(BaseHTTPRequestHandler):
    received: list[tuple[dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
        # The first attempt fails.
        self.send_response(204 if len(self.received) > 1 else 500)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_webhook_is_signed_and_tried_again(
    open_client: Open, portrait: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "RETRY_DELAYS_S", (0.1, 0.1))
    Receiver.received = []
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/hook"
        client = open_client(webhook_secret=SECRET, allow_webhook="127.0.0.1")
        video = make(client, portrait, short, webhook_url=url)
        deadline_s = time.monotonic() + 30
        while len(Receiver.received) < 2:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        time.sleep(1.2)
    finally:
        server.shutdown()
        server.server_close()
    assert len(Receiver.received) == 2, "a receipt ends the attempts"
    (first, _), (headers, body) = Receiver.received
    assert first["webhook-id"] == headers["webhook-id"]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = hmac.new(b64decode(SECRET[6:]), signed, sha256).digest()
    assert headers["webhook-signature"] == "v1," + b64encode(expected).decode()
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    event = json.loads(body)
    assert (event["type"], event["data"]["id"]) == ("video.done", video["id"])


def test_a_webhook_into_a_private_network_is_refused(open_client: Open, portrait: Path, short: Path) -> None:
    client = open_client(webhook_secret=SECRET)
    files = {"portrait": portrait.read_bytes(), "speech": short.read_bytes()}
    answer = client.post("/v1/videos", files=files, data={"webhook_url": "http://169.254.169.254/"})
    assert (answer.status_code, "private network" in answer.json()["detail"]) == (422, True)
    assert client.get("/v1/videos").json()["videos"] == []


def test_the_access_log_has_ids_and_no_secrets(
    open_client: Open, portrait: Path, short: Path, tmp_path: Path
) -> None:
    client = open_client(access_log=tmp_path / "access.log", api_key=KEY)
    client.headers["Authorization"] = f"Bearer {KEY}"
    video = make(client, portrait, short)
    answer = client.get("/v1/videos?name=a-private-name&key=" + KEY)
    text = (tmp_path / "access.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert KEY not in text and "a-private-name" not in text
    made = next(line for line in lines if line["method"] == "POST")
    assert (made["status"], made["location"]) == (202, f"/v1/videos/{video['id']}")
    last = lines[-1]
    assert (last["id"], last["path"]) == (answer.headers["x-request-id"], "/v1/videos")
    assert last["bytes"] == len(answer.content)


def test_the_page_of_fields_has_every_option_and_asks_nobody_else(open_client: Open) -> None:
    client = open_client(api_key=KEY)
    answer = client.get("/docs")
    assert answer.status_code == 200, "it needs no key"
    for name, option in options_of(VideoOptions).items():
        assert f"<code>{name}</code>" in answer.text
        for example in option.examples:
            assert f"<code>{example}</code>" in answer.text
    assert "/v1/videos/{video_id}/cancel" in answer.text
    links = [part.split('"')[0] for part in answer.text.replace("src=", "href=").split('href="')[1:]]
    assert links and all(link.startswith("/") for link in links)


def test_a_phone_gets_the_address_with_the_key_after_the_hash(open_client: Open) -> None:
    client = open_client("192.0.2.7:8321", host="0.0.0.0", api_key=KEY)
    found = client.get("/v1/phone", headers={"Authorization": f"Bearer {KEY}"}).json()
    assert found["address"] == f"http://192.0.2.7:8321/#key={KEY}"
    assert found["image"].startswith("data:image/svg+xml")
    assert client.get("/v1/phone").status_code == 401


def test_a_server_that_only_its_own_machine_reaches_has_no_code_for_a_phone(open_client: Open) -> None:
    answer = open_client().get("/v1/phone")
    assert (answer.status_code, "--host" in answer.json()["detail"]) == (409, True)


def test_the_client_of_the_documentation_works(portrait: Path, short: Path, tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec(python_block("server.md", "From Python"), names)
    with running_server(tmp_path / "server") as address:
        names["make_video"](address, portrait, short, tmp_path / "made.mp4", size_px=128)
        with pytest.raises(Exception, match="422"):
            names["make_video"](address, portrait, short, tmp_path / "no.mp4", size_px=127)
    frames = [frame for _, frame in iter_timed_frames(tmp_path / "made.mp4")]
    assert len(frames) == 12 and frames[0].shape == (128, 128, 3)
