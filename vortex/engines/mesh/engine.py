"""The mesh engine: warps a photo by learned fields, cuts it between the lips, and draws mouth and eyes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from vortex.engines.base import MattedFrame, blendshapes_only
from vortex.engines.mesh import commands
from vortex.engines.mesh.eyes import draw_eye
from vortex.engines.mesh.field import Bounds, invert, mixed, planes, remap, remap_fixed
from vortex.engines.mesh.mouth import composite_mouth, lower_edge_px, tilted
from vortex.engines.mesh.prepare import MeshPortrait, prepare_portrait
from vortex.engines.mesh.turn import moved_height, rotation_matrix, shown_pose_deg, turn_cells, turn_points
from vortex.face.crop import crop_face, even_sides
from vortex.face.landmarks import CHIN, LANDMARKS, LID_RINGS, LOWER_INNER, MOUTH_CORNERS, UPPER_INNER
from vortex.motion.transfer import Motion
from vortex.runtime.setting import single_blas_thread
from vortex.types import F32, F64, Frame, MotionTrack, Portrait

CHUNK = 24
"""Frames whose fields are computed together."""
MIN_OPENING_PX = 0.6
"""Lips closer than this hide what is between them."""
MIN_BROW_HEIGHT = 0.02
"""In outer-eye widths."""
FACE_ITERATIONS = 4
LOWER_LIP_ITERATIONS = 9
"""Iterations of the inversion; the lower lip moves farthest, so it needs more."""


class MeshEngine:
    """Renders on the CPU and needs no download. Has no state, so any number of threads may share it."""

    name = "mesh"
    device = "cpu"

    def prepare(self, portrait: Portrait, *, size_px: int = 512, paste_back: bool = False) -> MeshPortrait:
        """Compute fields, mouth and eyes of one portrait; see :class:`vortex.engines.base.Engine`."""
        framed = even_sides(portrait) if paste_back else crop_face(portrait, size_px)
        with single_blas_thread():
            return prepare_portrait(framed.image, framed.landmarks_px)

    def iter_frames(
        self, prepared: MeshPortrait, motion: Motion, *, quality: str = "full"
    ) -> Iterator[Frame]:
        """Return an iterator of one frame for each row of ``motion``; InputError if it is no MotionTrack."""
        track = blendshapes_only(motion, self.name)
        return (frame for frame, _ in self._iter_warped(prepared, track))

    def iter_matted(self, prepared: MeshPortrait, motion: Motion, matte: Frame) -> Iterator[MattedFrame]:
        """Return the frames of :meth:`iter_frames`, each with the matte (H, W) uint8 warped as they are."""
        return self._iter_matted(prepared, blendshapes_only(motion, self.name), matte)

    def _iter_matted(
        self, prepared: MeshPortrait, motion: MotionTrack, matte: Frame
    ) -> Iterator[MattedFrame]:
        region = prepared.region
        x0, y0, (width, height) = region.x0, region.y0, region.size_px
        box = (x0, y0, x0 + width, y0 + height)
        for frame, where in self._iter_warped(prepared, motion):
            moved = matte.copy()
            moved[y0 : y0 + height, x0 : x0 + width] = remap_fixed(matte, where)
            yield MattedFrame(frame, moved, box)

    def _iter_warped(self, prepared: MeshPortrait, motion: MotionTrack) -> Iterator[tuple[Frame, F32]]:
        """Yield each frame, and where the pixels (h, w, 2) of its region come from in the picture."""
        coefficients = _coefficients(prepared, motion)
        opening = commands.aperture(motion) * prepared.eye_width_px
        closing = {
            side: commands.lid_closing(motion, side, eye.opening) for side, eye in prepared.eyes.items()
        }
        looking, rounded, tongue = commands.gaze(motion), commands.rounding(motion), commands.tongue(motion)
        region, pose_deg = prepared.region, shown_pose_deg(motion.head_pose_deg)
        turns = rotation_matrix(pose_deg)
        corner, (width, height) = np.array([region.x0, region.y0], np.float32), region.size_px
        for start in range(0, len(motion), CHUNK):
            part = coefficients[start : start + CHUNK]
            # Not @: the threads of a BLAS wait in a busy loop after each product, on the core of the encoder.
            fields = np.einsum("tk,kc->tc", part, prepared.fields)
            points = prepared.landmarks_px[:, :2] + np.einsum("tk,kpc->tpc", part, prepared.moves)
            for index, (field, unturned) in enumerate(zip(fields, points, strict=True), start):
                frame = prepared.canvas.copy()
                layers = _backward_layers(prepared, field)
                moved = np.concatenate([unturned, prepared.interior.anchor_px[None]])
                seen, turned = _turn(prepared, layers[0], moved, turns[index])
                lips, skull_px = turned[:LANDMARKS], turned[LANDMARKS]
                where = warp_face(frame, prepared, layers, seen, lips)
                face = frame[region.y0 : region.y0 + height, region.x0 : region.x0 + width]
                for side, eye in prepared.eyes.items():
                    lids, lid = lips[LID_RINGS[side]] - corner, float(closing[side][index])
                    draw_eye(face, where, eye, lids, lid, looking[index])
                if opening[index] > MIN_OPENING_PX:
                    drop_px = float((unturned[CHIN] - prepared.landmarks_px[CHIN, :2]) @ prepared.down)
                    depth, raised, (_, yaw_deg, roll_deg) = rounded[index], tongue[index], pose_deg[index]
                    moves = _MouthMotion(
                        drop_px, float(depth), float(raised), float(yaw_deg), float(roll_deg)
                    )
                    _fill_mouth(frame, prepared, lips, skull_px, moves)
                yield frame, where

    def notes(self, prepared: MeshPortrait, motion: Motion, *, quality: str = "full") -> tuple[str, ...]:
        """Return nothing: this engine has no notes."""
        return ()

    def close(self) -> None:
        """Do nothing: this engine holds no resources."""


@dataclass(frozen=True, slots=True)
class _MouthMotion:
    """What moves the inside of a mouth: drop of the chin, lips before the teeth, tongue, turn and tilt."""

    chin_drop_px: float
    depth: float
    tongue: float
    yaw_deg: float
    roll_deg: float


def _coefficients(prepared: MeshPortrait, motion: MotionTrack) -> F32:
    """Return (T, K): amounts of shapes, lip columns in pixels (upper, lower)."""
    eye, down = prepared.eye_width_px, prepared.down
    corners = prepared.landmarks_px[list(MOUTH_CORNERS), :2]
    amounts = commands.amounts(
        motion,
        source_width=float(np.linalg.norm(corners[1] - corners[0])) / eye,
        source_aperture=float(prepared.source_gap.max()) / eye,
        brow_height=max(commands.brow_height(prepared.landmarks_px[:, :2], down) / eye, MIN_BROW_HEIGHT),
    )
    count = amounts.shape[1]
    # The shapes leave lips uneven; the columns make the gap between them exactly the commanded one.
    moved = (prepared.moves[:count, LOWER_INNER[1:-1]] - prepared.moves[:count, UPPER_INNER[1:-1]]) @ down
    missing = commands.lip_gap(motion) * eye - (prepared.source_gap + amounts @ moved)
    upper, lower = commands.lip_shifts(motion, missing)
    return np.concatenate([amounts, upper, lower], axis=1).astype(np.float32)


def _fill_mouth(
    frame: Frame, prepared: MeshPortrait, points: F32, skull_px: F32, moves: _MouthMotion
) -> None:
    """Draw what is between the lips into ``frame`` in place.

    ``points`` (478, 2) are the landmarks, and ``skull_px`` (2,) is the anchor of the upper teeth.
    """
    lower, interior = points[LOWER_INNER], tilted(prepared.interior, moves.roll_deg)
    jaw_px = lower_edge_px(interior, skull_px, moves.chin_drop_px, lower[len(lower) // 2])
    composite_mouth(
        frame, interior, points[UPPER_INNER], lower, skull_px, jaw_px, moves.depth,
        tongue=moves.tongue, yaw_deg=moves.yaw_deg,
    )  # fmt: skip


def _backward_layers(prepared: MeshPortrait, field: F32) -> tuple[F32, F32]:
    """Return where cells come from before the head turns: those of the region, and of ``lower_cells``.

    ``field`` (N,) in cells is a row like those of ``prepared.fields``.
    """
    region, (row0, row1, col0, col1) = prepared.region, prepared.lower_cells
    upper = field[: prepared.cells.size].reshape(region.rows, region.cols, 2)
    lower = field[prepared.cells.size :].reshape(row1 - row0, col1 - col0, 2)
    return (
        invert(upper, prepared.cells, FACE_ITERATIONS),
        invert(lower, prepared.cells[: row1 - row0, : col1 - col0], LOWER_LIP_ITERATIONS),
    )


def _turn(prepared: MeshPortrait, backward: F32, points: F32, rotation: F64) -> tuple[F32, F32]:
    """Turn the head: return the cell seen in each cell (rows, cols, 2), and where points (N, 2) in pixels go.

    ``backward`` (rows, cols, 2) is where the cells come from before the turn by ``rotation`` (3, 3).
    """
    if np.array_equal(rotation, np.eye(3)):
        return prepared.cells, points
    region, head = prepared.region, prepared.head
    height = moved_height(prepared.cells, backward, head, rotation)
    turned = turn_points(
        ((points - prepared.first_px) / region.cell_px).astype(np.float32), head, height, rotation
    )
    return turn_cells(prepared.cells, head, height, rotation), prepared.first_px + region.cell_px * turned


def warp_face(frame: Frame, prepared: MeshPortrait, layers: tuple[F32, F32], seen: F32, points: F32) -> F32:
    """Warp the region of ``frame`` in place, cut along the lips; return where its pixels come from.

    ``layers`` are those of :func:`_backward_layers`, ``seen`` is that of :func:`_turn`; ``points`` (478, 2)
    are the moved landmarks. The result (h, w, 2) holds positions in the picture, in pixels.
    """
    region = prepared.region
    width, height = region.size_px
    everywhere = (0, region.rows, 0, region.cols)
    row0, _, col0, _ = prepared.lower_cells
    mouth = _moved_bounds(prepared, seen)
    where = _source_positions(layers[0], prepared, seen, (0, 0), everywhere)
    below = _source_positions(layers[1], prepared, seen, (col0, row0), mouth)
    row0, _, col0, _ = mouth
    corner = np.array([col0, row0]) * region.cell_px
    box_h, box_w = below.shape[:2]
    seam = (points[UPPER_INNER] + points[LOWER_INNER]) / 2 - [region.x0, region.y0] - corner
    # Past the corners of the mouth both layers agree, so the cut may continue in a straight line.
    outline = np.concatenate([[[-1, seam[0, 1]]], seam, [[box_w, seam[-1, 1]], [box_w, box_h], [-1, box_h]]])
    mask = np.zeros((box_h, box_w), np.uint8)
    cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    frame[region.y0 : region.y0 + height, region.x0 : region.x0 + width] = remap_fixed(prepared.canvas, where)
    x0, y0 = region.x0 + corner[0], region.y0 + corner[1]
    lower_face, box = remap_fixed(prepared.canvas, below), frame[y0 : y0 + box_h, x0 : x0 + box_w]
    share = mask * np.float32(1 / 255)
    box[:] = mixed(lower_face, np.ascontiguousarray(box), share)
    return where


def _moved_bounds(prepared: MeshPortrait, seen: F32) -> Bounds:
    """Return the cells in which ``prepared.mouth_cells`` are seen."""
    row0, row1, col0, col1 = prepared.mouth_cells
    if seen is prepared.cells:
        return prepared.mouth_cells
    x, y = planes(seen)
    inside = np.asarray((x >= col0) & (x <= col1 - 1) & (y >= row0) & (y <= row1 - 1))
    rows, cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1


def _source_positions(
    backward: F32, prepared: MeshPortrait, seen: F32, first: tuple[int, int], bounds: Bounds
) -> F32:
    """Return (h, w, 2): where pixels of the cells ``bounds`` come from.

    ``backward`` begins at the cell ``first`` (x, y).
    """
    row0, row1, col0, col1 = bounds
    cell_px = prepared.region.cell_px
    # One more cell on each side keeps the gradient at the rim when the field is enlarged.
    rim = cv2.copyMakeBorder(seen - prepared.cells, 1, 1, 1, 1, cv2.BORDER_REPLICATE) + prepared.rim_cells
    rim = rim[row0 : row1 + 2, col0 : col1 + 2]
    sources = cell_px * (rim + remap(backward, rim - np.array(first, np.float32)))
    sources += prepared.first_px
    size = (sources.shape[1] * cell_px, sources.shape[0] * cell_px)
    enlarged = cv2.resize(sources, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged[cell_px:-cell_px, cell_px:-cell_px], np.float32)
