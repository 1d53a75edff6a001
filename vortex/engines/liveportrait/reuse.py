"""Frames from frames: which ones have to be rendered, and how the others follow from them.

Speech moves a face in few dimensions and comes back to the same places. A motion is covered by key frames, so
that every frame has one nearby; a frame is then the blend of the key frames round it, each first warped so
that its keypoints lie where the frame's are. Distances are in the network's keypoint units: the rendered
square is 2 wide, so that 0.004 is one of its 512 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

F32 = npt.NDArray[np.float32]

REUSE_DISTANCE = 0.004
"""How far a keypoint may be from where it was rendered, because of the expression: one pixel of 512."""
HEAD_ALLOWANCE = 8.0
"""How many times as far it may be because of the head, whose motion the warp follows."""
REACH = 1.25
"""Key frames take part up to this many distances away; more than 1, so that one always does."""
SPREAD = 0.1
"""Standard deviation of a keypoint's influence on the warp; that of the network's own heat maps."""
BACKGROUND = 0.1
"""Weight of staying still, against 1 for a keypoint on the spot."""
BORDER = 0.5
"""Width of the zone in which the head's motion fades to the still edge of the square."""
FIELD_PX = 64
RIDGE = 1e-4
"""Keeps the affine fit defined when keypoints lie on a line."""


@dataclass(frozen=True, slots=True, eq=False)
class ReusePlan:
    """Key frames of a motion and what every frame takes from them.

    ``keys`` (K,) ascending frame numbers; ``shares`` holds for each frame its key numbers (n,) in 0..K-1 and
    their weights (n,) float32, positive, of sum 1; ``distance_max`` is the largest keypoint distance between
    a frame and the nearest of its keys, expression only, keypoint units.
    """

    keys: npt.NDArray[np.intp]
    shares: tuple[tuple[npt.NDArray[np.intp], F32], ...]
    distance_max: float

    @property
    def share_rendered(self) -> float:
        """Key frames over frames."""
        return len(self.keys) / max(len(self.shares), 1)


def plan_reuse(upright: F32, driven: F32, distance: float = REUSE_DISTANCE) -> ReusePlan:
    """Choose key frames so that each frame has one within ``distance``.

    ``upright`` (T, 21, 3) are the keypoints with the head held still, ``driven`` (T, 21, 3) those of the
    frames, keypoint units. The distance between two frames is that of the keypoint which differs most: by its
    expression in space, or by its head motion in the picture over :data:`HEAD_ALLOWANCE`.

    Weights fall to zero where a key frame gets out of reach and grow to one where it is met, so that they,
    and the picture, change without a jump when the motion does.
    """
    head = (driven - upright)[..., :2] / np.float32(HEAD_ALLOWANCE)
    places = np.concatenate([upright, head], axis=-1)  # (T, 21, 5)
    keys: list[int] = []
    chosen = np.empty_like(places)
    for frame, place in enumerate(places):
        if not keys or _distances(chosen[: len(keys)], place).min() > distance:
            chosen[len(keys)] = place
            keys.append(frame)
    reach, shares, farthest = REACH * distance, [], 0.0
    for place in places:
        apart = _distances(chosen[: len(keys)], place)
        near = np.flatnonzero(apart < reach)
        closeness = (1 - apart[near] / reach) ** 2 / (apart[near] / reach + 1e-6) ** 2
        shares.append((near, (closeness / closeness.sum()).astype(np.float32)))
        nearest = chosen[near[apart[near].argmin()]]
        farthest = max(farthest, float(np.linalg.norm((nearest - place)[:, :3], axis=-1).max()))
    return ReusePlan(np.array(keys, np.intp), tuple(shares), farthest)


def _distances(chosen: F32, place: F32) -> F32:
    """(K, 21, 5) and (21, 5) -> (K,)."""
    apart = chosen - place
    expression = np.linalg.norm(apart[..., :3], axis=-1)
    head = np.linalg.norm(apart[..., 3:], axis=-1)
    return np.asarray(np.maximum(expression, head).max(axis=1))


def displacement(x_key: Tensor, x_frame: Tensor) -> Tensor:
    """Return (n, 2, 64, 64): for each place of a frame, how far its content has come since a key frame.

    ``x_key`` (n, 21, 3) and ``x_frame`` (21, 3) are keypoints; x and y as in the sampling grids of torch. The
    affine motion that carries the keypoints best moves the head, and fades towards the border. What it leaves
    is spread round each keypoint as a convex combination, so that nothing moves further than a keypoint does.
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
