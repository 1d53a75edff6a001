"""The catalogue is that of the releases; verification finds what is missing or differs from them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from vortex.errors import InputError, WeightsCorruptError, WeightsMissingError
from vortex.weights.cache import (
    LISTING,
    SNAPSHOTS,
    WEIGHTS,
    describe_weights,
    hub_endpoint,
    missing_weights,
    verify_weights,
    weights_dir,
)

CONTENT = {"one.pth": b"one " * 250, "two.pth": b"two " * 250}


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the folder of two weights files that are as published."""
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    published = tuple(
        replace(
            WEIGHTS["liveportrait"][0],
            path=name,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        for name, content in CONTENT.items()
    )
    monkeypatch.setitem(WEIGHTS, "liveportrait", published)  # type: ignore[arg-type]
    folder = tmp_path / "liveportrait"
    folder.mkdir()
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    return folder


def test_published_files_pass(folder: Path) -> None:
    assert verify_weights("liveportrait") == folder
    assert missing_weights("liveportrait") == ()


def test_a_changed_byte_and_another_length_are_reported(folder: Path) -> None:
    (folder / "one.pth").write_bytes(CONTENT["one.pth"].replace(b"o", b"O", 1))
    with pytest.raises(WeightsCorruptError, match=r"one\.pth has SHA-256 .*Run: vortex weights fetch"):
        verify_weights("liveportrait")
    (folder / "one.pth").write_bytes(CONTENT["one.pth"][:-1])
    with pytest.raises(WeightsCorruptError, match="has 999 bytes; the published file has 1,000"):
        verify_weights("liveportrait")


def test_missing_weights_name_the_command(folder: Path) -> None:
    (folder / "one.pth").unlink()
    with pytest.raises(WeightsMissingError, match=r"lack one\.pth in .*vortex weights fetch liveportrait"):
        verify_weights("liveportrait")
    assert [file.path for file in missing_weights("liveportrait")] == ["one.pth"]


def test_a_damaged_listing_names_the_command(folder: Path) -> None:
    listing = weights_dir("clip-vit-b32") / LISTING
    listing.parent.mkdir()
    listing.write_text("[{]")
    with pytest.raises(
        WeightsCorruptError, match=r"listing\.json is damaged.*vortex weights fetch clip-vit-b32"
    ):
        verify_weights("clip-vit-b32")


def test_environment_variables_choose_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    assert weights_dir("liveportrait") == tmp_path / "liveportrait"
    monkeypatch.delenv("VORTEX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights_dir("liveportrait") == tmp_path / "vortex" / "liveportrait"
    with pytest.raises(InputError, match="Unknown weights 'insightface'; vortex knows liveportrait"):
        weights_dir("insightface")


def test_the_table_is_that_of_the_liveportrait_release() -> None:
    files = WEIGHTS["liveportrait"]
    assert sum(file.size_bytes for file in files) == 522_320_239
    assert len({file.sha256 for file in files}) == 5
    assert all(len(file.sha256) == 64 and len(file.revision) == 40 for file in files)
    assert all(file.licence == "MIT" and file.commercial_use for file in files)


def test_every_snapshot_is_pinned_to_a_commit() -> None:
    assert all(len(release.revision) == 40 for release in SNAPSHOTS.values())


def test_a_description_names_size_origin_and_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    line = describe_weights("liveportrait")
    for fact in (
        "5 files",
        "498 MiB",
        "https://huggingface.co/KlingTeam/LivePortrait",
        "MIT",
        "commercial use",
    ):
        assert fact in line


@pytest.mark.parametrize(
    "endpoint",
    ["hub.example", "ftp://hub.example", "http://", "http://[", "http://hub.example:99999", "http://a\nb"],
)
def test_a_bad_mirror_is_named(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(InputError, match="HF_ENDPOINT is"):
        hub_endpoint()


def test_a_password_in_the_address_of_a_mirror_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://me:hunter2@hub.example")
    with pytest.raises(InputError, match="password") as refused:
        hub_endpoint()
    assert "hunter2" not in str(refused.value)
