"""Turns follow trigonometry on a sphere and a plane, near parts hide far ones, and nothing folds."""

from __future__ import annotations

import numpy as np
import pytest

from vortex.engines.mesh.field import grid
from vortex.engines.mesh.head import Head
from vortex.engines.mesh.turn import (
    FREE_POSE_DEG,
    LARGEST_POSE_DEG,
    moved_height,
    rotation_matrix,
    shown_pose_deg,
    turn_cells,
    turn_points,
)
from vortex.face.detection import Face
from vortex.face.landmarks import LANDMARKS
from vortex.types import F32

ROWS, COLS = 90, 100
CELLS = grid(ROWS, COLS)
PIVOT = np.array([48.0, 46.0], np.float32)
STILL = np.zeros((ROWS, COLS, 2), np.float32)
EVERYTHING = np.ones((ROWS, COLS, 2), np.float32)
POSES = [(0, 12, 0), (0, -12, 0), (10, 0, 0), (-10, 0, 0), (0, 0, 8), (6, -9, 5), (-8, 12, -8)]


def head(height: np.ndarray, follow: F32 = EVERYTHING) -> Head:
    ceiling = np.full((ROWS, COLS), height.max(), np.float32)
    return Head(height.astype(np.float32), ceiling, follow, EVERYTHING, PIVOT)


def truth(points: np.ndarray, height: np.ndarray, pose_deg: tuple[float, float, float]) -> np.ndarray:
    """Return where points (N, 2) of a rigid body with ``height`` (N,) are seen after a turn about PIVOT."""
    spatial = np.concatenate([points - PIVOT, height[:, None]], axis=1)
    return (spatial @ rotation_matrix(np.array(pose_deg)).T)[:, :2] + PIVOT


@pytest.mark.parametrize("pose_deg", POSES)
def test_a_turn_is_a_rotation_that_a_portrait_s_pose_reports(pose_deg: tuple[float, float, float]) -> None:
    rotation = rotation_matrix(np.array(pose_deg))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    # The rotation of a detected face has y up.
    up = np.diag([1.0, -1.0, 1.0])
    face = Face(np.zeros((LANDMARKS, 3), np.float32), np.zeros(52, np.float32), up @ rotation @ up)
    np.testing.assert_allclose(face.head_pose_deg, pose_deg, atol=1e-3)


@pytest.mark.parametrize(
    ("pose_deg", "point", "goes"),
    [((0, 12, 0), (0, 0, 1), (1, 0)), ((10, 0, 0), (0, 0, 1), (0, 1)), ((0, 0, 8), (0, -1, 0), (1, 0))],
    ids=["the nose to the viewer's right", "the nose down", "the top clockwise"],
)
def test_signs_are_those_of_a_motion_track(
    pose_deg: tuple[float, float, float], point: tuple[float, float, float], goes: tuple[float, float]
) -> None:
    moved = (rotation_matrix(np.array(pose_deg)) @ point - point)[:2]
    np.testing.assert_allclose(moved @ goes, np.sin(np.radians(max(pose_deg))), atol=1e-9)


@pytest.mark.parametrize("pose_deg", POSES)
def test_a_sphere_turns_as_trigonometry_says(pose_deg: tuple[float, float, float]) -> None:
    radius = 30.0
    from_pivot = (CELLS - PIVOT).reshape(-1, 2).astype(np.float64)
    height = np.sqrt(np.maximum(radius**2 - (from_pivot**2).sum(axis=1), 0))
    ball = head(height.reshape(ROWS, COLS))
    rotation = rotation_matrix(np.array(pose_deg))
    seen = turn_cells(CELLS, ball, ball.height, rotation).reshape(-1, 2)
    # A sphere covers the same cells after the turn; what is seen there comes from the inverse rotation.
    before = np.concatenate([from_pivot, height[:, None]], axis=1) @ rotation
    inside = (np.hypot(*from_pivot.T) < 0.85 * radius) & (np.hypot(*before[:, :2].T) < 0.85 * radius)
    assert inside.sum() > 1000
    assert np.abs(seen - (before[:, :2] + PIVOT))[inside].max() < 0.2
    at = np.array([[48, 46], [55, 40], [35, 50], [50, 60]], np.float32)
    moved = turn_points(at, ball, ball.height, rotation)
    z = np.sqrt(radius**2 - ((at - PIVOT) ** 2).sum(axis=1))
    np.testing.assert_allclose(moved, truth(at, z, pose_deg), atol=0.05)


@pytest.mark.parametrize("pose_deg", POSES)
def test_cells_and_points_of_a_slanted_plane_agree_with_each_other_and_the_truth(
    pose_deg: tuple[float, float, float],
) -> None:
    height = 12 + 0.3 * (CELLS[..., 0] - 50) - 0.2 * (CELLS[..., 1] - 45)
    plane = head(np.maximum(height, 0))
    rotation = rotation_matrix(np.array(pose_deg))
    at = np.array([[40, 40], [60, 30], [45, 60], [65, 55]], np.float32)
    z = 12 + 0.3 * (at[:, 0] - 50) - 0.2 * (at[:, 1] - 45)
    moved = turn_points(at, plane, plane.height, rotation)
    np.testing.assert_allclose(moved, truth(at, z, pose_deg), atol=0.05)
    seen = turn_cells(CELLS, plane, plane.height, rotation)
    for target, source in zip(moved, at, strict=True):
        column, row = np.floor(target).astype(int)
        right, down = target - [column, row]
        near = seen[row : row + 2, column : column + 2]
        between = np.array([1 - down, down]) @ np.stack([near[:, 0] * (1 - right) + near[:, 1] * right], 0)[0]
        np.testing.assert_allclose(between, source, atol=0.1)


def test_a_roll_moves_points_clockwise_along_circles() -> None:
    flat = head(np.zeros((ROWS, COLS)))
    at = np.array([[48, 10], [70, 46], [30, 60]], np.float32)
    moved = turn_points(at, flat, flat.height, rotation_matrix(np.array([0.0, 0, 8])))
    before, after = at - PIVOT, moved - PIVOT
    np.testing.assert_allclose(np.hypot(*after.T), np.hypot(*before.T), atol=1e-3)
    angle = np.degrees(np.arctan2(after[:, 1], after[:, 0]) - np.arctan2(before[:, 1], before[:, 0]))
    np.testing.assert_allclose(angle, 8, atol=1e-3)


@pytest.mark.parametrize("pose_deg", POSES)
def test_what_does_not_follow_stays(pose_deg: tuple[float, float, float]) -> None:
    flat = head(np.zeros((ROWS, COLS)), STILL)
    seen = turn_cells(CELLS, flat, flat.height, rotation_matrix(np.array(pose_deg)))
    np.testing.assert_allclose(seen, CELLS, atol=1e-3)


@pytest.mark.parametrize("yaw_deg", [12.0, -12.0, 20.0])
def test_a_steep_nose_hides_the_cheek_behind_it_and_nothing_folds(yaw_deg: float) -> None:
    x, y = CELLS[..., 0], CELLS[..., 1]
    nose = head(5 + 24 * np.exp(-(((x - 50) / 3.2) ** 2) - ((y - 45) / 12) ** 2), STILL)
    rotation = rotation_matrix(np.array([0.0, yaw_deg, 0]))
    seen = turn_cells(CELLS, nose, nose.height, rotation)
    assert np.isfinite(seen).all()
    assert np.diff(seen[..., 0], axis=1).min() > -0.05
    # Without rotation in the plane, a point with height h arrives h tan(yaw) aside; the highest one is seen.
    fine = np.arange(0, COLS - 1, 0.01)
    for row in (30, 45, 55):
        height = np.interp(fine, np.arange(COLS), nose.height[row])
        arrives = fine + np.tan(np.radians(yaw_deg)) * height
        column = np.round(arrives).astype(int)
        expected = {}
        for index in np.argsort(height, kind="stable"):
            if abs(arrives[index] - column[index]) < 0.02:
                expected[column[index]] = fine[index]
        targets = [at for at in expected if 10 <= at < COLS - 10]
        errors = np.abs(seen[row, targets, 0] - [expected[at] for at in targets])
        # The contour of the nose itself is soft, over two cells.
        assert np.sort(errors)[-3] < 0.5
    # Folding means that somewhere the surface is steeper than the line of sight.
    steepest = np.abs(np.diff(nose.height, axis=1)).max() * np.tan(np.radians(abs(yaw_deg)))
    assert steepest > 1 and np.diff(seen[45, :, 0]).max() > 3


def test_the_chin_takes_its_depth_along() -> None:
    bump = head(20 * np.exp(-(((CELLS - [50, 60]) / 8) ** 2).sum(axis=2)))
    backward = np.zeros((ROWS, COLS, 2), np.float32)
    backward[..., 1] = -5
    height = moved_height(CELLS, backward, bump, rotation_matrix(np.array([0.0, 12, 0])))
    assert np.unravel_index(height.argmax(), height.shape) == (65, 50)


def test_motion_across_an_edge_fades_and_along_it_does_not() -> None:
    edges = EVERYTHING.copy()
    edges[0, :, 1] = 0
    flat = head(np.full((ROWS, COLS), 10.0))
    at_top = Head(flat.height, flat.ceiling, flat.follow, edges, PIVOT)
    pitched = moved_height(CELLS, STILL, at_top, rotation_matrix(np.array([10.0, 0, 0])))
    yawed = moved_height(CELLS, STILL, at_top, rotation_matrix(np.array([0.0, 12, 0])))
    assert (pitched[0] == 0).all() and (pitched[1:] == 10).all()
    assert (yawed == 10).all()


def test_small_turns_are_shown_as_commanded_and_large_ones_stay_below_the_limit() -> None:
    poses = np.linspace(-90, 90, 721, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    shown = shown_pose_deg(poses)
    free = np.abs(poses) <= FREE_POSE_DEG
    np.testing.assert_array_equal(shown[free], poses[free])
    assert (np.abs(shown) <= LARGEST_POSE_DEG).all()
    assert (np.diff(shown, axis=0) >= 0).all(), "more is never shown as less"
    assert np.abs(np.diff(shown, n=2, axis=0)).max() < 0.03, "there is no kink"
