"""Turns of the head in depth: where points go, and what is seen in each cell afterwards.

A rotation about a point c with weak perspective takes a point p of the picture with height h to
``c + A (p - c) + h t``, where A is the upper left 2 x 2 part of the matrix, and t the rest of its first two
rows. That is a shift along one direction, ``q = p + h u`` with ``u = A^-1 t``, and then the affine map A of
the plane, in which each point takes part as far as it follows the head. The shift is inverted by following
each line of sight down to the first point of the surface (relief mapping, Policarpo et al. 2005), so that
near skin hides far skin instead of being mixed with it.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from vortex.engines.mesh.field import invert, planes, remap, remap_planes
from vortex.engines.mesh.head import Head
from vortex.face.pose import rotation_of_pose
from vortex.motion.head import MAX_POSE_DEG
from vortex.types import F32, F64, FloatArray

FREE_POSE_DEG = MAX_POSE_DEG
"""Pitch, yaw and roll up to which the head turns as far as commanded: all that a voice commands."""
LARGEST_POSE_DEG = np.array([18.0, 22.0, 11.0], np.float32)
"""Pitch, yaw and roll beyond which too much would be seen that the picture does not show."""
STEEPEST = 4.0
"""Height per cell that steps down a line of sight expect at most, so that they do not pass the surface."""
STEP_ERROR = 0.003
"""Part of the first distance from an even surface that these steps may leave; a secant then finds it."""
PLANE_ITERATIONS = (2, 60)
"""Iterations that invert the affine map: at least so many, and more by its size, as a tilt needs them."""

_Y_DOWN = np.array([1.0, -1.0, 1.0])


def shown_pose_deg(pose_deg: F32) -> F32:
    """Return poses (T, 3), pitch, yaw and roll, bent smoothly below :data:`LARGEST_POSE_DEG`."""
    size, room = np.abs(pose_deg), LARGEST_POSE_DEG - FREE_POSE_DEG
    bent = FREE_POSE_DEG + room * np.tanh(np.maximum(size - FREE_POSE_DEG, 0) / room)
    return np.where(size <= FREE_POSE_DEG, pose_deg, np.copysign(bent, pose_deg)).astype(np.float32)


def rotation_matrix(pose_deg: FloatArray) -> F64:
    """Return (..., 3, 3) for (..., 3) pitch, yaw, roll in degrees; x right, y down, height to the viewer."""
    return rotation_of_pose(pose_deg) * np.outer(_Y_DOWN, _Y_DOWN)


def moved_height(cells: F32, backward: F32, head: Head, rotation: F64) -> F32:
    """Return the height (rows, cols) for a turn, when the face has come from ``cells + backward``.

    The chin takes its depth along when the jaw opens. Cells do not move across an edge of the picture.
    """
    (x, y), _ = _parts(rotation)
    share = 2 * np.abs([x, y]) / max(abs(x) + abs(y), 1e-9)
    remains_x, remains_y = planes(1 - (1 - head.edges) * np.minimum(share, 1).astype(np.float32))
    return np.asarray(remap(head.height, cells + backward) * remains_x * remains_y, np.float32)


def turn_points(points: F32, head: Head, height: F32, rotation: F64) -> F32:
    """Return where points (N, 2) in cells go; ``height`` is that of :func:`moved_height`."""
    along, plane = _parts(rotation)
    shifted = points + remap(height, points[None])[0, :, None] * along
    moved = remap(head.follow, shifted[None])[0] * ((shifted - head.pivot) @ plane.T)
    return np.asarray(shifted + moved, np.float32)


def turn_cells(cells: F32, head: Head, height: F32, rotation: F64) -> F32:
    """Return (rows, cols, 2): the cell that is seen in each one of the grid ``cells`` after the turn."""
    along, plane = _parts(rotation)
    start_x, start_y = planes(cells + _undo_plane(cells, head, plane))
    level = remap_planes(head.ceiling, start_x, start_y)
    step = 1 / (1 + STEEPEST * math.hypot(*along))
    above = level
    for _ in range(math.ceil(math.log(STEP_ERROR) / math.log(1 - min(step, 0.9)))):
        above = level - remap_planes(height, start_x - along[0] * level, start_y - along[1] * level)
        level = level - step * above
    # A secant through the last two points of each line of sight.
    after = level - remap_planes(height, start_x - along[0] * level, start_y - along[1] * level)
    level = level - after * np.clip(step * above / np.maximum(above - after, 1e-6), 0, 1)
    return np.asarray(cv2.merge([start_x - along[0] * level, start_y - along[1] * level]), np.float32)


def _undo_plane(cells: F32, head: Head, plane: F32) -> F32:
    """Return (rows, cols, 2): how far from each cell the affine map of the plane brings what is there."""
    # The field is smooth, so every second cell is enough.
    coarse = cells[::2, ::2]
    field = np.asarray(head.follow[::2, ::2] * ((coarse - head.pivot) @ plane.T), np.float32)
    half = np.float32(0.5)
    least, more = PLANE_ITERATIONS
    iterations = least + math.ceil(more * float(np.linalg.norm(plane, 2)))
    backward = invert(half * field, half * coarse, iterations)
    return 2 * remap(backward, half * cells)


def _parts(rotation: F64) -> tuple[F32, F32]:
    """Return the shift (2,) per height, and what the affine map (2, 2) of the plane adds to a position."""
    affine = rotation[:2, :2]
    along = np.linalg.solve(affine, rotation[:2, 2])
    return along.astype(np.float32), (affine - np.eye(2)).astype(np.float32)
