"""A batch renders every good row, reports every bad one, and continues after a kill."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from vortex.batch.jobs import JOURNAL, REPORT, Job, Outcome, Row, read_jobs
from vortex.batch.run import run_batch
from vortex.errors import InputError
from vortex.options import VideoOptions

VORTEX = [sys.executable, "-m", "vortex", "batch"]


@pytest.fixture
def files(portrait: Path, speech: Path, tmp_path: Path) -> Path:
    shutil.copy(portrait, tmp_path / "a.jpg")
    shutil.copy(speech, tmp_path / "b.flac")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    return tmp_path


def row(**values: Any) -> dict[str, Any]:
    return {"portrait": "a.jpg", "speech": "b.flac", "size_px": 128, "duration_s": 0.5, **values}


def job(files: Path, output: str, duration_s: float) -> Job:
    options = VideoOptions.parse(size_px=128, duration_s=duration_s)
    return Job(str(files / "a.jpg"), output, str(files / "b.flac"), None, options)


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def batch(jobs: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*VORTEX, str(jobs), "--out", str(out), "--workers", "2", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=170)


def frames_in(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_good_rows_become_videos_and_bad_ones_are_reported(files: Path) -> None:
    rows = [
        row(output="one.mp4"),
        row(output="bad.mp4", portrait="broken.jpg"),
        row(output="deep/two.mp4", preset="excited", fps="25"),
        row(output="three.mp4", preset="furious"),
        row(output="../escape.mp4"),
        row(output="one.mp4"),
        row(output="lost.mp4", speech="gone.wav"),
    ]
    done = batch(write_jsonl(files / "jobs.jsonl", rows), files / "out")
    assert done.returncode == 1
    report = json.loads((files / "out" / REPORT).read_text())
    assert [entry["status"] for entry in report["rows"]] == ["done", "failed", "done"] + ["failed"] * 4
    assert (report["done"], report["failed"]) == (2, 5)
    reasons = [entry["reason"] for entry in report["rows"]]
    for index, word in (
        (1, "not a picture"),
        (3, "furious"),
        (4, "below the folder"),
        (5, "earlier row"),
        (6, "does not exist"),
    ):
        assert word in reasons[index]
    assert frames_in(files / "out" / "one.mp4") == 12
    assert frames_in(files / "out" / "deep" / "two.mp4") == 13
    assert not (files / "escape.mp4").exists()
    assert len(done.stderr.splitlines()) == len(rows) + 1


def test_what_is_done_is_skipped_until_it_changes(files: Path) -> None:
    jobs = write_jsonl(files / "jobs.jsonl", [row(output="one.mp4"), row(output="two.mp4", seed=3)])
    assert batch(jobs, files / "out").returncode == 0
    first = (files / "out" / "one.mp4").read_bytes()
    again = batch(jobs, files / "out", "--json")
    assert json.loads(again.stdout)["skipped"] == 2
    (files / "out" / "one.mp4").unlink()
    third = batch(jobs, files / "out", "--json")
    assert (json.loads(third.stdout)["done"], json.loads(third.stdout)["skipped"]) == (1, 1)
    # without a seed in the row, the content of the job decides it
    assert (files / "out" / "one.mp4").read_bytes() == first
    write_jsonl(jobs, [row(output="one.mp4", preset="calm"), row(output="two.mp4", seed=3)])
    assert json.loads(batch(jobs, files / "out", "--json").stdout)["done"] == 1


def test_a_killed_batch_continues_where_it_stopped(files: Path) -> None:
    jobs = write_jsonl(files / "jobs.jsonl", [row(output=f"{n}.mp4", seed=n) for n in range(6)])
    out = files / "out"
    with subprocess.Popen(
        [*VORTEX, str(jobs), "--out", str(out), "--workers", "1"], stderr=subprocess.DEVNULL
    ) as first:
        # a video is there a moment before the journal tells of it
        wait_for(lambda: (out / JOURNAL).exists() and (out / JOURNAL).read_text().count('"done"') >= 2)
        first.kill()
    wait_for(lambda: not workers_of(out))
    whole = {path.name for path in out.glob("*.mp4")}
    assert {"0.mp4", "1.mp4"} <= whole < {f"{n}.mp4" for n in range(6)}
    assert all(frames_in(out / name) == 12 for name in whole)
    with open(out / JOURNAL, "a", encoding="utf-8") as journal:
        journal.write('{"output": "5.mp4", "ke')  # as a kill in the middle of a line leaves it
    second = json.loads(batch(jobs, out, "--json").stdout)
    assert second["failed"] == 0
    assert second["skipped"] >= 2
    assert {path.name for path in out.glob("*.mp4")} == {f"{n}.mp4" for n in range(6)}


def workers_of(folder: Path) -> list[str]:
    """Return the processes that still hold a file below the folder open."""
    holding = []
    for entry in Path("/proc").iterdir():
        try:
            links = [os.readlink(link) for link in (entry / "fd").iterdir()] if entry.name.isdigit() else []
        except OSError:
            continue
        holding += [entry.name] * any(link.startswith(f"{folder}/") for link in links)
    return [pid for pid in holding if int(pid) != os.getpid()]


def wait_for(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_a_worker_that_dies_fails_only_its_row(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a picture read from a pipe that nobody fills: the worker waits there until it is killed
    rows = [
        Row(number, job(files, output, duration_s))
        for number, output, duration_s in ((1, "one.mp4", 0.5), (2, "two.mp4", 90.0), (3, "three.mp4", 0.5))
    ]
    heard: list[Outcome] = []
    out = files / "out"

    def assassin() -> None:
        import threading

        def kill_twice() -> None:
            for _ in range(2):
                wait_for(lambda: any(worker_on(out)))
                for pid in worker_on(out):
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.5)

        threading.Thread(target=kill_twice, daemon=True).start()

    def worker_on(folder: Path) -> list[int]:
        """Return the workers that have written much: only the long video has."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                links = list((entry / "fd").iterdir()) if entry.name.isdigit() else []
                sizes = [link.stat().st_size for link in links if os.readlink(link).startswith(f"{folder}/#")]
            except OSError:
                continue
            if any(size > 150_000 for size in sizes):
                found.append(int(entry.name))
        return found

    assassin()
    outcomes = run_batch(rows, out, workers=1, on_outcome=lambda outcome, *_: heard.append(outcome))
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "done"]
    assert "process died" in outcomes[1].reason
    assert len(heard) == 3


def strange_rows(files: Path) -> list[str]:
    """Return lines of a list that stopped the whole batch, or one worker for ever."""
    os.mkfifo(files / "pipe.jpg")
    (files / "folder.flac").mkdir()
    # PostScript that never ends, under the name of a picture.
    endless = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n"
    (files / "loop.jpg").write_bytes(endless)
    deep = "[" * 50_000 + "]" * 50_000
    strange: list[dict[str, Any]] = [
        row(size_px=float("inf")), row(size_px=1e400), row(seed=float("nan")), row(duration_s=10**400),
        row(fps="1e999999"), row(fps=119.99999999999999), row(portrait="a\0.jpg"), row(speech="b\0.flac"),
        row(portrait="pipe.jpg"), row(portrait="folder.flac"), row(portrait="/dev/zero"),
        row(portrait="loop.jpg"), row(output="a\0.mp4"), row(output=5), row(output=["x.mp4"]),
        row(portrait={"a": 1}), row(preset=[]), row(output="report.json/x.mp4"),
        row(output="jobs.done.jsonl/x.mp4"), row(output="x" * 300 + ".mp4"),
        row(portrait="\ud800.jpg"), row(preset="\ud800"), row(transcript="\ud800", size_px=128),
    ]  # fmt: skip
    return [json.dumps(r) for r in strange] + ["nonsense", "5", "null", deep, '{"portrait": ' + deep + "}"]


def test_no_row_stops_the_others(files: Path) -> None:
    good = json.dumps(row(output="good.mp4"))
    lines = [good, *strange_rows(files), json.dumps(row(output="last.mp4"))]
    (files / "jobs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    outcomes = run_batch(read_jobs(files / "jobs.jsonl"), files / "out", workers=1)
    assert len(outcomes) == len(lines)
    assert {o.output for o in outcomes if o.status == "done"} >= {"good.mp4", "last.mp4"}
    for outcome, line in zip(outcomes[1:-1], lines[1:-1], strict=True):
        assert outcome.status == ("done" if "119.99" in line else "failed"), line[:80]
        assert outcome.status == "done" or (outcome.reason and "\n" not in outcome.reason)
    assert json.loads((files / "out" / REPORT).read_text())["done"] == 3


def test_a_csv_list_goes_on_after_a_field_that_is_too_long(files: Path) -> None:
    head = "portrait,speech,output,size_px,duration_s\n"
    (files / "jobs.csv").write_text(head + f"{'a' * 200_000},b.flac,x.mp4,,\na.jpg,b.flac,y.mp4,128,0.5\n")
    first, second = read_jobs(files / "jobs.csv")
    assert first.job is None and "not CSV" in first.problem
    assert second.job is not None and second.job.output == "y.mp4"


def test_one_output_under_two_names_is_one_output(files: Path) -> None:
    names = ["d/e.mp4", "./d/e.mp4", "d//e.mp4", "d/./e.mp4"]
    write_jsonl(files / "jobs.jsonl", [row(output=name) for name in names])
    first, *others = read_jobs(files / "jobs.jsonl")
    assert first.job is not None and first.job.output == "d/e.mp4"
    assert all("earlier row" in other.problem for other in others)


@pytest.mark.slow
def test_a_row_that_takes_too_long_fails_alone(files: Path) -> None:
    rows = [Row(1, job(files, "long.mp4", 900.0)), *(Row(n, job(files, f"{n}.mp4", 0.5)) for n in (2, 3))]
    outcomes = run_batch(rows, files / "out", workers=2, row_timeout_s=15)
    assert [outcome.status for outcome in outcomes] == ["failed", "done", "done"]
    assert "longer than 15 s" in outcomes[0].reason
    assert not (files / "out" / "long.mp4").exists()


def test_a_video_that_the_batch_did_not_make_stays(files: Path) -> None:
    out = files / "out"
    out.mkdir()
    (out / "mine.mp4").write_bytes(b"holiday")
    rows = [Row(1, job(files, "mine.mp4", 0.5))]
    (refused,) = run_batch(rows, out, workers=1)
    assert refused.status == "failed" and "is there already" in refused.reason
    assert (out / "mine.mp4").read_bytes() == b"holiday"
    (made,) = run_batch(rows, out, workers=1, force=True)
    assert made.status == "done" and frames_in(out / "mine.mp4") == 12
    # What the batch made it makes again when the row has changed, or the video.
    (again,) = run_batch([Row(1, job(files, "mine.mp4", 0.25))], out, workers=1)
    assert again.status == "done" and frames_in(out / "mine.mp4") == 6
    (out / "mine.mp4").write_bytes(b"x")
    (mended,) = run_batch([Row(1, job(files, "mine.mp4", 0.25))], out, workers=1)
    assert mended.status == "done" and frames_in(out / "mine.mp4") == 6


def test_a_video_that_a_row_reads_is_never_replaced(files: Path) -> None:
    (files / "actor.mp4").write_bytes(b"a video")
    jobs = write_jsonl(
        files / "jobs.jsonl", [row(output="actor.mp4"), {"portrait": "a.jpg", "driving": "actor.mp4"}]
    )
    first, _ = run_batch(read_jobs(jobs), files, workers=1, force=True)
    assert first.status == "failed" and "is an input" in first.reason
    assert (files / "actor.mp4").read_bytes() == b"a video"


def test_the_report_of_something_else_stays(files: Path) -> None:
    (files / REPORT).write_text("{}")
    with pytest.raises(InputError, match=r"report\.json' is there already"):
        run_batch([Row(1, job(files, "x.mp4", 0.5))], files, workers=1)
    assert (files / REPORT).read_text() == "{}"
    assert not (files / JOURNAL).exists()


def test_a_damaged_journal_is_read_on(files: Path) -> None:
    out, rows = files / "out", [Row(1, job(files, "x.mp4", 0.5))]
    (made,) = run_batch(rows, out, workers=1)
    line = (out / JOURNAL).read_bytes()
    deep = b"[" * 100_000
    (out / JOURNAL).write_bytes(
        b"\xff\xfe\0\n" + deep + b"\n5\nnull\n{}\n" + line + b'{"output": "x.mp4", "ke'
    )
    (skipped,) = run_batch(rows, out, workers=1)
    assert made.status == "done" and skipped.status == "skipped"


NUMBERS = [("workers", 0), ("workers", 10**9), *(("row_timeout_s", n) for n in (0.0, math.inf, math.nan))]


@pytest.mark.parametrize(("name", "value"), NUMBERS)
def test_a_number_outside_its_range_is_refused(files: Path, name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} is .*; give"):
        run_batch([Row(1, job(files, "x.mp4", 0.5))], files / "out", **{name: value})
    assert not (files / "out").exists()


def test_csv_and_jsonl_mean_the_same(tmp_path: Path) -> None:
    rows = [
        {
            "portrait": "a.jpg",
            "speech": "b.wav",
            "output": "x.mp4",
            "size_px": "256",
            "seed": "7",
            "paste_back": "yes",
        },
        {"portrait": "a.jpg", "text": "Hello, you\nthere", "voice": "am_adam"},
    ]
    with open(tmp_path / "jobs.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for r in rows for key in r)))
        writer.writeheader()
        writer.writerows(rows)
    write_jsonl(tmp_path / "jobs.jsonl", rows)
    from_csv, from_jsonl = read_jobs(tmp_path / "jobs.csv"), read_jobs(tmp_path / "jobs.jsonl")
    assert from_csv == from_jsonl
    first, second = (entry.job for entry in from_csv)
    options = VideoOptions.parse(size_px=256, seed=7, paste_back=True)
    assert first == Job(str(tmp_path / "a.jpg"), "x.mp4", str(tmp_path / "b.wav"), None, options)
    assert second is not None and second.output == "0002-a-text.mp4" and second.text == "Hello, you\nthere"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("jobs.ods", "", "Give a list in one of these"),
        ("jobs.csv", "", "no rows"),
        ("jobs.csv", "portrait,speech,colour\na,b,c\n", "colour"),
        ("jobs.csv", b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_an_unusable_list_is_refused(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        read_jobs(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"speech": "b.wav"}', "portrait is missing"),
        ('{"portrait": "a.jpg"}', "either"),
        ('{"portrait": "a.jpg", "speech": "b", "text": "c"}', "either"),
        (
            '{"portrait": "a.jpg", "speech": "b", "size_px": "big"}',
            "size_px is 'big'; give an even whole number from 128 to 2048",
        ),
        ('{"portrait": "a.jpg", "speech": "b", "paste_back": 7}', "true or false"),
        ('{"portrait": "a.jpg", "speech": "b", "output": "/etc/x.mp4"}', "below the folder"),
        ('{"portrait": "a.jpg", "speech": "b", "output": "x.avi"}', "below the folder"),
    ],
)
def test_an_unusable_row_says_why(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "jobs.jsonl").write_text(line + "\n")
    (only,) = read_jobs(tmp_path / "jobs.jsonl")
    assert only.job is None
    assert message in only.problem


def test_flags_of_the_batch_are_defaults_of_rows(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "jobs.jsonl", [row(), row(preset="calm", mark=False)])
    with_default, without = (
        entry.job.options for entry in read_jobs(path, preset="manic", speed="1.5") if entry.job
    )
    assert (str(with_default.preset), with_default.speed, with_default.mark) == ("manic", 1.5, True)
    assert (str(without.preset), without.speed, without.mark) == ("calm", 1.5, False)
    with pytest.raises(InputError, match="preset"):
        read_jobs(path, preset="furious")


# Python imports this module at the start of every process, also of the workers: it notes each model file that
# is read.
OPENED_MODELS = """
import sys

def note(event, arguments):
    if event == "open" and str(arguments[0]).endswith(("part.bin", "face_landmarker.task")):
        with open({log!r}, "a") as log:
            log.write(str(arguments[0]) + "\\n")

sys.addaudithook(note)
"""


def test_text_rows_load_the_speech_model_once_a_process(files: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'speech' is not installed")
    log = files / "opened.txt"
    (files / "hook").mkdir()
    (files / "hook" / "sitecustomize.py").write_text(OPENED_MODELS.format(log=str(log)))
    rows = [
        {"portrait": "a.jpg", "text": text, "size_px": 128, "output": f"{n}.mp4"}
        for n, text in enumerate(("Good morning.", "Good evening.", "Good night."))
    ]
    jobs = write_jsonl(files / "jobs.jsonl", [*rows, row(output="sound.mp4")])
    command = [*VORTEX, str(jobs), "--out", str(files / "out"), "--workers", "1"]
    path = os.pathsep.join([str(files / "hook"), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=170, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    assert len(list((files / "out").glob("*.mp4"))) == 4
    opened = log.read_text().splitlines()
    parts = [name for name in opened if name.endswith("part.bin")]
    assert len(parts) == len(set(parts)) == 4, "the model lies in four packages, and each is read once"
