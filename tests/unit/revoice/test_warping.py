"""Chosen mouths move to wanted lips, and a mouth that is put where it was looks as it did."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from support.driving import known_frames

from vortex.face.landmarks import LOWER_INNER, UPPER_INNER
from vortex.face.portrait import detect_portrait
from vortex.face.shapes import without_pose
from vortex.revoice.library import mouth_box
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


def test_a_mouth_that_shuts_hides_all_that_is_between_its_lips(
    open_mouth: tuple[Frame, MouthPicture],
) -> None:
    """The inside of the mouth is painted blue, which lips are not, and next to nothing blue is left."""
    frame, mouth = open_mouth
    points, painted = mouth.landmarks_px, frame.copy()
    between = np.concatenate([points[UPPER_INNER], points[LOWER_INNER[::-1]]])
    cv2.fillPoly(painted, [np.round(between * 16).astype(np.int32)], (0, 0, 255), cv2.LINE_AA, shift=4)
    wanted = mouth.lips.copy()
    wanted[GAP] = 0
    moved = move_lips(mouth.face, mouth.lips, wanted)
    # The pose of this face, by the points that do not move.
    flat = np.column_stack([mouth.face[:, :2], np.ones(478)])
    to_px = np.linalg.lstsq(flat, points, rcond=None)[0]
    restored = points + (moved - mouth.face)[:, :2] @ to_px[:2]
    as_it_was, shut = (
        blue_area_px(warped(replace(mouth, pixels=painted), placing, mouth_box(points, frame)))
        for placing in (
            place(mouth, mouth.face, points, points, points),
            place(mouth, moved, restored, points, points),
        )
    )
    assert as_it_was > 400
    assert shut < 0.04 * as_it_was


def blue_area_px(picture: Frame) -> float:
    """Return how many pixels are blue, in part or wholly, as skin, lips and teeth are not."""
    red, blue = picture[..., 0].astype(float), picture[..., 2].astype(float)
    return float(np.clip((blue - red - 30) / 225, 0, 1).sum())
