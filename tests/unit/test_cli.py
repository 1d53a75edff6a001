"""The command line speaks to people on a terminal and to programs elsewhere."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vortex.cli.console import progress_line
from vortex.demo import demo_portrait
from vortex.version import __version__


def vortex(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vortex", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_the_version_is_printed() -> None:
    assert vortex("--version").stdout == f"vortex {__version__}\n"


COMMANDS = (
    "animate",
    "demo",
    "speak",
    "say",
    "voices",
    "generate",
    "check",
    "weights",
    "doctor",
    "bench",
    "batch",
    "serve",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    assert f"usage: vortex {command}" in vortex(command, "--help").stdout


def test_doctor_tells_what_can_run_and_why_not() -> None:
    findings = json.loads(vortex("doctor", "--json").stdout)
    assert findings["vortex"] == __version__
    assert findings["engines"]["mesh"] is None
    reason = findings["engines"]["liveportrait"]
    assert reason is None or len(reason) > 10


def test_doctor_also_says_what_an_engine_lacks_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    findings = json.loads(vortex("doctor", "--json").stdout)
    lacking = findings["engines_on_cpu"]["liveportrait"]
    assert lacking.startswith(
        ("torch is not installed; run: pip", "its weights are missing; run: vortex weights")
    )
    assert f"with --device cpu: {lacking}\n" in vortex("doctor").stdout
    assert "mesh" not in findings["engines_on_cpu"]


def test_doctor_names_the_command_that_a_model_of_motion_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    reason = json.loads(vortex("doctor", "--json").stdout)["audio_motions"]["joyvasa"]
    assert "vortex weights fetch joyvasa" in reason or "pip install" in reason


def test_doctor_needs_no_heavy_package() -> None:
    code = (
        "import sys; from vortex.cli.main import main; main(['doctor']); "
        "print([name for name in ('cv2', 'mediapipe', 'av', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_demo_portrait_is_found_without_importing_its_package() -> None:
    code = (
        "import sys; from vortex.demo import demo_portrait; demo_portrait(); "
        "print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert demo_portrait().name == "grace_hopper.jpg"


def test_the_progress_line_ends_full() -> None:
    console = io.StringIO()
    show = progress_line(console)
    show("portrait", 0, 1)
    for done in range(101):
        show("render", done, 100)
    last = console.getvalue().split("\r\x1b[2K")[-1]
    assert last.startswith("render")
    assert "[########################] 100/100" in last
    assert " fps " in last
    assert "\n" not in console.getvalue()


def test_the_time_left_counts_only_frames_that_took_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 162 frames, 100 were there; the others take 70 s each."""
    now_s = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now_s[0])
    console = io.StringIO()
    show = progress_line(console)
    show("ahead", 0, 1)
    now_s[0] = 200.0
    for done in range(100, 113):
        show("ahead", done, 162)
        now_s[0] += 70.0
    last = console.getvalue().split("\r\x1b[2K")[-1]
    assert last.endswith("112/162  70.0 s each  58 min left")


def test_weights_that_are_missing_are_listed_with_size_and_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    assert vortex("weights", "path").stdout == f"{tmp_path / 'liveportrait'}\n"
    listed = vortex("weights", "list").stdout
    assert "licence MIT" in listed
    assert listed.count("missing") == 5
    assert list(tmp_path.iterdir()) == []


def test_verifying_missing_weights_fails_with_the_command_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    command = [sys.executable, "-m", "vortex", "weights", "verify"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "vortex weights fetch liveportrait" in done.stderr
    assert len(done.stderr.splitlines()) == 1
