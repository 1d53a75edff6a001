"""Splines equal SciPy's, resampling is bilinear, and an inverted field leads back to where it came from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator
from scipy.ndimage import map_coordinates

from vortex.engines.mesh.field import ThinPlate, grid, invert, remap, remap_fixed

ROWS, COLS = 60, 80


@pytest.mark.parametrize("closest", [1e-2, 1e-4])
def test_values_equal_those_of_scipy_also_where_nodes_nearly_coincide(closest: float) -> None:
    rng = np.random.default_rng(1)
    nodes = rng.uniform(0.2, 0.8, (300, 2))
    # Landmarks of lips and lids are close together and move apart.
    nodes[200:] = nodes[:100] + closest * rng.normal(0, 1, (100, 2))
    values = rng.normal(0, 1, (300, 4))
    queries = rng.uniform(0, 1, (2000, 2))
    plate = ThinPlate(nodes, queries)
    keep = np.ones(300, bool)
    keep[50:60] = False
    got = plate.interpolate(values, keep, np.ones(2000, bool))
    oracle = RBFInterpolator(nodes[keep], values[keep], kernel="thin_plate_spline", smoothing=1e-6)(queries)
    assert np.abs(got - oracle).max() < 1e-5 * np.abs(oracle).max()


def positions(rng: np.random.Generator) -> np.ndarray:
    """Return (30, 40, 2) random positions (x, y), some of them outside."""
    return rng.uniform([-5, -5], [COLS + 5, ROWS + 5], (30, 40, 2)).astype(np.float32)


def bilinear(image: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return SciPy's bilinear interpolation with the edge repeated."""
    row_col = where[..., ::-1].transpose(2, 0, 1)
    return np.stack(
        [map_coordinates(band, row_col, order=1, mode="nearest") for band in image.T.swapaxes(1, 2)], 2
    )


def test_a_picture_is_resampled_as_by_scipy() -> None:
    rng = np.random.default_rng(2)
    image = rng.normal(0, 1, (ROWS, COLS, 3)).astype(np.float32)
    where = positions(rng)
    # OpenCV may round positions to 1/32 pixel; neighbours differ by less than 8.
    assert np.abs(remap(image, where) - bilinear(image, where)).max() < 8 / 32


def test_rounded_positions_change_bytes_by_little() -> None:
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:ROWS, :COLS]
    image = np.stack([2 * x + y, 3 * y, 255 - 3 * x], axis=2).astype(np.uint8)
    where = positions(rng)
    # A slope of 3 levels per pixel over 1/64 pixel in x and y, and half a level of rounding.
    assert np.abs(remap_fixed(image, where) - bilinear(image.astype(np.float64), where)).max() <= 1


@pytest.mark.parametrize("iterations", [1, 2, 6])
def test_the_inverse_leads_back(iterations: int) -> None:
    cells = grid(ROWS, COLS)
    x, y = cells[..., 0], cells[..., 1]
    # A field that changes by at most 0.3 cells per cell, and is zero at the edge.
    bump = np.exp(-(((x - 40) / 9) ** 2) - ((y - 30) / 9) ** 2)
    field = np.stack([2.0 * bump, -2.5 * bump], axis=2).astype(np.float32)
    backward = invert(field, cells, iterations)
    source = cells + backward
    arrives = source + remap(field, source)
    # Each iteration multiplies the error by 0.3 or less, until OpenCV rounds positions to 1/32 cell.
    assert np.abs(arrives - cells).max() < max(3 * 0.3**iterations, 1 / 64)
