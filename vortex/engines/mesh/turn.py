"""Turns of the head in depth: where points go, and what is seen in each cell afterwards.

A rotation with weak perspective takes a point of the picture ``p`` with height ``h`` to ``c + A (p - c) + h t``,
where A is the upper left 2 x 2 part of the matrix and t its third column. That is a shift along one direction,
``q = p + h u`` with ``u = A^-1 t``, and then an affine map of the plane, to which each point is subject by its
share ``follow``. The shift is inverted by following each line of sight down to the first point of the surface
(relief mapping, Policarpo et al. 2005), so that near skin hides far skin instead of being mixed with it.
"""

from __future__ import annotations

import numpy as np

from vortex.engines.mesh.field import invert, remap
from vortex.engines.mesh.head import Head
from vortex.types import F32, F64, FloatArray

SAFE_STEPS, SECANT_STEPS = 6, 2
"""Steps down the line of sight that cannot pass the surface, and steps that then find it exactly."""
STEEPEST = 4.0
"""Height per cell that the safe steps expect at most."""
PLANE_ITERATIONS = 4


def rotation_matrix(pose_deg: FloatArray) -> F64:
    """Return (3, 3) for pitch, yaw, roll in degrees as in ``MotionTrack``; x right, y down, height to the viewer.

    Roll turns first and yaw last, so that pitch and yaw are the direction in which the face looks.
    """
    (sp, sy, sr), (cp, cy, cr) = np.sin(np.radians(pose_deg)), np.cos(np.radians(pose_deg))
    pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return yaw @ pitch @ roll


def turn_points(points: F32, head: Head, height: F32, rotation: F64) -> F32:
    """Return where points (N, 2) in cells go; ``height`` (rows, cols) is that of the head now."""
    along, plane = _parts(rotation)
    shifted = points + remap(height, points[None])[0, :, None] * along
    follow = remap(head.follow, shifted[None])[0]
    return np.asarray(shifted + follow[:, None] * ((shifted - head.pivot) @ plane.T), np.float32)


def turn_cells(cells: F32, head: Head, height: F32, rotation: F64) -> F32:
    """Return (rows, cols, 2): the cell seen in each cell of the grid ``cells`` (rows, cols, 2) after the turn."""
    along, plane = _parts(rotation)
    field = head.follow[..., None] * ((cells - head.pivot) @ plane.T)
    start = cells + invert(field, cells, PLANE_ITERATIONS)
    level = remap(head.ceiling, start)
    part = np.float32(1 / (1 + STEEPEST * float(np.hypot(*along))))
    seen = start - level[..., None] * along
    above = level - remap(height, seen)
    for _ in range(SAFE_STEPS):
        level -= part * above
        seen = start - level[..., None] * along
        above = level - remap(height, seen)
    return seen


def _parts(rotation: F64) -> tuple[F32, F32]:
    """Return the shift (2,) per height, and what the affine map (2, 2) of the plane adds to a position."""
    affine = rotation[:2, :2]
    along = np.linalg.solve(affine, rotation[:2, 2])
    return along.astype(np.float32), (affine - np.eye(2)).astype(np.float32)
