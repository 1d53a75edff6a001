"""Two rows of teeth and their gums as a picture: crowns side by side on a dental arch, seen from the front.

Lengths are in millimetres: x to the viewer's right from the middle, y down from the edge of the upper or the
lower central incisors, depth away from the viewer behind them. Sizes of teeth and arches are published
averages of dental anatomy (Wheeler's Dental Anatomy; Ash and Nelson 2003), rounded to half a millimetre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vortex.interpolation import smoothstep
from vortex.types import F32

OCCLUSION_MM = 48.0
"""Light falls to 1/e over this depth in a mouth."""
CAMERA_MM = 600.0
"""Distance of the camera, for the perspective of the arch."""
MIN_FACING = 0.3
"""A crown on the side of the arch still shows this part of its width."""
GUM_BETWEEN = 0.33
"""Part of the crown that the gum covers between two teeth; in their middle it covers nothing."""
GUM_HEIGHT_MM = 5.0
"""Above the crowns the gum fades into the fold behind the lip over this height."""
GAP_SHADE = 0.2
"""How much darker enamel is where it touches the next tooth: half as dark as an open gap."""
GLOSS, GLOSS_HEIGHT, GLOSS_SIZE = 0.12, 0.4, (0.35, 0.16)
"""Wet enamel shines: how much brighter, how far up from its edge, and how large (across, up)."""
CLOSED_GAPS = 1.04
"""How much wider crowns are drawn: half of the gaps that their rounded sides leave is filled."""
ROUNDED_PART = 0.32
"""Part of a crown, from its edge, over which its corners are rounded."""
ARCH_STEPS = 2000

ATLAS_HALF_WIDTH_MM = 33.0
"""Half the width of the drawn atlases."""


@dataclass(frozen=True, slots=True)
class Arch:
    """One row of teeth. The tuples go from the middle to the back: two incisors, canine, premolars, molars.

    ``widths_mm`` and ``heights_mm`` are those of the crowns, ``edges_mm`` how far each edge lies above that
    of the central incisor (below it in the lower row). The arch is depth = ``depth_mm`` (x / ``half_mm``)^e.
    ``to_gum`` is the direction from edge to gum along y.
    """

    widths_mm: tuple[float, ...]
    heights_mm: tuple[float, ...]
    edges_mm: tuple[float, ...]
    half_mm: float
    depth_mm: float
    exponent: float
    to_gum: int
    shade: float

    def depth_at(self, x_mm: F32) -> F32:
        """Return how far the arch lies behind its front at each x."""
        return np.asarray(self.depth_mm * np.abs(x_mm / self.half_mm) ** self.exponent, np.float32)


UPPER_ARCH = Arch(
    widths_mm=(8.5, 6.5, 7.5, 7.0, 7.0, 10.0, 10.0),
    heights_mm=(10.5, 9.0, 10.0, 8.5, 8.5, 7.5, 7.5),
    edges_mm=(0.0, 0.6, 0.1, 0.7, 1.0, 1.4, 1.8),
    half_mm=25.0,
    depth_mm=28.0,
    exponent=3.2,
    to_gum=-1,
    shade=1.0,
)
LOWER_ARCH = Arch(
    widths_mm=(5.0, 5.5, 7.0, 7.0, 7.0, 11.0, 10.5),
    heights_mm=(9.0, 9.5, 11.0, 8.5, 8.0, 7.5, 7.5),
    edges_mm=(0.0, 0.1, 0.0, 0.5, 0.8, 1.0, 1.2),
    half_mm=23.0,
    depth_mm=28.0,
    exponent=2.8,
    to_gum=1,
    shade=0.85,
)
TOUCHING = 1.12
"""Teeth touch out here, in half widths; perspective leaves a little room between them."""
CANINE = 2
CUSP_MM = 1.1
"""How far the tip of a canine stands out of its shoulders."""


@dataclass(frozen=True, slots=True)
class Crown:
    """Where one tooth stands: ``x_mm`` and ``half_mm`` as the camera sees it, ``index`` from the middle."""

    index: int
    x_mm: float
    half_mm: float
    depth_mm: float
    facing: float


def place_crowns(arch: Arch) -> list[Crown]:
    """Return the teeth from back to front, so that each may be drawn over those before it."""
    x = np.linspace(0, 1.3 * arch.half_mm, ARCH_STEPS)
    depth = arch.depth_at(x.astype(np.float32)).astype(np.float64)
    along = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(depth)))])
    ends = np.cumsum(arch.widths_mm)
    crowns = []
    for index, (end, width) in enumerate(zip(ends, arch.widths_mm, strict=True)):
        first, middle, last = np.interp([end - width, end - width / 2, end], along, x)
        behind = float(np.interp(middle, x, depth))
        nearer = CAMERA_MM / (CAMERA_MM + behind)
        half = max((last - first) / 2, MIN_FACING * width / 2) * nearer * CLOSED_GAPS
        facing = float((last - first) / width)
        crowns += [Crown(index, side * float(middle) * nearer, half, behind, facing) for side in (-1, 1)]
    return crowns[::-1]


def draw_row(arch: Arch, tooth_rgb: F32, gum_rgb: F32, warmth: F32, scale: float, y_mm: F32) -> F32:
    """Return (h, w, 4) float32, premultiplied RGBA: colour in [0, 255], alpha in [0, 1].

    ``y_mm`` (h,) are the rows, ``scale`` pixels in a millimetre across. ``warmth`` (3,) are exponents of
    shade.
    """
    count = 2 * round(ATLAS_HALF_WIDTH_MM * scale) + 1
    x = ((np.arange(count) - count // 2) / scale).astype(np.float32)
    rgb = np.zeros((len(y_mm), count, 3), np.float32)
    alpha = np.zeros((len(y_mm), count, 1), np.float32)
    # Height above the edge of the central incisors, towards the gum.
    up = (arch.to_gum * y_mm)[:, None].astype(np.float32)
    gum_line = np.full(count, np.inf, np.float32)
    for crown in place_crowns(arch):
        near = np.abs(x - crown.x_mm) <= crown.half_mm + 1 / scale
        # Wider crowns would overlap in the middle, and only one of them be whole.
        near = np.nonzero(near & (x * crown.x_mm >= 0))[0]
        columns = slice(int(near[0]), int(near[-1]) + 1)
        across = (x[columns] - crown.x_mm) / crown.half_mm
        inside, shade, line = _crown(arch, crown, across, up, scale)
        enamel = tooth_rgb * shade[..., None] ** warmth
        rgb[:, columns] += inside[..., None] * (enamel - rgb[:, columns])
        alpha[:, columns] += inside[..., None] * (1 - alpha[:, columns])
        gum_line[columns] = np.where(np.abs(across) <= TOUCHING, line, gum_line[columns])
    gum, gum_shade = _gum(arch, gum_line, x, up, scale)
    rgb += gum[..., None] * (gum_rgb * gum_shade[..., None] ** warmth - rgb)
    alpha += gum[..., None] * (1 - alpha)
    return np.concatenate([rgb * alpha, alpha], axis=2).astype(np.float32)


def _crown(arch: Arch, crown: Crown, across: F32, up: F32, scale: float) -> tuple[F32, F32, F32]:
    """Return opacity and shade (h, w) of one crown, and (w,) how far up its gum begins.

    ``across`` (w,) is -1 and 1 at its sides, ``up`` (h, 1) the height above the central incisor's edge.
    """
    height = arch.heights_mm[crown.index]
    edge = arch.edges_mm[crown.index]
    cusp = CUSP_MM * np.abs(across) if crown.index == CANINE else 0.25 * across**2
    v = (up - edge - cusp) / height
    # A superellipse with straight sides above its rounded part; the neck is narrower.
    side = np.abs(across) / (1 - 0.07 * smoothstep(v, 0.3, 1.0))
    corner = np.maximum(ROUNDED_PART - v, 0) / ROUNDED_PART
    radius = (side**5 + corner**4.5) ** (1 / 4.5)
    size_px = scale * np.minimum(crown.half_mm, ROUNDED_PART * height)
    inside = np.clip(0.5 + (1 - radius) * size_px, 0, 1)
    bulge = 1 - 0.12 * across**2
    body = 0.88 + 0.12 * smoothstep(v, 0.95, 0.35)
    # Enamel is thin at the edge, where the dark behind it shows.
    body = body - 0.07 * smoothstep(v, 0.12, 0.0)
    contact = 1 - GAP_SHADE * smoothstep(side, 0.72, 1.0)
    light = arch.shade * np.exp(-crown.depth_mm / OCCLUSION_MM) * (0.8 + 0.2 * crown.facing)
    gloss = GLOSS * np.exp(-((across / GLOSS_SIZE[0]) ** 2) - ((v - GLOSS_HEIGHT) / GLOSS_SIZE[1]) ** 2)
    shade = np.clip(bulge * body * contact + gloss, 0, 1.1) * light
    line = edge + height * (1 - GUM_BETWEEN * np.minimum(np.abs(across), 1) ** 2.5)
    return inside.astype(np.float32), shade.astype(np.float32), line.astype(np.float32)


def _gum(arch: Arch, line: F32, x: F32, up: F32, scale: float) -> tuple[F32, F32]:
    """Return opacity and shade (h, w) of the gum that begins ``line`` (w,) above the edge."""
    above = up - line
    soft = max(0.35, 0.7 / scale)
    inside = smoothstep(above, -soft, soft)
    # It is rounded, and bends back towards the fold of the lip.
    rim = 0.85 + 0.15 * smoothstep(above, 0.0, 1.0)
    neck = max(arch.heights_mm) - 1
    fold = 1 - 0.6 * smoothstep(up, neck, neck + GUM_HEIGHT_MM)
    light = arch.shade * np.exp(-arch.depth_at(x) / OCCLUSION_MM)
    return np.asarray(inside, np.float32), np.asarray(rim * fold * light, np.float32)
