"""Motion: seeded, within human limits, lips shut when they must be; independent of the chunks of a stream."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from support.syllables import column, speech

from vortex.errors import UnknownPresetError
from vortex.lipsync.visemes import coarticulate
from vortex.motion.drive import (
    VISEME_BLENDSHAPES,
    MotionStream,
    articulate,
    drive,
    expand,
    still,
)
from vortex.motion.eyes import LOOK_DEG, Gaze, Look
from vortex.motion.head import MAX_POSE_DEG
from vortex.motion.presets import PRESETS
from vortex.types import BLENDSHAPE_INDEX, BLENDSHAPES, MotionTrack, VisemeTrack
from vortex.visemes import SILENT_COLUMN, VISEME_INDEX, VISEMES

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
def test_people_blink_10_to_30_times_a_minute_for_a_fifth_of_a_second(
    minute: VisemeTrack, preset: str
) -> None:
    rates = []
    for seed in range(4):
        shut = column(drive(minute, preset, seed), "eyeBlinkLeft") > 0.5
        edges = np.flatnonzero(np.diff(np.r_[False, shut, False].astype(int)))
        lengths_s = (edges[1::2] - edges[::2]) / 24
        rates.append(len(lengths_s))
        assert np.diff(edges[::2]).max() / 24 < 15
        # A blink shuts an eye by half for 0.1 to 0.4 s (Kwon 2013).
        assert 0.1 <= np.median(lengths_s) <= 0.4 and lengths_s.max() < 0.6
    assert 10 <= np.mean(rates) <= 30


@pytest.mark.parametrize("preset", PRESETS)
def test_the_head_stays_within_its_limits_and_moves_as_fast_as_heads_do(
    minute: VisemeTrack, preset: str
) -> None:
    pose = drive(minute, preset, 1).head_pose_deg
    assert (np.abs(pose) <= MAX_POSE_DEG).all()
    assert np.abs(pose[0]).max() < 0.1
    # Of sixteen people in clips, four of five have a 95th percentile of 11 to 56 degrees a second.
    speed = np.linalg.norm(pose[2:] - pose[:-2], axis=1) * 12
    assert 6 < np.percentile(speed, 95) < 56 and speed.max() < 110


def test_a_newsreader_moves_as_people_do_who_talk_calmly(minute: VisemeTrack) -> None:
    # Standard deviations of four talkers: pitch 1.4 to 4.6, yaw 0.5 to 7, roll 0.9 to 2.7 degrees.
    poses = [drive(minute, "neutral", seed).head_pose_deg[48:] for seed in range(8)]
    pitch, yaw, roll = np.mean([pose.std(axis=0) for pose in poses], axis=0)
    assert 1.4 < pitch < 2.5 and 1.5 < yaw < 3 and 0.8 < roll < 1.5


def test_the_gaze_stays_on_its_target_while_the_head_moves(minute: VisemeTrack) -> None:
    motion = drive(minute, "neutral", 2)
    across = LOOK_DEG[0] * (column(motion, "eyeLookLeft") - column(motion, "eyeLookRight"))
    yaw = motion.head_pose_deg[:, 1]
    # Between saccades the eyes turn against the head by as much as it turns.
    steps, turns = np.diff(across), np.diff(yaw)
    fixed = np.abs(steps + turns) < 0.05
    assert fixed.mean() > 0.8
    assert np.polyfit(turns[fixed], steps[fixed], 1)[0] == pytest.approx(-1, abs=0.02)
    assert np.abs(across + yaw)[48:].mean() < np.abs(across - yaw)[48:].mean()


def test_presets_can_be_told_apart_by_how_they_move(minute: VisemeTrack) -> None:
    names = list(PRESETS)
    found = np.array([[ways_of_moving(drive(minute, n, seed)) for seed in range(10)] for n in names])
    found = (found - found.mean(axis=(0, 1))) / found.std(axis=(0, 1))
    centroids = found[:, :5].mean(axis=1)
    nearest = np.linalg.norm(found[:, 5:, None] - centroids, axis=3).argmin(axis=2)
    assert (nearest == np.arange(len(names))[:, None]).mean() >= 0.8


def ways_of_moving(motion: MotionTrack) -> list[float]:
    """Return shares, rates and times, which stay the same when every movement is scaled."""
    pose = motion.head_pose_deg[48:].astype(float)
    power = np.abs(np.fft.rfft((pose - pose.mean(0)) * np.hanning(len(pose))[:, None], axis=0)) ** 2
    fast = np.fft.rfftfreq(len(pose), 1 / 24) > 1
    speed = np.linalg.norm(np.diff(pose, axis=0), axis=1) * 24
    eyes = np.stack([column(motion, f"eyeLook{a}") - column(motion, f"eyeLook{b}")
                     for a, b in (("Left", "Right"), ("Down", "Up"))], axis=1)  # fmt: skip
    jumps = np.linalg.norm(np.diff(eyes, axis=0), axis=1)
    shut = np.diff(np.flatnonzero(np.diff(np.r_[False, column(motion, "eyeBlinkLeft") > 0.5, False])))[::2]
    left, right = (column(motion, f"browOuterUp{side}").astype(float) for side in ("Left", "Right"))
    inner = column(motion, "browInnerUp")
    return [
        float(power[fast].sum() / power.sum()),
        float(np.percentile(speed, 95) / pose.std()),
        float((jumps > 0.3 * np.percentile(jumps, 99.5)).mean()),
        float(shut.mean() / 24),
        float(np.abs(left - right).sum() / (left + right).sum()),
        float(np.percentile(np.abs(np.diff(inner)), 95) / np.ptp(inner)),
    ]


@pytest.mark.parametrize("preset", PRESETS)
def test_at_strength_0_every_preset_is_neutral(minute: VisemeTrack, preset: str) -> None:
    plain, found = drive(minute, "neutral", 3), drive(minute, f"{preset}:0", 3)
    assert np.allclose(found.blendshapes, plain.blendshapes, atol=1e-6)
    assert np.allclose(found.head_pose_deg, plain.head_pose_deg, atol=1e-5)


@pytest.mark.parametrize("preset", ["excited", "manic"])
def test_a_higher_strength_moves_further(minute: VisemeTrack, preset: str) -> None:
    tracks = [drive(minute, f"{preset}:{strength}", 1) for strength in (0, 0.5, 1, 2)]
    for name in ("mouthSmileLeft", "jawOpen"):
        amounts = [float(column(track, name).mean()) for track in tracks]
        assert amounts == sorted(amounts) and amounts[-1] > amounts[0], name
    spread = [float(track.head_pose_deg.std(axis=0).sum()) for track in tracks]
    assert spread[0] < spread[2] < spread[3]
    assert (np.abs(tracks[-1].head_pose_deg) <= MAX_POSE_DEG).all()
    assert tracks[-1].blendshapes.max() <= 1


def test_presets_differ_in_the_order_of_their_strength(minute: VisemeTrack) -> None:
    tracks = [drive(minute, name, 1) for name in ("calm", "neutral", "excited", "manic")]
    jaws = [column(track, "jawOpen").mean() for track in tracks]
    nods = [track.head_pose_deg[:, 0].std() for track in tracks]
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


@pytest.mark.parametrize("frames", [0, 1, 10])
def test_short_tracks_have_as_many_frames_and_a_shut_mouth_in_silence(frames: int) -> None:
    motion = drive(VisemeTrack(coarticulate([], frames, FPS), np.zeros(frames), FPS), "neutral", 0)
    assert len(motion) == frames
    assert (column(motion, "jawOpen") == 0).all() and (column(motion, "mouthClose") == 1).all()


def test_rounded_lips_do_not_smile() -> None:
    weights = np.zeros((48, len(VISEMES)), np.float32)
    weights[:24, SILENT_COLUMN] = weights[24:, VISEME_INDEX["ou"]] = 1
    smile = column(drive(VisemeTrack(weights, np.ones(48), FPS), "excited", 0), "mouthSmileRight")
    assert smile[:24].min() > 0.4
    assert smile[24:].max() < 0.3 * smile[:24].min()


def test_a_smile_is_not_symmetric_but_nearly(minute: VisemeTrack) -> None:
    left, right = (column(drive(minute, "excited", 1), f"mouthSmile{side}") for side in ("Left", "Right"))
    assert 0 < np.abs(left - right).max() < 0.3 * left.max()


def test_the_eyes_follow_the_gaze_and_the_lids_follow_them_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # To the viewer's right, which is the left of the person in the picture, and down.
    def look(self: Gaze, time_s: np.ndarray, *_: object) -> Look:
        frames = len(time_s)
        gaze_deg = np.tile([6.0, 4.0], (frames, 1))
        return Look(gaze_deg, np.zeros((frames, 2)), np.zeros(frames, bool))

    monkeypatch.setattr(Gaze, "next", look)
    motion = drive(VisemeTrack(coarticulate([], 480, FPS), np.zeros(480), FPS), "calm", 1)
    pitch, yaw, _ = motion.head_pose_deg.T
    assert column(motion, "eyeLookLeft") == pytest.approx(np.maximum(6 - yaw, 0) / 24, abs=1e-6)
    assert column(motion, "eyeLookDown") == pytest.approx(np.maximum(4 - pitch, 0) / 12, abs=1e-6)
    for side in ("Left", "Right"):
        lids = column(motion, f"eyeBlink{side}")
        open_ = lids < 0.25
        assert np.polyfit(column(motion, "eyeLookDown")[open_], lids[open_], 1)[0] > 0.2
        assert 0 < lids.min() < 0.2 and lids.max() > 0.9


@pytest.mark.parametrize("preset", PRESETS)
def test_a_face_at_rest_holds_the_expression_of_its_preset(preset: str) -> None:
    motion = drive(VisemeTrack(coarticulate([], 48, FPS), np.zeros(48), FPS), preset, 1)
    values = PRESETS[preset]
    for name, expected in (
        ("mouthSmile", values.smile),
        ("mouthFrown", values.frown),
        # A smile raises the cheeks and narrows the eyes (Duchenne), unless they are wide open.
        ("eyeSquint", values.squint + 0.35 * values.smile * (1 - values.eye_wide)),
    ):
        both = (column(motion, f"{name}Left") + column(motion, f"{name}Right")) / 2
        assert both == pytest.approx(expected, abs=1e-5), name
    # Brows drift a little, and lids follow the eyes up.
    inner = 0.5 * values.brow_up + values.brow_inner
    assert column(motion, "browInnerUp").mean() == pytest.approx(inner, abs=0.13)
    assert column(motion, "browDownLeft").mean() == pytest.approx(values.brow_down, abs=0.1)
    assert values.eye_wide - 1e-6 <= column(motion, "eyeWideLeft").min() < values.eye_wide + 0.1


def test_the_head_nods_on_stressed_syllables() -> None:
    loudness = np.full(240, 0.2)
    loudness[118:124] = 1
    weights = coarticulate([], 240, FPS)
    nods = []
    for seed in range(12):
        stressed = drive(VisemeTrack(weights, loudness, FPS), "excited", seed).head_pose_deg[:, 0]
        level = drive(VisemeTrack(weights, np.full(240, 0.2), FPS), "excited", seed).head_pose_deg[:, 0]
        nod = stressed - level
        # Within a quarter of a second of the syllable, and back.
        assert np.abs(nod[:90]).max() < 0.05 and np.abs(nod[-60:]).max() < 0.05
        if np.abs(nod).max() > 0.3:
            nods.append(nod[int(np.abs(nod).argmax())])
            assert abs(int(np.abs(nod).argmax()) - 121) <= 6
    # Most syllables, and mostly down.
    assert len(nods) >= 7 and np.mean(nods) > 0.5


def test_still_is_the_picture_with_the_mouth_shut() -> None:
    motion = still(5, FPS)
    assert len(motion) == 5
    assert (motion.head_pose_deg == 0).all()
    assert (motion.blendshapes == [float(name == "mouthClose") for name in BLENDSHAPES]).all()


def held(viseme: str, loudness: float = 1.0, gain: float = 1.0) -> dict[str, float]:
    """Return the blendshapes of one viseme, by name."""
    weights = np.eye(1, len(VISEMES), VISEME_INDEX[viseme])
    row = articulate(VisemeTrack(weights, np.array([loudness]), Fraction(24)), np.array([gain]))[0]
    return dict(zip(BLENDSHAPES, row.tolist(), strict=True))


def test_a_name_without_its_side_means_both_sides() -> None:
    row = expand({"mouthSmile": 0.5, "jawOpen": 0.25, "browDownLeft": 1.0})
    expected = {"mouthSmileLeft": 0.5, "mouthSmileRight": 0.5, "jawOpen": 0.25, "browDownLeft": 1.0}
    assert row == pytest.approx([expected.get(name, 0) for name in BLENDSHAPES])


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(KeyError):
        expand({"mouthGrin": 1.0})


@pytest.mark.parametrize(("loudness", "gain"), [(0.0, 0.5), (1.0, 1.0), (1.0, 1.5)])
def test_closures_are_never_scaled(loudness: float, gain: float) -> None:
    shapes = held("PP", loudness, gain)
    assert shapes["mouthClose"] == 1
    pressed = VISEME_BLENDSHAPES[VISEME_INDEX["PP"], BLENDSHAPE_INDEX["mouthPressLeft"]]
    assert shapes["mouthPressLeft"] == shapes["mouthPressRight"] == pressed > 0
    lip = VISEME_BLENDSHAPES[VISEME_INDEX["FF"], BLENDSHAPE_INDEX["mouthRollLower"]]
    assert held("FF", loudness, gain)["mouthRollLower"] == lip > 0
    assert held("sil", loudness, gain)["jawOpen"] == 0


def test_openings_grow_with_loudness_and_gain() -> None:
    full = held("aa")["jawOpen"]
    assert full == VISEME_BLENDSHAPES[VISEME_INDEX["aa"], BLENDSHAPE_INDEX["jawOpen"]]
    assert held("aa", loudness=0.0)["jawOpen"] == pytest.approx(0.78 * full)
    assert held("aa", gain=1.5)["jawOpen"] == pytest.approx(1.5 * full)
    assert held("aa", gain=10.0)["jawOpen"] == 1


def test_a_mouth_that_is_closed_in_part_only_stays_open() -> None:
    weights = np.zeros((1, len(VISEMES)))
    weights[0, [VISEME_INDEX["PP"], VISEME_INDEX["aa"]]] = 0.3, 0.7
    row = articulate(VisemeTrack(weights, np.ones(1), Fraction(24)), np.ones(1))[0]
    assert row[BLENDSHAPE_INDEX["mouthClose"]] == 0
    assert row[BLENDSHAPE_INDEX["jawOpen"]] > 0.25


SILENCE = np.eye(1, len(VISEMES), SILENT_COLUMN, dtype=np.float32)


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


@pytest.mark.parametrize("step", [1, 7, 1440])
def test_rows_do_not_depend_on_the_chunks(minute: VisemeTrack, step: int) -> None:
    found, expected = pushed(minute, step, "neutral,manic@20.01"), pushed(minute, 2, "neutral,manic@20.01")
    # The mouth is a matrix product, whose rounding depends on its shape.
    assert np.abs(found.blendshapes - expected.blendshapes).max() < 1e-5
    assert np.array_equal(found.head_pose_deg, expected.head_pose_deg)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_mouth_moves_as_in_drive(minute: VisemeTrack, preset: str) -> None:
    live, known = pushed(minute, 2, preset), drive(minute, preset, 3)
    for name in ("jawOpen", "mouthClose", "mouthPucker"):
        assert np.allclose(column(live, name), column(known, name), atol=1e-6), name


@pytest.mark.parametrize("preset", PRESETS)
def test_motion_is_within_human_limits(minute: VisemeTrack, preset: str) -> None:
    motion = pushed(minute, 2, preset)
    assert (np.abs(motion.head_pose_deg) <= MAX_POSE_DEG).all()
    speed = np.linalg.norm(motion.head_pose_deg[2:] - motion.head_pose_deg[:-2], axis=1) * 12
    assert 6 < np.percentile(speed, 95) < 56 and speed.max() < 110
    shut = column(motion, "eyeBlinkLeft") > 0.5
    assert 8 <= np.count_nonzero(shut[1:] & ~shut[:-1]) <= 35


def test_the_head_nods_after_a_stressed_syllable() -> None:
    frames = 24 * 8
    loudness = np.zeros(frames, np.float32)
    loudness[96:102] = 1
    weights = SILENCE.repeat(frames, axis=0)
    for seed in range(6):
        quiet = pushed(VisemeTrack(weights, 0 * loudness, FPS), 2, "excited", seed)
        stressed = pushed(VisemeTrack(weights, loudness, FPS), 2, "excited", seed)
        nod = stressed.head_pose_deg[:, 0] - quiet.head_pose_deg[:, 0]
        assert np.allclose(nod[:96], 0)
        # Within half a second, and back.
        assert np.abs(nod[-24:]).max() < 0.05
        largest = int(np.abs(nod).argmax())
        assert abs(nod[largest]) < 0.05 or 96 < largest < 96 + 14


def test_another_preset_is_cross_faded_and_stays() -> None:
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
    # A smoothstep over 0.8 s changes by at most 1.5 / (0.8 * 24) of the way in a frame.
    assert np.abs(np.diff(smile)).max() <= 1.01 * 1.5 / (0.8 * 24) * np.ptp(smile)


def test_a_live_face_takes_a_strength() -> None:
    silence = VisemeTrack(SILENCE.repeat(96, axis=0), np.zeros(96), FPS)
    ends = []
    for preset in ("excited:0.5", "excited", "excited:1.5"):
        stream = MotionStream(FPS, "calm:2", 1)
        stream.change_preset(preset)
        ends.append(column(stream.push(silence), "mouthSmileLeft")[-1])
    plain, full = (PRESETS[name].smile for name in ("neutral", "excited"))
    half, whole, more = np.array(ends) / ends[1] * full
    assert half == pytest.approx((plain + full) / 2, abs=0.01) and whole == pytest.approx(full)
    assert more == pytest.approx(plain + 1.5 * (full - plain), abs=0.01)


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
        MotionStream(FPS, "furious")
    for bad in ("furious", "calm,manic@3", "", "calm:3", "calm:x"):
        with pytest.raises(UnknownPresetError):
            MotionStream(FPS).change_preset(bad)
