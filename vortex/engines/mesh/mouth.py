"""What is visible between the lips: throat, tongue, gums and teeth, in the light and grain of the photo.

``paint_interior`` draws each part once, flat, in millimetres of a dental arch seen from the front;
``composite_mouth`` moves, turns and stacks them. Coordinates: u to the right and v down, in millimetres from
the middle of the edge of the upper teeth. Numbers without a source were chosen by eye next to photos of open
mouths.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from vortex.engines.mesh.light import (
    GUM_RGB,
    THROAT_RGB,
    TONGUE_RGB,
    PhotoLight,
    flesh,
    measure_light,
    tooth_colour,
)
from vortex.engines.mesh.own_teeth import add_own_teeth, bend_row, find_teeth
from vortex.engines.mesh.teeth import ATLAS_HALF_WIDTH_MM, LOWER_ARCH, UPPER_ARCH, draw_row
from vortex.engines.mesh.tongue import (
    COLUMNS,
    DEPTH_MM,
    HALF_WIDTH_MM,
    RAISED_TIP,
    RAISED_WIDTH,
    ROWS,
    draw_tongue,
    tongue_between,
    tongue_light,
    tongue_span_mm,
)
from vortex.face.landmarks import INNER_LIPS, OUTER_EYE_CORNERS, UPPER_LIP_MIDDLE
from vortex.interpolation import smoothstep
from vortex.types import F32, Frame

EYES_APART_MM = 88.0
"""Distance of the outer corners of the eyes; MediaPipe's canonical face has 89 mm."""
TEETH_BELOW_LIP_MM = 3.0
"""How far the edge of the upper teeth lies below the resting upper lip, as the camera sees it."""
OVERBITE_MM = 2.0
"""How far the upper teeth reach over the lower ones in a shut mouth."""
SMILE_GAP_MM = 8.0
"""Lips may be this far apart in a photo over a shut jaw."""
LOWER_TEETH_SHOWN_MM = (-5.0, 2.0)
"""How far the lower teeth may stand out of the lower lip: a lip covers them, or shows an edge."""

ATLAS_SCALE, MAX_ATLAS_SCALE = 2.0, 7.0
"""Pixels of the drawn rows of teeth per pixel of the photo, and the most of them per millimetre."""
UPPER_ROWS_MM, LOWER_ROWS_MM = (-18.0, 4.0), (-4.0, 18.0)
"""Top and bottom of the drawn rows of teeth, from the edge of their incisors."""
MAX_SOURCE_YAW_DEG = 30.0
"""The depths of landmarks do not measure larger turns of the head well."""

LIP_SHADOW_MM, FLOOR_SHADOW_MM = 4.0, 2.5
"""The upper lip shades what is behind it, and little light reaches the rim of the lower lip."""
LIP_SHADE, FLOOR_SHADE, TOOTH_SHADE = 0.44, 0.18, 0.15
"""How much darker it is there, and which part of that is on the teeth, which stand right behind the lips."""
RIM_SHADE, RIM_MM = 0.16, 0.6
"""How much darker the lips' edges are, which bend inwards, and over which distance."""
THROAT_LIGHT, CHEEKS_MM = 0.6, (4.0, 20.0)
"""Light in the middle of the throat, as a part of that on the cheeks' inner sides, and where they are."""
COVERING = (0.75, 1.0)
"""Rounding at which the lips begin to cover the teeth, and at which they do."""
ROUNDED_DARK, COVERED_DARK = 0.45, 0.75
"""Part of the light inside that rounded lips take, and of that on the teeth if the lips cover them."""

COVERED_MM = 4.0
"""How far the upper lip comes down over the teeth when lips are round."""
PARTED_PX = 1.5
"""Lips this far apart show what is between them."""
GRAIN_SIGMA, GRAIN_BLUR_PX, GRAIN_SEED = 1.6, 0.6, 7


@dataclass(frozen=True, slots=True, eq=False)
class MouthInterior:
    """Pictures of the inside of a mouth, and where they belong in the photo.

    ``upper`` (fixed to the skull), ``lower`` (fixed to the jaw) and ``tongue`` are premultiplied RGBA (h,
    w, 4) float32: colour in [0, 255], alpha in [0, 1]; the first two have ``atlas_scale`` pixels in a
    millimetre. ``throat_rgb`` (3,) is behind them, ``warmth`` (3,) are exponents of shade. ``axes`` (2,
    2) has the unit vectors along u and v as columns, ``px_per_mm`` is the scale of the photo.
    ``anchor_px`` (2,) is the edge of the upper teeth, ``lower_edge_mm`` where that of the lower teeth is
    below it in the photo, in which the head is turned by ``source_yaw_deg``. ``x_mm``, ``depth_mm`` (n,)
    are the dental arch. ``grain`` (h, w, 1) is added. ``edge_px`` is the blur of edges.
    """

    upper: F32
    lower: F32
    tongue: F32
    throat_rgb: F32
    warmth: F32
    axes: F32
    px_per_mm: float
    atlas_scale: float
    anchor_px: F32
    lower_edge_mm: float
    source_yaw_deg: float
    x_mm: F32
    depth_mm: F32
    grain: F32
    edge_px: float

    def in_shade(self, shade: F32) -> F32:
        """Return (h, w, 3): the light that is left where the luma is a ``shade`` (h, w) of full light."""
        return np.asarray(cv2.merge([cv2.pow(shade, float(each)) for each in self.warmth]), np.float32)


def paint_interior(image: Frame, landmarks_px: F32, right: F32, eye_width_px: float) -> MouthInterior:
    """Return the inside of one portrait's mouth.

    ``right`` (2,) is the unit vector from the person's right mouth corner to the left one in the picture.
    """
    points = landmarks_px[:, :2]
    light = measure_light(image, points, eye_width_px)
    scale = eye_width_px / EYES_APART_MM
    atlas_scale = min(ATLAS_SCALE * scale, MAX_ATLAS_SCALE)
    axes = np.array([[right[0], -right[1]], [right[1], right[0]]], np.float32)
    x = np.linspace(-ATLAS_HALF_WIDTH_MM, ATLAS_HALF_WIDTH_MM, 265, dtype=np.float32)
    lip = points[UPPER_LIP_MIDDLE].mean(0)
    depth, yaw_deg = UPPER_ARCH.depth_at(x), _yaw(landmarks_px)
    upper, lower = _draw_rows(light, atlas_scale, scale)
    own, edge_mm = find_teeth(image, points, axes, lip, scale, light), TEETH_BELOW_LIP_MM
    if own is not None:
        edge_mm = own.edge_mm
        columns = np.linspace(x[0], x[-1], upper.shape[1])
        seen = np.interp(columns, x, seen_from(x, depth, yaw_deg)).astype(np.float32)
        rows = np.arange(len(upper), dtype=np.float32) / atlas_scale + (edge_mm + UPPER_ROWS_MM[0])
        upper = bend_row(upper, own.bend_at(seen), atlas_scale)
        upper, gain = add_own_teeth(upper, own, image, seen, rows, axes, lip, scale)
        lower[..., :3] *= gain
    gap_mm = float(np.linalg.norm(np.subtract(*points[list(INNER_LIPS)]))) / scale
    white = np.random.default_rng(GRAIN_SEED).normal(0, GRAIN_SIGMA, (round(40 * scale), round(70 * scale)))
    noise = cv2.GaussianBlur(white, (0, 0), GRAIN_BLUR_PX)
    return MouthInterior(
        upper=upper,
        lower=lower,
        tongue=draw_tongue(flesh(light, TONGUE_RGB), light.warmth),
        throat_rgb=flesh(light, THROAT_RGB),
        warmth=light.warmth,
        axes=axes,
        px_per_mm=scale,
        atlas_scale=atlas_scale,
        anchor_px=np.asarray(lip + axes[:, 1] * edge_mm * scale, np.float32),
        lower_edge_mm=max(gap_mm - SMILE_GAP_MM, 0.0) - OVERBITE_MM,
        source_yaw_deg=yaw_deg,
        x_mm=x,
        depth_mm=depth,
        grain=(noise * light.grain).astype(np.float32)[..., None],
        edge_px=light.blur_px,
    )


def composite_mouth(
    frame: Frame,
    mouth: MouthInterior,
    upper_px: F32,
    lower_px: F32,
    skull_px: F32,
    jaw_px: F32,
    depth: float,
    *,
    tongue: float = 0.0,
    yaw_deg: float = 0.0,
) -> None:
    """Draw the interior between the inner lip edges ``upper_px`` and ``lower_px`` (11, 2) into ``frame``.

    ``skull_px`` and ``jaw_px`` (2,) are where the edges of the upper and the lower incisors are now;
    ``depth`` in [0, 1] is how far rounded lips stand in front of the teeth, which are then darker;
    ``tongue`` in [0, 1] is 0 on the floor of the mouth, 1 with the tip at the upper incisors. ``yaw_deg`` is
    the turn of the head from the photo, positive to the viewer's right.
    """
    outline = np.concatenate([_curve(upper_px), _curve(lower_px)[::-1]])
    rim_px = RIM_MM * mouth.px_per_mm
    margin = int(np.ceil(2.5 * rim_px)) + 2
    low = np.maximum(np.floor(outline.min(0)).astype(int) - margin, 0)
    high = np.minimum(np.ceil(outline.max(0)).astype(int) + margin + 1, [frame.shape[1], frame.shape[0]])
    w, h = (int(size) for size in high - low)
    if w < 3 or h < 3:
        return
    mask = np.zeros((h, w), np.uint8)
    cv2.fillPoly(mask, [np.round((outline - low) * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    cols, rows = np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)[:, None]
    across, down = mouth.axes.T / mouth.px_per_mm
    x, y = (axis + np.float32(shift) for axis, shift in zip((cols, rows), low - skull_px, strict=True))
    u, v = x * across[0] + y * across[1], x * down[0] + y * down[1]
    jaw_u, jaw_v = (float(value) for value in (jaw_px - skull_px) @ mouth.axes / mouth.px_per_mm)
    below_lip = rows - np.interp(cols, upper_px[:, 0] - low[0], upper_px[:, 1] - low[1]).astype(np.float32)
    above_floor = np.interp(cols, lower_px[:, 0] - low[0], lower_px[:, 1] - low[1]).astype(np.float32) - rows
    lip_reach, floor_reach = LIP_SHADOW_MM * mouth.px_per_mm, FLOOR_SHADOW_MM * mouth.px_per_mm
    shade = 1 - LIP_SHADE * smoothstep(below_lip, lip_reach, -0.3 * lip_reach)
    shade *= 1 - FLOOR_SHADE * smoothstep(above_floor, floor_reach, -0.3 * floor_reach)
    light = mouth.in_shade(shade * (1 - ROUNDED_DARK * depth))
    covered = float(smoothstep(depth, *COVERING))
    on_teeth = mouth.in_shade((1 - TOOTH_SHADE * (1 - shade)) * (1 - COVERED_DARK * covered))
    yaw_deg += mouth.source_yaw_deg
    jaw_v = max(jaw_v, -OVERBITE_MM)
    picture = _stack(mouth, u, v, jaw_u, jaw_v, COVERED_MM * covered, tongue, yaw_deg, light, on_teeth)
    gh, gw = mouth.grain.shape[:2]
    picture[:gh, :gw] += mouth.grain[:h, :w]
    # Where lips touch, the polygon has no height, and yet would be drawn as a line.
    mask = (mask * np.clip((below_lip + above_floor) / PARTED_PX, 0, 1)).astype(np.uint8)
    alpha = cv2.GaussianBlur(mask, (0, 0), max(mouth.edge_px, 0.7)).astype(np.float32)[..., None] / 255
    rim = cv2.GaussianBlur(mask, (0, 0), max(rim_px, 0.7)).astype(np.float32)[..., None] * (RIM_SHADE / 255)
    region = frame[low[1] : high[1], low[0] : high[0]]
    shaded = region * (1 - rim)
    shaded += alpha * (picture - shaded)
    region[:] = np.clip(shaded + 0.5, 0, 255).astype(np.uint8)


def tilted(mouth: MouthInterior, roll_deg: float) -> MouthInterior:
    """Return the mouth with its axes turned by ``roll_deg``, clockwise in the picture."""
    cos, sin = np.cos(np.radians(roll_deg)), np.sin(np.radians(roll_deg))
    axes = np.array([[cos, -sin], [sin, cos]]) @ mouth.axes
    return replace(mouth, axes=axes.astype(np.float32))


def lower_edge_px(mouth: MouthInterior, skull_px: F32, chin_drop_px: float, lower_lip_px: F32) -> F32:
    """Return (2,): where the edge of the lower incisors is.

    The jaw carries them: ``chin_drop_px`` is how far the chin has moved down from the photo. They stay near
    the inner edge of the lower lip, ``lower_lip_px`` (2,), as ``LOWER_TEETH_SHOWN_MM`` says.
    """
    lip_mm = float((lower_lip_px - skull_px) @ mouth.axes[:, 1]) / mouth.px_per_mm
    hidden, shown = LOWER_TEETH_SHOWN_MM
    edge_mm = mouth.lower_edge_mm + chin_drop_px / mouth.px_per_mm
    edge_mm = min(max(edge_mm, lip_mm - shown), lip_mm - hidden)
    return np.asarray(skull_px + mouth.axes[:, 1] * (edge_mm * mouth.px_per_mm), np.float32)


def _stack(
    mouth: MouthInterior,
    u: F32,
    v: F32,
    jaw_u: float,
    jaw_v: float,
    lip_mm: float,
    tongue: float,
    yaw_deg: float,
    light: F32,
    on_teeth: F32,
) -> F32:
    """Return (h, w, 3): throat, tongue, lower and upper row at the places u, v (h, w) in millimetres.

    ``lip_mm`` is how far the upper lip has come down over the teeth: they are drawn higher by as much.
    ``light`` (h, w, 3) is that on throat and tongue, ``on_teeth`` (h, w, 3) that on the rows of teeth.
    """
    x = _place_on_arch(mouth, u, yaw_deg)
    size, half = mouth.atlas_scale, ATLAS_HALF_WIDTH_MM
    top, bottom = tongue_span_mm(jaw_v, tongue)
    along = (v - top) / (bottom - top)
    along = np.where(along > 0, np.maximum(along, 0) ** (1 - RAISED_TIP * tongue), along)
    behind = DEPTH_MM * float(np.sin(np.radians(yaw_deg)))
    tongue_half = HALF_WIDTH_MM * (1 - (1 - RAISED_WIDTH) * tongue)
    tongue_x = (COLUMNS / 2) * (1 + (u + behind - jaw_u) / tongue_half)
    tongue_layer = _lookup(mouth.tongue, tongue_x, ROWS * along - 0.5)
    tongue_layer[..., :3] *= tongue_light(along, tongue)[..., None]
    lower = _lookup(mouth.lower, (x - jaw_u + half) * size, (v - jaw_v - LOWER_ROWS_MM[0]) * size)
    # A raised tip comes over the lower teeth.
    lower *= 1 - tongue
    upper = _lookup(mouth.upper, (x + half) * size, (v + lip_mm - UPPER_ROWS_MM[0]) * size)
    deep = THROAT_LIGHT + (1 - THROAT_LIGHT) * smoothstep(np.abs(u), *CHEEKS_MM)
    # In TH, the tip comes out between the teeth.
    upper *= 1 - tongue_between(tongue) * tongue_layer[..., 3:]
    picture = deep[..., None] * mouth.throat_rgb * light
    for layer, lit in ((tongue_layer, light), (lower, on_teeth), (upper, on_teeth)):
        picture *= 1 - layer[..., 3:]
        picture += layer[..., :3] * lit
    return np.asarray(picture, np.float32)


def _lookup(texture: F32, x: F32, y: F32) -> F32:
    """Return ``texture`` (H, W, 4) at the positions x, y (h, w), bilinear, transparent outside."""
    return np.asarray(cv2.remap(texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), np.float32)


def seen_from(x_mm: F32, depth_mm: F32, yaw_deg: float) -> F32:
    """Return (n,): where the camera sees the places x (n,) of the arch of a turned head, in millimetres.

    Never decreasing: what the nearer part of the arch hides has the place of the farthest visible part.
    """
    angle = np.radians(yaw_deg)
    seen = x_mm * np.cos(angle) - depth_mm * np.sin(angle)
    middle = len(seen) // 2
    seen[middle:] = np.maximum.accumulate(seen[middle:])
    seen[: middle + 1] = np.minimum.accumulate(seen[middle::-1])[::-1]
    return np.asarray(seen, np.float32)


def _place_on_arch(mouth: MouthInterior, u: F32, yaw_deg: float) -> F32:
    """Return the place x on the arch, in mm, that is seen at each u (h, w) of a turned head."""
    # Ties, where the arch hides itself, need an order.
    seen = seen_from(mouth.x_mm, mouth.depth_mm, yaw_deg) + 1e-4 * mouth.x_mm
    outside = mouth.x_mm[0] - 9, mouth.x_mm[-1] + 9
    return np.asarray(np.interp(u, seen, mouth.x_mm, *outside), np.float32)


def _draw_rows(light: PhotoLight, atlas_scale: float, scale: float) -> tuple[F32, F32]:
    """Return the upper and the lower row in the light and with the blur of the photo."""
    tooth, gum = tooth_colour(light), flesh(light, GUM_RGB)
    rows = []
    for arch, (first, last) in ((UPPER_ARCH, UPPER_ROWS_MM), (LOWER_ARCH, LOWER_ROWS_MM)):
        y = np.arange(first, last, 1 / atlas_scale, dtype=np.float32)
        row = draw_row(arch, tooth, gum, light.warmth, atlas_scale, y)
        rows.append(
            np.asarray(cv2.GaussianBlur(row, (0, 0), light.blur_px * atlas_scale / scale), np.float32)
        )
    return rows[0], rows[1]


def _yaw(landmarks_px: F32) -> float:
    """Return how far the head of the photo is turned, in degrees, positive to the viewer's right."""
    first, last = landmarks_px[list(OUTER_EYE_CORNERS)]
    across = float(np.linalg.norm(last[:2] - first[:2]))
    yaw = float(np.degrees(np.arctan2(last[2] - first[2], across)))
    return float(np.clip(yaw, -MAX_SOURCE_YAW_DEG, MAX_SOURCE_YAW_DEG))


def _curve(points: F32) -> F32:
    """Return (41, 2): a Catmull-Rom curve through (11, 2) points."""
    return _curve_weights(len(points)) @ points


@lru_cache(maxsize=1)
def _curve_weights(count: int) -> F32:
    """Return (4 count - 3, count): how much each of ``count`` points weighs at each point of the curve."""
    points = np.eye(count)
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    p0, p1, p2, p3 = (padded[i : i + count - 1, None] for i in range(4))
    t = np.linspace(0, 1, 4, endpoint=False)[None, :, None]
    curve = 0.5 * (
        2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * (p1 - p2) + p3 - p0) * t**3
    )
    return np.concatenate([curve.reshape(-1, count), points[-1:]]).astype(np.float32)
