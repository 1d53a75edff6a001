"""A portrait speaks a text, and its lips follow the speech."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import av
import pytest
from support.run import Run

pytest.importorskip("onnxruntime", reason="the extra 'speech' is not installed")
pytest.importorskip("misaki", reason="the extra 'speech' is not installed")

TEXT = "Bob wrapped up five papers. My mother makes apple pie for $3.50."


@pytest.fixture(scope="module")
def made(run_vortex: Run, portrait: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("spoken") / "out.mp4"
    text = out.with_suffix(".txt")
    text.write_text(TEXT)
    done = run_vortex(
        "speak", portrait, "--text-file", text, "-o", out, "--phonemes", out.with_suffix(".json"),
        "--engine", "mesh", "--seed", 5, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return out, json.loads(done.stdout)


def test_the_lips_follow_the_phonemes_of_an_independent_alignment(
    made: tuple[Path, dict], run_vortex: Run
) -> None:
    words = "Bob wrapped up five papers My mother makes apple pie for three dollars and fifty cents"
    done = run_vortex("check", made[0], "--transcript", words, "--max-offset-frames", 1, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert abs(report["offset_frames"]) < 1
    assert report["correlation"] > 0.7
    assert len(report["closures_found_s"]) >= 5
    assert report["closures_missed_s"] == []


def test_the_lips_follow_the_exact_times_of_the_phonemes(made: tuple[Path, dict], run_vortex: Run) -> None:
    path, report = made
    rows = json.loads(path.with_suffix(".json").read_text())
    assert rows[0]["start_s"] == 0
    assert all(one["end_s"] == next_["start_s"] for one, next_ in pairwise(rows))
    assert abs(rows[-1]["end_s"] - report["duration_s"]) <= 0.5 / 24
    done = run_vortex("check", path, "--phonemes", path.with_suffix(".json"), "--json")
    figures = json.loads(done.stdout)
    assert abs(figures["offset_frames"]) < 1
    assert figures["closures_missed_s"] == []


def test_the_video_has_the_speech_and_is_marked(made: tuple[Path, dict]) -> None:
    with av.open(str(made[0])) as container:
        assert container.streams.audio[0].codec_context.sample_rate == 48_000
        assert "synthetic" in container.metadata["comment"]
    assert {"speech", "portrait", "render"} <= made[1]["stage_s"].keys()


def test_voices_are_listed(run_vortex: Run) -> None:
    done = run_vortex("voices", "--json")
    assert {"name": "bf_emma", "language": "British English", "gender": "female"} in json.loads(done.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give the text"),
        (["Hello.", "--text-file", "also.txt"], "Give the text"),
        (["--text-file", "absent.txt"], "cannot be read"),
        (["..."], "no English words"),
        (["Hello.", "--voice", "nobody"], "vortex weights fetch kokoro"),
        (["Hello.", "--speed", "3"], "give a number from 0.5 to 2"),
        (["Hello.", "--speech-engine", "espeak"], "Unknown speech engine"),
        (["Hello.", "--phonemes", "no/such/folder.json"], "does not exist"),
    ],
)
def test_bad_input_gives_one_line_and_leaves_nothing(
    arguments: list[str], message: str, portrait: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "vortex", "speak", str(portrait), *arguments, "-o", "out.mp4"]
    done = subprocess.run(
        [*command, "--engine", "mesh"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
