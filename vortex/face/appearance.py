"""What a picture shows of a face: whether lips and eyes can be seen, and how sharp it is.

MediaPipe returns lips and eyes for every face, also where a mask or a hand covers them. So these measures
compare the pixels at the landmarks with what lips and eyes look like. All are taken in a patch in which the
face is upright and 192 px high, so that they do not depend on its size.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vortex.face.detection import Face
from vortex.face.landmarks import (
    BARE_SKIN,
    CHEEK_SKIN,
    CHIN,
    FOREHEAD,
    LIDS,
    LOWER_RINGS,
    NOSE_BRIDGE,
    OUTER_EYE_CORNERS,
    OUTER_LIPS,
    UPPER_RINGS,
)
from vortex.types import F32, F64, FloatArray, Frame

FACE_PX = 192
"""Height of the face in the patch, from the top of the forehead to the chin."""
SKIN_BLUR_PX = 3.0
"""Standard deviation of the blur after which colours of skin and lips are compared."""
LINE_BLUR_PX = 1.0
"""The same for the profile across the lips, and for eyes: it only reduces noise."""
DETAIL_BLUR_PX = 4.0
"""What this blur removes is the fine detail of a face: lashes, edges of lips and nostrils."""
AROUND_LIPS = 1.35
"""The ring of skin around the lips is their outline, enlarged by this factor."""
PROFILE_STEPS = 37
"""Samples across the lips, from the skin above to the skin below."""
USUAL_SCATTER = 0.004
"""Scatter of the lips of an uncovered mouth, see :class:`Appearance`."""
COVER_WEIGHTS = {"scatter": 4.86, "redness": -0.646, "lightness": -2.30, "colour": -1.39, "skin": 1.08}
COVER_BIAS = 22.8
"""Logistic regression on 233 faces that show their mouths (photos, frames of clips and paintings, of 66
people), each also in grey, sepia, dark, pale, blurred, compressed, tilted and with a shadow, and on 2200
masks, cloths, sheets of paper, hands and microphones composed onto them. Logarithms are natural; see
:func:`_mouth_cover`."""


@dataclass(frozen=True, slots=True)
class Appearance:
    """Measures of one face.

    Attributes:
        mouth_cover: logarithm of the odds that something covers the mouth, without the rarity of that.
        scatter: the median distance of a landmark from its mean over the detections, in heights of the face
            from the bridge of the nose to the chin.
        eye_shade: L* of the skin below the eyes minus that of the cheeks, of the lighter eye.
        eye_contrast: range of L* inside the eyes, from the 5th to the 95th percentile, of the eye with more.
        detail: the part of the lightness' variation that is fine detail, in [0, 1].
    """

    mouth_cover: float
    scatter: float
    eye_shade: float
    eye_contrast: float
    detail: float


def measure_appearance(image: Frame, face: Face) -> Appearance:
    """Measure a face that :func:`vortex.face.detection.refine_face` returned for ``image``."""
    patch, points = _upright_patch(image, face.landmarks_px[:, :2].astype(np.float64))
    lab = np.asarray(cv2.cvtColor(patch.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
    scatter = face.scatter_px / _scale(face.landmarks_px[:, :2])
    eyes = _eyes(lab, points)
    return Appearance(
        mouth_cover=_mouth_cover(lab, points, float(np.median(scatter[OUTER_LIPS]))),
        scatter=float(np.median(scatter)),
        eye_shade=max(shade for shade, _ in eyes),
        eye_contrast=max(contrast for _, contrast in eyes),
        detail=_detail(lab),
    )


def measure_cover(image: Frame, landmarks_px: F32) -> float:
    """Return :attr:`Appearance.mouth_cover` of a face that was detected once: its scatter is a usual one."""
    patch, points = _upright_patch(image, landmarks_px[:, :2].astype(np.float64))
    lab = np.asarray(cv2.cvtColor(patch.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
    return _mouth_cover(lab, points, USUAL_SCATTER)


def _scale(points: FloatArray) -> float:
    """Return the size of a face in pixels that neither an open mouth nor a turn to the side changes much."""
    across = points[OUTER_EYE_CORNERS[1]] - points[OUTER_EYE_CORNERS[0]]
    return float(max(np.linalg.norm(across), np.linalg.norm(points[CHIN] - points[NOSE_BRIDGE])))


def _upright_patch(image: Frame, points: F64) -> tuple[Frame, F64]:
    """Return a picture of the face, upright and FACE_PX high, and the landmarks (478, 2) in it."""
    down = points[CHIN] - points[FOREHEAD]
    height = max(float(np.linalg.norm(down)), 1.0)
    low = np.floor(points.min(0) - 0.25 * height).astype(int)
    high = np.ceil(points.max(0) + 0.25 * height).astype(int)
    x0, y0 = np.clip(low, 0, [image.shape[1] - 1, image.shape[0] - 1])
    x1, y1 = np.clip(high, [x0 + 1, y0 + 1], [image.shape[1], image.shape[0]])
    box, inside, scale = image[y0:y1, x0:x1], points - [x0, y0], FACE_PX / height
    if scale < 1:
        # Resized by areas first, because the warp below would skip pixels.
        size = max(round(scale * box.shape[1]), 1), max(round(scale * box.shape[0]), 1)
        ratio = np.array(size) / [box.shape[1], box.shape[0]]
        box = np.asarray(cv2.resize(box, size, interpolation=cv2.INTER_AREA), np.uint8)
        inside, scale = (inside + 0.5) * ratio - 0.5, 1.0
    unit = down / height
    turn = scale * np.array([[unit[1], -unit[0]], [unit[0], unit[1]]])
    shift = np.array([0.5, 0.55]) * FACE_PX - turn @ (inside[FOREHEAD] + inside[CHIN]) / 2
    size = (FACE_PX, round(1.15 * FACE_PX))
    patch = cv2.warpAffine(
        box, np.column_stack([turn, shift]), size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(patch, np.uint8), inside @ turn.T + shift


def _mouth_cover(lab: F32, points: F64, scatter: float) -> float:
    """Return the logarithm of the odds that the mouth is covered.

    Lips are redder than the skin around them, and differ from it in a profile from the nose to the chin that
    is much the same in all columns: skin, lip, dark line or teeth, lip, skin. Behind a cover the landmarks
    scatter, and around the mouth the colour is not that of the forehead.
    """
    soft = _blurred(lab, SKIN_BLUR_PX)
    outline = points[OUTER_LIPS]
    ring = outline.mean(0) + AROUND_LIPS * (outline - outline.mean(0))
    flesh = np.concatenate([UPPER_RINGS[2, 1:-1], LOWER_RINGS[2, 1:-1], LOWER_RINGS[1, 1:-1]])
    around = np.median(_sample(soft, ring), axis=0)
    lips = np.median(_sample(soft, points[flesh]), axis=0)
    bare = np.median(_sample(soft, points[BARE_SKIN]), axis=0)
    profile = _lip_profile(lab, points).std(axis=0)
    features = {
        "scatter": np.log(scatter + 0.003),
        "redness": lips[1] - around[1],
        "lightness": np.log(profile[0] + 0.5),
        "colour": np.log(profile[1] + 0.3),
        "skin": np.log(np.hypot(*(around - bare)[1:]) + 1),
    }
    return float(COVER_BIAS + sum(COVER_WEIGHTS[name] * value for name, value in features.items()))


def _lip_profile(lab: F32, points: F64) -> F32:
    """Return (PROFILE_STEPS, 3): L*, a*, b* from above to below the lips, the mean of seven columns."""
    upper, lower = points[UPPER_RINGS[:, 1:-1]], points[LOWER_RINGS[:, 1:-1]]
    above, below = upper[3] + 0.6 * (upper[3] - upper[0]), lower[3] + 0.6 * (lower[3] - lower[0])
    path = np.concatenate([above[None], upper[::-1], lower, below[None]])
    at = np.linspace(0, len(path) - 1, PROFILE_STEPS)
    before = np.minimum(at.astype(int), len(path) - 2)
    part = (at - before)[:, None, None]
    places = (1 - part) * path[before] + part * path[before + 1]
    values = _sample(_blurred(lab, LINE_BLUR_PX), places.reshape(-1, 2))
    columns = values.reshape(*places.shape[:2], 3)
    return np.asarray((columns - columns.mean(axis=0)).mean(axis=1), np.float32)


def _eyes(lab: F32, points: F64) -> list[tuple[float, float]]:
    """Return shade and contrast of each eye, see :class:`Appearance`."""
    soft = _blurred(lab[..., 0], 2 * LINE_BLUR_PX)
    cheeks = float(np.median(_sample(soft, points[CHEEK_SKIN])))
    measured = []
    for upper, lower in LIDS.values():
        corner, other = points[upper[0]], points[upper[-1]]
        width = float(np.linalg.norm(other - corner))
        under = _sample(soft, points[lower[1:-1]] + [0, 0.22 * width])
        along = corner + (other - corner) * np.linspace(0.1, 0.9, 15)[:, None]
        rows = width * np.array([[[0, -0.08]], [[0, 0]], [[0, 0.08]]])
        inside = _sample(soft, (along + rows).reshape(-1, 2))
        low, high = np.percentile(inside, [5, 95])
        measured.append((float(np.median(under)) - cheeks, float(high - low)))
    return measured


def _detail(lab: F32) -> float:
    """Return which part of the standard deviation of L* around eyes, nose and mouth is fine detail."""
    high, low = (round(share * FACE_PX) for share in (0.25, 0.95))
    left, right = (round(share * FACE_PX) for share in (0.15, 0.85))
    light = lab[high:low, left:right, 0]
    fine = light - _blurred(light, DETAIL_BLUR_PX)
    # One level of L* is added, because in a picture of one colour both are noise.
    return float(fine.std() / (light.std() + 1))


def _blurred(values: F32, deviation_px: float) -> F32:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), deviation_px), np.float32)


def _sample(values: FloatArray, places: F64) -> F32:
    """Return the values (N, ...) at places (N, 2), x and y, between pixels."""
    x, y = (places[None, :, axis].astype(np.float32) for axis in (0, 1))
    found = cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found[0], np.float32)
