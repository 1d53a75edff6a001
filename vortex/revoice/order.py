"""Which frame of a clip is shown when: forwards, and to and fro where the sound is longer than the clip."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vortex.types import F64, I64

TURN_WITHIN = 0.2
"""The clip turns round within this part of it at each end, where the head is stillest."""


def frame_order(wanted: int, motion: F64, cuts: I64) -> I64:
    """Return (wanted,) numbers of the frames of a clip, whose faces move by ``motion`` (T,) at each frame.

    After the last frame the clip runs backwards, between two frames in which the head is still; a clip with
    ``cuts`` would run backwards over them, too, so it turns round at its very ends.
    """
    frames = len(motion)
    if wanted <= frames:
        return np.arange(wanted)
    reach = 0 if len(cuts) else int(TURN_WITHIN * frames)
    last = frames - 1 - int(motion[::-1][: reach + 1].argmin())
    first = int(motion[: reach + 1].argmin())
    order = [np.arange(last + 1)]
    length = last + 1
    while length < wanted:
        there = np.arange(last - 1, first - 1, -1) if last > first else np.array([first])
        back = np.arange(first + 1, last + 1) if last > first else np.array([first])
        order += [there, back]
        length += len(there) + len(back)
    return np.concatenate(order)[:wanted].astype(np.int64)


def new_scenes(order: I64, cuts: I64) -> npt.NDArray[np.bool_]:
    """Return (N,): whether a cut lies between each frame of ``order`` (N,) and the one before it.

    ``cuts`` are the numbers of the clip's frames with which a scene begins.
    """
    scene = np.searchsorted(cuts, order, side="right")
    return np.concatenate([[False], scene[1:] != scene[:-1]])[: len(order)]


def fades(visible: npt.NDArray[np.bool_], frames: int, begins: npt.NDArray[np.bool_] | None = None) -> F64:
    """Return (T,) in [0, 1]: 0 where not ``visible`` (T,), rising to 1 within ``frames`` beside it.

    At a cut everything changes at once: a scene, which ``begins`` (T,) with a frame, fades by itself.
    """
    if begins is not None:
        starts = np.flatnonzero(begins)
        return np.concatenate([fades(scene, frames) for scene in np.split(visible, starts)])
    rows = np.arange(len(visible))
    hidden = rows[~visible]
    if not len(hidden):
        return np.ones(len(visible))
    after = np.searchsorted(hidden, rows)
    before = hidden[np.maximum(after - 1, 0)]
    following = hidden[np.minimum(after, len(hidden) - 1)]
    nearest = np.minimum(np.abs(rows - before), np.abs(following - rows))
    return np.asarray(np.clip(nearest / (frames + 1), 0, 1), np.float64)
