"""The motion of a portrait that follows a face in a video."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vortex.face.landmarks import INNER_LIPS, LEFT_EYE, MOUTH_CORNERS, OUTER_EYE_CORNERS, RIGHT_EYE
from vortex.face.pose import pose_of_rotation, rotation_of_pose
from vortex.face.tracking import SCORES, FaceTrack
from vortex.interpolation import smoothstep
from vortex.types import BLENDSHAPES, F32, F64, MotionTrack, Portrait, frame_count

SMOOTHING_S = 0.015
"""Standard deviation of the smoothing in time; landmarks of neighbouring frames scatter a little."""
MEASURE_SCALES = np.array([0.05, 0.05, 0.02, 0.02])
"""Differences of the measures of :func:`measure_faces` that weigh the same when expressions are compared."""
POSE_SCALE_DEG = 8.0
"""A head turned this far from its usual pose weighs as one of these differences."""

CLOSED_LIPS = (0.012, 0.035)
"""Openings of the inner lips, in outer-eye widths, at which they are shut, and at which they are not."""
SHAPES_PER_OPENING = {"jawOpen": 1.6, "mouthLowerDown": 1.2, "mouthUpperUp": 1.15}
"""Amounts for a lip opening of one outer-eye width, as bounded fits of ARKit's shapes to talkers show."""
SHUT_LID, OPEN_LID = 0.2, 0.92
"""Lid openings, relative to that of the reference frame, at which an eye is shut, and is as there."""
WIDE_LID = 1.6
"""The same for an eye wide open."""
RELATIVE = (
    "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight", "mouthPressLeft",
    "mouthPressRight", "mouthStretchLeft", "mouthStretchRight", "browInnerUp", "browOuterUpLeft",
    "browOuterUpRight", "browDownLeft", "browDownRight", "eyeSquintLeft", "eyeSquintRight",
)  # fmt: skip
"""Columns in which MediaPipe scores a resting face well above 0: what exceeds the reference frame counts."""


def capture_motion(
    faces: FaceTrack, fps: Fraction, portrait: Portrait, *, frames: int | None = None
) -> MotionTrack:
    """Return the motion that makes a portrait move as a face in a video does.

    The video's reference frame is the one whose expression is most like the portrait's, near the usual pose
    of the head: there, the portrait is as in its picture. The head turns as the face does from its pose
    there, about the same axes of the head. Blendshapes are absolute, except those in :data:`RELATIVE`.

    Output frame i shows what the video shows at the middle of [i/fps, (i+1)/fps). Frames without a face are
    bridged; before the first face, and after the last one, the portrait holds still.

    Args:
        faces: what was seen; at least one frame has a face.
        fps: the rate of the motion.
        portrait: the picture that moves; its landmarks and head pose are used.
        frames: length of the motion; default, that of the video.
    """
    # A slice makes no copy of the landmarks of a long video.
    found = slice(None) if faces.found.all() else faces.found
    landmarks, rotations, scores = faces.landmarks_px[found], faces.rotations[found], faces.scores[found]
    reference = reference_row(landmarks, rotations, portrait)
    shapes = face_shapes(landmarks, rotations, scores, reference)
    pose = relative_pose_deg(rotations, rotations[reference], portrait)
    # A frame of the video shows the middle of the time until the next one, too.
    step_s = float(np.median(np.diff(faces.times_s))) if len(faces.times_s) > 1 else 1 / float(fps)
    if frames is None:
        frames = max(frame_count(float(faces.times_s[-1]) + step_s, fps), 1)
    middle_s = (np.arange(frames) + 0.5) / float(fps) - step_s / 2
    curves = np.column_stack([shapes, pose])
    known_s = faces.times_s[found]
    at_frames = np.column_stack([np.interp(middle_s, known_s, curve) for curve in curves.T])
    smooth = _smoothed(at_frames, SMOOTHING_S * float(fps)).astype(np.float32)
    return MotionTrack(np.clip(smooth[:, : len(BLENDSHAPES)], 0, 1), smooth[:, len(BLENDSHAPES) :], fps)


def face_shapes(landmarks_px: F32, rotations: F64, scores: F32, reference: int) -> F64:
    """Return (T, 33) in [0, 1], columns :data:`vortex.types.BLENDSHAPES`, of (T, 478, 3), (T, 3, 3), (T, 52).

    Lips and lids are measured on the landmarks, the rest are MediaPipe's scores. ``reference`` is the frame
    in which the face is as the portrait.
    """
    column = {name: scores[:, index].astype(np.float64) for index, name in enumerate(SCORES)}
    for name in RELATIVE:
        rest = column[name][reference]
        column[name] = (column[name] - rest) / max(1 - rest, 1e-6)
    # Both eyes move together; MediaPipe scores each one towards the nose (in) and away from it (out).
    for way, names in {
        "Up": ("UpLeft", "UpRight"),
        "Down": ("DownLeft", "DownRight"),
        "Left": ("OutLeft", "InRight"),
        "Right": ("InLeft", "OutRight"),
    }.items():
        looking = (column[f"eyeLook{names[0]}"] + column[f"eyeLook{names[1]}"]) / 2
        column[f"eyeLook{way}"] = looking - looking[reference]
    opening, _, left, right = measure_faces(landmarks_px, rotations).T
    for name, amount in SHAPES_PER_OPENING.items():
        for side in ("",) if name in BLENDSHAPES else ("Left", "Right"):
            column[name + side] = amount * opening
    column["mouthClose"] = 1 - smoothstep(opening, *CLOSED_LIPS, dtype=np.float64)
    for side, lid in (("Left", left), ("Right", right)):
        open_share = lid / max(lid[reference], 1e-6)
        column[f"eyeBlink{side}"] = (OPEN_LID - open_share) / (OPEN_LID - SHUT_LID)
        column[f"eyeWide{side}"] = (open_share - 1) / (WIDE_LID - 1)
    return np.clip(np.column_stack([column[name] for name in BLENDSHAPES]), 0, 1)


def measure_faces(landmarks_px: npt.NDArray[np.floating], rotations: F64) -> F64:
    """Return (T, 4) in outer-eye widths: gap of the inner lips, mouth width, gaps of left and right lids.

    Faces (T, 478, 3) are turned to the front first, by the inverse of their rotations (T, 3, 3).
    """
    pairs = np.array([OUTER_EYE_CORNERS, INNER_LIPS, MOUTH_CORNERS, LEFT_EYE[:2], RIGHT_EYE[:2]])
    between = np.subtract(landmarks_px[:, pairs[:, 0]], landmarks_px[:, pairs[:, 1]], dtype=np.float64)
    # y up, z towards the viewer; rows times R are R transposed, the inverse, times columns
    frontal = between * [1, -1, -1] @ rotations
    lengths = np.linalg.norm(frontal[..., :2], axis=2)
    return np.asarray(lengths[:, 1:] / lengths[:, :1], np.float64)


def reference_row(landmarks_px: F32, rotations: F64, portrait: Portrait) -> int:
    """Return the row whose face is most like the portrait's, near the usual pose of the head."""
    source = rotation_of_pose(portrait.head_pose_deg)[None]
    own = measure_faces(portrait.landmarks_px[None], source)
    apart = (measure_faces(landmarks_px, rotations) - own) / MEASURE_SCALES
    pose = pose_of_rotation(rotations)
    turned = (pose - np.median(pose, axis=0)) / POSE_SCALE_DEG
    return int(((apart**2).sum(axis=1) + (turned**2).sum(axis=1)).argmin())


def relative_pose_deg(rotations: F64, reference: F64, portrait: Portrait) -> F64:
    """Return (T, 3) pitch, yaw, roll by which a portrait turns when a head turns from ``reference`` (3, 3).

    The turn is about the axes of the head, R_ref^T R, so that a head seen from the side nods as one seen from
    the front; the portrait's own pose R_p brings it into its picture: R_p R_ref^T R R_p^T.
    """
    source = rotation_of_pose(portrait.head_pose_deg)
    return pose_of_rotation(source @ reference.T @ rotations @ source.T)


def _smoothed(curves: F64, sigma: float) -> F64:
    """Return (T, C) smoothed along T by a Gaussian of ``sigma`` frames, without delay; ends are repeated."""
    reach = max(int(np.ceil(3 * sigma)), 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-3)) ** 2)
    padded = np.pad(curves, ((reach, reach), (0, 0)), mode="edge")
    parts = (padded[first : first + len(curves)] * share for first, share in enumerate(kernel / kernel.sum()))
    return np.asarray(sum(parts), np.float64)
