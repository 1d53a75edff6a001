"""The motion of a portrait that follows a face in a video."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from vortex.face.pose import pose_of_rotation, rotation_of_pose
from vortex.face.tracking import FaceTrack
from vortex.interpolation import gaussian_smoothed
from vortex.motion.expression import copy_expression, fit_expression, scored_expression
from vortex.motion.keypoints import head_turns_deg, motion_of_keypoints
from vortex.types import BLENDSHAPES, F32, F64, KeypointTrack, MotionTrack, Portrait, frame_count

SMOOTHING_S = 0.015
"""Standard deviation of the smoothing in time; landmarks of neighbouring frames scatter a little."""


def capture_motion(
    faces: FaceTrack,
    fps: Fraction,
    portrait: Portrait,
    *,
    frames: int | None = None,
    relative: bool = True,
) -> MotionTrack:
    """Return the motion that makes a portrait move as a face in a video does.

    The video's reference frame is the one whose mouth and eyes are most like the portrait's: there, the
    portrait is as in its picture (:func:`vortex.motion.expression.fit_expression`). The head turns as the
    face does from its pose there, about the same axes of the head. If not ``relative``, the portrait takes
    the expression and the pose of the other face, whatever its own are.

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
    if relative:
        shapes, reference = fit_expression(landmarks, pose_of_rotation(rotations), portrait.landmarks_px)
        pose = relative_pose_deg(rotations, rotations[reference], portrait)
    else:
        shapes = copy_expression(landmarks, portrait)
        pose = pose_of_rotation(rotations @ rotation_of_pose(portrait.head_pose_deg).T)
    middle_s = shown_times_s(faces, fps, frames)
    curves = np.column_stack([shapes, pose])
    known_s = faces.times_s[found]
    at_frames = np.column_stack([np.interp(middle_s, known_s, curve) for curve in curves.T])
    smooth = gaussian_smoothed(at_frames, SMOOTHING_S * float(fps)).astype(np.float32)
    return MotionTrack(np.clip(smooth[:, : len(BLENDSHAPES)], -1, 1), smooth[:, len(BLENDSHAPES) :], fps)


def shown_times_s(faces: FaceTrack, fps: Fraction, frames: int | None = None) -> F64:
    """Return (frames,) times on the clock of ``faces`` that the frames of a motion show.

    Each frame of the video shows the middle of the time until the next one, too. ``frames`` is by default
    the length of the video.
    """
    step_s = float(np.median(np.diff(faces.times_s))) if len(faces.times_s) > 1 else 1 / float(fps)
    if frames is None:
        frames = max(frame_count(float(faces.times_s[-1]) + step_s, fps), 1)
    return np.asarray((np.arange(frames) + 0.5) / float(fps) - step_s / 2, np.float64)


def compare_faces(driver: Portrait, portrait: Portrait) -> tuple[F32, F64]:
    """Return blendshapes (48,) and turn (3,) in degrees that give a portrait what another picture shows."""
    shapes = copy_expression(driver.landmarks_px[None], portrait, driver.blendshapes[None])[0]
    turn = rotation_of_pose(driver.head_pose_deg) @ rotation_of_pose(portrait.head_pose_deg).T
    return shapes, pose_of_rotation(turn)


def retarget_keypoints(
    track: KeypointTrack, portrait: Portrait, neutral: F32 | None = None, *, relative: bool = True
) -> MotionTrack:
    """Return the motion of a portrait that moves as LivePortrait's extractor says of a face.

    Motion is measured from that face at rest, whose expression ``neutral`` (21, 3) is by default found in the
    track. If not ``relative``, what the portrait's picture shows is taken off, and its head gets the pose of
    the other one; lids and gaze stay relative.
    """
    motion = motion_of_keypoints(track, neutral)
    if relative:
        return motion
    shapes = np.clip(motion.blendshapes - scored_expression(portrait), -1, 1)
    poses = rotation_of_pose(head_turns_deg(track.rotation, np.eye(3)))
    turn_deg = pose_of_rotation(poses @ rotation_of_pose(portrait.head_pose_deg).T)
    return MotionTrack(shapes, turn_deg.astype(np.float32), track.fps)


def relative_pose_deg(rotations: F64, reference: F64, portrait: Portrait) -> F64:
    """Return (T, 3) pitch, yaw, roll by which a portrait turns when a head turns from ``reference`` (3, 3).

    The turn is about the axes of the head, R_ref^T R, so that a head seen from the side nods as one seen from
    the front; the portrait's own pose R_p brings it into its picture: R_p R_ref^T R R_p^T.
    """
    source = rotation_of_pose(portrait.head_pose_deg)
    return pose_of_rotation(source @ reference.T @ rotations @ source.T)
