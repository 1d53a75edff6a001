"""Every spelling of the release is read; what it must not hold is refused, and nothing of it runs."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.joyvasa_release import TOY, checkpoint_tensors, statistics, write_release

from vortex.audio_motion.joyvasa.load import (
    CHECKPOINT,
    TEMPLATE,
    load_networks,
    load_statistics,
)
from vortex.errors import WeightsCorruptError, WeightsMissingError

POSITION = "audio_encoder.encoder.pos_conv_embed.conv."


class Evil:
    """Runs a command when it is read without care."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.trace}'",)


@pytest.fixture
def folder(release: Path, tmp_path: Path) -> Path:
    """Return a copy of the release that a test may change."""
    return Path(shutil.copytree(release, tmp_path / "joyvasa"))


def rewrite(folder: Path, change: Any) -> None:
    content = torch.load(folder / CHECKPOINT, weights_only=False)
    change(content)
    torch.save(content, folder / CHECKPOINT)


def test_the_stored_options_and_their_path_do_not_hinder(release: Path) -> None:
    content = torch.load(release / CHECKPOINT, weights_only=False)
    assert type(content["args"].data_root).__name__ == "PosixPath"  # else this test would test nothing
    assert load_networks(release, TOY).sizes == TOY


def test_a_stored_path_is_read_where_no_such_path_can_be_made(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused:
        def __init__(self, *parts: str) -> None:
            raise NotImplementedError("cannot instantiate 'PosixPath' on your system")

    monkeypatch.setattr("pathlib.PosixPath", Refused)  # as on Windows
    assert load_networks(release, TOY).sizes == TOY


@pytest.mark.parametrize("spelling", ["weight_norm", "folded"])
def test_the_position_weight_is_read_in_every_spelling(release: Path, folder: Path, spelling: str) -> None:
    def rename(content: dict[str, Any]) -> None:
        state = content["model"]
        gain = state.pop(POSITION + "parametrizations.weight.original0")
        direction = state.pop(POSITION + "parametrizations.weight.original1")
        if spelling == "weight_norm":
            state[POSITION + "weight_g"], state[POSITION + "weight_v"] = gain, direction
        else:
            taps = [direction[:, :, k] / direction[:, :, k].norm() for k in range(TOY.hubert.position_kernel)]
            state[POSITION + "weight"] = torch.stack(taps, dim=2) * gain

    rewrite(folder, rename)
    (ours, theirs) = (
        load_networks(where, TOY).audio_encoder.encoder.pos_conv_embed.conv.weight
        for where in (folder, release)
    )
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_checkpoint_that_hides_a_command_is_refused_and_runs_nothing(folder: Path, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    rewrite(folder, lambda content: content.update(args=Evil(trace)))
    with pytest.raises(WeightsCorruptError, match=r"cannot be read as a tensor file.*weights verify joyvasa"):
        load_networks(folder, TOY)
    assert not trace.exists()


def test_a_template_that_hides_a_command_is_refused_and_runs_nothing(folder: Path, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    (folder / TEMPLATE).write_bytes(pickle.dumps({**statistics(), "mean_exp": Evil(trace)}))
    with pytest.raises(WeightsCorruptError, match="which is not data"):
        load_statistics(folder)
    assert not trace.exists()


def test_missing_files_name_the_command(tmp_path: Path) -> None:
    for load in (load_networks, load_statistics):
        with pytest.raises(WeightsMissingError, match="Run: vortex weights fetch joyvasa"):
            load(tmp_path)


def test_other_networks_are_refused(folder: Path) -> None:
    feature = "denoising_net.feature_proj.weight"

    def add_indicator(content: dict[str, Any]) -> None:
        content["model"][feature] = torch.nn.functional.pad(content["model"][feature], (0, 1))

    rewrite(folder, add_indicator)
    with pytest.raises(WeightsCorruptError, match=r"does not fit the network.*feature_proj"):
        load_networks(folder, TOY)
    rewrite(folder, lambda content: content["model"].pop(feature))
    with pytest.raises(WeightsCorruptError, match=r"does not fit the network.*feature_proj"):
        load_networks(folder, TOY)
    rewrite(folder, lambda content: content.pop("model"))
    with pytest.raises(WeightsCorruptError, match="has no state dict"):
        load_networks(folder, TOY)


def test_a_mask_that_lets_frames_hear_others_is_refused(folder: Path) -> None:
    mask = torch.from_numpy(checkpoint_tensors(TOY)["denoising_net.alignment_mask"].copy())
    mask[3, 4] = False
    rewrite(folder, lambda content: content["model"].update({"denoising_net.alignment_mask": mask}))
    with pytest.raises(WeightsCorruptError, match="hear the sound of others"):
        load_networks(folder, TOY)


def test_statistics_return_motion_to_its_units(release: Path) -> None:
    stored = statistics()
    exp, pose = load_statistics(release).denormalise(np.stack([np.zeros(73), np.ones(73)]).astype(np.float32))
    assert np.allclose(exp, [stored["mean_exp"], stored["mean_exp"] + stored["std_exp"]])
    names = ("scale", "t", "pitch", "yaw", "roll")
    for row, end in zip(pose, ("min", "max"), strict=True):
        assert np.allclose(row, np.concatenate([stored[f"{end}_{name}"] for name in names]), atol=1e-6)


def test_other_statistics_are_refused(folder: Path) -> None:
    for wrong in ({"mean_exp": np.zeros(9)}, ["no", "dict"], {**statistics(), "min_t": np.full(3, np.nan)}):
        (folder / TEMPLATE).write_bytes(pickle.dumps(wrong))
        with pytest.raises(WeightsCorruptError, match=r"are not the statistics|cannot be read"):
            load_statistics(folder)
    (folder / TEMPLATE).write_bytes(b"\x80\x04broken")
    with pytest.raises(WeightsCorruptError, match="cannot be read as arrays"):
        load_statistics(folder)


def test_the_test_release_is_like_the_real_one(tmp_path: Path) -> None:
    assert b"numpy.core.multiarray" in (write_release(tmp_path) / TEMPLATE).read_bytes()
    assert b"_core" not in (tmp_path / TEMPLATE).read_bytes()
