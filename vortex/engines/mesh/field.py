"""Dense displacement fields from scattered points, and their inversion for backward warping."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import cv2
import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
_Pixels = TypeVar("_Pixels", bound=npt.NDArray[Any])


def thin_plate(nodes: npt.NDArray[np.floating], queries: npt.NDArray[np.floating]) -> F32:
    """Return the matrix (Q, N) that interpolates values at nodes (N, 2) to queries (Q, 2).

    Thin-plate spline with kernel r² log r and an affine part (Bookstein 1989), slightly smoothed so that
    nodes that nearly coincide do no harm. Coordinates should be of order one.
    """
    n = len(nodes)
    system = np.zeros((n + 3, n + 3))
    system[:n, :n] = _kernel(nodes, nodes) + 1e-6 * np.eye(n)
    system[:n, n], system[:n, n + 1 :] = 1, nodes
    system[n:, :n] = system[:n, n:].T
    coefficients = np.linalg.solve(system, np.eye(n + 3, n))
    basis = np.concatenate([_kernel(queries, nodes), np.ones((len(queries), 1)), queries], axis=1)
    return (basis.astype(np.float32) @ coefficients.astype(np.float32)).astype(np.float32)


def _kernel(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    squared = ((a[:, None] - b[None]) ** 2).sum(2)
    return np.asarray(0.5 * squared * np.log(np.maximum(squared, 1e-12)), np.float64)


def invert(field: F32, identity: F32, iterations: int) -> F32:
    """Return where each grid cell comes from: x with x + field(x) = cell, (G, G, 2) in cells.

    ``field`` and ``identity`` are (G, G, 2) float32 in cells. Fixed-point iteration x <- cell - field(x)
    (Chen et al. 2008), which converges while the field changes by less than a cell per cell.
    """
    position = np.asarray(identity - field, np.float32)
    for _ in range(iterations):
        position = identity - remap(field, position)
    return np.asarray(position, np.float32)


def remap(image: _Pixels, where: F32) -> _Pixels:
    """Return (h, w, C) colours of ``image`` (H, W, C) at positions ``where`` (h, w, 2), bilinear, edge repeated."""
    # OpenCV takes None for the second map; its stubs do not know it
    result = cv2.remap(image, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    return cast(_Pixels, result)


def smoothstep(value: npt.ArrayLike, start: float | F32, end: float | F32) -> F32:
    """Return 0 before ``start``, 1 after ``end`` and 3t² - 2t³ between."""
    t = np.clip((np.asarray(value, np.float32) - start) / (end - start), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)
