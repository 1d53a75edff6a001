"""Full disks, missing memory, kills and concurrent writers leave no partial file, and the next run works."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from support.disks import small_file_system

VORTEX = [sys.executable, "-m", "vortex"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 100 kB."""
    with small_file_system(tmp_path / "small", "100k") as folder:
        yield folder


def animate(portrait: Path, speech: Path, out: Path, *options: str) -> list[str]:
    return [*VORTEX, "animate", str(portrait), str(speech), "-o", str(out), "--engine", "mesh", *options]


def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)  # type: ignore


def frames_in(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_full_disk_is_one_line_and_leaves_nothing(portrait: Path, speech: Path, small_disk: Path) -> None:
    done = run(animate(portrait, speech, small_disk / "out.mp4"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("vortex: No space left on the disk")
    assert list(small_disk.iterdir()) == []
    # A video that fits can still be written.
    assert (
        run(
            animate(portrait, speech, small_disk / "out.mp4", "--duration", "0.2", "--size", "128")
        ).returncode
        == 0
    )


def test_a_disk_that_cannot_be_written_is_refused_before_any_work(
    portrait: Path, speech: Path, small_disk: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = run(animate(portrait, speech, small_disk / "out.mp4"))
    assert done.returncode == 2
    assert "Read-only file system" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_folder_for_temporary_files_is_needed(portrait: Path, speech: Path, tmp_path: Path) -> None:
    env = {**os.environ, "TMPDIR": "/nonexistent", "TMP": "/nonexistent", "TEMP": "/nonexistent"}
    done = run(animate(portrait, speech, tmp_path / "out.mp4", "--duration", "0.5"), env=env)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("limit_mib", [250, 700, 1000, 1400])
def test_too_little_memory_leaves_nothing(
    portrait: Path, speech: Path, tmp_path: Path, limit_mib: int
) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit_mib << 20, limit_mib << 20))

    done = run(animate(portrait, speech, tmp_path / "out.mp4"), preexec_fn=limited)
    if limit_mib < 700:  # Python's own libraries abort while they are loaded.
        assert done.returncode in (1, -signal.SIGABRT, -signal.SIGSEGV)
    else:
        assert done.returncode == 1
        assert f"may use {limit_mib} MiB of address space; rendering needs at least" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert run(animate(portrait, speech, tmp_path / "out.mp4", "--duration", "0.5")).returncode == 0


@pytest.mark.parametrize("after_s", [0.1, 0.4, 0.8, 1.2])
def test_a_kill_at_any_stage_leaves_nothing(
    portrait: Path, speech: Path, tmp_path: Path, after_s: float
) -> None:
    with subprocess.Popen(
        animate(portrait, speech, tmp_path / "out.mp4", "--duration", "60"), stderr=subprocess.DEVNULL
    ) as process:
        time.sleep(after_s)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_two_writers_of_one_file_leave_one_whole_video(portrait: Path, speech: Path, tmp_path: Path) -> None:
    commands = [
        animate(portrait, speech, tmp_path / "out.mp4", "--duration", "1", "--seed", seed)
        for seed in ("1", "2")
    ]
    writers = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for command in commands]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]
    assert frames_in(tmp_path / "out.mp4") == 24


@pytest.mark.parametrize("arguments", [["doctor"], ["weights", "list"], ["--help"]])
def test_a_closed_pipe_on_standard_output_gives_no_traceback(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([*VORTEX, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writer)
    assert "Traceback" not in done.stderr
    assert done.returncode != 0 or done.stderr == ""


def test_an_unexpected_failure_is_one_line_that_says_how_to_see_more() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*VORTEX, "doctor"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "--debug" in done.stderr
