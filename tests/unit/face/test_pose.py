"""Rotations and head poses are two ways to say the same, with the signs of MotionTrack."""

from __future__ import annotations

import numpy as np

from vortex.face.pose import pose_of_rotation, rotation_of_pose


def test_a_pose_survives_the_way_through_its_rotation() -> None:
    poses = np.random.default_rng(3).uniform(-60, 60, (200, 3))
    rotations = rotation_of_pose(poses)
    np.testing.assert_allclose(pose_of_rotation(rotations), poses, atol=1e-9)
    np.testing.assert_allclose(
        rotations @ rotations.swapaxes(1, 2), np.tile(np.eye(3), (200, 1, 1)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(rotations), 1)


def test_signs_are_those_of_a_motion() -> None:
    nose = [0.0, 0.0, 1.0]
    looks_down, turns_right, tilts = np.eye(3) * 20
    # x right, y up, z towards the viewer
    assert (rotation_of_pose(looks_down) @ nose)[1] < -0.3
    assert (rotation_of_pose(turns_right) @ nose)[0] > 0.3
    top = rotation_of_pose(tilts) @ [0.0, 1.0, 0.0]
    assert top[0] > 0.3, "clockwise, the top of the head goes to the viewer's right"
