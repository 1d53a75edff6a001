"""The shape of the head in a picture: how far each cell of the region stands out, and how far it follows.

The face has the depth of a template that is laid onto the landmarks. Around it, skull and hair are an
ellipsoid, and the neck is flat; outside their silhouette, what follows the head fades into a background that
does not move. Lengths are in outer-eye widths of a frontal face unless they say otherwise, in the frame of
``FaceShapes.template``: x right, y down from the eyes, z away from the viewer. Numbers without a source were
chosen by eye on contact sheets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from vortex.engines.mesh.field import Region, ThinPlate, grid, remap
from vortex.engines.mesh.hair import find_hair
from vortex.face.landmarks import CHIN, FACE_OVAL, SKIN_LANDMARKS
from vortex.face.shapes import load_shapes
from vortex.interpolation import smoothstep
from vortex.types import F32, F64, Frame

DEPTH_GAIN = 1.25
"""Depth of faces relative to the template's: with it, turns of 5 to 15 degrees are most like those in films.

The depth that MediaPipe finds in a photo is no better than the template's.
"""
SKULL_CENTRE = np.array([0.0, -0.02, 0.6])
"""Between the ears."""
SKULL_HALF = np.array([0.86, 1.4, 0.82])
"""Half width, height and depth of the skull with flat hair."""
AXIS_BEHIND_EARS = 0.2
"""Depth of the axes of pitch and yaw behind the ears, which therefore move a little to the side."""
NECK_BELOW_CHIN = 0.35
"""Height of the axis of roll below the chin."""

HAIR_REACH = (1.12, 2.05)
"""Where less follows the head, and where nothing does, in half widths of the skull from its middle."""
HAIR_FADE = (0.05, 0.9)
"""Distance from hair that was found within which background gives way."""
HAIR_LIMIT = (1.7, 2.4)
"""Where hair that was found follows less, and where it does not, like :data:`HAIR_REACH`."""
LONG_HAIR = (-0.7, 0.3)
"""Distance below the chin from which hair follows less, and where it lies on the shoulders."""
NECK_LENGTH = (-0.25, 0.8)
"""Distance below the chin from which the neck follows less, and where it follows least."""
NECK_HALF_WIDTH = (0.55, 1.15)
"""Distance from its middle from which the neck follows less, and where it does not follow."""
NECK_OUT = 0.2
"""How far the front of the neck lies before the ears."""
SHOULDER_FOLLOW = 0.1
"""Share of the head's motion in chest and shoulders."""
NECK_BEGINS = (-0.6, 0.0)
"""Where the neck begins behind the jaw, and where all of it is seen, below the chin."""
EDGE_FADE = 0.14
"""Part of the region's width and height over which the motion fades to zero at an edge inside the picture."""
EDGE_GIVES = 0.45
"""Distance from an edge of the picture over which motion across it fades, as nothing is known beyond it."""

MIN_FACING = 0.25
"""Landmarks on skin turned farther away from the viewer have no reliable depth (cosine of the angle)."""
NODE_SPACING = 0.24
NODE_DISTANCE = 0.15
"""Distance of the nodes around the face from each other, and from the face."""
CELLS_PER_SAMPLE = 2
"""Depth is smooth, so it is interpolated for every second cell only."""
DEPTH_BLUR_CELLS, BLUR_CELLS = 1.0, 1.5
"""Standard deviations of the blur of height and of share in the motion."""
MAX_SHIFT = 0.6
"""How far depth shifts a part of the head at most, in a turn of 20 degrees."""
DEPTH_SMOOTHING = 1e-4
"""Added to the diagonal of the spline's system; landmarks of a turned face overlap with different depths."""


class Placement(NamedTuple):
    """From ``FaceShapes.template`` to the picture: ``scale`` * ``rotation`` @ point + ``shift``."""

    scale: float
    rotation: F64
    shift: F64

    def place(self, points: F64) -> F64:
        """Return points (..., 3) of the template in the picture; z in pixels, too."""
        return np.asarray(self.scale * points @ self.rotation.T + self.shift, np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """The shape of a head on the grid of a region; lengths are in cells.

    ``height`` (rows, cols) float32 is how far each cell stands out of the plane through the axes of pitch and
    yaw towards the viewer, times its share in the head's motion; it is at least 0. ``ceiling`` is its maximum
    around each cell, as far as a turn can carry it. ``edges`` (rows, cols, 2) in [0, 1] is how much of a
    motion in x and in y remains near the edges of the picture, and ``follow`` (rows, cols, 2) that, times the
    share in the head's motion. ``pivot`` (2,) is the point of the picture that does not move.
    """

    height: F32
    ceiling: F32
    follow: F32
    edges: F32
    pivot: F32


def find_head(landmarks_px: F32, placement: Placement, region: Region, canvas: Frame) -> Head:
    """Return the head in the picture ``canvas`` with landmarks (478, 3)."""
    template = _deep_template()
    centres = region.centres_px().astype(np.float64)
    axis = SKULL_CENTRE.copy()
    axis[2] += AXIS_BEHIND_EARS
    axis_z = float(placement.place(axis)[2])
    follow, around = _around(centres, axis_z, placement, canvas, region)
    toward = axis_z - placement.place(template)[:SKIN_LANDMARKS, 2]
    height = _with_face(landmarks_px[:, :2].astype(np.float64), toward, around, centres, placement)
    window, edges = _fades(region, canvas, placement.scale)
    height = np.maximum(window * height / region.cell_px, 0).astype(np.float32)
    axis[1] = template[CHIN, 1] + NECK_BELOW_CHIN
    reach = int(np.ceil(MAX_SHIFT * placement.scale / region.cell_px))
    ceiling = cv2.dilate(height, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    return Head(
        height=height.astype(np.float32),
        ceiling=np.asarray(ceiling, np.float32),
        follow=(follow[..., None] * window[..., None] * edges).astype(np.float32),
        edges=edges,
        pivot=((placement.place(axis)[:2] - centres[0, 0]) / region.cell_px).astype(np.float32),
    )


def _deep_template() -> F64:
    """Return the template (478, 3) with the depth of real faces."""
    template = load_shapes().template.astype(np.float64)
    template[:, 2] += (DEPTH_GAIN - 1) * (template[:, 2] - template[:SKIN_LANDMARKS, 2].mean())
    return template


def _around(
    centres: F64, axis_z: float, placement: Placement, canvas: Frame, region: Region
) -> tuple[F64, F64]:
    """Return share in the head's motion and height in pixels (rows, cols), without the face."""
    scale, rotation = placement.scale, placement.rotation
    skull, radius = _skull(centres, axis_z, placement)
    down = rotation[:2, 1] / np.linalg.norm(rotation[:2, 1])
    chin = np.array([0, load_shapes().template[CHIN, 1], SKULL_CENTRE[2]])
    below = (centres - placement.place(load_shapes().template[CHIN].astype(np.float64))[:2]) @ down / scale
    hair = find_hair(canvas, region, radius, below)
    away = cv2.distanceTransform((~hair).astype(np.uint8), cv2.DIST_L2, 5) * (region.cell_px / scale)
    of_hair = 1 - smoothstep(away, *HAIR_FADE, dtype=np.float64)
    of_hair *= 1 - smoothstep(radius, *HAIR_LIMIT, dtype=np.float64)
    of_hair *= 1 - smoothstep(below, *LONG_HAIR, dtype=np.float64)
    of_head = np.maximum(1 - smoothstep(radius, *HAIR_REACH, dtype=np.float64), of_hair)
    of_head = cv2.GaussianBlur(of_head, (0, 0), BLUR_CELLS)
    aside = np.abs((centres - placement.place(chin)[:2]) @ np.array([-down[1], down[0]])) / scale
    neck = 1 - smoothstep(below, *NECK_LENGTH, dtype=np.float64)
    neck *= 1 - smoothstep(aside, *NECK_HALF_WIDTH, dtype=np.float64)
    of_neck = SHOULDER_FOLLOW + (1 - SHOULDER_FOLLOW) * neck
    of_neck *= smoothstep(below, *NECK_BEGINS, dtype=np.float64)
    height = of_head * skull + (1 - of_head) * of_neck * scale * (AXIS_BEHIND_EARS + NECK_OUT)
    return of_head + (1 - of_head) * of_neck, height


def _skull(centres: F64, axis_z: float, placement: Placement) -> tuple[F64, F64]:
    """Return height in pixels, and distance from the middle in half widths, of the ellipsoid (rows, cols)."""
    centre = placement.place(SKULL_CENTRE)
    quadric = placement.rotation @ np.diag((placement.scale * SKULL_HALF) ** -2.0) @ placement.rotation.T
    x, y = np.moveaxis(centres - centre[:2], 2, 0)
    # The ellipsoid is p Q p = 1; a line of sight meets it at z = -b/Q33 -+ sqrt((1 - rim) / Q33).
    b = quadric[0, 2] * x + quadric[1, 2] * y
    rim = quadric[0, 0] * x**2 + 2 * quadric[0, 1] * x * y + quadric[1, 1] * y**2 - b**2 / quadric[2, 2]
    radius = np.sqrt(np.maximum(rim, 0))
    # Outside the silhouette, the depth of the nearest point of the silhouette continues.
    z = -b / quadric[2, 2] / np.maximum(radius, 1) - np.sqrt(np.maximum(1 - rim, 0) / quadric[2, 2])
    return axis_z - centre[2] - z, radius


def _with_face(points: F64, toward: F64, around: F64, centres: F64, placement: Placement) -> F64:
    """Return the height (rows, cols) in pixels with the landmarks' ``toward`` (468,) laid into ``around``."""
    rows, cols = around.shape
    cell_px = float(centres[0, 1, 0] - centres[0, 0, 0])
    away = cv2.distanceTransform(_outside(points[FACE_OVAL], centres, cell_px), cv2.DIST_L2, 5) * cell_px
    step = max(round(NODE_SPACING * placement.scale / cell_px), 1)
    lattice = np.zeros((rows, cols), bool)
    lattice[::step, ::step] = True
    row, col = np.nonzero(lattice & (away > NODE_DISTANCE * placement.scale))
    seen = _facing(placement.rotation) > MIN_FACING
    nodes = np.concatenate([points[:SKIN_LANDMARKS][seen], centres[row, col]])
    values = np.concatenate([toward[seen], around[row, col]])
    samples = centres[::CELLS_PER_SAMPLE, ::CELLS_PER_SAMPLE]
    size = np.ptp(centres.reshape(-1, 2), axis=0).max()
    places = [(positions - centres[0, 0]) / size for positions in (nodes, samples.reshape(-1, 2))]
    plate = ThinPlate(places[0], places[1], DEPTH_SMOOTHING)
    coarse = plate.interpolate(values[:, None], np.ones(len(nodes), bool), np.ones(len(places[1]), bool))
    fine = remap(coarse.reshape(samples.shape[:2]), grid(rows, cols) / np.float32(CELLS_PER_SAMPLE))
    return np.asarray(cv2.GaussianBlur(fine, (0, 0), DEPTH_BLUR_CELLS), np.float64)


def _outside(oval: F64, centres: F64, cell_px: float) -> npt.NDArray[np.uint8]:
    """Return (rows, cols): 0 in the cells inside the face oval (N, 2), 1 elsewhere."""
    mask = np.ones(centres.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round((oval - centres[0, 0]) / cell_px).astype(np.int32)], 0)
    return mask


def _facing(rotation: F64) -> F64:
    """Return (468,): cosine of the angle between viewer and skin at each landmark, as if on the ellipsoid."""
    normal = (load_shapes().template[:SKIN_LANDMARKS] - SKULL_CENTRE) / SKULL_HALF**2
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return np.asarray(-(normal @ rotation.T)[:, 2], np.float64)


def _fades(region: Region, canvas: Frame, scale: float) -> tuple[F32, F32]:
    """Return how much motion remains: (rows, cols) near edges of the region, (rows, cols, 2) of the picture.

    The first is for edges inside the picture, beyond which no byte changes. At an edge of the picture, only
    motion across it, in x or in y, fades.
    """
    fades = []
    for start_px, cells, length_px in (
        (region.x0, region.cols, canvas.shape[1]),
        (region.y0, region.rows, canvas.shape[0]),
    ):
        inside = start_px > 0, start_px + (cells + 1) * region.cell_px <= length_px
        fades.append(_fade(cells, inside, EDGE_FADE * cells))
        fades.append(_fade(cells, (not inside[0], not inside[1]), EDGE_GIVES * scale / region.cell_px))
    inner_x, outer_x, inner_y, outer_y = fades
    return np.outer(inner_y, inner_x), np.stack(np.meshgrid(outer_x, outer_y), axis=2)


def _fade(count: int, ends: tuple[bool, bool], cells: float) -> F32:
    """Return (count,): 1, falling to 0 over some cells at those of both ``ends`` that are True."""
    part = np.arange(count) + 0.5
    distance = np.minimum(part if ends[0] else np.inf, count - part if ends[1] else np.inf)
    return np.asarray(np.broadcast_to(smoothstep(distance, 0.0, cells), count), np.float32)
