"""Mattes hold the person, follow known edges, and give colours without the background in them."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest

from vortex.errors import WeightsCorruptError
from vortex.face import matte as module
from vortex.face.backdrop import make_backdrop
from vortex.face.landmarks import SKIN_LANDMARKS
from vortex.face.matte import (
    MODEL,
    MODEL_SHA256,
    FilmMatte,
    _only_person,
    _solve,
    _sure,
    foreground_colours,
    mixed,
    person_matte,
    segment_person,
)
from vortex.media.background import Background
from vortex.types import F32, Frame, Portrait


def soft_disk(side: int = 200, softness: float = 8.0) -> F32:
    """Return a matte: a disk of half the side whose edge is ``softness`` wide."""
    rows, columns = np.mgrid[:side, :side] - side / 2
    return np.asarray(np.clip(0.5 + (side / 4 - np.hypot(rows, columns)) / softness, 0, 1), np.float32)


def composed(matte: F32) -> Frame:
    """Return a textured red disk over a textured blue background."""
    random = np.random.default_rng(2)
    texture = cv2.GaussianBlur(random.standard_normal((*matte.shape, 1)).astype(np.float32), (0, 0), 4)[
        ..., None
    ]
    person = np.array([190, 70, 50]) + 60 * texture
    behind = np.array([40, 90, 180]) + 60 * texture
    share = matte[..., None]
    return np.clip(np.round(share * person + (1 - share) * behind), 0, 255).astype(np.uint8)


def test_the_model_is_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hashlib.sha256(MODEL.read_bytes()).hexdigest() == MODEL_SHA256
    monkeypatch.setattr(module, "MODEL_SHA256", "0" * 64)
    with pytest.raises(WeightsCorruptError, match="Install it again"):
        module._load_network()


def test_a_known_soft_edge_is_found_from_a_coarse_mask() -> None:
    """The mask is shifted and hard, as the network's is; the colours have the true edge."""
    true = soft_disk(600, 12)
    picture = np.multiply(composed(true), np.float32(1 / 255))
    mask = np.roll((true > 0.5).astype(np.float32), (5, -5), (0, 1))
    found = _solve(picture, mask, *_sure(mask))
    edge = (true > 0.02) & (true < 0.98)
    before, after = (np.abs(made - true)[edge].mean() for made in (mask, found))
    assert after < 0.16 and after < before / 2.5
    assert found[300, 300] == 1 and found[5, 5] == 0


def test_colours_at_the_edge_are_those_of_the_person() -> None:
    true = soft_disk(softness=16)
    picture = composed(true)
    own = foreground_colours(picture, true).astype(float)
    edge = (true > 0.2) & (true < 0.8)
    # The mixed picture is blue there: blue above red means that the background is still in it.
    assert (picture[edge, 2] > picture[edge, 0]).mean() > 0.3
    assert (own[edge, 2] < own[edge, 0]).all()
    assert np.abs(own[true == 1] - picture[true == 1]).max() <= 1


def test_the_person_is_in_front_and_the_corners_behind(hopper: Portrait) -> None:
    matte = person_matte(hopper.image, hopper.landmarks_px)
    points = np.round(hopper.landmarks_px[:SKIN_LANDMARKS, :2]).astype(int)
    # Of the landmarks, some lie on the very edge of the face.
    assert (matte[points[:, 1], points[:, 0]] > 0.99).mean() > 0.97
    assert matte[:40, :40].max() < 0.03 and matte[:40, -40:].max() < 0.03
    # Edges are as narrow as hair makes them, not smeared over the picture.
    assert ((matte > 0.05) & (matte < 0.95)).mean() < 0.04


def test_the_same_person_is_found_when_the_picture_is_shifted(hopper: Portrait) -> None:
    moved = np.roll(hopper.image, 12, axis=1)
    landmarks = hopper.landmarks_px + np.array([12, 0, 0], np.float32)
    before, after = person_matte(hopper.image, hopper.landmarks_px), person_matte(moved, landmarks)
    assert np.abs(after[:, 40:-40] - np.roll(before, 12, axis=1)[:, 40:-40]).mean() < 0.02


def test_other_people_are_left_out(hopper: Portrait) -> None:
    height, width = hopper.image.shape[:2]
    mask = np.zeros((height, width), np.float32)
    x, y = (int(part) for part in hopper.landmarks_px[:, :2].mean(0))
    cv2.circle(mask, (x, y), 150, 1.0, -1)
    cv2.circle(mask, (30, height - 30), 25, 1.0, -1)
    kept = _only_person(mask, hopper.landmarks_px)
    assert kept[y, x] == 1 and kept[height - 30, 30] == 0


def test_masks_of_a_still_film_settle(hopper: Portrait) -> None:
    film = FilmMatte(hopper.landmarks_px)
    random = np.random.default_rng(0)
    mattes = []
    for _ in range(6):
        noise = random.normal(0, 3, hopper.image.shape)
        mattes.append(film.next(np.clip(hopper.image + noise, 0, 255).astype(np.uint8)))
    first = np.abs(mattes[1] - mattes[0]).mean()
    assert np.abs(mattes[5] - mattes[4]).mean() <= first
    assert np.abs(mattes[5] - person_matte(hopper.image, hopper.landmarks_px)).mean() < 0.02


def test_mixing_is_the_formula_of_compositing() -> None:
    random = np.random.default_rng(1)
    person, behind = random.integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    matte = random.integers(0, 256, (20, 30), dtype=np.uint8)
    share = matte[..., None] / 255
    assert np.abs(mixed(person, behind, matte) - (share * person + (1 - share) * behind)).max() <= 0.51


def test_a_blurred_background_has_no_trace_of_the_person() -> None:
    true = soft_disk()
    behind = make_backdrop(Background("blur"), composed(true), true)
    assert behind is not None
    assert (behind[..., 2] > behind[..., 0] + 60).all()


def test_the_segmented_square_has_no_visible_edge(hopper: Portrait) -> None:
    wide = np.pad(hopper.image, ((300, 0), (400, 400), (0, 0)), mode="edge")
    mask = segment_person(wide, hopper.landmarks_px + np.array([400, 300, 0], np.float32))
    assert mask[:150].max() < 0.1 and mask[:, :150].max() < 0.1
