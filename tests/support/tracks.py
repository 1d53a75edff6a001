"""Keypoints of an invented face that moves, for tests of what drives a portrait."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from vortex.types import F64, KeypointTrack


def turn(pitch_deg: float, yaw_deg: float, roll_deg: float) -> F64:
    """Return (Rz Ry Rx)^T, (3, 3), written out with scipy's rotations, which LivePortrait uses as x @ R."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_euler("xyz", [pitch_deg, yaw_deg, roll_deg], degrees=True).as_matrix().T)


def moving_track(frames: int = 6, seed: int = 1, fps: int = 25) -> KeypointTrack:
    """Return a track in which everything changes from frame to frame."""
    random = np.random.default_rng(seed)
    return KeypointTrack(
        random.normal(0, 0.01, (frames, 21, 3)),
        np.stack([turn(*angles) for angles in random.uniform(-12, 12, (frames, 3))]),
        1.4 + random.normal(0, 0.05, frames),
        random.normal(0, 0.05, (frames, 3)),
        Fraction(fps),
        random.uniform(0.05, 0.4, (frames, 2)),
        random.uniform(0.0, 0.02, frames),
    )
