"""Which frames of a motion have to be rendered, and how the others are derived from them.

Speech moves a face in few dimensions and repeats similar poses. Key frames are chosen so that every frame has
one nearby; a frame is then a blend of the key frames near it, each first warped so that its keypoints match
the frame's. Distances are in keypoint units: the square is 2 wide, so 0.004 is one of its 512 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vortex.types import F32

REUSE_DISTANCE = 0.004
"""How far the expression may move a keypoint from where it was rendered: one pixel of 512."""
HEAD_ALLOWANCE = 8.0
"""How many times as far the head may move it, because the warp follows the head."""
REACH = 1.25
"""Key frames contribute up to this many distances away; above 1, so that at least one always does."""
SPREAD = 0.1
"""Standard deviation of a keypoint's influence on the warp, equal to that of the network's heat maps."""
BACKGROUND = 0.1
"""Weight of no movement, where a keypoint at its own position has weight 1."""
BORDER = 0.5
"""Width of the zone in which the head's motion fades to the still edge of the square."""
FIELD_PX = 64
"""Side of the displacement field."""
RIDGE = 1e-4
"""Regularization that keeps the affine fit defined when the keypoints lie on a line."""


@dataclass(frozen=True, slots=True, eq=False)
class ReusePlan:
    """Key frames of a motion and the weights with which every frame blends them.

    ``keys`` (K,) are ascending frame numbers; ``shares`` holds for each frame its key numbers (n,) in 0..K-1
    and their weights (n,) float32, positive, of sum 1; ``distance_max`` is the largest keypoint distance
    between a frame and the nearest of its keys, expression only, keypoint units.
    """

    keys: npt.NDArray[np.intp]
    shares: tuple[tuple[npt.NDArray[np.intp], F32], ...]
    distance_max: float


def plan_reuse(upright: F32, driven: F32, distance: float) -> ReusePlan:
    """Choose key frames so that each frame has one within ``distance``, and the weights of each frame.

    ``upright`` (T, 21, 3) are the keypoints with the head held still, ``driven`` (T, 21, 3) those of the
    frames. The distance between two frames is that of the keypoint which differs most: in space by its
    expression, or in the picture by the head motion divided by :data:`HEAD_ALLOWANCE`.

    A key frame's weight falls to zero at the limit of its reach and rises to one at the key frame itself, so
    weights and picture change continuously with the motion.
    """
    head = (driven - upright)[..., :2] / np.float32(HEAD_ALLOWANCE)
    positions = np.concatenate([upright, head], axis=-1)  # (T, 21, 5)
    keys: list[int] = []
    chosen = np.empty_like(positions)
    for frame, position in enumerate(positions):
        if not keys or _distances(chosen[: len(keys)], position).min() > distance:
            chosen[len(keys)] = position
            keys.append(frame)
    reach, shares, farthest = REACH * distance, [], 0.0
    for position in positions:
        apart = _distances(chosen[: len(keys)], position)
        near = np.flatnonzero(apart < reach)
        closeness = (1 - apart[near] / reach) ** 2 / (apart[near] / reach + 1e-6) ** 2
        shares.append((near, (closeness / closeness.sum()).astype(np.float32)))
        nearest = chosen[near[apart[near].argmin()]]
        farthest = max(farthest, float(np.linalg.norm((nearest - position)[:, :3], axis=-1).max()))
    return ReusePlan(np.array(keys, np.intp), tuple(shares), farthest)


def _distances(chosen: F32, position: F32) -> F32:
    """(K, 21, 5) and (21, 5) -> (K,)."""
    apart = chosen - position
    expression = np.linalg.norm(apart[..., :3], axis=-1)
    head = np.linalg.norm(apart[..., 3:], axis=-1)
    return np.asarray(np.maximum(expression, head).max(axis=1))


def displacement(x_key: Tensor, x_frame: Tensor) -> Tensor:
    """Return (n, 2, 64, 64): how far the content at each position has moved since each key frame.

    ``x_key`` (n, 21, 3) and ``x_frame`` (21, 3) are keypoints; x and y are as in torch's sampling grids. The
    affine motion that fits the keypoints best moves the head, and fades towards the border. The residual of
    each keypoint is spread around it by a convex combination, so nothing moves further than a keypoint does.
    """
    place = x_frame[:, :2]
    moved = place - x_key[..., :2]  # (n, 21, 2)
    basis = torch.cat([place, torch.ones_like(place[:, :1])], dim=1)  # (21, 3)
    normal = basis.T @ basis + RIDGE * torch.eye(3, device=place.device)
    affine = torch.linalg.solve(normal, basis.T @ moved)  # (n, 3, 2)
    rest = moved - basis @ affine
    axis = (torch.arange(FIELD_PX, device=place.device) + 0.5) * (2 / FIELD_PX) - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    cells = torch.stack([x, y, torch.ones_like(x)], dim=-1).view(-1, 3)  # (64 x 64, 3)
    fade = ((1 - cells[:, :2].abs().amax(dim=1, keepdim=True)) / BORDER).clamp(0, 1)
    fade = fade * fade * (3 - 2 * fade)
    apart = (cells[:, None, :2] - place).square().sum(-1)  # (64 x 64, 21)
    influence = torch.exp(apart * (-0.5 / SPREAD**2))
    influence = influence / (influence.sum(dim=1, keepdim=True) + BACKGROUND)
    field: Tensor = fade * (cells @ affine + influence @ rest)  # (n, 64 x 64, 2)
    return field.transpose(1, 2).reshape(len(field), 2, FIELD_PX, FIELD_PX)
