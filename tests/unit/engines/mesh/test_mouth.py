"""The inside of the mouth: what hides what, where it may paint, its light, and teeth that a photo shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vortex.engines.mesh.mouth import MouthInterior, composite_mouth, paint_interior, seen_from, tilted
from vortex.face.landmarks import LOWER_INNER, UPPER_INNER
from vortex.types import F32, Frame

EYE_WIDTH_PX = 140.0
PX_PER_MM = EYE_WIDTH_PX / 88
RIGHT = np.array([1, 0], np.float32)
RED, GREEN, BLUE = (np.array(colour, np.float32) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))


def painted(face: Callable[..., Any], **colours: object) -> MouthInterior:
    drawn = face(**colours)
    return paint_interior(drawn.image, drawn.landmarks_px, RIGHT, EYE_WIDTH_PX)


def lips(gap_mm: float, lift_mm: float = 0.0, half_mm: float = 24.0) -> tuple[F32, F32]:
    """Return both inner edges (11, 2) around the middle of a frame of 256 px."""
    along = np.linspace(-1, 1, 11)
    profile = np.sqrt(1 - along**2) * gap_mm * PX_PER_MM
    x, y = 128 + along * half_mm * PX_PER_MM, 128.0 - lift_mm * PX_PER_MM
    upper, lower = (np.stack([x, y + part * profile], 1).astype(np.float32) for part in (-0.3, 0.7))
    return upper, lower


def shown(
    mouth: MouthInterior, gap_mm: float, *, jaw_mm: float = 8.0, tongue: float = 0.0, yaw_deg: float = 0.0
) -> Frame:
    """Return a frame of 256 px in which the edge of the upper teeth is at row 128."""
    frame = np.full((256, 256, 3), 128, np.uint8)
    upper, lower = lips(gap_mm)
    skull = np.array([128, 128], np.float32)
    jaw = skull + np.array([0, jaw_mm * PX_PER_MM], np.float32)
    composite_mouth(frame, mouth, upper, lower, skull, jaw, 0.0, tongue=tongue, yaw_deg=yaw_deg)
    return frame


def plain(texture: F32, colour: F32, opaque: bool = True) -> F32:
    """Return a texture of that size in one colour, or a transparent one."""
    return np.full_like(texture, 1) * np.append(colour, 1).astype(np.float32) * np.float32(opaque)


def test_the_upper_row_is_in_front_of_the_lower_one_and_both_of_a_resting_tongue(
    face: Callable[..., Any],
) -> None:
    mouth = painted(face)
    mouth = replace(
        mouth,
        upper=plain(mouth.upper, RED),
        lower=plain(mouth.lower, GREEN),
        tongue=plain(mouth.tongue, BLUE),
        grain=0 * mouth.grain,
    )
    shut = shown(mouth, 12, jaw_mm=-2.0)
    y = round(128 - 1 * PX_PER_MM)
    assert int(np.argmax(shut[y, 128])) == 0
    open_ = shown(replace(mouth, upper=0 * mouth.upper), 20, jaw_mm=2.0)
    assert int(np.argmax(open_[round(128 + 6 * PX_PER_MM), 128])) == 1


def test_a_raised_tongue_reaches_the_edge_of_the_upper_incisors_and_a_resting_one_does_not(
    face: Callable[..., Any],
) -> None:
    mouth = painted(face)
    mouth = replace(
        mouth,
        upper=0 * mouth.upper,
        lower=0 * mouth.lower,
        tongue=plain(mouth.tongue, BLUE),
        throat_rgb=0 * mouth.throat_rgb,
        grain=0 * mouth.grain,
    )

    def top_mm(tongue: float) -> float:
        column = shown(mouth, 22, jaw_mm=12.0, tongue=tongue)[:, 128].astype(int)
        return (int(np.argmax(column[:, 2] - column[:, 0] > 30)) - 128) / PX_PER_MM

    tops = [top_mm(tongue) for tongue in (0.0, 0.5, 1.0)]
    assert tops[0] > tops[1] > tops[2]
    assert tops[0] > 1
    assert -2.5 < tops[2] <= 0.7


@pytest.mark.parametrize("gap_mm", [0.5, 4.0, 14.0, 27.0])
def test_nothing_changes_outside_the_lips_but_the_shade_on_their_edges(
    face: Callable[..., Any], gap_mm: float
) -> None:
    frame = shown(painted(face), gap_mm)
    outline = np.zeros((256, 256), np.uint8)
    upper, lower = lips(gap_mm)
    cv2.fillPoly(outline, [np.round(np.concatenate([upper, lower[::-1]])).astype(np.int32)], 255)
    # The shade of an edge reaches 2.5 times 0.7 mm, and curves bulge by a pixel.
    reach = 2 * (int(np.ceil(2.5 * 0.7 * PX_PER_MM)) + 3) + 1
    outside = cv2.dilate(outline, np.ones((reach, reach), np.uint8)) == 0
    assert np.all(frame[outside] == 128)
    if gap_mm > 1:
        assert np.any(frame[outline > 0] != 128)


def test_a_mouth_in_a_darker_photo_is_darker(face: Callable[..., Any]) -> None:
    bright, dark = (
        shown(painted(face, skin=skin, lip=lip), 20)[118:146, 112:145].mean()
        for skin, lip in (((200, 150, 125), (180, 100, 95)), ((70, 52, 44), (63, 35, 33)))
    )
    assert dark < 0.6 * bright


def test_a_mouth_in_a_black_and_white_photo_has_no_colour(face: Callable[..., Any]) -> None:
    frame = shown(painted(face, skin=(150, 150, 150), lip=(110, 110, 110)), 20, tongue=0.5).astype(int)
    assert np.ptp(frame, axis=2).max() <= 1
    coloured = shown(painted(face), 20, tongue=0.5).astype(int)
    assert np.ptp(coloured, axis=2).max() > 20


@pytest.mark.parametrize("yaw_deg", [-30.0, -12.0, 0.0, 12.0, 30.0])
def test_a_turned_arch_is_seen_as_a_turned_curve_in_space(face: Callable[..., Any], yaw_deg: float) -> None:
    mouth = painted(face)
    seen = seen_from(mouth.x_mm, mouth.depth_mm, yaw_deg)
    # Positive yaw moves what is nearer to the camera to the viewer's right; z points to the camera.
    space = np.stack([mouth.x_mm, np.zeros_like(mouth.x_mm), -mouth.depth_mm], 1)
    turned = Rotation.from_euler("y", yaw_deg, degrees=True).apply(space)[:, 0]
    front = np.abs(mouth.x_mm) < 8
    assert np.abs(seen - turned)[front].max() < 1e-3
    assert np.all(np.diff(seen) >= 0)


def test_a_turned_head_shows_the_teeth_of_the_nearer_side_farther_from_the_middle(
    face: Callable[..., Any],
) -> None:
    mouth = painted(face)
    where = np.searchsorted(mouth.x_mm, [-16, 0, 16])
    left, middle, right = seen_from(mouth.x_mm, mouth.depth_mm, 12.0)[where]
    # Turned to the viewer's right, the person's right side, on the viewer's left, is nearer.
    assert middle - left > 1.15 * (right - middle)


def striped_teeth(image: Frame, mask: np.ndarray, upper: np.ndarray) -> None:
    """Draw teeth 8 px wide that reach 12 px below the upper lip, each of its own brightness."""
    rng = np.random.default_rng(3)
    levels = rng.integers(150, 250, 64)
    y, x = np.nonzero(mask)
    below = y - np.interp(x, upper[:, 0], upper[:, 1])
    teeth = below < 12
    level = levels[(x[teeth] // 8) % 64]
    image[y[teeth], x[teeth]] = np.stack([level, level, level - 15], 1)


def test_teeth_that_a_photo_shows_stay_where_they_are(face: Callable[..., Any]) -> None:
    drawn = face(0.2, between=striped_teeth)
    points = drawn.landmarks_px[:, :2]
    image = drawn.image
    mouth = paint_interior(image, drawn.landmarks_px, RIGHT, EYE_WIDTH_PX)
    frame = image.copy()
    upper, lower = points[UPPER_INNER], points[LOWER_INNER]
    jaw = mouth.anchor_px + np.array([0, 12 * PX_PER_MM], np.float32)
    composite_mouth(frame, mouth, upper, lower, mouth.anchor_px, jaw, 0.0)
    x, y = upper[5].round().astype(int)
    row = slice(x - 22, x + 23)
    photo, ours = (picture[y + 5 : y + 9, row, 1].mean(0) for picture in (image, frame))
    assert np.corrcoef(photo, ours)[0, 1] > 0.9
    # Below their edge it is dark in both.
    assert frame[y + 16, x].max() < 0.6 * frame[y + 8, x].max()


def test_a_mouth_tilts_clockwise_with_the_head(face: Callable[..., object]) -> None:
    mouth = painted(face)
    # A quarter turn clockwise points what was right down, and what was down left.
    np.testing.assert_allclose(
        tilted(mouth, 90).axes, np.stack([mouth.axes[:, 1], -mouth.axes[:, 0]], 1), atol=1e-6
    )
    around = Rotation.from_euler("z", 8, degrees=True).as_matrix()[:2, :2]
    np.testing.assert_allclose(tilted(mouth, 8).axes, around @ mouth.axes, atol=1e-6)
