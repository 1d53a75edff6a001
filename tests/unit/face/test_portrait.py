"""The face of a portrait is found, measured, and refused where it cannot be animated."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from vortex.demo import demo_portrait
from vortex.errors import ImageError, NoFaceError
from vortex.face.landmarks import CHIN, FACE_SIDES, FOREHEAD, IRIS_CENTRES, NOSE_TIP
from vortex.face.portrait import PortraitSource, detect_portrait, load_portrait
from vortex.media.picture import MAX_SIDE_PX
from vortex.types import Frame, Portrait


def turned(image: Frame, clockwise_deg: float, centre: tuple[float, float]) -> Frame:
    matrix = cv2.getRotationMatrix2D(centre, -clockwise_deg, 1)
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def test_every_kind_of_source_gives_the_same_landmarks(hopper: Portrait) -> None:
    path = demo_portrait()
    with path.open("rb") as file, Image.open(path) as picture:
        array = np.asarray(picture.convert("RGB"))
        sources: list[PortraitSource] = [str(path), path.read_bytes(), file, picture, array]
        for source in sources:
            portrait = load_portrait(source)
            np.testing.assert_array_equal(portrait.landmarks_px, hopper.landmarks_px)
            np.testing.assert_array_equal(portrait.image, hopper.image)
    assert load_portrait(hopper) is hopper


def test_messages_name_the_kind_of_source() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (90, 80), "tan").save(buffer, "PNG")
    with pytest.raises(NoFaceError, match=r"No face found in 'bytes' \(90x80\)"):
        load_portrait(buffer.getvalue())
    with pytest.raises(ImageError, match="is a float"):
        load_portrait(1.5)  # type: ignore[arg-type]


def test_a_huge_picture_is_reduced_with_a_note(tmp_path: Path) -> None:
    photo = Image.open(demo_portrait()).resize((5120, 6000))
    photo.save(tmp_path / "huge.jpg", quality=80)
    portrait = load_portrait(tmp_path / "huge.jpg")
    assert portrait.image.shape[:2] == (MAX_SIDE_PX, round(MAX_SIDE_PX * 5120 / 6000))
    assert portrait.notes == ("portrait reduced from 5120x6000 to 1638x1920",)


def test_landmarks_lie_on_the_face(hopper: Portrait) -> None:
    points = hopper.landmarks_px
    # Read off the photo by eye.
    np.testing.assert_allclose(points[list(IRIS_CENTRES)].mean(0)[:2], [264, 189], atol=4)
    assert points[FOREHEAD, 1] < points[NOSE_TIP, 1] < points[CHIN, 1]
    # The nose is nearer than the sides of the face.
    assert points[NOSE_TIP, 2] < points[list(FACE_SIDES), 2].min()
    assert hopper.notes == ()


def test_landmarks_follow_the_picture(hopper: Portrait) -> None:
    moved = detect_portrait(np.roll(hopper.image, 11, axis=1))
    shift = moved.landmarks_px[:, :2] - hopper.landmarks_px[:, :2]
    np.testing.assert_allclose(np.median(shift, axis=0), [11, 0], atol=0.4)


def test_a_clockwise_tilt_is_a_positive_roll(hopper: Portrait) -> None:
    tilted = detect_portrait(turned(hopper.image, 12, (262, 240)))
    assert tilted.head_pose_deg[2] - hopper.head_pose_deg[2] == pytest.approx(12, abs=1.5)


def test_a_mirror_swaps_left_and_right(hopper: Portrait) -> None:
    tilted = turned(hopper.image, 12, (262, 240))
    one = detect_portrait(tilted)
    other = detect_portrait(np.ascontiguousarray(tilted[:, ::-1]))
    pitch, yaw, roll = one.head_pose_deg
    np.testing.assert_allclose(other.head_pose_deg, [pitch, -yaw, -roll], atol=2)
    width = tilted.shape[1]
    mirrored_nose = width - 1 - one.landmarks_px[NOSE_TIP, 0]
    assert other.landmarks_px[NOSE_TIP, 0] == pytest.approx(mirrored_nose, abs=2)


def test_yaw_is_positive_to_the_viewers_right(hopper: Portrait) -> None:
    # The nose of a turned head is off the middle of the face, on the side to which it is turned.
    narrow = hopper.image.copy()
    points = hopper.landmarks_px
    nose_x, left_x, right_x = (points[i, 0] for i in (NOSE_TIP, *FACE_SIDES))
    squeeze = np.interp(
        np.arange(narrow.shape[1], dtype=np.float32),
        [0, left_x, nose_x + 30, right_x, narrow.shape[1] - 1],
        [0, left_x, nose_x, right_x, narrow.shape[1] - 1],
    ).astype(np.float32)
    rows = np.arange(narrow.shape[0], dtype=np.float32)
    map_x, map_y = np.meshgrid(squeeze, rows)
    looking_right = cv2.remap(narrow, map_x, map_y, cv2.INTER_LINEAR)
    seen = detect_portrait(np.asarray(looking_right, np.uint8))
    assert seen.head_pose_deg[1] > hopper.head_pose_deg[1] + 5


def test_of_several_faces_the_largest_is_taken(hopper: Portrait) -> None:
    small = np.asarray(Image.fromarray(hopper.image).resize((384, 450)), np.uint8)
    both = np.full((600, 896, 3), 128, np.uint8)
    both[:450, :384] = small
    both[:, 384:] = hopper.image
    portrait = detect_portrait(both)
    assert portrait.landmarks_px[NOSE_TIP, 0] > 384
    assert portrait.notes == ("2 faces found, took the largest",)


def test_a_small_face_in_a_large_picture_is_found(hopper: Portrait) -> None:
    wide = np.full((1000, 1900, 3), 140, np.uint8)
    wide[600:900, 1400:1656] = np.asarray(Image.fromarray(hopper.image).resize((256, 300)), np.uint8)
    nose = detect_portrait(wide).landmarks_px[NOSE_TIP, :2]
    np.testing.assert_allclose(nose, hopper.landmarks_px[NOSE_TIP, :2] / 2 + [1400, 600], atol=2)


@pytest.mark.parametrize("size", [(1, 1), (30, 40), (8, 1900), (400, 400)])
def test_a_picture_without_a_face_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(NoFaceError, match=rf"{size[1]}x{size[0]}.*Try a larger"):
        detect_portrait(np.full((*size, 3), 90, np.uint8))


def test_too_small_a_face_is_refused_with_its_size(hopper: Portrait) -> None:
    wide = np.full((400, 400, 3), 140, np.uint8)
    wide[100:220, 100:202] = np.asarray(Image.fromarray(hopper.image).resize((102, 120)), np.uint8)
    with pytest.raises(NoFaceError, match=r"face .* is \d+ px wide"):
        detect_portrait(wide)


def test_a_face_on_its_side_is_refused(hopper: Portrait) -> None:
    with pytest.raises(NoFaceError, match="tilted"):
        detect_portrait(np.ascontiguousarray(np.rot90(hopper.image)))


def test_an_extreme_side_view_is_refused() -> None:
    import skimage

    # A cameraman, seen from the side.
    cameraman = Path(skimage.__file__).parent / "data" / "camera.png"
    with pytest.raises(NoFaceError, match=r"turned .* degrees to the side"):
        load_portrait(cameraman)
