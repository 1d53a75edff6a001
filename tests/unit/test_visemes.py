"""The table of visemes: complete, as OpenXR names it, and the only place to edit for another viseme."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.pages import python_block
from support.syllables import speech

import vortex
from vortex.motion.drive import drive
from vortex.types import BLENDSHAPES
from vortex.visemes import (
    CLOSING_COLUMNS,
    LIP_CLOSING_COLUMNS,
    ROUNDING_COLUMNS,
    SILENT_COLUMN,
    VISEME_TABLE,
    VISEMES,
)

OPENXR = "SIL PP FF TH DD KK CH SS NN RR AA E IH OH OU".split()
"""XrFaceTrackingVisemeMETA, the enumeration of XR_META_face_tracking_visemes."""

NEW_ROW = python_block("contributing.md", "A viseme: one row")

USE_NEW_VISEME = """
from fractions import Fraction
from pathlib import Path
import sys
import numpy as np
import vortex
from support.syllables import column, speech
from vortex.lipsync.stream import VisemeStream
from vortex.lipsync.visemes import MOUTH_SHAPES, coarticulate, mouth_shape
from vortex.motion.drive import VISEME_BLENDSHAPES
from vortex.motion.drive import drive, still
from vortex.motion.drive import MotionStream
from vortex.types import VisemeTrack
from vortex.visemes import VISEME_INDEX, VISEMES

assert Path(vortex.__file__).parent.parent == Path(sys.argv[1]), vortex.__file__
fps, new = Fraction(24), VISEME_INDEX["new"]
assert len(VISEMES) == 16 and VISEMES[0] == "new"
assert np.allclose(MOUTH_SHAPES[new], (0.5, 0.25, 0.75)) and MOUTH_SHAPES.shape == (16, 3)
assert VISEME_BLENDSHAPES.shape == (16, 48)
assert coarticulate([], 3, fps).shape == (3, 16) and VisemeStream().finish().weights.shape == (0, 16)

# Half a second of silence, half a second of the new viseme.
weights = np.zeros((24, 16), np.float32)
weights[:12, VISEME_INDEX["sil"]] = weights[12:, new] = 1
track = VisemeTrack(weights, np.ones(24), fps)
assert track.fit(26).weights[25, VISEME_INDEX["sil"]] == 1
assert np.allclose(mouth_shape(weights)[20], (0.5, 0.25, 0.75))
for motion in (drive(track, "neutral", 1), MotionStream(fps, "neutral", 1).push(track)):
    assert np.allclose(column(motion, "mouthPucker"), [0.0] * 12 + [0.6] * 12)
    # Rounded lips keep a quarter of the smile.
    smile = column(motion, "mouthSmileLeft")
    assert np.allclose(smile[12:], smile[0] / 4)
assert (column(still(2, fps), "mouthClose") == 1).all()

# A viseme that no sound shows changes nothing of the others.
visemes = speech(30)
motion = drive(visemes, "excited", 3)
np.savez(sys.argv[2], weights=np.delete(visemes.weights, new, axis=1), shapes=motion.blendshapes,
         pose=motion.head_pose_deg)
"""


def test_the_rows_are_the_visemes_of_openxr_in_its_order() -> None:
    assert [name.upper() for name in VISEMES] == OPENXR


def test_every_row_is_a_mouth_of_known_blendshapes() -> None:
    for row in VISEME_TABLE:
        assert all(0 <= value <= 1 for value in (row.jaw_open, row.lip_width, row.lip_rounding)), row.name
        assert all(0 < abs(amount) <= 1 for amount in row.blendshapes.values()), row.name
        for name in row.blendshapes:
            assert name in BLENDSHAPES or {f"{name}Left", f"{name}Right"} <= set(BLENDSHAPES), row.name


def test_closures_and_roundings_are_those_of_phonetics() -> None:
    assert [VISEMES[column] for column in LIP_CLOSING_COLUMNS] == ["PP"]  # bilabial: p, b, m
    assert [VISEMES[column] for column in CLOSING_COLUMNS] == ["PP", "FF"]  # and labiodental: f, v
    assert VISEMES[SILENT_COLUMN] == "sil"
    # The rounded visemes are rounder than all others.
    rounding = np.array([row.lip_rounding for row in VISEME_TABLE])
    others = np.delete(rounding, ROUNDING_COLUMNS)
    assert rounding[ROUNDING_COLUMNS].min() > others.max()


def test_one_more_row_works_everywhere(tmp_path: Path) -> None:
    package = Path(vortex.__file__).parent
    copy = tmp_path / "vortex"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("kokoro*", "page", "__pycache__"))
    table = copy / "visemes.py"
    # The new row comes first, so that the columns of all others change.
    before, first, after = table.read_text().partition('    Viseme(name="sil"')
    assert first
    table.write_text(f"{before}{NEW_ROW},\n{first}{after}")
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", USE_NEW_VISEME, str(tmp_path), str(tmp_path / "motion.npz")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(tests)])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, visemes = np.load(tmp_path / "motion.npz"), speech(30)
    expected = drive(visemes, "excited", 3)
    assert found["weights"] == pytest.approx(visemes.weights, abs=1e-6)
    assert found["shapes"] == pytest.approx(expected.blendshapes, abs=1e-5)
    assert found["pose"] == pytest.approx(expected.head_pose_deg, abs=1e-5)
