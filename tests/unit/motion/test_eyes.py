"""The eyes: saccades of the main sequence, gaze that stays while the head turns, blinks as people's."""

from __future__ import annotations

import numpy as np
import pytest
from support.motion import constant_style, silence

from vortex.motion.eyes import LOOK_DEG, Blinks, Gaze, closing, eye_amounts
from vortex.motion.presets import PRESETS
from vortex.motion.rhythm import Rhythm

FINE_HZ = 1000


def gaze(seed: int, seconds: float, preset: str = "neutral", rate_hz: int = FINE_HZ, sizes: int = 1):
    """Return where the eyes look, the head's share, and large shifts, of somebody who says nothing."""
    frames = round(seconds * rate_hz)
    effect, looks = Gaze(np.random.default_rng(seed)), []
    for rows in np.array_split(np.arange(frames), sizes):
        style = constant_style(preset, len(rows))
        looks.append(effect.next((rows + 0.5) / rate_hz, style, silence(len(rows))))
    return tuple(
        np.concatenate([getattr(look, n) for look in looks]) for n in ("gaze_deg", "head_deg", "shifts")
    )


def runs(flags: np.ndarray) -> np.ndarray:
    """Return (N, 2): the first and the last row, exclusive, of each run of True."""
    return np.flatnonzero(np.diff(np.r_[False, flags, False].astype(int))).reshape(-1, 2)


def test_saccades_follow_the_main_sequence() -> None:
    sizes, lengths_s, peaks = [], [], []
    for seed in range(3):
        eyes = gaze(seed, 60, "manic")[0]
        speed = np.linalg.norm(np.diff(eyes, axis=0), axis=1) * FINE_HZ
        for first, last in runs(speed > 1e-6):
            sizes.append(np.linalg.norm(eyes[last] - eyes[first]))
            lengths_s.append((last - first) / FINE_HZ)
            peaks.append(speed[first:last].max())
    sizes_deg, lengths, peaks_deg_s = map(np.array, (sizes, lengths_s, peaks))
    assert len(sizes) > 100 and sizes_deg.max() > 15
    # Carpenter 1988: 2.2 ms a degree and 21 ms.
    assert lengths == pytest.approx(0.021 + 0.0022 * sizes_deg, abs=0.003)
    # Peaks at 10 degrees lie between 280 (Baloh 1975) and 450 (Boghen 1974) degrees a second.
    near_ten = (sizes_deg > 9) & (sizes_deg < 11)
    assert near_ten.any()
    assert ((peaks_deg_s[near_ten] > 280) & (peaks_deg_s[near_ten] < 460)).all()
    # Larger ones are faster, but by less and less.
    small, large = (peaks_deg_s[(sizes_deg > a) & (sizes_deg < b)].mean() for a, b in ((1, 3), (15, 25)))
    assert 2 < large / small < 6


def test_the_eyes_are_on_the_camera_most_of_the_time() -> None:
    shares = {}
    for preset in PRESETS:
        eyes = np.concatenate([gaze(seed, 60, preset, 24)[0] for seed in range(6)])
        shares[preset] = float((np.linalg.norm(eyes, axis=1) < 4).mean())
    # People who talk to others look at them 40 to 75 % of the time; newsreaders at the camera.
    assert shares["neutral"] > 0.75 and shares["calm"] > shares["neutral"] > shares["manic"] > 0.4


def test_the_same_eyes_in_any_chunks() -> None:
    for one, many in zip(gaze(1, 30, rate_hz=24), gaze(1, 30, rate_hz=24, sizes=111), strict=True):
        assert np.array_equal(one, many)
    assert not np.array_equal(gaze(1, 30, rate_hz=24)[0], gaze(2, 30, rate_hz=24)[0])


def test_the_head_follows_a_far_glance_later_and_less_far() -> None:
    eyes, head, shifts = gaze(4, 60, "manic")
    seen = 0
    for first in np.flatnonzero(shifts[: 59 * FINE_HZ]):
        reached = eyes[first + 100]
        at_rest = (head[first] == head[first - 1]).all() and np.linalg.norm(head[first]) < 0.5
        if at_rest and np.linalg.norm(reached) > 10 and (eyes[first + 520] == reached).all():
            # The eyes are there before the head has moved.
            assert np.abs(head[first : first + 60] - head[first]).max() < 1e-9
            share = head[first + 520] @ reached / np.linalg.norm(reached) ** 2
            assert 0.1 < share < 0.4
            seen += 1
    assert seen >= 2


def test_the_eyes_turn_back_as_the_head_turns() -> None:
    pose = np.array([[0, 0, 0], [0, 6, 0], [-3, 0, 0], [0, 0, 5]], np.float32)
    amounts = eye_amounts(np.zeros((4, 2)), pose)
    # To the viewer's right is a turn of the head > 0, and of the eyes in the head < 0; down is pitch > 0.
    assert amounts * LOOK_DEG == pytest.approx(np.array([[0, 0], [-6, 0], [0, 3], [0, 0]]))
    # Whatever the head does, eyes and head together point where the gaze points.
    rng = np.random.default_rng(1)
    pose, where = rng.uniform(-6, 6, (50, 3)).astype(np.float32), rng.uniform(-4, 4, (50, 2))
    assert eye_amounts(where, pose) * LOOK_DEG + pose[:, [1, 0]] == pytest.approx(where, abs=1e-5)


def test_lids_follow_the_eyes_down_and_blinks_shut_them_from_there() -> None:
    assert closing(np.zeros(3), np.array([-1.0, 0, 0.5])) == pytest.approx([0, 0, 0.16])
    assert closing(np.ones(2), np.array([0, 1.0])) == pytest.approx(1)


def blinks(
    seed: int, seconds: float, preset: str = "neutral", rhythm: Rhythm | None = None, rate_hz: int = 200,
    shifts: np.ndarray | None = None, sizes: int = 1,
) -> np.ndarray:  # fmt: skip
    frames = round(seconds * rate_hz)
    rhythm = silence(frames) if rhythm is None else rhythm
    shifts = np.zeros(frames, bool) if shifts is None else shifts
    effect, parts = Blinks(np.random.default_rng(seed)), []
    for rows in np.array_split(np.arange(frames), sizes):
        style, part = constant_style(preset, len(rows)), rhythm.rows(rows[0], rows[-1] + 1)
        parts.append(effect.next((rows + 0.5) / rate_hz, style, part, shifts[rows]))
    return np.concatenate(parts)


def speaking(frames: int) -> Rhythm:
    starts = np.zeros(frames, bool)
    starts[0] = True
    return Rhythm(np.zeros(frames, np.float32), starts, np.zeros(frames, bool))


def test_a_lid_falls_in_a_tenth_of_a_second_and_rises_half_as_fast() -> None:
    lids = np.concatenate([blinks(seed, 120) for seed in range(4)])
    falls_s, rises_s = [], []
    for first, last in runs(lids > 0):
        peak = first + lids[first:last].argmax()
        full = np.flatnonzero(lids[first:last] > 0.999 * lids[peak]) + first
        if len(runs(lids[first:last] > 0.9 * lids[peak])) == 1:
            falls_s.append((full[0] - first) / 200)
            rises_s.append((last - full[-1]) / 200)
    assert len(falls_s) > 80
    # VanderWerf 2003: down in 75 to 110 ms, up in 150 to 260.
    assert 0.07 <= np.percentile(falls_s, 5) and np.percentile(falls_s, 95) <= 0.11
    assert 0.15 <= np.percentile(rises_s, 5) and np.percentile(rises_s, 95) <= 0.26


def test_people_blink_15_to_26_times_a_minute_in_talk_and_less_at_rest() -> None:
    def rate(rhythm: Rhythm, preset: str) -> float:
        counts = [len(runs(blinks(s, 120, preset, rhythm, 24) > 0.4)) for s in range(6)]
        return float(np.mean(counts)) / 2

    assert 15 <= rate(speaking(2880), "neutral") <= 26
    assert 10 <= rate(silence(2880), "neutral") <= 17
    for preset in PRESETS:
        assert 6 <= rate(silence(2880), preset) < rate(speaking(2880), preset) <= 28


def test_some_blinks_are_incomplete_and_some_are_double() -> None:
    parts = [blinks(seed, 240) for seed in range(6)]
    # Without a blink that the end cuts off.
    lids = np.concatenate([part[: np.flatnonzero(part == 0)[-1] + 1] for part in parts])
    peaks = np.array([lids[first:last].max() for first, last in runs(lids > 0)])
    assert 0.06 < (peaks < 0.9).mean() < 0.25 and (peaks > 0.4).all()
    starts_s = runs(lids > 0.4)[:, 0] / 200
    assert 0.02 < (np.diff(starts_s) < 0.6).mean() < 0.15
    # Gaps differ: the shortest tenth is less than a third of the longest.
    low, high = np.percentile(np.diff(starts_s), [10, 90])
    assert low < 0.5 * high and np.diff(starts_s).max() < 20


def test_blinks_wait_for_pauses_and_large_shifts_of_gaze() -> None:
    frames = 240 * 24
    ends = np.arange(frames) % 72 == 36
    rhythm = Rhythm(np.zeros(frames, np.float32), np.arange(frames) % 72 == 40, ends)
    lids = np.concatenate([blinks(s, 240, rhythm=rhythm, rate_hz=24) for s in range(4)])
    starts = runs(lids > 0)[:, 0] - 1
    at_ends = np.isin(starts % 72, (35, 36, 37)).mean()
    assert at_ends > 0.3  # by chance, 3 of 72
    shifts = ends
    lids = blinks(1, 240, rate_hz=24, shifts=shifts)
    starts = runs(lids > 0)[:, 0] - 1
    assert np.isin(starts % 72, (35, 36, 37)).mean() > 0.3


def test_the_same_lids_in_any_chunks() -> None:
    assert np.array_equal(blinks(1, 60), blinks(1, 60, sizes=997))
    assert not np.array_equal(blinks(1, 60), blinks(2, 60))
    lids = blinks(3, 240)
    assert lids.min() == 0 and lids.max() <= 1
