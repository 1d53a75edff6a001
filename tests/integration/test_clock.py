"""The wall clock jumps by a day, forward and back: nothing that runs waits, ends or reports wrong times."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import vortex
from vortex.batch.jobs import read_jobs
from vortex.batch.run import Task, render_task
from vortex.cli.console import progress_line
from vortex.server.app import create_app
from vortex.server.context import ServerContext
from vortex.server.settings import ServerSettings
from vortex.session import Session
from vortex.types import RenderReport

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

    def on_progress(stage: str, completed: int, total: int) -> None:
        clock.jump()
        show(stage, completed, total)
        if stage == "render":
            done.append(completed)

    started_s = time.perf_counter()
    report = vortex.animate(
        portrait, speech, tmp_path / "out.mp4", size_px=128, seed=3, on_progress=on_progress
    )
    took_s = time.perf_counter() - started_s
    assert done == sorted(done) and done[-1] == report.frames == 75
    assert all(0 <= spent_s <= took_s for spent_s in report.stage_s.values())
    left_s = [float(found) for found in re.findall(r"(-?\d+) s left", console.getvalue())]
    assert left_s and all(0 <= seconds < LONG_S for seconds in left_s)


def test_a_job_of_the_server_keeps_its_state_and_its_files(
    portrait: Path, speech: Path, tmp_path: Path, clock: JumpingClock
) -> None:
    # Results expire by the wall clock, which is up to two days wrong here.
    server = ServerContext(ServerSettings(data=tmp_path, max_running=1, grace_s=5, keep_s=4 * DAY_S))
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
    rows.write_text(f'{{"portrait": "{portrait}", "speech": "{speech}", "size_px": 128}}\n')
    (row,) = read_jobs(rows)
    assert row.job
    task = Task.of(row.number, row.job, "0" * 64)
    animate = Session.animate

    def while_it_jumps(self: Session, *arguments: Any, **more: Any) -> RenderReport:
        clock.jump()
        return animate(self, *arguments, **more)

    monkeypatch.setattr(Session, "animate", while_it_jumps)
    with Session() as session:
        for _ in range(2):
            before_s, started_s = clock.ahead_s, time.perf_counter()
            outcome = render_task(session, task, tmp_path)
            assert (outcome.status, outcome.frames) == ("done", 75), outcome
            assert clock.ahead_s != before_s
            assert 0 < outcome.duration_s <= time.perf_counter() - started_s + 0.001
