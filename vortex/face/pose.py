"""Head poses as rotations, and as pitch, yaw and roll with the signs of :class:`vortex.types.MotionTrack`.

A rotation (3, 3) turns from the face to a frame with x right, y up, z towards the viewer.
"""

from __future__ import annotations

import numpy as np

from vortex.types import F64, FloatArray


def pose_of_rotation(rotation: FloatArray) -> F64:
    """Return (..., 3) pitch, yaw, roll in degrees of rotations (..., 3, 3)."""
    forward, right = rotation[..., :, 2], rotation[..., :, 0]
    pitch = -np.arcsin(np.clip(forward[..., 1], -1, 1))
    yaw = np.arctan2(forward[..., 0], forward[..., 2])
    roll = -np.arctan2(right[..., 1], right[..., 0])
    return np.asarray(np.degrees(np.stack([pitch, yaw, roll], axis=-1)), np.float64)


def rotation_of_pose(pose_deg: FloatArray) -> F64:
    """Return the rotations (..., 3, 3) of which :func:`pose_of_rotation` returns ``pose_deg`` (..., 3)."""
    pitch, yaw, tilt = np.moveaxis(np.radians(np.asarray(pose_deg, np.float64)) * [1, 1, -1], -1, 0)
    sin, cos, zero = np.sin, np.cos, np.zeros_like(pitch)
    forward = np.stack([cos(pitch) * sin(yaw), -sin(pitch), cos(pitch) * cos(yaw)], axis=-1)
    # The picture shows the axis to the right at the angle ``tilt``, and it is at right angles to ``forward``.
    depth = -(cos(tilt) * forward[..., 0] + sin(tilt) * forward[..., 1]) / forward[..., 2]
    right = np.stack([cos(tilt), sin(tilt), depth + zero], axis=-1)
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    return np.stack([right, np.cross(forward, right), forward], axis=-1)
