"""How a picture of a mouth is moved: to wanted lips, and onto the head of another frame.

Faces without pose are (478, 3) in outer-eye widths, places in pictures are in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vortex.engines.mesh.field import ThinPlate, remap
from vortex.face.landmarks import (
    CHIN,
    JAW_LINE,
    LIP_CORNERS,
    LOWER_INNER,
    LOWER_RINGS,
    MOUTH_ANCHORS,
    MOUTH_CORNERS,
    MOUTH_SKIN,
    NOSE_BRIDGE,
    OUTER_EYE_CORNERS,
    UPPER_INNER,
    UPPER_RINGS,
)
from vortex.face.shapes import similarity
from vortex.interpolation import smoothstep
from vortex.motion.expression import SHUT_GAP
from vortex.revoice.lips import GAP, LIP_INDEX, column_gaps
from vortex.types import F32, F64, Frame

MAX_MOVE = 0.07
"""A chosen mouth is moved by at most this in outer-eye widths; further, skin would look stretched."""
MAX_STRETCH = 1.6
"""A gap between lips grows at most by this factor."""
RING_WEIGHTS = np.array([1.0, 0.92, 0.8, 0.62])
"""How far each ring of a lip follows its inner edge."""
INSET = 0.02
"""Lips that shut meet this far inside the flesh, in outer-eye widths: detected edges are off by pixels."""
CELLS = 32
"""Cells along the longer side of the grid on which a warp is computed."""
NECK_BELOW, NECK_ACROSS = (0.25, 0.5), (-0.5, 0.0, 0.5)
"""Nodes below the chin, in outer-eye widths."""

_RINGS = np.concatenate([UPPER_RINGS.ravel(), LOWER_RINGS.ravel(), LIP_CORNERS])
_INNER_NODES = np.concatenate([_RINGS, MOUTH_SKIN, JAW_LINE])
_UPPER = np.isin(_INNER_NODES, UPPER_RINGS)
_LOWER = np.isin(_INNER_NODES, LOWER_RINGS)


@dataclass(frozen=True, slots=True, eq=False)
class MouthPicture:
    """A picture of a mouth: ``pixels`` (h, w, 3) from ``corner_px`` (2,) on in its frame.

    ``landmarks_px`` (478, 2) are in that frame; ``face`` (478, 3) is without pose, ``lips`` (6,) measure it.
    """

    pixels: Frame
    corner_px: F64
    landmarks_px: F64
    face: F64
    lips: F64


def move_lips(face: F64, lips: F64, wanted: F64) -> F64:
    """Return a face (478, 3) with its lips, measured as ``lips`` (6,), moved to ``wanted`` (6,), in limits.

    Shut lips stay as they are, since they meet; open ones that have to shut meet exactly.
    """
    change = np.clip(wanted - lips, -MAX_MOVE, MAX_MOVE)
    moved = face.copy()
    gaps = column_gaps(face)
    if lips[GAP] > SHUT_GAP:
        opened = min(max(wanted[GAP], 0.0), lips[GAP] * MAX_STRETCH, lips[GAP] + MAX_MOVE)
        missing = gaps * (opened / lips[GAP] - 1)
    else:
        missing = np.zeros(len(gaps))
    upper = change[LIP_INDEX["upper_lip"]]
    jaw = change[LIP_INDEX["jaw"]]
    lower = upper + missing
    moved[UPPER_RINGS, 1] += RING_WEIGHTS[:, None] * upper
    moved[LOWER_RINGS, 1] += RING_WEIGHTS[:, None] * lower + (1 - RING_WEIGHTS[:, None]) * jaw
    _move_corners(moved, face, change)
    mouth_y, chin_y = face[list(MOUTH_CORNERS), 1].mean(), face[CHIN, 1]
    below = np.concatenate([MOUTH_SKIN, JAW_LINE])
    share = np.clip((face[below, 1] - mouth_y) / (chin_y - mouth_y), 0, 1)
    moved[below, 1] += share * jaw
    return moved


def _move_corners(moved: F64, face: F64, change: F64) -> None:
    """Widen the mouth and raise its corners, in place; the middle of the lips stays."""
    corners = face[list(MOUTH_CORNERS), 0]
    centre, half = corners.mean(), np.ptp(corners) / 2
    along = np.clip((face[_RINGS, 0] - centre) / half, -1, 1)
    moved[_RINGS, 0] += along * change[LIP_INDEX["width"]] / 2
    moved[_RINGS, 1] += along**2 * (change[LIP_INDEX["corners"]] - change[LIP_INDEX["upper_lip"]] / 2)


@dataclass(frozen=True, slots=True, eq=False)
class Placing:
    """Where nodes of a mouth's picture are, and belong in another frame, both (N, 2) in pixels.

    ``upper``, ``lower`` (N,) tell the nodes of each lip; ``seam_px`` (11, 2) is where the lips meet there;
    ``closes`` says that they come nearer, so that each moves by itself.
    """

    source_px: F64
    target_px: F64
    seam_px: F64
    closes: bool
    landmarks_px: F64
    """(478, 2): where the landmarks of the placed mouth are."""


def warped(mouth: MouthPicture, placing: Placing, box: tuple[int, int, int, int]) -> Frame:
    """Return the picture of a mouth as it looks in the box x0, y0, x1, y1 of another frame."""
    x0, y0, x1, y1 = box
    cell = max(x1 - x0, y1 - y0) / CELLS
    cols, rows = max(round((x1 - x0) / cell), 2), max(round((y1 - y0) / cell), 2)
    xs, ys = np.linspace(x0, x1 - 1, cols), np.linspace(y0, y1 - 1, rows)
    queries = np.stack(np.meshgrid(xs, ys), axis=2).reshape(-1, 2)
    origin, size = np.array([x0, y0], np.float64), float(max(x1 - x0, y1 - y0))
    plate = ThinPlate((placing.target_px - origin) / size, (queries - origin) / size, 1e-5)
    values, everywhere = placing.source_px - mouth.corner_px, np.ones(len(queries), bool)
    extra = len(placing.target_px) - len(_INNER_NODES)
    lower_lip, upper_lip = (np.pad(lip, (0, extra)) for lip in (_LOWER, _UPPER))

    def picture(keep: np.ndarray) -> Frame:
        where = plate.interpolate(values, keep, everywhere).reshape(rows, cols, 2)
        return remap(mouth.pixels, _enlarged(where, (x1 - x0, y1 - y0)))

    if not placing.closes:
        return picture(np.ones(len(placing.target_px), bool))
    above, below = picture(~lower_lip), picture(~upper_lip)
    seam = placing.seam_px - origin
    outline = np.concatenate(
        [[[-1, seam[0, 1]]], seam, [[x1 - x0, seam[-1, 1]], [x1 - x0, y1 - y0], [-1, y1 - y0]]]
    )
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    share = mask * np.float32(1 / 255)
    return np.asarray(cv2.blendLinear(below, above, share, 1 - share), np.uint8)


def _enlarged(where: F32, size_px: tuple[int, int]) -> F32:
    """Return positions (h, w, 2) for each pixel from those at a grid whose corners are the corner pixels.

    OpenCV would round places in the grid to a 32nd of a cell, which is a part of a pixel.
    """
    across, down = (_hats(count, side) for count, side in zip(where.shape[1::-1], size_px, strict=True))
    return np.stack([down @ where[..., axis] @ across.T for axis in range(2)], axis=2)


def _hats(count: int, side: int) -> F32:
    """Return (side, count): the share of each of ``count`` nodes in each of ``side`` pixels, linear."""
    at = np.linspace(0, count - 1, side)[:, None]
    return np.asarray(np.maximum(1 - np.abs(at - np.arange(count)), 0), np.float32)


def place(mouth: MouthPicture, moved: F64, restored_px: F64, unmoved_px: F64, target_px: F64) -> Placing:
    """Return where the nodes of a mouth go.

    Args:
        mouth: the chosen mouth.
        moved: its face without pose after :func:`move_lips`.
        restored_px: ``moved`` (478, 2) in the pose of the target frame.
        unmoved_px: the same of ``mouth.face``.
        target_px: the landmarks (478, 2) of the target frame: nose and cheeks go there exactly.
    """
    shift = (target_px[MOUTH_ANCHORS] - unmoved_px[MOUTH_ANCHORS]).mean(axis=0)
    placed = restored_px + shift
    scale, turn, _ = similarity(mouth.landmarks_px, unmoved_px)
    down = unmoved_px[CHIN] - unmoved_px[NOSE_BRIDGE]
    down = down / np.linalg.norm(down)
    eye_px = float(np.linalg.norm(np.subtract(*unmoved_px[list(OUTER_EYE_CORNERS)])))
    source = mouth.landmarks_px.copy()
    before, after = column_gaps(mouth.face), column_gaps(moved)
    closes = bool(after.max() < before.max() - 1e-6)
    if closes:
        shut = smoothstep(1 - after / np.maximum(before, 1e-6), 0.3, 1.0)[:, None]
        inset = INSET * eye_px * shut * (down @ turn) / scale
        source[UPPER_INNER[1:-1]] -= inset
        source[LOWER_INNER[1:-1]] += inset
    offsets = eye_px * np.array(
        [
            across * np.array([down[1], -down[0]]) + below * down
            for below in NECK_BELOW
            for across in NECK_ACROSS
        ]
    )
    # The neck follows the jaw less and less.
    chin = np.repeat(
        [(placed[CHIN] + unmoved_px[CHIN] + shift) / 2, unmoved_px[CHIN] + shift], len(NECK_ACROSS), 0
    )
    neck = mouth.landmarks_px[CHIN] + offsets @ turn / scale
    return Placing(
        np.concatenate([source[_INNER_NODES], mouth.landmarks_px[MOUTH_ANCHORS], neck]),
        np.concatenate([placed[_INNER_NODES], target_px[MOUTH_ANCHORS], chin + offsets]),
        (placed[UPPER_INNER] + placed[LOWER_INNER]) / 2,
        closes,
        placed,
    )
