"""Lids cover and uncover the eyeball, the iris turns behind them, and all else keeps its bytes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from vortex.demo import demo_portrait
from vortex.engines.mesh.eyes import Eye, draw_eye, find_eye
from vortex.engines.mesh.field import grid
from vortex.face.crop import crop_face
from vortex.face.landmarks import BROWS, IRISES, LANDMARKS, LID_RINGS, LIDS, LOWER_BROWS
from vortex.face.portrait import load_portrait
from vortex.types import LUMA_WEIGHTS, Frame

SIZE_PX, WIDTH_PX = 260, 90
SKIN, WHITE, IRIS, BROW = (200, 150, 120), (245, 245, 250), (60, 90, 160), (70, 50, 40)
CENTRE = np.array([130.0, 140.0])
RIM_PX = 1.5
"""How far the drawn eyeball reaches beyond the landmarks, which lie on the waterline."""


@dataclass(frozen=True)
class Drawing:
    """A drawn eye of the person's left side: its picture and landmarks."""

    picture: Frame
    landmarks_px: np.ndarray

    @property
    def lids(self) -> np.ndarray:
        return self.landmarks_px[LID_RINGS["Left"], :2]

    def eye(self) -> Eye:
        return find_eye(self.picture, self.landmarks_px, "Left")

    def drawn(self, closing: float, gaze: tuple[float, float] = (0, 0)) -> Frame:
        out = self.picture.copy()
        draw_eye(out, grid(*out.shape[:2]), self.eye(), self.lids, closing, np.array(gaze, np.float32))
        return out


def draw(opening: float = 0.3, angle_deg: float = 0.0, iris: bool = True) -> Drawing:
    """Return an almond of white with an iris on skin, under a brow."""
    u = np.linspace(-1, 1, 9)
    upper_px, lower_px = 0.65 * opening * WIDTH_PX, 0.35 * opening * WIDTH_PX
    along = CENTRE[0] + u * WIDTH_PX / 2
    upper = np.stack([along, CENTRE[1] - upper_px * (1 - u * u)], axis=1)
    lower = np.stack([along, CENTRE[1] + lower_px * (1 - u * u)], axis=1)
    points = np.zeros((LANDMARKS, 3), np.float32)
    points[LIDS["Left"][0], :2], points[LIDS["Left"][1], :2] = upper, lower
    brow_x = np.linspace(-0.6, 0.6, 5) * WIDTH_PX + CENTRE[0]
    points[BROWS["Left"], :2] = np.stack([brow_x[::-1], np.full(5, CENTRE[1] - 0.75 * WIDTH_PX)], axis=1)
    points[LOWER_BROWS["Left"], :2] = np.stack([brow_x, np.full(5, CENTRE[1] - 0.65 * WIDTH_PX)], axis=1)
    radius = 0.2 * WIDTH_PX
    ring = np.array([[0, 0], [1, 0], [0, -1], [-1, 0], [0, 1]]) * radius
    points[IRISES["Left"], :2] = CENTRE - np.array([0, 0.15 * opening * WIDTH_PX]) + ring
    rotation = cv2.getRotationMatrix2D(CENTRE.tolist(), -angle_deg, 1.0)
    points[:, :2] = points[:, :2] @ rotation[:, :2].T + rotation[:, 2]

    picture = np.full((SIZE_PX, SIZE_PX, 3), SKIN, np.uint8)
    picture = (picture + np.random.default_rng(1).normal(0, 2, picture.shape[:2])[..., None]).astype(np.uint8)
    ring_px = np.concatenate([points[LIDS["Left"][0], :2], points[LIDS["Left"][1], :2][::-1]])
    inside = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    cv2.fillPoly(inside, [np.round(ring_px).astype(np.int32)], 1)
    cv2.polylines(inside, [np.round(ring_px).astype(np.int32)], True, 1, round(2 * RIM_PX))
    eyeball = np.full_like(picture, WHITE)
    if iris:
        centre = np.round(points[IRISES["Left"][0], :2]).astype(int).tolist()
        cv2.circle(eyeball, centre, round(radius), IRIS, -1)
    picture[inside > 0] = eyeball[inside > 0]
    hull = np.concatenate([points[BROWS["Left"], :2], points[LOWER_BROWS["Left"], :2]])
    cv2.fillPoly(picture, [cv2.convexHull(np.round(hull).astype(np.int32))], BROW)
    return Drawing(picture, points)


def eyeball(picture: Frame, bluish: float = 0.85) -> np.ndarray:
    """Return (H, W): where the picture is bluish, as white and iris are, but not skin, lashes and brow."""
    return (picture[..., 2] > bluish * picture[..., 0]) & (picture[..., 2] > 90)


@pytest.mark.parametrize("opening", [0.12, 0.3])
def test_an_eye_that_does_not_move_keeps_its_bytes(opening: float) -> None:
    drawing = draw(opening)
    np.testing.assert_array_equal(drawing.drawn(0.0), drawing.picture)


@pytest.mark.parametrize("angle_deg", [0, 25, -40])
@pytest.mark.parametrize("opening", [0.15, 0.3, 0.4])
def test_a_shut_lid_covers_all_of_the_eyeball(opening: float, angle_deg: float) -> None:
    drawing = draw(opening, angle_deg)
    assert eyeball(drawing.picture).sum() > 300
    seen = eyeball(drawing.drawn(1.0))
    assert seen.sum() < 0.05 * eyeball(drawing.picture).sum()
    # Near the corners, where the lids meet, hardly anything moves.
    y, x = np.nonzero(seen)
    corners = drawing.landmarks_px[LIDS["Left"][0][[0, -1]], :2]
    away_px = np.linalg.norm(np.stack([x, y], axis=1)[:, None] - corners, axis=2).min(axis=1)
    assert (away_px < 0.4 * WIDTH_PX).all()


def test_the_lid_covers_the_more_the_further_it_closes() -> None:
    drawing = draw()
    seen = [int(eyeball(drawing.drawn(closing)).sum()) for closing in np.linspace(-1, 1, 21)]
    assert (np.diff(seen) <= 0).all()
    half = seen[15]
    assert 0.2 * seen[10] < half < 0.8 * seen[10]


@pytest.mark.parametrize(("opening", "factor"), [(0.12, 1.5), (0.3, 1.1)])
def test_an_opened_eye_shows_more_of_the_eyeball(opening: float, factor: float) -> None:
    drawing = draw(opening)
    # The white that is added has the light of the skin.
    assert eyeball(drawing.drawn(-1.0), 0.7).sum() > factor * eyeball(drawing.picture, 0.7).sum()


def test_an_opened_eye_shows_a_round_iris() -> None:
    drawing = draw(0.15)
    opened = drawing.drawn(-1.0).astype(int)
    iris = (np.abs(opened - IRIS).sum(2) < 120) & eyeball(opened.astype(np.uint8))
    rows = np.flatnonzero(iris.any(axis=1))
    shown_px = 0.15 * WIDTH_PX
    assert rows[-1] - rows[0] > 1.5 * shown_px
    widest = iris.sum(axis=1).max()
    assert widest == pytest.approx(0.4 * WIDTH_PX, rel=0.15)


@pytest.mark.parametrize("closing", [0.3, 0.7, 1.0, -1.0])
def test_a_rim_over_the_lid_stays(closing: float) -> None:
    drawing = draw()
    y0 = round(CENTRE[1] - 0.4 * WIDTH_PX)
    rim = (slice(y0, y0 + 5), slice(0, SIZE_PX))
    drawing.picture[rim] = (20, 20, 25)
    drawn = drawing.drawn(closing)
    assert np.abs(drawn[rim].astype(int) - drawing.picture[rim]).max() <= 2
    assert not np.array_equal(drawn, drawing.picture)


@pytest.mark.parametrize("closing", [0.5, 1.0, -1.0])
def test_brow_and_cheek_keep_their_bytes(closing: float) -> None:
    drawing = draw()
    drawn = drawing.drawn(closing)
    brow = round(CENTRE[1] - 0.64 * WIDTH_PX)
    np.testing.assert_array_equal(drawn[:brow], drawing.picture[:brow])
    cheek = round(CENTRE[1] + 0.6 * WIDTH_PX)
    np.testing.assert_array_equal(drawn[cheek:], drawing.picture[cheek:])


def test_a_shut_lid_has_the_colour_of_the_skin_around_it() -> None:
    drawing = draw()
    shut = drawing.drawn(1.0)
    lid = shut[round(CENTRE[1] - 12) : round(CENTRE[1] - 4), round(CENTRE[0] - 20) : round(CENTRE[0] + 20)]
    assert np.abs(lid.reshape(-1, 3).mean(axis=0) / SKIN - 1).max() < 0.12


@pytest.mark.parametrize("across", [-0.1, 0.1])
@pytest.mark.parametrize("angle_deg", [0, 30])
def test_the_iris_moves_as_far_as_the_gaze_and_the_lids_stay(across: float, angle_deg: float) -> None:
    drawing = draw(0.35, angle_deg)
    looking = drawing.drawn(0.0, (across, 0.0))
    centres = []
    for picture in (drawing.picture, looking):
        iris = np.abs(picture.astype(int) - IRIS).sum(2) < 60
        centres.append(np.argwhere(iris)[:, ::-1].mean(axis=0))
    along = np.array([np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))])
    assert (centres[1] - centres[0]) @ along == pytest.approx(across * WIDTH_PX, abs=1.5)
    skin = ~eyeball(drawing.picture)
    np.testing.assert_array_equal(looking[skin], drawing.picture[skin])


def test_looking_down_brings_the_iris_behind_the_lower_lid() -> None:
    drawing = draw(0.3)
    iris = [
        np.argwhere(np.abs(picture.astype(int) - IRIS).sum(2) < 60)[:, 0].mean()
        for picture in (drawing.drawn(0.0, (0.0, -0.08)), drawing.picture, drawing.drawn(0.0, (0.0, 0.08)))
    ]
    assert iris[0] < iris[1] < iris[2]


@pytest.mark.parametrize("side", ["Left", "Right"])
def test_the_eyes_of_the_demo_shut_behind_glasses(side: str) -> None:
    portrait = crop_face(load_portrait(demo_portrait()), 512)
    picture, points = portrait.image, portrait.landmarks_px
    eye, lids = find_eye(picture, points, side), points[LID_RINGS[side], :2]
    shut = picture.copy()
    draw_eye(shut, grid(*picture.shape[:2]), eye, lids, 1.0, np.zeros(2, np.float32))
    # Catch light and pupil are gone: the lid is even where the eyeball was full of contrast.
    centre = np.round(points[IRISES[side][0], :2]).astype(int)
    reach = round(0.1 * eye.width_px)
    rows = slice(centre[1] - reach, centre[1] + reach)
    columns = slice(centre[0] - reach, centre[0] + reach)
    before, after = ((each[rows, columns] @ LUMA_WEIGHTS).std() for each in (picture, shut))
    assert after < 0.5 * before
    changed = np.argwhere((shut != picture).any(axis=2))
    brow_y = points[BROWS[side], 1].min()
    assert changed[:, 0].min() > brow_y
