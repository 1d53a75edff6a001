"""Displacement fields against SciPy's thin-plate spline."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator

from vortex.engines.mesh.field import ThinPlate


@pytest.mark.parametrize("closest", [1e-2, 1e-4])
def test_fields_are_thin_plate_splines_also_where_nodes_nearly_meet(closest: float) -> None:
    rng = np.random.default_rng(1)
    nodes = rng.uniform(0.2, 0.8, (300, 2))
    # landmarks of lips and lids lie close together, and move apart
    nodes[200:] = nodes[:100] + closest * rng.normal(0, 1, (100, 2))
    values = rng.normal(0, 1, (300, 4))
    queries = rng.uniform(0, 1, (2000, 2))
    plate = ThinPlate(nodes, queries)
    keep = np.ones(300, bool)
    keep[50:60] = False
    got = plate.interpolate(values, keep, np.ones(2000, bool))
    oracle = RBFInterpolator(nodes[keep], values[keep], kernel="thin_plate_spline", smoothing=1e-6)(queries)
    assert np.abs(got - oracle).max() < 1e-5 * np.abs(oracle).max()
