"""Downloads from a local hub that drops connections, sends wrong bytes, refuses or never answers."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from vortex.errors import WeightsCorruptError, WeightsError, WeightsMissingError
from vortex.weights import fetch
from vortex.weights import hub as hub_requests
from vortex.weights.cache import WEIGHTS, WeightsFile, verify_weights, weights_dir
from vortex.weights.fetch import RETRIES, fetch_weights

SIZE = 3_000_000


class Hub:
    """The files of the server on the loopback, how it behaves, and the requests that it got."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self.content = {f"liveportrait/{stem}.pth": rng.bytes(SIZE) for stem in ("one", "two")}
        self.requests: list[tuple[str, str | None]] = []
        self.drop_after_bytes: int | None = None
        self.resumes = True
        self.status = 200
        self.only_main = False
        self.stall = threading.Event()
        self.stall_after_bytes: int | None = None
        self.endpoint = ""


def handler_of(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            asked = self.headers.get("Range")
            hub.requests.append((self.path, asked))
            owner, name, resolve, revision, path = self.path.removeprefix("/").split("/", 4)
            assert (owner, name, resolve) == ("KlingTeam", "LivePortrait", "resolve")
            status = 404 if hub.only_main and revision != "main" else hub.status
            if status != 200 or path not in hub.content:
                self.send_response(status if status != 200 else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and hub.resumes else 0
            body = hub.content[path][start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            # Some tests kill the client or refuse the answer before it ends.
            with contextlib.suppress(ConnectionError):
                if hub.stall_after_bytes is not None:
                    self.wfile.write(body[: hub.stall_after_bytes])
                    self.wfile.flush()
                    hub.stall.wait(30)
                    return
                self.wfile.write(body[: hub.drop_after_bytes])

        def log_message(self, *args: object) -> None:
            """Log nothing."""

    return Handler


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(hub))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path / "cache"))
    for variable in (
        "VORTEX_OFFLINE",
        "HF_HUB_OFFLINE",
        "http_proxy",
        "HTTP_PROXY",
        "ALL_PROXY",
        "all_proxy",
    ):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setitem(WEIGHTS, "liveportrait", table(hub, WEIGHTS["liveportrait"][0]))  # type: ignore[arg-type]
    monkeypatch.setattr(fetch, "RETRY_PAUSE_S", 0.01)
    yield hub
    hub.stall.set()
    server.shutdown()
    server.server_close()
    thread.join()


def table(hub: Hub, template: WeightsFile) -> tuple[WeightsFile, ...]:
    return tuple(
        replace(
            template,
            path=remote.removeprefix("liveportrait/"),
            remote_path=remote,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        for remote, content in hub.content.items()
    )


def stored(stem: str) -> bytes:
    return (weights_dir("liveportrait") / f"{stem}.pth").read_bytes()


def remaining_files() -> list[str]:
    return sorted(path.name for path in weights_dir("liveportrait").rglob("*") if path.name != ".lock")


def test_a_second_fetch_downloads_nothing(hub: Hub) -> None:
    reports: list[tuple[str, int, int]] = []
    folder = fetch_weights("liveportrait", on_progress=lambda *now: reports.append(now))
    assert folder == weights_dir("liveportrait") == verify_weights("liveportrait")
    assert stored("one") == hub.content["liveportrait/one.pth"]
    assert remaining_files() == ["one.pth", "two.pth"]
    assert reports[-1] == ("fetch", 2 * SIZE, 2 * SIZE)
    assert [size for _, size, _ in reports] == sorted(size for _, size, _ in reports)
    count = len(hub.requests)
    assert hub.requests[0][0].split("/")[4] == WEIGHTS["liveportrait"][0].revision
    fetch_weights("liveportrait")
    assert len(hub.requests) == count


def test_a_dropped_connection_is_resumed(hub: Hub) -> None:
    hub.drop_after_bytes = 1_000_000
    fetch_weights()
    assert stored("two") == hub.content["liveportrait/two.pth"]
    assert [asked for path, asked in hub.requests if path.endswith("two.pth")] == [
        None,
        "bytes=1000000-",
        "bytes=2000000-",
    ]


def test_a_fetch_gives_up_when_the_hub_never_sends_a_byte(hub: Hub) -> None:
    hub.drop_after_bytes = 0
    with pytest.raises(WeightsError, match=r"closed early.*0 of 3,000,000 bytes are kept"):
        fetch_weights()
    assert len(hub.requests) == RETRIES


def test_a_file_is_read_from_its_start_when_the_hub_cannot_resume(hub: Hub) -> None:
    folder = weights_dir("liveportrait")
    folder.mkdir(parents=True)
    (folder / "one.pth.part").write_bytes(hub.content["liveportrait/one.pth"][:1000])
    hub.resumes = False
    fetch_weights()
    assert stored("one") == hub.content["liveportrait/one.pth"]


def test_wrong_bytes_are_refused_and_not_kept(hub: Hub) -> None:
    hub.content["liveportrait/one.pth"] = bytes(SIZE)
    with pytest.raises(WeightsCorruptError, match=r"has SHA-256 .*the published file has"):
        fetch_weights()
    assert remaining_files() == []


def test_an_answer_of_another_length_is_refused_before_it_is_downloaded(hub: Hub) -> None:
    hub.content["liveportrait/one.pth"] = b"<html>please sign in</html>"
    with pytest.raises(WeightsCorruptError, match="offers 27 bytes; the published file has 3,000,000"):
        fetch_weights()
    assert remaining_files() == []


def test_a_damaged_part_is_downloaded_again(hub: Hub) -> None:
    folder = weights_dir("liveportrait")
    folder.mkdir(parents=True)
    (folder / "one.pth.part").write_bytes(bytes(1_000_000))
    (folder / "two.pth.part").write_bytes(bytes(SIZE + 9))
    fetch_weights()
    assert stored("one") == hub.content["liveportrait/one.pth"]
    assert stored("two") == hub.content["liveportrait/two.pth"]


def test_a_damaged_file_is_fetched_again(hub: Hub) -> None:
    path = fetch_weights() / "one.pth"
    content = bytearray(path.read_bytes())
    content[1234] ^= 1
    path.write_bytes(content)
    fetch_weights()
    verify_weights("liveportrait")
    assert stored("one") == hub.content["liveportrait/one.pth"]


@pytest.mark.parametrize("variable", ["VORTEX_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_variables_forbid_the_network_but_not_fetched_files(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(WeightsMissingError, match=f"lack 2 of 2 files .*{variable} forbids the network"):
        fetch_weights()
    assert hub.requests == []
    monkeypatch.delenv(variable)
    fetch_weights()
    monkeypatch.setenv(variable, "1")
    fetch_weights()


def test_a_hub_out_of_reach_gives_a_message_of_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(WeightsMissingError, match=r"cannot be reached .*refused.*HF_ENDPOINT") as caught:
        fetch_weights()
    assert "\n" not in str(caught.value)


def test_a_slow_host_name_lookup_is_abandoned(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(hub_requests, "REACH_TIMEOUT_S", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answered.wait(20) and [])
    with pytest.raises(WeightsMissingError, match=r"no answer within 0\.05 s"):
        fetch_weights()
    assert not answered.is_set()
    answered.set()


def test_a_fetch_gives_up_when_the_hub_accepts_connections_and_never_answers(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[socket.socket] = []
    pauses_s: list[float] = []
    monkeypatch.setattr(hub_requests, "READ_TIMEOUT_S", 0.05)
    monkeypatch.setattr(fetch, "RETRY_PAUSE_S", 0.5)
    monkeypatch.setattr(fetch.time, "sleep", pauses_s.append)

    def accept(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connections.append(server.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept, args=(server,), daemon=True)
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(
            WeightsError, match=r"cannot be fetched \(timed out\); 0 of 3,000,000 bytes are kept"
        ):
            fetch_weights()
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in connections:
        connection.close()
    assert pauses_s == [0.5, 1.0, 2.0, 4.0]
    assert len(connections) == RETRIES + 1  # the first one only tests whether the hub can be reached


def test_a_refusal_is_final_and_a_busy_hub_is_retried(hub: Hub) -> None:
    hub.status = 403
    with pytest.raises(WeightsError, match=r"refused \(HTTP 403"):
        fetch_weights()
    assert len(hub.requests) == 1
    hub.status = 503
    with pytest.raises(WeightsError, match="HTTP 503"):
        fetch_weights()
    assert len(hub.requests) == 1 + RETRIES


def test_a_mirror_without_the_revision_is_asked_for_main(hub: Hub) -> None:
    hub.only_main = True
    fetch_weights()
    verify_weights("liveportrait")


def test_too_little_space_is_reported_before_the_download(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = fetch.shutil.disk_usage("/")
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    with pytest.raises(WeightsError, match=r"No space .*6 MiB are needed, 1 MiB are free.*VORTEX_CACHE"):
        fetch_weights()
    assert hub.requests == []


CHILD = """
import hashlib, resource, sys
from dataclasses import replace
from vortex.errors import WeightsError
from vortex.weights.cache import WEIGHTS
from vortex.weights.fetch import fetch_weights
limit = int(sys.argv[1])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
WEIGHTS["liveportrait"] = tuple(
    replace(WEIGHTS["liveportrait"][0], path=f"{stem}.pth", remote_path=f"liveportrait/{stem}.pth",
            size_bytes=int(size), sha256=digest)
    for stem, size, digest in (line.split() for line in sys.argv[2:]))
try:
    fetch_weights()
except WeightsError as exc:
    print(exc)
"""


def start_child(hub: Hub, limit_bytes: int = 0) -> subprocess.Popen[str]:
    lines = [
        f"{Path(remote).stem} {len(content)} {hashlib.sha256(content).hexdigest()}"
        for remote, content in hub.content.items()
    ]
    command = [sys.executable, "-c", CHILD, str(limit_bytes), *lines]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))


def test_a_fetch_continues_after_the_disk_was_full(hub: Hub) -> None:
    output, _ = start_child(hub, limit_bytes=2_500_000).communicate(timeout=60)
    assert "No space for the weights in" in output
    assert remaining_files() == ["one.pth.part"]
    fetch_weights()
    verify_weights("liveportrait")
    assert hub.requests[-2][1] == "bytes=2500000-"


def test_a_killed_fetch_is_continued(hub: Hub) -> None:
    hub.stall_after_bytes = 2_000_000
    child = start_child(hub)
    part = weights_dir("liveportrait") / "one.pth.part"
    waited = threading.Event()
    while not part.is_file() or part.stat().st_size < 1_000_000:
        assert child.poll() is None
        waited.wait(0.02)
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=60)
    kept = part.stat().st_size
    hub.stall_after_bytes = None
    hub.requests.clear()
    fetch_weights()
    verify_weights("liveportrait")
    assert hub.requests[0][1] == f"bytes={kept}-"


def test_two_fetches_at_once_download_once(hub: Hub) -> None:
    children = [start_child(hub) for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: fetch_weights(), range(3)))
    for child in children:
        assert child.communicate(timeout=60)[0] == ""
    assert len(hub.requests) == 2
    verify_weights("liveportrait")


def test_a_folder_that_cannot_be_written_is_named(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"cannot be written .*VORTEX_CACHE"):
        fetch_weights()
