"""Which weights vortex can fetch, where their folders are, what is missing or differs from the release."""

from __future__ import annotations

import hashlib
import json
import os
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vortex.errors import InputError, WeightsCorruptError, WeightsMissingError

HUB = "https://huggingface.co"
LISTING = "listing.json"
"""Name of the file that keeps the hub's listing of a snapshot."""
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """One file of a release; ``path`` is below ``weights_dir(name)``, ``remote_path`` in the repository."""

    path: str
    size_bytes: int
    sha256: str
    remote_path: str
    repository: str
    revision: str
    licence: str
    commercial_use: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A release of many files at a pinned commit, whose hashes the first fetch takes from the hub's listing.

    The listing is kept beside the files, and every later verification uses it. ``patterns`` say which files
    of the ``repository`` are wanted, as :mod:`fnmatch` reads them; together they have ``about_bytes``.
    ``sha256`` are hashes by path that others have published: a listing that differs is refused.
    """

    repository: str
    revision: str
    patterns: tuple[str, ...]
    about_bytes: int
    licence: str
    commercial_use: bool = True
    sha256: Mapping[str, str] = field(default_factory=dict)


def _release(
    repository: str, revision: str, licence: str, folder: str, sizes: Mapping[str, tuple[int, str]]
) -> tuple[WeightsFile, ...]:
    """Return the files in a ``folder`` of a repository; ``sizes`` is path -> size in bytes and SHA-256."""
    return tuple(
        WeightsFile(path, size_bytes, sha256, folder + path, repository, revision, licence)
        for path, (size_bytes, sha256) in sizes.items()
    )


WEIGHTS: Mapping[str, tuple[WeightsFile, ...]] = {
    "liveportrait": _release(
        "KlingTeam/LivePortrait",
        "82a4fa6735ca58432b6ce39301b4b9ee066dea47",
        "MIT",
        "liveportrait/",
        {
            "base_models/appearance_feature_extractor.pth": (
                3_387_959,
                "5279bb8654293dbdf327030b397f107237dd9212fb11dd75b83dfb635211ceb5",
            ),
            "base_models/motion_extractor.pth": (
                112_545_506,
                "251e6a94ad667a1d0c69526d292677165110ef7f0cf0f6d199f0e414e8aa0ca5",
            ),
            "base_models/warping_module.pth": (
                182_180_086,
                "2f61a6f265fe344f14132364859a78bdbbc2068577170693da57fb96d636e282",
            ),
            "base_models/spade_generator.pth": (
                221_813_590,
                "4780afc7909a9f84e24c01d73b31a555ef651521a1fe3b2429bd04534d992aee",
            ),
            "retargeting_models/stitching_retargeting_module.pth": (
                2_393_098,
                "3652d5a3f95099141a56986aaddec92fadf0a73c87a20fac9a2c07c32b28b611",
            ),
        },
    ),
    "kokoro": _release(
        "fastrtc/kokoro-onnx",
        "main",  # not pinned: the SHA-256, which the export's own release publishes, decides
        "Apache-2.0",
        "",
        {
            "kokoro-v1.0.onnx": (
                325_532_387,
                "7d5df8ecf7d4b1878015a32686053fd0eebe2bc377234608764cc0ef3636a6c5",
            ),
            "voices-v1.0.bin": (
                28_214_398,
                "bca610b8308e8d99f32e6fe4197e7ec01679264efed0cac9140fe9c29f1fbf7d",
            ),
        },
    ),
}
"""Name of the weights -> their files, where every hash is known beforehand."""

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
    "joyvasa": Snapshot(
        "jdh-algo/JoyVASA",
        "916a90f8de490e8648fee460c1200bd5d9a795af",
        ("motion_generator/motion_generator_hubert_chinese.pt", "motion_template/motion_template.pkl"),
        414_000_000,
        licence="MIT",
        sha256={
            "motion_generator/motion_generator_hubert_chinese.pt": (
                "9dd869329725caedf5f0c13dd383abec1e385f566d8afe2047b141f604844e80"
            ),
            "motion_template/motion_template.pkl": (
                "294ce67350b18031b375361756f654c76d5e14c8f1e319cf9ed07f759ef81a98"
            ),
        },
    ),
}
"""Name of the weights -> the release that is fetched."""


def hub_endpoint() -> str:
    """Return the address of the hub: ``$HF_ENDPOINT``, or else the public one; InputError if it is none."""
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUB
    if "@" in endpoint:
        # Not shown: it may be a password.
        raise InputError(f"HF_ENDPOINT has a user name or password; give an address such as {HUB} without.")
    try:
        parts = urllib.parse.urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        usable = None
    if not usable or not endpoint.isprintable():
        raise InputError(f"HF_ENDPOINT is {endpoint!r}; give an address such as {HUB}, or unset it.")
    return endpoint


def weights_dir(name: str) -> Path:
    """Return the folder of the weights ``name``, which may not exist yet; InputError if the name is unknown.

    It is in ``$VORTEX_CACHE``, or else in ``vortex`` of ``$XDG_CACHE_HOME`` or ``~/.cache``.
    """
    if name not in WEIGHTS and name not in SNAPSHOTS:
        raise InputError(f"Unknown weights {name!r}; vortex knows {', '.join([*WEIGHTS, *SNAPSHOTS])}.")
    cache = os.environ.get("VORTEX_CACHE")
    if cache:
        return Path(cache).expanduser() / name
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vortex" / name


def weights_files(name: str) -> tuple[WeightsFile, ...]:
    """Return the files of the weights ``name``; of a snapshot that was never fetched, none.

    If every hash of a snapshot was known before, files that somebody copied into its folder count, too.

    Raises InputError for an unknown name, WeightsCorruptError if the listing of a snapshot is damaged.
    """
    if name in WEIGHTS:
        return WEIGHTS[name]
    listing = weights_dir(name) / LISTING
    if not listing.is_file():
        return _copied_files(name)
    try:
        return tuple(WeightsFile(**row) for row in json.loads(listing.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as exc:
        raise WeightsCorruptError(
            f"{listing} is damaged. Delete it and run: vortex weights fetch {name}"
        ) from exc


def _copied_files(name: str) -> tuple[WeightsFile, ...]:
    """Return the files of a snapshot whose hashes were known before, if all of them exist, else none."""
    release, folder = SNAPSHOTS[name], weights_dir(name)
    if not all((folder / path).is_file() for path in release.sha256):
        return ()
    return tuple(
        WeightsFile(
            path, (folder / path).stat().st_size, sha256, path, release.repository, release.revision,
            release.licence, release.commercial_use,
        )
        for path, sha256 in release.sha256.items()
    )  # fmt: skip


def describe_weights(name: str) -> str:
    """Return one line to show before a fetch: number and size of the files, origin and licence."""
    files = weights_files(name)
    origin = files[0] if files else SNAPSHOTS[name]
    size = f"{len(files)} files, {_total(files)}" if files else _about(name)
    use = "commercial use allowed" if origin.commercial_use else "non-commercial use only"
    return (
        f"{name}: {size}, {hub_endpoint()}/{origin.repository} at {origin.revision[:12]}, "
        f"licence {origin.licence}, {use}"
    )


def missing_weights(name: str) -> tuple[WeightsFile, ...]:
    """Return the files that do not exist; the content of the others is not checked."""
    folder = weights_dir(name)
    return tuple(file for file in weights_files(name) if not (folder / file.path).is_file())


def require_weights(name: str) -> Path:
    """Return the folder of the weights ``name``; WeightsMissingError if a file does not exist."""
    folder, missing = weights_dir(name), missing_weights(name)
    if missing or not weights_files(name):
        lack = f"lack {', '.join(file.path for file in missing)}" if missing else "are not"
        size = _total(missing) if missing else _about(name)
        raise WeightsMissingError(
            f"Weights '{name}' {lack} in {folder}. Run: vortex weights fetch {name} ({size})."
        )
    return folder


def verify_weights(name: str) -> Path:
    """Return the folder after a check of all files; WeightsMissingError, or WeightsCorruptError (SHA-256)."""
    folder = require_weights(name)
    for file in weights_files(name):
        path = folder / file.path
        if difference := difference_from_published(file, path):
            raise WeightsCorruptError(f"{path} {difference}. Run: vortex weights fetch {name}")
    return folder


def difference_from_published(file: WeightsFile, path: Path) -> str:
    """Return how ``path`` differs from the published file, or "" if it does not."""
    if not path.is_file():
        return "is missing"
    size_bytes = path.stat().st_size
    if size_bytes != file.size_bytes:
        return f"has {size_bytes:,} bytes; the published file has {file.size_bytes:,}"
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
    found = digest.hexdigest()
    return "" if found == file.sha256 else f"has SHA-256 {found}; the published file has {file.sha256}"


def _total(files: Sequence[WeightsFile]) -> str:
    return in_mib(sum(file.size_bytes for file in files))


def _about(name: str) -> str:
    return f"about {in_mib(SNAPSHOTS[name].about_bytes)}"


def in_mib(size_bytes: int) -> str:
    """Return a size as text, such as "498 MiB"."""
    return f"{size_bytes / 2**20:.0f} MiB"
