"""A real Ray cluster on this machine: the same frames as without it, and rows that fail by themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="the extra 'cluster' is not installed")

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# an actor that dies half-way, as its machine might
DYING = """
from vortex.cluster import Cluster
from vortex.options import EngineOptions, VideoOptions

given = (b"", b"", VideoOptions().as_json())
with Cluster("local", EngineOptions(), actors=1) as cluster:
    (actor,) = cluster._actors
    def inputs():
        actor.__ray_terminate__.remote()
        yield 0, given
        yield 1, given
    ended = [(item, result.problem) for item, result in cluster.render_videos(inputs())]
    assert "actor" in dict(ended)[0], ended
    assert dict(ended)[1], ended
"""


def test_frames_from_two_actors_make_the_same_file(
    run_vortex: Run, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    given = [
        "animate",
        portrait,
        speech,
        "--engine",
        "mesh",
        "--size",
        128,
        "--seed",
        5,
        "--preset",
        "excited",
    ]
    alone = run_vortex(*given, "-o", tmp_path / "alone.mp4")
    assert alone.returncode == 0, alone.stderr
    shared = run_vortex(*given, "-o", tmp_path / "shared.mp4", "--cluster", "local", "--json")
    assert shared.returncode == 0, shared.stderr
    assert "actors of a Ray cluster" in json.loads(shared.stdout)["notes"][0]
    assert digest(tmp_path / "alone.mp4") == digest(tmp_path / "shared.mp4")


def test_a_batch_on_a_cluster_makes_what_a_batch_makes(
    run_vortex: Run, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    rows = [{"portrait": str(portrait), "speech": str(speech), "size_px": 128, "seed": n} for n in (1, 2)]
    rows += [
        {"portrait": str(portrait), "speech": str(speech), "engine": "liveportrait", "device": "cpu"},
        {"portrait": str(speech), "speech": str(speech)},
        {"portrait": str(portrait), "text": "Hi.", "size_px": 128},
    ]
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for folder, more in (("here", ["--workers", 1]), ("there", ["--cluster", "local"])):
        done = run_vortex("batch", tmp_path / "jobs.jsonl", "--out", tmp_path / folder, *more)
        assert done.returncode == 1, done.stderr
    here, there = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("here", "there"))
    assert [row["status"] for row in there["rows"]] == ["done", "done", "failed", "failed", "done"]
    assert [row["frames"] for row in there["rows"]] == [row["frames"] for row in here["rows"]]
    assert there["rows"][2]["reason"].startswith("The cluster renders with mesh")
    assert there["rows"][3]["reason"].startswith("The picture is not a picture")
    for row in there["rows"]:
        if row["status"] == "done":
            assert digest(tmp_path / "here" / row["output"]) == digest(tmp_path / "there" / row["output"])
    again = run_vortex("batch", tmp_path / "jobs.jsonl", "--out", tmp_path / "there", "--cluster", "local")
    assert "3 skipped, 2 failed" in again.stderr


def test_the_death_of_an_actor_fails_only_its_own_work() -> None:
    done = subprocess.run([sys.executable, "-c", DYING], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--cluster", "127.0.0.1:1"], "No Ray cluster"),
        (["--cluster", "local", "--quality", "fast"], "quality is"),
    ],
)
def test_an_impossible_cluster_is_refused_in_one_line(
    run_vortex: Run, portrait: Path, speech: Path, tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    out = tmp_path / "out.mp4"
    done = run_vortex("animate", portrait, speech, "--engine", "mesh", "-o", out, *arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not out.exists()


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
