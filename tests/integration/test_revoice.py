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
from vortex.demo import DEMO_SPEECH
from vortex.errors import InputError, NoFaceError
from vortex.lipsync.sync import measure_sync


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
    with pytest.raises(InputError, match="keeps its own size and rate"):
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
