"""The basis has the sizes it promises, similarities are found as by scikit-image, commands are bounded."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from skimage.transform import estimate_transform

from vortex.engines.mesh.basis import (
    FREE_POSE_DEG,
    MAX_APERTURE,
    MAX_POSE_DEG,
    MODES,
    aperture,
    gaze,
    lid_closing,
    load_basis,
    mode_commands,
    rounding,
    shown_pose_deg,
    similarity,
    soft_limit,
)
from vortex.face.landmarks import CHIN, INNER_LIPS, MOUTH_CORNERS, OUTER_EYE_CORNERS
from vortex.motion.drive import expand
from vortex.types import MotionTrack


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
    template = load_basis().template
    right, left = template[list(OUTER_EYE_CORNERS)]
    assert np.linalg.norm(left - right) == pytest.approx(1, abs=0.01)
    # x right, y down, z away from the viewer
    assert right[0] < 0 < left[0]
    assert template[CHIN, 1] > template[INNER_LIPS[1], 1] > right[1]


@pytest.mark.parametrize(
    ("mode", "pair"), [("aperture", INNER_LIPS), ("width", MOUTH_CORNERS)], ids=["aperture", "width"]
)
def test_one_unit_of_a_measure_changes_it_by_one(mode: str, pair: tuple[int, int]) -> None:
    basis = load_basis()
    one, other = pair
    step = 0.05
    moved = basis.template + step * basis.modes[MODES.index(mode)]

    def distance(points: np.ndarray) -> float:
        return float(np.linalg.norm(points[one] - points[other]))

    # A regression on all measures at once reaches this approximately.
    assert (distance(moved) - distance(basis.template)) / step == pytest.approx(1, abs=0.1)


def motion(*rows: dict[str, float]) -> MotionTrack:
    shapes = np.stack([expand(row) for row in rows])
    return MotionTrack(shapes, np.zeros((len(rows), 3), np.float32), Fraction(24))


def modes(*rows: dict[str, float]) -> dict[str, np.ndarray]:
    amounts = mode_commands(motion(*rows), source_width=0.6, source_aperture=0.0, brow_height=0.3)
    return dict(zip(MODES, amounts.T, strict=True))


def test_a_soft_limit_has_slope_one_at_zero_and_is_never_exceeded() -> None:
    values = np.linspace(-10, 10, 2001, dtype=np.float32)
    limited = soft_limit(values, 0.16)
    assert np.abs(limited).max() <= np.float32(0.16)
    assert (np.diff(limited) >= 0).all()
    assert soft_limit(np.float32([1e-3]), 0.16)[0] == pytest.approx(1e-3, rel=1e-3)


def test_the_jaw_opens_the_lips_up_to_the_limit_and_closed_lips_stay_closed() -> None:
    opening = aperture(motion(*({"jawOpen": amount} for amount in np.linspace(0, 1, 11))))
    assert opening[0] == 0
    assert (np.diff(opening) > 0).all()
    assert opening.max() <= MAX_APERTURE
    assert aperture(motion({"jawOpen": 1.0, "mouthClose": 1.0}))[0] == 0


def test_a_smile_widens_and_a_rounded_mouth_narrows() -> None:
    width = modes({}, {"mouthSmile": 1.0}, {"mouthPucker": 1.0})["width"]
    assert width[2] < width[0] == 0 < width[1]


def test_one_brow_moves_alone() -> None:
    amounts = modes({"browOuterUpLeft": 1.0})
    assert amounts["brow_outer_left"][0] > 0
    assert amounts["brow_outer_right"][0] == 0


def test_a_blink_shuts_the_lid_and_wide_eyes_do_not_open_it_beyond_the_picture() -> None:
    closing = lid_closing(motion({}, {"eyeBlink": 1.0}, {"eyeWide": 1.0}), "Left")
    assert closing.tolist() == [0, 1, 0]


def test_the_person_s_left_is_the_viewer_s_right() -> None:
    x, y = gaze(motion({"eyeLookLeft": 1.0}, {"eyeLookDown": 1.0})).T
    assert x[0] > 0 and x[1] == 0
    assert y[1] > 0 and y[0] == 0


def test_rounding_is_between_zero_and_one() -> None:
    assert rounding(motion({}, {"mouthPucker": 1.0, "mouthFunnel": 1.0})).tolist() == [0, 1]


def test_small_turns_are_shown_as_commanded_and_large_ones_stay_below_the_limit() -> None:
    poses = np.linspace(-90, 90, 721, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    shown = shown_pose_deg(MotionTrack(np.zeros((721, 33)), poses, Fraction(24)))
    free = np.abs(poses) <= FREE_POSE_DEG
    np.testing.assert_array_equal(shown[free], poses[free])
    assert (np.abs(shown) <= MAX_POSE_DEG).all()
    assert (np.diff(shown, axis=0) >= 0).all(), "more is never shown as less"
    assert np.abs(np.diff(shown, n=2, axis=0)).max() < 0.03, "there is no kink"
