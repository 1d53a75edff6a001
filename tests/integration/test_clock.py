"""The clock of the wall jumps by a day, forward and back: nothing that runs waits, ends or lies for it."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import vortex
from vortex import batch
from vortex.cli.console import progress_line
from vortex.web.app import create_app, open_server
from vortex.web.settings import ServerSettings

DAY_S = 86_400.0
LONG_S = 600.0
"""Far more than any test here takes, far less than a day."""


class JumpingClock:
    """Stands for ``time.time``: right at first, then a day ahead, then a day behind, and so on."""

    def __init__(self) -> None:
        self._true_s = time.time
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return self._true_s() + self.ahead_s

    def jump(self, *_: object) -> None:
        self.ahead_s = DAY_S if self.ahead_s <= 0 else -DAY_S


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> JumpingClock:
    jumping = JumpingClock()
    monkeypatch.setattr(time, "time", jumping)
    return jumping


def test_progress_and_times_of_a_video_ignore_it(
    portrait: Path, speech: Path, tmp_path: Path, clock: JumpingClock
) -> None:
    console, done = io.StringIO(), []
    show = progress_line(console)

    def hook(stage: str, completed: int, total: int) -> None:
        clock.jump()
        show(stage, completed, total)
        if stage == "render":
            done.append(completed)

    started_s = time.perf_counter()
    report = vortex.animate_file(portrait, speech, tmp_path / "out.mp4", size_px=128, seed=3, hook=hook)
    took_s = time.perf_counter() - started_s
    assert done == sorted(done) and done[-1] == report.frames == 74
    assert all(0 <= spent_s <= took_s for spent_s in report.stage_s.values())
    left_s = [float(found) for found in re.findall(r"(-?\d+) s left", console.getvalue())]
    assert left_s and all(0 <= seconds < LONG_S for seconds in left_s)


def test_a_job_of_the_server_keeps_its_state_and_its_files(
    portrait: Path, speech: Path, tmp_path: Path, clock: JumpingClock
) -> None:
    # what is finished expires by the clock of the wall, which may be two days off here
    server = open_server(ServerSettings(tmp_path, max_running=1, grace_s=5, keep_s=4 * DAY_S))
    files = {"portrait": portrait.read_bytes(), "speech": speech.read_bytes()}
    with TestClient(create_app(server), base_url="http://127.0.0.1") as client:
        data = {"size_px": "256", "duration_s": "12", "seed": "3"}
        asked = [client.post("/v1/videos", files=files, data=data).json()["id"] for _ in range(2)]
        deadline_s, seen = time.monotonic() + 120, {video_id: [0] for video_id in asked}
        states: set[str] = set()
        while states != {"done"}:
            clock.jump()
            server.workers.delete_expired()
            videos = [client.get(f"/v1/videos/{video_id}").json() for video_id in asked]
            states = {video["state"] for video in videos}
            assert states <= {"queued", "running", "done"}, videos
            for video in videos:
                progress = video["progress"]
                assert progress["eta_s"] is None or 0 <= progress["eta_s"] < LONG_S
                if progress["stage"] == "render":
                    seen[video["id"]].append(progress["completed"])
            assert time.monotonic() < deadline_s, videos
        for video_id, completed in seen.items():
            assert completed == sorted(completed)
            assert client.get(f"/v1/videos/{video_id}/video.mp4").status_code == 200


def test_a_batch_measures_its_work_by_another_clock(
    portrait: Path, speech: Path, tmp_path: Path, clock: JumpingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "jobs.jsonl"
    rows.write_text(f'{{"portrait": "{portrait}", "speech": "{speech}", "size": 128}}\n')
    (row,) = batch.read_jobs(rows)
    task = batch._before(row, tmp_path, {}, "mesh")
    assert isinstance(task, batch._Task)
    animate = batch._animate

    def while_it_jumps(*arguments: Any) -> int:
        clock.jump()
        return animate(*arguments)

    monkeypatch.setattr(batch, "_animate", while_it_jumps)
    for _ in range(2):
        started_s = time.perf_counter()
        outcome = batch._work(task, tmp_path, "mesh", None)
        assert (outcome.status, outcome.frames) == ("done", 74)
        assert 0 < outcome.seconds <= time.perf_counter() - started_s + 0.001
