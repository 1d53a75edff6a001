"""Pictures are read as a viewer shows them, and faces are found, measured and cropped to the pixel."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from vortex.demo import demo_portrait
from vortex.errors import ImageError, InputError, NoFaceError
from vortex.portrait import (
    _IDLE_LANDMARKERS,
    LANDMARKERS_KEPT,
    MAX_SIDE_PX,
    crop_face,
    crop_transform,
    detect_portrait,
    even_sides,
    load_image,
    load_portrait,
    prepare_paste_back,
)
from vortex.types import Frame, Portrait

NOSE_TIP, CHIN, FOREHEAD = 1, 152, 10


@pytest.fixture(scope="module")
def hopper() -> Portrait:
    return load_portrait(demo_portrait())


@pytest.fixture
def gradient() -> Frame:
    """A picture whose every corner differs, (40, 60, 3)."""
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([4 * x, 6 * y, np.full_like(x, 90)], axis=2).astype(np.uint8)


def turned(image: Frame, clockwise_deg: float, centre: tuple[float, float]) -> Frame:
    matrix = cv2.getRotationMatrix2D(centre, -clockwise_deg, 1)
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def test_a_png_is_read_exactly(tmp_path: Path, gradient: Frame) -> None:
    Image.fromarray(gradient).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_image(tmp_path / "a.png"), gradient)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path: Path, gradient: Frame, orientation: int) -> None:
    as_stored = {
        1: gradient,
        2: gradient[:, ::-1],
        3: gradient[::-1, ::-1],
        4: gradient[::-1],
        5: gradient.transpose(1, 0, 2),
        6: np.rot90(gradient, 1),
        7: gradient[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(gradient, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(as_stored)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png"), gradient)


def test_transparency_becomes_white(tmp_path: Path) -> None:
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[..., 0], rgba[:4, :, 3] = 200, 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png")
    assert (image[:4] == [200, 0, 0]).all()
    assert (image[4:] == 255).all()


def test_a_transparent_palette_becomes_white(tmp_path: Path) -> None:
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.paste(1, (0, 0, 4, 8))
    picture.save(tmp_path / "a.png", transparency=0)
    image = load_image(tmp_path / "a.png")
    assert (image[:, :4] == [40, 50, 60]).all()
    assert (image[:, 4:] == 255).all()


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png")
    assert np.abs(image[..., 0] - values / 257.0).max() <= 1
    assert (image[..., 0] == image[..., 2]).all()


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(tmp_path: Path, gradient: Frame, mode: str) -> None:
    name = "a.tif" if mode in ("CMYK", "YCbCr") else "a.png"
    Image.fromarray(gradient).convert(mode).save(tmp_path / name)
    image = load_image(tmp_path / name)
    assert image.shape == gradient.shape
    assert image.dtype == np.uint8


def test_cmyk_jpeg_has_the_colours_of_the_original(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), (200, 60, 30)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(load_image(tmp_path / "a.jpg").astype(int) - [200, 60, 30]).max() <= 6


def test_an_embedded_profile_is_applied(tmp_path: Path, gradient: Frame) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(gradient).save(tmp_path / "a.png", icc_profile=srgb)
    assert np.abs(load_image(tmp_path / "a.png").astype(int) - gradient).max() <= 1


def test_a_broken_profile_is_ignored(tmp_path: Path, gradient: Frame) -> None:
    Image.fromarray(gradient).save(tmp_path / "a.png", icc_profile=b"no profile at all")
    np.testing.assert_array_equal(load_image(tmp_path / "a.png"), gradient)


def test_a_huge_picture_is_reduced_and_the_user_is_told(tmp_path: Path) -> None:
    photo = Image.open(demo_portrait()).resize((5120, 6000))
    photo.save(tmp_path / "huge.png", compress_level=1)
    portrait = load_portrait(tmp_path / "huge.png")
    assert portrait.image.shape[:2] == (MAX_SIDE_PX, round(MAX_SIDE_PX * 5120 / 6000))
    assert portrait.notes == ("portrait reduced from 5120x6000 to 1638x1920",)


def test_a_decompression_bomb_is_refused_unread(tmp_path: Path) -> None:
    header = Image.new("1", (40_000, 40_000))
    header.save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 1_000_000
    with pytest.raises(ImageError):
        load_image(tmp_path / "bomb.png")


def test_a_picture_beyond_the_limit_is_refused_with_its_size(tmp_path: Path) -> None:
    Image.new("1", (13_000, 10_000)).save(tmp_path / "large.png")
    with pytest.raises(ImageError, match=r"13000x10000.*smaller"):
        load_image(tmp_path / "large.png")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.png", None, "does not exist"),
        ("text.png", b"this is no picture", "is not a picture"),
        ("empty.jpg", b"", "is not a picture"),
    ],
)
def test_what_is_no_picture_is_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=message):
        load_image(tmp_path / name)


def test_a_truncated_picture_is_refused(tmp_path: Path) -> None:
    whole = demo_portrait().read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="cannot be decoded"):
        load_image(tmp_path / "half.jpg")


def test_a_png_with_a_giant_text_chunk_is_refused_not_a_crash(tmp_path: Path, gradient: Frame) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    Image.fromarray(gradient).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(ImageError):
        load_image(tmp_path / "a.png")


def test_landmarks_lie_on_the_face(hopper: Portrait) -> None:
    points = hopper.landmarks_px
    # read off the photo by eye, 512x600
    np.testing.assert_allclose(points[[468, 473]].mean(0)[:2], [264, 189], atol=4)
    assert points[FOREHEAD, 1] < points[NOSE_TIP, 1] < points[CHIN, 1]
    # the nose is nearer than the ears
    assert points[NOSE_TIP, 2] < points[[234, 454], 2].min()
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
    # a turned head shows its nose off the middle of the face, on the side it looks to
    narrow = hopper.image.copy()
    points = hopper.landmarks_px
    nose_x, left_x, right_x = (points[i, 0] for i in (NOSE_TIP, 234, 454))
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
def test_no_face_is_an_error_that_says_what_to_do(size: tuple[int, int]) -> None:
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


def test_the_official_crop_stands_the_face_upright(hopper: Portrait) -> None:
    points = hopper.landmarks_px[:, :2].astype(np.float64)
    transform = crop_transform(hopper.landmarks_px, 512)
    there = points @ transform[:2, :2].T + transform[:2, 2]
    eyes = there[[33, 133, 159, 145, 362, 263, 386, 374]].mean(0)
    lips = there[[61, 291]].mean(0)
    assert eyes[0] == pytest.approx(lips[0], abs=1e-6)
    assert eyes[1] < lips[1]
    # a similarity: perpendicular axes of one length
    axes = transform[:2, :2]
    np.testing.assert_allclose(axes @ axes.T, np.linalg.det(axes) * np.eye(2), atol=1e-12)
    # 1 / 2.3 of the square
    outline = np.ptp(there[[127, 356, 152, 105, 334]], axis=0).max() / 512
    assert outline == pytest.approx(1 / 2.3, abs=0.03)


def test_the_official_crop_scales_with_its_size(hopper: Portrait) -> None:
    small, large = (crop_transform(hopper.landmarks_px, size) for size in (256, 512))
    np.testing.assert_allclose(2 * small[:2, :2], large[:2, :2])


@pytest.mark.parametrize("size_px", [256, 512, 700])
def test_a_face_crop_keeps_pixels_and_landmarks_together(hopper: Portrait, size_px: int) -> None:
    crop = crop_face(hopper, size_px)
    assert crop.image.shape == (size_px, size_px, 3)
    again = detect_portrait(crop.image)
    eye_px = np.linalg.norm(crop.landmarks_px[33, :2] - crop.landmarks_px[263, :2])
    error = np.linalg.norm(again.landmarks_px[:, :2] - crop.landmarks_px[:, :2], axis=1).mean()
    assert error < 0.02 * eye_px
    np.testing.assert_allclose(
        crop.crop_from_image, crop_transform(crop.landmarks_px, 512), rtol=1e-4, atol=1e-2
    )


def test_a_face_crop_never_leaves_the_picture(hopper: Portrait) -> None:
    corner = replace_image(hopper, hopper.image[60:420, 100:420], (100, 60))
    crop = crop_face(corner, 512)
    ends = crop.landmarks_px[[234, 454, 152, 10], :2]
    assert (ends > 0).all()
    assert (ends < 511).all()


def replace_image(portrait: Portrait, image: Frame, origin: tuple[int, int]) -> Portrait:
    return Portrait(
        image=image,
        landmarks_px=portrait.landmarks_px - np.array([*origin, 0], np.float32),
        crop_from_image=portrait.crop_from_image,
        head_pose_deg=portrait.head_pose_deg,
        blendshapes=portrait.blendshapes,
    )


@pytest.mark.parametrize("size_px", [0, 127, 511, 4096])
def test_an_unusable_frame_size_is_refused(hopper: Portrait, size_px: int) -> None:
    with pytest.raises(InputError, match=f"frame size is {size_px}"):
        crop_face(hopper, size_px)


def test_odd_sides_lose_a_pixel(hopper: Portrait) -> None:
    odd = replace_image(hopper, hopper.image[:599, :511], (0, 0))
    even = even_sides(odd)
    assert even.image.shape == (598, 510, 3)
    np.testing.assert_array_equal(even.image, hopper.image[:598, :510])


def test_pasting_an_unchanged_crop_back_changes_nothing(hopper: Portrait) -> None:
    crop = np.asarray(
        cv2.warpAffine(
            hopper.image,
            hopper.crop_from_image[:2],
            (512, 512),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        np.uint8,
    )
    frame = prepare_paste_back(hopper.image, hopper.crop_from_image, 512).blend(crop)
    assert frame.shape == hopper.image.shape
    assert np.abs(frame.astype(int) - hopper.image).mean() < 1


def test_pasting_leaves_far_pixels_alone(hopper: Portrait) -> None:
    wide = np.full((800, 1400, 3), 77, np.uint8)
    wide[100:700, 300:812] = hopper.image
    portrait = replace_image(hopper, wide, (-300, -100))
    paste = prepare_paste_back(wide, crop_transform(portrait.landmarks_px, 512), 256)
    frame = paste.blend(np.zeros((256, 256, 3), np.uint8))
    x0, y0, x1, y1 = paste.box
    outside = np.ones(wide.shape[:2], bool)
    outside[y0:y1, x0:x1] = False
    assert outside.mean() > 0.3
    np.testing.assert_array_equal(frame[outside], wide[outside])
    nose = portrait.landmarks_px[NOSE_TIP, :2].round().astype(int)
    assert (frame[nose[1], nose[0]] == 0).all()


def test_an_extreme_side_view_is_refused() -> None:
    import skimage

    # the cameraman, seen from the side
    cameraman = Path(skimage.__file__).parent / "data" / "camera.png"
    with pytest.raises(NoFaceError, match=r"turned .* degrees to the side"):
        load_portrait(cameraman)


def test_what_was_looked_at_before_changes_nothing(hopper: Portrait) -> None:
    fresh = {"image": hopper.image, "mirrored": np.ascontiguousarray(hopper.image[:, ::-1])}
    seen = {name: detect_portrait(image) for name, image in fresh.items()}
    _IDLE_LANDMARKERS.clear()
    for name in ("mirrored", "image"):
        again = detect_portrait(fresh[name])
        np.testing.assert_array_equal(again.landmarks_px, seen[name].landmarks_px)
        np.testing.assert_array_equal(again.blendshapes, seen[name].blendshapes)


def test_threads_that_look_at_once_share_no_landmarker(hopper: Portrait) -> None:
    pictures = [np.ascontiguousarray(np.roll(hopper.image, 7 * index, axis=1)) for index in range(4)]
    alone = [detect_portrait(picture).landmarks_px for picture in pictures]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda picture: detect_portrait(picture).landmarks_px, 4 * pictures))
    np.testing.assert_array_equal(together, 4 * alone)
    assert sum(map(len, _IDLE_LANDMARKERS.values())) == LANDMARKERS_KEPT
