"""Chosen mouths move to wanted lips, and a mouth that is put where it was looks as it did."""

from __future__ import annotations

import numpy as np
import pytest
from support.driving import known_frames

from vortex.face.portrait import detect_portrait
from vortex.face.shapes import without_pose
from vortex.revoice.lips import GAP, LIP_INDEX, column_gaps, measure_lips
from vortex.revoice.warping import MAX_MOVE, MouthPicture, move_lips, place, warped
from vortex.types import Frame


@pytest.fixture(scope="module")
def open_mouth() -> tuple[Frame, MouthPicture]:
    (frame,) = known_frames([0.5])
    landmarks = detect_portrait(frame).landmarks_px
    face = without_pose(landmarks[None])
    points = landmarks[:, :2].astype(np.float64)
    return frame, MouthPicture(frame, np.zeros(2), points, face[0], measure_lips(face)[0])


def test_wanted_lips_are_measured_in_the_moved_face(open_mouth: tuple[Frame, MouthPicture]) -> None:
    mouth = open_mouth[1]
    wanted = mouth.lips.copy()
    wanted[GAP] -= 0.05
    wanted[LIP_INDEX["jaw"]] -= 0.03
    wanted[LIP_INDEX["width"]] -= 0.02
    measured = measure_lips(move_lips(mouth.face, mouth.lips, wanted)[None])[0]
    np.testing.assert_allclose(measured[[0, 1, 2, 5]], wanted[[0, 1, 2, 5]], atol=0.006)


def test_lips_meet_exactly_and_move_no_farther_than_skin_can(open_mouth: tuple[Frame, MouthPicture]) -> None:
    mouth = open_mouth[1]
    wanted = mouth.lips.copy()
    wanted[GAP] = 0
    assert mouth.lips[GAP] > 0.05
    np.testing.assert_allclose(column_gaps(move_lips(mouth.face, mouth.lips, wanted)), 0, atol=1e-9)
    wanted[GAP:] = mouth.lips + 1
    moved = move_lips(mouth.face, mouth.lips, wanted)
    assert np.abs(moved - mouth.face).max() < 3 * MAX_MOVE


def test_a_mouth_put_where_it_was_looks_as_it_did(open_mouth: tuple[Frame, MouthPicture]) -> None:
    frame, mouth = open_mouth
    points = mouth.landmarks_px
    placing = place(mouth, mouth.face, points, points, points)
    x0, y0 = np.floor(points.min(axis=0)).astype(int)
    x1, y1 = np.ceil(points.max(axis=0)).astype(int)
    shown = warped(mouth, placing, (x0, y0, x1, y1)).astype(int)
    np.testing.assert_allclose(shown, frame[y0:y1, x0:x1].astype(int), atol=3)


def test_a_mouth_that_shuts_hides_the_dark_between_its_lips(open_mouth: tuple[Frame, MouthPicture]) -> None:
    """The middle of the lips becomes lip: much lighter than the inside of the mouth was."""
    frame, mouth = open_mouth
    wanted = mouth.lips.copy()
    wanted[GAP] = 0
    moved = move_lips(mouth.face, mouth.lips, wanted)
    # The pose of this face, by the points that do not move.
    to_px = np.linalg.lstsq(
        np.column_stack([mouth.face[:, :2], np.ones(478)]), mouth.landmarks_px, rcond=None
    )[0]
    restored = mouth.landmarks_px + (moved - mouth.face)[:, :2] @ to_px[:2]
    placing = place(mouth, moved, restored, mouth.landmarks_px, mouth.landmarks_px)
    assert placing.closes
    shown = warped(mouth, placing, (0, 0, frame.shape[1], frame.shape[0]))
    x, y = np.round(placing.seam_px[5]).astype(int)
    x_before, y_before = np.round(mouth.landmarks_px[[13, 14]].mean(axis=0)).astype(int)
    inside = frame[y_before - 1 : y_before + 2, x_before - 1 : x_before + 2].mean()
    assert shown[y - 1 : y + 2, x - 1 : x + 2].mean() > inside + 20
