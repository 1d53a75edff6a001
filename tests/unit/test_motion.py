"""Motion: seeded, smooth, alive within human bounds, and shut when the lips must be shut."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from syllables import column, speech

from vortex.errors import UnknownPresetError
from vortex.lipsync.visemes import coarticulate
from vortex.motion.drive import MAX_POSE_DEG, drive
from vortex.motion.presets import PRESETS, parse_presets, preset_weights
from vortex.types import VisemeTrack

FPS = Fraction(24)


@pytest.fixture(scope="module")
def minute() -> VisemeTrack:
    return speech(60)


def test_same_seed_same_motion_other_seed_other_motion(minute: VisemeTrack) -> None:
    one, same, other = (drive(minute, "excited", seed) for seed in (5, 5, 6))
    assert np.array_equal(one.blendshapes, same.blendshapes)
    assert np.array_equal(one.head_pose_deg, same.head_pose_deg)
    assert not np.array_equal(one.head_pose_deg, other.head_pose_deg)


def test_the_global_generator_is_not_touched(minute: VisemeTrack) -> None:
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    drive(minute, "manic", 9)
    assert np.array_equal(before, np.random.get_state()[1])


@pytest.mark.parametrize("preset", PRESETS)
def test_blinks_come_every_two_to_six_seconds(minute: VisemeTrack, preset: str) -> None:
    for seed in range(4):
        lids = column(drive(minute, preset, seed), "eyeBlinkLeft")
        shut = lids > 0.5
        starts_s = (np.flatnonzero(shut[1:] & ~shut[:-1]) + 1) / 24
        assert starts_s[0] < 6
        gaps_s = np.diff(starts_s)
        assert gaps_s.min() > 1.9
        assert gaps_s.max() < 6.1
        # a blink lasts 0.1 to 0.4 s
        assert 0.1 <= shut.sum() / 24 / len(starts_s) <= 0.4


@pytest.mark.parametrize("preset", PRESETS)
def test_the_head_stays_within_its_bounds_and_moves_like_a_head(minute: VisemeTrack, preset: str) -> None:
    pose = drive(minute, preset, 1).head_pose_deg
    assert (np.abs(pose) <= MAX_POSE_DEG).all()
    assert (np.ptp(pose, axis=0) > 0.5).all()
    # people talking turn their head well below 100 degrees a second
    assert np.abs(np.diff(pose, axis=0)).max() * 24 < 30


def test_presets_differ_in_the_order_of_their_vigour(minute: VisemeTrack) -> None:
    tracks = [drive(minute, name, 1) for name in ("calm", "neutral", "excited", "manic")]
    jaws = [column(track, "jawOpen").mean() for track in tracks]
    nods = [np.ptp(track.head_pose_deg[:, 0]) for track in tracks]
    brows = [column(track, "browInnerUp").mean() for track in tracks]
    assert jaws == sorted(jaws)
    assert nods == sorted(nods)
    assert brows == sorted(brows)
    assert jaws[-1] > 1.3 * jaws[0]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_m_closes_the_lips_in_every_preset(preset: str) -> None:
    motion = drive(speech(10), preset, 2)
    for index in range(4):
        middle_s = 0.5 + index * 0.41 + 0.14 + 0.06 + 0.12 + 0.045
        frame = round(middle_s * 24 - 0.5)
        assert column(motion, "mouthClose")[frame - 1 : frame + 2].max() > 0.95, index


def test_presets_never_change_the_timing_of_the_mouth(minute: VisemeTrack) -> None:
    jaws = [column(drive(minute, name, 1), "jawOpen") for name in PRESETS]
    for jaw in jaws[1:]:
        scores = [np.corrcoef(np.roll(jaw, lag), jaws[0])[0, 1] for lag in (-1, 0, 1)]
        assert np.argmax(scores) == 1
        assert scores[1] > 0.98


def test_a_transition_jumps_no_more_than_a_preset_does(minute: VisemeTrack) -> None:
    inside = [drive(minute, name, 4) for name in ("calm", "manic")]
    across = drive(minute, "calm,manic@30", 4)
    window = slice(29 * 24, 31 * 24)
    largest = max(np.abs(np.diff(track.blendshapes, axis=0)).max() for track in inside)
    assert np.abs(np.diff(across.blendshapes[window], axis=0)).max() <= largest
    largest = max(np.abs(np.diff(track.head_pose_deg, axis=0)).max() for track in inside)
    assert np.abs(np.diff(across.head_pose_deg[window], axis=0)).max() <= largest
    assert np.allclose(across.blendshapes[: 29 * 24, 0], inside[0].blendshapes[: 29 * 24, 0], atol=1e-6)


def test_cross_fade_is_the_smoothstep_polynomial() -> None:
    weights = preset_weights([0.0, 2.0], 96, FPS)[:, 1]
    u = np.clip(((np.arange(96) + 0.5) / 24 - 2.0) / 0.8 + 0.5, 0, 1)
    assert weights == pytest.approx(3 * u**2 - 2 * u**3, abs=1e-6)


def test_sequences_are_read_in_every_form() -> None:
    expected = ((PRESETS["neutral"], 0.0), (PRESETS["manic"], 3.5))
    assert parse_presets("neutral,manic@3.5") == expected
    assert parse_presets(" neutral @0 , manic @ 3.5") == expected
    assert parse_presets([("neutral", 0), ("manic", 3.5)]) == expected


@pytest.mark.parametrize(
    "spec",
    ["", "happy", "neutral,manic", "neutral@1", "neutral,manic@0", "neutral,calm@3,manic@2", "neutral@x", []],
)
def test_sequences_that_make_no_sense_are_refused(spec: str) -> None:
    with pytest.raises(UnknownPresetError):
        parse_presets(spec)


def test_one_frame_is_enough() -> None:
    assert len(drive(speech(10 / 24), "neutral", 0)) == 10
    single = VisemeTrack(coarticulate([], 1, FPS), np.zeros(1), FPS)
    assert len(drive(single, "neutral", 0)) == 1
