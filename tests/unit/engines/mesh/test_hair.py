"""Hair is what is connected with the skull and unlike the background, if the background is plain enough."""

from __future__ import annotations

import numpy as np
import pytest

from vortex.engines.mesh.field import Region
from vortex.engines.mesh.hair import find_hair

ROWS, COLS, CELL_PX = 90, 90, 4
Y, X = np.mgrid[:ROWS, :COLS].astype(np.float64)
RADIUS = np.hypot((X - 45) / 20, (Y - 40) / 30)
BELOW = (Y - 70) / 25
BUN = np.hypot(X - 70, Y - 40) < 8


def picture(background: np.ndarray) -> np.ndarray:
    """Return (H, W, 3): a head of skin with a dark bun of hair at its right side."""
    cells = background.copy()
    cells[RADIUS < 1] = (200, 150, 130)
    cells[BUN] = (60, 40, 30)
    return cells.repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1).astype(np.uint8)


def found(background: np.ndarray) -> np.ndarray:
    region = Region(0, 0, CELL_PX, ROWS, COLS)
    return find_hair(picture(background), region, RADIUS, BELOW)


@pytest.mark.parametrize("colour", [(90, 120, 160), (255, 255, 255), (10, 90, 20)])
def test_hair_beside_the_skull_is_found_before_a_plain_background(colour: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(1).normal(0, 3, (ROWS, COLS, 3))
    hair = found(np.clip(np.array(colour) + noise, 0, 255))
    truth = (RADIUS < 1) | BUN
    above = BELOW < 0
    # The picture is blurred, so the rim of both may be off by a cell.
    assert (hair != truth)[above].sum() < 0.08 * truth.sum()


def test_a_thing_that_does_not_touch_the_head_is_background() -> None:
    plain = np.full((ROWS, COLS, 3), 128.0)
    plain[20:30, 10:18] = (250, 20, 20)
    assert not found(plain)[20:30, 10:18].any()


def test_a_background_of_many_colours_is_not_taken_for_hair() -> None:
    blocks = np.random.default_rng(2).uniform(0, 255, (ROWS // 6, COLS // 6, 3))
    varied = blocks.repeat(6, axis=0).repeat(6, axis=1)
    # The edge of the region shows one colour only.
    varied[:6] = varied[:, :3] = varied[:, -3:] = 128
    assert not found(varied)[(RADIUS > 1.1) & ~BUN].any()
