"""Network weights: what they are, where they lie, and how they get there whole.

A file appears under its name only after its size and SHA-256 are right; until then it is ``NAME.part``, from
which a later fetch goes on, even after the process was killed. The fetcher is our own because
``huggingface_hub`` starts such a file again from zero, accepts wrong bytes of the right size, and needs 24 s
to report a host that refuses.
"""

from __future__ import annotations

import errno
import fcntl
import fnmatch
import hashlib
import http.client
import json
import os
import shutil
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vortex.errors import InputError, WeightsCorruptError, WeightsError, WeightsMissingError

Hook = Callable[[str, int, int], None]
"""Called as hook("fetch", bytes so far, bytes in total)."""

HUB = "https://huggingface.co"
REACH_TIMEOUT_S = 2.5
"""A hub that does not take a connection within this time is reported as out of reach."""
READ_TIMEOUT_S = 30.0
RETRIES = 5
"""Attempts in a row that bring no byte before a fetch gives up."""
RETRY_PAUSE_S = 0.5
BLOCK_BYTES = 1 << 20
MAX_SMALL_BYTES = 32 << 20
"""Files without a SHA-256 on the hub are smaller than this."""


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """One file of a release.

    ``path`` is relative to :func:`weights_dir`, ``remote_path`` to the hub's ``repository`` at ``revision``.
    """

    path: str
    size_bytes: int
    sha256: str
    remote_path: str
    repository: str
    revision: str
    licence: str
    commercial_use: bool


def _liveportrait(path: str, size_bytes: int, sha256: str) -> WeightsFile:
    return WeightsFile(
        path,
        size_bytes,
        sha256,
        remote_path=f"liveportrait/{path}",
        repository="KlingTeam/LivePortrait",
        revision="82a4fa6735ca58432b6ce39301b4b9ee066dea47",
        licence="MIT",
        commercial_use=True,
    )


def _kokoro(path: str, size_bytes: int, sha256: str) -> WeightsFile:
    return WeightsFile(
        path,
        size_bytes,
        sha256,
        remote_path=path,
        repository="fastrtc/kokoro-onnx",
        revision="main",  # the SHA-256, which the export's own release publishes, decides what is right
        licence="Apache-2.0",
        commercial_use=True,
    )


WEIGHTS: Mapping[str, tuple[WeightsFile, ...]] = {
    "liveportrait": (
        _liveportrait(
            "base_models/appearance_feature_extractor.pth",
            3_387_959,
            "5279bb8654293dbdf327030b397f107237dd9212fb11dd75b83dfb635211ceb5",
        ),
        _liveportrait(
            "base_models/motion_extractor.pth",
            112_545_506,
            "251e6a94ad667a1d0c69526d292677165110ef7f0cf0f6d199f0e414e8aa0ca5",
        ),
        _liveportrait(
            "base_models/warping_module.pth",
            182_180_086,
            "2f61a6f265fe344f14132364859a78bdbbc2068577170693da57fb96d636e282",
        ),
        _liveportrait(
            "base_models/spade_generator.pth",
            221_813_590,
            "4780afc7909a9f84e24c01d73b31a555ef651521a1fe3b2429bd04534d992aee",
        ),
        _liveportrait(
            "retargeting_models/stitching_retargeting_module.pth",
            2_393_098,
            "3652d5a3f95099141a56986aaddec92fadf0a73c87a20fac9a2c07c32b28b611",
        ),
    ),
    "kokoro": (
        _kokoro(
            "kokoro-v1.0.onnx",
            325_532_387,
            "7d5df8ecf7d4b1878015a32686053fd0eebe2bc377234608764cc0ef3636a6c5",
        ),
        _kokoro(
            "voices-v1.0.bin",
            28_214_398,
            "bca610b8308e8d99f32e6fe4197e7ec01679264efed0cac9140fe9c29f1fbf7d",
        ),
    ),
}
"""Name of an engine -> the files it needs."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A release of many files at a pinned commit, whose hashes are taken from the hub's own listing.

    The listing is kept beside the files, so that they are verified against it from then on. ``patterns`` say
    which files are wanted, ``about_bytes`` how large they are together.
    """

    repository: str
    revision: str
    patterns: tuple[str, ...]
    about_bytes: int
    licence: str
    commercial_use: bool = True


_CLIP_FILES = ("config.json", "preprocessor_config.json", "vocab.json", "merges.txt", "tokenizer*.json")
SNAPSHOTS: Mapping[str, Snapshot] = {
    "clip-vit-b32": Snapshot(
        "openai/clip-vit-base-patch32",
        "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
        (*_CLIP_FILES, "pytorch_model.bin"),
        606_000_000,
        licence="MIT",
    ),
    "clip-vit-l14": Snapshot(
        "openai/clip-vit-large-patch14",
        "32bd64288804d66eefd0ccbe215aa642df71cc41",
        (*_CLIP_FILES, "model.safetensors"),
        1_712_000_000,
        licence="MIT",
    ),
    "flux-schnell": Snapshot(
        "black-forest-labs/FLUX.1-schnell",
        "741f7c3ce8b383c54771c7003378a50191e9efe9",
        ("model_index.json", "scheduler/*", "text_encoder*/*", "tokenizer*/*", "transformer/*", "vae/*"),
        33_700_000_000,
        licence="Apache-2.0",
    ),
}
"""Name of a model -> its release."""
LISTING = "listing.json"
"""Name of the file that keeps the hub's listing of a snapshot."""


# ---------------------------------------- what and where


def _check_name(name: str) -> None:
    if name not in WEIGHTS and name not in SNAPSHOTS:
        raise InputError(f"Unknown weights {name!r}; vortex knows {', '.join([*WEIGHTS, *SNAPSHOTS])}.")


def weights_files(name: str) -> tuple[WeightsFile, ...]:
    """Return the files called ``name`` in :data:`WEIGHTS`; of a snapshot, those listed when it was fetched.

    Raises:
        InputError: unknown name.
        WeightsCorruptError: the listing of a snapshot is damaged.
    """
    _check_name(name)
    if name in WEIGHTS:
        return WEIGHTS[name]
    listing = weights_dir(name) / LISTING
    if not listing.is_file():
        return ()
    try:
        return tuple(WeightsFile(**row) for row in json.loads(listing.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as exc:
        raise WeightsCorruptError(
            f"{listing} is damaged. Delete it and run: vortex weights fetch {name}"
        ) from exc


def describe_weights(name: str) -> str:
    """Return one line to show before a fetch: number and size of the files, origin and licence."""
    files = weights_files(name)
    if not files:
        release = SNAPSHOTS[name]
        return (
            f"{name}: about {_mib(release.about_bytes)}, {hub_endpoint()}/{release.repository} at "
            f"{release.revision[:12]}, licence {release.licence}, "
            + ("commercial use allowed" if release.commercial_use else "non-commercial use only")
        )
    first = files[0]
    use = "commercial use allowed" if all(f.commercial_use for f in files) else "non-commercial use only"
    return (
        f"{name}: {len(files)} files, {_mib(sum(f.size_bytes for f in files))}, {hub_endpoint()}/"
        f"{first.repository} at {first.revision[:12]}, licence {first.licence}, {use}"
    )


def weights_dir(name: str) -> Path:
    """Return the folder of the weights ``name``, which may not exist yet.

    It lies in ``$VORTEX_CACHE``, or else in ``vortex`` of the user's cache folder, ``$XDG_CACHE_HOME`` or
    ``~/.cache``.
    """
    _check_name(name)
    cache = os.environ.get("VORTEX_CACHE")
    if cache:
        return Path(cache).expanduser() / name
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vortex" / name


def missing_weights(name: str) -> tuple[WeightsFile, ...]:
    """Return the files that are not there; the content of the others is not looked at."""
    folder = weights_dir(name)
    return tuple(file for file in weights_files(name) if not (folder / file.path).is_file())


def verify_weights(name: str) -> Path:
    """Check size and SHA-256 of every file and return their folder.

    Raises:
        WeightsMissingError: a file is not there.
        WeightsCorruptError: a file differs from the published one.
    """
    folder = weights_dir(name)
    if not weights_files(name):
        raise WeightsMissingError(
            f"Weights '{name}' are not in {folder}. Run: vortex weights fetch {name} "
            f"(about {_mib(SNAPSHOTS[name].about_bytes)})."
        )
    missing = missing_weights(name)
    if missing:
        names = ", ".join(file.path for file in missing)
        raise WeightsMissingError(
            f"Weights '{name}' lack {names} in {folder}. Run: vortex weights fetch {name} "
            f"({_mib(sum(f.size_bytes for f in missing))})."
        )
    for file in weights_files(name):
        path = folder / file.path
        problem = _difference(file, path)
        if problem:
            raise WeightsCorruptError(f"{path} {problem}. Run: vortex weights fetch {name}")
    return folder


def _difference(file: WeightsFile, path: Path) -> str:
    """Return how ``path`` differs from the published file, or nothing; only the right size gets hashed."""
    size_bytes = path.stat().st_size
    if size_bytes != file.size_bytes:
        return f"has {size_bytes:,} bytes; the published file has {file.size_bytes:,}"
    digest = _sha256(path)
    return "" if digest == file.sha256 else f"has SHA-256 {digest}; the published file has {file.sha256}"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.0f} MiB"


# ---------------------------------------- the environment


def hub_endpoint() -> str:
    """Return the address of the hub: ``$HF_ENDPOINT``, a mirror, or else the public one.

    Raises:
        InputError: not an http address.
    """
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUB
    parts = urllib.parse.urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"HF_ENDPOINT is {endpoint!r}; give an address such as {HUB}, or unset it.")
    return endpoint


def _offline_variable() -> str | None:
    """Return the name of the variable that forbids the network, if one does."""
    for variable in ("VORTEX_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(variable, "").strip().lower() in ("1", "true", "yes", "on"):
            return variable
    return None


# ---------------------------------------- fetch


def fetch_weights(name: str = "liveportrait", *, hook: Hook | None = None) -> Path:
    """Download what is missing or damaged of the weights ``name`` and return their folder.

    Files that are there and right are kept, so a second call needs no network. Several processes may call at
    once: one fetches, the others wait and find the files.

    Raises:
        InputError: unknown name, or a bad ``HF_ENDPOINT``.
        WeightsMissingError: files are missing, and the network is forbidden or the hub out of reach.
        WeightsCorruptError: the hub sent something else than the published file.
        WeightsError: the disk is full, or the folder cannot be written.
    """
    folder = weights_dir(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / ".lock"):
            if not weights_files(name):
                _check_network(name, folder, [])
                _keep_listing(folder / LISTING, SNAPSHOTS[name])
            files = weights_files(name)
            wanted = [file for file in files if not _is_right(file, folder / file.path)]
            if wanted:
                _check_network(name, folder, wanted)
                _check_space(folder, wanted)
            total = sum(file.size_bytes for file in files)
            done = total - sum(file.size_bytes for file in wanted)
            for file in wanted:
                _Download(file, folder / file.path, _Progress(hook, done, total)).run()
                done += file.size_bytes
    except OSError as exc:
        raise _disk_error(folder, exc) from exc
    return folder


def _keep_listing(path: Path, release: Snapshot) -> None:
    """Ask the hub which files a release has, and keep their sizes and SHA-256.

    Large files have a SHA-256 on the hub; small ones only a git hash, so they are read once to get theirs.

    Raises:
        WeightsError: the hub refuses, or answers something else.
    """
    url = f"{hub_endpoint()}/api/models/{release.repository}/revision/{release.revision}?blobs=true"
    try:
        rows = []
        for entry in json.loads(_read_small(url))["siblings"]:
            name = str(entry["rfilename"])
            if not any(fnmatch.fnmatch(name, pattern) for pattern in release.patterns):
                continue
            if name.startswith("/") or ".." in name.split("/"):
                raise WeightsError(
                    f"{url} lists {name!r}, which lies outside its folder. Nothing was fetched."
                )
            size_bytes, sha256 = _listed_hash(release, name, entry)
            rows.append(
                {
                    "path": name,
                    "size_bytes": size_bytes,
                    "sha256": sha256,
                    "remote_path": name,
                    "repository": release.repository,
                    "revision": release.revision,
                    "licence": release.licence,
                    "commercial_use": release.commercial_use,
                }
            )
    except (ValueError, KeyError, TypeError) as exc:
        raise WeightsError(
            f"{url} does not answer as a hub does. Set HF_ENDPOINT to another mirror."
        ) from exc
    part = _part(path)
    part.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    os.replace(part, path)


def _listed_hash(release: Snapshot, name: str, entry: dict[str, Any]) -> tuple[int, str]:
    """Return size and SHA-256 of a file that the hub lists."""
    if entry.get("lfs"):
        return int(entry["lfs"]["size"]), str(entry["lfs"]["sha256"])
    path = urllib.parse.quote(name)
    content = _read_small(f"{hub_endpoint()}/{release.repository}/resolve/{release.revision}/{path}")
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    if blob != entry["blobId"]:
        raise WeightsCorruptError(
            f"{name} of {release.repository} has git hash {blob}; the hub lists {entry['blobId']}. Try again."
        )
    return len(content), hashlib.sha256(content).hexdigest()


def _read_small(url: str) -> bytes:
    try:
        with urllib.request.urlopen(_request(url), timeout=READ_TIMEOUT_S) as response:
            return bytes(response.read(MAX_SMALL_BYTES))
    except urllib.error.HTTPError as exc:
        exc.close()
        raise WeightsError(
            f"{url} is refused (HTTP {exc.code} {exc.reason}).{_how_to_enter(exc.code)}"
        ) from exc
    except (OSError, http.client.HTTPException) as exc:
        raise WeightsError(f"{url} cannot be read ({exc}). Fetch again later.") from exc


def _request(url: str, **headers: str) -> urllib.request.Request:
    """Return a request, signed with ``$HF_TOKEN`` if there is one; a redirection does not pass it on."""
    request = urllib.request.Request(url, headers={"User-Agent": "vortex", **headers})
    token = os.environ.get("HF_TOKEN")
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return request


def _how_to_enter(status: int) -> str:
    if status not in (401, 403):
        return ""
    return " Accept the licence on its page with an account of yours, and set HF_TOKEN to a token of it."


def _is_right(file: WeightsFile, path: Path) -> bool:
    return path.is_file() and not _difference(file, path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; the system frees it when its holder dies."""
    with open(path, "ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _check_space(folder: Path, wanted: list[WeightsFile]) -> None:
    need = sum(file.size_bytes - _size(_part(folder / file.path)) for file in wanted)
    free = shutil.disk_usage(folder).free
    if free < need:
        raise OSError(errno.ENOSPC, f"{_mib(need)} are needed, {_mib(free)} are free")


def _disk_error(folder: Path, exc: OSError) -> WeightsError:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return WeightsError(
            f"No space for the weights in {folder} ({exc.strerror}). Free some and fetch again, which goes "
            "on from there, or set VORTEX_CACHE to a folder on another disk."
        )
    return WeightsError(
        f"Weights cannot be written to {folder}: {exc.strerror or exc}. "
        "Set VORTEX_CACHE to a folder of yours."
    )


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


# ---------------------------------------- network


def _check_network(name: str, folder: Path, wanted: list[WeightsFile]) -> None:
    """Fail soon, in one line, if the hub must not or cannot be reached."""
    variable = _offline_variable()
    count = f"{len(wanted)} of {len(weights_files(name))} files" if wanted else "all files"
    what = f"Weights '{name}' lack {count} in {folder}"
    if variable:
        raise WeightsMissingError(
            f"{what}, and {variable} forbids the network. Unset it, or copy the files there."
        )
    endpoint = hub_endpoint()
    reason = _why_out_of_reach(endpoint)
    if reason:
        raise WeightsMissingError(
            f"{what}, and {endpoint} cannot be reached ({reason}). Check the network, set HF_ENDPOINT to a "
            "mirror, or copy the files there."
        )


def _why_out_of_reach(endpoint: str) -> str | None:
    """Try to connect, in a thread: looking up a name cannot be given a time limit."""
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

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(REACH_TIMEOUT_S)
    return outcome[0] if outcome else f"no answer within {REACH_TIMEOUT_S:g} s"


@dataclass(frozen=True, slots=True)
class _Progress:
    """Tells the hook of a fetch how far one file has come."""

    hook: Hook | None
    done_before: int
    total: int

    def __call__(self, size_bytes: int) -> None:
        if self.hook:
            self.hook("fetch", self.done_before + size_bytes, self.total)


class _InterruptedError(Exception):
    """The connection ended or refused; trying again may help."""


class _Download:
    """One file on its way: ``path``.part grows over any number of connections until it is whole."""

    def __init__(self, file: WeightsFile, path: Path, tell: _Progress) -> None:
        self.file, self.path, self.part, self.tell = file, path, _part(path), tell
        self.revision = file.revision

    def run(self) -> None:
        """Fetch, check, and move the file to its place."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        resumed = _size(self.part) > 0
        while True:
            self._complete()
            problem = _difference(self.file, self.part)
            if not problem:
                break
            self.part.unlink()
            if not resumed:
                raise WeightsCorruptError(
                    f"What {self._url()} sent {problem}. Nothing was kept. "
                    "Try again, or set HF_ENDPOINT to another mirror."
                )
            resumed = False  # the old beginning may have been at fault: once more, from zero
        os.replace(self.part, self.path)

    def _url(self) -> str:
        path = urllib.parse.quote(self.file.remote_path)
        return f"{hub_endpoint()}/{self.file.repository}/resolve/{self.revision}/{path}"

    def _complete(self) -> None:
        """Let the part grow to full size; give up after RETRIES attempts in a row without a new byte."""
        fruitless = 0
        while (before := _size(self.part)) < self.file.size_bytes:
            try:
                self._receive()
                reason = "the connection was closed early"
            except _InterruptedError as exc:
                reason = str(exc)
            fruitless = 0 if _size(self.part) > before else fruitless + 1
            if fruitless == RETRIES:
                raise WeightsError(
                    f"{self._url()} cannot be fetched ({reason}); {_size(self.part):,} of "
                    f"{self.file.size_bytes:,} bytes are kept. Fetch again later; it goes on from there."
                )
            if fruitless:
                time.sleep(RETRY_PAUSE_S * 2 ** (fruitless - 1))

    def _receive(self) -> None:
        """Add to the part what one connection brings."""
        with open(self.part, "ab") as stream, self._open(stream.tell()) as response:
            if response.status != 206:
                stream.seek(0)  # the server does not resume and begins at zero
                stream.truncate()
            self._check_length(response, stream.tell())
            while stream.tell() < self.file.size_bytes:
                try:
                    block = response.read(BLOCK_BYTES)
                except (OSError, http.client.HTTPException) as exc:
                    raise _InterruptedError(str(exc) or type(exc).__name__) from exc
                if not block:
                    return
                stream.write(block[: self.file.size_bytes - stream.tell()])
                self.tell(stream.tell())
            stream.flush()
            os.fsync(stream.fileno())

    def _open(self, offset: int) -> http.client.HTTPResponse:
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        try:
            request = _request(self._url(), **headers)
            response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=READ_TIMEOUT_S)
            return response
        except urllib.error.HTTPError as exc:
            exc.close()
            if exc.code == 404 and self.revision != "main":
                self.revision = "main"  # some mirrors keep only this; the SHA-256 decides what is right
                raise _InterruptedError("no such revision") from exc
            if exc.code == 416:
                self.part.unlink()
                raise _InterruptedError("the server cannot resume") from exc
            if exc.code >= 500 or exc.code in (408, 429):
                raise _InterruptedError(f"HTTP {exc.code} {exc.reason}") from exc
            raise WeightsError(
                f"{self._url()} is refused (HTTP {exc.code} {exc.reason}).{_how_to_enter(exc.code)} "
                f"Set HF_ENDPOINT to another mirror, or copy the file to {self.path}."
            ) from exc
        except (OSError, http.client.HTTPException) as exc:
            raise _InterruptedError(str(getattr(exc, "reason", exc)) or type(exc).__name__) from exc

    def _check_length(self, response: http.client.HTTPResponse, offset: int) -> None:
        """Refuse an answer of another length before it is downloaded, such as the sign-in page of a hotel."""
        length = response.headers.get("Content-Length")
        if length is not None and offset + int(length) != self.file.size_bytes:
            self.part.unlink()
            raise WeightsCorruptError(
                f"{self._url()} offers {offset + int(length):,} bytes; the published file has "
                f"{self.file.size_bytes:,}. Try again, or set HF_ENDPOINT to another mirror."
            )
