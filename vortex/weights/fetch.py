"""Download weights, so that a file gets its name only when its size and SHA-256 are right.

Until then it is ``NAME.part``, which a later fetch continues, even after the process was killed.
"""

from __future__ import annotations

import errno
import fcntl
import http.client
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from vortex.errors import WeightsCorruptError, WeightsError, WeightsMissingError
from vortex.types import ProgressCallback
from vortex.weights import hub
from vortex.weights.cache import (
    BLOCK_BYTES,
    LISTING,
    SNAPSHOTS,
    WeightsFile,
    difference_from_published,
    hub_endpoint,
    in_mib,
    weights_dir,
    weights_files,
)

RETRIES = 5
"""Attempts in a row without a new byte after which a fetch gives up."""
RETRY_PAUSE_S = 0.5
"""Pause before the second attempt; it doubles with each further one."""


def fetch_weights(name: str = "liveportrait", *, on_progress: ProgressCallback | None = None) -> Path:
    """Download what is missing or damaged of the weights ``name`` and return their folder.

    Files that exist and are right are kept, so a second call needs no network. When several processes call at
    the same time, one fetches, and the others wait and find the files.

    ``on_progress`` is called as on_progress("fetch", bytes done, bytes); what it raises ends the fetch.

    Raises:
        InputError: unknown name, or a bad ``HF_ENDPOINT``.
        WeightsMissingError: files are missing, and the network is forbidden or the hub out of reach.
        WeightsCorruptError: the hub sent something else than the published file.
        WeightsError: the disk is full, or the folder cannot be written.
    """
    folder = weights_dir(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / ".lock", "ab") as lock:
            # The system releases the lock when the process dies.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _needs_listing(name, folder):
                _check_network(name, folder, "all files")
                hub.write_listing(folder / LISTING, SNAPSHOTS[name])
            files = weights_files(name)
            wanted = [file for file in files if difference_from_published(file, folder / file.path)]
            if wanted:
                _check_network(name, folder, f"{len(wanted)} of {len(files)} files")
                _check_space(folder, wanted)
            total = sum(file.size_bytes for file in files)
            done = total - sum(file.size_bytes for file in wanted)
            for file in wanted:

                def on_bytes(size_bytes: int, before: int = done) -> None:
                    if on_progress:
                        on_progress("fetch", before + size_bytes, total)

                _Download(file, folder / file.path, on_bytes).run()
                done += file.size_bytes
    except OSError as exc:
        raise _disk_error(folder, exc) from exc
    return folder


def _needs_listing(name: str, folder: Path) -> bool:
    """Return whether only the hub knows the files: there is no listing, and no right copy of all files."""
    if name not in SNAPSHOTS or (folder / LISTING).is_file():
        return False
    copied = weights_files(name)
    return not copied or any(difference_from_published(file, folder / file.path) for file in copied)


def _check_network(name: str, folder: Path, lacking: str) -> None:
    """Raise WeightsMissingError, within seconds, if the hub may not or cannot be reached."""
    what = f"Weights '{name}' lack {lacking} in {folder}"
    if variable := hub.offline_variable():
        raise WeightsMissingError(
            f"{what}, and {variable} forbids the network. Unset it, or copy the files there."
        )
    endpoint = hub_endpoint()
    if reason := hub.why_out_of_reach(endpoint):
        raise WeightsMissingError(
            f"{what}, and {endpoint} cannot be reached ({reason}). Check the network, set HF_ENDPOINT to a "
            "mirror, or copy the files there."
        )


def _check_space(folder: Path, wanted: list[WeightsFile]) -> None:
    need_bytes = sum(file.size_bytes - _size_bytes(_part(folder / file.path)) for file in wanted)
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < need_bytes:
        raise OSError(errno.ENOSPC, f"{in_mib(need_bytes)} are needed, {in_mib(free_bytes)} are free")


def _disk_error(folder: Path, exc: OSError) -> WeightsError:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return WeightsError(
            f"No space for the weights in {folder} ({exc.strerror}). Free some and fetch again, which "
            "continues from there, or set VORTEX_CACHE to a folder on another disk."
        )
    return WeightsError(
        f"Weights cannot be written to {folder}: {exc.strerror or exc}. "
        "Set VORTEX_CACHE to a folder that you can write."
    )


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _size_bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


class _Download:
    """Fetches one file: ``path``.part grows over any number of connections, is checked, and renamed."""

    def __init__(self, file: WeightsFile, path: Path, on_bytes: Callable[[int], None]) -> None:
        self._file, self._path, self._part, self._on_bytes = file, path, _part(path), on_bytes
        self._revision = file.revision

    def run(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        resumed = _size_bytes(self._part) > 0
        while True:
            self._complete()
            if not (difference := difference_from_published(self._file, self._part)):
                break
            self._part.unlink()
            if not resumed:
                raise WeightsCorruptError(
                    f"What {self._url()} sent {difference}. Nothing was kept. "
                    "Try again, or set HF_ENDPOINT to another mirror."
                )
            # The part of an earlier fetch may have been damaged: try once more, from zero.
            resumed = False
        os.replace(self._part, self._path)

    def _url(self) -> str:
        return hub.file_url(self._file.repository, self._revision, self._file.remote_path)

    def _complete(self) -> None:
        """Download until the part has its full size; give up after RETRIES attempts without a new byte."""
        failures = 0
        while (before := _size_bytes(self._part)) < self._file.size_bytes:
            try:
                self._receive()
                reason = "the connection was closed early"
            except hub.ConnectionLostError as exc:
                reason = str(exc)
            failures = 0 if _size_bytes(self._part) > before else failures + 1
            if failures == RETRIES:
                raise WeightsError(
                    f"{self._url()} cannot be fetched ({reason}); {_size_bytes(self._part):,} of "
                    f"{self._file.size_bytes:,} bytes are kept. Fetch again later; it continues from there."
                )
            if failures:
                time.sleep(RETRY_PAUSE_S * 2 ** (failures - 1))

    def _receive(self) -> None:
        """Append to the part what one connection sends."""
        with open(self._part, "ab") as stream, self._open(stream.tell()) as response:
            if response.status != 206:
                # The server does not resume: it sends the file from its start.
                stream.seek(0)
                stream.truncate()
            length = response.headers.get("Content-Length")
            if length is not None and stream.tell() + int(length) != self._file.size_bytes:
                # Something else, such as a sign-in page, is not downloaded.
                self._part.unlink()
                raise WeightsCorruptError(
                    f"{self._url()} offers {stream.tell() + int(length):,} bytes; the published file has "
                    f"{self._file.size_bytes:,}. Try again, or set HF_ENDPOINT to another mirror."
                )
            while stream.tell() < self._file.size_bytes:
                try:
                    block = response.read(BLOCK_BYTES)
                except (OSError, http.client.HTTPException) as exc:
                    raise hub.ConnectionLostError(str(exc) or type(exc).__name__) from exc
                if not block:
                    return
                stream.write(block[: self._file.size_bytes - stream.tell()])
                self._on_bytes(stream.tell())
            stream.flush()
            os.fsync(stream.fileno())

    def _open(self, offset: int) -> http.client.HTTPResponse:
        try:
            return hub.open_url(self._url(), offset=offset)
        except hub.HubRefusalError as exc:
            if exc.status == 404 and self._revision != "main":
                # Some mirrors have no other revision; the SHA-256 decides whether the file is right.
                self._revision = "main"
                raise hub.ConnectionLostError("no such revision") from exc
            raise WeightsError(
                f"{exc} Set HF_ENDPOINT to another mirror, or copy the file to {self._path}."
            ) from exc
