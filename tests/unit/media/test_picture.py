"""Pictures are loaded as a viewer shows them, whatever their mode, profile or source."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, PngImagePlugin
from support.icc import adobe_rgb_profile, display_p3_profile, grey_profile, srgb_from_adobe, srgb_from_p3

from vortex.demo import demo_portrait
from vortex.errors import ImageError
from vortex.media.picture import MAX_SIDE_PX, PictureSource, load_picture, picture_name
from vortex.types import Frame


@pytest.fixture
def gradient() -> Frame:
    """A picture whose every corner differs, (40, 60, 3)."""
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([4 * x, 6 * y, np.full_like(x, 90)], axis=2).astype(np.uint8)


def pixels(source: PictureSource) -> Frame:
    picture = load_picture(source)
    assert picture.notes == ()
    return picture.image


def test_a_png_is_read_exactly(tmp_path: Path, gradient: Frame) -> None:
    Image.fromarray(gradient).save(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), gradient)


def test_every_kind_of_source_gives_the_same_pixels(tmp_path: Path, gradient: Frame) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(gradient).save(path)
    with path.open("rb") as file, Image.open(path) as picture:
        sources: list[PictureSource] = [
            path, str(path), path.read_bytes(), file, io.BytesIO(path.read_bytes()), picture, gradient,
            np.asfortranarray(gradient),
        ]  # fmt: skip
        for source in sources:
            np.testing.assert_array_equal(pixels(source), gradient)
        assert not file.closed


def test_an_open_file_of_several_pictures_stays_open(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    pages[0].save(tmp_path / "a.gif", save_all=True, append_images=pages[1:])
    with (tmp_path / "a.gif").open("rb") as file:
        assert (pixels(file) == [255, 0, 0]).all()
        assert not file.closed


def test_the_caller_s_picture_object_is_not_changed() -> None:
    with Image.open(demo_portrait()) as photo:
        large = photo.resize((4000, 4688))
    buffer = io.BytesIO()
    large.save(buffer, "JPEG")
    picture = Image.open(buffer)
    loaded = load_picture(picture)
    assert picture.size == (4000, 4688)
    assert loaded.image.shape == (MAX_SIDE_PX, 1638, 3)
    assert loaded.notes == ("portrait reduced from 4000x4688 to 1638x1920",)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (5, "is a int"),
        (None, "is a NoneType"),
        (bytearray(b"png"), "is a bytearray"),
        (io.StringIO("text"), "is a StringIO"),
        ([[[1, 2, 3]]], "is a list"),
        (np.zeros((8, 8), np.uint8), r"array of uint8, shape \(8, 8\)"),
        (np.zeros((8, 8, 4), np.uint8), r"shape \(8, 8, 4\)"),
        (np.zeros((8, 8, 3), np.float32), r"array of float32"),
        (np.zeros((0, 8, 3), np.uint8), r"shape \(0, 8, 3\)"),
        (b"", "is not a picture"),
        (b"this is no picture", "is not a picture"),
    ],
    ids=repr,
)
def test_another_type_or_shape_is_refused(source: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        load_picture(source)


@pytest.mark.parametrize(
    ("source", "name"),
    [("a/b.png", "b.png"), (Path("c.jpg"), "c.jpg"), (b"", "bytes"), (np.zeros(1), "array")],
)
def test_messages_have_a_name_for_each_picture(source: Any, name: str) -> None:
    assert picture_name(source) == name


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
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), gradient)


def test_transparency_becomes_white(tmp_path: Path) -> None:
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[..., 0], rgba[:4, :, 3] = 200, 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    image = pixels(tmp_path / "a.png")
    assert (image[:4] == [200, 0, 0]).all()
    assert (image[4:] == 255).all()


def test_half_transparency_is_half_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (200, 100, 0, 51)).save(tmp_path / "a.png")
    # 51 of 255 is a fifth
    assert np.abs(pixels(tmp_path / "a.png").astype(int) - [244, 224, 204]).max() <= 1


def test_a_transparent_palette_becomes_white(tmp_path: Path) -> None:
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.paste(1, (0, 0, 4, 8))
    picture.save(tmp_path / "a.png", transparency=0)
    image = pixels(tmp_path / "a.png")
    assert (image[:, :4] == [40, 50, 60]).all()
    assert (image[:, 4:] == 255).all()


def test_a_palette_gives_its_colours(tmp_path: Path) -> None:
    colours = np.array([[10, 20, 30], [200, 150, 100], [0, 255, 7]], np.uint8)
    index = np.arange(64).reshape(8, 8) % 3
    picture = Image.fromarray(index.astype(np.uint8), "L")
    picture.putpalette(colours.ravel().tolist())
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), colours[index])


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_has_its_level_in_every_channel(tmp_path: Path, mode: str) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    bands = [Image.fromarray(levels), Image.new("L", (16, 16), 255)]
    (bands[0] if mode == "L" else Image.merge("LA", bands)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), levels[..., None].repeat(3, axis=2))


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    bits = np.arange(64).reshape(8, 8) % 3 == 0
    Image.fromarray(bits).save(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), 255 * bits[..., None].repeat(3, axis=2))


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "a.png")
    image = pixels(tmp_path / "a.png")
    assert np.abs(image[..., 0] - values / 257.0).max() <= 1
    assert (image[..., 0] == image[..., 2]).all()


def test_cmyk_without_black_is_the_complement(tmp_path: Path, gradient: Frame) -> None:
    """Device colours without a profile: red is 1 - cyan, and so on (PostScript Language Reference, 7.2.4)."""
    inks = np.concatenate([gradient, np.zeros((40, 60, 1), np.uint8)], axis=2)
    Image.fromarray(inks, "CMYK").save(tmp_path / "a.tif")
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif"), 255 - gradient)


def test_cmyk_black_is_black(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 0, 0, 255)).save(tmp_path / "a.tif")
    assert (pixels(tmp_path / "a.tif") == 0).all()


def test_a_cmyk_jpeg_has_the_colours_of_the_original(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), (200, 60, 30)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(pixels(tmp_path / "a.jpg").astype(int) - [200, 60, 30]).max() <= 6


@pytest.mark.parametrize(("y", "cb", "cr"), [(128, 128, 128), (81, 90, 240), (145, 54, 34), (90, 200, 110)])
def test_ycbcr_is_converted_by_the_equations_of_jfif(tmp_path: Path, y: int, cb: int, cr: int) -> None:
    Image.new("YCbCr", (16, 16), (y, cb, cr)).save(tmp_path / "a.tif")
    expected = [
        y + 1.402 * (cr - 128),
        y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128),
        y + 1.772 * (cb - 128),
    ]
    assert np.abs(pixels(tmp_path / "a.tif") - np.clip(expected, 0, 255)).max() <= 2


def test_an_embedded_display_p3_profile_is_applied(tmp_path: Path) -> None:
    """Colours inside the gamut of sRGB, against the published matrices."""
    stored = np.array(
        [[200, 120, 100], [90, 160, 120], [90, 110, 190], [128, 128, 128], [250, 240, 230]], np.uint8
    )
    Image.fromarray(stored[None].repeat(4, axis=0)).save(tmp_path / "a.png", icc_profile=display_p3_profile())
    shown = pixels(tmp_path / "a.png").astype(int)
    assert np.abs(shown - srgb_from_p3(stored)).max() <= 1.5
    # A saturated colour is farther out in sRGB: without the profile, the test above would fail.
    assert np.abs(shown[0, 0] - stored[0]).max() >= 10


STORED = np.array(
    [[200, 120, 100], [90, 160, 120], [90, 110, 190], [128, 128, 128], [250, 240, 230]], np.uint8
)
SPACES = {"Display P3": (display_p3_profile, srgb_from_p3), "Adobe RGB": (adobe_rgb_profile, srgb_from_adobe)}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", ["RGB", "RGBA", "P", "P with alpha", "RGB with a clear colour"])
def test_a_profile_holds_for_every_mode(tmp_path: Path, space: str, kind: str) -> None:
    profile, srgb_from = SPACES[space]
    expected = srgb_from(STORED)
    picture = Image.fromarray(STORED[None].repeat(4, axis=0))
    more: dict[str, Any] = {}
    if kind == "RGBA":
        picture.putalpha(102)
        # 102 of 255 is two fifths, and white has three.
        expected = 0.4 * expected + 0.6 * 255
    elif kind.startswith("P"):
        picture = Image.fromarray(np.arange(5, dtype=np.uint8)[None].repeat(4, axis=0), "P")
        picture.putpalette(STORED.ravel().tolist())
    if kind == "P with alpha":
        more["transparency"] = bytes([255, 255, 0, 255, 255])
        expected[2] = 255
    elif kind == "RGB with a clear colour":
        more["transparency"] = tuple(STORED[2].tolist())
        expected[2] = 255
    picture.save(tmp_path / "a.png", icc_profile=profile(), **more)
    assert np.abs(pixels(tmp_path / "a.png")[0] - expected).max() <= 2
    assert np.abs(STORED[0] - srgb_from(STORED)[0]).max() >= 10


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_the_profile_of_a_grey_picture_is_applied(tmp_path: Path, mode: str) -> None:
    levels = np.arange(0, 256, 5, dtype=np.uint8)[None].repeat(2, axis=0)
    picture = Image.fromarray(levels.astype(np.uint16) * 257 if mode == "I;16" else levels)
    if mode == "LA":
        picture.putalpha(255)
    picture.save(tmp_path / "a.png", icc_profile=grey_profile(1.5))
    # sRGB's curve: IEC 61966-2-1
    light = (levels / 255) ** 1.5
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(pixels(tmp_path / "a.png")[..., 1] - expected).max() <= 2


def test_a_grey_picture_may_have_the_profile_of_a_screen(tmp_path: Path) -> None:
    levels = np.arange(0, 256, 5, dtype=np.uint8)[None].repeat(2, axis=0)
    Image.fromarray(levels).save(tmp_path / "a.jpg", icc_profile=adobe_rgb_profile(), quality=100)
    expected = srgb_from_adobe(levels[..., None].repeat(3, axis=2))
    assert np.abs(pixels(tmp_path / "a.jpg") - expected).max() <= 4


def test_a_lab_picture_has_its_colours(tmp_path: Path) -> None:
    """Red of sRGB is L* 53.24, a* 80.09, b* 67.20 for the white D65 (CIE 15); Lab of TIFF has D50."""
    Image.new("LAB", (8, 8), (round(53.24 * 2.55), 128 + 80, 128 + 67)).save(tmp_path / "a.tif")
    assert np.abs(pixels(tmp_path / "a.tif")[0, 0].astype(int) - [255, 0, 0]).max() <= 12


def test_sixteen_bit_grey_may_have_a_clear_level(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 30_000], [60_000, 30_000]], np.uint16)).save(
        tmp_path / "a.png", transparency=30_000
    )
    np.testing.assert_array_equal(pixels(tmp_path / "a.png")[..., 0], [[0, 255], [233, 255]])


def test_a_heic_picture_is_named_as_what_it_is(tmp_path: Path) -> None:
    # The beginning of a photo of an iPhone (ISO/IEC 23008-12, clause 10: brands heic and mif1).
    head = b"\0\0\0\x24ftypheic\0\0\0\0mif1MiHBMiHEMiPrmiafheictmap" + bytes(200)
    (tmp_path / "IMG_0001.jpg").write_bytes(head)
    for source in (tmp_path / "IMG_0001.jpg", head):
        with pytest.raises(ImageError, match=r"is a HEIC picture.*JPEG"):
            load_picture(source)


def test_an_avif_picture_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (200, 60, 30)).save(tmp_path / "a.avif", quality=90)
    assert np.abs(pixels(tmp_path / "a.avif").astype(int) - [200, 60, 30]).max() <= 8


@pytest.mark.parametrize("name", ["e.webp", "e.eps", "e.jpg"])
def test_postscript_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Pillow would give it to Ghostscript."""
    program = b"%!PS\n%% WEBP\n%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n"
    (tmp_path / name).write_bytes(program)

    def ghostscript(*_: object) -> None:
        raise AssertionError("PostScript was run")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    for source in (tmp_path / name, program):
        with pytest.raises(ImageError, match="is not a picture"):
            load_picture(source)


@pytest.mark.parametrize("kind", ["TGA", "PCX", "ICO", "SGI", "MSP", "DDS"])
def test_no_other_decoder_is_reached(tmp_path: Path, kind: str) -> None:
    picture = Image.new("1" if kind == "MSP" else "RGB", (64, 64))
    picture.save(tmp_path / "a.png", kind)
    with pytest.raises(ImageError, match="is not a picture"):
        load_picture(tmp_path / "a.png")


def test_warnings_of_other_packages_stay_inside(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Pillow warns of large pictures, of palettes with bytes for transparency, and of broken EXIF data."""
    picture = Image.new("P", (64, 64))
    picture.putpalette([10, 20, 30])
    picture.save(tmp_path / "a.png", transparency=b"\x80", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    load_picture(tmp_path / "a.png")
    Image.new("L", (9500, 9500)).save(tmp_path / "b.png")
    load_picture(tmp_path / "b.png")
    assert not list(recwarn)


def test_a_broken_profile_is_ignored(tmp_path: Path, gradient: Frame) -> None:
    Image.fromarray(gradient).save(tmp_path / "a.png", icc_profile=b"no profile at all")
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), gradient)


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that says it has so many pixels of one bit, without any of them."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_header(40_000, 40_000))
    with pytest.raises(ImageError, match="far too many pixels"):
        load_picture(tmp_path / "bomb.png")


def test_a_picture_beyond_the_limit_is_refused_with_its_size(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(png_header(13_000, 10_000))
    with pytest.raises(ImageError, match=r"13000x10000.*smaller"):
        load_picture(tmp_path / "large.png")


@pytest.mark.parametrize("kind", ["bytes", "array", "picture"])
def test_the_limit_holds_for_every_kind_of_source(gradient: Frame, kind: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(gradient).save(buffer, "PNG")
    sources: dict[str, PictureSource] = {
        "bytes": buffer.getvalue(), "array": gradient, "picture": Image.fromarray(gradient)
    }  # fmt: skip
    load_picture(sources[kind], max_pixels=2400)
    with pytest.raises(ImageError, match=r"60x40; at most 0\.002399 million pixels"):
        load_picture(sources[kind], max_pixels=2399)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        load_picture(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="is a folder"):
        load_picture(tmp_path)


def test_a_truncated_picture_is_refused(tmp_path: Path) -> None:
    whole = demo_portrait().read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="cannot be decoded"):
        load_picture(tmp_path / "half.jpg")


def test_a_png_with_a_giant_text_chunk_is_refused(tmp_path: Path, gradient: Frame) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    Image.fromarray(gradient).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(ImageError):
        load_picture(tmp_path / "a.png")
