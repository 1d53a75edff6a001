"""The tongue: a mound behind the lower teeth, whose tip rises behind the upper ones.

The picture of it is stretched between its top and the floor of the mouth, so one picture serves every height.
Heights are in millimetres along the axis from the upper teeth down; sizes and shades were chosen by eye, next
to pictures of open mouths.
"""

from __future__ import annotations

import cv2
import numpy as np

from vortex.interpolation import smoothstep
from vortex.types import F32

ROWS, COLUMNS = 96, 160
"""Size of the picture."""
HALF_WIDTH_MM = 24.0
"""Half the width of the picture of a resting tongue."""
RAISED_WIDTH = 0.72
"""A raised tip is narrower than the body of a resting tongue."""
RAISED_TIP = 0.6
"""A raised tongue shows row v of the picture at v^(1 / (1 - RAISED_TIP)): its tip has a hard edge."""
SILHOUETTE = 0.5
"""How far the sides lie below the top, in heights of the picture."""
DEPTH_MM = 10.0
"""How far the front of a tongue lies behind the upper teeth."""

OPEN_SHARE, LEAST_MM, MOST_MM = 0.88, 1.5, 32.0
"""A resting tongue fills this part of the opening between the teeth, within these heights."""
FLOOR_MM = 13.0
"""How far the floor of the mouth lies below the edge of the lower teeth."""
BETWEEN_TEETH, BETWEEN_TEETH_MM = (0.9, 1.0), 0.8
"""A tongue that is raised so far comes out between the teeth, and covers so much of the upper ones."""
BEHIND_TEETH_MM = 1.0
"""How far above the edge of the upper teeth a raised tip touches them."""
BACK_LIGHT, RAISED_LIGHT = 0.4, 0.85
"""Light on the top: the far back of a resting tongue, and the tip of a raised one."""

PAPILLAE, PAPILLAE_SEED = 0.015, 11
"""Standard deviation of the shade of the rough surface."""


def draw_tongue(rgb: F32, warmth: F32) -> F32:
    """Return (ROWS, COLUMNS, 4) float32, premultiplied RGBA: colour in [0, 255], alpha in [0, 1].

    ``rgb`` (3,) is the colour of the flesh in the light at the lips, ``warmth`` (3,) are exponents of shade.
    """
    v = ((np.arange(ROWS, dtype=np.float32) + 0.5) / ROWS)[:, None]
    x = np.linspace(-1, 1, COLUMNS, dtype=np.float32)
    below_top = v - SILHOUETTE * np.abs(x) ** 2.2 - 0.02
    alpha = smoothstep(below_top, 0.0, 0.3) * smoothstep(1 - np.abs(x), 0.0, 0.06)
    # Light slides off the rounded top and sides, and a furrow runs along the middle.
    edge = 0.72 + 0.28 * smoothstep(below_top, 0.0, 0.24)
    sides = 1 - 0.35 * x**2
    furrow = 1 - 0.13 * np.exp(-((x / 0.07) ** 2)) * smoothstep(v, 0.12, 0.4)
    swell = 1 + 0.07 * np.exp(-(((np.abs(x) - 0.28) / 0.16) ** 2)) * smoothstep(v, 0.2, 0.5)
    rough = np.random.default_rng(PAPILLAE_SEED).normal(0, 3 * PAPILLAE, (ROWS, COLUMNS)).astype(np.float32)
    shade = np.maximum(edge * sides * furrow * swell * (1 + cv2.GaussianBlur(rough, (0, 0), 1.0)), 0)
    colour = rgb * shade[..., None] ** warmth
    return np.concatenate([colour * alpha[..., None], alpha[..., None]], axis=2).astype(np.float32)


def tongue_between(tongue: float) -> float:
    """Return how far a tongue raised by ``tongue`` comes out between the teeth, as in TH, in [0, 1]."""
    return float(smoothstep(tongue, *BETWEEN_TEETH))


def tongue_span_mm(lower_edge_mm: float, tongue: float) -> tuple[float, float]:
    """Return top and bottom of the tongue below the edge of the upper teeth, in millimetres.

    ``lower_edge_mm`` is where the edge of the lower teeth is; ``tongue`` in [0, 1] is 0 at rest, 1 with the
    tip at the upper teeth.
    """
    rest = lower_edge_mm - min(max(OPEN_SHARE * lower_edge_mm, LEAST_MM), MOST_MM)
    top = (1 - tongue) * rest - tongue * BEHIND_TEETH_MM - tongue_between(tongue) * BETWEEN_TEETH_MM
    return top, lower_edge_mm + FLOOR_MM


def tongue_light(v: F32, tongue: float) -> F32:
    """Return the light on the tongue at ``v``: 0 at its top, 1 at its bottom. It grows towards the lips."""
    top = (1 - tongue) * BACK_LIGHT + tongue * RAISED_LIGHT
    return np.asarray(top + (1 - top) * smoothstep(v, 0.0, 0.45), np.float32)
