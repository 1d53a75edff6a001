"""No command replaces an input, or without --force any file; outputs are checked before any work."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import pytest
from support.run import Run

from vortex.cli.main import build_parser
from vortex.errors import InputError

TEXT = ("--text-file", "text.txt")
COMMANDS: dict[str, tuple[list[str], list[str]]] = {
    "animate": (["animate", "a.jpg", "b.flac", "-o", "out.mp4"], ["out.mp4"]),
    "drive": (["drive", "a.jpg", "actor.mp4", "-o", "out.mp4"], ["out.mp4"]),
    "demo": (["demo", "-o", "out.mp4"], ["out.mp4"]),
    "speak": (["speak", "a.jpg", *TEXT, "-o", "out.mp4", "--phonemes", "p.json"], ["out.mp4", "p.json"]),
    "say": (["say", *TEXT, "-o", "out.wav", "--phonemes", "p.json"], ["out.wav", "p.json"]),
    "generate": (
        ["generate", "--image", "a.jpg", *TEXT, "-o", "out.mp4", "--report", "r.json", "--timeline", "t.png"],
        ["out.mp4", "r.json", "t.png"],
    ),
    "check": (["check", "actor.mp4", "--plot", "plot.png"], ["plot.png"]),
}
"""Words of a command, and the files that it writes."""
WRITTEN = [(name, written) for name, (_, files) in COMMANDS.items() for written in files]
READ = {
    "animate": ("a.jpg", "b.flac"), "drive": ("a.jpg", "actor.mp4"), "speak": ("a.jpg", "text.txt"),
    "say": ("text.txt",), "generate": ("a.jpg", "text.txt"), "check": ("actor.mp4",),
}  # fmt: skip


@pytest.fixture
def folder(portrait: Path, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(portrait, tmp_path / "a.jpg")
    shutil.copy(speech, tmp_path / "b.flac")
    (tmp_path / "actor.mp4").write_bytes(b"no video, but that is found only later")
    (tmp_path / "text.txt").write_text("Good morning.")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(*words: str) -> str:
    """Return the message with which a command refuses its arguments."""
    args = build_parser().parse_args(words)
    with pytest.raises(InputError) as refused:
        args.run(args, io.StringIO())
    return str(refused.value)


@pytest.mark.parametrize(("name", "written"), WRITTEN)
def test_a_file_that_is_there_is_kept(folder: Path, name: str, written: str) -> None:
    Path(written).write_bytes(b"kept")
    before = sorted(path.name for path in folder.iterdir())
    said = refusal(*COMMANDS[name][0])
    assert f"'{written}' is there already" in said and "force" in said
    assert Path(written).read_bytes() == b"kept"
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(("name", "written"), WRITTEN)
@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
@pytest.mark.parametrize("kind", ["same", "linked"])
def test_an_input_is_never_replaced(
    folder: Path, name: str, written: str, force: tuple[str, ...], kind: str
) -> None:
    for read in READ.get(name, ()):
        content = Path(read).read_bytes()
        # The input has the suffix of the output, and is the same file or a link to it.
        Path(written).unlink(missing_ok=True)
        if kind == "same":
            Path(read).rename(written)
        else:
            Path(written).symlink_to(read)
        words = [written if word == read and kind == "same" else word for word in COMMANDS[name][0]]
        assert "is an input, too" in refusal(*words, *force)
        assert Path(written).read_bytes() == content
        if kind == "same":
            Path(written).rename(read)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("kind", ["folder", "missing", "pipe", "link to nothing"])
def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    folder: Path, name: str, kind: str
) -> None:
    for written in COMMANDS[name][1]:
        target = Path(f"missing/{written}") if kind == "missing" else Path(written)
        if kind == "folder":
            target.mkdir()
        elif kind == "pipe":
            os.mkfifo(target)
        elif kind == "link to nothing":
            target.symlink_to("nothing")
        words = [str(target) if word == written else word for word in COMMANDS[name][0]]
        said = refusal(*words, "--force")
        assert any(part in said for part in ("is a folder", "does not exist", "is no regular file")), said
        if kind == "folder":
            target.rmdir()
        elif kind != "missing":
            target.unlink()


def test_force_replaces_a_file(run_vortex: Run, folder: Path) -> None:
    Path("out.mp4").write_bytes(b"old")
    words = (
        "animate",
        "a.jpg",
        "b.flac",
        "-o",
        "out.mp4",
        "--duration-s",
        "0.5",
        "--size-px",
        "128",
        "--json",
    )
    done = run_vortex(*words, "--force")
    assert done.returncode == 0 and json.loads(done.stdout)["frames"] == 12
    assert Path("out.mp4").read_bytes()[4:8] == b"ftyp"
