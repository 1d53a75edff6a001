"""A row of the table is all that a format needs; others are refused; a GPU encodes if NVENC works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest
from support.pages import python_block

import vortex
from vortex.errors import InputError
from vortex.media import containers
from vortex.media.containers import (
    DEFAULT_CONTAINER,
    Container,
    check_video_path,
    choose_video_encoder,
    container_of,
    nvenc_works,
)

ROWS = {
    ".mov": 'Container(".mov", "video/quicktime", "mov", {"cpu": "libx264"}, "aac"),',
    ".mkv": python_block("contributing.md", "A container format: one row"),
}


@pytest.mark.parametrize("suffix", ROWS)
def test_one_row_adds_a_container(tmp_path: Path, suffix: str) -> None:
    package = tmp_path / "vortex"
    shutil.copytree(Path(vortex.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    table = package / "media" / "containers.py"
    before, start, after = table.read_text().partition("CONTAINERS: tuple[Container, ...] = (\n")
    end = after.index("\n)\n")
    table.write_text(f"{before}{start}{after[:end]}\n    {ROWS[suffix]}{after[end:]}")
    code = textwrap.dedent("""
        import sys, vortex
        from vortex.demo import DEMO_SPEECH, demo_portrait

        options = {"size_px": 128, "duration_s": 5 / 24, "seed": 1}
        print(vortex.animate(demo_portrait(), DEMO_SPEECH, sys.argv[1], **options).frames)
    """)
    out = tmp_path / f"talking{suffix}"
    command = [sys.executable, "-W", "ignore", "-c", code, str(out)]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "5\n", "")
    with av.open(str(out)) as container:
        assert suffix[1:] in container.format.extensions
        assert container.streams.video[0].average_rate == 24
        assert (container.streams.video[0].width, container.streams.video[0].height) == (128, 128)
        frames = list(container.decode(video=0))
    assert len(frames) == 5
    # Matroska counts in whole milliseconds.
    for index, frame in enumerate(frames):
        assert abs(frame.pts * frame.time_base - Fraction(index, 24)) <= Fraction(1, 1000)
    with av.open(str(out)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) >= 48_000 * 5 // 24


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.avi", r"Output '.*a\.avi' does not end in \.mp4"),
        ("a", r"does not end in \.mp4"),
        ("folder.mp4", "is a folder"),
        ("missing/a.mp4", "does not exist"),
        ("a" * 252 + ".mp4", "too long"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(InputError, match=message):
        check_video_path(tmp_path / name)


def test_an_unknown_suffix_is_refused_before_any_other_input_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.avi' does not end in \.mp4"):
        vortex.animate(tmp_path / "missing.png", tmp_path / "missing.wav", tmp_path / "a.avi")


def test_the_suffix_may_be_upper_case() -> None:
    assert container_of(Path("A.MP4")).suffix == ".mp4"


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the encoders that were tried; none works."""
    opened: list[str] = []

    def refuse(name: str, mode: str) -> None:
        opened.append(name)
        raise av.error.PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(av.CodecContext, "create", refuse)
    nvenc_works.cache_clear()
    yield opened
    nvenc_works.cache_clear()


def test_on_a_cpu_nvenc_is_not_tried(probes: list[str]) -> None:
    assert choose_video_encoder(DEFAULT_CONTAINER, "cpu") == "libx264"
    assert probes == []


def test_where_nvenc_does_not_work_x264_encodes_and_nvenc_is_tried_once(probes: list[str]) -> None:
    assert [choose_video_encoder(DEFAULT_CONTAINER, device) for device in ("cuda", "cuda:1", "cpu")] == [
        "libx264"
    ] * 3
    assert probes == ["h264_nvenc"]


def test_where_nvenc_works_it_encodes_what_a_gpu_renders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "nvenc_works", lambda: True)
    assert [choose_video_encoder(DEFAULT_CONTAINER, device) for device in ("cuda", "cuda:1", "cpu")] == [
        "h264_nvenc", "h264_nvenc", "libx264"
    ]  # fmt: skip


def test_nvenc_needs_a_driver() -> None:
    """Without a driver of NVIDIA, NVENC cannot work."""
    nvenc_works.cache_clear()
    assert Path("/proc/driver/nvidia/version").exists() or not nvenc_works()


def test_a_container_without_an_encoder_for_gpus_takes_that_for_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "nvenc_works", lambda: True)
    webm = Container(".webm", "video/webm", "webm", {"cpu": "libvpx-vp9"}, "libopus")
    assert choose_video_encoder(webm, "cuda:1") == "libvpx-vp9"
