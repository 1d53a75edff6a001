"""Idle motion: within what people do, and the same however the frames are asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vortex.motion.idle import Blinks, Breath, Gaze, Sway

SECONDS = 120
FRAMES = SECONDS * 60


def times(sizes: list[int]) -> list[np.ndarray]:
    """Return the times of the middles of frames at 60 fps, in parts of the given sizes."""
    return np.split((np.arange(sum(sizes)) + 0.5) / 60, np.cumsum(sizes)[:-1])


def blinks(
    seed: int, sizes: list[int], period_s: float = 3.6, phrase_ends: np.ndarray | None = None
) -> np.ndarray:
    effect = Blinks(np.random.default_rng(seed))
    ends = np.split(np.zeros(sum(sizes), bool) if phrase_ends is None else phrase_ends, np.cumsum(sizes)[:-1])
    return np.concatenate(
        [
            effect.next(time_s, np.full(len(time_s), period_s, np.float32), some)
            for time_s, some in zip(times(sizes), ends, strict=True)
        ]
    )


def effect(kind: type[Gaze] | type[Sway] | type[Breath]) -> Callable[[int, list[int]], np.ndarray]:
    def run(seed: int, sizes: list[int]) -> np.ndarray:
        one = kind(np.random.default_rng(seed))
        return np.concatenate([one.next(time_s) for time_s in times(sizes)])

    return run


@pytest.mark.parametrize("run", [blinks, effect(Gaze), effect(Sway), effect(Breath)])
def test_many_calls_return_the_same_as_one(run: Callable[[int, list[int]], np.ndarray]) -> None:
    whole = run(1, [FRAMES])
    assert np.array_equal(run(1, [1, 2, 997, FRAMES - 1000]), whole)
    assert not np.array_equal(run(2, [FRAMES]), whole)


def test_a_blink_shuts_the_eye_and_falls_faster_than_it_rises() -> None:
    lids = blinks(0, [FRAMES])
    peaks = np.flatnonzero((lids[1:-1] > lids[:-2]) & (lids[1:-1] >= lids[2:])) + 1
    assert len(peaks) > SECONDS / 6
    for peak in peaks[:-1]:
        assert lids[peak] > 0.9
        falling = np.count_nonzero((lids[peak - 20 : peak] > 0) & (lids[peak - 20 : peak] < 0.99))
        rising = np.count_nonzero((lids[peak : peak + 20] > 0) & (lids[peak : peak + 20] < 0.99))
        assert falling < rising
        # A blink of people lasts 0.1 to 0.4 s.
        assert 0.1 < np.count_nonzero(lids[peak - 20 : peak + 20] > 0) / 60 < 0.4


@pytest.mark.parametrize("period_s", [0.5, 3.6, 20.0])
def test_gaps_between_blinks_are_2_to_6_s_at_any_mean(period_s: float) -> None:
    lids = blinks(0, [FRAMES], period_s)
    starts_s = (np.flatnonzero((lids[1:] > 0) & (lids[:-1] == 0)) + 1) / 60
    assert 1.95 < np.diff(starts_s).min() <= np.diff(starts_s).max() < 6.05


def test_a_blink_that_is_due_starts_at_the_end_of_a_phrase() -> None:
    # With an end of a phrase in every frame, no blink has to wait; without any, each waits 0.8 s.
    at_once, waiting = blinks(0, [FRAMES], phrase_ends=np.ones(FRAMES, bool)), blinks(0, [FRAMES])
    first, later = (np.flatnonzero(lids)[0] / 60 for lids in (at_once, waiting))
    assert later - first == pytest.approx(0.8, abs=0.02)


def test_the_eyes_rest_and_jump() -> None:
    gaze = effect(Gaze)(0, [FRAMES])
    assert np.abs(gaze).max() <= 1
    speed = np.abs(np.diff(gaze, axis=0)).max(axis=1)
    # Fixations of 0.5 to 2.4 s, saccades of 0.06 s: the eyes move in a few frames of a hundred.
    assert 0.02 < (speed > 0).mean() < 0.12
    # People who talk look at the camera most of the time.
    assert (np.abs(gaze).max(axis=1) < 0.5).mean() > 0.7


def test_the_head_starts_in_the_pose_of_the_picture_and_drifts_slowly() -> None:
    sway = effect(Sway)(0, [FRAMES])
    assert np.abs(sway[0]).max() < 0.01
    settled = sway[600:] - sway[600:].mean(axis=0)
    assert settled.std(axis=0) == pytest.approx(1, abs=0.3)
    power = np.abs(np.fft.rfft(settled * np.hanning(len(settled))[:, None], axis=0)) ** 2
    frequency_hz = np.fft.rfftfreq(len(settled), 1 / 60)
    assert power[frequency_hz > 0.6].sum() < 1e-3 * power.sum()


def test_a_breath_takes_four_seconds_or_so() -> None:
    breath = effect(Breath)(0, [FRAMES])
    assert np.abs(breath).max() == pytest.approx(1, abs=1e-3)
    rises = np.count_nonzero((breath[1:] >= 0) & (breath[:-1] < 0))
    # People at rest breathe 12 to 20 times a minute.
    assert 12 <= rises / SECONDS * 60 <= 20
