"""A release of many files is fetched as the hub lists it, and verified against that listing."""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from vortex.errors import WeightsCorruptError, WeightsError, WeightsMissingError
from vortex.weights.cache import LISTING, SNAPSHOTS, Snapshot, verify_weights, weights_dir
from vortex.weights.fetch import fetch_weights
from vortex.weights.hub import open_url

REVISION = "0123456789abcdef"
LARGE, SMALL = b"large " * 1000, b'{"small": true}'


class Hub:
    def __init__(self) -> None:
        self.files = {"sub/model.safetensors": LARGE, "config.json": SMALL}
        blob = hashlib.sha1(b"blob %d\0" % len(SMALL) + SMALL).hexdigest()
        self.siblings: list[dict[str, Any]] = [
            {
                "rfilename": "sub/model.safetensors",
                "size": len(LARGE),
                "blobId": "0",
                "lfs": {"sha256": hashlib.sha256(LARGE).hexdigest(), "size": len(LARGE)},
            },
            {"rfilename": "config.json", "size": len(SMALL), "blobId": blob},
            {"rfilename": "README.md", "size": 9, "blobId": "1"},
        ]
        self.requests: list[tuple[str, str | None]] = []
        self.needs_token = False


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = self.headers.get("Authorization")
            hub.requests.append((self.path, token))
            if self.path == f"/api/models/who/what/revision/{REVISION}?blobs=true":
                body = json.dumps({"siblings": hub.siblings}).encode()
            else:
                body = hub.files[self.path.removeprefix(f"/who/what/resolve/{REVISION}/")]
            self.send_response(401 if hub.needs_token and token is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path / "cache"))
    for variable in ("VORTEX_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    release = Snapshot("who/what", REVISION, ("*.json", "sub/*"), 6000, licence="MIT")
    monkeypatch.setitem(SNAPSHOTS, "thing", release)  # type: ignore[arg-type]
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_listed_files_that_match_are_fetched_and_verified(hub: Hub) -> None:
    with pytest.raises(WeightsMissingError, match="vortex weights fetch thing"):
        verify_weights("thing")
    folder = fetch_weights("thing")
    assert (folder / "sub/model.safetensors").read_bytes() == LARGE
    assert (folder / "config.json").read_bytes() == SMALL
    assert not (folder / "README.md").exists()
    assert verify_weights("thing") == folder
    count = len(hub.requests)
    fetch_weights("thing")
    assert len(hub.requests) == count


def test_a_changed_file_is_found_and_fetched_again(hub: Hub) -> None:
    folder = fetch_weights("thing")
    (folder / "config.json").write_bytes(SMALL.replace(b"true", b"evil"))
    with pytest.raises(WeightsCorruptError, match="SHA-256"):
        verify_weights("thing")
    fetch_weights("thing")
    verify_weights("thing")


def test_other_bytes_than_listed_are_refused(hub: Hub) -> None:
    hub.files["sub/model.safetensors"] = LARGE.replace(b"l", b"L")
    with pytest.raises(WeightsCorruptError, match="Nothing was kept"):
        fetch_weights("thing")
    hub.files["config.json"] = b"{}"
    (weights_dir("thing") / LISTING).unlink()
    with pytest.raises(WeightsCorruptError, match="git hash"):
        fetch_weights("thing")


def test_a_listing_with_a_path_outside_the_folder_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.siblings.append({**hub.siblings[0], "rfilename": "sub/../../evil.json"})
    with pytest.raises(WeightsError, match="outside its folder"):
        fetch_weights("thing")
    assert not list(tmp_path.rglob("evil*"))


def test_a_gated_release_asks_for_a_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.needs_token = True
    with pytest.raises(WeightsError, match="HF_TOKEN"):
        fetch_weights("thing")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    verify_weights(fetch_weights("thing").name)
    assert hub.requests[-1][1] == "Bearer hf_secret"


def test_a_listing_with_another_hash_than_the_published_one_is_refused(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = {path: hashlib.sha256(content).hexdigest() for path, content in hub.files.items()}
    release = SNAPSHOTS["thing"]
    monkeypatch.setitem(SNAPSHOTS, "thing", replace(release, sha256=right))  # type: ignore[arg-type]
    verify_weights(fetch_weights("thing").name)
    for path in right:
        (weights_dir("thing") / LISTING).unlink(missing_ok=True)
        wrong = replace(release, sha256={**right, path: "0" * 64})
        monkeypatch.setitem(SNAPSHOTS, "thing", wrong)  # type: ignore[arg-type]
        with pytest.raises(WeightsCorruptError, match=f"{path} of who/what with SHA-256 .*HF_ENDPOINT"):
            fetch_weights("thing")
        assert not (weights_dir("thing") / LISTING).exists()


def test_a_listing_without_a_wanted_file_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    release = replace(SNAPSHOTS["thing"], sha256={"gone.bin": "0" * 64})
    monkeypatch.setitem(SNAPSHOTS, "thing", release)  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match=r"does not list gone\.bin"):
        fetch_weights("thing")


def test_joyvasa_is_fetched_where_its_loader_looks(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="the extra 'neural' is not installed")
    from support.joyvasa_release import TOY, write_release

    from vortex.audio_motion.joyvasa.load import load_networks, load_statistics

    made = write_release(tmp_path / "made")
    release = SNAPSHOTS["joyvasa"]
    for path in release.sha256:
        content = hub.files[path] = (made / path).read_bytes()
        lfs = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        hub.siblings.append({"rfilename": path, "lfs": lfs})
    here = replace(release, repository="who/what", revision=REVISION)
    monkeypatch.setitem(SNAPSHOTS, "joyvasa", here)  # type: ignore[arg-type]
    with pytest.raises(WeightsCorruptError, match=release.sha256[next(iter(release.sha256))]):
        fetch_weights("joyvasa")
    hashes = {path: hashlib.sha256(hub.files[path]).hexdigest() for path in release.sha256}
    monkeypatch.setitem(SNAPSHOTS, "joyvasa", replace(here, sha256=hashes))  # type: ignore[arg-type]
    folder = verify_weights(fetch_weights("joyvasa").name)
    assert load_networks(folder, TOY).sizes == TOY
    load_statistics(folder)
    assert sorted(path.name for path in folder.rglob("*.p*")) == sorted(Path(path).name for path in hashes)


def test_copied_files_need_no_hub_if_their_hashes_were_known(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = {path: hashlib.sha256(content).hexdigest() for path, content in hub.files.items()}
    release = replace(SNAPSHOTS["thing"], sha256=right)
    monkeypatch.setitem(SNAPSHOTS, "thing", release)  # type: ignore[arg-type]
    for path, content in hub.files.items():
        copy = weights_dir("thing") / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        with pytest.raises(WeightsMissingError, match="vortex weights fetch thing"):
            verify_weights("thing")
        copy.write_bytes(content)
    with monkeypatch.context() as offline:
        offline.setenv("VORTEX_OFFLINE", "1")
        assert verify_weights("thing") == fetch_weights("thing")
        copy.write_bytes(b"other")
        with pytest.raises(WeightsCorruptError, match="vortex weights fetch thing"):
            verify_weights("thing")
        with pytest.raises(WeightsMissingError, match="VORTEX_OFFLINE forbids"):
            fetch_weights("thing")
    assert hub.requests == []
    verify_weights(fetch_weights("thing").name)
    assert copy.read_bytes() == content


@pytest.mark.parametrize(
    ("url", "sent"),
    [("https://huggingface.co/a", True), ("https://mirror.example.org/a", True),
     ("http://127.0.0.1:1/a", True),
     ("http://mirror.example.org/a", False), ("http://huggingface.co/a", False)],
)  # fmt: skip
def test_a_token_does_not_travel_over_plain_http(
    monkeypatch: pytest.MonkeyPatch, url: str, sent: bool
) -> None:
    asked: list[urllib.request.Request] = []

    def answer(request: urllib.request.Request, timeout: float) -> None:
        asked.append(request)

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(urllib.request, "urlopen", answer)
    open_url(url)
    assert (asked[0].get_header("Authorization") == "Bearer hf_secret") is sent


@pytest.mark.parametrize("name", ["a\0b.json", "a\ud800.json", "a\nb.json"])
def test_a_listing_with_an_impossible_name_is_refused(hub: Hub, name: str) -> None:
    hub.siblings.append({**hub.siblings[0], "rfilename": name})
    with pytest.raises(WeightsError):
        fetch_weights("thing")
