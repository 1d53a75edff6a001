"""One face is followed through a video: the same one, over gaps, with one frame in memory at a time."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from support.driving import frame_times_s, known_frames

from vortex.errors import NoFaceError
from vortex.face.landmarks import NOSE_TIP
from vortex.face.tracking import track_face
from vortex.types import Frame, Portrait

BLANK = np.full((256, 256, 3), 120, np.uint8)


def timed(frames: list[Frame]) -> Iterator[tuple[float, Frame]]:
    return ((index / 25, frame) for index, frame in enumerate(frames))


def test_the_same_face_is_followed_though_a_larger_one_comes(hopper: Portrait) -> None:
    small = known_frames(frame_times_s()[:4])
    frames = []
    for index, face in enumerate(small):
        frame = np.full((620, 900, 3), 120, np.uint8)
        frame[20:276, 10 + 8 * index : 266 + 8 * index] = face
        if index >= 2:
            frame[10:610, 360:872] = hopper.image
        frames.append(frame)
    track = track_face(timed(frames))
    nose_px = track.landmarks_px[:, NOSE_TIP, 0]
    assert nose_px.max() < 300
    np.testing.assert_allclose(np.diff(nose_px), 8, atol=1.5)


def test_frames_without_the_face_are_marked_and_told() -> None:
    face = known_frames([0.1])[0]
    track = track_face(timed([BLANK, face, face, BLANK, face]))
    assert track.found.tolist() == [False, True, True, False, True]
    assert np.isnan(track.landmarks_px[[0, 3]]).all()
    assert np.isfinite(track.landmarks_px[[1, 2, 4]]).all()
    assert np.isnan(track.rotations[0]).all()
    assert any("no face in 2 of 5 frames" in note for note in track.notes)
    np.testing.assert_allclose(track.times_s, np.arange(5) / 25)


def test_a_video_without_any_face_is_refused_by_name() -> None:
    with pytest.raises(NoFaceError, match=r"No face found in any frame of 'sea.mp4'. Give"):
        track_face(timed([BLANK] * 3), name="sea.mp4")


def test_frames_are_not_kept() -> None:
    alive: list[weakref.ref[Frame]] = []
    most = 0

    def frames() -> Iterator[tuple[float, Frame]]:
        nonlocal most
        for index in range(6):
            frame = known_frames([0.1])[0]
            alive.append(weakref.ref(frame))
            gc.collect()
            most = max(most, sum(one() is not None for one in alive))
            yield index / 25, frame
            del frame

    track_face(frames())
    assert most <= 2, "the one that is looked at, and the next"
