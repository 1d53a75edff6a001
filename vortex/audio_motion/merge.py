"""A learned motion of a face, in the regions that it may move, beside what vortex moves by itself.

What recognised sounds close stays closed: where the lips meet for p, b and m, and in long silences, the
learned motion of the mouth fades, and ours (:func:`vortex.motion.drive.articulate`) takes its place.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vortex.interpolation import gaussian_smoothed
from vortex.motion.drive import articulate, closure, drive
from vortex.motion.keypoints import KEYPOINTS, head_turns_deg, motion_of_keypoints
from vortex.motion.presets import PresetLike
from vortex.motion.transfer import KeypointChange, Motion, resample_keypoints
from vortex.types import BLENDSHAPES, F32, F64, FloatArray, KeypointTrack, MotionTrack, VisemeTrack
from vortex.visemes import LIP_CLOSING_COLUMNS, SILENT_COLUMN

LIPS = [6, 12, 14, 17, 19, 20]
"""Keypoints of LivePortrait on the lips, as published."""
MOUTH = [n for n, name in enumerate(BLENDSHAPES) if name.startswith(("jaw", "mouth", "tongue", "cheekPuff"))]
"""Columns of blendshapes of the mouth."""
SMOOTHING_S = 0.02
"""Standard deviation of the smoothing in time: a model that does not know the order of its frames jitters."""
SILENCE_S = 0.2
"""Silences at least this long hold the lips."""


def merge_motion(
    learned: KeypointTrack,
    visemes: VisemeTrack,
    preset: PresetLike,
    seed: int,
    region: str,
    *,
    keypoints: bool,
) -> Motion:
    """Return the motion of a face, one row for each viseme row.

    Args:
        learned: keypoints at any rate, frame i in the middle of [i, i + 1) / fps; its neutral frame is the
            face at rest, and what differs from it is taken over.
        visemes: what is said; closes lips.
        preset, seed: decide what ``learned`` does not move, as of :func:`vortex.motion.drive.drive`.
        region: one of :data:`vortex.audio_motion.base.REGIONS`.
        keypoints: return a KeypointChange, for an engine that renders keypoints; else a MotionTrack.
    """
    track = at_rate_of(learned, visemes)
    held = lips_held(visemes)
    own = own_motion(visemes, preset, seed, region, held)
    if region == "all":
        own = replace(own, head_pose_deg=head_turns_deg(track.rotation, track.reference.rotation[0]))
    if keypoints:
        return KeypointChange(own, expression_change(track, region, held))
    shapes = motion_of_keypoints(track, track.reference.exp[0]).blendshapes.copy()
    shapes[:, MOUTH] *= 1 - held[:, None]
    if region == "lips":
        shapes = shapes * np.isin(np.arange(len(BLENDSHAPES)), MOUTH)
    return replace(own, blendshapes=np.clip(own.blendshapes + shapes, -1, 1))


def at_rate_of(learned: KeypointTrack, visemes: VisemeTrack) -> KeypointTrack:
    """Return a motion, smoothed, at the middles of the frames of ``visemes``; its ends hold."""
    rate = float(learned.fps)

    def smoothed(values: FloatArray) -> F64:
        flat = gaussian_smoothed(values.reshape(len(values), -1), SMOOTHING_S * rate)
        return flat.reshape(values.shape)

    smooth = replace(
        learned, exp=smoothed(learned.exp).astype(np.float32), rotation=smoothed(learned.rotation)
    )
    times_s = (np.arange(len(learned)) + 0.5) / rate
    wanted_s = (np.arange(len(visemes.weights)) + 0.5) / float(visemes.fps)
    return resample_keypoints(smooth, times_s, wanted_s, visemes.fps)


def lips_held(visemes: VisemeTrack) -> F32:
    """Return (T,) in [0, 1]: how far recognised sounds hold the lips shut, 1 in p, b, m and long silences."""
    silent = opened(visemes.weights[:, SILENT_COLUMN], max(round(SILENCE_S * visemes.fps), 1))
    return closure(visemes.weights[:, LIP_CLOSING_COLUMNS].sum(axis=1) + silent)


def opened(curve: F32, frames: int) -> F32:
    """Return (T,): the curve without peaks narrower than ``frames`` (a morphological opening).

    Beyond its ends, the curve goes on as it is there.
    """
    before, after = frames - 1, frames - 1
    windows = np.lib.stride_tricks.sliding_window_view
    lowest = windows(np.pad(curve, (before, after), mode="edge"), frames).min(axis=1)
    return np.asarray(windows(lowest, frames).max(axis=1), np.float32)


def own_motion(
    visemes: VisemeTrack, preset: PresetLike, seed: int, region: str, held: npt.ArrayLike
) -> MotionTrack:
    """Return what vortex moves: the mouth where its lips are held, and all that ``region`` leaves."""
    moved = drive(visemes, preset, seed, share=held)
    if region == "lips":
        return moved
    mouth = articulate(visemes, 1.0) * np.asarray(held, np.float32)[:, None]
    return replace(moved, blendshapes=mouth)


def expression_change(track: KeypointTrack, region: str, held: F32) -> F32:
    """Return (T, 21, 3) float32: what a learned motion adds to the expression of LivePortrait's keypoints."""
    change = track.exp - track.reference.exp
    change[:, LIPS] *= 1 - held[:, None, None]
    if region == "lips":
        change = change * np.isin(np.arange(KEYPOINTS), LIPS)[:, None]
    return np.asarray(change, np.float32)
