"""A text and a prompt become a verified video; failures, time limits and Ctrl-C leave nothing behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from PIL import Image

pytest.importorskip("onnxruntime", reason="the extra 'speech' is not installed")
pytest.importorskip("misaki", reason="the extra 'speech' is not installed")
pytest.importorskip("transformers", reason="the extra 'clip' is not installed")
pytest.importorskip("diffusers", reason="the extra 'image' is not installed")

import torch
from tiny_models import save_clip, save_flux

from vortex.demo import demo_portrait
from vortex.errors import InputError, NoFaceError, StageTimeoutError
from vortex.extras.clip import ClipLimits, load_clip
from vortex.extras.image import load_flux
from vortex.extras.residency import ModelRegistry
from vortex.extras.speech import Utterance, Voice
from vortex.portrait import load_image
from vortex.production import Limits, Makers, Order, Production, produce
from vortex.types import Hook

TEXT = "Bob wrapped up five papers."


class Tone:
    """A speech engine whose speech is a tone with a closure in its middle; may fail at first, or be slow."""

    name, sample_rate_hz, voices = "tone", 24_000, (Voice("tone", "none", "none"),)

    def __init__(self, failures: int = 0, wait_s: float = 0.0) -> None:
        self.failures, self.wait_s, self.calls = failures, wait_s, 0

    def say(self, sentence: str, *, voice: str, speed: float = 1.0) -> Utterance:
        self.calls += 1
        time.sleep(self.wait_s)
        if self.calls <= self.failures:
            raise RuntimeError("the engine stumbled")
        tone = (0.3 * np.sin(np.arange(24_000) * 2 * np.pi * 200 / 24_000)).astype(np.float32)
        tone[10_000:13_000] = 0
        return Utterance(tone, ("AA", "P", "AA"), np.array([10_000, 13_000, 24_000]))


class Painter:
    """A source of pictures: noise for the first seeds, then a face; may be slow."""

    name = "painter"

    def __init__(self, noise: int = 0, wait_s: float = 0.0) -> None:
        self.noise, self.wait_s = noise, wait_s
        self.seeds: list[int] = []
        self.ended, self.whole = threading.Event(), False

    def make(self, prompt: str, *, seed: int, size_px: int = 512, hook: Hook | None = None) -> np.ndarray:
        self.seeds.append(seed)
        ends_s = time.monotonic() + self.wait_s
        try:
            while time.monotonic() < ends_s:
                if hook:
                    hook("image", 0, 4)
                time.sleep(0.01)
            self.whole = True
        finally:
            self.ended.set()
        if len(self.seeds) <= self.noise:
            return np.random.default_rng(seed).integers(0, 256, (128, 128, 3), np.uint8)
        return load_image(demo_portrait())


@pytest.fixture(scope="module")
def clip_folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("clip")
    return [save_clip(root / "b32", seed=1), save_clip(root / "l14", width=48, embedding=40, seed=2)]


def order(**changes: object) -> Order:
    settings = {"prompt": "a sailor", "seed": 5, "size_px": 256, "verify_prompt": False, "verify_lips": False}
    return Order(TEXT, **{**settings, **changes})  # type: ignore[arg-type]


def make(
    out: Path, tone: Tone, painter: Painter, wanted: Order | None = None, limits: Limits | None = None
) -> Production:
    makers = Makers(lambda name: tone, lambda: painter, image_device="cpu", image_bytes=1 << 20)
    return produce(wanted or order(), out, makers=makers, limits=limits)


# ---------------------------------------- whole


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


def test_the_report_tells_of_video_speech_clip_and_lips(made: tuple[Path, dict]) -> None:
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


def test_stages_overlap_as_they_should(made: tuple[Path, dict]) -> None:
    stages = made[1]["stages"]
    assert stages["portrait"]["start_s"] < stages["speech"]["end_s"]
    assert stages["render"]["start_s"] >= max(stages["speech"]["end_s"], stages["prepare"]["end_s"]) - 0.01
    assert stages["clip"]["start_s"] < stages["render"]["end_s"]
    with Image.open(made[0] / "time.png") as picture:
        assert picture.width > 500


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_flux_pipeline_that_draws_no_face_is_given_up_after_some_seeds(tmp_path: Path) -> None:
    flux = load_flux(save_flux(tmp_path / "flux"), device="cpu")
    out = tmp_path / "out"
    out.mkdir()
    makers = Makers(lambda name: Tone(), lambda: flux, image_device="cpu", image_bytes=1 << 20)
    with pytest.raises(NoFaceError, match="seeds 5 to 8"):
        produce(order(), out / "out.mp4", makers=makers)
    assert list(out.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_one_line_says_what_works_instead(run_vortex: Run, tmp_path: Path) -> None:
    done = run_vortex("generate", "--prompt", "a sailor", "--text", TEXT, "-o", tmp_path / "out.mp4")
    assert done.returncode == 1
    assert "--image" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------- orchestration


def test_a_picture_without_a_face_is_followed_by_the_next_seed(tmp_path: Path) -> None:
    painter = Painter(noise=2)
    production = make(tmp_path / "out.mp4", Tone(), painter)
    assert painter.seeds == [5, 6, 7]
    assert production.image_seed == 7
    assert "no usable face with image seed 5, 6; used 7" in production.notes
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_speech_and_picture_are_made_at_the_same_time(tmp_path: Path) -> None:
    spans = make(tmp_path / "out.mp4", Tone(wait_s=0.5), Painter(wait_s=0.5)).spans_s
    assert spans["image"][0] < spans["speech"][1]
    assert spans["speech"][0] < spans["image"][1]
    assert spans["render"][0] >= max(spans["image"][1], spans["speech"][1])


def test_speech_that_fails_once_is_tried_again_and_told(tmp_path: Path) -> None:
    production = make(tmp_path / "out.mp4", Tone(failures=1), Painter())
    assert production.notes[0] == "speech failed once (the engine stumbled) and was tried again"


def test_speech_that_fails_twice_ends_the_picture_too_and_is_the_error(tmp_path: Path) -> None:
    painter = Painter(wait_s=30)
    with pytest.raises(RuntimeError, match="the engine stumbled"):
        make(tmp_path / "out.mp4", Tone(failures=2), painter)
    assert painter.ended.wait(5)
    assert not painter.whole
    assert list(tmp_path.iterdir()) == []


def test_a_slow_picture_ends_at_its_limit(tmp_path: Path) -> None:
    painter = Painter(wait_s=30)
    with pytest.raises(StageTimeoutError, match=r"'image' took longer than 0.2 s"):
        make(tmp_path / "out.mp4", Tone(), painter, limits=Limits(image_s=0.2))
    assert painter.ended.wait(5)
    assert list(tmp_path.iterdir()) == []


def test_slow_speech_ends_at_its_limit(tmp_path: Path) -> None:
    with pytest.raises(StageTimeoutError, match=r"'speech' took longer than 0.1 s"):
        make(tmp_path / "out.mp4", Tone(wait_s=1), Painter(), limits=Limits(speech_s=0.1))


def test_the_deadline_holds_for_all_stages(tmp_path: Path) -> None:
    with pytest.raises(StageTimeoutError, match=r"not finished within 0.3 s"):
        make(tmp_path / "out.mp4", Tone(), Painter(wait_s=30), limits=Limits(deadline_s=0.3))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["image", "prepare", "render", "check"])
def test_cancelling_in_any_stage_leaves_nothing(stage: str, tmp_path: Path) -> None:
    def hook(name: str, completed: int, total: int) -> None:
        if name == stage and (name != "render" or completed == 3):
            raise KeyboardInterrupt

    makers = Makers(lambda name: Tone(), Painter, image_device="cpu", image_bytes=1 << 20)
    with pytest.raises(KeyboardInterrupt):
        produce(order(verify_lips=True), tmp_path / "out.mp4", makers=makers, hook=hook)
    assert list(tmp_path.iterdir()) == []


def test_models_stay_between_productions(tmp_path: Path, clip_folders: list[Path]) -> None:
    loads: list[str] = []
    folders = dict(zip(("clip-vit-b32", "clip-vit-l14"), clip_folders, strict=True))

    def load(name: str, model: object) -> object:
        loads.append(name)
        return model

    makers = Makers(
        lambda name: load("speech", Tone()),  # type: ignore[arg-type, return-value]
        lambda: load("images", Painter()),  # type: ignore[arg-type, return-value]
        lambda: load("clip", load_clip(folders)),  # type: ignore[arg-type, return-value]
        image_device="cpu",
        image_bytes=1 << 20,
    )
    registry = ModelRegistry({"cpu": 8 << 30})
    wanted = order(verify_prompt=True, clip_limits=ClipLimits(min_score=1.0, min_likeness=-1.0))
    for name in ("one.mp4", "two.mp4"):
        production = produce(wanted, tmp_path / name, makers=makers, registry=registry)
        assert any("does not show the prompt" in complaint for complaint in production.complaints)
    assert sorted(loads) == ["clip", "images", "speech"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": None}, "--prompt"),
        ({"prompt": " "}, "prompt is empty"),
        ({"image": Path("absent.jpg")}, "does not exist"),
        ({"speed": 9.0}, "give 0.5"),
        ({"speech_engine": "espeak"}, "Unknown speech engine"),
        ({"fps": "fast"}, "fps"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_bad_order_is_refused(changes: dict[str, object], said: str, tmp_path: Path) -> None:
    painter = Painter()
    with pytest.raises(InputError, match=said):
        make(tmp_path / "out.mp4", Tone(), painter, order(**changes))
    assert painter.seeds == []
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "vortex", "generate", "--image", str(demo_portrait()),
        "--text", "One sentence follows another one, and then there is one more. " * 30, "-o", "out.mp4",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert said.splitlines()[-1] == "vortex: stopped; nothing was written"
    assert list(tmp_path.iterdir()) == []
