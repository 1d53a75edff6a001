"""Embedding programs find nothing on standard error, neither of vortex nor of the libraries that it uses."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def standard_error(code: str, *arguments: object) -> str:
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    return done.stderr


def test_animating_writes_nothing_with_and_without_a_transcript(tmp_path: Path) -> None:
    assert standard_error("""
        import sys, vortex
        from vortex.demo import DEMO_SPEECH, demo_portrait

        words = DEMO_SPEECH.with_suffix(".txt").read_text()
        with vortex.Session() as session:
            for options in ({"transcript": words}, {"duration_s": 0.5}):
                vortex.animate(
                    demo_portrait(), DEMO_SPEECH, sys.argv[1], force=True, session=session, size_px=128,
                    **options
                )
        vortex.check(sys.argv[1])
        print("done")
    """, tmp_path / "talking.mp4") == ""  # fmt: skip


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnxruntime", "misaki")),
    reason="needs the extra 'speech'",
)
def test_speaking_writes_nothing() -> None:
    assert (
        standard_error("""
        import vortex

        vortex.say("Nothing else is written.")
        print("done")
    """)
        == ""
    )
