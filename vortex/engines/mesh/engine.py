"""The mesh engine: a photo, warped by learned fields, with a cut at the lips and lids that slide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vortex.blas import single_blas_thread
from vortex.engines.mesh.basis import OUTER_EYE_CORNERS, STABLE, load_basis, similarity
from vortex.engines.mesh.eyes import Eye, draw_eye, find_eye
from vortex.engines.mesh.face import (
    FACE_OVAL,
    LID_RINGS,
    LOWER_INNER,
    LOWER_RINGS,
    RING_WEIGHTS,
    UPPER_INNER,
    UPPER_RINGS,
    aperture,
    brow_height,
    gaze,
    lid_closing,
    lip_bias,
    mode_commands,
    rounding,
)
from vortex.engines.mesh.field import ThinPlate, grid, invert, remap_fixed, smoothstep
from vortex.engines.mesh.mouth import MouthInterior, composite_mouth, paint_interior
from vortex.types import Frame, MotionTrack, Portrait

F32 = npt.NDArray[np.float32]

GRID = 96
"""Cells, about, on each side of the displacement fields."""
CHUNK = 24
"""Frames whose fields are made by one matrix product."""
POSE_REACH = 0.2
"""How far the mouth may travel with the head, in outer-eye widths."""
MIN_OPENING_PX = 0.6
"""Between lips closer than this nothing can be seen."""
LOWER_REACH = 0.25
"""How far from where it is seen the lower lip may come, in outer-eye widths; 0.14 is the most in speech."""
COLUMNS = 9
"""Lip columns between the corners that are forced to the commanded gap."""
UPPER_SHARE = 0.3
"""Part of a missing gap that the upper lip gives; the jaw gives the rest."""
POUT_RINGS = (0.0, 0.012, 0.028, 0.04)
"""How far each ring of a lip moves outwards when lips are pushed forward, in outer-eye widths."""
SHUT_JAW_APERTURE = 0.1
"""Lips may be this far apart, in outer-eye widths, over a jaw that is shut, as in a smile."""


Bounds = tuple[int, int, int, int]
"""First row, row after the last, first column, column after the last."""


@dataclass(frozen=True, slots=True)
class Region:
    """The part of the picture that ever changes: ``rows`` by ``cols`` square cells from (x0, y0) on."""

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
        """Return (rows + 2 rim, cols + 2 rim, 2): picture positions of the middles of the cells."""
        first = np.array([self.x0, self.y0], np.float32) + (self.cell_px - 1) / 2 - rim * self.cell_px
        return np.asarray(first + self.cell_px * grid(self.rows + 2 * rim, self.cols + 2 * rim), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class MeshPortrait:
    """Everything the engine knows about one portrait. K coefficients: modes, lip columns, pout, head pose.

    ``canvas`` (H, W, 3); ``fields`` (K, N) float32 in cells, first the layer of the upper lip in the whole
    region, then that of the lower lip in ``lower_cells`` (row0, row1, col0, col1), two numbers a cell;
    ``cells`` (rows, cols, 2) is the region's grid and ``centres_px`` its place in the picture, with one more
    cell all round; ``mouth_cells`` is where the two layers may differ, and ``lower_cells`` that and all that
    may come there; ``moves`` (K, 478, 2) the same motion at the landmarks in pixels.
    """

    canvas: Frame
    landmarks_px: F32
    region: Region
    cells: F32
    centres_px: F32
    fields: F32
    mouth_cells: Bounds
    lower_cells: Bounds
    moves: F32
    eye_width_px: float
    down: F32
    gap_profile: F32
    round_profile: F32
    source_gap: F32
    interior: MouthInterior
    eyes: dict[str, Eye]

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the frames."""
        return self.canvas.shape[1], self.canvas.shape[0]


class MeshEngine:
    """Renders on the CPU, with nothing to download. Holds no state, so threads share it freely."""

    name = "mesh"
    device = "cpu"

    def prepare(self, portrait: Portrait, *, size_px: int = 512, paste_back: bool = False) -> MeshPortrait:
        """Make the fields, mouth and eyes of one portrait; see :class:`vortex.engines.base.Engine`."""
        from vortex.portrait import crop_face, even_sides

        framed = even_sides(portrait) if paste_back else crop_face(portrait, size_px)
        with single_blas_thread():
            return _prepare(framed.image, framed.landmarks_px)

    def iter_frames(self, prepared: MeshPortrait, motion: MotionTrack) -> Iterator[Frame]:
        """Yield one frame for each row of ``motion``."""
        coefficients = _coefficients(prepared, motion)
        opening = aperture(motion) * prepared.eye_width_px
        closing = {side: lid_closing(motion, side) for side in prepared.eyes}
        looking, rounded = gaze(motion), rounding(motion)
        region = prepared.region
        corner = (region.x0, region.y0)
        for start in range(0, len(motion), CHUNK):
            rows = slice(start, min(start + CHUNK, len(motion)))
            # not @: the threads of a BLAS spin for a while after each product, and take the encoder's core
            fields = np.einsum("tk,kc->tc", coefficients[rows], prepared.fields)
            points = prepared.landmarks_px[:, :2] + np.einsum(
                "tk,kpc->tpc", coefficients[rows], prepared.moves
            )
            for offset, (field, lips) in enumerate(zip(fields, points, strict=True)):
                index = start + offset
                frame = prepared.canvas.copy()
                where = _warp(frame, prepared, field, lips)
                for side, eye in prepared.eyes.items():
                    lids = lips[LID_RINGS[side]]
                    lid = float(closing[side][index])
                    draw_eye(frame, prepared.canvas, where, corner, eye, lids, lid, looking[index])
                if opening[index] > MIN_OPENING_PX:
                    _fill_mouth(frame, prepared, lips, float(rounded[index]))
                yield frame

    def notes(self, prepared: MeshPortrait, motion: MotionTrack) -> tuple[str, ...]:
        """Nothing to tell."""
        return ()

    def close(self) -> None:
        """Nothing to give back."""


def _prepare(canvas: Frame, landmarks_px: F32) -> MeshPortrait:
    basis = load_basis()
    landmarks_px = _inside_lips(landmarks_px)
    scale, rotation, _ = similarity(basis.template[STABLE], landmarks_px[STABLE])
    points = landmarks_px[:, :2]
    right, down = rotation[:2, 0], rotation[:2, 1]
    right, down = right / np.linalg.norm(right), down / np.linalg.norm(down)
    across = landmarks_px[OUTER_EYE_CORNERS[1]] - landmarks_px[OUTER_EYE_CORNERS[0]]
    eye_width_px = max(float(np.linalg.norm(across[:2])), 0.8 * scale)
    modes = eye_width_px * (basis.modes @ rotation.T)[..., :2]
    lips = np.stack(
        [_lip_column(column, upper, down) for upper in (True, False) for column in range(COLUMNS)]
    )
    pout = eye_width_px * _pout(down)[None]
    face_moves = np.concatenate([modes, lips, pout]).astype(np.float32)
    moves = np.concatenate([face_moves, _pose_moves(landmarks_px, eye_width_px)]).astype(np.float32)
    region = _find_region(points, canvas)
    fields, mouth_cells, lower_cells = _dense_fields(points, moves, len(face_moves), region)
    gap = ((points[LOWER_INNER] - points[UPPER_INNER]) @ down)[1:-1]
    along = np.linspace(-1, 1, COLUMNS + 2)[1:-1]
    profile = (1 - np.abs(along) ** 2.2) ** 0.75
    round_profile = np.sqrt(np.maximum(1 - (along / 0.78) ** 2, 0))
    return MeshPortrait(
        canvas=canvas,
        landmarks_px=landmarks_px,
        region=region,
        cells=grid(region.rows, region.cols),
        centres_px=region.centres_px(rim=1),
        fields=fields,
        mouth_cells=mouth_cells,
        lower_cells=lower_cells,
        moves=moves,
        eye_width_px=eye_width_px,
        down=down.astype(np.float32),
        gap_profile=(profile / profile.max()).astype(np.float32),
        round_profile=round_profile.astype(np.float32),
        source_gap=gap.astype(np.float32),
        interior=paint_interior(canvas, landmarks_px, right.astype(np.float32), eye_width_px),
        eyes={side: find_eye(canvas, landmarks_px, side) for side in ("Left", "Right")},
    )


def _inside_lips(landmarks_px: F32) -> F32:
    """Return the landmarks with the inner edge of open lips moved a little into the flesh.

    Landmarks lie up to a few pixels off the true edge; teeth on the wrong side of it would show as a white
    line between closed lips.
    """
    result = landmarks_px.copy()
    eye_width_px = np.linalg.norm(np.subtract(*landmarks_px[list(OUTER_EYE_CORNERS), :2]))
    gap = landmarks_px[LOWER_INNER, :2] - landmarks_px[UPPER_INNER, :2]
    size = np.linalg.norm(gap, axis=1, keepdims=True)
    inset = np.minimum(0.018 * eye_width_px, 0.25 * size) * gap / np.maximum(size, 1e-6)
    result[UPPER_INNER, :2] -= inset
    result[LOWER_INNER, :2] += inset
    return result


def _lip_column(column: int, upper: bool, down: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (478, 2): one lip column moved one pixel down, its rings and neighbours following."""
    moves = np.zeros((478, 2))
    rings = UPPER_RINGS if upper else LOWER_RINGS
    moves[rings[:, column]] = RING_WEIGHTS[:, None] * down
    return moves


def _pout(down: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (478, 2) in outer-eye widths: lips pushed forward, which look fuller; their inner edges stay."""
    moves = np.zeros((478, 2))
    middle = 1 - np.linspace(-1, 1, COLUMNS + 2)[1:-1] ** 2
    for rings, sign in ((UPPER_RINGS, -0.7), (LOWER_RINGS, 1.0)):
        for ring, amount in zip(rings, POUT_RINGS, strict=True):
            moves[ring] = sign * amount * middle[:, None] * down
    return moves


def _pose_moves(landmarks_px: F32, eye_width_px: float) -> npt.NDArray[np.float64]:
    """Return (3, 478, 2) pixels per degree of pitch, yaw and roll about the neck (small-angle rotation)."""
    x, y, _ = landmarks_px.astype(np.float64).T
    neck_x, neck_y = landmarks_px[[234, 454], 0].mean(), landmarks_px[152, 1] + 0.35 * eye_width_px
    depth = _depth(landmarks_px) + 0.25 * eye_width_px
    zero = np.zeros_like(x)
    per_radian = np.stack(
        [
            np.stack([zero, depth], axis=1),
            np.stack([depth, zero], axis=1),
            np.stack([-(y - neck_y), x - neck_x], axis=1),
        ]
    )
    return np.asarray(np.radians(per_radian), np.float64)


def _depth(landmarks_px: F32) -> npt.NDArray[np.float64]:
    """Return (478,) how far each landmark stands out of the silhouette, in pixels.

    At the silhouette true depth falls off a cliff, and a picture rotated by it folds: there a quadratic dome
    through all landmarks takes over, which leaves nose and cheeks as they are.
    """
    oval = landmarks_px[FACE_OVAL, :2]
    centre, half = (oval.min(0) + oval.max(0)) / 2, (oval.max(0) - oval.min(0)) / 2
    u, v = ((landmarks_px[:, :2] - centre) / half).astype(np.float64).T
    toward = np.median(landmarks_px[[234, 454], 2]) - landmarks_px[:, 2].astype(np.float64)
    terms = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=1)
    dome = terms @ np.linalg.lstsq(terms[:468], toward[:468], rcond=None)[0]
    inner = 1 - smoothstep(np.hypot(u, v), 0.45, 0.8)
    return np.asarray(dome + inner * (toward - dome), np.float64)


def _find_region(points: F32, canvas: Frame) -> Region:
    low, high = points.min(0), points.max(0)
    centre, half = (low + high) / 2, (high - low) / 2 * [1.95, 1.75]
    x0, y0 = np.maximum(np.floor(centre - half), 0).astype(int).tolist()
    x1, y1 = np.minimum(np.ceil(centre + half), [canvas.shape[1], canvas.shape[0]]).astype(int).tolist()
    cell_px = max(round(max(x1 - x0, y1 - y0) / GRID), 1)
    return Region(x0, y0, cell_px, (y1 - y0) // cell_px, (x1 - x0) // cell_px)


def _dense_fields(points: F32, moves: F32, face_modes: int, region: Region) -> tuple[F32, Bounds, Bounds]:
    """Return fields, mouth_cells and lower_cells of :class:`MeshPortrait`."""
    origin, size = np.array([region.x0, region.y0], np.float64), np.array(region.size_px, np.float64)
    nodes, values = _nodes(points, moves, face_modes, region)
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
    edges = [smoothstep(_from_edge(count), 0.0, 0.14) for count in (region.rows, region.cols)]
    window = np.outer(*edges)[None, :, :, None]
    upper, lower = (layer * window / region.cell_px for layer in layers)
    rows, cols = np.nonzero(near.reshape(region.rows, region.cols))
    eye_cells = np.linalg.norm(np.subtract(*points[list(OUTER_EYE_CORNERS)])) / region.cell_px
    mouth = (int(rows.min()), int(rows.max()) + 1, int(cols.min()), int(cols.max()) + 1)
    # the head carries the mouth out of its place
    mouth = _widened(mouth, int(np.ceil(POSE_REACH * eye_cells)), region)
    reach = _widened(mouth, int(np.ceil(LOWER_REACH * eye_cells)), region)
    lower = lower[:, reach[0] : reach[1], reach[2] : reach[3]]
    fields = np.concatenate([layer.reshape(len(moves), -1) for layer in (upper, lower)], axis=1)
    return fields.astype(np.float32), mouth, reach


def _widened(bounds: Bounds, by: int, region: Region) -> Bounds:
    row0, row1, col0, col1 = bounds
    return max(row0 - by, 0), min(row1 + by, region.rows), max(col0 - by, 0), min(col1 + by, region.cols)


def _from_edge(count: int) -> npt.NDArray[np.float64]:
    """Return (count,): distance of each cell from the nearer end, in parts of the whole."""
    along = (np.arange(count) + 0.5) / count
    return np.minimum(along, 1 - along)


def _nodes(
    points: F32, moves: F32, face_modes: int, region: Region
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return nodes (N, 2) and their motion (K, N, 2): landmarks, a ring of hair and neck, a still frame."""
    face = points[:468].astype(np.float64)
    centre = (face.min(0) + face.max(0)) / 2
    oval = points[FACE_OVAL[::2]].astype(np.float64)
    ring = centre + 1.34 * (oval - centre)
    # hair goes with the head, the neck hardly
    above = 1 - smoothstep((ring[:, 1] - centre[1]) / (face[:, 1].max() - centre[1]), 0.0, 1.0)
    follow = 0.15 + 0.65 * above
    ring_moves = moves[:, FACE_OVAL[::2]] * follow[None, :, None]
    ring_moves[:face_modes] = 0
    side = np.linspace(0, 1, 6)
    frame = np.array([(u, v) for u in side for v in side if u in (0, 1) or v in (0, 1)])
    frame = np.array([region.x0, region.y0]) + frame * region.size_px
    nodes = np.concatenate([face, ring, frame])
    values = np.concatenate([moves[:, :468], ring_moves, np.zeros((len(moves), len(frame), 2))], axis=1)
    return nodes, values.astype(np.float64)


def _near_mouth(points: F32, queries: F32) -> F32:
    """Return (Q,): 1 where each lip needs a field of its own, 0 away from the mouth and past its corners."""
    corners = points[[78, 308]].astype(np.float64)
    centre, half = corners.mean(0), (corners[1] - corners[0]) / 2
    width = np.linalg.norm(half)
    along = (queries - centre) @ half / width**2
    off = np.abs((queries - centre) @ np.array([-half[1], half[0]])) / width**2
    return (1 - smoothstep(np.abs(along), 0.88, 1.12)) * (1 - smoothstep(off, 0.9, 1.7))


def _coefficients(prepared: MeshPortrait, motion: MotionTrack) -> F32:
    """Return (T, K): modes, lip columns in pixels (upper, lower), pout in [0, 1], pose in degrees.

    A basis of modes leaves lips uneven: the columns make the gap between them exactly the commanded one.
    """
    eye, down = prepared.eye_width_px, prepared.down
    corners = prepared.landmarks_px[[61, 291], :2]
    source_aperture = float(prepared.source_gap[COLUMNS // 2]) / eye
    modes = mode_commands(
        motion,
        source_width=float(np.linalg.norm(corners[1] - corners[0])) / eye,
        source_aperture=max(source_aperture - SHUT_JAW_APERTURE, 0.0),
        brow_height=max(brow_height(prepared.landmarks_px[:, :2], down) / eye, 0.02),
    )
    count = modes.shape[1]
    moved = (prepared.moves[:count, LOWER_INNER[1:-1]] - prepared.moves[:count, UPPER_INNER[1:-1]]) @ down
    gap = prepared.source_gap + modes @ moved
    rounded = rounding(motion)[:, None]
    profile = (1 - rounded) * prepared.gap_profile + rounded * prepared.round_profile
    missing = aperture(motion)[:, None] * eye * profile - gap
    bias = lip_bias(motion)[:, None] * eye
    upper, lower = -UPPER_SHARE * missing - bias, (1 - UPPER_SHARE) * missing - bias
    return np.concatenate([modes, upper, lower, rounded, motion.head_pose_deg], axis=1).astype(np.float32)


def _warp(frame: Frame, prepared: MeshPortrait, field: F32, points: F32) -> F32:
    """Warp the region of ``frame`` in place, cut along the lips; return where each of its pixels comes from.

    ``field`` (N,) in cells, a row like those of ``prepared.fields``; ``points`` (478, 2) the moved landmarks.
    The result is (h, w, 2).
    """
    region, mouth = prepared.region, prepared.mouth_cells
    width, height = region.size_px
    everywhere = (0, region.rows, 0, region.cols)
    row0, row1, col0, col1 = prepared.lower_cells
    upper = field[: prepared.cells.size].reshape(region.rows, region.cols, 2)
    lower = field[prepared.cells.size :].reshape(row1 - row0, col1 - col0, 2)
    where = _source_positions(upper, prepared, (0, 0), everywhere, iterations=3)
    below = _source_positions(lower, prepared, (row0, col0), mouth, iterations=6)
    row0, _, col0, _ = mouth
    corner = np.array([col0, row0]) * region.cell_px
    box_h, box_w = below.shape[:2]
    seam = (points[UPPER_INNER] + points[LOWER_INNER]) / 2 - [region.x0, region.y0] - corner
    # past the corners of the mouth both layers agree: the cut may run straight on
    outline = np.concatenate([[[-1, seam[0, 1]]], seam, [[box_w, seam[-1, 1]], [box_w, box_h], [-1, box_h]]])
    mask = np.zeros((box_h, box_w), np.uint8)
    cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    frame[region.y0 : region.y0 + height, region.x0 : region.x0 + width] = remap_fixed(prepared.canvas, where)
    x0, y0 = region.x0 + corner[0], region.y0 + corner[1]
    lower_face, box = remap_fixed(prepared.canvas, below), frame[y0 : y0 + box_h, x0 : x0 + box_w]
    # 0 wraps round to 255: neither 0 nor 255
    edge = (mask - np.uint8(1) < 254).nonzero()
    share = mask[edge][:, None] / 255
    mixed = box[edge] + share * (lower_face[edge].astype(np.float64) - box[edge])
    cv2.copyTo(lower_face, mask, box)
    box[edge] = np.round(mixed).astype(np.uint8)
    return where


def _source_positions(
    field: F32, prepared: MeshPortrait, first: tuple[int, int], bounds: Bounds, *, iterations: int
) -> F32:
    """Return (h, w, 2): where in the picture the pixels of some cells come from.

    ``field`` (rows, cols, 2) begins with the cell ``first`` (row, column).
    """
    row0, row1, col0, col1 = bounds
    cell_px = prepared.region.cell_px
    backward = invert(field, prepared.cells[: field.shape[0], : field.shape[1]], iterations)
    # one more cell all round, so that enlarging does not flatten the rim
    padded = cv2.copyMakeBorder(backward, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    padded = padded[row0 - first[0] : row1 - first[0] + 2, col0 - first[1] : col1 - first[1] + 2]
    sources = cell_px * padded + prepared.centres_px[row0 : row1 + 2, col0 : col1 + 2]
    size = (sources.shape[1] * cell_px, sources.shape[0] * cell_px)
    enlarged = cv2.resize(sources, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged[cell_px:-cell_px, cell_px:-cell_px], np.float32)


def _fill_mouth(frame: Frame, prepared: MeshPortrait, points: F32, rounded: float) -> None:
    """Draw what is between the lips at ``points`` (478, 2) into ``frame`` in place."""
    pose = points[168] - prepared.landmarks_px[168, :2]
    composite_mouth(
        frame,
        prepared.interior,
        points[UPPER_INNER],
        points[LOWER_INNER],
        (prepared.interior.anchor_px + pose).astype(np.float32),
        (points[LOWER_INNER[5]] - 0.02 * prepared.eye_width_px * prepared.down).astype(np.float32),
        rounded,
    )
