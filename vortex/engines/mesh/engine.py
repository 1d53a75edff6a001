"""The mesh engine: warps a photo by learned fields, cuts it between the lips, and draws mouth and eyes."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from vortex.engines.mesh import basis
from vortex.engines.mesh.eyes import draw_eye
from vortex.engines.mesh.field import Bounds, invert, remap_fixed
from vortex.engines.mesh.mouth import composite_mouth
from vortex.engines.mesh.prepare import COLUMNS, MeshPortrait, prepare_portrait
from vortex.face.crop import crop_face, even_sides
from vortex.face.landmarks import LID_RINGS, LOWER_INNER, MOUTH_CORNERS, NOSE_BRIDGE, UPPER_INNER
from vortex.runtime.setting import single_blas_thread
from vortex.types import F32, Frame, MotionTrack, Portrait

CHUNK = 24
"""Frames whose fields are computed together."""
MIN_OPENING_PX = 0.6
"""Lips closer than this hide what is between them."""
UPPER_SHARE = 0.3
"""Part of a missing gap that the upper lip moves; the lower lip moves the rest."""
SHUT_JAW_APERTURE = 0.1
"""Lips may be this far apart over a shut jaw, as in a smile, in outer-eye widths."""
MIN_BROW_HEIGHT = 0.02
"""In outer-eye widths."""
FACE_ITERATIONS = 3
LOWER_LIP_ITERATIONS = 6
"""Iterations of the inversion; the lower lip moves farthest, so it needs more."""
LOWER_TEETH_DEPTH = 0.02
"""How far the lower teeth's anchor lies above the edge of the lower lip, in outer-eye widths."""


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
        self, prepared: MeshPortrait, motion: MotionTrack, *, quality: str = "full"
    ) -> Iterator[Frame]:
        """Yield one frame for each row of ``motion``."""
        coefficients = _coefficients(prepared, motion)
        opening = basis.aperture(motion) * prepared.eye_width_px
        closing = {side: basis.lid_closing(motion, side, eye.opening) for side, eye in prepared.eyes.items()}
        looking, rounded = basis.gaze(motion), basis.rounding(motion)
        region = prepared.region
        corner, (width, height) = np.array([region.x0, region.y0], np.float32), region.size_px
        for start in range(0, len(motion), CHUNK):
            part = coefficients[start : start + CHUNK]
            # Not @: the threads of a BLAS wait in a busy loop after each product, on the core of the encoder.
            fields = np.einsum("tk,kc->tc", part, prepared.fields)
            points = prepared.landmarks_px[:, :2] + np.einsum("tk,kpc->tpc", part, prepared.moves)
            for index, (field, lips) in enumerate(zip(fields, points, strict=True), start):
                frame = prepared.canvas.copy()
                where = warp_face(frame, prepared, field, lips)
                face = frame[region.y0 : region.y0 + height, region.x0 : region.x0 + width]
                for side, eye in prepared.eyes.items():
                    lids, lid = lips[LID_RINGS[side]] - corner, float(closing[side][index])
                    draw_eye(face, where, eye, lids, lid, looking[index])
                if opening[index] > MIN_OPENING_PX:
                    _fill_mouth(frame, prepared, lips, float(rounded[index]))
                yield frame

    def notes(self, prepared: MeshPortrait, motion: MotionTrack, *, quality: str = "full") -> tuple[str, ...]:
        """Return nothing: this engine has no notes."""
        return ()

    def close(self) -> None:
        """Do nothing: this engine holds no resources."""


def _coefficients(prepared: MeshPortrait, motion: MotionTrack) -> F32:
    """Return (T, K): modes, lip columns in pixels (upper, lower), pout in [0, 1], pose in degrees."""
    eye, down = prepared.eye_width_px, prepared.down
    corners = prepared.landmarks_px[list(MOUTH_CORNERS), :2]
    source_aperture = float(prepared.source_gap[COLUMNS // 2]) / eye
    modes = basis.mode_commands(
        motion,
        source_width=float(np.linalg.norm(corners[1] - corners[0])) / eye,
        source_aperture=max(source_aperture - SHUT_JAW_APERTURE, 0.0),
        brow_height=max(basis.brow_height(prepared.landmarks_px[:, :2], down) / eye, MIN_BROW_HEIGHT),
    )
    count = modes.shape[1]
    # The modes leave lips uneven; the columns make the gap between them exactly the commanded one.
    moved = (prepared.moves[:count, LOWER_INNER[1:-1]] - prepared.moves[:count, UPPER_INNER[1:-1]]) @ down
    gap = prepared.source_gap + modes @ moved
    rounded = basis.rounding(motion)[:, None]
    profile = (1 - rounded) * prepared.gap_profile + rounded * prepared.round_profile
    missing = basis.aperture(motion)[:, None] * eye * profile - gap
    bias = basis.lip_bias(motion)[:, None] * eye
    upper, lower = -UPPER_SHARE * missing - bias, (1 - UPPER_SHARE) * missing - bias
    return np.concatenate([modes, upper, lower, rounded, motion.head_pose_deg], axis=1).astype(np.float32)


def _fill_mouth(frame: Frame, prepared: MeshPortrait, points: F32, rounded: float) -> None:
    """Draw what is between the lips at ``points`` (478, 2) into ``frame`` in place."""
    head_shift = points[NOSE_BRIDGE] - prepared.landmarks_px[NOSE_BRIDGE, :2]
    lower, interior = points[LOWER_INNER], prepared.interior
    skull_px = (interior.anchor_px + head_shift).astype(np.float32)
    jaw_px = lower[len(lower) // 2] - LOWER_TEETH_DEPTH * prepared.eye_width_px * prepared.down
    composite_mouth(frame, interior, points[UPPER_INNER], lower, skull_px, jaw_px.astype(np.float32), rounded)


def warp_face(frame: Frame, prepared: MeshPortrait, field: F32, points: F32) -> F32:
    """Warp the region of ``frame`` in place, cut along the lips; return where its pixels come from.

    ``field`` (N,) in cells is a row like those of ``prepared.fields``; ``points`` (478, 2) are the moved
    landmarks. The result (h, w, 2) holds positions in the picture, in pixels.
    """
    region, mouth = prepared.region, prepared.mouth_cells
    width, height = region.size_px
    everywhere = (0, region.rows, 0, region.cols)
    row0, row1, col0, col1 = prepared.lower_cells
    upper = field[: prepared.cells.size].reshape(region.rows, region.cols, 2)
    lower = field[prepared.cells.size :].reshape(row1 - row0, col1 - col0, 2)
    where = _source_positions(upper, prepared, (0, 0), everywhere, iterations=FACE_ITERATIONS)
    below = _source_positions(lower, prepared, (row0, col0), mouth, iterations=LOWER_LIP_ITERATIONS)
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
    # In 8 bits 0 - 1 wraps to 255, so this selects what is neither 0 nor 255.
    edge = (mask - np.uint8(1) < 254).nonzero()
    share = mask[edge][:, None] / 255
    mixed = box[edge] + share * (lower_face[edge].astype(np.float64) - box[edge])
    cv2.copyTo(lower_face, mask, box)
    box[edge] = np.round(mixed).astype(np.uint8)
    return where


def _source_positions(
    field: F32, prepared: MeshPortrait, first: tuple[int, int], bounds: Bounds, *, iterations: int
) -> F32:
    """Return (h, w, 2): where pixels of the cells ``bounds`` come from; ``field`` begins with ``first``."""
    row0, row1, col0, col1 = bounds
    cell_px = prepared.region.cell_px
    backward = invert(field, prepared.cells[: field.shape[0], : field.shape[1]], iterations)
    # One more cell on each side keeps the gradient at the rim when the field is enlarged.
    padded = cv2.copyMakeBorder(backward, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    padded = padded[row0 - first[0] : row1 - first[0] + 2, col0 - first[1] : col1 - first[1] + 2]
    sources = cell_px * padded + prepared.centres_px[row0 : row1 + 2, col0 : col1 + 2]
    size = (sources.shape[1] * cell_px, sources.shape[0] * cell_px)
    enlarged = cv2.resize(sources, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged[cell_px:-cell_px, cell_px:-cell_px], np.float32)
