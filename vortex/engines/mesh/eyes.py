"""Blinks and gaze: the upper lid slides over the eye, the iris moves behind it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vortex.engines.mesh.face import LIDS
from vortex.engines.mesh.field import remap
from vortex.types import Frame

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Eye:
    """One eye of the source picture: its lid curves by column.

    ``x0`` is the first column; ``upper_y`` and ``lower_y`` (w,) float32 are the lid edges in picture pixels,
    ``lift`` is the height of skin above the lid that stretches when it closes, ``box`` (x0, y0, x1, y1) the
    region of the picture that can change, ``width_px`` the distance between the corners.
    """

    x0: int
    upper_y: F32
    lower_y: F32
    lift: float
    box: tuple[int, int, int, int]
    width_px: float


def find_eye(landmarks_px: F32, side: str, size_px: tuple[int, int]) -> Eye:
    """Read the lids of ``side`` ("Left" or "Right" of the person) off the landmarks; size is (w, h)."""
    upper, lower = (landmarks_px[index, :2] for index in LIDS[side])
    x0, x1 = int(np.floor(upper[0, 0])), int(np.ceil(upper[-1, 0]))
    columns = np.arange(x0, x1 + 1, dtype=np.float32)
    upper_y = np.interp(columns, upper[:, 0], upper[:, 1]).astype(np.float32)
    lower_y = np.interp(columns, lower[:, 0], lower[:, 1]).astype(np.float32)
    lower_y = np.maximum(lower_y, upper_y)
    gap = float((lower_y - upper_y).max())
    lift = 1.35 * gap + 0.05 * (x1 - x0)
    margin = 0.35 * (x1 - x0)
    box = (
        max(int(x0 - margin), 0),
        max(int(upper_y.min() - lift - margin), 0),
        min(int(x1 + margin), size_px[0]),
        min(int(lower_y.max() + margin), size_px[1]),
    )
    return Eye(x0, upper_y, lower_y, lift, box, float(np.linalg.norm(upper[-1] - upper[0])))


def draw_eye(
    out: Frame, source: Frame, where: F32, eye: Eye, closing: float, gaze: F32, origin: tuple[int, int]
) -> None:
    """Redraw one eye in ``out`` (h, w, 3) in place.

    ``where`` (h, w, 2) float32 holds the source position of each pixel of ``out`` before lids and gaze,
    ``origin`` the picture position of ``out[0, 0]``; ``closing`` in [0, 1]; ``gaze`` (2,) in eye widths.
    """
    x0, y0, x1, y1 = eye.box
    rows, cols = slice(y0 - origin[1], y1 - origin[1]), slice(x0 - origin[0], x1 - origin[0])
    if min(rows.start, cols.start) < 0 or (closing < 0.01 and not np.abs(gaze).max() > 1e-3):
        return
    x, y = where[rows, cols, 0], where[rows, cols, 1]
    column = np.clip(x - eye.x0, 0, len(eye.upper_y) - 1)
    left = np.minimum(column.astype(np.intp), len(eye.upper_y) - 2)
    part = column - left
    upper = eye.upper_y[left] * (1 - part) + eye.upper_y[left + 1] * part
    lower = eye.lower_y[left] * (1 - part) + eye.lower_y[left + 1] * part
    gap = lower - upper
    drop = closing * gap * 0.97
    lid = upper + drop
    # the skin above stretches like t², so that it leaves the brow at rest without a kink
    t = np.clip((y - (upper - eye.lift)) / (eye.lift + drop), 0, 1)
    skin_y = y - drop * t * t
    depth = np.clip(np.minimum(y - upper, lower - y) / np.maximum(0.5 * gap, 1e-3), 0, 1)
    reach = depth * (gap > 1) * eye.width_px
    eyeball = _sample(source, x - gaze[0] * reach, y - gaze[1] * reach)
    skin = _sample(source, x, skin_y)
    inside = (x > eye.x0) & (x < eye.x0 + len(eye.upper_y) - 1)
    cover = np.clip(lid - y + 0.5, 0, 1) * (y < lower + 1)
    changed = inside[..., None] & (gap[..., None] > 0.3)
    mixed = eyeball + cover[..., None] * (skin - eyeball)
    region = out[rows, cols]
    below = (y > lower + 0.5)[..., None]
    np.copyto(region, np.clip(mixed + 0.5, 0, 255).astype(np.uint8), where=changed & ~below)


def _sample(source: Frame, x: npt.NDArray[np.floating], y: npt.NDArray[np.floating]) -> F32:
    """Return (h, w, 3) float32 colours of ``source`` at positions ``x``, ``y`` (h, w)."""
    return remap(source, np.stack([x, y], axis=2).astype(np.float32)).astype(np.float32)
