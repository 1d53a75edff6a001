"""Results are kept whole or not at all, within a limit, and damaged ones do not count."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vortex.errors import VortexWarning
from vortex.runtime.duration import in_words
from vortex.runtime.results import DIGEST_BYTES, ResultFolder, state_dir

CONTENT = bytes(range(256)) * 4
FILE_BYTES = len(CONTENT) + DIGEST_BYTES


def test_another_process_reads_what_was_kept(tmp_path: Path) -> None:
    assert ResultFolder(tmp_path / "new").write("one", CONTENT)
    later = ResultFolder(tmp_path / "new")
    assert "one" in later and later.read("one") == CONTENT
    assert "two" not in later and later.read("two") is None
    later.remove(["one", "two"])
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_result_is_none(tmp_path: Path, damage: str) -> None:
    results = ResultFolder(tmp_path)
    results.write("one", CONTENT)
    data = (tmp_path / "one").read_bytes()
    changed = data[:500] + bytes([data[500] ^ 1]) + data[501:]
    (tmp_path / "one").write_bytes({"cut": data[:-1], "changed": changed, "empty": b""}[damage])
    assert results.read("one") is None
    assert "one" not in results


def test_the_oldest_of_others_make_room_and_own_ones_stay(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "old", "oldest")):
        ResultFolder(tmp_path).write(name, CONTENT)
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    results = ResultFolder(tmp_path, max_bytes=3 * FILE_BYTES)
    assert results.read("oldest") == CONTENT  # now in use
    assert results.write("a", CONTENT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "new", "oldest"]
    assert results.write("b", CONTENT)
    assert not results.write("c", CONTENT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "oldest"]


def test_a_folder_that_cannot_be_written_is_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    results = ResultFolder(tmp_path / "file" / "folder")
    with pytest.warns(VortexWarning, match="cannot be kept in .*VORTEX_STATE"):
        assert not results.write("one", CONTENT)
    assert not results.write("two", CONTENT)  # a second warning would be an error here


def test_where_state_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VORTEX_STATE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_dir() == tmp_path / "vortex"
    monkeypatch.setenv("VORTEX_STATE", str(tmp_path / "own"))
    assert state_dir() == tmp_path / "own"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (3570, "1 h 0 min"), (11_400, "3 h 10 min")],
)
def test_durations_are_written_as_people_read_them(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
