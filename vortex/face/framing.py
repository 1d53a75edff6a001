"""Frames of any shape around a face: how large they are, and which part of the picture they show."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from vortex.errors import InputError
from vortex.face.crop import CROP_SCALE
from vortex.face.landmarks import CROP_OUTLINE
from vortex.types import F32, F64, Frame, Portrait

ASPECTS = {"1:1": (1, 1), "9:16": (9, 16), "16:9": (16, 9), "4:5": (4, 5)}
"""Names of shapes: width and height."""
MIN_SIDE_PX, MAX_SIDE_PX = 128, 3840
FACE_HEIGHT, TALL_RISE, WIDE_RISE = 0.625, 0.4, 0.1
"""Where the middle of the face is, from the top, in heights of a square frame; and how much higher in frames
that are taller or wider, per unit by which the ratio of their sides is below 1."""
WIDEST_FACE, TALLEST_FACE = 0.7, 0.6
"""Largest face, in widths and heights of a frame that is made smaller so that the picture fills it."""
EXTENSION_BLUR, SEAM = 0.05, 0.02
"""Blur of what continues the picture beyond its edge, and width of the transition, in longest sides."""


def parse_aspect(given: str) -> str:
    """Return a shape as :data:`ASPECTS` names it, or a size such as "1080x1920"; InputError for another text.

    Sides are even, from MIN_SIDE_PX to MAX_SIDE_PX.
    """
    text = given.strip().lower().replace("×", "x")
    if text in ASPECTS:
        return text
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    accepted = f"give {', '.join(ASPECTS)}, or a size such as 1080x1920 with even sides"
    if not match:
        raise InputError(f"aspect is {given[:20]!r}; {accepted}.")
    sides = [int(side) for side in match.groups()]
    if any(side % 2 or not MIN_SIDE_PX <= side <= MAX_SIDE_PX for side in sides):
        raise InputError(f"aspect is {text}; {accepted} from {MIN_SIDE_PX} to {MAX_SIDE_PX} px.")
    return text


def parse_position(given: str) -> str:
    """Return where the face is in the frame, such as "0.5,0.4"; InputError for what is not two of 0 to 1."""
    try:
        x, y = (float(part) for part in given.split(","))
        if not (0 <= x <= 1 and 0 <= y <= 1):
            raise ValueError
    except ValueError as exc:
        raise InputError(
            f"position is {given[:20]!r}; give x,y of the face, each from 0 to 1, such as 0.5,0.4."
        ) from exc
    return f"{x:g},{y:g}"


def frame_size(aspect: str, size_px: int) -> tuple[int, int]:
    """Return width and height, both even; the shorter side of a named shape has ``size_px`` pixels."""
    if aspect not in ASPECTS:
        width, height = (int(side) for side in aspect.split("x"))
        return width, height
    shape = ASPECTS[aspect]
    width, height = (2 * round(size_px * side / min(shape) / 2) for side in shape)
    return width, height


@dataclass(frozen=True, slots=True)
class Framing:
    """A frame: ``size_px`` (width, height), ``zoom`` and the face's ``position`` in it; None: chosen by rule.

    A zoom of 1 shows a face whose larger side is 1/2.3 of the frame's shorter side.
    """

    size_px: tuple[int, int]
    zoom: float | None = None
    position: tuple[float, float] | None = None

    @property
    def ratio(self) -> float:
        """Width over height."""
        return self.size_px[0] / self.size_px[1]


@dataclass(frozen=True, slots=True, eq=False)
class FramedPortrait:
    """A portrait in a frame: ``portrait``; ``shown`` (H, W) float32 is 1 inside the picture, 0 outside."""

    portrait: Portrait
    shown: F32

    @property
    def is_filled(self) -> bool:
        """Whether the picture fills the frame."""
        return bool(self.shown.min() >= 1)


def frame_portrait(portrait: Portrait, framing: Framing) -> FramedPortrait:
    """Cut a frame from a picture, or from its close-up; where the picture ends, blur continues it.

    Without zoom and position, the frame is as large as the picture can fill it, with a face no larger than
    fits well; where that is impossible, the picture stands on the frame's lower edge.
    """
    import cv2

    close_up = portrait.close_up
    box = _frame_box(portrait.landmarks_px, portrait.image.shape[1::-1], framing)
    if close_up is not None:
        near = _frame_box(close_up.landmarks_px, close_up.image.shape[1::-1], framing)
        # The close-up shows more, unless the frame is larger than it.
        inside = near.low.min() >= 0 and (near.low + near.size <= close_up.image.shape[1::-1]).all()
        portrait, box = (close_up, near) if inside else (portrait, box)
    scale = framing.size_px[0] / box.size[0]
    transform = np.diag([scale, scale, 1.0])
    transform[:2, 2] = scale * (0.5 - box.low) - 0.5
    image = portrait.image
    if scale < 1:
        # By areas first, because the warp would skip pixels.
        size = tuple(max(round(scale * side), 2) for side in image.shape[1::-1])
        ratio = np.array(size) / image.shape[1::-1]
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        reduced = np.diag([*ratio, 1.0])
        reduced[:2, 2] = 0.5 * ratio - 0.5
        warp = transform @ np.linalg.inv(reduced)
    else:
        warp = transform
    flags = cv2.INTER_LINEAR if scale < 1 else cv2.INTER_CUBIC
    canvas = cv2.warpAffine(image, warp[:2], framing.size_px, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    shown = _inside(box, portrait.image.shape[1::-1], framing.size_px)
    landmarks = portrait.landmarks_px * np.float32(scale)
    landmarks[:, :2] += transform[:2, 2].astype(np.float32)
    framed = replace(
        portrait,
        image=extended(np.asarray(canvas, np.uint8), shown),
        landmarks_px=landmarks,
        crop_from_image=portrait.crop_from_image @ np.linalg.inv(transform),
        close_up=None,
    )
    return FramedPortrait(framed, shown)


@dataclass(frozen=True, slots=True, eq=False)
class _Box:
    """A frame in a picture: upper left corner ``low`` (2,), and ``size`` (2,), in pixels of the picture."""

    low: F64
    size: F64


def _frame_box(landmarks_px: F32, picture_px: tuple[int, ...], framing: Framing) -> _Box:
    """Return the part of a picture, or beyond it, that a frame shows."""
    outline = landmarks_px[CROP_OUTLINE, :2].astype(np.float64) + 0.5  # from the corner of the picture
    low, high = outline.min(0), outline.max(0)
    face, centre, picture = high - low, (low + high) / 2, np.array(picture_px, np.float64)
    shape = np.array(framing.size_px) / min(framing.size_px)
    wanted = CROP_SCALE * float(face.max())
    size = shape * wanted / (framing.zoom or 1.0)
    if framing.zoom is None:
        covered, contained = np.sort(np.minimum(picture / size, 1.0))
        fits = float((face / [WIDEST_FACE, TALLEST_FACE] / size).max())
        size = size * np.clip(fits, covered, contained) if covered < fits else size * covered
    if framing.position is not None:
        return _Box(centre - size * framing.position, size)
    corner = centre - size * [0.5, _face_height(framing.ratio)]
    for axis in (0, 1):
        if size[axis] <= picture[axis] + 1e-6:
            corner[axis] = np.clip(corner[axis], 0, max(picture[axis] - size[axis], 0))
    if corner[1] + size[1] > picture[1]:
        # A body that ends above the frame's lower edge would float.
        corner[1] = picture[1] - size[1]
    return _Box(corner, size)


def _inside(box: _Box, picture_px: tuple[int, ...], size_px: tuple[int, int]) -> F32:
    """Return (height, width) of a frame: 1 where the middle of a pixel is inside the picture, else 0."""
    inside = []
    for low, size, picture, count in zip(box.low, box.size, picture_px, size_px, strict=True):
        at = low + (np.arange(count) + 0.5) * size / count
        inside.append(((at >= 0) & (at <= picture)).astype(np.float32))
    return np.outer(inside[1], inside[0])


def _face_height(ratio: float) -> float:
    """Return where the middle of the face is in a frame, from the top, in heights."""
    rise = TALL_RISE * (1 - ratio) if ratio < 1 else WIDE_RISE * (1 - 1 / ratio)
    return max(FACE_HEIGHT - rise, 0.4)


def extended(canvas: Frame, shown: F32) -> Frame:
    """Return a canvas (H, W, 3) whose pixels outside ``shown`` (H, W) are a blur of what is next to them."""
    import cv2

    if shown.min() >= 1:
        return canvas
    side = max(canvas.shape)
    blurred = cv2.GaussianBlur(canvas, (0, 0), EXTENSION_BLUR * side)
    inside = edge_ramp(shown, SEAM)[..., None]
    mixed = blurred + inside * (canvas.astype(np.float32) - blurred)
    return np.asarray(np.round(mixed), np.uint8)


def edge_ramp(shown: F32, width: float) -> F32:
    """Return (H, W) weights that rise from 0 at the edge of the picture to 1, ``width`` longest sides inside.

    Edges of the frame are no edges of the picture.
    """
    import cv2

    inside = np.pad((shown >= 1).astype(np.uint8), 1, mode="edge")
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5)[1:-1, 1:-1]
    return np.asarray(np.clip(distance / max(width * max(shown.shape), 1.0), 0, 1), np.float32)
