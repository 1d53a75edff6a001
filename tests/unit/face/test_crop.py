"""Crops of a face keep pixels and landmarks together, and stay inside the picture."""

from __future__ import annotations

import numpy as np
import pytest

from vortex.errors import InputError
from vortex.face.crop import crop_driver, crop_face, crop_transform, driver_crop_transform, even_sides
from vortex.face.landmarks import (
    CHIN,
    CROP_OUTLINE,
    EYES,
    FACE_SIDES,
    FOREHEAD,
    MOUTH_CORNERS,
    OUTER_EYE_CORNERS,
)
from vortex.face.portrait import detect_portrait
from vortex.types import Frame, Portrait


def test_the_crop_of_liveportrait_turns_the_face_upright(hopper: Portrait) -> None:
    points = hopper.landmarks_px[:, :2].astype(np.float64)
    transform = crop_transform(hopper.landmarks_px, 512)
    there = points @ transform[:2, :2].T + transform[:2, 2]
    eyes = there[EYES].mean(0)
    lips = there[list(MOUTH_CORNERS)].mean(0)
    assert eyes[0] == pytest.approx(lips[0], abs=1e-6)
    assert eyes[1] < lips[1]
    # A similarity has perpendicular axes of the same length.
    axes = transform[:2, :2]
    np.testing.assert_allclose(axes @ axes.T, np.linalg.det(axes) * np.eye(2), atol=1e-12)
    # The face takes 1 / 2.3 of the square.
    outline = np.ptp(there[CROP_OUTLINE], axis=0).max() / 512
    assert outline == pytest.approx(1 / 2.3, abs=1e-6)


def test_the_crop_of_liveportrait_scales_with_its_size(hopper: Portrait) -> None:
    small, large = (crop_transform(hopper.landmarks_px, size) for size in (256, 512))
    np.testing.assert_allclose(2 * small[:2, :2], large[:2, :2])


def test_the_crop_of_a_driver_is_upright_and_the_mean_of_all_frames(hopper: Portrait) -> None:
    near = hopper.landmarks_px
    far = near / 2 + np.float32([200, 100, 0])
    one, other, both = (
        driver_crop_transform(points, 512) for points in (near[None], far[None], np.stack([near, far]))
    )
    for transform in (one, other, both):
        np.testing.assert_allclose(transform[:2, :2], transform[0, 0] * np.eye(2), atol=1e-12)
    # The face, along its own axis, takes 1 / 2.2 of the square and lies a tenth of it below the middle.
    points = near[:, :2].astype(np.float64)
    down = points[list(MOUTH_CORNERS)].mean(0) - points[EYES].mean(0)
    down /= np.linalg.norm(down)
    axes = np.array([[down[1], -down[0]], down])
    outline = points[CROP_OUTLINE] @ axes.T
    side = 2.2 * np.ptp(outline, axis=0).max()
    assert 512 / one[0, 0] == pytest.approx(side)
    middle = np.linalg.solve(one, [255.5, 255.5, 1])[:2]
    np.testing.assert_allclose(axes @ middle, (outline.min(0) + outline.max(0)) / 2 - [0, 0.1 * side])
    # The sides and the middles of the squares are averaged, not their scales.
    sides = [512 / transform[0, 0] for transform in (one, other, both)]
    assert sides[2] == pytest.approx((sides[0] + sides[1]) / 2)
    middles = [np.linalg.solve(t, [255.5, 255.5, 1])[:2] for t in (one, other, both)]
    np.testing.assert_allclose(middles[2], (middles[0] + middles[1]) / 2)


def test_a_drivers_crop_keeps_pixels_and_landmarks_together_and_is_black_outside(hopper: Portrait) -> None:
    transform = driver_crop_transform(hopper.landmarks_px[None], 512)
    crop, landmarks = crop_driver(hopper.image, hopper.landmarks_px, transform)
    assert crop.shape == (512, 512, 3)
    found = detect_portrait(crop).landmarks_px
    eye_px = np.linalg.norm(np.subtract(*landmarks[list(OUTER_EYE_CORNERS), :2]))
    assert np.linalg.norm(found[EYES, :2] - landmarks[EYES, :2], axis=1).max() < 0.05 * eye_px
    away = transform.copy()
    away[0, 2] -= 5000
    assert not crop_driver(hopper.image, hopper.landmarks_px, away)[0].any()


@pytest.mark.parametrize("size_px", [256, 512, 700])
def test_a_face_crop_keeps_pixels_and_landmarks_together(hopper: Portrait, size_px: int) -> None:
    crop = crop_face(hopper, size_px)
    assert crop.image.shape == (size_px, size_px, 3)
    again = detect_portrait(crop.image)
    eye_px = np.linalg.norm(
        crop.landmarks_px[OUTER_EYE_CORNERS[0], :2] - crop.landmarks_px[OUTER_EYE_CORNERS[1], :2]
    )
    error = np.linalg.norm(again.landmarks_px[:, :2] - crop.landmarks_px[:, :2], axis=1).mean()
    assert error < 0.02 * eye_px
    np.testing.assert_allclose(
        crop.crop_from_image, crop_transform(crop.landmarks_px, 512), rtol=1e-4, atol=1e-2
    )


def test_a_face_crop_never_leaves_the_picture(hopper: Portrait) -> None:
    corner = replace_image(hopper, hopper.image[60:420, 100:420], (100, 60))
    crop = crop_face(corner, 512)
    ends = crop.landmarks_px[[*FACE_SIDES, CHIN, FOREHEAD], :2]
    assert (ends > 0).all()
    assert (ends < 511).all()


def replace_image(portrait: Portrait, image: Frame, origin: tuple[int, int]) -> Portrait:
    return Portrait(
        image=image,
        landmarks_px=portrait.landmarks_px - np.array([*origin, 0], np.float32),
        crop_from_image=portrait.crop_from_image,
        head_pose_deg=portrait.head_pose_deg,
        blendshapes=portrait.blendshapes,
    )


@pytest.mark.parametrize("size_px", [0, 127, 511, 4096])
def test_an_unusable_frame_size_is_refused(hopper: Portrait, size_px: int) -> None:
    with pytest.raises(InputError, match=f"frame size is {size_px}"):
        crop_face(hopper, size_px)


def test_odd_sides_lose_a_pixel(hopper: Portrait) -> None:
    odd = replace_image(hopper, hopper.image[:599, :511], (0, 0))
    even = even_sides(odd)
    assert even.image.shape == (598, 510, 3)
    np.testing.assert_array_equal(even.image, hopper.image[:598, :510])
