"""How much of a driver's motion reaches a portrait, and in which way: of keypoints, and of blendshapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from vortex.errors import InputError
from vortex.types import BLENDSHAPES, F32, F64, FloatArray, KeypointTrack, MotionTrack, read_only

REGIONS = ("all", "expression", "pose", "lips", "eyes")
"""Parts of a face's motion; an expression is everything but the pose of the head."""
SCALINGS = ("expression", "pose")
MOTIONS = ("relative", "absolute")
"""Ways of transfer: what changes from the driver's neutral frame is added; or the driver's own is taken."""
NEUTRAL_EXPRESSION = np.zeros((21, 3), np.float32)
"""Expression (21, 3) in LivePortrait's keypoints of a face at rest with its lips shut, from which a single
driving picture is measured; as published for that purpose, without entries below 0.6 thousandths."""
for _keypoint, _entry in {
    7: (-0.00054, 0.00263, 0.0),
    14: (-0.00083, -0.0018, 0.0),
    17: (-0.00064, -0.00117, 0.00006),
    19: (0.0, -0.01509, -0.00255),
    20: (0.00022, 0.00563, 0.00273),
}.items():
    NEUTRAL_EXPRESSION[_keypoint] = _entry
NEUTRAL_EXPRESSION.flags.writeable = False
_TRACK_ARRAYS = ("exp", "rotation", "scale", "translation", "eye_ratios", "lip_ratio")
_LIPS = ("jaw", "mouth", "tongue", "cheekPuff")
_EYES = ("eye",)


@dataclass(frozen=True, slots=True)
class MotionTransfer:
    """What of a driver's motion a portrait takes over, with the terms of LivePortrait.

    Args:
        region: one of :data:`REGIONS`.
        motion: one of :data:`MOTIONS`.
        scaling: "expression" multiplies the motion from the first frame on by the size of the portrait's
            face over that of the driven one; "pose" does not. Both are the same where the first frame of the
            driver is its neutral one, and the motion is relative.
        eye_retarget, lip_retarget: open eyes or lips as far as the driver's, by LivePortrait's networks.
        stitch: keep shoulders and hair in their places, by LivePortrait's network.
        absolute_lips: take the driver's own lips also in relative motion, as published for speech.
    """

    region: str = "all"
    motion: str = "relative"
    scaling: str = "expression"
    eye_retarget: bool = False
    lip_retarget: bool = False
    stitch: bool = True
    absolute_lips: bool = False

    def __post_init__(self) -> None:
        """Check the names."""
        for name, known in (("region", REGIONS), ("motion", MOTIONS), ("scaling", SCALINGS)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} is {getattr(self, name)!r}; give one of {', '.join(known)}.")

    @property
    def relative(self) -> bool:
        """Whether changes are added to the portrait's own expression and pose."""
        return self.motion == "relative"

    @property
    def moves_head(self) -> bool:
        """Whether the head turns."""
        return self.region in ("all", "pose")

    @property
    def moves_lips(self) -> bool:
        """Whether lips move."""
        return self.region in ("all", "expression", "lips")


@dataclass(frozen=True, slots=True, eq=False)
class KeypointMotion:
    """Keypoints that drive a portrait: the motion of an engine that captures.

    ``amount`` (T,) float32 multiplies each frame's motion, 0 for the portrait as it is; default, 1. ``first``
    is the first frame of the whole motion, a track of one, of which this may be a part.
    """

    track: KeypointTrack
    transfer: MotionTransfer = MotionTransfer()
    amount: F32 | None = None
    first: KeypointTrack | None = None

    def __post_init__(self) -> None:
        """Fill in what is not given; a track without frames needs a neutral one and a first one."""
        if self.first is None and len(self.track):
            object.__setattr__(self, "first", self.track.part(0, 1))
        if self.track.neutral is None and self.first is not None:
            object.__setattr__(self, "track", replace(self.track, neutral=self.first))
        for name, known in (("eye_retarget", self.track.eye_ratios), ("lip_retarget", self.track.lip_ratio)):
            if getattr(self.transfer, name) and known is None:
                raise InputError(
                    f"{name} needs the opening of the driver's {name[:3]}s, which this motion does not tell. "
                    f"Leave {name} out, or give the video that it was made from."
                )
        amount = np.ones(len(self.track)) if self.amount is None else self.amount
        if np.shape(amount) != (len(self.track),):
            raise InputError(
                f"KeypointMotion.amount has shape {np.shape(amount)}; give ({len(self.track)},)."
            )
        object.__setattr__(self, "amount", read_only(amount, np.float32))

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.track)

    @property
    def fps(self) -> Fraction:
        """Frames per second, exact."""
        return self.track.fps

    @property
    def amounts(self) -> F32:
        """The factor (T,) of each frame."""
        assert self.amount is not None
        return self.amount

    def part(self, first: int, frames: int) -> KeypointMotion:
        """Return ``frames`` of the motion, as many as there are, from frame ``first`` on."""
        rows = self.track.part(first, frames)
        return KeypointMotion(rows, self.transfer, self.amounts[first : first + frames], self.first)


@dataclass(frozen=True, slots=True, eq=False)
class KeypointChange:
    """A motion of blendshapes, and what a model for LivePortrait's keypoints changes of its expression.

    ``exp`` (T, 21, 3) float32 is added to the expression that ``face`` gives.
    """

    face: MotionTrack
    exp: F32

    def __post_init__(self) -> None:
        """Check the shape and make the array read-only."""
        if np.shape(self.exp) != (len(self.face), *NEUTRAL_EXPRESSION.shape):
            wanted = (len(self.face), *NEUTRAL_EXPRESSION.shape)
            raise InputError(f"KeypointChange.exp has shape {np.shape(self.exp)}; give {wanted}.")
        object.__setattr__(self, "exp", read_only(self.exp, np.float32))

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.face)

    @property
    def fps(self) -> Fraction:
        """Frames per second, exact."""
        return self.face.fps

    def part(self, first: int, frames: int) -> KeypointChange:
        """Return ``frames`` of the motion, as many as there are, from frame ``first`` on."""
        return KeypointChange(self.face.part(first, frames), self.exp[first : first + frames])


Motion: TypeAlias = MotionTrack | KeypointMotion | KeypointChange
"""What moves a portrait. Every engine takes a MotionTrack; one that captures takes keypoints, too."""


def without_head_motion(motion: Motion) -> Motion:
    """Return the motion with the head held still."""
    if isinstance(motion, MotionTrack):
        return replace(motion, head_pose_deg=np.zeros_like(motion.head_pose_deg))
    if isinstance(motion, KeypointChange):
        still = np.zeros_like(motion.face.head_pose_deg)
        return replace(motion, face=replace(motion.face, head_pose_deg=still))
    if motion.transfer.region == "pose":
        return replace(motion, amount=np.zeros(len(motion), np.float32))
    region = "expression" if motion.transfer.region == "all" else motion.transfer.region
    return replace(motion, transfer=replace(motion.transfer, region=region))


def joined_keypoints(tracks: Sequence[KeypointTrack]) -> KeypointTrack:
    """Return one track of several, one after the other, with the rate and neutral frame of the first.

    Openings are kept if all of them have some.
    """

    def joined(name: str) -> Any:
        parts = [getattr(track, name) for track in tracks]
        return None if any(part is None for part in parts) else np.concatenate(parts)

    arrays = {name: joined(name) for name in _TRACK_ARRAYS}
    return KeypointTrack(**arrays, fps=tracks[0].fps, neutral=tracks[0].neutral)


def resample_keypoints(
    track: KeypointTrack, times_s: FloatArray, wanted_s: FloatArray, fps: Fraction
) -> KeypointTrack:
    """Return the track, whose frames are at ``times_s`` (T,), at ``wanted_s`` (N,), which are ``fps`` apart.

    Numbers are interpolated linearly, rotations too and then brought back to the nearest rotation, which is
    within 0.2 % of the turn for turns up to 20 degrees. Before the first and after the last time, that frame
    holds. The neutral frame stays: the given one, else the first frame of ``track``.
    """
    place = np.interp(wanted_s, times_s, np.arange(len(track)))
    before = np.minimum(place.astype(np.int64), len(track) - 1)
    after = np.minimum(before + 1, len(track) - 1)
    share = (place - before).astype(np.float64)

    def between(values: FloatArray) -> FloatArray:
        part = share.reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray((1 - part) * values[before] + part * values[after])

    return KeypointTrack(
        between(track.exp),
        nearest_rotation(between(track.rotation)),
        between(track.scale),
        between(track.translation),
        fps,
        None if track.eye_ratios is None else between(track.eye_ratios),
        None if track.lip_ratio is None else between(track.lip_ratio),
        track.reference,
    )


def nearest_rotation(matrices: FloatArray) -> F64:
    """Return the rotations (..., 3, 3) nearest to matrices, by their singular values (Kabsch 1976)."""
    left, _, right = np.linalg.svd(np.asarray(matrices, np.float64))
    sign = np.ones(left.shape[:-1])
    sign[..., 2] = np.linalg.det(left @ right)
    return np.asarray((left * sign[..., None, :]) @ right, np.float64)


def transfer_blendshapes(
    motion: MotionTrack, own: F32, transfer: MotionTransfer, amount: FloatArray
) -> MotionTrack:
    """Return the part of a motion that a portrait takes over.

    ``own`` (48,) are the blendshapes with which the portrait looks as in its picture, ``amount`` (T,) the
    factor of each frame.
    """
    shapes = np.tile(own, (len(motion), 1))
    kept = _columns(transfer.region)
    shapes[:, kept] += amount[:, None] * (motion.blendshapes - own)[:, kept]
    pose_deg = motion.head_pose_deg * (amount[:, None] if transfer.moves_head else 0)
    return MotionTrack(np.clip(shapes, -1, 1), pose_deg, motion.fps)


def _columns(region: str) -> list[int]:
    """Return the columns of blendshapes that a region moves."""
    starts: tuple[str, ...] = {"pose": (), "lips": _LIPS, "eyes": _EYES}.get(region, ("",))
    return [column for column, name in enumerate(BLENDSHAPES) if name.startswith(starts)]
