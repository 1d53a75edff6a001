"""What is visible between the lips: cavity, teeth and tongue, in the light and grain of the photo.

Sizes are in outer-eye widths, or in heights of the visible upper teeth; u in [-1, 1] runs along the mouth.
Numbers without a source were chosen by eye on contact sheets (``scripts/contact_sheet.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vortex.face.landmarks import (
    CHEEK_SKIN,
    INNER_LIPS,
    INNER_MOUTH_CORNERS,
    LOWER_INNER,
    LOWER_LIP_FLESH,
    UPPER_CHEEKS,
    UPPER_INNER,
    UPPER_LIP_MIDDLE,
)
from vortex.interpolation import smoothstep
from vortex.types import F32, F64, LUMA_WEIGHTS, FloatArray, Frame

TEETH_BELOW_LIP = 0.024
"""How far the upper teeth reach below the resting upper lip, in outer-eye widths (about 2 mm)."""
TEXTURE_ABOVE, TEXTURE_BELOW = 0.12, 0.28
"""How far the textures reach above and below the anchor, in outer-eye widths."""
TEXTURE_HALF_WIDTH = 0.62
"""Half the width of the textures, in widths of the mouth in the picture."""
OWN_TEETH_MIN_GAP = 0.03
"""Lips farther apart than this show the photo's own teeth, in outer-eye widths."""

WARM_SHADE = np.array([0.8, 1.0, 1.12], np.float32)
"""Exponents of shade in red, green and blue: light that bounces between lips and gums turns red."""
LIP_TO_FLESH = np.array([0.72, 0.52, 0.52])
GREY_LIP_TO_FLESH = 0.56
"""Colour of the tongue, as a part of that of the lips."""
CAVITY_COLOUR = np.array([1.7, 0.62, 0.55])
CAVITY_LIGHT = 0.075
"""Little light comes back out of a mouth, as a part of the luma of the skin, and most of it is red."""
MAX_GREY_CHROMA = 6.0
"""Skin whose channels differ by less than this is that of a black-and-white picture, in levels of 255."""

UPPER_ARCH, LOWER_ARCH, TONGUE_ARCH = 1.9, 2.2, 4.5
"""How far each arch rises or falls towards u = 1, in heights of the upper teeth."""
UPPER_GAPS, LOWER_GAPS = 4.2, 5.4
"""Gaps between teeth per unit of u."""
UPPER_ENDS, LOWER_ENDS, TONGUE_ENDS = (0.5, 0.76), (0.3, 0.56), (0.25, 0.72)
"""|u| at which each begins to fade at the sides, and has faded."""

GRAIN_SIGMA, GRAIN_BLUR_PX, GRAIN_SEED = 1.6, 0.6, 7
MAX_GRAIN = 4.0
"""Most grain taken from the picture, in levels of 255."""
MAD_OF_NORMAL = 0.6745
"""Median absolute deviation of the standard normal distribution."""

_LUMA = LUMA_WEIGHTS.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class MouthInterior:
    """Textures of the inside of a mouth, and where they belong in the picture.

    ``upper`` (fixed to the skull) and ``lower`` (teeth and tongue, fixed to the jaw) are premultiplied RGBA
    (h, w, 4) float32: colour in [0, 255], alpha in [0, 1]. ``cavity_rgb`` (3,) is behind them. ``anchor_px``
    and ``texture_anchor_px`` are (2,) points that coincide in the source picture; ``axes`` (2, 2) maps
    texture pixels to picture pixels. ``grain`` (h, w, 1) is added. ``warmth`` (3,) are exponents of shade.
    """

    upper: F32
    lower: F32
    cavity_rgb: F32
    axes: F32
    anchor_px: F32
    texture_anchor_px: F32
    grain: F32
    warmth: F32


def paint_interior(image: Frame, landmarks_px: F32, right: F32, eye_width_px: float) -> MouthInterior:
    """Return the inside of one portrait's mouth.

    ``right`` (2,) is the unit vector from the person's right mouth corner to the left one in the picture.
    """
    points = landmarks_px[:, :2]
    width_px = float(np.linalg.norm(points[INNER_MOUTH_CORNERS[1]] - points[INNER_MOUTH_CORNERS[0]]))
    skin, lip = _sample(image, points[CHEEK_SKIN]), _sample(image, points[LOWER_LIP_FLESH])
    monochrome = float(skin.max() - skin.min()) < MAX_GREY_CHROMA
    warmth = np.ones(3, np.float32) if monochrome else WARM_SHADE
    flesh = lip * (GREY_LIP_TO_FLESH if monochrome else LIP_TO_FLESH)
    teeth_height = TEETH_BELOW_LIP * eye_width_px
    half = TEXTURE_HALF_WIDTH * width_px
    above, below = TEXTURE_ABOVE * eye_width_px, TEXTURE_BELOW * eye_width_px
    y, x = np.mgrid[-above:below:1.0, -half:half:1.0].astype(np.float32)
    u = x / half
    # The cheeks shade the side teeth.
    light = 1 - 0.8 * smoothstep(np.abs(u), 0.12, 0.78)
    tooth = _tooth_colour(skin, monochrome)
    upper = _upper_teeth(y, u, teeth_height, tooth, light, warmth)
    lower = _lower_mouth(y, u, teeth_height, tooth, flesh, light, warmth)
    cavity = CAVITY_LIGHT * _luma(skin) * (np.ones(3) if monochrome else CAVITY_COLOUR)
    down = np.array([-right[1], right[0]], np.float32)
    anchor = points[UPPER_LIP_MIDDLE].mean(0)
    axes = np.stack([right, down], axis=1)
    texture_anchor = np.array([half, above])
    gap_px = float(np.linalg.norm(np.subtract(*points[list(INNER_LIPS)])))
    if gap_px >= OWN_TEETH_MIN_GAP * eye_width_px:
        matrix = np.concatenate([axes, (anchor - axes @ texture_anchor)[:, None]], axis=1)
        upper = _with_own_teeth(upper, image, points, matrix, lip)
    white = np.random.default_rng(GRAIN_SEED).normal(0, GRAIN_SIGMA, x.shape)
    noise = cv2.GaussianBlur(white, (0, 0), GRAIN_BLUR_PX)
    return MouthInterior(
        upper=upper,
        lower=lower,
        cavity_rgb=np.asarray(cavity, np.float32),
        axes=axes.astype(np.float32),
        anchor_px=anchor.astype(np.float32),
        texture_anchor_px=texture_anchor.astype(np.float32),
        grain=(noise * _grain(image, points)).astype(np.float32)[..., None],
        warmth=warmth,
    )


def composite_mouth(
    frame: Frame,
    mouth: MouthInterior,
    upper_px: F32,
    lower_px: F32,
    skull_px: F32,
    jaw_px: F32,
    depth: float,
) -> None:
    """Draw the interior between the inner lip edges ``upper_px`` and ``lower_px`` (11, 2) into ``frame``.

    ``skull_px`` and ``jaw_px`` (2,) are where the anchors of the upper and the lower texture are now;
    ``depth`` in [0, 1] is how far rounded lips stand in front of the teeth, which are then darker.
    """
    outline = np.concatenate([_curve(upper_px), _curve(lower_px)[::-1]])
    low = np.maximum(np.floor(outline.min(0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(outline.max(0)).astype(int) + 3, [frame.shape[1], frame.shape[0]])
    w, h = high - low
    if w < 3 or h < 3:
        return
    mask = np.zeros((h, w), np.uint8)
    cv2.fillPoly(mask, [np.round((outline - low) * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    alpha = cv2.GaussianBlur(mask, (3, 3), 0.7).astype(np.float32)[..., None] / 255
    picture = np.empty((h, w, 3), np.float32)
    picture[:] = mouth.cavity_rgb
    for texture, anchor in ((mouth.lower, jaw_px), (mouth.upper, skull_px)):
        shift = anchor - low - mouth.axes @ mouth.texture_anchor_px
        matrix = np.concatenate([mouth.axes, shift[:, None]], axis=1).astype(np.float64)
        layer = cv2.warpAffine(texture, matrix, (int(w), int(h)), flags=cv2.INTER_LINEAR)
        picture *= 1 - layer[..., 3:]
        picture += layer[..., :3]
    rows, cols = np.arange(h, dtype=np.float32)[:, None], np.arange(w, dtype=np.float32)
    lip_edge = np.interp(cols, upper_px[:, 0] - low[0], upper_px[:, 1] - low[1]).astype(np.float32)
    floor = np.interp(cols, lower_px[:, 0] - low[0], lower_px[:, 1] - low[1]).astype(np.float32)
    # The upper lip shades the teeth, and little light reaches the rim of the lower lip.
    reach = 0.16 * float(np.linalg.norm(mouth.texture_anchor_px)) + 1
    shadow = 0.5 + 0.5 * smoothstep(rows - lip_edge, -0.3 * reach, reach)
    shadow *= 0.72 + 0.28 * smoothstep(floor - rows, -0.3 * reach, 0.6 * reach)
    picture *= (shadow * (1 - 0.68 * depth))[..., None] ** mouth.warmth
    gh, gw = mouth.grain.shape[:2]
    picture[: min(h, gh), : min(w, gw)] += mouth.grain[: min(h, gh), : min(w, gw)]
    region = frame[low[1] : high[1], low[0] : high[0]]
    blended = region + alpha * (picture - region)
    region[:] = np.clip(blended + 0.5, 0, 255).astype(np.uint8)


def _curve(points: F32) -> F32:
    """Return (41, 2): a Catmull-Rom curve through (11, 2) points."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    p0, p1, p2, p3 = (padded[i : i + len(points) - 1, None] for i in range(4))
    t = np.linspace(0, 1, 4, endpoint=False, dtype=np.float32)[None, :, None]
    curve = 0.5 * (
        2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * (p1 - p2) + p3 - p0) * t**3
    )
    return np.concatenate([curve.reshape(-1, 2), points[-1:]]).astype(np.float32)


def _luma(rgb: F32) -> float:
    return float(rgb @ _LUMA)


def _is_flesh(pixels: Frame, lip: F32) -> bool:
    """Return whether colours (N, 3) are those of lips: about as bright, and few of them much paler."""
    luma = np.maximum(pixels.astype(np.float32) @ _LUMA, 1.0)
    redness = (pixels[:, 0].astype(np.float32) - pixels[:, 1]) / luma
    lip_redness = float(lip[0] - lip[1]) / max(_luma(lip), 1.0)
    palest = float(np.percentile(redness, 25)) if len(pixels) else lip_redness
    return lip_redness > 0.05 and palest > 0.75 * lip_redness and float(np.median(luma)) > 0.7 * _luma(lip)


def _sample(image: Frame, points: F32) -> F32:
    """Return the median colour (3,) of 7 by 7 pixels around each of some points (N, 2)."""
    patches = [
        image[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4].reshape(-1, 3)
        for x, y in np.round(points).astype(int)
    ]
    return np.asarray(np.median(np.concatenate(patches), axis=0), np.float32)


def _tooth_colour(skin: F32, monochrome: bool) -> F32:
    """Return the colour (3,) of teeth in the light on the skin: brighter than dark skin, like fair skin."""
    light = min(0.66 * _luma(skin) + 68.0, 208.0)
    if monochrome:
        return np.full(3, light, np.float32)
    # Ivory, mixed with the colour of the light on the skin.
    hue = 0.4 * skin / max(_luma(skin), 1.0) + 0.6 * np.array([1.04, 1.0, 0.9], np.float32)
    return np.asarray(np.clip(light * hue, 0, 255), np.float32)


def _premultiplied(rgb: F32, alpha: F32) -> F32:
    return np.concatenate([rgb * alpha[..., None], alpha[..., None]], axis=2).astype(np.float32)


def _upper_teeth(y: F32, u: F32, height: float, colour: F32, light: F32, warmth: F32) -> F32:
    """Return the upper teeth (h, w, 4), ``height`` pixels below the resting upper lip's edge at y = 0."""
    # The incisors reach lowest; the arch recedes and rises to the sides.
    arch = height * (1 - UPPER_ARCH * u**2)
    across = np.sign(u) * np.abs(u) ** 0.9
    gap = np.abs(np.sin(np.pi * UPPER_GAPS * across))
    edge = arch - 0.3 * height * (1 - np.sqrt(gap + 1e-4))
    soft = max(0.22 * height, 0.7)
    alpha = 1 - smoothstep(y, edge - soft, edge + soft)
    alpha *= 1 - smoothstep(np.abs(u), *UPPER_ENDS)
    # Enamel is brightest in its lower half, and thin, hence darker, at the very edge.
    body = 0.72 + 0.28 * smoothstep(y, -2.4 * height, 0.2 * height)
    rim = 1 - 0.14 * smoothstep(y, edge - 1.6 * soft, edge + 0.4 * soft)
    groove = 0.9 + 0.1 * smoothstep(gap, 0.0, 0.4)
    return _premultiplied(_dim(colour, body * rim * groove * light, warmth), alpha)


def _lower_mouth(
    y: F32, u: F32, height: float, colour: F32, flesh: FloatArray, light: F32, warmth: F32
) -> F32:
    """Return tongue and, in front, lower teeth (h, w, 4); y = 0 is the lower lip's inner edge."""
    gap = np.abs(np.sin(np.pi * LOWER_GAPS * u))
    top = 0.35 * height + LOWER_ARCH * height * u**2 + 0.12 * height * (1 - gap)
    soft = max(0.25 * height, 0.7)
    teeth = smoothstep(y, top - soft, top + soft) * (1 - smoothstep(np.abs(u), *LOWER_ENDS))
    shade = (0.55 + 0.06 * smoothstep(gap, 0.0, 0.35)) * light
    # The tongue is a mound with a furrow that fades into the dark behind it.
    tongue_top = -1.9 * height + TONGUE_ARCH * height * u**2
    tongue = smoothstep(y, tongue_top - 1.6 * height, tongue_top + 2.2 * height)
    tongue *= 1 - smoothstep(np.abs(u), *TONGUE_ENDS)
    furrow = 1 - 0.18 * np.exp(-((u / 0.05) ** 2))
    tongue_rgb = _dim(np.asarray(flesh, np.float32), (0.25 + 0.45 * light) * furrow, warmth)
    rgb = tongue_rgb * (1 - teeth[..., None]) + _dim(colour, shade, warmth) * teeth[..., None]
    return _premultiplied(rgb, np.maximum(teeth, 0.85 * tongue * (1 - teeth) + teeth))


def _dim(colour: F32, shade: F32, warmth: F32) -> F32:
    """Return (h, w, 3): ``colour`` (3,) times ``shade`` (h, w) in [0, 1] to the power ``warmth`` (3,)."""
    return np.asarray(colour * shade[..., None] ** warmth, np.float32)


def _with_own_teeth(texture: F32, image: Frame, points: F32, matrix: F64, lip: F32) -> F32:
    """Return the texture with the photo's own teeth on top; ``matrix`` (2, 3) maps it to the photo."""
    h, w = texture.shape[:2]
    patch = cv2.warpAffine(image, matrix, (w, h), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    mask = np.zeros(image.shape[:2], np.uint8)
    outline = np.concatenate([points[UPPER_INNER], points[LOWER_INNER][::-1]])
    cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 255)
    if _is_flesh(image[mask > 0], lip):
        return texture  # The landmarks are wrong.
    inside = cv2.erode(mask, np.ones((3, 3), np.uint8))
    inside = cv2.warpAffine(inside, matrix, (w, h), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    alpha = cv2.GaussianBlur(inside, (0, 0), 1.2).astype(np.float32)[..., None] / 255
    own = np.concatenate([patch.astype(np.float32), np.ones((h, w, 1), np.float32)], axis=2)
    return np.asarray(texture * (1 - alpha) + own * alpha, np.float32)


def _grain(image: Frame, points: F32) -> float:
    """Return the standard deviation of the finest detail on the cheeks in levels of 255, at most 4."""
    x, y = np.round(points[UPPER_CHEEKS].mean(0)).astype(int)
    grey = cv2.cvtColor(image[max(y - 40, 0) : y + 40, max(x - 60, 0) : x + 60], cv2.COLOR_RGB2GRAY)
    fine = grey.astype(np.float32) - cv2.GaussianBlur(grey, (0, 0), 1.0)
    return float(min(np.median(np.abs(fine)) / MAD_OF_NORMAL, MAX_GRAIN))
