"""What LivePortrait's motion extractor says of a moving face, and how a face moves that it says this of.

``scripts/learn_keypoint_drive.py`` makes ``keypoints.npz``; ``keypoints.md`` says from which data. ``exp``
(21, 3) is the expression of :class:`vortex.types.KeypointTrack`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vortex.errors import InputError
from vortex.face.pose import pose_of_rotation
from vortex.face.shapes import bounded_amounts
from vortex.interpolation import smoothstep, soft_limit
from vortex.motion.expression import OPEN_GAP, SHUT_GAP, part_lips
from vortex.motion.eyes import set_gaze
from vortex.motion.measures import MEASURE_INDEX, OPENING, measure_motion, shape_measures
from vortex.types import (
    BLENDSHAPE_INDEX,
    BLENDSHAPES,
    F32,
    F64,
    GAZE_REACH,
    FloatArray,
    KeypointTrack,
    MotionTrack,
)

KEYPOINTS = 21
USUAL_AMOUNT = 0.3
"""Standard deviation of the amount of a blendshape."""
SEEN_SHAPES = (
    "jawOpen", "mouthFunnel", "mouthPucker", "mouthStretchLeft", "mouthStretchRight",
    "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight",
    "mouthUpperUpLeft", "mouthUpperUpRight", "mouthLowerDownLeft", "mouthLowerDownRight",
    "mouthLeft", "mouthRight", "jawLeft", "jawRight",
    "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "browDownLeft", "browDownRight",
)  # fmt: skip
"""Shapes that measures tell apart; more would share what one of these does."""


class KeypointDrive(NamedTuple):
    """How measures of a face (vortex/motion/measures.py) and ``exp`` go together.

    ``weights`` (19, 63) is ``exp`` for each unit of a measure, ``inverse`` (63, 19) a measure for each unit
    of ``exp``, with errors of standard deviation ``noise`` (19,). Real faces keep within ``low`` and ``high``
    (21, 3) of ``exp`` at rest with a shut mouth.
    """

    weights: F64
    inverse: F64
    low: F64
    high: F64
    noise: F64


@lru_cache(maxsize=1)
def load_drive() -> KeypointDrive:
    """Return the coefficients that are part of the package."""
    with np.load(Path(__file__).with_name("keypoints.npz")) as arrays:
        return KeypointDrive(*(arrays[name].astype(np.float64) for name in KeypointDrive._fields))


def keypoint_expression(motion: MotionTrack) -> F32:
    """Return (T, 21, 3) float32: what a motion adds to ``exp`` of a face at rest with a shut mouth.

    Blinks are included. Everything stays within what real faces do; a motion of zeros gives zeros.
    """
    drive = load_drive()
    exp = expression_of_measures(measure_motion(motion))
    return soft_limit(exp, np.where(exp < 0, -drive.low, drive.high))


def expression_of_measures(measures: FloatArray) -> F64:
    """Return (T, 21, 3): what changes (T, 19) of the measures of a face add to ``exp``."""
    return np.asarray(measures @ load_drive().weights, np.float64).reshape(len(measures), KEYPOINTS, 3)


def motion_of_keypoints(track: KeypointTrack, neutral: FloatArray | None = None) -> MotionTrack:
    """Return the motion of a face of which the extractor says ``track``: head, mouth, brows, lids and gaze.

    ``neutral`` (21, 3) is ``exp`` of this face at rest with a shut mouth; default, that of the frame in which
    the mouth is shut furthest and the eyes are open as usual. The head turns from its pose in that frame.
    Scale and translation have no counterpart in a motion.

    Raises:
        InputError: the track has no frames.
    """
    if not len(track):
        raise InputError("The keypoint track has no frames; give one frame or more.")
    exp = track.exp.reshape(len(track), 3 * KEYPOINTS).astype(np.float64)
    drive = load_drive()
    reference = rest_frame(exp @ drive.inverse)
    rest = exp[reference] if neutral is None else np.asarray(neutral, np.float64).ravel()
    measures = (exp - rest) @ drive.inverse
    shapes = _fit_shapes(measures)
    gap = np.maximum(_gap(measures), 0)
    part_lips(shapes, gap * smoothstep(gap, SHUT_GAP, OPEN_GAP, dtype=np.float64))
    opening, difference = _columns(measures, "opening", "opening_difference").T
    shapes[:, BLENDSHAPE_INDEX["eyeBlinkLeft"]] = -(opening + difference) / OPENING
    shapes[:, BLENDSHAPE_INDEX["eyeBlinkRight"]] = -(opening - difference) / OPENING
    # Lids that fall hide the irises, which then seem to go down with them.
    seen = 1 - np.clip(-opening / OPENING, 0, 1)
    gaze = _columns(measures, "gaze_across", "gaze_down") / GAZE_REACH * seen[:, None]
    set_gaze(shapes, np.asarray(gaze, np.float64))
    pose_deg = head_turns_deg(track.rotation, track.rotation[reference])
    return MotionTrack(np.clip(shapes, -1, 1).astype(np.float32), pose_deg, track.fps)


def head_turns_deg(rotation: F64, reference: F64) -> F32:
    """Return (T, 3) pitch, yaw, roll of heads (T, 3, 3) of a KeypointTrack from ``reference`` (3, 3).

    The turn is about the axes of the head, as in :func:`vortex.motion.capture.relative_pose_deg`.
    """
    # Rows times R, with y down and z away, to columns with y up and z towards the viewer.
    axes = np.array([1.0, -1.0, -1.0])
    turns = reference @ np.swapaxes(rotation, -1, -2)
    return pose_of_rotation(axes[:, None] * turns * axes).astype(np.float32)


def _columns(measures: F64, *names: str) -> F64:
    return measures[:, [MEASURE_INDEX[name] for name in names]]


def _gap(measures: F64) -> F64:
    """Return (T,): how far the lips are apart, in the middle."""
    upper, lower = _columns(measures, "upper_lip", "lower_lip").T
    return np.asarray(lower - upper, np.float64)


def rest_frame(measures: F64) -> int:
    """Return the frame in which the mouth is shut furthest and the eyes are open as usual."""
    opening = measures[:, MEASURE_INDEX["opening"]]
    return int((_gap(measures) + np.abs(opening - np.median(opening))).argmin())


def _fit_shapes(measures: F64) -> F64:
    """Return (T, 48): the likeliest amounts in [0, 1] of SEEN_SHAPES with which the measures change.

    The amounts are those of least squared error, relative to its noise, and least squared size, relative to
    USUAL_AMOUNT.
    """
    drive = load_drive()
    columns = [BLENDSHAPE_INDEX[name] for name in SEEN_SHAPES]
    scaled = shape_measures()[columns] / drive.noise
    gram = scaled @ scaled.T + np.eye(len(columns)) / USUAL_AMOUNT**2
    products = measures / drive.noise @ scaled.T
    result = np.zeros((len(measures), len(BLENDSHAPES)))
    result[:, columns] = bounded_amounts(gram, products)
    return result
