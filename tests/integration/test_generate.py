"""A text and a prompt become a verified video; failures, time limits, Ctrl-C and kill -9 leave no file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.run import Run

pytest.importorskip("onnxruntime", reason="the extra 'speech' is not installed")
pytest.importorskip("misaki", reason="the extra 'speech' is not installed")
pytest.importorskip("transformers", reason="the extra 'clip' is not installed")
pytest.importorskip("diffusers", reason="the extra 'image' is not installed")

import torch
from support.fake_models import Painter, Tone
from support.paths import ROOT
from support.tiny_models import save_clip, save_flux

import vortex
from vortex.demo import demo_portrait
from vortex.errors import InputError, NoFaceError, StageTimeoutError, WeightsMissingError
from vortex.generate.clip import load_clip
from vortex.generate.drawing import ImageSource, load_flux
from vortex.generate.request import GenerateReport, GenerateRequest, ModelLoaders
from vortex.generate.run import run_generate
from vortex.options import GenerateOptions
from vortex.runtime.memory import ModelCache
from vortex.session import Session
from vortex.speech import registry
from vortex.types import ProgressCallback

TEXT = "Bob wrapped up five papers."


@pytest.fixture(scope="module")
def clip_folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("clip")
    return [save_clip(root / "b32", seed=1), save_clip(root / "l14", width=48, embedding=40, seed=2)]


@pytest.fixture
def tone(monkeypatch: pytest.MonkeyPatch) -> Tone:
    """Return a speech engine that the registry has as "tone"."""
    tone = Tone()
    monkeypatch.setattr(registry, "SPEECH_ENGINES", (*registry.SPEECH_ENGINES, tone.spec()))
    return tone


def request_of(image: Path | None = None, **changes: Any) -> GenerateRequest:
    options = {
        "prompt": "a sailor", "seed": 5, "size_px": 256, "speech_engine": "tone", "verify_prompt": False,
        "verify_lips": False,
    }  # fmt: skip
    return GenerateRequest(TEXT, image, GenerateOptions.parse(**{**options, **changes}))


def generate(
    out: Path,
    images: ImageSource | None = None,
    on_progress: ProgressCallback | None = None,
    **changes: Any,
) -> GenerateReport:
    drawn = images or Painter()
    loaders = ModelLoaders(lambda: drawn, images_device="cpu", images_bytes=1 << 20)
    with Session() as session:
        return run_generate(
            request_of(**changes), out, session=session, loaders=loaders, on_progress=on_progress
        )


@pytest.fixture(scope="module")
def made(
    run_vortex: Run, clip_folders: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("made")
    done = run_vortex(
        "generate", "--image", demo_portrait(), "--prompt", "a sailor", "--text", TEXT,
        "-o", folder / "out.mp4", "--clip-models", ",".join(map(str, clip_folders)),
        "--timeline", folder / "time.png", "--min-clip-score", -1, "--min-clip-likeness", -1,
        "--engine", "mesh", "--seed", 4,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "out.json").read_text())


def test_the_report_has_video_speech_clip_and_lip_sync(made: tuple[Path, dict]) -> None:
    folder, report = made
    assert sorted(path.name for path in folder.iterdir()) == ["out.json", "out.mp4", "time.png"]
    assert report["video"]["path"] == str(folder / "out.mp4")
    assert report["video"]["seed"] == 4
    assert report["speech"]["words"] == TEXT
    assert report["complaints"] == []
    assert abs(report["sync"]["offset_frames"]) < 1
    assert report["sync"]["closures_missed_s"] == []
    clip = report["clip"]
    assert clip["keyframes"] == [(2 * part + 1) * report["video"]["frames"] // 10 for part in range(5)]
    b32, l14 = clip["scores"]["clip-vit-b32"], clip["scores"]["clip-vit-l14"]
    assert clip["ensemble"] == pytest.approx([0.4 * a + 0.6 * b for a, b in zip(b32, l14, strict=True)])
    assert np.linalg.norm(clip["embedding"]) == pytest.approx(1, abs=1e-4)


def test_independent_stages_overlap(made: tuple[Path, dict]) -> None:
    stages = made[1]["stages"]
    assert stages["portrait"]["start_s"] < stages["speech"]["end_s"]
    assert stages["render"]["start_s"] >= max(stages["speech"]["end_s"], stages["prepare"]["end_s"]) - 0.01
    assert stages["clip"]["start_s"] < stages["render"]["end_s"]
    with Image.open(made[0] / "time.png") as picture:
        assert picture.width > 500


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_flux_gives_up_after_four_pictures_without_a_face(tmp_path: Path, tone: Tone) -> None:
    flux = load_flux(save_flux(tmp_path / "flux"), device="cpu")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(NoFaceError, match="seeds 5 to 8"):
        generate(out / "out.mp4", flux)
    assert list(out.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_message_names_image(run_vortex: Run, tmp_path: Path) -> None:
    done = run_vortex("generate", "--prompt", "a sailor", "--text", TEXT, "-o", tmp_path / "out.mp4")
    assert done.returncode == 1
    assert "give a picture in image instead" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_the_function_makes_a_verified_video_of_a_picture(tmp_path: Path, tone: Tone) -> None:
    report = vortex.generate(
        TEXT, tmp_path / "out.mp4", image=demo_portrait(), speech_engine="tone", size_px=256, seed=1
    )
    assert report.video.path == tmp_path / "out.mp4"
    assert report.clip is None
    assert report.sync is not None
    assert abs(report.sync.offset_frames) < 1
    assert report.speech.words == TEXT
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_missing_clip_weights_are_reported_before_any_work(
    tmp_path: Path, tone: Tone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path / "cache"))
    stages: list[str] = []
    with pytest.raises(WeightsMissingError, match="vortex weights fetch clip-vit-b32"):
        vortex.generate(
            TEXT, tmp_path / "out.mp4", image=demo_portrait(), prompt="a sailor", speech_engine="tone",
            on_progress=lambda stage, completed, total: stages.append(stage),
        )  # fmt: skip
    assert stages == []
    assert tone.calls == 0


def test_the_name_works_as_function_and_as_package() -> None:
    code = (
        "import vortex.generate.run, vortex\n"
        "try:\n"
        "    vortex.generate('Hi', 'x.mp4')\n"
        "except vortex.errors.InputError as exc:\n"
        "    print(exc)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Describe it in prompt" in done.stdout


def test_type_checkers_know_the_keywords(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    user = tmp_path / "user.py"
    user.write_text(
        "import vortex\n"
        "import vortex.generate.run\n"
        "report = vortex.generate('a', 'b.mp4', image='p.jpg', size_px=256)\n"
        "print(report.complaints)\n"
        "vortex.generate('a', 'b.mp4', siez_px=256)\n"
    )
    # Without the installed packages, whose types do not matter here, mypy takes seconds, not a minute.
    options = ["--strict", "--follow-imports=silent", "--no-site-packages", "--ignore-missing-imports"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, user],
        env={**os.environ, "MYPYPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1, done.stdout + done.stderr
    assert 'user.py:5: error: Unexpected keyword argument "siez_px" for "generate"' in errors[0]


def test_a_picture_without_a_face_is_followed_by_the_next_seed(tmp_path: Path, tone: Tone) -> None:
    painter = Painter(noise=2)
    report = generate(tmp_path / "out.mp4", painter)
    assert painter.seeds == [5, 6, 7]
    assert report.image_seed == 7
    assert "no usable face with image seed 5, 6; used 7" in report.notes
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_speech_and_picture_are_made_at_the_same_time(tmp_path: Path, tone: Tone) -> None:
    tone.wait_s = 0.5
    spans = generate(tmp_path / "out.mp4", Painter(wait_s=0.5)).spans_s
    assert spans["image"][0] < spans["speech"][1]
    assert spans["speech"][0] < spans["image"][1]
    assert spans["render"][0] >= max(spans["image"][1], spans["speech"][1])


def test_speech_that_fails_once_is_tried_again_and_noted(tmp_path: Path, tone: Tone) -> None:
    tone.failures = 1
    report = generate(tmp_path / "out.mp4")
    assert report.notes[0] == "speech failed once (the engine stumbled) and was tried again"


def test_speech_that_fails_twice_stops_the_picture_and_is_the_error(tmp_path: Path, tone: Tone) -> None:
    tone.failures = 2
    painter = Painter(wait_s=30)
    with pytest.raises(RuntimeError, match="the engine stumbled"):
        generate(tmp_path / "out.mp4", painter)
    assert painter.ended.wait(5)
    assert not painter.finished
    assert list(tmp_path.iterdir()) == []


def test_a_slow_picture_ends_at_its_limit(tmp_path: Path, tone: Tone) -> None:
    painter = Painter(wait_s=30)
    with pytest.raises(StageTimeoutError, match=r"'image' took longer than 0.2 s"):
        generate(tmp_path / "out.mp4", painter, image_timeout_s=0.2)
    assert painter.ended.wait(5)
    assert list(tmp_path.iterdir()) == []


def test_slow_speech_ends_at_its_limit(tmp_path: Path, tone: Tone) -> None:
    tone.wait_s = 1
    with pytest.raises(StageTimeoutError, match=r"'speech' took longer than 0.1 s"):
        generate(tmp_path / "out.mp4", speech_timeout_s=0.1)


def test_the_deadline_holds_for_all_stages(tmp_path: Path, tone: Tone) -> None:
    with pytest.raises(StageTimeoutError, match=r"not finished within 0.3 s"):
        generate(tmp_path / "out.mp4", Painter(wait_s=30), deadline_s=0.3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["image", "prepare", "render", "check"])
def test_cancelling_in_any_stage_leaves_nothing(stage: str, tmp_path: Path, tone: Tone) -> None:
    def on_progress(name: str, completed: int, total: int) -> None:
        if name == stage and (name != "render" or completed == 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "out.mp4", on_progress=on_progress, verify_lips=True)
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
import vortex
from support.fake_models import Tone
from vortex.demo import demo_portrait
from vortex.speech import registry

def on_progress(stage, completed, total):
    if stage == sys.argv[1] and (stage != "render" or completed == 3):
        os.kill(os.getpid(), signal.SIGKILL)

registry.SPEECH_ENGINES += (Tone().spec(),)
vortex.generate(
    "Hello.", sys.argv[2], image=demo_portrait(), speech_engine="tone", size_px=128, on_progress=on_progress
)
"""


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="no files without a name on this system")
@pytest.mark.parametrize("stage", ["speech", "prepare", "render", "check"])
def test_kill_in_any_stage_leaves_nothing_under_any_name(stage: str, tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, stage, str(tmp_path / "out.mp4")],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert os.listdir(tmp_path) == []


def test_a_session_keeps_models_between_videos(tmp_path: Path, tone: Tone, clip_folders: list[Path]) -> None:
    loads: list[str] = []
    folders = dict(zip(("clip-vit-b32", "clip-vit-l14"), clip_folders, strict=True))

    def load(name: str, model: Any) -> Any:
        loads.append(name)
        return model

    loaders = ModelLoaders(
        images=lambda: load("images", Painter()),
        images_device="cpu",
        images_bytes=1 << 20,
        clip=lambda: load("clip", load_clip(folders)),
    )
    other = replace(loaders, images=lambda: load("other images", Painter()), images_name="other")
    request = request_of(verify_prompt=True, min_clip_score=1.0, min_clip_likeness=-1.0)
    with Session(models=ModelCache(8)) as session:
        for name, chosen in (("one.mp4", loaders), ("two.mp4", loaders), ("three.mp4", other)):
            report = run_generate(request, tmp_path / name, session=session, loaders=chosen)
            assert any("does not show the prompt" in complaint for complaint in report.complaints)
    assert sorted(loads) == ["clip", "images", "other images"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": None}, "Describe it in prompt"),
        ({"prompt": " "}, "prompt is empty"),
        ({"image": Path("absent.jpg")}, "does not exist"),
        ({"speed": 9.0}, "speed is 9; give a number from 0.5 to 2"),
        ({"speech_engine": "espeak"}, "Unknown speech engine"),
        ({"fps": "fast"}, "fps"),
        ({"seed": -1}, "seed"),
        ({"speech_timeout_s": 0}, "speech_timeout_s"),
    ],
)
def test_a_bad_request_is_refused(changes: dict[str, Any], message: str, tmp_path: Path, tone: Tone) -> None:
    painter = Painter()
    with pytest.raises(InputError, match=message):
        generate(tmp_path / "out.mp4", painter, **changes)
    assert painter.seeds == []
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "vortex", "generate", "--image", str(demo_portrait()),
        "--text", "One sentence follows another one, and then there is one more. " * 30, "-o", "out.mp4",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "vortex: stopped; nothing was written"
    assert list(tmp_path.iterdir()) == []
