"""What is seen between the lips: cavity, teeth and tongue, in the light and grain of the photo."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vortex.engines.mesh.face import LOWER_INNER, UPPER_INNER
from vortex.engines.mesh.field import smoothstep
from vortex.types import LUMA_WEIGHTS, Frame

F32 = npt.NDArray[np.float32]
_WARM = np.array([0.8, 1.0, 1.12], np.float32)
"""Exponents of shade in colour pictures: light that bounces between lips and gums turns red."""
TEETH_BELOW_LIP = 0.024
"""How far the upper teeth reach below the resting upper lip, in outer-eye widths (about 2 mm)."""
_LUMA = LUMA_WEIGHTS.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class MouthInterior:
    """Premultiplied RGBA textures (h, w, 4) float32 in [0, 255], and where their anchor lies in the picture.

    ``upper`` is fixed to the skull, ``lower`` (teeth and tongue) to the jaw. ``anchor_px`` and
    ``texture_anchor_px`` are (2,) points that coincide in the source picture; ``axes`` (2, 2) turns texture
    pixels into picture pixels. ``warmth`` (3,) are the exponents of shade in red, green and blue.
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
    """Make the interior of one portrait's mouth.

    ``right`` (2,) is the unit vector from the person's right mouth corner to the left one in the picture.
    """
    points = landmarks_px[:, :2]
    width_px = float(np.linalg.norm(points[308] - points[78]))
    skin, lip = _sample(image, points[[50, 280, 205, 425]]), _sample(image, points[[15, 16, 315, 85]])
    monochrome = _chroma(skin) < 6.0
    warmth = np.ones(3, np.float32) if monochrome else _WARM
    flesh = lip * (0.56 if monochrome else np.array([0.72, 0.52, 0.52]))
    teeth_height = TEETH_BELOW_LIP * eye_width_px
    half = 0.62 * width_px
    y, x = np.mgrid[-0.12 * eye_width_px : 0.28 * eye_width_px : 1.0, -half:half:1.0].astype(np.float32)
    u = x / half
    # the cheeks keep light from the side teeth
    light = 1 - 0.8 * smoothstep(np.abs(u), 0.12, 0.78)
    tooth = _tooth_colour(skin, monochrome)
    upper = _upper_teeth(y, u, teeth_height, tooth, light, warmth)
    lower = _lower_mouth(y, u, teeth_height, tooth, flesh, light, warmth)
    # little light comes back out of a mouth, and most of it red
    cavity = 0.075 * _luma(skin) * (np.ones(3) if monochrome else np.array([1.7, 0.62, 0.55]))
    down = np.array([-right[1], right[0]], np.float32)
    anchor = points[[82, 13, 312]].mean(0)
    upper = _with_own_teeth(upper, image, points, anchor, right, down, half, eye_width_px, lip)
    noise = cv2.GaussianBlur(np.random.default_rng(7).normal(0, 1.6, x.shape), (0, 0), 0.6)
    return MouthInterior(
        upper=upper,
        lower=lower,
        cavity_rgb=np.asarray(cavity, np.float32),
        axes=np.stack([right, down], axis=1).astype(np.float32),
        anchor_px=anchor.astype(np.float32),
        texture_anchor_px=np.array([half, 0.12 * eye_width_px], np.float32),
        grain=(noise * _grain(image, points)).astype(np.float32)[..., None],
        warmth=warmth,
    )


def composite_mouth(
    frame: Frame,
    interior: MouthInterior,
    upper_px: F32,
    lower_px: F32,
    skull_px: F32,
    jaw_px: F32,
    depth: float,
) -> None:
    """Draw the interior between the lip curves into ``frame`` in place.

    ``upper_px`` and ``lower_px`` (11, 2) are the inner lip edges in the frame; ``skull_px`` (2,) is where the
    anchor of the upper teeth lies now, ``jaw_px`` (2,) that of the lower ones. ``depth`` in [0, 1] is how far
    rounded lips stand before the teeth, which then lie in the dark.
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
    picture[:] = interior.cavity_rgb
    for texture, anchor in ((interior.lower, jaw_px), (interior.upper, skull_px)):
        layer = _place(texture, interior, anchor - low, (int(w), int(h)))
        picture *= 1 - layer[..., 3:]
        picture += layer[..., :3]
    rows, cols = np.arange(h, dtype=np.float32)[:, None], np.arange(w, dtype=np.float32)
    lip_edge = np.interp(cols, upper_px[:, 0] - low[0], upper_px[:, 1] - low[1]).astype(np.float32)
    floor = np.interp(cols, lower_px[:, 0] - low[0], lower_px[:, 1] - low[1]).astype(np.float32)
    # the upper lip throws its shadow on the teeth, and little light reaches the rim of the lower one
    reach = 0.16 * float(np.linalg.norm(interior.texture_anchor_px)) + 1
    shadow = 0.5 + 0.5 * smoothstep(rows - lip_edge, -0.3 * reach, reach)
    shadow *= 0.72 + 0.28 * smoothstep(floor - rows, -0.3 * reach, 0.6 * reach)
    picture *= (shadow * (1 - 0.68 * depth))[..., None] ** interior.warmth
    gh, gw = interior.grain.shape[:2]
    picture[: min(h, gh), : min(w, gw)] += interior.grain[: min(h, gh), : min(w, gw)]
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


def _place(texture: F32, interior: MouthInterior, anchor: F32, size: tuple[int, int]) -> F32:
    shift = anchor - interior.axes @ interior.texture_anchor_px
    matrix = np.concatenate([interior.axes, shift[:, None]], axis=1).astype(np.float64)
    return np.asarray(cv2.warpAffine(texture, matrix, size, flags=cv2.INTER_LINEAR), np.float32)


def _luma(rgb: F32) -> float:
    return float(rgb @ _LUMA)


def _chroma(rgb: F32) -> float:
    return float(rgb.max() - rgb.min())


def _is_flesh(pixels: Frame, lip: F32) -> bool:
    """Tell whether (N, 3) colours are those of lips: about as bright, and none of them much paler."""
    luma = np.maximum(pixels.astype(np.float32) @ _LUMA, 1.0)
    redness = (pixels[:, 0].astype(np.float32) - pixels[:, 1]) / luma
    lip_redness = float(lip[0] - lip[1]) / max(_luma(lip), 1.0)
    palest = float(np.percentile(redness, 25)) if len(pixels) else lip_redness
    return lip_redness > 0.05 and palest > 0.75 * lip_redness and float(np.median(luma)) > 0.7 * _luma(lip)


def _sample(image: Frame, points: F32) -> F32:
    """Return the median colour (3,) round some points."""
    patches = []
    for x, y in np.round(points).astype(int):
        patch = image[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4].reshape(-1, 3)
        patches.append(patch)
    return np.asarray(np.median(np.concatenate(patches), axis=0), np.float32)


def _tooth_colour(skin: F32, monochrome: bool) -> F32:
    """Return a tooth in the light that falls on the skin: brighter than dark skin, near fair skin."""
    light = min(0.66 * _luma(skin) + 68.0, 208.0)
    if monochrome:
        return np.full(3, light, np.float32)
    # ivory, with a share of the colour of the light on the skin
    hue = 0.4 * skin / max(_luma(skin), 1.0) + 0.6 * np.array([1.04, 1.0, 0.9], np.float32)
    return np.asarray(np.clip(light * hue, 0, 255), np.float32)


def _premultiplied(rgb: F32, alpha: F32) -> F32:
    return np.concatenate([rgb * alpha[..., None], alpha[..., None]], axis=2).astype(np.float32)


def _upper_teeth(y: F32, u: F32, height: float, colour: F32, light: F32, warmth: F32) -> F32:
    """Teeth of the skull; y = 0 is the edge of the resting upper lip, ``height`` their reach below it."""
    # incisors hang lowest, the arch recedes and rises to the sides
    arch = height * (1 - 1.9 * u**2)
    across = np.sign(u) * np.abs(u) ** 0.9
    gap = np.abs(np.sin(np.pi * 4.2 * across))
    edge = arch - 0.3 * height * (1 - np.sqrt(gap + 1e-4))
    soft = max(0.22 * height, 0.7)
    alpha = 1 - smoothstep(y, edge - soft, edge + soft)
    alpha *= 1 - smoothstep(np.abs(u), 0.5, 0.76)
    # enamel is brightest on its lower half and thin, so darker, at the very edge
    body = 0.72 + 0.28 * smoothstep(y, -2.4 * height, 0.2 * height)
    rim = 1 - 0.14 * smoothstep(y, edge - 1.6 * soft, edge + 0.4 * soft)
    groove = 0.9 + 0.1 * smoothstep(gap, 0.0, 0.4)
    return _premultiplied(_dim(colour, body * rim * groove * light, warmth), alpha)


def _lower_mouth(
    y: F32, u: F32, height: float, colour: F32, flesh: npt.NDArray[np.floating], light: F32, warmth: F32
) -> F32:
    """Tongue behind, lower teeth in front; y = 0 is the anchor, which rides on the lower lip's inner edge."""
    gap = np.abs(np.sin(np.pi * 5.4 * u))
    top = 0.35 * height + 2.2 * height * u**2 + 0.12 * height * (1 - gap)
    soft = max(0.25 * height, 0.7)
    teeth = smoothstep(y, top - soft, top + soft) * (1 - smoothstep(np.abs(u), 0.3, 0.56))
    shade = (0.55 + 0.06 * smoothstep(gap, 0.0, 0.35)) * light
    # a mound that fades into the dark behind, with the furrow of the tongue
    tongue_top = -1.9 * height + 4.5 * height * u**2
    tongue = smoothstep(y, tongue_top - 1.6 * height, tongue_top + 2.2 * height)
    tongue *= 1 - smoothstep(np.abs(u), 0.25, 0.72)
    furrow = 1 - 0.18 * np.exp(-((u / 0.05) ** 2))
    tongue_rgb = _dim(np.asarray(flesh, np.float32), (0.25 + 0.45 * light) * furrow, warmth)
    rgb = tongue_rgb * (1 - teeth[..., None]) + _dim(colour, shade, warmth) * teeth[..., None]
    return _premultiplied(rgb, np.maximum(teeth, 0.85 * tongue * (1 - teeth) + teeth))


def _dim(colour: F32, shade: F32, warmth: F32) -> F32:
    """Return ``colour`` (3,) under ``shade`` (h, w) in [0, 1], as (h, w, 3): mouths shade warmly."""
    return np.asarray(colour * shade[..., None] ** warmth, np.float32)


def _with_own_teeth(
    texture: F32,
    image: Frame,
    points: F32,
    anchor: F32,
    right: F32,
    down: F32,
    half: float,
    eye: float,
    lip: F32,
) -> F32:
    """Lay the photo's own teeth over the painted ones where the source mouth is open.

    Not where the opening looks like the lips themselves: then the landmarks are wrong.
    """
    if float(np.linalg.norm(points[13] - points[14])) < 0.03 * eye:
        return texture
    h, w = texture.shape[:2]
    axes = np.stack([right, down], axis=1)
    origin = anchor - axes @ np.array([half, 0.12 * eye])
    matrix = np.concatenate([axes, origin[:, None]], axis=1)
    patch = cv2.warpAffine(image, matrix, (w, h), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    mask = np.zeros(image.shape[:2], np.uint8)
    outline = np.concatenate([points[UPPER_INNER], points[LOWER_INNER][::-1]])
    cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 255)
    if _is_flesh(image[mask > 0], lip):
        return texture
    inside = cv2.erode(mask, np.ones((3, 3), np.uint8))
    inside = cv2.warpAffine(inside, matrix, (w, h), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    alpha = cv2.GaussianBlur(inside, (0, 0), 1.2).astype(np.float32)[..., None] / 255
    own = np.concatenate([patch.astype(np.float32), np.ones((h, w, 1), np.float32)], axis=2)
    return np.asarray(texture * (1 - alpha) + own * alpha, np.float32)


def _grain(image: Frame, points: F32) -> float:
    """Return the standard deviation of the finest detail on the cheeks, in grey levels, at most 4."""
    x, y = np.round(points[[50, 280]].mean(0)).astype(int)
    grey = cv2.cvtColor(image[max(y - 40, 0) : y + 40, max(x - 60, 0) : x + 60], cv2.COLOR_RGB2GRAY)
    fine = grey.astype(np.float32) - cv2.GaussianBlur(grey, (0, 0), 1.0)
    return float(min(np.median(np.abs(fine)) / 0.6745, 4.0))
