"""The learned deformation basis: how 478 face landmarks move with a few measures of the face.

``basis.npz`` is made by ``scripts/learn_mesh_basis.py``; ``basis.md`` beside it tells from what.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]

STABLE = np.array(
    [10, 338, 297, 67, 109, 151, 9, 8, 168, 6, 197, 33, 133, 362, 263, 127, 356, 234, 454, 21, 251]
)
"""Landmarks that speech hardly moves: forehead, nose bridge, eye corners, temples."""

OUTER_EYE_CORNERS = (33, 263)

MODES: tuple[str, ...] = (
    "aperture", "width", "corner_up",
    "brow_inner_left", "brow_inner_right", "brow_outer_left", "brow_outer_right", "frown",
)  # fmt: skip
"""Measures of the face that the basis is regressed on, in outer-eye widths; left is the person's left."""


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """``template`` (478, 3) and ``modes`` (8, 478, 3) float32, both in outer-eye widths.

    x right, y down, z away from the viewer; ``modes[k]`` is the displacement for one unit of ``MODES[k]``.
    """

    template: F32
    modes: F32


@lru_cache(maxsize=1)
def load_basis() -> Basis:
    """Read the basis that ships with the package."""
    with resources.files("vortex.engines.mesh").joinpath("basis.npz").open("rb") as file:
        arrays = np.load(file)
        return Basis(arrays["template"].astype(np.float32), arrays["modes"].astype(np.float32))


def similarity(
    source: npt.NDArray[np.floating], target: npt.NDArray[np.floating]
) -> tuple[float, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return (scale, R (D, D), t (D,)) with ``target ≈ scale * source @ R.T + t`` (Umeyama 1991, eq. 40-42).

    ``source`` and ``target`` are (N, D).
    """
    a, b = np.asarray(source, np.float64), np.asarray(target, np.float64)
    mean_a, mean_b = a.mean(0), b.mean(0)
    u, singular, vt = np.linalg.svd((b - mean_b).T @ (a - mean_a))
    sign = np.ones(len(singular))
    sign[-1] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / ((a - mean_a) ** 2).sum())
    return scale, rotation, mean_b - scale * rotation @ mean_a
