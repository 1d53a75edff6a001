"""LivePortrait's keypoints, and how a motion moves them (vortex/motion/keypoints.py)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vortex.engines.liveportrait.networks import KeypointInfo, Networks
from vortex.face.landmarks import INNER_LIPS, LEFT_EYE, MOUTH_CORNERS, RIGHT_EYE
from vortex.motion.keypoints import keypoint_expression
from vortex.types import BLENDSHAPE_INDEX, FloatArray, MotionTrack

SPEAKING_LIP_RATIO = 0.03
"""Lips of a source that are further open than this are closed first, as in the published pipeline."""
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
    ``angles_deg`` (B or 1, 3) pitch, yaw, roll in the network's signs. As in the official code, the
    expression is added after the rotation, so an unchanged expression and pose return x_s.
    """
    shift = translation * translation.new_tensor([1.0, 1.0, 0.0])
    x = canonical_kp @ rotation_matrix(angles_deg) + exp
    return scale[:, :, None] * x + shift[:, None]


def eye_ratios(landmarks_px: FloatArray) -> tuple[float, float]:
    """Return lid opening over width of both eyes of (478, 2 or 3) points: 0 is shut, 0.3 open.

    The eye on the left of the picture, the person's right one, comes first, as the eye network takes them.
    """
    return _ratio(landmarks_px, RIGHT_EYE), _ratio(landmarks_px, LEFT_EYE)


def lip_ratio(landmarks_px: FloatArray) -> float:
    """Return inner-lip opening over mouth width: 0 is shut, loud speech reaches 0.2."""
    return _ratio(landmarks_px, (*INNER_LIPS, *MOUTH_CORNERS))


def _ratio(landmarks_px: FloatArray, indices: tuple[int, ...]) -> float:
    """Return the distance of the first two points over that of the last two, in the picture plane."""
    top, bottom, one, other = np.asarray(landmarks_px, dtype=np.float64)[list(indices), :2]
    return float(np.linalg.norm(top - bottom) / (np.linalg.norm(one - other) + RATIO_EPS))


@dataclass(frozen=True, slots=True)
class SourceFace:
    """What retargeting needs of one source; float32, on the networks' device.

    ``info`` is M's result; ``x_s`` (1, K, 3) are the keypoints; ``eye_ratios`` (1, 2) and ``lip_ratio``
    (1, 1) say how far eyes and lips are open; adding ``shut_eyes`` (1, K, 3) shuts the eyes; adding
    ``shut_lips`` (1, K, 3) closes an open mouth, and is zero for a closed one; adding ``meet_lips``
    (1, K, 3) closes what little a closed one leaves open, and is zero for an open one.
    """

    info: KeypointInfo
    x_s: Tensor
    eye_ratios: Tensor
    lip_ratio: Tensor
    shut_eyes: Tensor
    shut_lips: Tensor
    meet_lips: Tensor


def measure_source(
    networks: Networks, info: KeypointInfo, eye_ratios: tuple[float, float], lip_ratio: float
) -> SourceFace:
    """Return a source's keypoints, and how its eyes and lips, open by these ratios, close."""
    x_s = transform_keypoints(info.canonical_kp, info.exp, info.scale, info.translation, info.angles_deg)
    eyes, lips, shut = x_s.new_tensor([eye_ratios]), x_s.new_tensor([[lip_ratio]]), x_s.new_zeros(1, 1)
    shut_eyes = networks.retarget_eyes(x_s, torch.cat([eyes, shut], dim=1))
    closing = networks.retarget_lips(x_s, torch.cat([lips, shut], dim=1))
    still = torch.zeros_like(closing)
    shut_lips = closing if lip_ratio >= SPEAKING_LIP_RATIO else still
    meet_lips = closing if 0 < lip_ratio < SPEAKING_LIP_RATIO else still
    return SourceFace(info, x_s, eyes, lips, shut_eyes, shut_lips, meet_lips)


@dataclass(frozen=True, slots=True)
class DrivenTrack:
    """A motion as LivePortrait's networks take it; float32, on the networks' device.

    ``exp`` (T, K, 3) is added to the source's expression, ``angles_deg`` (T, 3) to its head angles; ``blink``
    (T, 1, 1) in [0, 1] is how far the lids are shut, ``shut`` (T, 1, 1) how far lips that have parted are
    brought together.
    """

    exp: Tensor
    angles_deg: Tensor
    blink: Tensor
    shut: Tensor


def drive_expression(motion: MotionTrack, device: torch.device) -> DrivenTrack:
    """Return the motion as LivePortrait's networks take it; a motion of zeros gives zeros.

    What the networks for eyes and lips do to a source is left to them: lids that fall together, and lips that
    meet.
    """
    lids = [BLENDSHAPE_INDEX["eyeBlinkLeft"], BLENDSHAPE_INDEX["eyeBlinkRight"]]
    blink = np.clip(motion.blendshapes[:, lids].min(axis=1), 0, 1)
    shut = np.clip(motion.blendshapes[:, BLENDSHAPE_INDEX["mouthClose"]], 0, 1)
    shapes = motion.blendshapes.copy()
    shapes[:, lids] -= blink[:, None]
    exp = keypoint_expression(MotionTrack(shapes, motion.head_pose_deg, motion.fps))
    # Positive yaw turns to the viewer's right in MotionTrack, to the left in the network.
    angles_deg = motion.head_pose_deg * np.array([1, -1, 1], np.float32)
    arrays = (exp, angles_deg, blink.reshape(-1, 1, 1), shut.reshape(-1, 1, 1))
    return DrivenTrack(*(torch.from_numpy(array).to(device) for array in arrays))


def driven_keypoints(networks: Networks, source: SourceFace, track: DrivenTrack, rows: slice) -> Tensor:
    """Return x_d (B, K, 3): moved, stitched to the shoulders, then, as published, an open mouth closed."""
    info = source.info
    exp, angles_deg = info.exp + track.exp[rows], info.angles_deg + track.angles_deg[rows]
    x_d = transform_keypoints(info.canonical_kp, exp, info.scale, info.translation, angles_deg)
    x_d = x_d + track.blink[rows] * source.shut_eyes
    return networks.stitch(source.x_s, x_d) + source.shut_lips + track.shut[rows] * source.meet_lips
