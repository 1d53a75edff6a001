"""Dense displacement fields from scattered points, and their inversion for backward warping."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import cv2
import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
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
        self._queries = _kernel(queries.astype(np.float32), nodes.astype(np.float32))
        self._query_affine = np.concatenate([np.ones((len(queries), 1)), queries], axis=1).astype(np.float32)

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
        coefficients = np.linalg.solve(system, right).astype(np.float32)
        basis = self._queries[np.ix_(at, keep)]
        return np.asarray(basis @ coefficients[:n] + self._query_affine[at] @ coefficients[n:], np.float32)


def _kernel(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[Any]:
    squared = (a[:, None, 0] - b[None, :, 0]) ** 2 + (a[:, None, 1] - b[None, :, 1]) ** 2
    return np.asarray(0.5 * squared * np.log(np.maximum(squared, 1e-12)))


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


def smoothstep(value: npt.ArrayLike, start: Any, end: Any) -> F32:
    """Return 0 before ``start``, 1 after ``end`` and 3t² - 2t³ between."""
    t = np.clip((np.asarray(value, np.float32) - start) / (end - start), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)
