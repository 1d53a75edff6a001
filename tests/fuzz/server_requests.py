"""The server, fuzzed through its test client: no request gives a status of 500 or leaves an upload."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import tempfile
from base64 import b64encode
from pathlib import Path

import httpx2 as httpx
from command_line import inputs
from fastapi.testclient import TestClient

from vortex.errors import InputError
from vortex.options import PortraitOptions
from vortex.server.app import create_app
from vortex.server.context import ServerContext
from vortex.server.settings import ServerSettings
from vortex.server.store import NOBODY

BASE = "http://127.0.0.1"
KNOWN = "0" * 24
"""The id of a finished job and of a portrait that requests may name."""
BOUNDARY = b"----fuzz"


def seeds() -> list[bytes]:
    """Return requests: a line of method and path, headers, an empty line, the body."""
    files, form = inputs(), f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}"
    portrait, speech = files["portrait.jpg"], files["speech.wav"]
    encoded = {
        "portrait_id": KNOWN,
        "speech_base64": b64encode(speech).decode(),
        "preset": "neutral,excited@0.2",
        "fps": "30000/1001",
        "size_px": 128,
        "seed": 7,
    }
    whole = _form(
        {"portrait": portrait, "speech": speech}, {"size_px": "128", "seed": "5", "preset": "excited"}
    )
    prepared = _form({"speech": speech}, {"portrait_id": KNOWN, "duration_s": "0.5", "paste_back": "true"})
    plain = [
        "GET /healthz", "GET /metrics", "GET /v1/limits", "GET /openapi.json", "GET /",
        "GET /v1/videos?limit=3&state=done&cursor=7", f"GET /v1/videos/{KNOWN}", "GET /v1/portraits",
        f"GET /v1/videos/{KNOWN}/events\nLast-Event-ID: 3", f"POST /v1/videos/{KNOWN}/cancel",
        f"GET /v1/videos/{KNOWN}/video.mp4\nRange: bytes=0-99", f"GET /v1/portraits/{KNOWN}",
        "DELETE /v1/videos/ffffffffffffffffffffffff", "GET /page/..%2f..%2fapp.py",
        "GET /v1/videos\nHost: localhost:8321\nOrigin: http://127.0.0.1\nAuthorization: Bearer key",
        "OPTIONS /v1/videos", "HEAD /v1/portraits",
    ]  # fmt: skip
    return [
        _request("POST /v1/videos", form, whole),
        _request("POST /v1/videos", form, prepared),
        _request("POST /v1/videos", "Content-Type: application/json", json.dumps(encoded).encode()),
        _request("POST /v1/portraits", form, _form({"portrait": portrait}, {})),
        *(f"{line}\n\n".encode() for line in plain),
    ]


def _request(line: str, header: str, body: bytes) -> bytes:
    return f"{line}\n{header}\n\n".encode() + body


def _form(files: dict[str, bytes], fields: dict[str, str]) -> bytes:
    parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    parts += [f'name="{name}"; filename="{name}"\r\n\r\n'.encode() + data for name, data in files.items()]
    start = b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; "
    return b"".join(start + part + b"\r\n" for part in parts) + b"--" + BOUNDARY + b"--\r\n"


def run(data: bytes) -> object:
    """Send one request and return its status.

    Raises:
        InputError: the server refused, or the client cannot send such a request.
        AssertionError: a status of 500 or more, an upload that stayed, or a path of the server in the answer.
    """
    client, server = _client()
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.decode("latin-1").split("\n")
    method, _, path = first.partition(" ")
    headers = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    try:
        request = client.build_request(method, f"{BASE}/{path.lstrip('/')}", headers=headers, content=body)
    except (httpx.InvalidURL, ValueError, TypeError) as exc:
        raise InputError(f"the client refused: {type(exc).__name__}") from exc
    answer = client.send(request)
    folder = server.folder.root
    assert answer.status_code < 500, answer.status_code
    assert str(folder) not in answer.text, "showed a path of the server"
    assert not list((folder / "incoming").iterdir()), "left an upload"
    _forget(client, server, answer)
    if answer.status_code >= 400:
        raise InputError(f"status {answer.status_code}")
    return answer.status_code


def _forget(client: TestClient, server: ServerContext, answer: httpx.Response) -> None:
    """Delete what the request made, so that every request meets the same server."""
    made = answer.headers.get("location", "")
    if answer.status_code == 202:
        assert client.delete(made).status_code == 204
    if answer.status_code == 201:
        assert client.delete(f"/v1/portraits/{answer.json()['id']}").status_code == 204
    _add_known(server)


@functools.cache
def _client() -> tuple[TestClient, ServerContext]:
    """Return a client of a server whose workers do not run: requests are answered, videos are not made."""
    resources = contextlib.ExitStack()
    atexit.register(resources.close)
    folder = Path(resources.enter_context(tempfile.TemporaryDirectory()))
    server = ServerContext(ServerSettings(data=folder / "data", max_upload_mb=1, max_duration_s=2))
    _add_known(server)
    return TestClient(create_app(server), base_url=BASE, follow_redirects=False), server


def _add_known(server: ServerContext) -> None:
    if server.store.job(KNOWN) is None:
        server.store.add_job(KNOWN, {}, KNOWN, owns_portrait=False)
        server.store.move_job(KNOWN, expect=("queued",), state="done")
    if server.store.portrait(KNOWN) is None:
        with server.folder.incoming() as folder:
            (folder / "picture").write_bytes(inputs()["portrait.jpg"])
            options = PortraitOptions()
            made = server.portraits.add(folder / "picture", options, owner=NOBODY, shared=True)
        server.folder.portrait(made.id).rename(server.folder.portrait(KNOWN))
        server.store.delete_portrait(made.id)
        server.store.add_portrait(made.model_copy(update={"id": KNOWN}))
