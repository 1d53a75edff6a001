"""Key frames are within the bound, weights are continuous, and the warp moves what it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vortex.engines.liveportrait.fast.reuse import FIELD_PX, HEAD_ALLOWANCE, REACH, displacement, plan_reuse
from vortex.types import F32

EPS = 0.01


def walk(frames: int, step: float, seed: int) -> F32:
    """Return (T, 21, 3): keypoints in a random walk."""
    steps = np.random.default_rng(seed).normal(0, step, (frames, 21, 3))
    return np.cumsum(steps, axis=0).astype(np.float32)


def test_every_frame_has_a_key_frame_within_the_bound() -> None:
    upright = walk(300, 0.002, 1)
    driven = upright + walk(300, 0.004, 2)
    plan = plan_reuse(upright, driven, EPS)
    assert plan.distance_max <= EPS
    assert 0.02 < len(plan.keys) / 300 < 1
    for frame, (keys, weights) in enumerate(plan.shares):
        assert weights.sum() == pytest.approx(1, abs=1e-5) and (weights > 0).all()
        chosen = plan.keys[keys]
        face = np.linalg.norm(upright[chosen] - upright[frame], axis=-1).max(axis=1)
        head = (driven - upright)[..., :2]
        head_px = np.linalg.norm(head[chosen] - head[frame], axis=-1).max(axis=1)
        apart = np.maximum(face, head_px / HEAD_ALLOWANCE)
        assert apart.min() <= EPS * (1 + 1e-5) and apart.max() <= REACH * EPS * (1 + 1e-5)


def test_key_frames_are_not_blended() -> None:
    still = walk(100, 0.003, 3)
    plan = plan_reuse(still, still, EPS)
    for number, frame in enumerate(plan.keys):
        keys, weights = plan.shares[frame]
        assert weights[keys == number] == pytest.approx(1, abs=1e-4)


def test_a_motion_that_repeats_is_rendered_once() -> None:
    once = walk(50, 0.004, 4)
    assert len(plan_reuse(np.tile(once, (6, 1, 1)), np.tile(once, (6, 1, 1)), EPS).keys) == len(
        plan_reuse(once, once, EPS).keys
    )


def test_a_still_face_is_rendered_once() -> None:
    still = np.repeat(walk(1, 0.1, 5), 40, axis=0)
    assert plan_reuse(still, still, EPS).keys.tolist() == [0]


def test_weights_are_continuous() -> None:
    """With eight times smaller steps on the same path weights change less, also where keys enter or leave."""
    path = walk(40, 0.004, 6)
    largest = []
    for refine in (8, 64):
        at = np.linspace(0, 39, 39 * refine + 1)
        fine = np.stack([np.interp(at, np.arange(40), column) for column in path.reshape(40, -1).T], axis=1)
        fine = fine.reshape(-1, 21, 3).astype(np.float32)
        # The coarse path comes first and decides the key frames.
        both = np.concatenate([path, fine])
        plan = plan_reuse(both, both, EPS)
        dense = np.zeros((len(fine), len(plan.keys)))
        for row, (keys, weights) in zip(dense, plan.shares[40:], strict=True):
            row[keys] = weights
        largest.append(np.abs(np.diff(dense, axis=0)).max())
    assert largest[1] < largest[0] / 3


def keypoints(seed: int) -> Tensor:
    return torch.rand(21, 3, generator=torch.Generator().manual_seed(seed)) - 0.5


def at(field: Tensor, x: float, y: float) -> Tensor:
    """Return the field (1, 2, n, n) at a position in [-1, 1]."""
    grid = torch.tensor([[[[x, y]]]])
    return torch.nn.functional.grid_sample(field, grid, align_corners=False).flatten()


def test_nothing_moves_if_the_keypoints_do_not() -> None:
    x = keypoints(1)
    assert displacement(x[None], x).abs().max() < 1e-6


def test_a_moving_head_moves_the_middle_and_not_the_edge() -> None:
    x = keypoints(2)
    shift = torch.tensor([0.03, -0.02, 0.5])
    field = displacement(x[None], x + shift)
    assert field.shape == (1, 2, FIELD_PX, FIELD_PX)
    assert torch.allclose(at(field, 0.1, -0.1), shift[:2], atol=2e-3)
    edge = torch.cat([field[0, :, 0], field[0, :, -1], field[0, :, :, 0], field[0, :, :, -1]], dim=1)
    assert edge.abs().max() < 2e-4


def test_a_turned_head_turns_the_field() -> None:
    angle = torch.tensor(np.deg2rad(4.0), dtype=torch.float32)
    turn = torch.tensor([[torch.cos(angle), torch.sin(angle)], [-torch.sin(angle), torch.cos(angle)]])
    x = keypoints(3)
    turned = torch.cat([x[:, :2] @ turn, x[:, 2:]], dim=1)
    field = displacement(x[None], turned)
    for place in (torch.tensor([0.3, 0.2]), torch.tensor([-0.2, 0.4])):
        # The content of a position was at the position turned back.
        expected = place - place @ turn.T
        assert torch.allclose(at(field, *place.tolist()), expected, atol=2e-3)


def test_nothing_moves_further_than_the_keypoints() -> None:
    x = keypoints(4)
    pulled = x.clone()
    pulled[7, 1] += 0.01
    field = displacement(x[None], pulled)
    assert field.abs().max() <= 0.0105
    assert at(field, *pulled[7, :2].tolist())[1] > 0.003
