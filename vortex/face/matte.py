"""Mattes: how much of each pixel belongs to the person, and the person's own colour there."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vortex.errors import WeightsCorruptError
from vortex.face.landmarks import CROP_OUTLINE
from vortex.types import F32, Frame

MODEL = Path(__file__).parents[1] / "data" / "selfie_segmenter.tflite"
MODEL_SHA256 = "8d13b7fae74af625c641226813616a2117bd6bca19eb3b75574621fc08557f27"
"""Of the general model of MediaPipe's selfie segmentation, as the npm package 0.1.1675465747 has it."""
MODEL_PX = 256
"""Side of the picture that the network takes and of the mask that it returns."""
PERSON_SIDES = 3.0
"""Side of the square around the face that is segmented, in larger sides of the face: it holds all hair."""
WORK_PX = 640
"""Longest side at which the matte is solved; the edges come from the full picture."""
SURE_FROM, SURE_BELOW = 0.9, 0.1
"""Probabilities from which a pixel is surely the person, and below which surely not."""
EDGE_INSIDE, EDGE_OUTSIDE = 0.018, 0.03
"""How far from what is sure the edge may lie, in sides of the segmented square: hair reaches outside."""
SOLVE_RADIUS_PX, SOLVE_EPSILON = 3, 1e-5
"""Window and regularisation of the matting Laplacian, for colours in [0, 1]."""
SURE_WEIGHT, MASK_WEIGHT = 100.0, 0.005
"""How much what is sure counts in the solution, and the mask elsewhere: little, so that it decides only where
colours say nothing."""
FAR = 0.035
"""What is farther from the probable person than this, in sides of the square, does not belong to it."""
MAX_STEPS, ENOUGH = 60, 1e-8
"""The solver ends after so many steps, or when the mean square of what is left is below ENOUGH."""
EDGE_RADIUS_PX, EDGE_EPSILON = 4, 1e-5
"""Window and regularisation of the filter that brings a matte to the edges of the full picture."""
CLEAR_BELOW, SOLID_FROM = 0.06, 0.94
"""A matte is stretched so that these become 0 and 1: a solved one never reaches them."""
FLICKER = 0.25
"""In films, a mask that changes by less than this is smoothed over time."""
SMOOTHING = 0.7
"""Share of the frame before in such a mask."""

_network_lock = threading.Lock()
_networks: list[Any] = []


def segment_person(image: Frame, landmarks_px: F32) -> F32:
    """Return (H, W) float32 in [0, 1]: the probability that a pixel of ``image`` shows the face's person.

    ``image`` (H, W, 3) uint8 RGB; ``landmarks_px`` (478, >=2) in its pixels. The network sees the whole
    picture and a square around the face, which shows more of the hair; other people beside that one are left
    out.

    Raises:
        WeightsCorruptError: the model file is not the published one.
    """
    height, width = image.shape[:2]
    mask = _segment(image)
    x0, y0, x1, y1 = _person_box(landmarks_px, (width, height))
    near = _segment(image[y0:y1, x0:x1])
    # The square's own edge cuts people off, so the masks are mixed there.
    ramp_y, ramp_x = (_ramp(length) for length in near.shape)
    share = np.minimum.outer(
        np.where(_inner(y0, y1, height), 1, ramp_y), np.where(_inner(x0, x1, width), 1, ramp_x)
    ).astype(np.float32)
    box = mask[y0:y1, x0:x1]
    mask[y0:y1, x0:x1] = box + share * (near - box)
    return _only_person(mask, landmarks_px)


def _inner(low: int, high: int, size: int) -> np.bool_:
    return np.bool_(low == 0 and high == size)


def _ramp(length: int) -> F32:
    """Return (length,) weights: 1 in the middle, 0 at both ends."""
    at = np.arange(length, dtype=np.float32)
    return np.asarray(np.clip(8 * np.minimum(at, length - 1 - at) / length, 0, 1), np.float32)


def _resized(values: F32, size: tuple[int, ...], kernel: int = cv2.INTER_AREA) -> F32:
    """Return values (H, W) or (H, W, C) at another size (width, height)."""
    return np.asarray(cv2.resize(values, size, interpolation=kernel), np.float32)


def _reduced(image: Frame) -> F32:
    """Return a picture with colours in [0, 1], its longest side at most WORK_PX."""
    scale = min(WORK_PX / max(image.shape), 1.0)
    size = tuple(max(round(scale * side), 2) for side in image.shape[1::-1])
    return _resized(np.multiply(image, np.float32(1 / 255)), size)


def _segment(image: Frame) -> F32:
    """Return the network's mask (H, W) of a picture."""
    small = cv2.resize(image, (MODEL_PX, MODEL_PX), interpolation=cv2.INTER_AREA)
    blob = cv2.dnn.blobFromImage(small, 1 / 255)
    with _network_lock:
        if not _networks:
            _networks.append(_load_network())
        _networks[0].setInput(blob)
        mask = _networks[0].forward()[0, 0].copy()
    size = image.shape[1::-1]
    return np.asarray(np.clip(_resized(mask, size, cv2.INTER_CUBIC), 0, 1), np.float32)


def _load_network() -> Any:
    content = MODEL.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != MODEL_SHA256:
        raise WeightsCorruptError(
            f"The file {MODEL.name} of vortex has SHA-256 {found}, not {MODEL_SHA256}. Install it again."
        )
    return cv2.dnn.readNetFromTFLite(np.frombuffer(content, np.uint8))


def _person_box(landmarks_px: F32, size_px: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the box x0, y0, x1, y1 around the head and shoulders, inside the picture."""
    outline = landmarks_px[CROP_OUTLINE, :2]
    low, high = outline.min(0), outline.max(0)
    half = PERSON_SIDES / 2 * float((high - low).max())
    centre = (low + high) / 2
    x0, y0 = np.clip(np.floor(centre - half), 0, np.array(size_px) - 2).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(centre + half), [x0 + 2, y0 + 2], size_px).astype(int).tolist()
    return x0, y0, x1, y1


def _only_person(mask: F32, landmarks_px: F32) -> F32:
    """Return the mask without what is not connected with the face."""
    count, labels = cv2.connectedComponents((mask > 0.5).astype(np.uint8))
    points = np.round(landmarks_px[CROP_OUTLINE, :2].mean(0)).astype(int)
    x, y = np.clip(points, 0, [mask.shape[1] - 1, mask.shape[0] - 1])
    own = int(labels[y, x])
    if count <= 2 or own == 0:
        return mask
    # What is probable only a little, such as strands of hair, stays near the person.
    reach = max(round(EDGE_OUTSIDE * max(mask.shape)), 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(mask * cv2.dilate((labels == own).astype(np.uint8), kernel), np.float32)


def person_matte(image: Frame, landmarks_px: F32) -> F32:
    """Return (H, W) float32 in [0, 1]: how much of each pixel is the person of the face; soft in the hair.

    The matte is solved between what is surely the person and what is surely not, by the matting Laplacian
    (Levin et al. 2008) in the form of He et al. 2010, whose product with a matte is a guided filter.
    Arguments and errors as of :func:`segment_person`; takes about half a second.
    """
    small = _reduced(image)
    mask = _resized(segment_person(image, landmarks_px), small.shape[1::-1])
    matte = _solve(small, mask, *_sure(mask))
    return sharpened(image, small, matte)


def _sure(mask: F32) -> tuple[F32, F32]:
    """Return what is surely the person, and what is surely the person or surely not; (H, W), 0 or 1."""
    side = max(mask.shape)

    def shrunk(part: F32, by: float) -> F32:
        reach = max(round(by * side), 1)
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        return np.asarray(cv2.erode(part, kernel, borderValue=1), np.float32)

    person = shrunk((mask > SURE_FROM).astype(np.float32), EDGE_INSIDE)
    other = shrunk((mask < SURE_BELOW).astype(np.float32), EDGE_OUTSIDE)
    far = shrunk((mask < 0.5).astype(np.float32), FAR)
    return person, np.maximum.reduce([person, other, far])


def _solve(guide: F32, start: F32, person: F32, sure: F32) -> F32:
    """Return the matte (H, W) that is 1 at ``person``, 0 elsewhere in ``sure``, and linear in colour between.

    Conjugate gradients from ``start``. The system is that of He et al. 2010, divided by the window's area.
    """
    smooth = _guided(guide, SOLVE_RADIUS_PX, SOLVE_EPSILON)
    weight = SURE_WEIGHT * sure + MASK_WEIGHT * (1 - sure)
    wanted = np.where(sure > 0, person, np.clip((start - 0.2) / 0.6, 0, 1)).astype(np.float32)

    def system(matte: F32) -> F32:
        return np.asarray(matte - smooth(matte).matte(guide) + weight * matte, np.float32)

    matte = start.copy()
    left = weight * wanted - system(matte)
    step, power = left.copy(), float(np.vdot(left, left))
    for _ in range(MAX_STEPS):
        if power <= ENOUGH * left.size:
            break
        moved = system(step)
        length = np.float32(power / float(np.vdot(step, moved)))
        matte += length * step
        left -= length * moved
        before, power = power, float(np.vdot(left, left))
        step = left + np.float32(power / before) * step
    stretched = (matte - CLEAR_BELOW) / (SOLID_FROM - CLEAR_BELOW)
    return np.asarray(np.clip(stretched, 0, 1), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _LinearMatte:
    """A matte that is linear in colour: ``slope`` (H, W, 3) and ``offset`` (H, W)."""

    slope: F32
    offset: F32

    def matte(self, guide: F32) -> F32:
        """Return the matte (H, W) of a picture (H, W, 3), colours in [0, 1]."""
        return np.asarray(np.einsum("hwc,hwc->hw", self.slope, guide) + self.offset, np.float32)

    def resized(self, size: tuple[int, ...]) -> _LinearMatte:
        """Return this for pictures of another size (width, height)."""
        return _LinearMatte(
            _resized(self.slope, size, cv2.INTER_LINEAR), _resized(self.offset, size, cv2.INTER_LINEAR)
        )


def _guided(guide: F32, radius_px: int, epsilon: float) -> Callable[[F32], _LinearMatte]:
    """Return the guided filter (He et al. 2013) of a colour picture (H, W, 3) as a function of a matte."""
    size = (2 * radius_px + 1, 2 * radius_px + 1)

    def mean(values: F32) -> F32:
        return np.asarray(cv2.boxFilter(values, -1, size, borderType=cv2.BORDER_REFLECT), np.float32)

    means = mean(guide)
    covariance = np.empty((*guide.shape, 3), np.float32)
    for i in range(3):
        products = mean(guide * guide[..., i : i + 1])
        covariance[..., i] = products - means * means[..., i : i + 1]
    inverse = np.linalg.inv(covariance + np.float32(epsilon) * np.eye(3, dtype=np.float32))

    def filtered(matte: F32) -> _LinearMatte:
        average = mean(matte)
        together = mean(guide * matte[..., None]) - means * average[..., None]
        slope = np.einsum("hwij,hwj->hwi", inverse, together)
        offset = average - np.einsum("hwc,hwc->hw", slope, means)
        return _LinearMatte(mean(slope), mean(offset))

    return filtered


def sharpened(image: Frame, small: F32, matte: F32) -> F32:
    """Return a matte of ``small`` (h, w, 3), colours in [0, 1], at the edges of ``image`` (H, W, 3) uint8."""
    if small.shape == image.shape:
        return matte
    linear = _guided(small, EDGE_RADIUS_PX, EDGE_EPSILON)(matte).resized(image.shape[1::-1])
    fine = linear.matte(np.multiply(image, np.float32(1 / 255)))
    # Far from edges, colours say nothing.
    coarse = _resized(matte, image.shape[1::-1], cv2.INTER_LINEAR)
    return np.asarray(np.where((coarse <= 0) | (coarse >= 1), coarse, np.clip(fine, 0, 1)), np.float32)


class FilmMatte:
    """Mattes of frames in their order, for films of one person whose landmarks are about the same.

    Each frame is segmented and filtered at its own edges; where the mask changes little it is smoothed over
    time, so that edges do not flicker.
    """

    def __init__(self, landmarks_px: F32) -> None:
        self._landmarks_px = landmarks_px
        self._before: F32 | None = None

    def next(self, frame: Frame) -> F32:
        """Return the matte (H, W) float32 in [0, 1] of the next frame (H, W, 3) uint8 RGB."""
        small = _reduced(frame)
        mask = _resized(segment_person(frame, self._landmarks_px), small.shape[1::-1])
        if self._before is not None:
            still = np.abs(mask - self._before) < FLICKER
            steady = SMOOTHING * self._before + (1 - SMOOTHING) * mask
            mask = np.asarray(np.where(still, steady, mask), np.float32)
        self._before = mask
        filtered = _guided(small, EDGE_RADIUS_PX, 10 * EDGE_EPSILON)(mask).matte(small)
        stretched = np.clip((filtered - SURE_BELOW) / (SURE_FROM - SURE_BELOW), 0, 1)
        return sharpened(frame, small, stretched.astype(np.float32))


def foreground_colours(image: Frame, matte: F32) -> Frame:
    """Return the person's own colours (H, W, 3) uint8, also where the matte (H, W) is below 1.

    At the edge a pixel shows person and background mixed; over another background, that would be a halo.
    Colours are blurred from inside, and corrected by what the picture shows (Forte 2021, two passes); far
    outside they are those of the nearest parts of the person.
    """
    exact, side = image.astype(np.float32), max(image.shape)
    person, other = exact, exact
    share = matte[..., None]
    for reach in (0.1, 0.01):
        size = (2 * max(round(reach * side / 2), 1) + 1,) * 2
        inside, outside = cv2.blur(matte, size)[..., None], cv2.blur(1 - matte, size)[..., None]
        person = cv2.blur(person * share, size) / (inside + 1e-5)
        other = cv2.blur(other * (1 - share), size) / (outside + 1e-5)
        person = np.where(inside > 1e-4, person, exact)
        person = np.clip(person + share * (exact - share * person - (1 - share) * other), 0, 255)
    return np.asarray(np.round(person), np.uint8)


def mixed(person: Frame, behind: Frame, matte: Frame) -> Frame:
    """Return the person over what is behind: pictures (H, W, 3) uint8, and the matte (H, W) uint8."""
    share = np.multiply(matte, np.float32(1 / 255))
    person, behind = np.ascontiguousarray(person), np.ascontiguousarray(behind)
    return np.asarray(cv2.blendLinear(person, behind, share, 1 - share), np.uint8)
