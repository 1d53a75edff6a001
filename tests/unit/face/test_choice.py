"""Of several faces the one that the user means is taken, and no other after it was lost."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from vortex.errors import InputError, NoFaceError
from vortex.face.choice import parse_face
from vortex.face.landmarks import NOSE_TIP
from vortex.face.listing import list_faces
from vortex.face.portrait import detect_portrait
from vortex.face.tracking import track_face
from vortex.types import Frame, Portrait

CENTRES_PX = (170, 480, 820)
SIDES_PX = (200, 260, 380)


@pytest.fixture(scope="module")
def three(hopper: Portrait) -> Frame:
    """Return the same person three times, growing from left to right."""
    picture = np.full((420, 1040, 3), 120, np.uint8)
    for centre_px, side_px in zip(CENTRES_PX, SIDES_PX, strict=True):
        face = cv2.resize(hopper.image[:512], (side_px, side_px), interpolation=cv2.INTER_AREA)
        left, top = centre_px - side_px // 2, 20
        picture[top : top + side_px, left : left + side_px] = face
    return picture


@pytest.mark.parametrize(
    ("face", "expected"),
    [("largest", 2), ("left", 0), ("middle", 1), ("right", 2), ("1", 0), ("2", 1), ("3", 2)],
)
def test_a_face_is_chosen_by_place_or_number(three: Frame, face: str, expected: int) -> None:
    portrait = detect_portrait(three, force_face=True, face=face)
    nose_px = float(portrait.landmarks_px[NOSE_TIP, 0])
    assert int(np.argmin(np.abs(np.array(CENTRES_PX) - nose_px))) == expected


def test_a_number_without_a_face_is_refused_with_the_way_to_see_them(three: Frame) -> None:
    with pytest.raises(NoFaceError, match=r"face is 4, but .* shows 3 faces. 'vortex faces' lists"):
        detect_portrait(three, face="4")


@pytest.mark.parametrize("value", ["0", "100", "-1", "1.5", "top", "", "²"])
def test_what_is_no_choice_is_refused(value: str) -> None:
    with pytest.raises(InputError, match="give largest, left, middle, right, or a number from 1 to 99"):
        parse_face(value)


def test_faces_are_listed_from_left_to_right_with_their_places(three: Frame, tmp_path: Path) -> None:
    path = tmp_path / "three.png"
    Image.fromarray(three).save(path)
    found = list_faces(path)
    assert [face.number for face in found] == [1, 2, 3]
    assert [face.largest for face in found] == [False, False, True]
    for face, centre_px in zip(found, CENTRES_PX, strict=True):
        left, top, right, bottom = face.box_px
        assert left < centre_px < right
        assert 20 < top < bottom < 420


def test_a_picture_without_faces_has_no_list(tmp_path: Path) -> None:
    path = tmp_path / "sea.png"
    Image.new("RGB", (200, 200), "navy").save(path)
    with pytest.raises(NoFaceError, match=r"No face found in 'sea.png'"):
        list_faces(path)


def test_the_chosen_face_of_a_video_is_followed_and_never_another_one(three: Frame) -> None:
    without = three.copy()
    without[:, :330] = 120
    track = track_face(
        ((i / 25, frame) for i, frame in enumerate([three, three, without, three])), choice="1"
    )
    assert track.found.tolist() == [True, True, False, True]
    nose_px = track.landmarks_px[track.found][:, NOSE_TIP, 0]
    np.testing.assert_allclose(nose_px, CENTRES_PX[0], atol=40)
    assert track.others == 2


def test_a_video_with_fewer_faces_than_the_number_is_refused(three: Frame) -> None:
    with pytest.raises(NoFaceError, match=r"face is 4, but 'talk.mp4' shows 3 faces"):
        track_face(iter([(0.0, three)]), name="talk.mp4", choice="4")
