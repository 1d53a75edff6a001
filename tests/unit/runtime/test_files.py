"""Files appear whole or not at all, also after an exception or a kill, and without unnamed files."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vortex.errors import InputError
from vortex.runtime.files import check_output_path, whole_file, write_whole


@pytest.fixture
def without_tmpfile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the file system refuse files without a name."""
    open_file = os.open

    def refusing(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not on this file system")
        return open_file(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", refusing)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_the_content_appears_at_the_end_and_replaces_an_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with whole_file(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
        assert names(tmp_path) == ["a.txt"]
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_without_unnamed_files_the_content_has_a_hidden_name(tmp_path: Path, without_tmpfile: None) -> None:
    with whole_file(tmp_path / "a.txt") as part:
        part.write_text("new")
        (hidden,) = names(tmp_path)
        assert hidden.startswith(".vortex-")
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "new"


def fail_in_the_middle(path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), whole_file(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    fail_in_the_middle(tmp_path / "a.txt")
    assert names(tmp_path) == []


def test_an_exception_leaves_nothing_without_unnamed_files_either(
    tmp_path: Path, without_tmpfile: None
) -> None:
    fail_in_the_middle(tmp_path / "a.txt")
    assert names(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="needs Linux, which has files without a name")
def test_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from vortex.runtime.files import whole_file\n"
        "with whole_file(Path(sys.argv[1])) as part:\n"
        "    part.write_text('half'); print('written', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.txt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "written\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert names(tmp_path) == []


def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_whole(tmp_path / "a.txt", "größer")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "other").stat().st_mode
    assert (tmp_path / "a.txt").read_bytes() == b"gr\xc3\xb6\xc3\x9fer"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.jpg", r"'.*a\.jpg' does not end in \.png or \.webp"),
        ("a", r"does not end in \.png or \.webp"),
        ("folder.png", "is a folder"),
        ("missing/a.png", "'.*missing' does not exist"),
        ("a" * 252 + ".png", "too long"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match=message):
        check_output_path(tmp_path / name, (".png", ".webp"), "Picture")
    assert names(tmp_path) == ["folder.png"]


@pytest.mark.parametrize("name", ["a.png", "A.PNG", "b.webp", "a" * 251 + ".png"])
def test_a_path_that_can_be_written_is_accepted(tmp_path: Path, name: str) -> None:
    check_output_path(tmp_path / name, (".png", ".webp"), "Picture")
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs Linux, where /proc accepts no files")
def test_a_folder_that_accepts_no_files_is_refused() -> None:
    with pytest.raises(InputError, match=r"cannot be written .*elsewhere"):
        check_output_path(Path("/proc/a.png"), (".png",), "Picture")
