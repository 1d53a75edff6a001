"""LivePortrait's keypoints, and how blendshapes and head pose move them (table in docs/liveportrait.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vortex.engines.base import shape_columns
from vortex.engines.liveportrait.networks import KeypointInfo, Networks
from vortex.face.landmarks import INNER_LIPS, LEFT_EYE, MOUTH_CORNERS, RIGHT_EYE
from vortex.types import F32, FloatArray, MotionTrack

Direction = Mapping[tuple[int, str], float]

MOUTH: Mapping[str, Direction] = {
    "open": {(19, "y"): 1e-3, (19, "z"): 1e-4, (17, "y"): -1e-4},
    "grin": {(20, "z"): -1e-3, (20, "y"): -1e-3, (14, "y"): -1e-3},
    "purse": {(14, "y"): 1e-3, (3, "y"): -5e-4, (7, "y"): -5e-4, (17, "z"): -5e-4},
    "smile": {
        (20, "y"): -1e-2, (14, "y"): -2e-2, (17, "y"): 6.5e-3, (17, "z"): 3e-3,
        (13, "y"): -2.75e-3, (16, "y"): -2.75e-3, (3, "y"): -3.5e-3, (7, "y"): -3.5e-3,
    },
}  # fmt: skip
"""Slider -> what one unit adds to the expression, by keypoint and axis, as in the editors published with and
for LivePortrait (its Gradio page; ComfyUI-AdvancedLivePortrait)."""
_LIDS: Direction = {
    (11, "y"): -1e-3, (13, "y"): 3e-4, (15, "y"): -1e-3, (16, "y"): 3e-4, (1, "y"): -2.5e-4, (2, "y"): 2.5e-4,
}  # fmt: skip
UPPER_FACE: Mapping[str, Direction] = {
    "lids": _LIDS,
    "brows_up": {(1, "y"): 1e-3, (2, "y"): -1e-3},
    "brows_down": {(1, "x"): 1e-3, (2, "x"): -1e-3, (1, "y"): -3e-4, (2, "y"): 3e-4},
    "gaze_right": {(11, "x"): 7e-4, (15, "x"): 1e-3},
    "gaze_left": {(11, "x"): -1e-3, (15, "x"): -7e-4},
    # The editors subtract half a unit of the lids for each unit of gaze.
    "gaze_up": {key: (-1e-3 if key[0] in (11, 15) else 0.0) - 0.5 * step for key, step in _LIDS.items()},
}
"""Like :data:`MOUTH`. ``lids`` > 0 opens the eyes further; gaze directions are the viewer's."""

MOUTH_LIMITS: Mapping[str, tuple[float, float]] = {
    "open": (-30.0, 120.0),
    "grin": (-20.0, 15.0),
    "purse": (-20.0, 15.0),
    "smile": (-0.3, 1.3),
}
"""Range of each slider in the published editors; beyond it, faces are torn."""

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


def expression_parameters(motion: MotionTrack) -> F32:
    """Return (T, 4) float32, the sliders of :data:`MOUTH` in their units, within :data:`MOUTH_LIMITS`.

    A full ``mouthClose`` cancels any opening by the jaw; ``mouthPress`` presses the lips together further.
    """
    amount = shape_columns(motion)
    shut = np.clip(amount("mouthClose"), 0, 1)
    rolled = np.maximum(amount("mouthRollLower"), 0)
    opening = (130 * amount("jawOpen") + 40 * amount("mouthLowerDown")) * (1 - shut)
    columns = (
        opening - (70 * amount("mouthPress") * shut + 10 * rolled * shut),
        13 * (amount("mouthStretch") + amount("mouthDimple")) + 4 * amount("mouthUpperUp"),
        12 * amount("mouthPucker") + 8 * amount("mouthFunnel") - 4 * rolled,
        amount("mouthSmile") - 0.3 * amount("mouthFrown"),
    )
    low, high = np.array(list(MOUTH_LIMITS.values()), np.float32).T
    return np.clip(np.stack(columns, axis=1).astype(np.float32), low, high)


def upper_face_parameters(motion: MotionTrack) -> F32:
    """Return (T, 6) float32, the sliders of :data:`UPPER_FACE` in their order and units."""
    amount = shape_columns(motion)
    # The person's left is the viewer's right.
    right = amount("eyeLookLeft") - amount("eyeLookRight")
    columns = (
        5 * amount("eyeWide") - 8 * amount("eyeSquint"),
        6 * amount("browInnerUp") + 6 * amount("browOuterUp"),
        10 * amount("browDown"),
        15 * np.maximum(right, 0),
        15 * np.maximum(-right, 0),
        12 * (amount("eyeLookUp") - amount("eyeLookDown")),
    )
    return np.stack(columns, axis=1).astype(np.float32)


def expression_directions(sliders: Mapping[str, Direction], keypoints: int) -> F32:
    """Return (S, keypoints, 3) float32: what one unit of each slider adds to the expression."""
    directions = np.zeros((len(sliders), keypoints, 3), np.float32)
    for row, direction in zip(directions, sliders.values(), strict=True):
        for (keypoint, axis), step in direction.items():
            row[keypoint, "xyz".index(axis)] = step
    return directions


@dataclass(frozen=True, slots=True)
class SourceFace:
    """What retargeting needs of one source; float32, on the networks' device.

    ``info`` is M's result; ``x_s`` (1, K, 3) are the keypoints; ``eye_ratios`` (1, 2) and ``lip_ratio``
    (1, 1) say how far eyes and lips are open; adding ``shut_eyes`` (1, K, 3) shuts the eyes; adding
    ``shut_lips`` (1, K, 3) closes an open mouth, and is zero for a closed one.
    """

    info: KeypointInfo
    x_s: Tensor
    eye_ratios: Tensor
    lip_ratio: Tensor
    shut_eyes: Tensor
    shut_lips: Tensor


def measure_source(
    networks: Networks, info: KeypointInfo, eye_ratios: tuple[float, float], lip_ratio: float
) -> SourceFace:
    """Return a source's keypoints, and how its eyes and lips, open by these ratios, close."""
    x_s = transform_keypoints(info.canonical_kp, info.exp, info.scale, info.translation, info.angles_deg)
    eyes, lips, shut = x_s.new_tensor([eye_ratios]), x_s.new_tensor([[lip_ratio]]), x_s.new_zeros(1, 1)
    shut_eyes = networks.retarget_eyes(x_s, torch.cat([eyes, shut], dim=1))
    shut_lips = networks.retarget_lips(x_s, torch.cat([lips, shut], dim=1))
    if lip_ratio < SPEAKING_LIP_RATIO:
        shut_lips = torch.zeros_like(shut_lips)
    return SourceFace(info, x_s, eyes, lips, shut_eyes, shut_lips)


@dataclass(frozen=True, slots=True)
class DrivenTrack:
    """A motion as LivePortrait's networks take it; float32, on the networks' device.

    ``exp`` (T, K, 3) is added to the source's expression, ``angles_deg`` (T, 3) to its head angles; ``blink``
    (T, 1, 1) in [0, 1] is how far the lids are shut.
    """

    exp: Tensor
    angles_deg: Tensor
    blink: Tensor


def drive_expression(motion: MotionTrack, keypoints: int, device: torch.device) -> DrivenTrack:
    """Return the motion as LivePortrait's networks take it; a motion of zeros gives zeros."""
    mouth = expression_parameters(motion) @ expression_directions(MOUTH, keypoints).reshape(len(MOUTH), -1)
    upper = upper_face_parameters(motion)
    upper = upper @ expression_directions(UPPER_FACE, keypoints).reshape(len(UPPER_FACE), -1)
    blink = np.clip(shape_columns(motion)("eyeBlink"), 0, 1)
    # Positive yaw turns to the viewer's right in MotionTrack, to the left in the network.
    angles_deg = motion.head_pose_deg * np.array([1, -1, 1], np.float32)
    exp = (mouth + upper).reshape(-1, keypoints, 3)
    arrays = (exp, angles_deg, blink.reshape(-1, 1, 1))
    return DrivenTrack(*(torch.from_numpy(array).to(device) for array in arrays))


def driven_keypoints(networks: Networks, source: SourceFace, track: DrivenTrack, rows: slice) -> Tensor:
    """Return x_d (B, K, 3): moved, stitched to the shoulders, then, as published, an open mouth closed."""
    info = source.info
    exp, angles_deg = info.exp + track.exp[rows], info.angles_deg + track.angles_deg[rows]
    x_d = transform_keypoints(info.canonical_kp, exp, info.scale, info.translation, angles_deg)
    x_d = x_d + track.blink[rows] * source.shut_eyes
    return networks.stitch(source.x_s, x_d) + source.shut_lips
