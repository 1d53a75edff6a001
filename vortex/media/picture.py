"""Loads picture files and picture objects as upright sRGB arrays."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

import numpy as np

from vortex.errors import ImageError, OutOfMemoryError
from vortex.media.formats import HEAD_BYTES, PICTURES, VIDEOS, format_of, is_heic
from vortex.runtime.files import check_input_file
from vortex.types import Frame

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

MAX_PIXELS = 120_000_000
"""Larger pictures are refused before they are decoded."""
STRIP_ROWS = 256
MAX_SIDE_PX = 1920
"""Larger pictures are reduced until their longer side has this length."""
_TOO_LARGE = "{} {}; at most {:g} million pixels are read. Give a smaller picture."

PictureSource: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | Frame | PillowImage"
"""A path, the bytes of a file, an open binary file, a PIL image, or an array (H, W, 3) uint8 sRGB, RGB."""


def picture_name(source: PictureSource) -> str:
    """Return the name of a picture for messages: its file name, or the type of object."""
    if isinstance(source, str | os.PathLike):
        return Path(source).name
    return {bytes: "bytes", np.ndarray: "array"}.get(type(source), type(source).__name__)


def is_picture(path: Path) -> bool:
    """Return whether a file begins like a picture that does not move; it may be damaged further on.

    Raises:
        ImageError: an animation that is not read as a video either, such as a WebP.
    """
    from PIL import Image

    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    known = format_of(head, PICTURES)
    if known is None:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=(known.decoder,)) as picture:
                # Phones write several pictures of one moment into a JPEG.
                moves = picture.format != "MPO" and getattr(picture, "is_animated", False)
    except (Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        return True  # who decodes it says what is wrong
    if moves and format_of(head, VIDEOS) is None:
        raise ImageError(f"'{path}' is an animated {known.name}. Convert it to MP4.")
    return not moves


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture that was read: ``image`` (H, W, 3) uint8 sRGB, RGB order, and notes for the user.

    ``full_px``: width and height of the upright original, larger than ``image`` if that was reduced.
    ``decode`` returns the original again, upright and in sRGB.
    """

    image: Frame
    notes: tuple[str, ...]
    full_px: tuple[int, int]
    decode: Callable[[], PillowImage]

    @property
    def scale(self) -> float:
        """Pixels of the original for one pixel of ``image``; 1 if it was not reduced."""
        return self.full_px[0] / int(self.image.shape[1])

    def cut(self, box: tuple[int, int, int, int]) -> Frame:
        """Return a part of the original, its longest side at most 1920 px.

        ``box``: left, top, right, bottom in pixels of the original, right and bottom exclusive.

        Raises ImageError, OutOfMemoryError: see :func:`load_picture`.
        """
        return _reduced(self.decode().crop(box))


def load_picture(source: PictureSource, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode a picture.

    It is turned upright by its EXIF tag, and reduced to a longest side of 1920 px. Transparent
    pixels become white; colour profiles are applied; CMYK, 16-bit, palette and grey pictures are converted.

    Raises ImageError: no such file, no picture, damaged, an array of another kind, above ``max_pixels``;
    OutOfMemoryError: its pixels do not fit in memory.
    """
    from PIL import Image

    if isinstance(source, str | os.PathLike):
        path = Path(source)
        check_input_file(path, f"Portrait '{path}'", "a picture file, such as a JPEG or PNG", ImageError)
        return _read(lambda: path, f"Portrait '{path}'", max_pixels)
    if isinstance(source, np.ndarray):
        if source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8 or not source.size:
            raise ImageError(
                f"The picture is an array of {source.dtype}, shape {source.shape}; "
                "give uint8 RGB of shape (H, W, 3)."
            )
        _check_pixels("The picture", source.shape[1], source.shape[0], max_pixels)
        array = np.ascontiguousarray(source)
        return _picture(
            Image.fromarray(array), (array.shape[1], array.shape[0]), lambda: Image.fromarray(array)
        )
    if isinstance(source, Image.Image):
        return _read(lambda: source, "The picture", max_pixels)
    # The content of an open file is copied, because Pillow closes files that hold several pictures.
    content = source.read() if hasattr(source, "read") else source
    if not isinstance(content, bytes):
        raise ImageError(
            f"The picture is a {type(source).__name__}. "
            "Give a path, bytes, a binary file, an array or a PIL image."
        )
    return _read(lambda: BytesIO(content), "The picture", max_pixels)


def _read(opened: Callable[[], Path | BytesIO | PillowImage], what: str, max_pixels: int) -> Picture:
    """Return the picture in what ``opened`` returns; ``what`` names it in messages."""
    upright, full_px = _decode(opened(), what, max_pixels, (MAX_SIDE_PX, MAX_SIDE_PX))
    return _picture(upright, full_px, lambda: _decode(opened(), what, max_pixels, None)[0])


def _decode(
    source: Path | BytesIO | PillowImage, what: str, max_pixels: int, least_px: tuple[int, int] | None
) -> tuple[PillowImage, tuple[int, int]]:
    """Return a file or a PIL image upright and in sRGB, and the size of the original.

    A JPEG may be decoded at a smaller size, but not below ``least_px``, which takes less time.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow warns about large pictures; our own limit is stricter and its message says what to do.
            warnings.simplefilter("ignore")
            with nullcontext(source) if isinstance(source, Image.Image) else _open(source, what) as picture:
                size = picture.size
                _check_pixels(what, *size, max_pixels)
                if picture is not source and least_px:
                    picture.draft("RGB", least_px)
                picture.load()
                decoded_px = picture.size
                upright = _to_srgb(ImageOps.exif_transpose(picture))
    except ImageError:
        raise
    except UnidentifiedImageError as exc:
        raise ImageError(f"{what} is not a picture. Give a JPEG, PNG or WebP file.") from exc
    except MemoryError as exc:
        raise OutOfMemoryError(
            f"Not enough memory to decode {what}. Close other programs, or give a smaller picture."
        ) from exc
    except Image.DecompressionBombError as exc:
        # Pillow refuses before the size is known.
        raise ImageError(_TOO_LARGE.format(what, "has far too many pixels", max_pixels / 10**6)) from exc
    except (OSError, ValueError, SyntaxError) as exc:
        raise ImageError(f"{what} cannot be decoded ({exc}). Give an undamaged picture.") from exc
    return upright, size if upright.size == decoded_px else (size[1], size[0])


def _open(source: Path | BytesIO, what: str) -> PillowImage:
    """Open a file with the decoders of :data:`vortex.media.formats.PICTURES`, and no other."""
    from PIL import Image

    with open(source, "rb") if isinstance(source, Path) else nullcontext(source) as file:
        head = file.read(HEAD_BYTES)
        file.seek(0)
    if is_heic(head):
        raise ImageError(
            f"{what} is a HEIC picture, which vortex does not read. Export it as JPEG; "
            "an iPhone takes JPEGs after Settings > Camera > Formats > Most Compatible."
        )
    return Image.open(source, formats=[known.decoder for known in PICTURES])


def _check_pixels(what: str, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(_TOO_LARGE.format(what, f"is {width}x{height}", max_pixels / 10**6))


def _picture(upright: PillowImage, full_px: tuple[int, int], decode: Callable[[], PillowImage]) -> Picture:
    """Return the pixels, the longest side at most MAX_SIDE_PX, and a note if they were reduced."""
    image = _reduced(upright)
    notes: tuple[str, ...] = ()
    height, width = image.shape[:2]
    if (width, height) != full_px:
        notes = (f"portrait reduced from {full_px[0]}x{full_px[1]} to {width}x{height}",)
    return Picture(image, notes, full_px, decode)


def _reduced(picture: PillowImage) -> Frame:
    """Return the pixels of a picture, its longest side at most MAX_SIDE_PX."""
    from PIL import Image

    if max(picture.size) > MAX_SIDE_PX:
        picture.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(picture, np.uint8))


def _to_srgb(picture: PillowImage) -> PillowImage:
    """Return an 8-bit sRGB picture: colour profile applied first, then transparent pixels made white."""
    from PIL import Image

    if picture.mode == "RGB" and not picture.info.keys() & {"transparency", "icc_profile"}:
        return picture
    whole = Image.new("RGB", picture.size, "white")
    # Pillow's own conversion of grey values above 255 clips them.
    top = 255.0
    if picture.mode.startswith("I") or picture.mode == "F":
        top = 255.0 if np.max(picture.getextrema()) <= 255 else 65535.0
    # In strips, because what a conversion needs in between takes several times the memory of the picture.
    for first in range(0, picture.height, STRIP_ROWS):
        strip = picture.crop((0, first, picture.width, min(first + STRIP_ROWS, picture.height)))
        colours, alpha = _without_alpha(strip, top)
        whole.paste(_with_profile(colours, picture.info.get("icc_profile")), (0, first), alpha)
    return whole


def _without_alpha(picture: PillowImage, top: float) -> tuple[PillowImage, PillowImage | None]:
    """Return the colours of a picture in a mode of 8 bits that profiles are made for, and its alpha.

    ``top`` is white in a picture of grey values of more bits.
    """
    from PIL import Image

    transparent = picture.info.get("transparency")
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture)
        grey = np.clip(values.astype(np.float64) / top * 255, 0, 255).astype(np.uint8)
        alpha = None if transparent is None else np.where(values == transparent, 0, 255).astype(np.uint8)
        return Image.fromarray(grey), None if alpha is None else Image.fromarray(alpha)
    if picture.mode in ("LA", "La") or (picture.mode == "L" and transparent is not None):
        level, opacity = picture.convert("LA").split()
        return level, opacity
    if "A" in picture.mode or "a" in picture.mode or transparent is not None:
        rgba = picture.convert("RGBA")
        return rgba.convert("RGB"), rgba.getchannel("A")
    return (picture if picture.mode in ("RGB", "L", "CMYK", "LAB") else picture.convert("RGB")), None


def _with_profile(picture: PillowImage, profile: bytes | None) -> PillowImage:
    """Return a picture of mode RGB, L, CMYK or LAB as sRGB by its profile, or without one as it is meant."""
    from PIL import ImageCms

    srgb = ImageCms.createProfile("sRGB")
    if picture.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB") or picture
    if profile:
        # Broken profiles are common, and the pixels are usually good.
        with suppress(ImageCms.PyCMSError, OSError):
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            # A grey picture may carry the profile of a screen.
            fits = picture.convert("RGB") if source.profile.xcolor_space.strip() == "RGB" else picture
            return ImageCms.profileToProfile(fits, source, srgb, outputMode="RGB") or fits
    return picture.convert("RGB")
