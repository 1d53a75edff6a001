"""Keypoints of a driver moved onto a source, as LivePortrait was published.

Guo et al., 2024, arXiv:2407.03168; which keypoints carry what, and the order of the steps, are those of the
published pipeline. The steps before the networks compute in float64 on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vortex.engines.liveportrait.keypoints import SPEAKING_LIP_RATIO, SourceFace, rotation_matrix
from vortex.engines.liveportrait.networks import KeypointInfo, Networks
from vortex.motion.transfer import KeypointMotion, MotionTransfer
from vortex.types import F64, FloatArray, KeypointTrack

KEYPOINTS = 21
LIPS = (6, 12, 14, 17, 19, 20)
EYES = (11, 13, 15, 16, 18)
_X, _Y, _Z = range(3)


def _absolute_entries() -> npt.NDArray[np.bool_]:
    entries = np.zeros((KEYPOINTS, 3), bool)
    entries[[1, 2, *range(11, KEYPOINTS), 6]] = True
    entries[[3, 4, 9], _Y] = True
    entries[[5, 8, 9], _Z] = True
    return entries


ABSOLUTE = _absolute_entries()
"""(21, 3): what of an expression is independent of the person, and is copied in absolute motion."""


@dataclass(frozen=True, slots=True, eq=False)
class SourceKeypoints:
    """The keypoints of a source: ``scale (canonical @ rotation + exp) + translation``; float64.

    ``canonical`` x_c and ``exp`` (21, 3), ``rotation`` (3, 3), ``translation`` (3,).
    """

    canonical: F64
    exp: F64
    rotation: F64
    scale: float
    translation: F64

    def placed(self) -> F64:
        """Return x_s (21, 3)."""
        return _placed(self.canonical, self.rotation, self.exp, self.scale, self.translation)


def source_keypoints(info: KeypointInfo) -> SourceKeypoints:
    """Return the keypoints of the first picture of M's result."""
    rotation = rotation_matrix(info.angles_deg)
    parts = (info.canonical_kp, info.exp, rotation, info.scale, info.translation)
    canonical, exp, turn, scale, translation = (part[0].double().cpu().numpy() for part in parts)
    return SourceKeypoints(canonical, exp, turn, float(scale[0]), translation)


def moved_entries(transfer: MotionTransfer) -> npt.NDArray[np.bool_]:
    """Return (21, 3): which entries of the expression a transfer changes."""
    if transfer.region in ("all", "expression"):
        return np.ones_like(ABSOLUTE) if transfer.relative else ABSOLUTE.copy()
    rows = {"lips": LIPS, "eyes": EYES}.get(transfer.region, ())
    entries = np.zeros_like(ABSOLUTE)
    entries[list(rows)] = True
    return entries


def transferred_expression(source_exp: F64, track: KeypointTrack, transfer: MotionTransfer) -> F64:
    """Return the expressions (T, 21, 3) of a source (21, 3) that takes over those of a driver."""
    driver = track.exp.astype(np.float64)
    taken = source_exp + driver - track.reference.exp if transfer.relative else driver
    if transfer.absolute_lips:
        taken = taken.copy()
        taken[:, LIPS] = driver[:, LIPS]
    return np.where(moved_entries(transfer), taken, source_exp)


def transferred_pose(
    source: SourceKeypoints, track: KeypointTrack, transfer: MotionTransfer
) -> tuple[F64, F64, F64]:
    """Return rotation (T, 3, 3), scale (T,) and translation (T, 3) of a source that moves as a driver does.

    In relative motion the head turns by R_d R_ref^T, before the source's own rotation; only with the region
    "all" its size follows.
    """
    frames = len(track)
    rotation = np.tile(source.rotation, (frames, 1, 1))
    scale, translation = np.full(frames, source.scale), np.tile(source.translation, (frames, 1))
    reference = track.reference
    if transfer.moves_head:
        shift = track.translation.astype(np.float64)
        if transfer.relative:
            rotation = track.rotation @ reference.rotation[0].T @ source.rotation
            translation = source.translation + shift - reference.translation
        else:
            rotation, translation = np.array(track.rotation), shift
    if transfer.region == "all" and transfer.relative:
        scale = source.scale * track.scale.astype(np.float64) / reference.scale
    return rotation, scale, translation


def transferred_keypoints(source: SourceKeypoints, motion: KeypointMotion) -> F64:
    """Return x_d (T, 21, 3) of every frame, before retargeting, stitching and the factors of the frames."""
    placed = _transferred(source, motion.track, motion.transfer)
    transfer = motion.transfer
    if transfer.scaling == "expression" and transfer.relative and motion.first is not None:
        x_s = source.placed()
        first = replace(motion.first, neutral=motion.track.reference)
        start = _transferred(source, first, transfer)[0]
        placed = x_s + (placed - start) * np.sqrt(hull_volume(x_s) / hull_volume(start))
    return placed


def _transferred(source: SourceKeypoints, track: KeypointTrack, transfer: MotionTransfer) -> F64:
    exp = transferred_expression(source.exp, track, transfer)
    rotation, scale, translation = transferred_pose(source, track, transfer)
    return _placed(source.canonical, rotation, exp, scale[:, None, None], translation[:, None])


def _placed(canonical: F64, rotation: F64, exp: F64, scale: F64 | float, translation: F64) -> F64:
    """Return scale (canonical @ rotation + exp) + translation, whose z is dropped."""
    return np.asarray(scale * (canonical @ rotation + exp) + translation * [1, 1, 0], np.float64)


def hull_volume(points: FloatArray) -> float:
    """Return the volume of the convex hull of points (N, 3), no four of which lie in a plane of its surface.

    A triple of points is a face of the hull if all other points lie on one side of it.
    """
    points = np.asarray(points, np.float64) - np.mean(points, axis=0)
    a, b, c = points[np.array(list(combinations(range(len(points)), 3)))].swapaxes(0, 1)
    normal = np.cross(b - a, c - a)
    height = normal @ points.T - (normal * a).sum(axis=1, keepdims=True)
    slack = 1e-9 * np.abs(height).max()
    faces = (height <= slack).all(axis=1) | (height >= -slack).all(axis=1)
    # Each face and the mean of the points, which lies inside, span a tetrahedron.
    return float(np.abs((a * np.cross(b, c)).sum(axis=1))[faces].sum() / 6)


def closes_lips_first(motion: KeypointMotion) -> bool:
    """Return whether an open mouth of the source is closed, so that it is shut where the driver's is.

    As published, only if lips move by changes and no network sets their opening; in addition, not if the
    driver's mouth is open, too, in the frame from which changes are measured.
    """
    transfer, start = motion.transfer, motion.track.reference.lip_ratio
    changes = transfer.relative and (not transfer.absolute_lips or transfer.scaling == "expression")
    shut = start is None or float(start[0]) < SPEAKING_LIP_RATIO
    set_by_network = transfer.eye_retarget or transfer.lip_retarget
    return changes and transfer.moves_lips and shut and not set_by_network


def finish_keypoints(networks: Networks, source: SourceFace, x_d: Tensor, motion: KeypointMotion) -> Tensor:
    """Return x_d (B, 21, 3) of :func:`transferred_keypoints` as W takes it; ``motion`` are the same B frames.

    The order is the published one: eye and lip networks, stitching, closed lips, the factor of each frame.
    The networks' results replace relative motion, and are added to absolute motion.
    """
    transfer, x_s = motion.transfer, source.x_s
    if transfer.eye_retarget or transfer.lip_retarget:
        x_d = (x_s.expand_as(x_d) if transfer.relative else x_d) + retargeting(networks, source, motion)
    if transfer.stitch:
        x_d = networks.stitch(x_s, x_d)
    if closes_lips_first(motion):
        x_d = x_d + source.shut_lips
    amounts = torch.tensor(motion.amounts, device=x_s.device)[:, None, None]
    return x_s + (x_d - x_s) * amounts


def retargeting(networks: Networks, source: SourceFace, motion: KeypointMotion) -> Tensor:
    """Return (B, 21, 3): what opens eyes and lips as far as the driver's; both eyes follow its left one.

    "Left" is on the left of the picture, as published.
    """
    track, transfer = motion.track, motion.transfer
    x_s = source.x_s.expand(len(track), -1, -1)
    delta = torch.zeros_like(x_s)
    if transfer.eye_retarget and track.eye_ratios is not None:
        wanted = torch.tensor(track.eye_ratios[:, :1], device=x_s.device)
        own = source.eye_ratios.expand(len(track), -1)
        delta = delta + networks.retarget_eyes(x_s, torch.cat([own, wanted], dim=1))
    if transfer.lip_retarget and track.lip_ratio is not None:
        wanted = torch.tensor(track.lip_ratio[:, None], device=x_s.device)
        own = source.lip_ratio.expand(len(track), -1)
        delta = delta + networks.retarget_lips(x_s, torch.cat([own, wanted], dim=1))
    return delta


def transfer_notes(motion: KeypointMotion) -> tuple[str, ...]:
    """Return what a user should know of a transfer."""
    transfer, notes = motion.transfer, []
    if not transfer.relative:
        return ()
    if transfer.eye_retarget or transfer.lip_retarget:
        notes.append("with retargeting, relative motion moves eyes and lips only; absolute motion adds to it")
    elif len(motion) and transfer.moves_lips and not closes_lips_first(motion) and not transfer.absolute_lips:
        notes.append("the driver starts with open lips, from which relative motion is measured")
    return tuple(notes)
