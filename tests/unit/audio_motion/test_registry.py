"""Names, and what is said where a model cannot run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import vortex
from vortex.audio_motion.registry import AUDIO_MOTION_NAMES, find_audio_motion
from vortex.demo import DEMO_SPEECH, demo_portrait
from vortex.errors import InputError, MissingExtraError, WeightsMissingError


def test_names_are_found_and_others_refused() -> None:
    assert AUDIO_MOTION_NAMES == ("visemes", "joyvasa")
    assert find_audio_motion("visemes") is None
    spec = find_audio_motion("joyvasa")
    assert spec is not None and spec.name == "joyvasa"
    with pytest.raises(InputError, match="Unknown audio_motion 'ditto'; vortex has visemes, joyvasa"):
        find_audio_motion("ditto")


@pytest.mark.parametrize("torch_there", [True, False])
def test_what_is_missing_is_said_before_any_work(
    torch_there: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: found("math" if torch_there else "no") if name == "torch" else found(name),
    )
    error, command = (
        (WeightsMissingError, "vortex weights fetch joyvasa")
        if torch_there
        else (MissingExtraError, r"pip install 'vortex-portrait\[neural\]'")
    )
    stages: list[str] = []
    with pytest.raises(error, match=command):
        vortex.animate(
            demo_portrait(),
            DEMO_SPEECH,
            tmp_path / "out.mp4",
            audio_motion="joyvasa",
            on_progress=lambda stage, done, total: stages.append(stage),
        )
    assert stages == []
    assert not (tmp_path / "out.mp4").exists()


def test_a_region_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="audio_motion_region is 'all', which has no effect"):
        vortex.animate(demo_portrait(), DEMO_SPEECH, tmp_path / "out.mp4", audio_motion_region="all")
