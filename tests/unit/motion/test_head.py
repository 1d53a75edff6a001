"""The head: its amounts, speeds and spectrum are those of people who talk; breath comes before speech."""

from __future__ import annotations

import numpy as np
import pytest
from support.motion import FPS, constant_style, quiet, silence

from vortex.motion.head import MAX_POSE_DEG, Breath, Head, _Nods, _Postures, bounded
from vortex.motion.presets import PRESETS
from vortex.motion.rhythm import Rhythm

MINUTE = 60 * 24


def times(frames: int) -> np.ndarray:
    return (np.arange(frames) + 0.5) / 24


def talking(frames: int) -> Rhythm:
    """Return phrases of 3 s with pauses of 1 s, and a stressed syllable each half second of a phrase."""
    at = np.arange(frames) % 96
    stress = np.where((at < 72) & (at % 12 == 6), 0.8, 0).astype(np.float32)
    return Rhythm(stress, at == 0, at == 72)


def head(seed: int, sizes: list[int], rhythm: Rhythm, preset: str = "neutral") -> np.ndarray:
    effect, parts, row = Head(np.random.SeedSequence(seed)), [], 0
    for size in sizes:
        rows = slice(row, row + size)
        part = rhythm.rows(rows.start, rows.stop)
        parts.append(effect.next(times(sum(sizes))[rows], 1 / FPS, constant_style(preset, size), part))
        row += size
    return np.concatenate(parts)


def test_many_calls_return_the_same_as_one() -> None:
    rhythm = talking(480)
    whole = head(1, [480], rhythm)
    assert np.array_equal(head(1, [1, 2, 77, 400], rhythm), whole)
    assert np.array_equal(head(1, [1] * 480, rhythm), whole)
    assert not np.array_equal(head(2, [480], rhythm), whole)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_head_starts_in_the_pose_of_the_picture(preset: str) -> None:
    pose = head(3, [48], talking(48), preset)
    assert np.abs(pose[0]).max() < 0.05
    assert np.abs(np.diff(pose[:6], axis=0)).max() * 24 < 30


def test_the_head_moves_more_in_talk_than_at_rest() -> None:
    talk, rest = (
        np.mean([head(s, [MINUTE], rhythm)[48:].std(axis=0) for s in range(4)], axis=0)
        for rhythm in (talking(MINUTE), silence(MINUTE))
    )
    assert (rest < 0.85 * talk).all() and (rest > 0.2 * talk).all()


def test_the_power_of_the_head_falls_with_frequency() -> None:
    # Half of the power below 1 Hz at least, some of it at syllables, hardly any above 3 Hz: people who talk
    # have 0.58 to 0.84, 0.15 to 0.28 and 0.006 to 0.08 there (four clips).
    shares = np.zeros(3)
    for seed in range(4):
        pose = head(seed, [MINUTE], talking(MINUTE))[48:]
        power = np.abs(np.fft.rfft((pose - pose.mean(0)) * np.hanning(len(pose))[:, None], axis=0)) ** 2
        at_hz = np.fft.rfftfreq(len(pose), 1 / 24)
        bands = [power[(at_hz >= a) & (at_hz < b)].sum() for a, b in ((0, 1), (1, 3), (3, 12))]
        shares += np.array(bands) / sum(bands) / 4
    assert shares[0] > 0.6 and 0.05 < shares[1] < 0.3 and 0.001 < shares[2] < 0.03


def test_a_stressed_syllable_lowers_the_head_and_the_head_comes_back() -> None:
    pulses = np.zeros(120, np.float32)
    pulses[24] = 1
    rhythm = Rhythm(pulses, np.zeros(120, bool), np.zeros(120, bool))
    style = constant_style("neutral", 120) | {"nod_chance": np.ones(120, np.float32)}
    nods = np.stack(
        [_Nods(np.random.default_rng(s)).next(times(120), style, rhythm)[:, 0] for s in range(40)]
    )
    assert (nods[:, :25] == 0).all() and np.abs(nods[:, -1]).max() < 1e-9
    deepest = np.abs(nods).argmax(axis=1)
    # The turn comes 0.2 s after the start of the gesture, when the syllable peaks.
    assert deepest == pytest.approx(24 + 0.2 * 24, abs=2)
    assert 0.6 < (nods[np.arange(40), deepest] > 0).mean() < 0.95
    assert 1.0 < np.abs(nods).max(axis=1).mean() < PRESETS["neutral"].nod_deg


def test_postures_change_with_phrases_and_take_their_time() -> None:
    style = constant_style("neutral", MINUTE)
    rhythm = talking(MINUTE)
    pose = _Postures(np.random.default_rng(1)).next(times(MINUTE), style, rhythm)
    moving = np.abs(np.diff(pose, axis=0)).max(axis=1) > 1e-9
    starts = np.flatnonzero(moving[1:] & ~moving[:-1]) + 2
    in_phase = np.isin(starts % 96, (0, 1, 2)).mean()
    assert in_phase > 0.4 and 8 <= len(starts) <= 25
    assert 0.2 < moving.mean() < 0.6


def test_people_at_rest_breathe_12_to_20_times_a_minute() -> None:
    breath = Breath(np.random.default_rng(0)).next(times(4 * MINUTE), silence(4 * MINUTE))
    middle = (breath.max() + breath.min()) / 2
    breaths = np.count_nonzero((breath[1:] >= middle) & (breath[:-1] < middle))
    assert 12 <= breaths / 4 <= 20
    assert breath.min() >= -1e-9 and breath.max() < 1.2


def test_a_breath_before_speech_is_quick_and_deeper_after_a_longer_pause() -> None:
    def deepest(pause_s: float) -> float:
        ends, starts = np.zeros((2, 400), bool)
        starts[0] = ends[150] = starts[150 + round(pause_s * 24)] = True
        begin = 150 + round(pause_s * 24)
        volume = Breath(np.random.default_rng(1)).next(
            times(400), Rhythm(np.zeros(400, np.float32), starts, ends)
        )
        # In within 0.6 s, out over several (Hixon 1973).
        assert begin + 6 <= begin + volume[begin : begin + 24].argmax() <= begin + 14
        assert volume[begin + 24 : begin + 60].min() > 0.3 * volume[begin : begin + 24].max()
        return float(volume[begin : begin + 24].max())

    assert deepest(1.6) > deepest(0.3) + 0.2


def test_breathing_in_lifts_the_chin() -> None:
    style = quiet("neutral", 240) | {"breath_deg": np.ones(240, np.float32)}
    pose = Head(np.random.SeedSequence(4)).next(times(240), 1 / 24, style, silence(240))
    assert pose[24:, 0].max() <= 1e-9 and -1.3 < pose[24:, 0].min() < -0.7
    assert np.abs(pose[:, 1:]).max() < 1e-9


def test_the_limit_is_soft_and_small_angles_are_kept() -> None:
    pose = np.array([[2.0, -2.0, 1.5], [9.0, 12.0, -8.0], [100.0, -100.0, 100.0]])
    found = bounded(pose)
    assert found[0] == pytest.approx(pose[0], rel=0.02)
    assert (np.abs(found) <= MAX_POSE_DEG).all() and (np.abs(found[1]) < 0.8 * MAX_POSE_DEG).all()
    assert (np.sign(found) == np.sign(pose)).all()
