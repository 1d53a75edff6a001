"""Everything that the mesh engine computes once per portrait."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vortex.engines.mesh.commands import SHAPES
from vortex.engines.mesh.eyes import Eye, find_eye
from vortex.engines.mesh.field import Bounds, Region, dense_fields, find_region, grid
from vortex.engines.mesh.head import Head, Placement, find_head
from vortex.engines.mesh.lips import open_lips
from vortex.engines.mesh.mouth import MouthInterior, paint_interior
from vortex.face.landmarks import (
    LANDMARKS,
    LID_RINGS,
    LOWER_INNER,
    LOWER_RINGS,
    STABLE,
    UPPER_INNER,
    UPPER_RINGS,
)
from vortex.face.shapes import load_shapes, similarity
from vortex.types import F32, F64, Frame

COLUMNS = UPPER_RINGS.shape[1]
"""Lip columns between the corners whose gap is set exactly."""

RING_WEIGHTS = np.array([1.0, 0.92, 0.8, 0.62])
"""How far each lip ring follows its inner edge."""


@dataclass(frozen=True, slots=True, eq=False)
class MeshPortrait:
    """What the engine knows about one portrait. K coefficients: shapes, lip columns.

    ``canvas`` (H, W, 3) is the picture. ``fields`` (K, N) float32 in cells holds two layers, two numbers per
    cell: first that of the upper lip in the whole region, then that of the lower lip in ``lower_cells``.
    ``cells`` (rows, cols, 2) is the region's grid, ``rim_cells`` has one more cell on each side; ``first_px``
    (2,) is the centre of the first cell in the picture. ``head`` is how the head turns. The two layers may
    differ in ``mouth_cells``; ``lower_cells`` is that and everything that may move there. ``moves`` (K, 478,
    2) is the same motion at the landmarks in pixels. ``down`` (2,) is the unit vector from eyes to chin.
    ``eye_width_px`` is the outer-eye width of an average face of this size, seen from the front;
    ``source_gap`` (9,) is the picture's gap between the lips in pixels at each column.
    """

    canvas: Frame
    landmarks_px: F32
    region: Region
    cells: F32
    rim_cells: F32
    first_px: F32
    fields: F32
    mouth_cells: Bounds
    lower_cells: Bounds
    head: Head
    moves: F32
    eye_width_px: float
    down: F32
    source_gap: F32
    interior: MouthInterior
    eyes: dict[str, Eye]

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the frames."""
        return self.canvas.shape[1], self.canvas.shape[0]


def prepare_portrait(canvas: Frame, landmarks_px: F32) -> MeshPortrait:
    """Compute fields, mouth and eyes of a picture (H, W, 3) with landmarks (478, 3)."""
    shapes = load_shapes()
    placement = Placement(*similarity(shapes.template[STABLE], landmarks_px[STABLE]))
    scale, rotation = placement.scale, placement.rotation
    right, down = rotation[:2, 0], rotation[:2, 1]
    right, down = right / np.linalg.norm(right), down / np.linalg.norm(down)
    photo, detected_px = canvas, landmarks_px
    canvas, landmarks_px = open_lips(photo, detected_px, down.astype(np.float32))
    points = landmarks_px[:, :2]
    # The template's eyes are 1 apart; those of a turned or broad face are not.
    eye_width_px = float(scale)
    moved = eye_width_px * (shapes.columns(SHAPES) @ rotation.T)[..., :2]
    # Lids are drawn; the shapes would drag lashes and lids.
    moved[:, np.concatenate(list(LID_RINGS.values()))] = 0
    moves = np.concatenate([moved, _lip_columns(down)]).astype(np.float32)
    region = find_region(points, canvas)
    fields, mouth_cells, lower_cells = dense_fields(points, moves, region)
    gap = ((points[LOWER_INNER] - points[UPPER_INNER]) @ down)[1:-1]
    return MeshPortrait(
        canvas=canvas,
        landmarks_px=landmarks_px,
        region=region,
        cells=grid(region.rows, region.cols),
        rim_cells=grid(region.rows + 2, region.cols + 2) - 1,
        first_px=region.centres_px()[0, 0],
        fields=fields,
        mouth_cells=mouth_cells,
        lower_cells=lower_cells,
        head=find_head(landmarks_px, placement, region, canvas),
        moves=moves,
        eye_width_px=eye_width_px,
        down=down.astype(np.float32),
        source_gap=gap.astype(np.float32),
        interior=paint_interior(photo, detected_px, right.astype(np.float32), eye_width_px),
        eyes={side: find_eye(canvas, landmarks_px, side) for side in ("Left", "Right")},
    )


def _lip_columns(down: F64) -> F64:
    """Return (18, 478, 2): one column of the upper or lower lip moved one pixel along ``down``."""
    moves = np.zeros((2, COLUMNS, LANDMARKS, 2))
    for lip, rings in zip(moves, (UPPER_RINGS, LOWER_RINGS), strict=True):
        lip[np.arange(COLUMNS), rings] = RING_WEIGHTS[:, None, None] * down
    return moves.reshape(-1, LANDMARKS, 2)
