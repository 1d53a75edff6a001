"""A portrait moves as the face in a video, whose motion is known, at every interface."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from support.driving import (
    BLINK_S,
    FPS,
    OPENINGS_S,
    SECONDS,
    actor,
    click_track,
    frame_times_s,
    known_frames,
    known_motion,
    write_known_video,
    write_timed_video,
)
from support.run import Run
from support.tracks import moving_track

import vortex
from vortex.errors import InputError, NoFaceError
from vortex.face.landmarks import FACE_SIDES, INNER_LIPS, NOSE_TIP, OUTER_EYE_CORNERS, RIGHT_EYE
from vortex.face.portrait import iter_landmarks
from vortex.media.reading import iter_video_frames
from vortex.motion.template import save_template
from vortex.types import BLENDSHAPE_INDEX

FRAMES = round(SECONDS * FPS)


@pytest.fixture(scope="module")
def driving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("driving") / "actor.mp4"
    write_known_video(path)
    return path


@pytest.fixture(scope="module")
def driven(run_vortex: Run, driving: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # The demo portrait wears glasses, through which blinks are hard to measure.
    folder = tmp_path_factory.mktemp("driven")
    out, photo = folder / "out.mp4", folder / "photo.png"
    Image.fromarray(actor()).save(photo)
    done = run_vortex("drive", photo, driving, "-o", out, "--size", 256, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert (report["frames"], report["fps"], report["size_px"]) == (FRAMES, "25", [256, 256])
    assert (report["preset"], report["seed"]) == (None, None)
    assert not any("video" in note for note in report["notes"])
    assert {"portrait", "prepare", "track", "speech", "render"} <= report["stage_s"].keys()
    return out


@pytest.fixture(scope="module")
def landmarks(driven: Path) -> np.ndarray:
    """Return (T, 478, 3) of the result."""
    found = list(iter_landmarks(iter_video_frames(driven)))
    assert all(points is not None for points in found)
    return np.stack([points for points in found if points is not None])


def gap(landmarks: np.ndarray, pair: tuple[int, ...]) -> np.ndarray:
    one, other = pair
    eyes = np.linalg.norm(np.subtract(*landmarks[:, list(OUTER_EYE_CORNERS), :2].swapaxes(0, 1)), axis=1)
    return np.linalg.norm(landmarks[:, one, :2] - landmarks[:, other, :2], axis=1) / eyes


def test_the_mouth_opens_when_the_other_one_does(landmarks: np.ndarray) -> None:
    opening = gap(landmarks, INNER_LIPS)
    commanded = known_motion(frame_times_s()).blendshapes[:, BLENDSHAPE_INDEX["jawOpen"]]
    assert np.corrcoef(opening, commanded)[0, 1] > 0.9
    for peak_s in OPENINGS_S:
        near = np.abs(frame_times_s() - peak_s) < 0.22
        middle_s = np.average(frame_times_s()[near], weights=opening[near])
        assert abs(middle_s - peak_s) < 0.5 / FPS


def test_the_eyes_blink_once_and_the_head_turns_to_the_right(landmarks: np.ndarray) -> None:
    lids = gap(landmarks, RIGHT_EYE[:2])
    shut = np.flatnonzero(lids < 0.5 * np.median(lids))
    assert abs(frame_times_s()[shut].mean() - BLINK_S) < 1 / FPS
    assert len(shut) <= 4
    # Where the tip of the nose is between the sides of the face: 0 at the viewer's left, 1 at the right.
    left, right = landmarks[:, FACE_SIDES[0], 0], landmarks[:, FACE_SIDES[1], 0]
    nose = (landmarks[:, NOSE_TIP, 0] - left) / (right - left)
    assert nose[-8:].mean() - nose[:25].mean() > 0.015


def test_rate_sound_and_mark_are_those_of_a_video_of_vortex(driven: Path) -> None:
    with av.open(str(driven)) as container:
        assert container.streams.video[0].average_rate == FPS
        assert "synthetic" in container.metadata["comment"]
        assert "driven by a video" in container.metadata["comment"]
        heard = np.concatenate([frame.to_ndarray().mean(0) for frame in container.decode(audio=0)])
    given = click_track().samples
    assert abs(len(heard) - len(given)) < 2048
    count = min(len(heard), len(given))
    likeness = np.correlate(heard[:count], given[4000 : count - 4000], "valid")
    assert int(likeness.argmax()) == 4000, "in step to the sample"
    assert np.corrcoef(heard[4000 : count - 4000], given[4000 : count - 4000])[0, 1] > 0.98


def test_the_lips_can_be_measured(driven: Path) -> None:
    assert vortex.check(driven).face_share == 1


def test_a_silent_video_gives_a_silent_one_with_a_note(portrait: Path, tmp_path: Path) -> None:
    write_timed_video(tmp_path / "a.mp4", known_frames(np.arange(5) / 30), np.arange(5) / 30)
    report = vortex.drive(portrait, tmp_path / "a.mp4", tmp_path / "out.mp4", size_px=128)
    assert report.frames == 5
    assert report.fps == 30
    assert "the video has no sound" in report.notes
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert max(float(np.abs(f.to_ndarray()).max()) for f in container.decode(audio=0)) < 1e-4


def test_a_variable_rate_is_followed_by_its_time_stamps(portrait: Path, tmp_path: Path) -> None:
    kept = np.r_[0, np.sort(np.random.default_rng(4).permutation(np.arange(1, 59))[:36]), 59]
    times_s = frame_times_s()[kept]
    write_timed_video(tmp_path / "a.mp4", known_frames(times_s), times_s)
    report = vortex.drive(portrait, tmp_path / "a.mp4", tmp_path / "out.mp4", size_px=256, fps=FPS)
    assert abs(report.frames - FRAMES) <= 1
    found = np.stack([p for p in iter_landmarks(iter_video_frames(tmp_path / "out.mp4")) if p is not None])
    assert len(found) == report.frames
    commanded = known_motion(frame_times_s()).blendshapes[:, BLENDSHAPE_INDEX["jawOpen"]]
    count = min(FRAMES, report.frames)
    assert np.corrcoef(gap(found, INNER_LIPS)[:count], commanded[:count])[0, 1] > 0.85


def test_another_rate_and_length(portrait: Path, driving: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"the sound lasts 2\.4. s and is cut to 0\.50 s"):
        report = vortex.drive(portrait, driving, tmp_path / "a.mp4", size_px=128, fps=50, duration_s=0.5)
    assert (report.frames, report.fps) == (25, Fraction(50))
    stages: list[tuple[str, int, int]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a longer video cuts no sound
        report = vortex.drive(
            portrait, driving, tmp_path / "b.mp4", size_px=128, fps="10", duration_s=4,
            on_progress=lambda *stage: stages.append(stage),
        )  # fmt: skip
    assert report.frames == 40
    tracked = [stage for stage in stages if stage[0] == "track"]
    assert tracked[-1] == ("track", FRAMES, FRAMES)


def test_a_region_and_a_multiplier_of_the_command_line(
    run_vortex: Run, portrait: Path, driving: Path, tmp_path: Path
) -> None:
    common = ("drive", portrait, driving, "--size", 128, "--duration-s", 0.8, "-o")
    frames = {}
    for name, flags in {
        "all": (), "lips": ("--region", "lips"), "none": ("--multiplier", 0), "far": ("--multiplier", 2),
    }.items():  # fmt: skip
        done = run_vortex(*common, tmp_path / f"{name}.mp4", *flags)
        assert done.returncode == 0, done.stderr
        frames[name] = np.stack(list(iter_video_frames(tmp_path / f"{name}.mp4"))).astype(int)
    moved = {name: np.abs(video - video[0]).mean() for name, video in frames.items()}
    assert moved["far"] > 1.3 * moved["all"] > moved["lips"] > 2 * moved["none"]
    # Above the nose nothing moves but for compression, though the driver blinks.
    upper = frames["lips"][:, :50]
    assert (
        np.abs(upper - upper[0]).mean() < 0.5 < np.abs(frames["all"][:, :50] - frames["all"][0, :50]).mean()
    )


def test_a_picture_drives_for_three_seconds(run_vortex: Run, portrait: Path, tmp_path: Path) -> None:
    Image.fromarray(known_frames([OPENINGS_S[0]])[0]).save(tmp_path / "open.png")
    done = run_vortex(
        "drive", portrait, tmp_path / "open.png", "-o", tmp_path / "a.mp4", "--size", 256, "--json"
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["frames"], report["fps"], report["preset"]) == (72, "24", None)
    assert "a picture has no sound" in report["notes"]
    found = [points for points in iter_landmarks(iter_video_frames(tmp_path / "a.mp4")) if points is not None]
    gaps = gap(np.stack(found), INNER_LIPS)
    assert gaps[0] < 0.03 < 0.1 < gaps[30:].min()
    assert np.ptp(gaps[30:]) < 0.02
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert "driven by a picture" in container.metadata["comment"]


def test_what_an_engine_cannot_do_is_refused_in_one_line(
    run_vortex: Run, portrait: Path, driving: Path, tmp_path: Path
) -> None:
    save_template(tmp_path / "motion.npz", moving_track())
    for name, given, message in (
        ("a.mp4", (driving, "--no-stitch"), "stitch is False, which the mesh engine cannot do"),
        ("b.mp4", (driving, "--eye-retarget"), "eye_retarget is True, which the mesh engine cannot do"),
        ("c.mp4", (tmp_path / "motion.npz", "--lip-retarget"), "lip_retarget is True"),
        ("d.mp4", (driving, "--region", "nose"), "give one of all, expression, pose, lips, eyes"),
    ):
        done = run_vortex("drive", portrait, *given, "-o", tmp_path / name)
        assert done.returncode == 2
        assert message in done.stderr and len(done.stderr.splitlines()) == 1
        assert not (tmp_path / name).exists()
    done = run_vortex("capture", driving, "-o", tmp_path / "a.npz", "--engine", "mesh")
    assert done.returncode == 2 and "The mesh engine reads no keypoints" in done.stderr


def blank(path: Path) -> None:
    write_timed_video(path, [np.full((128, 128, 3), 120, np.uint8)] * 4, np.arange(4) / 25)


REFUSED = {
    "no face": ("blank.mp4", "No face found in any frame of 'blank.mp4'"),
    "a sound": ("speech.flac", "has no moving picture"),
    "no video": ("notes.mp4", "cannot be read"),
    "no file": ("gone.mp4", "does not exist"),
    "a folder": ("folder", "is a folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_drive_is_refused_in_one_line(
    run_vortex: Run, portrait: Path, speech: Path, tmp_path: Path, case: str
) -> None:
    blank(tmp_path / "blank.mp4")
    shutil.copy(speech, tmp_path / "speech.flac")
    (tmp_path / "notes.mp4").write_text("dear diary")
    (tmp_path / "folder").mkdir()
    name, message = REFUSED[case]
    done = run_vortex("drive", portrait, tmp_path / name, "-o", tmp_path / "out.mp4")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not (tmp_path / "out.mp4").exists()


def test_a_video_as_portrait_and_a_preset_are_refused(run_vortex: Run, driving: Path, tmp_path: Path) -> None:
    done = run_vortex("drive", driving, driving, "-o", tmp_path / "out.mp4")
    assert done.returncode == 2
    assert "is not a picture" in done.stderr
    assert run_vortex("drive", "a", "b", "-o", "c.mp4", "--preset", "calm").returncode == 2
    with pytest.raises(InputError, match="Unknown option 'preset'"):
        vortex.drive("a", "b", "c.mp4", preset="calm")  # type: ignore[call-arg]


def test_a_failing_portrait_does_not_wait_for_the_video(tmp_path: Path, driving: Path) -> None:
    seen: list[int] = []

    def on_progress(stage: str, completed: int, total: int) -> None:
        if stage == "track":
            seen.append(completed)
            time.sleep(0.2)

    blank_picture = np.full((300, 300, 3), 120, np.uint8)
    with pytest.raises(NoFaceError, match="No face found in 'array'"):
        vortex.drive(blank_picture, driving, tmp_path / "out.mp4", on_progress=on_progress)
    time.sleep(0.5)
    watched = len(seen)
    time.sleep(1)
    assert len(seen) == watched < FRAMES, "the thread that watches the video has ended"


def test_ctrl_c_while_the_face_is_followed_leaves_nothing(
    portrait: Path, driving: Path, tmp_path: Path
) -> None:
    long = tmp_path / "long"
    long.mkdir()
    write_timed_video(long / "a.mp4", known_frames([0.1]) * 3000, np.arange(3000) / 25)
    command = [sys.executable, "-m", "vortex", "drive", portrait, long / "a.mp4", "-o", tmp_path / "out.mp4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline_s = time.monotonic() + 60
            while not holds_open(process.pid, long / "a.mp4"):
                assert time.monotonic() < deadline_s
                time.sleep(0.02)
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130
    assert said.splitlines() == ["vortex: stopped; nothing was written"]
    assert list(tmp_path.iterdir()) == [long]


def holds_open(pid: int, path: Path) -> bool:
    try:
        return any(os.readlink(link) == str(path) for link in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        # A file was closed meanwhile.
        return False


def test_a_row_of_a_batch(run_vortex: Run, portrait: Path, driving: Path, tmp_path: Path) -> None:
    row = {"portrait": str(portrait), "driving": str(driving), "output": "a.mp4", "size_px": 128}
    (tmp_path / "jobs.jsonl").write_text(json.dumps(row))
    jobs, out = tmp_path / "jobs.jsonl", tmp_path / "out"
    for status in ("done", "skipped"):
        done = run_vortex("batch", jobs, "--out", out, "--preset", "calm", "--duration", 0.4, "--json")
        assert json.loads(done.stdout)[status] == 1, done.stderr
    assert len(list(iter_video_frames(out / "a.mp4"))) == 10


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    pytest.importorskip("fastapi", reason="the extra 'server' is not installed")
    from fastapi.testclient import TestClient

    from vortex.server.app import create_app
    from vortex.server.context import ServerContext
    from vortex.server.settings import ServerSettings

    data = tmp_path_factory.mktemp("server")
    context = ServerContext(ServerSettings(data=data, max_running=1, grace_s=5, max_duration_s=30))
    with TestClient(create_app(context), base_url="http://127.0.0.1") as client:
        yield client
    assert not list(data.glob("jobs/*/driving")), "the upload is deleted with the job's end"


def post(client, portrait: Path, driving: Path, **options: str):  # type: ignore[no-untyped-def]
    files = {"portrait": portrait.read_bytes(), "driving": driving.read_bytes()}
    named = {name: (name, content) for name, content in files.items()}
    return client.post("/v1/videos", files=named, data={"size_px": "128", **options})


def finished(client, sent):  # type: ignore[no-untyped-def]
    """Return the job once it is done and measured."""
    assert sent.status_code == 202, sent.text
    deadline_s = time.monotonic() + 60
    while (video := client.get(f"/v1/videos/{sent.json()['id']}").json())["state"] != "done" or video[
        "measuring"
    ]:
        assert time.monotonic() < deadline_s and video["state"] != "failed", video
        time.sleep(0.05)
    return video


def test_a_job_of_the_server(server, portrait: Path, driving: Path) -> None:  # type: ignore[no-untyped-def]
    video = finished(server, post(server, portrait, driving, check="true"))
    assert video["report"]["frames"] == FRAMES
    assert video["report"]["fps"] == "25", "the rate of the video, not the default of other jobs"
    assert video["options"]["driven"] is True
    assert video["sync"]["face_share"] == 1


def test_the_server_takes_a_driving_picture_and_a_region(server, portrait: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    Image.fromarray(actor()).save(tmp_path / "a.png")
    sent = post(server, portrait, tmp_path / "a.png", region="eyes", multiplier="0.5", duration_s="0.5")
    video = finished(server, sent)
    assert (video["report"]["frames"], video["options"]["region"]) == (12, "eyes")
    assert video["options"]["multiplier"] == 0.5


def test_the_server_takes_a_motion_template(server, portrait: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    save_template(tmp_path / "motion.npz", moving_track(8))
    video = finished(server, post(server, portrait, tmp_path / "motion.npz"))
    assert (video["report"]["frames"], video["report"]["fps"]) == (8, "25")


def test_the_server_refuses_what_cannot_drive(
    server, portrait: Path, driving: Path, speech: Path, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    refused = post(server, portrait, driving, preset="calm")
    assert refused.status_code == 422
    assert "preset has no effect" in refused.json()["detail"]
    assert post(server, portrait, speech).status_code == 415
    write_timed_video(tmp_path / "long.mp4", [np.zeros((64, 64, 3), np.uint8)] * 4, [0, 10, 20, 40])
    long = post(server, portrait, tmp_path / "long.mp4")
    assert long.status_code == 422, long.text
    assert "lasts more than 30 s" in long.json()["detail"]
    save_template(tmp_path / "motion.npz", moving_track())
    content = (tmp_path / "motion.npz").read_bytes()
    (tmp_path / "motion.npz").write_bytes(content[:-30])
    template = post(server, portrait, tmp_path / "motion.npz")
    assert template.status_code == 422, template.text
    assert "not a motion template" in template.json()["detail"]
    unstitched = post(server, portrait, driving, stitch="false")
    assert unstitched.status_code == 422 and "stitch is False" in unstitched.json()["detail"]
    spoken = server.post(
        "/v1/videos",
        files={"portrait": portrait.read_bytes(), "speech": speech.read_bytes()},
        data={"region": "lips"},
    )
    assert spoken.status_code == 422
    assert "region has no effect without a driving video" in spoken.json()["detail"]
    both = server.post(
        "/v1/videos",
        files={
            "portrait": portrait.read_bytes(),
            "driving": driving.read_bytes(),
            "speech": speech.read_bytes(),
        },
    )
    assert both.status_code == 422
    assert "Give either speech" in both.json()["detail"]
