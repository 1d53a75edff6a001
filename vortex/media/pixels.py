"""Pictures as encoders take them: planes of BT.709 of 8 or 10 bits, with or without a matte, or a palette."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from vortex.types import LUMA_WEIGHTS, Frame

if TYPE_CHECKING:
    from av import VideoCodecContext, VideoFrame
    from PIL import Image

PIXEL_FORMAT = "yuv420p"
"""FFmpeg's name for 8-bit planes of Y, Cb and Cr, of which Cb and Cr have half the width and height."""
YCBCR_FROM_RGB = np.array(
    [
        [*(219 / 255 * LUMA_WEIGHTS), 16],
        [*(224 / 255 / 1.8556 * ([0, 0, 1] - LUMA_WEIGHTS)), 128],
        [*(224 / 255 / 1.5748 * ([1, 0, 0] - LUMA_WEIGHTS)), 128],
    ]
)
"""Y, Cb, Cr of 8 bits, limited range, from R, G, B and 1 (ITU-R BT.709-6, items 3.2, 3.3 and 3.4)."""
OPAQUE_FROM = 128
"""A matte from which a pixel of a GIF is shown, which has none that are half transparent."""
PALETTE_COLOURS = 255
"""Colours of a GIF; one more is transparent."""
MOUTH_COLOURS = (
    (60, 20, 20), (25, 8, 10), (120, 50, 50), (160, 80, 80), (235, 230, 220), (205, 195, 180),
    (170, 155, 140),
)  # fmt: skip
"""Colours of the inside of a mouth, which a first picture with closed lips lacks."""


class FrameConverter(Protocol):
    """Turns pictures of one size into frames of one pixel format."""

    def convert(self, picture: Frame) -> VideoFrame:
        """Return a picture (H, W, 3), or (H, W, 4) with the matte as fourth channel, as a frame."""


def make_converter(pixel_format: str, size_px: tuple[int, int]) -> FrameConverter:
    """Return what converts pictures of ``size_px`` (width, height) to FFmpeg's ``pixel_format``."""
    if pixel_format == PIXEL_FORMAT:
        return YcbcrConverter(size_px)
    if pixel_format == "yuva420p":
        return _MattedConverter(size_px)
    if pixel_format == "bgra":
        return _BgraConverter()
    return _PaletteConverter() if pixel_format == "pal8" else _TenBitConverter(pixel_format)


def declare_colour(context: VideoCodecContext, pixel_format: str = PIXEL_FORMAT) -> None:
    """Write into a video stream how its pixels are coded: as the converters here code them."""
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

    context.pix_fmt = pixel_format
    if not pixel_format.startswith("yuv"):
        return
    context.color_range = ColorRange.MPEG
    context.colorspace = Colorspace.ITU709
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709


class YcbcrConverter:
    """Converts RGB pictures of one size to BT.709 frames, each time only what changed."""

    def __init__(self, size_px: tuple[int, int]) -> None:
        width, height = size_px
        # FFmpeg stores the planes Y, Cb and Cr one after the other.
        self._packed = np.empty((height * 3 // 2, width), np.uint8)
        self._luma = self._packed[:height]
        self._chroma = self._packed[height:].reshape(2, height // 2, width // 2)
        self._before: Frame | None = None

    def convert(self, picture: Frame) -> VideoFrame:
        """Return a picture (H, W, 3) as a frame of :data:`PIXEL_FORMAT`, limited range."""
        import av

        # This copies, because the encoder keeps frames; without a copy, PyAV needs a height divisible by 4.
        return av.VideoFrame.from_ndarray(self.pack(picture), format=PIXEL_FORMAT)

    def pack(self, picture: Frame) -> Frame:
        """Return the planes of a picture, one below the other, (1.5 H, W) uint8; they change."""
        import cv2

        picture = np.ascontiguousarray(picture)
        height, width = picture.shape[:2]
        box = (0, 0, width, height) if self._before is None else changed_box(self._before, picture)
        if box is not None:
            x0, y0, x1, y1 = box
            inside = cv2.transform(picture[y0:y1, x0:x1], YCBCR_FROM_RGB)
            # Cb and Cr are averages over 2x2 pixels.
            half = cv2.resize(inside, ((x1 - x0) // 2, (y1 - y0) // 2), interpolation=cv2.INTER_AREA)
            self._luma[y0:y1, x0:x1] = cv2.extractChannel(inside, 0)
            for plane, channel in zip(self._chroma, (1, 2), strict=True):
                plane[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2] = cv2.extractChannel(half, channel)
        self._before = picture
        return self._packed


def changed_box(before: Frame, picture: Frame) -> tuple[int, int, int, int] | None:
    """Return the smallest box x0, y0, x1, y1 with even corners that holds every difference of two pictures.

    None if they are equal. Pictures are (H, W, 3), and W is even.
    """
    # Two bytes are compared at a time; an even width makes their number even in each row.
    pairs, pairs_before = (pixels.reshape(len(pixels), -1).view(np.uint16) for pixels in (picture, before))
    differ = pairs != pairs_before
    rows = np.flatnonzero(differ.any(axis=1))
    if not len(rows):
        return None
    y0, y1 = int(rows[0]) // 2 * 2, int(rows[-1]) // 2 * 2 + 2
    columns = np.flatnonzero(differ[y0:y1].any(axis=0))
    # Three pairs of bytes are two pixels.
    return int(columns[0]) // 3 * 2, y0, int(columns[-1]) // 3 * 2 + 2, y1


def _planes(pixel_format: str, planes: list[npt.NDArray[Any]]) -> VideoFrame:
    """Return a frame with these planes (H, W); rows in the frame may be longer than in the planes."""
    import av

    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, pixel_format)
    for target, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((target.buffer_size // target.line_size, target.line_size), np.uint8)
        data = np.ascontiguousarray(values).view(np.uint8)
        rows[: len(data), : data.shape[1]] = data
        target.update(rows.tobytes())
    return frame


class _MattedConverter:
    """Converts to 8-bit BT.709 with a matte, ``yuva420p``."""

    def __init__(self, size_px: tuple[int, int]) -> None:
        self._size_px, self._colours = size_px, YcbcrConverter(size_px)

    def convert(self, picture: Frame) -> VideoFrame:
        width, height = self._size_px
        packed = self._colours.pack(picture[..., :3])
        luma, chroma = packed[:height], packed[height:].reshape(2, height // 2, width // 2)
        return _planes("yuva420p", [luma, *chroma, picture[..., 3]])


class _TenBitConverter:
    """Converts to 10-bit BT.709 in full resolution: ``yuv444p10le``, or with a matte ``yuva444p10le``."""

    def __init__(self, pixel_format: str) -> None:
        self._format = pixel_format

    def convert(self, picture: Frame) -> VideoFrame:
        import cv2
        from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

        # Limited range of 10 bits is four times that of 8 (ITU-R BT.709-6, item 4.6).
        colours = np.ascontiguousarray(picture[..., :3]).astype(np.float32)
        coded = np.round(4 * cv2.transform(colours, YCBCR_FROM_RGB)).astype("<u2")
        planes = [coded[..., channel] for channel in range(3)]
        if self._format == "yuva444p10le":
            planes.append(np.round(picture[..., 3] * (1023 / 255)).astype("<u2"))
        frame = _planes(self._format, planes)
        # The encoder of ProRes declares what its frames declare.
        frame.color_range, frame.colorspace = ColorRange.MPEG, Colorspace.ITU709
        frame.color_primaries, frame.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        return frame


class _BgraConverter:
    """Converts to ``bgra``; a picture without a matte is opaque."""

    def convert(self, picture: Frame) -> VideoFrame:
        import av
        import cv2

        code = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGRA
        made = cv2.cvtColor(np.ascontiguousarray(picture), code)
        return av.VideoFrame.from_ndarray(np.asarray(made, np.uint8), format="bgra")


class _PaletteConverter:
    """Converts to 255 colours of the first picture and a transparent one, ``pal8``, with dither."""

    def __init__(self) -> None:
        self._palette: Image.Image | None = None

    def convert(self, picture: Frame) -> VideoFrame:
        from PIL import Image

        colours = Image.fromarray(np.ascontiguousarray(picture[..., :3]))
        if self._palette is None:
            self._palette = _make_palette(picture)
        indices = np.array(colours.quantize(palette=self._palette, dither=Image.Dither.FLOYDSTEINBERG))
        known = np.array(self._palette.getpalette(), np.uint8).reshape(-1, 3)
        table = np.full((256, 4), 255, np.uint8)  # the encoder takes the first transparent colour as such
        table[: len(known), :3] = known[:, ::-1]
        table[PALETTE_COLOURS:] = 0
        indices = np.minimum(indices, PALETTE_COLOURS - 1).astype(np.uint8)
        if picture.shape[2] == 4:
            indices[picture[..., 3] < OPAQUE_FROM] = PALETTE_COLOURS
        return _paletted(indices, table)


def _make_palette(picture: Frame) -> Image.Image:
    """Return a palette of PALETTE_COLOURS for a face: those of the picture, and of teeth and open mouths."""
    from PIL import Image

    shown = picture.reshape(-1, picture.shape[2])
    if picture.shape[2] == 4 and (shown[:, 3] >= OPAQUE_FROM).any():
        shown = shown[shown[:, 3] >= OPAQUE_FROM]
    side = int(len(shown) ** 0.5)
    square = np.ascontiguousarray(shown[: side * side, :3]).reshape(side, side, 3)
    found = Image.fromarray(square).quantize(PALETTE_COLOURS - len(MOUTH_COLOURS), Image.Quantize.MEDIANCUT)
    colours = np.array(found.getpalette(), np.uint8).reshape(-1, 3)[: PALETTE_COLOURS - len(MOUTH_COLOURS)]
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([colours, np.array(MOUTH_COLOURS, np.uint8)]).tobytes())
    return palette


def _paletted(indices: Frame, table: Frame) -> VideoFrame:
    """Return a frame ``pal8`` of indices (H, W), and a table (256, 4) of blue, green, red and opacity."""
    import av

    frame = av.VideoFrame(indices.shape[1], indices.shape[0], "pal8")
    rows = np.zeros((len(indices), frame.planes[0].line_size), np.uint8)
    rows[:, : indices.shape[1]] = indices
    for plane, values in zip(frame.planes, (rows, table), strict=True):
        plane.update(values.tobytes().ljust(plane.buffer_size, b"\0"))
    return frame
