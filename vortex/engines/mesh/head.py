"""The shape of the head in a picture: how far each cell of the region stands out, and how far it follows.

The face has the depth of its landmarks. Around it, skull and hair are an ellipsoid, and the neck a cylinder;
from its silhouette on, what follows the head fades into a background that does not move. Lengths are in
outer-eye widths of a frontal face unless they say otherwise, in the frame of ``Basis.template``: x right, y down
from the eyes, z away from the viewer. Numbers without a source were chosen by eye on contact sheets.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vortex.engines.mesh.basis import load_basis
from vortex.engines.mesh.field import Region, ThinPlate, grid
from vortex.engines.mesh.hair import find_hair
from vortex.face.landmarks import CHIN, FACE_OVAL, SKIN_LANDMARKS
from vortex.interpolation import smoothstep
from vortex.types import F32, F64, Frame

DEPTH_GAIN = 1.25
"""Depth of faces relative to MediaPipe's: with it, turns of 5 to 15 degrees come nearest to those of filmed heads.

The depth that MediaPipe finds in a picture is as good as the template's in photos, and worse in paintings.
"""
SKULL_CENTRE = np.array([0.0, -0.02, 0.6])
"""Between the ears."""
SKULL_HALF = np.array([0.86, 1.4, 0.82])
"""Half width, height and depth of the skull with flat hair."""
AXIS_BEHIND_EARS = 0.2
"""Depth of the axes of pitch and yaw behind the ears, which therefore move a little to the side."""
NECK_BELOW_CHIN = 0.35
"""Height of the axis of roll below the chin."""

HAIR_REACH = (1.12, 1.95)
"""Distance from the middle of the skull, in its half widths, from which less follows, and where nothing does."""
HAIR_FADE = (0.05, 0.7)
"""Distance from hair that was found within which background gives way."""
HAIR_LIMIT = (1.7, 2.4)
"""Distance from the middle of the skull at which hair follows less, and where it does not, in its half widths."""
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
EDGE_FADE = 0.14
"""Part of the region's width and height over which the motion fades to zero at an edge inside the picture."""

MIN_FACING = 0.25
"""Landmarks on skin turned farther away from the viewer have no reliable depth (cosine of the angle)."""
NODE_SPACING = 0.3
NODE_DISTANCE = 0.22
"""Distance of the nodes around the face from each other, and from the face."""
CELLS_PER_SAMPLE = 2
"""Depth is smooth, so it is interpolated for every second cell only."""
DEPTH_SMOOTHING = 1e-4
"""Added to the diagonal of the spline's system; landmarks of a turned face overlap with different depths."""


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """The shape of a head on the grid of a region; lengths are in cells.

    ``height`` (rows, cols) float32 is how far each cell stands out of the plane through the axes of pitch and
    yaw towards the viewer, times its share in the head's motion; it is at least 0. ``ceiling`` is its maximum
    around each cell, as far as a turn can carry it. ``follow`` (rows, cols) in [0, 1] is the share in roll.
    ``pivot`` (2,) is the point of the picture that does not move.
    """

    height: F32
    ceiling: F32
    follow: F32
    pivot: F32


def find_head(landmarks_px: F32, scale: float, rotation: F64, shift: F64, region: Region, canvas: Frame) -> Head:
    """Return the head with landmarks (478, 3); template -> picture is ``scale``, ``rotation``, ``shift``."""
    size_px = canvas.shape[1::-1]
    template = _deep_template()
    centres = region.centres_px().astype(np.float64)
    axis_z = float((scale * rotation @ (SKULL_CENTRE + [0, 0, AXIS_BEHIND_EARS]) + shift)[2])
    follow, around = _around(centres, axis_z, scale, rotation, shift, canvas, region)
    lifted = scale * template @ rotation.T + shift
    toward = axis_z - lifted[:, 2]
    height = _over_face(landmarks_px[:, :2].astype(np.float64), toward, around, centres, scale, rotation)
    # At an edge of the picture nothing has to fit to what is beyond.
    across = _edge_fade(region.cols, region.x0 > 0, region.x0 + region.size_px[0] + region.cell_px <= size_px[0])
    along = _edge_fade(region.rows, region.y0 > 0, region.y0 + region.size_px[1] + region.cell_px <= size_px[1])
    window = np.outer(along, across)
    height = np.maximum(window * height / region.cell_px, 0).astype(np.float32)
    neck = np.array([0, template[CHIN, 1] + NECK_BELOW_CHIN, SKULL_CENTRE[2] + AXIS_BEHIND_EARS])
    pivot = (scale * rotation @ neck + shift)[:2] - centres[0, 0]
    reach = int(np.ceil(0.6 * scale / region.cell_px))
    ceiling = cv2.dilate(height, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    return Head(height, ceiling, np.asarray(window * follow, np.float32), (pivot / region.cell_px).astype(np.float32))


def _deep_template() -> F64:
    """Return the template (478, 3) with the depth of real faces."""
    template = load_basis().template.astype(np.float64)
    template[:, 2] += (DEPTH_GAIN - 1) * (template[:, 2] - template[:SKIN_LANDMARKS, 2].mean())
    return template


def _around(centres: F64, axis_z: float, scale: float, rotation: F64, shift: F64, canvas: Frame, region: Region) -> tuple[F64, F64]:
    """Return follow and height in pixels (rows, cols) of skull, hair and neck, without the face."""
    centre = scale * rotation @ SKULL_CENTRE + shift
    quadric = rotation @ np.diag((scale * SKULL_HALF) ** -2.0) @ rotation.T
    x, y = np.moveaxis(centres - centre[:2], 2, 0)
    # The ellipsoid is p Q p = 1; a line of sight meets it at z = -b/Q33 -+ sqrt((1 - rim) / Q33).
    b = quadric[0, 2] * x + quadric[1, 2] * y
    squared = quadric[0, 0] * x**2 + 2 * quadric[0, 1] * x * y + quadric[1, 1] * y**2
    rim = squared - b**2 / quadric[2, 2]
    middle = np.where(rim < 1, -b / quadric[2, 2], -b / quadric[2, 2] / np.maximum(np.sqrt(rim), 1))
    skull = axis_z - centre[2] - middle + np.sqrt(np.maximum(1 - rim, 0) / quadric[2, 2])
    radius = np.sqrt(np.maximum(rim, 0))
    of_head = 1 - smoothstep(radius, *HAIR_REACH, dtype=np.float64)
    down = rotation[:2, 1] / np.linalg.norm(rotation[:2, 1])
    chin = (scale * rotation @ load_basis().template[CHIN] + shift)[:2]
    throat = (scale * rotation @ (SKULL_CENTRE + [0, 1.3, 0]) + shift)[:2]
    below = (centres - chin) @ down / scale
    hair = find_hair(canvas, region, radius, below)
    away = cv2.distanceTransform((~hair).astype(np.uint8), cv2.DIST_L2, 5) * (region.cell_px / scale)
    of_hair = 1 - smoothstep(away, *HAIR_FADE, dtype=np.float64)
    of_hair *= 1 - smoothstep(radius, *HAIR_LIMIT, dtype=np.float64)
    of_hair *= 1 - smoothstep(below, *LONG_HAIR, dtype=np.float64)
    of_head = cv2.GaussianBlur(np.maximum(of_head, of_hair), (0, 0), 1.5)
    across = np.abs((centres - throat) @ np.array([-down[1], down[0]])) / scale
    at_all = smoothstep(below, -0.6, 0.0, dtype=np.float64)
    neck = (1 - smoothstep(below, *NECK_LENGTH, dtype=np.float64)) * (
        1 - smoothstep(across, *NECK_HALF_WIDTH, dtype=np.float64)
    )
    of_neck = at_all * (SHOULDER_FOLLOW + (1 - SHOULDER_FOLLOW) * neck)
    follow = of_head + (1 - of_head) * of_neck
    out = scale * (AXIS_BEHIND_EARS + NECK_OUT)
    return follow, of_head * skull + (1 - of_head) * of_neck * out


def _over_face(
    points: F64, toward: F64, around: F64, centres: F64, scale: float, rotation: F64
) -> F64:
    """Return the height (rows, cols) in pixels of the whole head, with the landmarks' ``toward`` (478,)."""
    rows, cols = around.shape
    oval = points[FACE_OVAL].astype(np.float32)
    steps = max(round(NODE_SPACING * scale / float(centres[0, 1, 0] - centres[0, 0, 0])), 1)
    lattice = [
        (row, col)
        for row in range(0, rows, steps)
        for col in range(0, cols, steps)
        if cv2.pointPolygonTest(oval, tuple(centres[row, col].tolist()), True) < -NODE_DISTANCE * scale
    ]
    row, col = np.array(lattice).T
    seen = _facing(scale, rotation) > MIN_FACING
    nodes = np.concatenate([points[:SKIN_LANDMARKS][seen], centres[row, col]])
    values = np.concatenate([toward[:SKIN_LANDMARKS][seen], around[row, col]])
    samples = centres[::CELLS_PER_SAMPLE, ::CELLS_PER_SAMPLE]
    size = np.ptp(centres.reshape(-1, 2), axis=0).max()
    plate = ThinPlate((nodes - centres[0, 0]) / size, (samples.reshape(-1, 2) - centres[0, 0]) / size, DEPTH_SMOOTHING)
    every: npt.NDArray[np.bool_] = np.ones(len(nodes), bool)
    coarse = plate.interpolate(values[:, None], every, np.ones(samples.shape[0] * samples.shape[1], bool))
    at = grid(rows, cols) / CELLS_PER_SAMPLE
    fine = cv2.remap(coarse.reshape(samples.shape[:2]), at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore
    return np.asarray(cv2.GaussianBlur(fine, (0, 0), 1.0), np.float64)


def _facing(scale: float, rotation: F64) -> F64:
    """Return (468,): cosine of the angle between the viewer and the skin at each landmark, on the ellipsoid."""
    normal = (load_basis().template[:SKIN_LANDMARKS] - SKULL_CENTRE) / SKULL_HALF**2
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return np.asarray(-(normal @ rotation.T)[:, 2], np.float64)


def _edge_fade(count: int, at_start: bool, at_end: bool) -> F32:
    """Return (count,): 1 where the motion is whole, 0 at the ends where it fades."""
    part = (np.arange(count) + 0.5) / count
    distance = np.minimum(part if at_start else 1.0, 1 - part if at_end else 1.0)
    return np.asarray(smoothstep(distance, 0.0, EDGE_FADE), np.float32)
