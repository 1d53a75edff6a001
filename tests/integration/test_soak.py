"""Many portraits in one process: no memory is left behind, no thread is waited for in vain."""

from __future__ import annotations

import subprocess
import sys

import pytest

PICTURES = """
import numpy as np
from PIL import Image
from vortex.demo import demo_portrait
from vortex.face.portrait import detect_portrait

picture = Image.open(demo_portrait())
chance = np.random.default_rng(1)

def look():
    side = int(chance.uniform(0.7, 1.3) * picture.width)
    return detect_portrait(np.asarray(picture.resize((side, side * picture.height // picture.width))))
"""
GROWTH = """
import ctypes
NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES.split()]
mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Mallinfo
held = [look() and mallinfo().arena for _ in range(30)]
print(max(held) - max(held[:5]))
"""
FORK = """
import os, signal
look()
child = os.fork()
if child == 0:
    signal.alarm(30)
    look()
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PICTURES + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_heaps_do_not_grow_with_the_number_of_portraits() -> None:
    done = python(GROWTH)
    if "mallinfo2" in done.stderr:
        pytest.skip("the C library does not tell what it holds (glibc 2.33 does)")
    # with a landmarker for each portrait, the heaps of their threads take 20 MB more by then
    assert int(done.stdout) < 8 << 20, done.stdout


def test_a_forked_child_does_not_wait_for_the_threads_of_its_parent() -> None:
    assert python(FORK).stdout == "0\n"


def test_python_ends_in_silence_while_landmarkers_wait() -> None:
    done = python("look()")
    assert done.returncode == 0
    assert "Exception" not in done.stderr
