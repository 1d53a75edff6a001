"""The nginx configuration beside the containers, with the real nginx in front of a real server."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.running_server import get_json, post_json, running_server
from websockets.sync.client import connect

TEMPLATE = Path(__file__).parents[2] / "nginx" / "vortex.conf.template"
NGINX = shutil.which("nginx") or next(
    (str(path) for path in map(Path, ("/usr/sbin/nginx", "/usr/local/sbin/nginx")) if path.exists()), None
)
MAIN = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    include {folder}/vortex.conf;
}}
"""

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt install nginx")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Yield host and port of nginx before a server."""
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    with running_server(folder / "data") as server:
        address = server.removeprefix("http://")
        filled = TEMPLATE.read_text().replace("${VORTEX_SERVER}", address)
        filled = filled.replace("${VORTEX_LISTEN}", f"127.0.0.1:{port}")
        (folder / "vortex.conf").write_text(filled)
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
        assert NGINX is not None
        command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")]
        subprocess.run([*command, "-t"], check=True, capture_output=True)
        with subprocess.Popen(command, stderr=subprocess.PIPE) as running:
            try:
                deadline_s = time.monotonic() + 30
                while not answers(port):
                    assert time.monotonic() < deadline_s
                    time.sleep(0.1)
                yield "127.0.0.1", port
            finally:
                running.terminate()


def answers(port: int) -> bool:
    try:
        return get_json(f"http://127.0.0.1:{port}/healthz")["status"] == "ok"
    except urllib.error.URLError:
        return False


def test_a_video_is_made_through_nginx(proxy: tuple[str, int], portrait: Path, speech: Path) -> None:
    base = f"http://127.0.0.1:{proxy[1]}"
    files = {
        "portrait_base64": b64encode(portrait.read_bytes()).decode(),
        "speech_base64": b64encode(speech.read_bytes()).decode(),
    }
    job = post_json(base + "/v1/videos", size_px=128, duration_s=0.5, **files)
    with urllib.request.urlopen(base + job["events_url"], timeout=120) as events:
        last = [line for line in events if line.startswith(b"data:")][-1]
    assert json.loads(last[5:])["state"] == "done"
    with urllib.request.urlopen(f"{base}/v1/videos/{job['id']}/video.mp4", timeout=60) as answer:
        assert answer.read()[4:8] == b"ftyp"


def test_a_live_face_is_served_through_nginx(proxy: tuple[str, int], portrait: Path) -> None:
    base = f"127.0.0.1:{proxy[1]}"
    picture = b64encode(portrait.read_bytes()).decode()
    portrait_id = post_json(f"http://{base}/v1/portraits", portrait_base64=picture)["id"]
    with connect(f"ws://{base}/v1/live?portrait_id={portrait_id}&size_px=128", max_size=None) as live:
        assert json.loads(live.recv(60))["type"] == "ready"
        assert isinstance(live.recv(60), bytes)


def status_of(proxy: tuple[str, int], request: bytes) -> bytes:
    """Return the first line of the answer; empty if the connection is closed without one."""
    with socket.create_connection(proxy, 60) as connection:
        connection.sendall(request)
        return connection.recv(4096).split(b"\r\n")[0]


def test_headers_and_bodies_that_are_too_long_are_refused_by_nginx(proxy: tuple[str, int]) -> None:
    long = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n"
    assert b" 400 " in status_of(proxy, long)
    many = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 2000) for number in range(100))
    assert b" 400 " in status_of(proxy, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + many + b"\r\n")
    large = b"POST /v1/videos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99000000\r\n\r\n"
    assert b" 413 " in status_of(proxy, large)


def test_half_a_header_is_cut_off_also_after_an_answered_request(proxy: tuple[str, int]) -> None:
    with socket.create_connection(proxy, 60) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b" 200 " in connection.recv(4096)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127")
        assert b"HTTP/1.1 200" not in until_closed(connection)


def until_closed(connection: socket.socket) -> bytes:
    """Return what still comes on a connection that nginx closes within a minute."""
    received = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(4096):
            received += part
    return received


def test_one_address_gets_a_bounded_number_of_connections(proxy: tuple[str, int]) -> None:
    held = []
    try:
        for _ in range(60):
            held.append(socket.create_connection(proxy, 60))
            # A request whose body never comes.
            head = b"POST /v1/videos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n"
            held[-1].sendall(head + b"{")
        held[-1].settimeout(60)
        assert b" 429 " in held[-1].recv(4096)
    finally:
        for connection in held:
            connection.close()
