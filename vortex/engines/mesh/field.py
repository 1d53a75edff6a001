"""Dense displacement fields from scattered points, and their inversion for backward warping."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import cv2
import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
BLOCK = 64
"""Rows of a kernel made at once."""
_Pixels = TypeVar("_Pixels", bound=npt.NDArray[Any])


class ThinPlate:
    """Thin-plate spline: kernel r² log r and an affine part (Bookstein 1989), a trace of smoothing.

    Built once for nodes (N, 2) and queries (Q, 2), coordinates of order one; then any subset of the nodes can
    carry values.
    """

    def __init__(self, nodes: npt.NDArray[np.floating], queries: npt.NDArray[np.floating]) -> None:
        # relative to their distance, nodes that nearly coincide would make the system singular
        self._kernel = _kernel(nodes, nodes) + 1e-6 * np.eye(len(nodes))
        self._affine = np.concatenate([np.ones((len(nodes), 1)), nodes], axis=1)
        self._queries = _kernel(queries.astype(np.float64), nodes.astype(np.float64))
        self._query_affine = np.concatenate([np.ones((len(queries), 1)), queries], axis=1)

    def interpolate(
        self, values: npt.NDArray[np.floating], keep: npt.NDArray[np.bool_], at: npt.NDArray[np.bool_]
    ) -> F32:
        """Return (q, C) at the queries ``at`` (Q,) from ``values`` (N, C) at the nodes ``keep`` (N,)."""
        n = int(keep.sum())
        system = np.zeros((n + 3, n + 3))
        system[:n, :n] = self._kernel[np.ix_(keep, keep)]
        system[:n, n:] = self._affine[keep]
        system[n:, :n] = system[:n, n:].T
        right = np.concatenate([values[keep], np.zeros((3, values.shape[1]))])
        # large coefficients of neighbours cancel: single precision would leave noise
        coefficients = np.linalg.solve(system, right)
        basis = self._queries[np.ix_(at, keep)]
        return np.asarray(basis @ coefficients[:n] + self._query_affine[at] @ coefficients[n:], np.float32)


def _kernel(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return (A, B): the thin-plate kernel between points (A, 2) and (B, 2)."""
    result = np.empty((len(a), len(b)))
    # block by block: what lies between would be some times the result, and all its memory new to the process
    for first in range(0, len(a), BLOCK):
        rows = a[first : first + BLOCK, None]
        squared = (rows[..., 0] - b[:, 0]) ** 2 + (rows[..., 1] - b[:, 1]) ** 2
        result[first : first + BLOCK] = 0.5 * squared * np.log(np.maximum(squared, 1e-12))
    return result


def grid(rows: int, cols: int) -> F32:
    """Return (rows, cols, 2) float32: the place (column, row) of each cell."""
    return np.stack(np.meshgrid(np.arange(cols), np.arange(rows)), axis=2).astype(np.float32)


def invert(field: F32, cells: F32, iterations: int) -> F32:
    """Return the backward displacement b of a forward one, both (rows, cols, 2) float32 in cells.

    ``cells`` is the :func:`grid` of that size.

    b(y) = x - y, where cell y comes from x: x + field(x) = y. Fixed-point iteration b <- -field(y + b)
    (Chen et al. 2008), which converges while the field changes by less than a cell per cell.
    """
    backward = -field
    for _ in range(iterations):
        backward = -remap(field, cells + backward)
    return backward


def remap(image: _Pixels, where: F32) -> _Pixels:
    """Return (h, w, C) values of ``image`` (H, W, C) at ``where`` (h, w, 2), bilinear, edge repeated."""
    # OpenCV takes None for the second map; its stubs do not know it
    result = cv2.remap(image, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore
    return cast(_Pixels, result)


def remap_fixed(image: _Pixels, where: F32) -> _Pixels:
    """Do what :func:`remap` does, with positions rounded to 1/32 pixel: half the time on 8-bit pictures."""
    whole, part = cv2.convertMaps(where, None, cv2.CV_16SC2)  # type: ignore
    return cast(_Pixels, cv2.remap(image, whole, part, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def smoothstep(value: npt.ArrayLike, start: Any, end: Any) -> F32:
    """Return 0 before ``start``, 1 after ``end`` and 3t² - 2t³ between."""
    t = np.clip((np.asarray(value, np.float32) - start) / (end - start), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)
