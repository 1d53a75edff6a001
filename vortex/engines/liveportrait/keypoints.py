"""Keypoint mathematics: the one equation of LivePortrait, head rotation, and ratios measured on landmarks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vortex.types import FloatArray

# MediaPipe face-mesh indices. The official ratios divide an opening by a width: lids over eye corners,
# inner lips over mouth corners. "Left" is the person's left, which is the viewer's right.
LEFT_EYE = (386, 374, 362, 263)
RIGHT_EYE = (159, 145, 33, 133)
INNER_LIPS = (13, 14)
MOUTH_CORNERS = (61, 291)
RATIO_EPS = 1e-6


def rotation_matrix(angles_deg: Tensor) -> Tensor:
    """Return R = (Rz Ry Rx)^T, (B, 3, 3), of (B, 3) pitch, yaw, roll in degrees; used as ``x_c @ R``.

    Axes: x right, y down, z away from the viewer. Positive pitch looks down, positive yaw turns to the
    viewer's left, positive roll tilts clockwise.
    """
    pitch, yaw, roll = torch.deg2rad(angles_deg).unbind(dim=1)
    zero, one = torch.zeros_like(pitch), torch.ones_like(pitch)

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries, dim=1).view(-1, 3, 3)  # (B, 9) -> (B, 3, 3)

    cos, sin = torch.cos, torch.sin
    about_x = matrix(one, zero, zero, zero, cos(pitch), -sin(pitch), zero, sin(pitch), cos(pitch))
    about_y = matrix(cos(yaw), zero, sin(yaw), zero, one, zero, -sin(yaw), zero, cos(yaw))
    about_z = matrix(cos(roll), -sin(roll), zero, sin(roll), cos(roll), zero, zero, zero, one)
    return (about_z @ about_y @ about_x).transpose(1, 2)


def transform_keypoints(
    canonical_kp: Tensor, exp: Tensor, scale: Tensor, translation: Tensor, angles_deg: Tensor
) -> Tensor:
    """Return x = s (x_c R + exp) + t, (B, 21, 3); tz is dropped.

    ``canonical_kp`` x_c and ``exp`` (B or 1, 21, 3), ``scale`` (B or 1, 1), ``translation`` (B or 1, 3),
    ``angles_deg`` (B or 1, 3) pitch, yaw, roll in the network's signs. The expression is added after the
    rotation, the official convention, so that an unchanged expression and pose give x_s back.
    """
    shift = translation * translation.new_tensor([1.0, 1.0, 0.0])
    x = canonical_kp @ rotation_matrix(angles_deg) + exp
    return scale[:, :, None] * x + shift[:, None]


def eye_ratios(landmarks_px: FloatArray) -> tuple[float, float]:
    """Return lid opening over eye width of the person's left and right eye; about 0.3 open, 0 shut.

    ``landmarks_px`` (478, 2 or 3), MediaPipe order, any unit.
    """
    return _ratio(landmarks_px, LEFT_EYE), _ratio(landmarks_px, RIGHT_EYE)


def lip_ratio(landmarks_px: FloatArray) -> float:
    """Return inner-lip opening over mouth width: 0 shut, about 0.2 in loud speech."""
    return _ratio(landmarks_px, (*INNER_LIPS, *MOUTH_CORNERS))


def _ratio(landmarks_px: FloatArray, indices: tuple[int, ...]) -> float:
    """Distance of the first two points over the distance of the last two, in the picture plane."""
    top, bottom, one, other = np.asarray(landmarks_px, dtype=np.float64)[list(indices), :2]
    return float(np.linalg.norm(top - bottom) / (np.linalg.norm(one - other) + RATIO_EPS))
