"""The upper teeth that a photo shows: where they are, and how they replace the drawn ones."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vortex.engines.mesh.light import LUMA, PhotoLight, luma
from vortex.face.landmarks import LOWER_INNER, UPPER_INNER
from vortex.interpolation import smoothstep
from vortex.types import F32, F64, I64, Frame

COLUMNS, ROWS = 161, 64
"""Samples along the mouth, and from the upper to the lower lip."""
MIN_GAP_MM = 2.5
"""Lips closer than this show too little of the teeth."""
MAX_REDNESS = 0.85
"""Enamel is at most this red, as a part of the redness of the lips."""
MIN_CONTRAST = 0.12
"""Teeth are brighter than what is behind them by this, as a part of the luma of the skin."""
MIN_COLUMNS = 0.22
"""Part of the mouth's width in which a photo must show teeth."""
FIRST_SHARE = 0.4
"""Upper teeth begin in this part of the opening, from the upper lip."""
MIN_HEIGHT_MM = 1.0
BITE_MM = (5.5, 10.5)
"""In a shut bite, upper and lower teeth meet within this range below the upper lip: at the darkest line."""
BITE_DARK = 0.9
"""That line is at most this bright, as a part of the enamel under it."""
TALL_SHARE = 0.3
"""Part of the columns in which runs must be higher than that for a bite."""
RAGGED_MM = (1.1, 2.2)
"""Edges of teeth lie at most this far above and below a parabola through most of them."""
FIT_ROUNDS = 4
BEND_MM = 22.0
"""The parabola ends this far from the middle."""
CROWN_MM = (8.0, 10.5)
"""Above the edge of the teeth, what the lip hides is a continued crown up to here, and gum from there on."""
SIDE_FADE_MM = 2.5
"""Over this width the photo's teeth turn into drawn ones at the sides."""
GAIN_LIMITS = (0.55, 1.6)
"""Least and most by which drawn teeth are made darker or brighter to match."""


@dataclass(frozen=True, slots=True, eq=False)
class OwnTeeth:
    """Upper teeth in a photo, in coordinates u, v in millimetres from the middle of the upper lip's edge.

    ``u`` (n,) increases; ``top`` and ``bottom`` (n,) are where teeth are visible there, from the upper lip
    to their edge; ``shown`` (n,) in [0, 1] fades at the sides. The edges of all teeth lie on the parabola
    ``edge_mm`` + ``bend[0]`` u + ``bend[1]`` u².
    """

    u: F32
    top: F32
    bottom: F32
    shown: F32
    edge_mm: float
    bend: tuple[float, float]

    def bend_at(self, u: F32) -> F32:
        """Return how far below that of the incisors the edges of the teeth at ``u`` lie, in millimetres."""
        near = np.clip(u, -BEND_MM, BEND_MM)
        return np.asarray(self.bend[0] * near + self.bend[1] * near**2, np.float32)


def find_teeth(
    image: Frame, points: F32, axes: F32, origin_px: F32, px_per_mm: float, light: PhotoLight
) -> OwnTeeth | None:
    """Return the upper teeth between open lips with landmarks ``points`` (478, 2), or None."""
    to_mm = axes / px_per_mm
    upper, lower = ((points[edge] - origin_px) @ to_mm for edge in (UPPER_INNER, LOWER_INNER))
    u = np.linspace(upper[0, 0], upper[-1, 0], COLUMNS).astype(np.float32)
    top, floor = np.interp(u, *upper.T), np.interp(u, *lower.T)
    if float((floor - top).max()) < MIN_GAP_MM:
        return None
    share = np.linspace(0, 1, ROWS)[:, None]
    v = top + share * np.maximum(floor - top, 0)
    colours = look_up(image, np.broadcast_to(u, v.shape), v, axes, origin_px, px_per_mm)
    teeth = _is_tooth(colours, light)
    if teeth is None:
        return None
    # The first run of enamel in each column, if it begins near the upper lip.
    first = np.argmax(teeth, axis=0)
    after = np.arange(ROWS)[:, None] > first
    # A run ends where two samples in a row are something else.
    end = after & ~teeth & ~np.roll(teeth, -1, axis=0)
    last = np.where(end.any(axis=0), np.argmax(end, axis=0), ROWS - 1)
    last = np.minimum(last, _bite(colours, top, floor, last))
    height = (last - first) / (ROWS - 1) * (floor - top)
    there = teeth.any(axis=0) & (first < FIRST_SHARE * ROWS) & (height > MIN_HEIGHT_MM)
    if there.mean() < MIN_COLUMNS:
        return None
    bottom = np.interp(u, u[there], (top + last / (ROWS - 1) * (floor - top))[there])
    bottom = cv2.medianBlur(bottom.astype(np.float32)[None], 5)[0]
    spread = cv2.morphologyEx(there.astype(np.uint8)[None], cv2.MORPH_CLOSE, np.ones((1, 15), np.uint8))
    fade = max(round(SIDE_FADE_MM / float(u[1] - u[0])), 1)
    inner = cv2.erode(spread, np.ones((1, 2 * fade + 1), np.uint8), borderValue=0)
    shown = cv2.blur(inner.astype(np.float32), (2 * fade + 1, 1))[0]
    (edge, *bend), curve = _parabola(u, bottom, there)
    higher, lower_by = RAGGED_MM
    bottom = np.where(bottom < curve - higher, curve, np.minimum(bottom, curve + lower_by))
    return OwnTeeth(u, top.astype(np.float32), bottom.astype(np.float32), shown, edge, (bend[0], bend[1]))


def bend_row(row: F32, down_mm: F32, scale: float) -> F32:
    """Return the drawn row (h, w, 4) with each column moved down by ``down_mm`` (w,)."""
    rows, columns = np.mgrid[: row.shape[0], : row.shape[1]].astype(np.float32)
    moved = cv2.remap(row, columns, rows - (scale * down_mm).astype(np.float32), cv2.INTER_LINEAR)
    return np.asarray(moved, np.float32)


def add_own_teeth(
    row: F32,
    own: OwnTeeth,
    image: Frame,
    seen_mm: F32,
    v_mm: F32,
    axes: F32,
    origin_px: F32,
    px_per_mm: float,
) -> tuple[F32, F32]:
    """Return the drawn row (h, w, 4) with the photo's teeth on top, and the gain (3,) that matched the rest.

    ``seen_mm`` (w,) and ``v_mm`` (h,) are where the columns and rows of the drawn row are in the photo, in
    the coordinates of ``own``.
    """
    top, bottom, shown = (np.interp(seen_mm, own.u, values) for values in (own.top, own.bottom, own.shown))
    margin = 1.5 / px_per_mm
    v = np.broadcast_to(v_mm[:, None], row.shape[:2])
    # What the lip hides continues the crowns below it.
    photo = look_up(
        image, np.broadcast_to(seen_mm, v.shape), np.maximum(v, top + margin), axes, origin_px, px_per_mm
    )
    soft = 0.8 / px_per_mm
    crown = smoothstep(bottom - v, CROWN_MM[1], CROWN_MM[0])
    alpha = shown * (1 - smoothstep(v, bottom - soft, bottom + soft)) * np.where(v < top + margin, crown, 1)
    alpha = alpha[..., None].astype(np.float32)
    both = (alpha[..., 0] > 0.9) & (row[..., 3] > 0.9) & (v > top + margin) & (np.abs(seen_mm) < 14)
    gain = np.ones(3, np.float32)
    if both.any():
        gain = np.clip(photo[both].mean(0) / np.maximum(row[both][:, :3].mean(0), 1), *GAIN_LIMITS)
    matched = row * np.concatenate([gain, np.ones(1)]).astype(np.float32)
    patch = np.concatenate([photo, np.ones((*v.shape, 1), np.float32)], axis=2)
    return (matched * (1 - alpha) + patch * alpha).astype(np.float32), gain.astype(np.float32)


def look_up(image: Frame, u: F32, v: F32, axes: F32, origin_px: F32, px_per_mm: float) -> F32:
    """Return (h, w, 3) float32: the photo at the places u, v (h, w) in millimetres."""
    where = origin_px + px_per_mm * (u[..., None] * axes[:, 0] + v[..., None] * axes[:, 1])
    # OpenCV accepts None for the second map; its type stubs do not.
    colours = cv2.remap(
        image, where.astype(np.float32), None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )  # type: ignore
    return np.asarray(colours, np.float32)


def _parabola(u: F32, bottom: F32, there: npt.NDArray[np.bool_]) -> tuple[list[float], F64]:
    """Return three coefficients of a parabola through most edges (n,) of teeth, and its values (n,)."""
    terms = np.stack([np.ones_like(u), u, u * u], axis=1).astype(np.float64)
    used = there
    for _ in range(FIT_ROUNDS):
        coefficients = np.linalg.lstsq(terms[used], bottom[used].astype(np.float64), rcond=None)[0]
        curve = terms @ coefficients
        # Enamel in shade is missed, so edges that lie too high are more often wrong than those too low.
        used = there & (bottom > curve - RAGGED_MM[0]) & (bottom < curve + RAGGED_MM[1])
    return coefficients.tolist(), curve


def _bite(colours: F32, top: F64, floor: F64, last: I64) -> I64:
    """Return (n,): the last row of upper teeth where a run is so high that lower teeth must be part of it."""
    bright = cv2.GaussianBlur(colours @ LUMA, (0, 0), sigmaX=6, sigmaY=0.8)
    below = np.linspace(0, 1, ROWS)[:, None] * (floor - top)
    columns = np.arange(len(last))
    reach = below[last, columns]
    if (reach > BITE_MM[1]).mean() < TALL_SHARE:
        return np.full(len(last), ROWS - 1)
    within = (below > BITE_MM[0]) & (below < BITE_MM[1])
    darkest = np.argmin(np.where(within, bright, np.inf), axis=0)
    under = np.where((below > below[darkest, columns]) & (below < reach), bright, 0).max(axis=0)
    line = bright[darkest, columns] / np.maximum(under, 1)
    if np.median(line[reach > BITE_MM[1]]) > BITE_DARK:
        return np.full(len(last), ROWS - 1)
    return np.where(reach > BITE_MM[0], darkest, ROWS - 1)


def _is_tooth(colours: F32, light: PhotoLight) -> npt.NDArray[np.bool_] | None:
    """Return (ROWS, n): whether samples between the lips are enamel; None if no contrast tells it."""
    bright = colours @ LUMA
    dark, enamel = np.percentile(bright, 8), np.percentile(bright[: ROWS // 2], 85)
    lip_luma = luma(light.lip_rgb)
    if enamel - dark < MIN_CONTRAST * light.skin_luma:
        return None
    teeth = bright > 0.5 * (dark + enamel)
    lip_red = float(light.lip_rgb[0] - light.lip_rgb[1]) / max(lip_luma, 1.0)
    if lip_red > 0.05:
        redness = (colours[..., 0] - colours[..., 1]) / np.maximum(bright, 1)
        teeth &= redness < MAX_REDNESS * lip_red
    return np.asarray(teeth, bool)
