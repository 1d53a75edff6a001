"""A clip gets other words, at every interface, and nothing is left behind where it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from support.driving import FPS, frame_times_s, known_frames, write_known_video, write_timed_video
from support.run import Run

import vortex
from vortex.demo import DEMO_SPEECH, demo_portrait
from vortex.errors import InputError, NoFaceError
from vortex.face.portrait import iter_landmarks
from vortex.lipsync.sync import measure_sync
from vortex.media.audio import load_audio, load_video_sound, write_wav
from vortex.media.reading import iter_video_frames
from vortex.types import F32, Audio


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "person.mp4"
    write_known_video(path)
    return path


def test_a_clip_speaks_in_sync_at_its_own_size_and_rate(run_vortex: Run, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    done = run_vortex("animate", clip, DEMO_SPEECH, "-o", out, "--seed", 1, "--json")
    report = json.loads(done.stdout)
    assert report["size_px"] == [256, 256]
    assert report["fps"] == str(FPS)
    assert any("to and fro" in note for note in report["notes"])
    with av.open(str(out)) as container:
        assert container.streams.video[0].average_rate == FPS
        assert container.streams.audio
    sync = measure_sync(out).report
    assert abs(sync.offset_frames) <= 1
    assert not sync.complaints()
    assert not sync.closures_missed_s


@pytest.mark.filterwarnings("ignore:the sound lasts")
def test_other_doors_take_a_clip(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "python.mp4"
    report = vortex.animate(clip, DEMO_SPEECH, out, duration_s=0.4, seed=1)
    assert report.frames == 10
    inputs = {"portrait": str(clip), "speech": str(DEMO_SPEECH), "output": "row.mp4"}
    row = {**inputs, "duration_s": 0.4, "seed": 1}
    (tmp_path / "jobs.jsonl").write_text(json.dumps(row))
    outcomes = vortex.run_batch(vortex.read_jobs(tmp_path / "jobs.jsonl"), tmp_path / "made", workers=1)
    assert [outcome.status for outcome in outcomes] == ["done"]
    assert (tmp_path / "made" / "row.mp4").read_bytes() == out.read_bytes()


def test_a_clip_without_a_face_leaves_nothing(tmp_path: Path) -> None:
    blank, out = tmp_path / "blank.mp4", tmp_path / "out.mp4"
    write_timed_video(blank, [np.full((64, 64, 3), 90, np.uint8)] * 3, [0, 0.04, 0.08])
    with pytest.raises(NoFaceError):
        vortex.animate(blank, DEMO_SPEECH, out)
    with pytest.raises(InputError, match="keeps its own frames and rate"):
        vortex.animate(blank, DEMO_SPEECH, out, size_px=256)
    assert [path.name for path in tmp_path.iterdir()] == ["blank.mp4"]


@pytest.mark.filterwarnings("ignore:the sound lasts")
def test_a_phone_clip_is_turned_upright_and_its_varying_rate_told(tmp_path: Path) -> None:
    path, out = tmp_path / "phone.mp4", tmp_path / "out.mp4"
    frames = known_frames(frame_times_s()[:12])
    times_s = np.cumsum([0, 0.04, 0.04, 0.12, 0.04, 0.03, 0.05, 0.04, 0.1, 0.04, 0.04, 0.04])
    narrow = [np.ascontiguousarray(frame[:, 20:236]) for frame in frames]
    write_timed_video(path, narrow, times_s, turned_deg=90)
    report = vortex.animate(path, DEMO_SPEECH, out, duration_s=0.6)
    assert report.size_px == (216, 256)
    assert any("varies" in note for note in report.notes)


@pytest.fixture
def word(tmp_path: Path) -> Path:
    """Half a second of speech, shorter than the clip."""
    path = tmp_path / "word.wav"
    sound = load_audio(DEMO_SPEECH, 16_000).samples[6_000:14_000]
    write_wav(path, Audio(sound, 16_000))
    return path


def test_the_rest_of_a_longer_clip_is_shown_with_closed_lips(clip: Path, word: Path, tmp_path: Path) -> None:
    cut = vortex.animate(clip, word, tmp_path / "cut.mp4", seed=1)
    whole = vortex.animate(clip, word, tmp_path / "whole.mp4", seed=1, rest="closed")
    assert cut.frames == 13  # half a second of 25 frames, rounded up
    assert whole.frames == len(frame_times_s())
    last = list(iter_video_frames(whole.path))[20:]
    assert len(last) > 20
    gaps = [lip_gap(landmarks) for landmarks in iter_landmarks(iter(last)) if landmarks is not None]
    assert max(gaps) < 0.05
    assert [note for note in whole.notes if "to and fro" in note] == []


def lip_gap(landmarks_px: F32) -> float:
    """Return the distance of the inner lips in outer-eye widths."""
    eyes_px = np.linalg.norm(np.subtract(*landmarks_px[[33, 263], :2]))
    return float(np.linalg.norm(np.subtract(*landmarks_px[[13, 14], :2])) / eyes_px)


@pytest.mark.filterwarnings("ignore:the sound lasts")
def test_the_sound_of_the_clip_is_kept_at_the_wanted_level(clip: Path, word: Path, tmp_path: Path) -> None:
    heard = {}
    for level_db in (None, -12.0):
        out = tmp_path / f"{level_db}.mp4"
        vortex.animate(clip, word, out, seed=1, rest="closed", keep_sound_db=level_db)
        heard[level_db] = load_video_sound(out, 16_000, 0.0).samples
    own = load_video_sound(clip, 16_000, 0.0).samples
    length = min(len(own), len(heard[None]), len(heard[-12.0]))
    under, own = (heard[-12.0] - heard[None])[:length], own[:length]
    share = float(under @ own / (own @ own))
    # The codec adds noise, but it is not like the sound.
    assert 20 * np.log10(share) == pytest.approx(-12, abs=1)


def test_a_picture_has_no_sound_and_no_rest(word: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rest is closed, which has no effect on a picture"):
        vortex.animate(demo_portrait(), word, tmp_path / "out.mp4", rest="closed")
    with pytest.raises(InputError, match=r"keep_sound_db is -20.0, which has no effect on a picture"):
        vortex.animate(demo_portrait(), word, tmp_path / "out.mp4", keep_sound_db=-20)


def test_a_silent_clip_has_no_sound_to_keep(word: Path, tmp_path: Path) -> None:
    silent = tmp_path / "silent.mp4"
    write_timed_video(silent, known_frames(frame_times_s()[:4]), [0, 0.04, 0.08, 0.12])
    with pytest.raises(InputError, match=r"'silent.mp4' has no sound. Leave keep_sound_db out"):
        vortex.animate(silent, word, tmp_path / "out.mp4", keep_sound_db=-20)
