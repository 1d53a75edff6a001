"""The motion of a portrait that follows a face in a video."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from vortex.face.pose import pose_of_rotation, rotation_of_pose
from vortex.face.tracking import FaceTrack
from vortex.interpolation import gaussian_smoothed
from vortex.motion.expression import fit_expression
from vortex.types import BLENDSHAPES, F64, MotionTrack, Portrait, frame_count

SMOOTHING_S = 0.015
"""Standard deviation of the smoothing in time; landmarks of neighbouring frames scatter a little."""


def capture_motion(
    faces: FaceTrack, fps: Fraction, portrait: Portrait, *, frames: int | None = None
) -> MotionTrack:
    """Return the motion that makes a portrait move as a face in a video does.

    The video's reference frame is the one whose mouth and eyes are most like the portrait's: there, the
    portrait is as in its picture (:func:`vortex.motion.expression.fit_expression`). The head turns as the
    face does from its pose there, about the same axes of the head.

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
    landmarks, rotations = faces.landmarks_px[found], faces.rotations[found]
    shapes, reference = fit_expression(landmarks, pose_of_rotation(rotations), portrait.landmarks_px)
    pose = relative_pose_deg(rotations, rotations[reference], portrait)
    # A frame of the video shows the middle of the time until the next one, too.
    step_s = float(np.median(np.diff(faces.times_s))) if len(faces.times_s) > 1 else 1 / float(fps)
    if frames is None:
        frames = max(frame_count(float(faces.times_s[-1]) + step_s, fps), 1)
    middle_s = (np.arange(frames) + 0.5) / float(fps) - step_s / 2
    curves = np.column_stack([shapes, pose])
    known_s = faces.times_s[found]
    at_frames = np.column_stack([np.interp(middle_s, known_s, curve) for curve in curves.T])
    smooth = gaussian_smoothed(at_frames, SMOOTHING_S * float(fps)).astype(np.float32)
    return MotionTrack(np.clip(smooth[:, : len(BLENDSHAPES)], -1, 1), smooth[:, len(BLENDSHAPES) :], fps)


def relative_pose_deg(rotations: F64, reference: F64, portrait: Portrait) -> F64:
    """Return (T, 3) pitch, yaw, roll by which a portrait turns when a head turns from ``reference`` (3, 3).

    The turn is about the axes of the head, R_ref^T R, so that a head seen from the side nods as one seen from
    the front; the portrait's own pose R_p brings it into its picture: R_p R_ref^T R R_p^T.
    """
    source = rotation_of_pose(portrait.head_pose_deg)
    return pose_of_rotation(source @ reference.T @ rotations @ source.T)
