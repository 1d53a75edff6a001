"""Captions drawn into frames: white letters with an outline on a dark box, away from the mouth."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vortex.captions.cues import MAX_CHARACTERS, Cue, make_cues
from vortex.captions.files import BURN, caption_kinds
from vortex.captions.words import CaptionWord
from vortex.errors import InputError
from vortex.face.detection import find_faces
from vortex.face.landmarker import take_landmarker
from vortex.types import F32, Frame

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

FONT = Path(__file__).parents[1] / "data" / "caption_font.ttf"
HEIGHT_SHARE, WIDTH_SHARE = 0.052, 0.058
"""Size of the letters: this share of the frame's height, or of its width, whichever is less."""
SAFE_SHARE = 0.05
"""Nothing is drawn nearer to an edge than this share of a side: the title-safe area of SMPTE ST 2046-1."""
BOX_OPACITY = 0.55
MIN_FONT_PX = 8
LIPS = (61, 291, 0, 17, 13, 14)
"""Landmarks of the corners, the upper and the lower edge of the lips."""
LIP_MARGIN = 0.25
"""Lips move: this share of their width is kept free around them."""


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """A drawn caption: ``colour`` (h, w, 3) and ``opacity`` (h, w, 1) float32 in [0, 1]."""

    colour: F32
    opacity: F32


def check_captions(captions: str, text: str | None) -> None:
    """Raise InputError, before any work starts, if a video cannot have the captions that its options name.

    ``text`` is what will be spoken, as it is written; None where only the sound is known.
    """
    kinds = caption_kinds(captions)
    if kinds and not text:
        raise InputError(f"captions is {captions!r}, but the words are not known. Give a transcript.")
    if BURN in kinds:
        drawable(text or "")


def drawable(text: str) -> str:
    """Return a text without the signs that the font lacks, such as emoji.

    Raises:
        InputError: a letter that the font lacks; captions in files can have it.
    """
    known = _known_characters()
    text = unicodedata.normalize("NFC", text)
    foreign = next((c for c in text if c.isalnum() and c not in known), None)
    if foreign:
        raise InputError(
            f"The captions have {foreign!r}, which the font of burned captions lacks. "
            "Give captions srt or vtt, or write it in Latin letters."
        )
    return "".join(c for c in text if c in known or c.isspace())


def burned(
    frames: Iterator[Frame],
    words: Sequence[CaptionWord],
    fps: Fraction,
    duration_s: float,
    size_px: tuple[int, int],
) -> Iterator[Frame]:
    """Yield frames (H, W, 3) uint8 RGB with the captions drawn into them; the frames are written into.

    A line has as many characters as ``size_px``, width and height, has room for. A cue is at the bottom; it
    is at the top where it would cover the mouth in its first frame.
    """
    width, height = size_px
    font_px = max(round(min(HEIGHT_SHARE * height, WIDTH_SHARE * width)), MIN_FONT_PX)
    shown = [replace(word, text=drawable(word.text)) for word in words]
    cues = make_cues([word for word in shown if word.text], duration_s, _characters(width, font_px))
    index, block, top = 0, None, 0
    for number, frame in enumerate(frames):
        at_s = float((number + Fraction(1, 2)) / fps)
        while index < len(cues) and cues[index].end_s <= at_s:
            index, block = index + 1, None
        if index < len(cues) and cues[index].start_s <= at_s:
            if block is None:
                block = _draw(cues[index], width, font_px)
                top = _top(frame, block)
            _blend(frame, block, top)
        yield frame


def _room_px(width: int, font_px: int) -> int:
    """Return the width that a line may have, inside the safe area and the box."""
    return round(width * (1 - 2 * SAFE_SHARE)) - font_px


def _characters(width: int, font_px: int) -> int:
    """Return how many characters of average English fit into a line."""
    sample = "the quick brown fox jumps over the lazy dog, and runs on"
    mean_px = _font(font_px).getlength(sample) / len(sample)
    return min(max(int(_room_px(width, font_px) / mean_px), 8), MAX_CHARACTERS)


def _draw(cue: Cue, width: int, font_px: int) -> _Block:
    """Return a cue as pixels; a line that is too wide makes its letters smaller."""
    from PIL import Image, ImageDraw

    room_px = _room_px(width, font_px)
    widest_px = max(_font(font_px).getlength(line) for line in cue.lines)
    font_px = max(int(font_px * min(room_px / widest_px, 1.0)), MIN_FONT_PX)
    font, pad, line_px = _font(font_px), font_px // 2, round(font_px * 1.3)
    widest_px = max(font.getlength(line) for line in cue.lines)
    size = (min(round(widest_px) + 2 * pad, width), line_px * len(cue.lines) + pad)
    picture = Image.new("L", size, 0)
    outline = Image.new("L", size, 0)
    stroke = max(round(font_px / 12), 1)
    for row, line in enumerate(cue.lines):
        # The baseline is the same in every line, whatever letters it has.
        place = (size[0] / 2, pad / 2 + row * line_px + line_px * 0.8)
        ImageDraw.Draw(outline).text(place, line, 255, font, anchor="ms", stroke_width=stroke)
        ImageDraw.Draw(picture).text(place, line, 255, font, anchor="ms")
    letters, edges = (np.asarray(layer, np.float32)[..., None] / 255 for layer in (picture, outline))
    opacity = np.maximum(np.maximum(edges, letters), np.float32(BOX_OPACITY))
    return _Block(np.broadcast_to(letters / opacity, (*letters.shape[:2], 3)), opacity)


def _top(frame: Frame, block: _Block) -> int:
    """Return the row at which a block begins: at the bottom, or at the top if it would cover the mouth."""
    height, width = frame.shape[:2]
    rows, columns = len(block.opacity), block.opacity.shape[1]
    margin = round(SAFE_SHARE * height)
    bottom: int = max(height - margin - rows, 0)
    left, right = (width - columns) / 2, (width + columns) / 2
    for x0, y0, x1, y1 in _mouths(frame):
        if y1 > bottom and y0 < bottom + rows and x1 > left and x0 < right:
            return margin if margin < bottom else bottom
    return bottom


def _mouths(frame: Frame) -> list[tuple[float, float, float, float]]:
    """Return the boxes x0, y0, x1, y1 in pixels of the lips in a frame, with a margin."""
    with take_landmarker() as landmarker:
        faces = find_faces(landmarker, np.ascontiguousarray(frame[..., :3]))
    boxes = []
    for face in faces:
        lips = face.landmarks_px[list(LIPS), :2]
        low, high = lips.min(axis=0), lips.max(axis=0)
        margin = LIP_MARGIN * float(high[0] - low[0])
        boxes.append((low[0] - margin, low[1] - margin, high[0] + margin, high[1] + margin))
    return boxes


def _blend(frame: Frame, block: _Block, top: int) -> None:
    rows, columns = block.opacity.shape[:2]
    rows = min(rows, frame.shape[0] - top)
    left = (frame.shape[1] - columns) // 2
    part = frame[top : top + rows, left : left + columns]
    colour, opacity = block.colour[:rows] * 255, block.opacity[:rows]
    part[..., :3] = np.rint(part[..., :3] + opacity * (colour - part[..., :3])).astype(np.uint8)
    # The opacity of transparent frames is the fourth channel.
    part[..., 3:] = np.maximum(part[..., 3:], np.rint(opacity * 255).astype(np.uint8))


@lru_cache(maxsize=16)
def _font(size_px: int) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(str(FONT), size_px, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=1)
def _known_characters() -> frozenset[str]:
    """Return the characters of the font, listed beside it, because Pillow cannot tell which it has."""
    return frozenset(FONT.with_suffix(".txt").read_text(encoding="utf-8")) - {"\n"}
