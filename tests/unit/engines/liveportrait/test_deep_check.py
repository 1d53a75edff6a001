"""The frame of the deep check: what is recorded is found again, and other weights or no face are told."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from support import liveportrait_release as release

from vortex.cli import machine
from vortex.demo import demo_portrait
from vortex.engines.liveportrait import LivePortraitEngine, deep_check
from vortex.engines.liveportrait.load import rewrite_networks
from vortex.engines.liveportrait.networks import Networks, load_networks
from vortex.engines.liveportrait.renderer import Renderer
from vortex.errors import EngineError, InputError
from vortex.face.crop import crop_face
from vortex.face.portrait import load_portrait

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def engine(rewritten: Networks) -> LivePortraitEngine:
    return LivePortraitEngine(Renderer(rewritten, torch.device("cpu")))


def test_a_recorded_frame_is_found_again_and_other_weights_are_not(
    engine: LivePortraitEngine, toy_folder: Path, tmp_path: Path
) -> None:
    first = deep_check.render_check(engine, tmp_path / "none.json")
    assert first.difference is None
    record, picture = deep_check.write_record(first, tmp_path)
    shown = cv2.imread(str(picture))
    assert shown is not None and np.array_equal(shown[..., ::-1], first.frame)
    again = deep_check.render_check(engine, record)
    assert again.difference is not None and again.difference <= 0.05  # rounded to one decimal
    swapped = rewrite_networks(load_networks(toy_folder, release.TOY))
    with torch.no_grad():
        swapped.generator.get_submodule("fc").get_parameter("weight").neg_()
    other = deep_check.render_check(LivePortraitEngine(Renderer(swapped, torch.device("cpu"))), record)
    assert other.difference is not None and other.difference > deep_check.MAX_DIFFERENCE


def test_a_small_frame_is_the_mean_of_its_parts() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    means = frame.reshape(32, 16, 32, 16, 3).mean(axis=(1, 3))
    assert np.abs(deep_check.small(frame) - means).max() < 1e-3


def test_frames_without_a_face_and_other_frames_are_refused() -> None:
    frame = crop_face(load_portrait(demo_portrait()), 512).image
    deep_check.DeepCheck(frame, True, 0.4, 1.0, "cpu").check()
    deep_check.DeepCheck(frame, True, None, 1.0, "cpu").check()
    with pytest.raises(EngineError, match="No face is found"):
        deep_check.DeepCheck(frame, False, 0.4, 1.0, "cpu").check()
    for difference in (2.1, float("nan")):
        with pytest.raises(EngineError, match="differs from the recorded one by"):
            deep_check.DeepCheck(frame, True, difference, 1.0, "cpu").check()


class PortraitEngine(LivePortraitEngine):
    """Shows a face, as the released weights would."""

    def iter_frames(self, *args: object, **options: object):  # type: ignore[no-untyped-def, override]
        return iter([crop_face(load_portrait(demo_portrait()), 512).image])


@pytest.mark.parametrize("kind", ["face", "noise"])
def test_the_command_says_that_nothing_is_recorded_and_writes_what_to_send(
    engine: LivePortraitEngine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    from vortex.weights import cache

    given = PortraitEngine(engine.renderer) if kind == "face" else engine
    monkeypatch.setattr(deep_check, "RECORDED", tmp_path / "none.json")
    monkeypatch.setattr(cache, "verify_weights", lambda name: tmp_path)
    monkeypatch.setattr("vortex.engines.liveportrait.device.missing_weights", lambda name: ())
    monkeypatch.setattr("vortex.engines.liveportrait.engine.load_liveportrait_engine", lambda device: given)
    monkeypatch.setattr(given, "close", lambda: None, raising=False)
    args = argparse.Namespace(action="verify", name="liveportrait", deep=True, device="cpu")
    if kind == "noise":
        with pytest.raises(EngineError, match="No face is found"):
            machine._weights(args, io.StringIO())
        return
    assert machine._weights(args, io.StringIO()) == 0
    printed = capsys.readouterr().out
    assert "a face is found in it" in printed and "no frame of the released weights is recorded" in printed
    record = json.loads((tmp_path / "frame.json").read_text())
    assert len(record["frame"]) == 32 * 32 * 3 and record["device"] == "cpu"
    args.name = "kokoro"
    with pytest.raises(InputError, match="--deep"):
        machine._weights(args, io.StringIO())
