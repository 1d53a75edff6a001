"""Closed and full standard streams, and Ctrl-C at any moment, also while modules are imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

VORTEX = [sys.executable, "-m", "vortex"]


def short(portrait: Path, speech: Path, out: Path) -> list[str]:
    return [
        *VORTEX,
        "animate",
        str(portrait),
        str(speech),
        "-o",
        str(out),
        "--duration-s",
        "0.3",
        "--size-px",
        "128",
    ]


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-", "2>/dev/full", "1>/dev/full"])
def test_a_video_is_made_also_with_closed_and_full_streams(
    portrait: Path, speech: Path, tmp_path: Path, closed: str
) -> None:
    words = [f"'{word}'" for word in short(portrait, speech, tmp_path / "out.mp4")]
    done = subprocess.run(["bash", "-c", f"{' '.join(words)} {closed}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.mp4").read_bytes()[4:8] == b"ftyp"


def test_a_report_that_cannot_be_printed_is_one_line_and_status_1(
    portrait: Path, speech: Path, tmp_path: Path
) -> None:
    with open("/dev/full", "w") as full:
        command = [*short(portrait, speech, tmp_path / "out.mp4"), "--json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert "No space left" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


@pytest.mark.parametrize("after", ["numpy", "vortex.session", "cv2", "av", "mediapipe.tasks.c"])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_any_import_ends_the_command(
    portrait: Path, speech: Path, tmp_path: Path, after: str, sent: int
) -> None:
    """A hook sends the signal at the moment when a module is looked for."""
    code = (
        "import os, runpy, sys\n"
        "class Sender:\n"
        "    sent = False\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {after!r} and not self.sent:\n"
        "            self.sent = True\n"
        f"            os.kill(os.getpid(), {int(sent)})\n"
        "sys.meta_path.insert(0, Sender())\n"
        f"sys.argv = ['vortex', *{short(portrait, speech, tmp_path / 'out.mp4')[3:]!r}]\n"
        "runpy.run_module('vortex', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 128 + sent, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "vortex: stopped; nothing was written"
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_that_other_code_swallows_ends_the_command(tmp_path: Path) -> None:
    code = (
        "import time\n"
        "from vortex.cli.console import Stop\n"
        "Stop().listen()\n"
        "while True:\n"
        "    try:\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "    except KeyboardInterrupt:\n"
        "        pass\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.decode().splitlines() == ["vortex: stopped; nothing was written"]


def test_ctrl_c_inside_a_weak_references_callback_prints_no_traceback() -> None:
    """Python cannot raise from such a callback: it drops the exception and would print it."""
    code = (
        "import os, signal, time, weakref\n"
        "from vortex.cli.console import Stop\n"
        "Stop().listen()\n"
        "class Thing: pass\n"
        "thing = Thing()\n"
        "noted = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))\n"
        "del thing\n"
        "time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130
    assert done.stderr.splitlines() == ["vortex: stopped; nothing was written"]


def test_ctrl_c_at_random_moments_of_the_start(portrait: Path, speech: Path, tmp_path: Path) -> None:
    for delay_s in (0.15, 0.3, 0.45, 0.6, 0.9):
        with subprocess.Popen(
            short(portrait, speech, tmp_path / "out.mp4"), stderr=subprocess.PIPE, text=True
        ) as process:
            time.sleep(delay_s)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        # Before Python has started, a signal ends it as any program; afterwards the command says what it did.
        assert process.returncode in (0, 130, -signal.SIGINT), said
        assert "Traceback" not in said or process.returncode == -signal.SIGINT, said
        assert process.returncode == 0 or not os.listdir(tmp_path)
        for made in tmp_path.iterdir():
            made.unlink()
