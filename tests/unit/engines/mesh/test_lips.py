"""Open lips of a photo: their edges are found, and no tooth shows where they shut."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from vortex.engines.mesh.engine import MeshEngine
from vortex.engines.mesh.lips import open_lips
from vortex.engines.mesh.prepare import prepare_portrait
from vortex.face.landmarks import LOWER_INNER, MOUTH_CORNERS, UPPER_INNER
from vortex.motion.drive import expand
from vortex.types import Frame, MotionTrack

DOWN = np.array([0, 1], np.float32)
EYE_WIDTH_PX = 140.0


def white(image: Frame, mask: np.ndarray, upper: np.ndarray) -> None:
    image[mask > 0] = (250, 248, 240)


@pytest.mark.parametrize("filled", [white, None], ids=["teeth", "throat"])
def test_edges_of_lips_are_found_where_landmarks_miss_them(
    face: Callable[..., Any], filled: Callable[..., None] | None
) -> None:
    true = face(0.15, between=filled).landmarks_px
    off = face(0.15, between=filled, off_px=3.0)
    _, found = open_lips(off.image, off.landmarks_px, DOWN)
    middle = slice(3, 8)
    for edge, outward in ((UPPER_INNER[middle], -1), (LOWER_INNER[middle], 1)):
        beyond = outward * (found[edge, 1] - true[edge, 1])
        assert np.all(beyond > -0.5)
        assert np.all(beyond < 3.0)


def test_a_smile_of_white_teeth_shows_none_when_it_shuts(face: Callable[..., Any]) -> None:
    drawn = face(0.12, between=white, off_px=2.0)
    prepared = prepare_portrait(drawn.image, drawn.landmarks_px)
    motion = MotionTrack(expand({"mouthClose": 1.0})[None], np.zeros((1, 3), np.float32), Fraction(24))
    (frame,) = MeshEngine().iter_frames(prepared, motion)
    first, last = drawn.landmarks_px[list(MOUTH_CORNERS), :2].round().astype(int)
    low, high = first[1] - 25, first[1] + 35
    mouth, photo = (picture[low:high, first[0] : last[0]] for picture in (frame, drawn.image))
    # Teeth are much brighter than the skin of this face, of 190 in red and 118 in blue.
    assert photo[..., 2].max() > 230
    assert mouth[..., 2].max() < 125


def test_shut_lips_and_what_is_around_open_ones_keep_every_byte(face: Callable[..., Any]) -> None:
    shut, open_ = face(0.0), face(0.12, between=white)
    same, _ = open_lips(shut.image, shut.landmarks_px, DOWN)
    assert np.array_equal(same, shut.image)
    filled, _ = open_lips(open_.image, open_.landmarks_px, DOWN)
    rows, columns = np.nonzero(np.any(filled != open_.image, axis=2))
    inner = open_.landmarks_px[np.concatenate([UPPER_INNER, LOWER_INNER]), :2]
    reach = 0.06 * EYE_WIDTH_PX
    assert len(rows)
    assert rows.min() > inner[:, 1].min() - reach
    assert rows.max() < inner[:, 1].max() + reach
    assert columns.min() > inner[:, 0].min() - reach
    assert columns.max() < inner[:, 0].max() + reach
