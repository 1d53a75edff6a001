"""Blinks and gaze: the upper lid slides over the eye, the iris moves behind it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vortex.engines.mesh.face import BROWS, LIDS
from vortex.engines.mesh.field import remap
from vortex.types import Frame

F32 = npt.NDArray[np.float32]
Reals = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class Eye:
    """One eye of the source picture: its lid curves, in a frame of its own with x from corner to corner.

    ``axes`` (2, 2) turns picture pixels (columns) into that frame; ``x0`` is the first column there;
    ``upper_y`` and ``lower_y`` (w,) float32 are the lid edges,
    ``lift_px`` is the height of the skin above the lid that stretches when it closes, ``lash_px`` that of the
    lash line, which moves rigidly; ``box`` (x0, y0, x1, y1) is the region of the picture that can change,
    ``width_px`` the distance between the corners.
    """

    axes: F32
    x0: int
    upper_y: F32
    lower_y: F32
    lift_px: float
    lash_px: float
    box: tuple[int, int, int, int]
    width_px: float


def find_eye(landmarks_px: F32, side: str, size_px: tuple[int, int]) -> Eye:
    """Read the lids of ``side`` ("Left" or "Right" of the person) off the landmarks; size is (w, h)."""
    corners = landmarks_px[LIDS[side][0][[0, -1]], :2]
    along = (corners[1] - corners[0]) / np.linalg.norm(corners[1] - corners[0])
    axes = np.array([along, [-along[1], along[0]]], np.float32)
    upper, lower = (landmarks_px[index, :2] @ axes.T for index in LIDS[side])
    x0, x1 = int(np.floor(upper[0, 0])), int(np.ceil(upper[-1, 0]))
    columns = np.arange(x0, x1 + 1, dtype=np.float32)
    width_px = float(np.linalg.norm(upper[-1] - upper[0]))
    # landmarks lie on the waterline; a rim of white is left unless the lid closes a little beyond
    part = np.linspace(0, 1, len(columns), dtype=np.float32)
    rim = 0.05 * width_px * np.minimum(1, 5 * part * (1 - part))
    upper_y = np.interp(columns, upper[:, 0], upper[:, 1]).astype(np.float32) - 0.4 * rim
    lower_y = np.interp(columns, lower[:, 0], lower[:, 1]).astype(np.float32) + rim
    lower_y = np.maximum(lower_y, upper_y)
    gap = float((lower_y - upper_y).max())
    to_brow = float(upper_y.mean() - (landmarks_px[BROWS[side], :2] @ axes.T)[:, 1].mean())
    lift_px = float(np.clip(0.5 * to_brow, 0.9 * gap, 1.5 * gap))
    lash_px = min(0.08 * width_px, 0.3 * lift_px)
    reach = lift_px + gap + 0.35 * width_px
    margin = np.array([0.35 * width_px, reach])
    low = np.maximum(np.floor(corners.min(0) - margin), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(0) + margin), size_px).astype(int)
    box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
    return Eye(axes, x0, upper_y, lower_y.astype(np.float32), lift_px, lash_px, box, width_px)


def draw_eye(
    out: Frame, source: Frame, where: F32, eye: Eye, closing: float, gaze: F32, origin: tuple[int, int]
) -> None:
    """Redraw one eye in ``out`` (H, W, 3) in place.

    ``where`` (h, w, 2) float32 holds the source positions of a part of ``out`` that begins at ``origin``
    (x, y), before lids and gaze; ``closing`` in [0, 1]; ``gaze`` (2,) in eye widths.
    """
    x0, y0, x1, y1 = eye.box
    rows, cols = slice(y0 - origin[1], y1 - origin[1]), slice(x0 - origin[0], x1 - origin[0])
    outside = min(rows.start, cols.start) < 0 or rows.stop > where.shape[0] or cols.stop > where.shape[1]
    if outside or (closing < 0.01 and not np.abs(gaze).max() > 1e-3):
        return
    local = where[rows, cols] @ eye.axes.T
    x, y = local[..., 0], local[..., 1]
    column = np.clip(x - eye.x0, 0, len(eye.upper_y) - 1.001)
    left = column.astype(np.intp)
    part = column - left
    upper = eye.upper_y[left] * (1 - part) + eye.upper_y[left + 1] * part
    lower = eye.lower_y[left] * (1 - part) + eye.lower_y[left + 1] * part
    gap = lower - upper
    drop = closing * gap
    lid = upper + drop
    depth = np.clip(np.minimum(y - upper, lower - y) / np.maximum(0.5 * gap, 1e-3), 0, 1)
    reach = depth * (gap > 1) * eye.width_px
    eyeball = _sample(source, x - gaze[0] * reach, y - gaze[1] * reach, eye.axes)
    skin = _sample(source, x, _skin_row(lid - y, upper, drop, eye), eye.axes)
    cover = np.clip(lid - y + 0.5, 0, 1) * (y < lower + 1)
    inside = (x > eye.x0) & (x < eye.x0 + len(eye.upper_y) - 1) & (gap > 0.3) & (y <= lower + 0.5)
    mixed = eyeball + cover[..., None] * (skin - eyeball)
    np.copyto(out[y0:y1, x0:x1], np.clip(mixed + 0.5, 0, 255).astype(np.uint8), where=inside[..., None])


def _skin_row(above: Reals, upper: Reals, drop: Reals, eye: Eye) -> Reals:
    """Return the source row of the skin that lies ``above`` pixels over the moved lid edge.

    The lash line keeps its height; the skin between it and the brow stretches evenly to cover the eye.
    """
    lash, lift = eye.lash_px, eye.lift_px
    stretch = (lift - lash) / (lift - lash + drop)
    height = np.where(above < lash, above, lash + (above - lash) * stretch)
    height = np.where(above > lift + drop, above - drop, height)
    return np.asarray(upper - height)


def _sample(source: Frame, x: Reals, y: Reals, axes: F32) -> F32:
    """Return (h, w, 3) float32 colours of ``source`` at ``x``, ``y`` (h, w) in the frame of the eye."""
    return remap(source, (np.stack([x, y], axis=2) @ axes).astype(np.float32)).astype(np.float32)
