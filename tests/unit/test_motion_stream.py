"""Motion as it comes: whatever the pieces, within human bounds, for as long as anybody talks."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from syllables import column, speech

from vortex.errors import UnknownPresetError
from vortex.motion.drive import MAX_POSE_DEG, drive
from vortex.motion.presets import PRESETS
from vortex.motion.stream import MotionStream
from vortex.types import VISEMES, MotionTrack, VisemeTrack

FPS = Fraction(24)
SILENCE = np.eye(1, len(VISEMES), VISEMES.index("sil"), dtype=np.float32)


def pushed(visemes: VisemeTrack, step: int, preset: str = "neutral", seed: int = 3) -> MotionTrack:
    stream = MotionStream(visemes.fps, preset, seed)
    parts = [
        stream.push(VisemeTrack(visemes.weights[i : i + step], visemes.loudness[i : i + step], visemes.fps))
        for i in range(0, len(visemes.weights), step)
    ]
    return MotionTrack(
        np.concatenate([part.blendshapes for part in parts]),
        np.concatenate([part.head_pose_deg for part in parts]),
        visemes.fps,
    )


@pytest.fixture(scope="module")
def minute() -> VisemeTrack:
    return speech(60)


@pytest.mark.parametrize("step", [1, 7, 1440])
def test_rows_do_not_depend_on_the_pieces(minute: VisemeTrack, step: int) -> None:
    here, there = pushed(minute, step, "neutral,manic@20.01"), pushed(minute, 2, "neutral,manic@20.01")
    assert np.abs(here.blendshapes - there.blendshapes).max() < 1e-5
    assert np.abs(here.head_pose_deg - there.head_pose_deg).max() < 1e-4


@pytest.mark.parametrize("preset", PRESETS)
def test_the_mouth_moves_as_when_all_is_known(minute: VisemeTrack, preset: str) -> None:
    live, known = pushed(minute, 2, preset), drive(minute, preset, 3)
    for name in ("jawOpen", "mouthClose", "mouthPucker"):
        assert np.allclose(column(live, name), column(known, name), atol=1e-6), name


@pytest.mark.parametrize("preset", PRESETS)
def test_it_lives_within_human_bounds(minute: VisemeTrack, preset: str) -> None:
    motion = pushed(minute, 2, preset)
    assert (np.abs(motion.head_pose_deg) <= MAX_POSE_DEG).all()
    assert (np.ptp(motion.head_pose_deg, axis=0) > 0.5).all()
    assert np.abs(np.diff(motion.head_pose_deg, axis=0)).max() * 24 < 30
    shut = column(motion, "eyeBlinkLeft") > 0.5
    gaps_s = np.diff(np.flatnonzero(shut[1:] & ~shut[:-1])) / 24
    assert 1.9 < gaps_s.min() <= gaps_s.max() < 6.1


def test_it_nods_after_a_stressed_syllable_and_not_in_silence() -> None:
    frames = 24 * 8
    loudness = np.zeros(frames, np.float32)
    loudness[96:102] = 1
    weights = SILENCE.repeat(frames, axis=0)
    quiet = pushed(VisemeTrack(weights, 0 * loudness, FPS), 2, "manic")
    stressed = pushed(VisemeTrack(weights, loudness, FPS), 2, "manic")
    nod = stressed.head_pose_deg[:, 0] - quiet.head_pose_deg[:, 0]
    assert np.allclose(nod[:96], 0)
    # down, within half a second, and back up
    assert 96 < nod.argmax() < 96 + 12
    assert nod.max() > 0.3
    assert abs(nod[-1]) < 0.05


def test_another_preset_comes_smoothly_and_stays() -> None:
    frames = 24 * 12
    silence = VisemeTrack(SILENCE.repeat(frames, axis=0), np.zeros(frames), FPS)
    second = VisemeTrack(silence.weights[:24], silence.loudness[:24], FPS)
    stream, tracks = MotionStream(FPS, "neutral", 1), []
    for index in range(12):
        if index in (3, 6):
            stream.change_preset("manic" if index == 3 else "calm")
        tracks.append(stream.push(second).blendshapes)
    smile = column(MotionTrack(np.concatenate(tracks), np.zeros((frames, 3)), FPS), "mouthSmileLeft")
    manic = column(drive(silence, "manic", 1), "mouthSmileLeft")[-1]
    assert smile[5 * 24] > 3 * smile[2 * 24]
    assert smile[5 * 24] == pytest.approx(manic, rel=0.3)
    assert smile[-1] < 0.5 * smile[5 * 24]
    # a smoothstep over 0.8 s changes by at most 1.5 / (0.8 * 24) of the way in a frame
    assert np.abs(np.diff(smile)).max() <= 1.01 * 1.5 / (0.8 * 24) * np.ptp(smile)


def test_changes_in_quick_succession_do_not_jump() -> None:
    stream, rows = MotionStream(FPS, "neutral", 1), []
    one = VisemeTrack(SILENCE, np.zeros(1), FPS)
    for index in range(120):
        if index in (24, 26, 28, 30):
            stream.change_preset("manic" if index % 4 == 0 else "calm")
        rows.append(stream.push(one).blendshapes)
    wide = np.concatenate(rows)[:, [12, 13]]
    assert np.abs(np.diff(wide, axis=0)).max() <= 1.01 * 1.5 / (0.8 * 24) * np.ptp(wide)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(UnknownPresetError):
        MotionStream(FPS, "happy")
    with pytest.raises(UnknownPresetError):
        MotionStream(FPS).change_preset("calm,manic@3")
