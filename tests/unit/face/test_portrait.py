"""The face of a portrait is found, measured, and refused where it cannot be animated."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from vortex.demo import demo_portrait
from vortex.errors import ImageError, NoFaceError
from vortex.face.crop import crop_face, even_sides
from vortex.face.detection import MIN_FACE_PX
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
    assert portrait.notes == ("2 faces found, took the largest; face chooses another one",)


def test_a_small_face_in_a_large_picture_is_found(hopper: Portrait) -> None:
    wide = np.full((1000, 1900, 3), 140, np.uint8)
    wide[600:900, 1400:1656] = np.asarray(Image.fromarray(hopper.image).resize((256, 300)), np.uint8)
    nose = detect_portrait(wide).landmarks_px[NOSE_TIP, :2]
    np.testing.assert_allclose(nose, hopper.landmarks_px[NOSE_TIP, :2] / 2 + [1400, 600], atol=2)


@pytest.fixture(scope="module")
def crowd(hopper: Portrait) -> tuple[Frame, np.ndarray]:
    """A picture of 4000x2600 px in which the face has 5 % of the width, and its landmarks in pixels."""
    scale = 200 / float(np.ptp(hopper.landmarks_px[:468, 0]))
    height, width = (round(scale * side) for side in hopper.image.shape[:2])
    crowd = np.full((2600, 4000, 3), (120, 130, 110), np.uint8)
    crowd[1500 : 1500 + height, 2700 : 2700 + width] = Image.fromarray(hopper.image).resize((width, height))
    # Both pictures begin half a pixel before the centre of their first pixel.
    return crowd, (hopper.landmarks_px[:, :2] + 0.5) * scale + [2700 - 0.5, 1500 - 0.5]


@pytest.mark.parametrize("kind", ["array", "file", "turned file"])
def test_a_small_face_in_a_large_photo_is_measured_at_full_resolution(
    crowd: tuple[Frame, np.ndarray], kind: str, tmp_path: Path
) -> None:
    picture, landmarks_px = crowd
    source: PortraitSource = picture
    if kind != "array":
        exif, quarters = Image.Exif(), int(kind == "turned file")
        exif[0x0112] = 6 if quarters else 1  # a viewer turns it by 90 degrees clockwise
        stored = Image.fromarray(np.ascontiguousarray(np.rot90(picture, quarters)))
        source = tmp_path / "crowd.jpg"
        stored.save(source, exif=exif, quality=95)
    portrait = load_portrait(source)
    assert portrait.image.shape == (1248, 1920, 3)
    close_up = portrait.close_up
    assert close_up is not None and close_up.image.shape[0] > 2.3 * 200
    assert any("cut from the original" in note for note in portrait.notes)
    # A hundredth of the face: what a face of the demo's own size is measured to.
    found = (portrait.landmarks_px[:, :2] + 0.5) * (4000 / 1920) - 0.5
    assert np.linalg.norm(found - landmarks_px, axis=1).mean() < 2
    # The cut shows the pixels of the original, in place.
    nose = np.round(close_up.landmarks_px[NOSE_TIP, :2]).astype(int)
    corner = np.round(found[NOSE_TIP] - close_up.landmarks_px[NOSE_TIP, :2]).astype(int)
    x, y = corner + nose - 40
    seen = close_up.image[nose[1] - 40 : nose[1] + 40, nose[0] - 40 : nose[0] + 40].astype(int)
    assert np.abs(seen - picture[y : y + 80, x : x + 80]).mean() < 3


def test_a_close_up_is_framed_like_the_whole_picture_and_is_sharper(crowd: tuple[Frame, np.ndarray]) -> None:
    portrait = load_portrait(crowd[0])
    sharp, dull = crop_face(portrait, 512), crop_face(replace(portrait, close_up=None), 512)
    shift = np.abs(sharp.landmarks_px[:, :2] - dull.landmarks_px[:, :2]).max()
    assert shift < 4  # one pixel of the reduced picture
    steps = [np.abs(np.diff(face.image.astype(float), axis=1)).mean() for face in (sharp, dull)]
    assert steps[0] > 1.2 * steps[1]
    assert even_sides(portrait).image.shape == (1248, 1920, 3)


def test_a_face_too_small_for_the_reduced_picture_is_found(hopper: Portrait) -> None:
    wide = np.full((4000, 6000, 3), 140, np.uint8)
    wide[1800:2200, 3000:3341] = Image.fromarray(hopper.image).resize((341, 400))
    portrait = load_portrait(wide)
    size_px = float(np.ptp(portrait.landmarks_px[:468, 1]))
    assert size_px < MIN_FACE_PX < 6000 / 1920 * size_px


@pytest.mark.parametrize("size", [(1, 1), (30, 40), (8, 1900), (400, 400)])
def test_a_picture_without_a_face_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(NoFaceError, match=rf"{size[1]}x{size[0]}.*Try a larger"):
        detect_portrait(np.full((*size, 3), 90, np.uint8))


def test_too_small_a_face_is_refused_with_its_size(hopper: Portrait) -> None:
    wide = np.full((400, 400, 3), 140, np.uint8)
    wide[100:220, 100:202] = np.asarray(Image.fromarray(hopper.image).resize((102, 120)), np.uint8)
    with pytest.raises(NoFaceError, match=r"face .* is \d+ px wide"):
        detect_portrait(wide)


QUARTERS_COUNTER_CLOCKWISE = {"90 degrees counter-clockwise": 1, "180 degrees": 2, "90 degrees clockwise": 3}


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_picture_is_refused_with_the_turn_that_makes_it_upright(
    hopper: Portrait, quarters: int
) -> None:
    wrong = np.ascontiguousarray(np.rot90(hopper.image, quarters))
    with pytest.raises(NoFaceError, match="Turn the picture by") as refused:
        detect_portrait(wrong)
    advice = str(refused.value).rsplit("by ", 1)[1].rstrip(".")
    np.testing.assert_array_equal(np.rot90(wrong, QUARTERS_COUNTER_CLOCKWISE[advice]), hopper.image)


def test_a_picture_that_its_exif_tag_turns_is_accepted(hopper: Portrait, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees, Exif 2.3, table 4
    Image.fromarray(np.ascontiguousarray(np.rot90(hopper.image, 2))).save(tmp_path / "a.png", exif=exif)
    portrait = load_portrait(tmp_path / "a.png")
    np.testing.assert_array_equal(portrait.landmarks_px, hopper.landmarks_px)
    assert portrait.notes == ()


def test_an_extreme_side_view_is_refused() -> None:
    import skimage

    # A cameraman, seen from the side.
    cameraman = Path(skimage.__file__).parent / "data" / "camera.png"
    with pytest.raises(NoFaceError, match=r"turned .* degrees to the side"):
        load_portrait(cameraman)
