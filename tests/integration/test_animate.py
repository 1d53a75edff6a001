"""A portrait and a voice become a video, through the command line, as a user gets it."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
from PIL import Image
from support.run import Run

from vortex.media.audio import load_audio


class Video(NamedTuple):
    fps: Fraction
    size_px: tuple[int, int]
    duration_s: Fraction
    frames: list[np.ndarray]


def probe(path: Path) -> Video:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert container.streams.audio[0].codec_context.name == "aac"
        assert stream.codec_context.name == "h264"
        return Video(
            stream.average_rate,
            (stream.width, stream.height),
            stream.duration * stream.time_base,
            [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)],
        )


def comment(path: Path) -> str:
    with av.open(str(path)) as container:
        return container.metadata["comment"]


@pytest.fixture(scope="module")
def made(
    run_vortex: Run, portrait: Path, speech: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, object]]:
    out = tmp_path_factory.mktemp("made") / "out.mp4"
    done = run_vortex("animate", portrait, speech, "-o", out, "--seed", 7, "--engine", "mesh", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return out, json.loads(done.stdout)


def test_the_video_is_what_the_report_says(made: tuple[Path, dict[str, object]], speech: Path) -> None:
    path, report = made
    seconds = load_audio(speech).duration_s
    video = probe(path)
    assert len(video.frames) == report["frames"] == math.ceil(seconds * 24)
    assert video.fps == Fraction(str(report["fps"])) == 24
    assert list(video.size_px) == report["size_px"] == [512, 512]
    assert 0 <= video.duration_s - seconds < Fraction(1, 24)
    assert report["engine"] == "mesh"
    assert report["seed"] == 7
    stages = report["stage_s"]
    assert isinstance(stages, dict)
    assert {"portrait", "speech", "recognize", "prepare", "render"} <= stages.keys()


def test_the_video_says_that_it_is_synthetic_and_how_it_was_made(
    made: tuple[Path, dict[str, object]],
) -> None:
    said = comment(made[0])
    assert "synthetic" in said
    assert "engine=mesh" in said
    assert "seed=7" in said


def test_the_voice_is_in_step_to_the_sample(made: tuple[Path, dict[str, object]], speech: Path) -> None:
    given = load_audio(speech, 48_000).samples
    with av.open(str(made[0])) as container:
        heard = np.concatenate([frame.to_ndarray().mean(0) for frame in container.decode(audio=0)])
    inner = slice(4000, min(len(given), len(heard)) - 4000)
    lags = np.arange(-1500, 1501)
    likeness = [float(given[inner] @ heard[inner.start + lag : inner.stop + lag]) for lag in lags]
    assert lags[int(np.argmax(likeness))] == 0


def test_only_the_head_moves(made: tuple[Path, dict[str, object]]) -> None:
    frames = probe(made[0]).frames
    sample = np.stack(frames[::6]).astype(np.float32)
    spread = sample.std(0).mean(2)
    # the picture's corners are background; the codec alone adds less than two levels of noise
    assert max(spread[:40, :40].mean(), spread[:40, -40:].mean()) < 2
    assert spread[200:400, 180:330].max() > 10


def test_the_same_seed_gives_the_same_video_and_another_seed_another(
    run_vortex: Run, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        done = run_vortex(
            "animate", portrait, speech, "-o", tmp_path / f"{name}.mp4", "--seed", seed,
            "--duration", 1.5, "--size", 256,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "mesh, seed" in done.stderr
    first, again, other = (np.stack(probe(tmp_path / f"{name}.mp4").frames) for name in "abc")
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_exact_rates_sizes_and_unicode_paths(
    run_vortex: Run, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "Žofie 山田 🎬"
    folder.mkdir()
    shutil.copy(portrait, folder / "größe.jpg")
    shutil.copy(speech, folder / "голос.flac")
    out = folder / "vidéo.mp4"
    done = run_vortex(
        "animate", folder / "größe.jpg", folder / "голос.flac", "-o", out, "--fps", "30000/1001",
        "--size", 320, "--preset", "calm,manic@1", "--transcript", "he turned sharply", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    video = probe(out)
    assert report["path"] == str(out)
    assert report["fps"] == "30000/1001"
    assert video.fps == Fraction(30000, 1001)
    assert video.size_px == (320, 320)
    assert len(video.frames) == round(load_audio(speech).duration_s * Fraction(30000, 1001))
    assert sorted(entry.name for entry in folder.iterdir()) == ["größe.jpg", "vidéo.mp4", "голос.flac"]


def test_without_a_seed_one_is_drawn_and_reported(
    run_vortex: Run, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    seeds = []
    for name in ("a.mp4", "b.mp4"):
        done = run_vortex("animate", portrait, speech, "-o", tmp_path / name, "--duration", 0.3, "--json")
        seeds.append(json.loads(done.stdout)["seed"])
    assert seeds[0] != seeds[1]
    assert f"seed={seeds[0]}" in comment(tmp_path / "a.mp4")


def test_paste_back_keeps_the_picture_and_its_size(
    run_vortex: Run, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    wide = np.random.default_rng(1).integers(90, 110, (641, 1201, 3), dtype=np.uint8)
    wide[20:620, 350:862] = np.asarray(Image.open(portrait))
    Image.fromarray(wide).save(tmp_path / "wide.png")
    out = tmp_path / "out.mp4"
    done = run_vortex(
        "animate", tmp_path / "wide.png", speech, "-o", out, "--paste-back", "--duration", 1, "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["size_px"] == [1200, 640]
    video = probe(out)
    frames = video.frames
    assert video.size_px == (1200, 640)
    # far from the face nothing changes, but for the codec
    for frame in (frames[0], frames[-1]):
        difference = np.abs(frame[:, :250].astype(int) - wide[:640, :250]).mean()
        assert difference < 8
    still = np.abs(frames[-1][:, :250].astype(int) - frames[0][:, :250]).mean()
    moving = np.abs(frames[-1][120:340, 500:720].astype(int) - frames[0][120:340, 500:720]).mean()
    assert still < 0.5 * moving


def test_a_longer_video_ends_in_silence_and_a_shorter_one_is_announced(
    run_vortex: Run, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    done = run_vortex("animate", portrait, speech, "-o", tmp_path / "long.mp4", "--duration", 4)
    assert done.returncode == 0, done.stderr
    assert len(probe(tmp_path / "long.mp4").frames) == 96
    with av.open(str(tmp_path / "long.mp4")) as container:
        heard = np.concatenate([frame.to_ndarray().mean(0) for frame in container.decode(audio=0)])
    assert np.abs(heard[int(3.4 * 48_000) :]).max() < 1e-3
    done = run_vortex("animate", portrait, speech, "-o", tmp_path / "short.mp4", "--duration", 0.5)
    assert "is cut to 0.50 s" in done.stderr


def test_an_error_does_not_wait_for_long_speech(run_vortex: Run, speech: Path, tmp_path: Path) -> None:
    hour = np.resize(load_audio(speech, 8_000).samples, 3600 * 8_000)
    write_wav(tmp_path / "hour.wav", hour, 8_000)
    done = run_vortex("animate", tmp_path / "gone.png", tmp_path / "hour.wav", "-o", tmp_path / "out.mp4")
    assert done.returncode == 2, done.stderr


def write_wav(path: Path, samples: np.ndarray, rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", "not compressed"))
        file.writeframes((samples * 32767).astype("<i2").tobytes())


@pytest.mark.parametrize(
    ("sent", "status", "last_line"),
    [
        (signal.SIGINT, 130, "vortex: stopped; nothing was written"),
        (signal.SIGTERM, 143, "vortex: stopped; nothing was written"),
        (signal.SIGKILL, -9, None),
    ],
)
def test_ctrl_c_and_kill_leave_nothing(
    portrait: Path, speech: Path, tmp_path: Path, sent: int, status: int, last_line: str | None
) -> None:
    arguments = [portrait, speech, "-o", tmp_path / "out.mp4", "--duration", "600"]
    with subprocess.Popen(
        [sys.executable, "-m", "vortex", "animate", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_for(lambda: writes_below(process.pid, tmp_path))
            process.send_signal(sent)
            printed, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == status
    assert printed == ""
    assert "Traceback" not in said
    assert last_line is None or said.splitlines()[-1] == last_line
    assert list(tmp_path.iterdir()) == []


def writes_below(pid: int, folder: Path) -> bool:
    """Tell whether the process holds a file in ``folder`` open that has something in it."""
    try:
        open_files = list(Path(f"/proc/{pid}/fd").iterdir())
        return any(
            os.readlink(link).startswith(f"{folder}/") and link.stat().st_size > 1000 for link in open_files
        )
    except OSError:
        # a file was closed meanwhile
        return False


def wait_for(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_the_demo_needs_no_input(run_vortex: Run, tmp_path: Path) -> None:
    done = run_vortex("demo", "-o", tmp_path / "demo.mp4", "--duration", 0.5, "--preset", "excited", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] == 12
