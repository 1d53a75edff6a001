"""The public functions, as a program that embeds vortex uses them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.paths import DEMO_SPEECH

import vortex
from vortex.demo import demo_portrait
from vortex.media.audio import load_audio
from vortex.types import Audio

PROGRAM = """
from fractions import Fraction

import numpy as np

import vortex

report = vortex.animate("a.jpg", (np.zeros(10), 16_000), "c.mp4", fps=Fraction(25), seed=3)
frames: int = report.frames
complaints: tuple[str, ...] = vortex.generate("a", "b.mp4", image="p.jpg").complaints
correlation: float = vortex.check("c.mp4").correlation
with vortex.open_live_face("a.jpg", sample_rate_hz=16_000) as face, vortex.Session() as session:
    video, speech = vortex.speak(b"...", "Hello.", "d.mp4", session=session, speed=1.2)
"""


def type_check(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(folder / "cache"), "program.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_programs_are_type_checked_against_the_installed_package(tmp_path: Path) -> None:
    good = type_check(PROGRAM, tmp_path)
    assert good.returncode == 0, good.stdout
    bad = type_check(
        'import vortex\nvortex.animate("a", "b", "c", colour="red")\nvortex.say("a", speed="fast")\n',
        tmp_path,
    )
    assert 'Unexpected keyword argument "colour"' in bad.stdout
    assert 'Argument "speed" to "say" has incompatible type "str"' in bad.stdout


def test_every_kind_of_picture_and_sound_gives_the_same_video(tmp_path: Path) -> None:
    picture, sound = demo_portrait(), load_audio(DEMO_SPEECH, 48_000)
    short = Audio(sound.samples[:24_000], 48_000)
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    pictures = {
        "path": picture,
        "text": str(picture),
        "bytes": picture.read_bytes(),
        "array": pixels,
        "pil": Image.open(picture),
    }
    sounds = {"audio": short, "samples": (short.samples, 48_000)}
    made = set()
    with vortex.Session() as session:
        for speech in sounds.values():
            # An open file is read to its end, so each call gets its own.
            with picture.open("rb") as file:
                for source in (*pictures.values(), file):
                    out = tmp_path / "out.mp4"
                    vortex.animate(source, speech, out, force=True, session=session, size_px=128, seed=1)
                    made.add(out.read_bytes())
    assert len(made) == 1


def test_progress_reports_the_documented_stages_in_order(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    report = vortex.animate(
        demo_portrait(),
        DEMO_SPEECH,
        tmp_path / "out.mp4",
        size_px=128,
        on_progress=lambda *step: seen.append(step),
    )
    stages = [stage for stage, _, _ in seen]
    assert set(stages) == {"engine", "portrait", "prepare", "speech", "recognize", "render"}
    assert (
        stages.index("engine") < stages.index("portrait") < stages.index("prepare") < stages.index("render")
    )
    assert stages.index("speech") < stages.index("recognize") < stages.index("render")
    rendered = [(done, total) for stage, done, total in seen if stage == "render"]
    assert rendered == [(n, report.frames) for n in range(1, report.frames + 1)]


def test_what_the_callback_raises_ends_the_work_and_leaves_nothing(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(stage: str, completed: int, total: int) -> None:
        if stage == "render" and completed == 5:
            raise StopError

    with pytest.raises(StopError):
        vortex.animate(demo_portrait(), DEMO_SPEECH, tmp_path / "out.mp4", size_px=128, on_progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_unknown_and_impossible_options_are_refused_before_any_work(tmp_path: Path) -> None:
    for options, message in (({"colour": 1}, "Unknown option 'colour'"), ({"size_px": 3}, "size_px is 3")):
        with pytest.raises(vortex.VortexError, match=message):
            vortex.animate("gone.jpg", "gone.wav", tmp_path / "out.mp4", **options)  # type: ignore[arg-type]


def test_say_writes_what_it_returns(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'speech' is not installed")
    speech = vortex.say("Good morning.", tmp_path / "voice.wav")
    assert speech.phonemes[-1].end_s == pytest.approx(float(speech.audio.duration_s))
    heard = load_audio(tmp_path / "voice.wav", speech.audio.sample_rate)
    assert np.abs(heard.samples - np.clip(speech.audio.samples, -1, 1)).max() <= 1.01 / 32_768
    with pytest.raises(vortex.VortexError, match=r"\.wav"):
        vortex.say("Good morning.", tmp_path / "voice.mp3")


def test_errors_are_at_the_top() -> None:
    assert issubclass(vortex.errors.NoFaceError, vortex.VortexError)
    assert issubclass(vortex.errors.InputError, ValueError)
