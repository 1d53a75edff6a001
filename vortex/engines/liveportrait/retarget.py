"""Blendshapes and head pose to LivePortrait's expression space; the table stands in docs/liveportrait.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vortex.engines.liveportrait.keypoints import transform_keypoints
from vortex.engines.liveportrait.networks import KeypointInfo, Networks
from vortex.types import BLENDSHAPE_INDEX, MotionTrack

F32 = npt.NDArray[np.float32]
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
"""Slider -> what one unit of it adds to which axis of which keypoint's expression.

The sliders and their coefficients are those of the expression editors published with and for LivePortrait
(its Gradio page; ComfyUI-AdvancedLivePortrait), where many hands have tried them.
"""
_LIDS: Direction = {
    (11, "y"): -1e-3, (13, "y"): 3e-4, (15, "y"): -1e-3, (16, "y"): 3e-4, (1, "y"): -2.5e-4, (2, "y"): 2.5e-4,
}  # fmt: skip
UPPER_FACE: Mapping[str, Direction] = {
    "lids": _LIDS,
    "brows_up": {(1, "y"): 1e-3, (2, "y"): -1e-3},
    "brows_down": {(1, "x"): 1e-3, (2, "x"): -1e-3, (1, "y"): -3e-4, (2, "y"): 3e-4},
    "gaze_right": {(11, "x"): 7e-4, (15, "x"): 1e-3},
    "gaze_left": {(11, "x"): -1e-3, (15, "x"): -7e-4},
    # the editors let half a unit of the lids go against each unit of gaze
    "gaze_up": {key: (-1e-3 if key[0] in (11, 15) else 0.0) - 0.5 * step for key, step in _LIDS.items()},
}
"""Like :data:`MOUTH`. ``lids`` > 0 opens them further; gaze is in the picture, as the viewer sees it."""

MOUTH_LIMITS: Mapping[str, tuple[float, float]] = {
    "open": (-30.0, 120.0),
    "grin": (-20.0, 15.0),
    "purse": (-20.0, 15.0),
    "smile": (-0.3, 1.3),
}
"""Range of each slider in the published editors; beyond it, faces tear."""

SPEAKING_LIP_RATIO = 0.03
"""A source whose lips are further open is first closed, as the published pipeline does."""


def expression_parameters(motion: MotionTrack) -> F32:
    """Return (T, 4) float32, the sliders :data:`MOUTH` in their order and units, within :data:`MOUTH_LIMITS`.

    A full ``mouthClose`` leaves nothing of an opening, whatever the jaw does, and ``mouthPress`` presses the
    lips beyond touching.
    """
    amount = _Columns(motion)
    parameters = np.empty((len(motion), len(MOUTH)), np.float32)
    open_, grin, purse, smile = parameters.T
    shut = np.clip(amount("mouthClose"), 0, 1)
    open_[:] = (130 * amount("jawOpen") + 40 * amount("mouthLowerDown")) * (1 - shut)
    open_ -= 70 * amount("mouthPress") * shut + 10 * amount("mouthRollLower") * shut
    grin[:] = 13 * amount("mouthStretch") + 4 * amount("mouthUpperUp")
    purse[:] = 12 * amount("mouthPucker") + 8 * amount("mouthFunnel") - 4 * amount("mouthRollLower")
    smile[:] = amount("mouthSmile") - 0.3 * amount("mouthFrown")
    low, high = np.array(list(MOUTH_LIMITS.values()), np.float32).T
    return np.asarray(np.clip(parameters, low, high, out=parameters))


def upper_face_parameters(motion: MotionTrack) -> F32:
    """Return (T, 6) float32, the sliders :data:`UPPER_FACE` in their order and units."""
    amount = _Columns(motion)
    # the person's left is the viewer's right
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


class _Columns:
    """Looks up (T,) blendshape columns; a name that exists in Left and Right only means their mean."""

    def __init__(self, motion: MotionTrack) -> None:
        self.shapes = motion.blendshapes

    def __call__(self, name: str) -> F32:
        names = [name] if name in BLENDSHAPE_INDEX else [name + "Left", name + "Right"]
        return np.asarray(self.shapes[:, [BLENDSHAPE_INDEX[n] for n in names]].mean(axis=1))


def expression_directions(sliders: Mapping[str, Direction], keypoints: int) -> F32:
    """Return (S, keypoints, 3) float32: what one unit of each slider adds to the expression."""
    directions = np.zeros((len(sliders), keypoints, 3), np.float32)
    for row, direction in zip(directions, sliders.values(), strict=True):
        for (keypoint, axis), step in direction.items():
            row[keypoint, "xyz".index(axis)] = step
    return directions


@dataclass(frozen=True, slots=True)
class SourceFace:
    """What the retargeting knows about one source; float32, on the device of the networks.

    ``info`` what M says; ``x_s`` (1, K, 3); ``shut_eyes`` (1, K, 3) moves the lids of this very face from
    where they are to shut; ``shut_lips`` (1, K, 3) closes an open mouth, zero for one that is closed.
    """

    info: KeypointInfo
    x_s: Tensor
    shut_eyes: Tensor
    shut_lips: Tensor


def measure_source(
    networks: Networks, info: KeypointInfo, eye_ratios: tuple[float, float], lip_ratio: float
) -> SourceFace:
    """Ask the retargeting networks once per portrait how its eyes and lips close.

    The ratios are those of :mod:`vortex.engines.liveportrait.keypoints`, measured on the source picture.
    """
    x_s = transform_keypoints(info.canonical_kp, info.exp, info.scale, info.translation, info.angles_deg)
    shut_eyes = networks.retarget_eyes(x_s, x_s.new_tensor([[*eye_ratios, 0.0]]))
    shut_lips = networks.retarget_lips(x_s, x_s.new_tensor([[lip_ratio, 0.0]]))
    if lip_ratio < SPEAKING_LIP_RATIO:
        shut_lips = torch.zeros_like(shut_lips)
    return SourceFace(info, x_s, shut_eyes, shut_lips)


@dataclass(frozen=True, slots=True)
class DrivenTrack:
    """Every frame of a motion in LivePortrait's terms; float32, on the device of the networks.

    ``exp`` (T, K, 3) is added to the source's expression, ``angles_deg`` (T, 3) to its head angles; ``blink``
    (T, 1, 1) in [0, 1] is the share of shut lids.
    """

    exp: Tensor
    angles_deg: Tensor
    blink: Tensor

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.exp)


def drive_expression(motion: MotionTrack, keypoints: int, device: torch.device) -> DrivenTrack:
    """Return the motion in LivePortrait's terms; a motion of zeros gives zeros."""
    mouth = expression_parameters(motion) @ expression_directions(MOUTH, keypoints).reshape(len(MOUTH), -1)
    upper = upper_face_parameters(motion)
    upper = upper @ expression_directions(UPPER_FACE, keypoints).reshape(len(UPPER_FACE), -1)
    blink = np.clip(_Columns(motion)("eyeBlink"), 0, 1)
    # yaw counts to the viewer's right with us, to the left in the network
    angles_deg = motion.head_pose_deg * np.array([1, -1, 1], np.float32)

    def to_device(array: F32, *shape: int) -> Tensor:
        return torch.from_numpy(array.reshape(shape)).to(device)

    return DrivenTrack(
        exp=to_device(mouth + upper, -1, keypoints, 3),
        angles_deg=to_device(angles_deg, -1, 3),
        blink=to_device(blink, -1, 1, 1),
    )


def driven_keypoints(networks: Networks, source: SourceFace, track: DrivenTrack, rows: slice) -> Tensor:
    """Return x_d (B, K, 3) of some frames: moved, stitched to the shoulders, and an open source mouth closed.

    The order is that of the published pipeline, where the lips are normalised after the stitching.
    """
    info = source.info
    x_d = transform_keypoints(
        info.canonical_kp,
        info.exp + track.exp[rows],
        info.scale,
        info.translation,
        info.angles_deg + track.angles_deg[rows],
    )
    x_d = x_d + track.blink[rows] * source.shut_eyes
    return networks.stitch(source.x_s, x_d) + source.shut_lips
