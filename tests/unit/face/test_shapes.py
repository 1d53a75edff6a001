"""Similarities are found as by scikit-image, fits equal SciPy's, shapes move a face as their names say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import lsq_linear
from skimage.transform import estimate_transform

from vortex.face.landmarks import CHIN, INNER_LIPS, LIDS, MOUTH_CORNERS, NOSE_TIP, OUTER_EYE_CORNERS
from vortex.face.shapes import (
    FIT_RIDGE,
    fit_amounts,
    fit_person,
    landmark_weights,
    load_shapes,
    similarity,
    without_pose,
)
from vortex.types import BLENDSHAPES


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_known_similarity_is_found(dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    points = rng.normal(0, 1, (30, dimensions))
    rotation, _ = np.linalg.qr(rng.normal(0, 1, (dimensions, dimensions)))
    rotation[:, 0] *= np.linalg.det(rotation)
    shift = rng.normal(0, 5, dimensions)
    scale, found, moved = similarity(points, 2.5 * points @ rotation.T + shift)
    assert scale == pytest.approx(2.5)
    np.testing.assert_allclose(found, rotation, atol=1e-9)
    np.testing.assert_allclose(moved, shift, atol=1e-9)


def test_noisy_points_give_the_similarity_of_scikit_image() -> None:
    rng = np.random.default_rng(5)
    points = rng.normal(0, 1, (30, 2))
    target = points @ [[0.8, 0.6], [-0.6, 0.8]] + rng.normal(0, 0.3, (30, 2))
    oracle = estimate_transform("similarity", points, target).params
    scale, rotation, shift = similarity(points, target)
    np.testing.assert_allclose(scale * rotation, oracle[:2, :2], atol=1e-9)
    np.testing.assert_allclose(shift, oracle[:2, 2], atol=1e-9)


def test_the_template_is_a_frontal_face_of_outer_eye_width_one() -> None:
    template = load_shapes().template
    right, left = template[list(OUTER_EYE_CORNERS)]
    assert np.linalg.norm(left - right) == pytest.approx(1, abs=0.01)
    # x right, y down, z away from the viewer
    assert right[0] < 0 < left[0]
    assert template[CHIN, 1] > template[INNER_LIPS[1], 1] > right[1]
    assert template[NOSE_TIP, 2] < template[CHIN, 2] - 0.3


def test_every_shape_is_a_blendshape_and_the_mirror_image_of_its_other_side() -> None:
    shapes = load_shapes()
    assert set(shapes.names) <= set(BLENDSHAPES)
    pairs = {"eye": (LIDS["Left"][0][4], LIDS["Right"][0][4]), "mouth": MOUTH_CORNERS[::-1]}
    for name, move in zip(shapes.names, shapes.moves, strict=True):
        if name.endswith("Left") and name.startswith(tuple(pairs)) and name != "mouthLeft":
            left, right = pairs["eye" if name.startswith("eye") else "mouth"]
            other = shapes.columns((name.replace("Left", "Right"),))[0]
            np.testing.assert_allclose(move[left], other[right] * [-1, 1, 1], atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    ("name", "landmark", "direction"),
    [
        ("jawOpen", CHIN, (0, 1)),
        ("mouthSmileLeft", MOUTH_CORNERS[1], (1, -1)),
        ("mouthFrownRight", MOUTH_CORNERS[0], (0, 1)),
        ("mouthPucker", MOUTH_CORNERS[0], (1, 0)),
        ("mouthStretchLeft", MOUTH_CORNERS[1], (1, 0)),
        ("mouthRollLower", 17, (0, -1)),
        ("mouthUpperUpLeft", 310, (0, -1)),
        ("mouthLowerDownRight", 88, (0, 1)),
        ("browInnerUp", 107, (0, -1)),
        ("browDownLeft", 334, (0, 1)),
        ("eyeBlinkLeft", 386, (0, 1)),
        ("jawLeft", CHIN, (1, 0)),
    ],
)
def test_a_shape_moves_the_face_as_its_name_says(
    name: str, landmark: int, direction: tuple[int, int]
) -> None:
    # The person's left is the viewer's right, where x is positive; y is down.
    moved = load_shapes().columns((name,))[0, landmark]
    assert moved[:2] @ direction > 0.015


def test_bounded_amounts_are_those_of_scipy() -> None:
    shapes = load_shapes()
    rng = np.random.default_rng(3)
    true = np.clip(rng.normal(0.1, 0.4, (4, len(shapes.names))), 0, 1)
    moved = np.tensordot(true, shapes.moves, 1) + rng.normal(0, 0.002, (4, 478, 3))
    found = None
    for _ in range(10):
        found = fit_amounts(shapes.moves, moved, found)
    weights = landmark_weights()
    matrix = (shapes.moves * weights).reshape(len(shapes.names), -1).T.astype(np.float64)
    ridge = np.sqrt(FIT_RIDGE * (matrix**2).sum() / len(shapes.names))
    system = np.concatenate([matrix, ridge * np.eye(len(shapes.names))])
    for row, amounts in zip(moved, found, strict=True):
        target = np.concatenate([(row * weights).ravel(), np.zeros(len(shapes.names))])
        oracle = lsq_linear(system, target, (0, 1))
        reached = ((system @ amounts - target) ** 2).sum()
        assert reached == pytest.approx(2 * oracle.cost, rel=0.01)


def test_pose_size_and_place_do_not_change_a_face() -> None:
    template = load_shapes().template.astype(np.float64)
    face = template + 0.5 * load_shapes().columns(("jawOpen",))[0]
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    seen = 140 * face @ turn.T + [250, 260, 5]
    np.testing.assert_allclose(without_pose(seen[None])[0], without_pose(face[None])[0], atol=1e-6)


def test_the_movements_of_a_person_with_another_face_are_found() -> None:
    shapes = load_shapes()
    rng = np.random.default_rng(4)
    opening = np.abs(np.sin(np.arange(40) / 4))
    true = np.zeros((40, len(shapes.names)))
    true[:, shapes.names.index("jawOpen")] = 0.5 * opening
    true[:, shapes.names.index("mouthSmileLeft")] = np.linspace(0, 0.8, 40)
    neutral = shapes.template * [1.1, 0.95, 1.0] + rng.normal(0, 0.004, (478, 3))
    filmed = neutral + np.tensordot(true, shapes.moves, 1)
    found, amounts = fit_person(filmed, shapes.moves)
    away = filmed - found - np.tensordot(amounts, shapes.moves, 1)
    moved = filmed - filmed.mean(axis=0)
    assert np.abs(away[..., :2]).mean() < 0.1 * np.abs(moved[..., :2]).mean()
    for name in ("jawOpen", "mouthSmileLeft"):
        column = shapes.names.index(name)
        assert np.corrcoef(amounts[:, column], true[:, column])[0, 1] > 0.8
