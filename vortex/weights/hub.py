"""The hub: its answers, the files that it lists, and whether it may and can be reached."""

from __future__ import annotations

import fnmatch
import hashlib
import http.client
import json
import os
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vortex.errors import WeightsCorruptError, WeightsError
from vortex.runtime.files import write_whole
from vortex.weights.cache import Snapshot, WeightsFile, hub_endpoint

REACH_TIMEOUT_S = 2.5
"""A hub that does not accept a connection within this time counts as out of reach."""
READ_TIMEOUT_S = 30.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")
MAX_SMALL_BYTES = 32 << 20
"""Files without a SHA-256 on the hub are smaller than this."""


class ConnectionLostError(Exception):
    """The connection ended, or the hub is busy; another attempt may succeed."""


class HubRefusalError(WeightsError):
    """The hub answered with the HTTP status ``status``, which another attempt would not change."""

    def __init__(self, url: str, status: int, reason: str) -> None:
        licence = " Accept the licence on its page with your account, and set HF_TOKEN to a token of it."
        super().__init__(
            f"{url} is refused (HTTP {status} {reason}).{licence if status in (401, 403) else ''}"
        )
        self.status = status


def open_url(url: str, *, offset: int = 0) -> http.client.HTTPResponse:
    """Return the answer to a GET request for the bytes from ``offset``; a server may answer from 0 instead.

    The request carries ``$HF_TOKEN`` if it is set, but not over plain HTTP, except to this machine; a
    redirection does not pass it on.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "vortex", "Accept-Encoding": "identity"})
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    token, parts = os.environ.get("HF_TOKEN"), urllib.parse.urlsplit(url)
    if token and (parts.scheme == "https" or parts.hostname in LOOPBACK):
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=READ_TIMEOUT_S)
        return response
    except urllib.error.HTTPError as exc:
        exc.close()
        if exc.code >= 500 or exc.code in (408, 429):
            raise ConnectionLostError(f"HTTP {exc.code} {exc.reason}") from exc
        raise HubRefusalError(url, exc.code, exc.reason) from exc
    except (OSError, http.client.HTTPException) as exc:
        raise ConnectionLostError(str(getattr(exc, "reason", exc)) or type(exc).__name__) from exc


def _read_small(url: str) -> bytes:
    try:
        with open_url(url) as response:
            return response.read(MAX_SMALL_BYTES)
    except (OSError, http.client.HTTPException, ConnectionLostError) as exc:
        raise WeightsError(f"{url} cannot be read ({exc}). Fetch again later.") from exc


def write_listing(path: Path, release: Snapshot) -> None:
    """Write to ``path`` the hub's listing of a release; WeightsError if it refuses, or answers otherwise."""
    url = f"{hub_endpoint()}/api/models/{release.repository}/revision/{release.revision}?blobs=true"
    try:
        files = []
        for entry in json.loads(_read_small(url))["siblings"]:
            name = str(entry["rfilename"])
            if not any(fnmatch.fnmatch(name, pattern) for pattern in release.patterns):
                continue
            if name.startswith("/") or ".." in name.split("/") or not name.isprintable():
                raise WeightsError(f"{url} lists {name!r}, which is outside its folder. Nothing was fetched.")
            files.append(_listed_file(release, name, entry))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as exc:
        raise WeightsError(
            f"{url} does not answer as a hub does. Set HF_ENDPOINT to another mirror."
        ) from exc
    if missing := release.sha256.keys() - {file.path for file in files}:
        raise WeightsError(
            f"{url} does not list {', '.join(sorted(missing))}. Set HF_ENDPOINT to another mirror."
        )
    write_whole(path, json.dumps([asdict(file) for file in files], indent=1))


def _listed_file(release: Snapshot, name: str, entry: dict[str, Any]) -> WeightsFile:
    repository, revision = release.repository, release.revision
    if entry.get("lfs"):
        size_bytes, sha256 = int(entry["lfs"]["size"]), str(entry["lfs"]["sha256"])
    else:
        # Small files are listed with a git hash only: they are downloaded once, to compute the SHA-256.
        content = _read_small(file_url(repository, revision, name))
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        if blob != entry["blobId"]:
            raise WeightsCorruptError(
                f"{name} of {repository} has git hash {blob}; the hub lists {entry['blobId']}. Try again."
            )
        size_bytes, sha256 = len(content), hashlib.sha256(content).hexdigest()
    published = release.sha256.get(name, sha256)
    if sha256 != published:
        raise WeightsCorruptError(
            f"{hub_endpoint()} lists {name} of {repository} with SHA-256 {sha256}; the published file has "
            f"{published}. Nothing was fetched. Set HF_ENDPOINT to another mirror."
        )
    return WeightsFile(
        name, size_bytes, sha256, name, repository, revision, release.licence, release.commercial_use
    )


def file_url(repository: str, revision: str, path: str) -> str:
    """Return the address of a file at a revision."""
    return f"{hub_endpoint()}/{repository}/resolve/{revision}/{urllib.parse.quote(path)}"


def offline_variable() -> str | None:
    """Return the name of the environment variable that forbids the network, if one does."""
    yes = ("1", "true", "yes", "on")
    variables = ("VORTEX_OFFLINE", "HF_HUB_OFFLINE")
    return next((name for name in variables if os.environ.get(name, "").strip().lower() in yes), None)


def why_out_of_reach(endpoint: str) -> str | None:
    """Return why no connection to the hub, or to the proxy for it, can be made; None if one can."""
    parts = urllib.parse.urlsplit(endpoint)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    outcome: list[str | None] = []

    def connect() -> None:
        try:
            socket.create_connection(address, timeout=REACH_TIMEOUT_S).close()
            outcome.append(None)
        except OSError as exc:
            outcome.append(exc.strerror or str(exc))

    # In a thread, because no time limit can be set for the lookup of a host name.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(REACH_TIMEOUT_S)
    return outcome[0] if outcome else f"no answer within {REACH_TIMEOUT_S:g} s"
