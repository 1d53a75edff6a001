"""Phrases and stressed syllables, of a whole speech and of speech as it arrives."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from vortex.motion.rhythm import Rhythm, RhythmStream, rhythm_of
from vortex.types import VisemeTrack
from vortex.visemes import SILENT_COLUMN, VISEME_INDEX, VISEMES

FPS = Fraction(24)
PHRASES = ((24, 72), (96, 144), (149, 200))
"""First and last frame, exclusive; 1 s, 1 s and 0.2 s of silence before them."""
PEAKS = (36, 60, 120, 170)


def phrases() -> VisemeTrack:
    """Return a voice of constant loudness in three phrases, with four loud syllables."""
    speaks = np.zeros(240, bool)
    for first, last in PHRASES:
        speaks[first:last] = True
    speaks[50:52] = False  # as short as the silence before a plosive
    weights = np.zeros((240, len(VISEMES)), np.float32)
    weights[np.arange(240), np.where(speaks, VISEME_INDEX["aa"], SILENT_COLUMN)] = 1
    frames = np.arange(240)
    loud = 0.3 * speaks + sum(0.7 * np.exp(-0.5 * ((frames - peak) / 2) ** 2) for peak in PEAKS)
    return VisemeTrack(weights, loud, FPS)


def streamed(track: VisemeTrack, sizes: list[int]) -> Rhythm:
    stream, parts, row = RhythmStream(FPS), [], 0
    for size in sizes:
        parts.append(stream.next(track.rows(row, row + size)))
        row += size
    return Rhythm(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("stress", "starts", "ends")))


def test_a_face_that_knows_the_speech_is_early() -> None:
    rhythm = rhythm_of(phrases())
    assert np.flatnonzero(rhythm.ends).tolist() == [72, 144, 200]
    # 0.4 s before the phrase, but not before the end of the one before.
    assert np.flatnonzero(rhythm.starts).tolist() == [24 - 10, 96 - 10, 145]
    strong = np.flatnonzero(rhythm.stress > 0.5)
    assert strong == pytest.approx(np.array(PEAKS) - 0.2 * 24, abs=1.5)


def test_a_live_face_is_late() -> None:
    rhythm = streamed(phrases(), [240])
    assert np.flatnonzero(rhythm.starts).tolist() == [first for first, _ in PHRASES]
    # The fourth silent frame: 0.15 s have passed.
    assert np.flatnonzero(rhythm.ends).tolist() == [last + 3 for _, last in PHRASES]
    strong = np.flatnonzero(rhythm.stress > 0.5)
    after = [min(lag for lag in strong - peak if lag >= 0) for peak in PEAKS]
    assert max(after) <= 0.2 * 24


@pytest.mark.parametrize("of", [rhythm_of, lambda track: RhythmStream(FPS).next(track)])
def test_a_recording_with_little_dynamics_has_the_same_stresses(of: Callable[[VisemeTrack], Rhythm]) -> None:
    track = phrases()
    level = VisemeTrack(track.weights, 0.5 * (track.loudness > 0) + 0.35 * track.loudness, FPS)
    for one in (track, level):
        strong = np.flatnonzero(of(one).stress > 0.4)
        assert len(strong) >= len(PEAKS)
        assert all(np.abs(strong - peak).min() <= 6 for peak in PEAKS)


def test_open_vowels_stand_out_where_the_loudness_is_level() -> None:
    track = phrases()
    weights = np.zeros_like(track.weights)
    vowels = np.isin(np.arange(240) % 24, range(10, 15))
    weights[np.arange(240), np.where(vowels, VISEME_INDEX["aa"], VISEME_INDEX["SS"])] = 1
    stress = rhythm_of(VisemeTrack(weights, np.full(240, 0.8), FPS)).stress
    middle = np.flatnonzero(stress[24:216] > 0.4) + 24
    assert len(middle) == 8
    assert (middle + 0.2 * 24) % 24 == pytest.approx(12, abs=1.5)


@pytest.mark.parametrize("sizes", [[1] * 240, [7, 100, 133]])
def test_a_stream_does_not_depend_on_the_chunks(sizes: list[int]) -> None:
    one, many = streamed(phrases(), [240]), streamed(phrases(), sizes)
    for name in ("stress", "starts", "ends"):
        assert np.array_equal(getattr(one, name), getattr(many, name)), name


@pytest.mark.parametrize("fps", [1, 10, 120])
def test_any_frame_rate_and_length_has_a_rhythm(fps: int) -> None:
    for frames in (0, 1, 2, 240):
        track = phrases().rows(0, frames)
        rhythm = rhythm_of(VisemeTrack(track.weights, track.loudness, Fraction(fps)))
        assert len(rhythm.stress) == len(rhythm.starts) == len(rhythm.ends) == frames
