"""The command line, fuzzed in this process: any arguments give a result, or one line and status 1 or 2."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import tempfile
import wave
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

from PIL import Image

from vortex import performance, render, session
from vortex.batch import run as batch
from vortex.batch.jobs import Outcome
from vortex.cli.main import main
from vortex.demo import DEMO_SPEECH, demo_portrait
from vortex.errors import InputError, WeightsError
from vortex.face.portrait import load_portrait
from vortex.media.audio import load_audio
from vortex.server import app as server_app
from vortex.types import Portrait
from vortex.weights import fetch as weights

LONGEST_S = 20.0
"""Longer videos are refused here: that four hours of motion take long is no finding."""
KEEPS_NOTHING = ("animate", "demo", "check", "weights", "doctor")
"""Commands that leave no file when they refuse."""

SEEDS = [
    "animate\nportrait.jpg\nspeech.wav\n-o\nout.mp4\n--size\n128\n--seed\n7",
    "animate\nportrait.jpg\nspeech.wav\n-o\nout.mp4\n--preset\nneutral,excited@0.3\n--fps\n30000/1001",
    "animate\nportrait.jpg\nspeech.wav\n--output=out.mp4\n--duration\n0.4\n--paste-back\n--no-mark\n--json",
    "animate\nportrait.jpg\nspeech.wav\n-o\nsub/out.mp4\n--engine\nmesh\n--quality\nfast\n--device\ncpu",
    "animate\nportrait.jpg\nspeech.wav\n-o\nout.mp4\n--transcript\nhe knew the skill\n--debug",
    "check\nportrait.jpg\n--phonemes\njobs.csv\n--max-offset-frames\n1.5\n--plot\nplot.png\n--json",
    "check\nspeech.wav\n--transcript\nhello",
    "batch\njobs.csv\n--out\nvideos\n--workers\n2\n--engine\nauto\n--json",
    "batch\njobs.jsonl\n--out\nvideos",
    "serve\n--host\n127.0.0.1\n--port\n0\n--data\ndata\n--max-upload-mb\n5\n--keep-s\n60\n--allow-host\na.example",
    "serve\n--api-key-file\njobs.csv\n--host\n0.0.0.0\n--max-pixels\n1000000",
    "weights\nfetch\nliveportrait", "weights\npath\nkokoro", "weights\nverify",
    "demo\n--size\n128\n-o\nout.mp4", "doctor\n--json", "--version", "animate\n--help",
]  # fmt: skip


class _LeftError(Exception):
    """Stands for the end of the process."""

    def __init__(self, status: int) -> None:
        self.status = status


def seeds() -> list[bytes]:
    """Return argument vectors, one argument a line."""
    return [seed.encode() for seed in SEEDS]


def run(data: bytes) -> object:
    """Run ``vortex`` with the lines of ``data`` as its arguments, in a folder with a portrait and a voice.

    Raises:
        InputError: the command refused, with the line that it printed.
        AssertionError: it called its own failure unexpected, ended with another status, or left a file.
    """
    # as Python decodes the arguments of a process; they cannot hold zeros
    argv = data.decode("utf-8", "surrogateescape").replace("\0", "").split("\n")
    if any(word.startswith("/") or ".." in word for word in argv):
        raise InputError("not tried: it might write outside its folder")
    console, printed = io.StringIO(), io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with _folder() as folder, _stand_ins(console, folder):
        before = _files(folder)
        try:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(console):
                return main(argv)
        except (_LeftError, SystemExit) as exc:
            status = exc.status if isinstance(exc, _LeftError) else exc.code
        finally:
            said = console.getvalue().strip().splitlines()
        if status == 0:
            return said
        assert status in (1, 2), (status, said)
        assert not any("Failed unexpectedly" in line for line in said), said
        if argv[0] in KEEPS_NOTHING:
            assert _files(folder) == before, "left a file behind"
        raise InputError(said[-1] if said else "")


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, content in inputs().items():
            (folder / name).write_bytes(content)
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(here)


@contextlib.contextmanager
def _stand_ins(console: io.StringIO, folder: Path) -> Iterator[None]:
    """Leave out what takes long or ends this process; all that reads and checks arguments stays."""

    def leave(status: int) -> NoReturn:
        raise _LeftError(status)

    def run_tasks(_: object, tasks: Iterable[Any], *_more: object) -> Iterator[Any]:
        return (Outcome(task.number, task.job.output, "done") for task in tasks)

    def refuse(name: str, **_: object) -> NoReturn:
        raise WeightsError(f"The weights {name!r} cannot be fetched here.")

    with contextlib.ExitStack() as stack:
        for stand_in in (
            patch("vortex.cli.main.leave", leave),
            patch("vortex.cli.main.open_console", lambda debug: console),
            patch.object(session, "load_portrait", _load_portrait),
            patch.object(render, "encode_video", lambda out, frames, *_, **__: len([*islice(frames, 2)])),
            patch.object(performance, "MAX_DURATION_S", LONGEST_S),
            patch.object(batch, "_run_processes", run_tasks),
            patch.object(server_app, "run_server", lambda *_: None),
            patch.object(weights, "fetch_weights", refuse),
            patch.dict(os.environ, {"XDG_STATE_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}),
        ):
            stack.enter_context(stand_in)  # type: ignore[arg-type]
        yield


def _load_portrait(path: str, **options: Any) -> Portrait:
    known = Path(path).name == "portrait.jpg" and os.path.isfile(path)
    return _face() if known else load_portrait(path, **options)


@functools.cache
def _face() -> Portrait:
    return load_portrait(demo_portrait())


@functools.cache
def inputs() -> dict[str, bytes]:
    """Return the files of the folder, small."""
    picture, voice = io.BytesIO(), io.BytesIO()
    with Image.open(demo_portrait()) as portrait:
        portrait.resize((200, 236)).save(picture, "JPEG")
    with wave.open(voice, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        samples = load_audio(DEMO_SPEECH, 16_000).samples[4000:12_000]
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return {
        "portrait.jpg": picture.getvalue(),
        "speech.wav": voice.getvalue(),
        "jobs.csv": b"portrait,speech,size_px\nportrait.jpg,speech.wav,128\nportrait.jpg,speech.wav,256\n",
        "jobs.jsonl": b'{"portrait": "portrait.jpg", "speech": "speech.wav", "seed": 3}\n{"portrait": 1}\n',
    }


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
