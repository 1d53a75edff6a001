"""The frozen values: exact rates and counts, and arrays of the right shape that refuse writes."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest

from vortex.errors import InputError
from vortex.types import BLENDSHAPES, Audio, MotionTrack, VisemeTrack, frame_count, parse_fps
from vortex.visemes import SILENT_COLUMN, VISEMES


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (24, Fraction(24)),
        ("25", Fraction(25)),
        ("30000/1001", Fraction(30000, 1001)),
        (29.97, Fraction(30000, 1001)),
        ("23.976", Fraction(24000, 1001)),
    ],
)
def test_a_frame_rate_is_exact(given: int | float | str, expected: Fraction) -> None:
    assert parse_fps(given) == expected


@pytest.mark.parametrize("given", ["fast", 0, -24, 1000, "1/0", "1e999999999", float("nan"), float("inf")])
def test_a_wrong_frame_rate_is_refused_with_its_value(given: object) -> None:
    with pytest.raises(InputError, match="fps is"):
        parse_fps(given)  # type: ignore[arg-type]


def test_frames_cover_all_of_a_duration_and_no_more_than_it_needs() -> None:
    assert frame_count(45.0, Fraction(24)) == 1080
    assert frame_count(Fraction(1001, 1000), Fraction(30000, 1001)) == 30
    # An hour has 107892 frames of NTSC (SMPTE ST 12-1) and a part of another one.
    assert frame_count(3600, Fraction(30000, 1001)) == 107893
    assert frame_count(0, Fraction(24)) == 0


@pytest.mark.parametrize("fps", [Fraction(1), Fraction(24), Fraction(30000, 1001), Fraction(120)])
def test_no_end_of_a_sound_is_cut(fps: Fraction) -> None:
    chance = random.Random(1)
    for _ in range(500):
        rate_hz, samples = chance.choice((8_000, 44_100, 48_000)), chance.randrange(1, 10**6)
        frames = frame_count(Fraction(samples, rate_hz), fps)
        assert frames / fps >= Fraction(samples, rate_hz) - Fraction(1, 10_000)
        assert (frames - 1) / fps < Fraction(samples, rate_hz)


@pytest.mark.parametrize("fps", [Fraction(24), Fraction(30000, 1001), Fraction(120)])
def test_a_length_that_was_fitted_to_frames_has_as_many(fps: Fraction) -> None:
    for frames in (1, 7, 1000, 1_728_000):
        assert frame_count(float(frames / fps), fps) == frames
        for rate_hz in (8_000, 44_100, 48_000):
            assert frame_count(Fraction(round(frames / fps * rate_hz), rate_hz), fps) == frames


@pytest.mark.parametrize("given", ["119.99999999999999", 1.0000000001, "1.0000000001", 119.99999999999999])
def test_a_rate_fits_into_the_numbers_of_a_file(given: float | str) -> None:
    fps = parse_fps(given)
    assert abs(fps - Fraction(given)) < 1e-6
    assert fps.numerator < 2**31 and fps.denominator < 2**31


def test_values_are_frozen() -> None:
    audio = Audio(np.zeros(10, np.float32))
    with pytest.raises(ValueError, match="read-only"):
        audio.samples[0] = 1.0
    with pytest.raises(AttributeError):
        audio.sample_rate = 8000  # type: ignore[misc]


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(2, 10\)"):
        Audio(np.zeros((2, 10), np.float32))
    with pytest.raises(InputError, match=r"\(4, 3\)"):
        VisemeTrack(np.zeros((4, 3)), np.zeros(4), Fraction(24))
    with pytest.raises(InputError, match="head_pose"):
        MotionTrack(np.zeros((4, len(BLENDSHAPES))), np.zeros((3, 3)), Fraction(24))


def test_a_viseme_track_is_cut_or_continued_in_silence() -> None:
    rng = np.random.default_rng(0)
    track = VisemeTrack(rng.dirichlet(np.ones(len(VISEMES)), 5), rng.random(5), Fraction(24))
    cut, longer = track.fit(3), track.fit(8)
    assert np.array_equal(cut.weights, track.weights[:3]) and np.array_equal(cut.loudness, track.loudness[:3])
    assert np.array_equal(longer.weights[:5], track.weights)
    assert (longer.weights[5:, SILENT_COLUMN] == 1).all() and (longer.loudness[5:] == 0).all()
    assert longer.weights.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_a_part_of_a_motion_ends_where_the_motion_ends() -> None:
    shapes = np.arange(5 * len(BLENDSHAPES)).reshape(5, -1) / 1000
    motion = MotionTrack(shapes, np.arange(15).reshape(5, 3), Fraction(24))
    part = motion.part(3, 10)
    assert len(part) == 2
    assert np.array_equal(part.head_pose_deg, [[9, 10, 11], [12, 13, 14]])
    assert np.array_equal(part.blendshapes, motion.blendshapes[3:])


def test_the_blendshapes_have_different_names() -> None:
    assert len(BLENDSHAPES) == len(set(BLENDSHAPES)) == 48  # as the docstrings of MotionTrack and drive say
