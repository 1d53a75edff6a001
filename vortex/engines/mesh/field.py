"""The part of a portrait that moves, and the dense displacement fields of its motions there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar, cast

import cv2
import numpy as np
import numpy.typing as npt

from vortex.face.landmarks import (
    FACE_OVAL,
    INNER_MOUTH_CORNERS,
    LOWER_RINGS,
    OUTER_EYE_CORNERS,
    SKIN_LANDMARKS,
    UPPER_RINGS,
)
from vortex.interpolation import smoothstep
from vortex.types import F32, F64, FloatArray, Frame

GRID_CELLS = 96
"""Cells along the longer side of the region, approximately."""
REGION_SIDES, REGION_ABOVE, REGION_BELOW = 2.1, 2.7, 2.2
"""How far the region reaches from the middle of the landmarks' box, in halves of its width and height.

It holds hair, neck, and the background that gives way when the head turns.
"""
MOUTH_REACH = 0.2
"""How far what is near the mouth can move with lips and jaw, in outer-eye widths."""
LOWER_REACH = 0.25
"""How far the lower lip can move from its place, in outer-eye widths; 0.14 is the most in speech."""
EDGE_FADE = 0.14
"""Part of the region's width and height at each edge over which the motion fades to zero."""

STILL_RING_SCALE = 1.34
"""Size of the ring of nodes without motion on hair and neck, relative to the face oval."""
STILL_NODES_PER_SIDE = 6
"""Nodes without motion on each edge of the region."""

LIP_LAYER_ALONG = (1.05, 1.7)
"""Where each lip's own field begins to fade along the mouth, and ends, in half mouth widths."""
LIP_LAYER_ACROSS = (0.9, 1.7)
"""The same at right angles to the mouth."""

SMOOTHING = 1e-6
"""Added to the diagonal of the system: nodes that nearly coincide would make it singular."""
BLOCK_ROWS = 64
"""Rows of a kernel that are computed at once."""

Bounds = tuple[int, int, int, int]
"""First row, row after the last, first column, column after the last, in cells."""
Pixels = TypeVar("Pixels", bound=npt.NDArray[Any])


@dataclass(frozen=True, slots=True)
class Region:
    """``rows`` by ``cols`` square cells from the pixel (x0, y0) on; nothing outside changes."""

    x0: int
    y0: int
    cell_px: int
    rows: int
    cols: int

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        return self.cols * self.cell_px, self.rows * self.cell_px

    def centres_px(self, rim: int = 0) -> F32:
        """Return (rows + 2 rim, cols + 2 rim, 2): the centres of the cells in pixels of the picture."""
        first = np.array([self.x0, self.y0], np.float32) + (self.cell_px - 1) / 2 - rim * self.cell_px
        return np.asarray(first + self.cell_px * grid(self.rows + 2 * rim, self.cols + 2 * rim), np.float32)

    def widened(self, bounds: Bounds, by: int) -> Bounds:
        """Return ``bounds`` with ``by`` more cells on each side, as far as the region reaches."""
        row0, row1, col0, col1 = bounds
        return max(row0 - by, 0), min(row1 + by, self.rows), max(col0 - by, 0), min(col1 + by, self.cols)


def find_region(points: F32, canvas: Frame) -> Region:
    """Return the region around the landmarks (478, 2) that head and mouth can move."""
    low, high = points.min(0), points.max(0)
    centre, half = (low + high) / 2, (high - low) / 2
    low, high = centre - half * [REGION_SIDES, REGION_ABOVE], centre + half * [REGION_SIDES, REGION_BELOW]
    x0, y0 = np.maximum(np.floor(low), 0).astype(int).tolist()
    x1, y1 = np.minimum(np.ceil(high), [canvas.shape[1], canvas.shape[0]]).astype(int).tolist()
    cell_px = max(round(max(x1 - x0, y1 - y0) / GRID_CELLS), 1)
    return Region(x0, y0, cell_px, (y1 - y0) // cell_px, (x1 - x0) // cell_px)


def grid(rows: int, cols: int) -> F32:
    """Return (rows, cols, 2) float32: column and row of each cell."""
    return np.stack(np.meshgrid(np.arange(cols), np.arange(rows)), axis=2).astype(np.float32)


class ThinPlate:
    """Thin-plate spline: kernel r² log r and an affine part (Bookstein 1989), with a little smoothing.

    Built once for nodes (N, 2) and queries (Q, 2) of order one; then any subset of nodes can carry values.
    """

    def __init__(self, nodes: FloatArray, queries: FloatArray, smoothing: float = SMOOTHING) -> None:
        self._kernel = _kernel(nodes, nodes) + smoothing * np.eye(len(nodes))
        self._affine = np.concatenate([np.ones((len(nodes), 1)), nodes], axis=1)
        self._queries = _kernel(queries.astype(np.float64), nodes.astype(np.float64))
        self._query_affine = np.concatenate([np.ones((len(queries), 1)), queries], axis=1)

    def interpolate(self, values: FloatArray, keep: npt.NDArray[np.bool_], at: npt.NDArray[np.bool_]) -> F32:
        """Return (q, C) at the queries ``at`` (Q,) from ``values`` (N, C) at the nodes ``keep`` (N,)."""
        n = int(keep.sum())
        system = np.zeros((n + 3, n + 3))
        system[:n, :n] = self._kernel[np.ix_(keep, keep)]
        system[:n, n:] = self._affine[keep]
        system[n:, :n] = system[:n, n:].T
        right = np.concatenate([values[keep], np.zeros((3, values.shape[1]))])
        # In single precision, the large coefficients of neighbours, which cancel, would leave noise.
        coefficients = np.linalg.solve(system, right)
        basis = self._queries[np.ix_(at, keep)]
        return np.asarray(basis @ coefficients[:n] + self._query_affine[at] @ coefficients[n:], np.float32)


def _kernel(a: FloatArray, b: FloatArray) -> F64:
    """Return (A, B): the thin-plate kernel between points (A, 2) and (B, 2)."""
    result = np.empty((len(a), len(b)))
    # In blocks, because the intermediate arrays would take several times the memory of the result.
    for first in range(0, len(a), BLOCK_ROWS):
        rows = a[first : first + BLOCK_ROWS, None]
        squared = (rows[..., 0] - b[:, 0]) ** 2 + (rows[..., 1] - b[:, 1]) ** 2
        result[first : first + BLOCK_ROWS] = 0.5 * squared * np.log(np.maximum(squared, 1e-12))
    return result


def dense_fields(points: F32, moves: F32, region: Region) -> tuple[F32, Bounds, Bounds]:
    """Return ``fields``, ``mouth_cells`` and ``lower_cells`` of ``MeshPortrait`` in ``prepare.py``.

    ``moves`` (K, 478, 2) are the motions of the landmarks ``points`` (478, 2), in pixels.
    """
    origin, size = np.array([region.x0, region.y0], np.float64), np.array(region.size_px, np.float64)
    nodes, values = _nodes(points, moves, region)
    queries_px = region.centres_px().reshape(-1, 2)
    queries = (queries_px - origin) / size
    plate = ThinPlate((nodes - origin) / size, queries)
    flat = values.transpose(1, 0, 2).reshape(len(nodes), -1)
    everything, everywhere = np.ones(len(nodes), bool), np.ones(len(queries), bool)
    whole = plate.interpolate(flat, everything, everywhere)
    near = _near_mouth(points, queries_px)
    layers = []
    for left_out in (LOWER_RINGS, UPPER_RINGS):
        keep = everything.copy()
        keep[left_out.ravel()] = False
        layer, close = whole.copy(), near > 0
        layer[close] += near[close, None] * (plate.interpolate(flat, keep, close) - whole[close])
        layers.append(layer.reshape(region.rows, region.cols, len(moves), 2).transpose(2, 0, 1, 3))
    window = np.outer(_edge_fade(region.rows), _edge_fade(region.cols))[None, :, :, None]
    upper, lower = (layer * window / region.cell_px for layer in layers)
    rows, cols = np.nonzero(near.reshape(region.rows, region.cols))
    eye_cells = np.linalg.norm(np.subtract(*points[list(OUTER_EYE_CORNERS)])) / region.cell_px
    mouth = (int(rows.min()), int(rows.max()) + 1, int(cols.min()), int(cols.max()) + 1)
    mouth = region.widened(mouth, int(np.ceil(MOUTH_REACH * eye_cells)))
    reach = region.widened(mouth, int(np.ceil(LOWER_REACH * eye_cells)))
    lower = lower[:, reach[0] : reach[1], reach[2] : reach[3]]
    fields = np.concatenate([layer.reshape(len(moves), -1) for layer in (upper, lower)], axis=1)
    return fields.astype(np.float32), mouth, reach


def _edge_fade(count: int) -> F32:
    """Return (count,): 0 at both ends, 1 where the motion is whole."""
    along = (np.arange(count) + 0.5) / count
    return np.asarray(smoothstep(np.minimum(along, 1 - along), 0.0, EDGE_FADE), np.float32)


def _nodes(points: F32, moves: F32, region: Region) -> tuple[F64, F64]:
    """Return nodes (N, 2) and their motion (K, N, 2): landmarks, and still ones around them and at edges."""
    face = points[:SKIN_LANDMARKS].astype(np.float64)
    centre = (face.min(0) + face.max(0)) / 2
    ring = centre + STILL_RING_SCALE * (points[FACE_OVAL[::2]].astype(np.float64) - centre)
    side = np.linspace(0, 1, STILL_NODES_PER_SIDE)
    frame = np.array([(u, v) for u in side for v in side if u in (0, 1) or v in (0, 1)])
    frame = np.array([region.x0, region.y0]) + frame * region.size_px
    nodes = np.concatenate([face, ring, frame])
    still = np.zeros((len(moves), len(ring) + len(frame), 2))
    return nodes, np.concatenate([moves[:, :SKIN_LANDMARKS], still], axis=1).astype(np.float64)


def _near_mouth(points: F32, queries: F32) -> F32:
    """Return (Q,): 1 where each lip needs a field of its own, 0 away from the mouth and past its corners."""
    corners = points[list(INNER_MOUTH_CORNERS)].astype(np.float64)
    centre, half = corners.mean(0), (corners[1] - corners[0]) / 2
    width = np.linalg.norm(half)
    along = (queries - centre) @ half / width**2
    across = np.abs((queries - centre) @ np.array([-half[1], half[0]])) / width**2
    near = 1 - smoothstep(np.abs(along), *LIP_LAYER_ALONG)
    return np.asarray(near * (1 - smoothstep(across, *LIP_LAYER_ACROSS)), np.float32)


def invert(field: F32, cells: F32, iterations: int) -> F32:
    """Return the backward displacement b of a forward one, both (rows, cols, 2) float32 in cells.

    ``cells`` is the :func:`grid` of that size. b(y) = x - y, where x + field(x) = y. The iteration
    b <- -field(y + b) (Chen et al. 2008) converges while the field changes by less than a cell per cell.
    """
    backward = -field
    for _ in range(iterations):
        backward = -remap(field, cells + backward)
    return backward


def remap(image: Pixels, where: F32) -> Pixels:
    """Return (h, w, C): ``image`` (H, W, C) at the positions ``where`` (h, w, 2), bilinear, edge repeated."""
    # OpenCV accepts None for the second map; its type stubs do not.
    result = cv2.remap(image, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore
    return cast(Pixels, result)


def remap_planes(image: F32, x: F32, y: F32) -> F32:
    """Return what :func:`remap` does, from the planes of the positions, x and y (h, w)."""
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def planes(image: npt.NDArray[Any]) -> tuple[F32, ...]:
    """Return each channel of ``image`` (h, w, C) float32: NumPy is slow where the last axis is short."""
    return cast(tuple[F32, ...], tuple(cv2.split(image)))


def mixed(over: Frame, under: Frame, share: F32) -> Frame:
    """Return ``share`` (h, w) in [0, 1] of ``over`` and the rest of ``under``, both (h, w, 3)."""
    return cast(Frame, cv2.blendLinear(over, under, share, 1 - share))


def remap_fixed(image: Pixels, where: F32) -> Pixels:
    """Return what :func:`remap` does, at positions rounded to 1/32 pixel: half the time on 8-bit pictures."""
    whole, part = cv2.convertMaps(where, None, cv2.CV_16SC2)  # type: ignore
    return cast(Pixels, cv2.remap(image, whole, part, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
