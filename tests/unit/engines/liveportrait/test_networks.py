"""The networks at toy size: algebra that holds for any weights, and files that are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import liveportrait_release as release
from torch import nn

from vortex.engines.liveportrait.networks import (
    FILES,
    Networks,
    angle_from_bins,
    coordinate_grid,
    fold_spectral_norms,
    gaussian,
    load_networks,
)
from vortex.errors import WeightsCorruptError, WeightsMissingError


def test_angles_of_single_bins() -> None:
    logits = torch.full((2, 66), -1e4)
    logits[0, 32] = logits[0, 33] = 0
    logits[1, 43] = 0
    assert torch.allclose(angle_from_bins(logits), torch.tensor([0.0, 31.5]), atol=1e-4)


def test_gaussian_is_that_of_the_formula() -> None:
    grid = coordinate_grid(3, 4, 5, torch.device("cpu"))
    keypoints = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1))
    distance = grid[None, None] - keypoints[:, :, None, None, None]
    expected = torch.exp(-0.5 * (distance**2).sum(-1) / 0.01)
    assert torch.allclose(gaussian(grid, keypoints), expected, atol=1e-6)


def test_an_unmoved_face_is_not_deformed(networks: Networks) -> None:
    generator = torch.Generator().manual_seed(2)
    feature = networks.extract_appearance(torch.rand(1, 3, 32, 32, generator=generator))
    x_s = torch.rand(1, 21, 3, generator=generator)
    grid = coordinate_grid(*feature.shape[2:], torch.device("cpu"))
    assert torch.allclose(
        networks.warp(networks.prepare_warp(feature, x_s), x_s).deformation[0], grid, atol=1e-5
    )


def test_frames_do_not_depend_on_their_batch(networks: Networks) -> None:
    generator = torch.Generator().manual_seed(3)
    feature = networks.extract_appearance(torch.rand(1, 3, 32, 32, generator=generator))
    x_s = torch.rand(1, 21, 3, generator=generator)
    x_d = x_s + 0.1 * torch.randn(3, 21, 3, generator=generator)
    source = networks.prepare_warp(feature, x_s)
    together = networks.decode(networks.warp(source, x_d).features)
    assert together.shape == (3, 3, 64, 64)
    for one, row in zip(x_d, together, strict=True):
        alone = networks.decode(networks.warp(source, one[None]).features)
        assert torch.allclose(alone[0], row, atol=1e-5)


def test_folded_spectral_norm_equals_that_of_torch() -> None:
    """The oracle is torch's own spectral norm, which uses u and v as stored."""
    torch_conv = nn.utils.spectral_norm(nn.Conv2d(3, 5, 3)).eval()
    generator = torch.Generator().manual_seed(4)
    for name in ("weight_u", "weight_v"):
        vector = torch_conv.get_buffer(name)
        vector.copy_(nn.functional.normalize(torch.randn(vector.shape, generator=generator), dim=0))
    state = {f"conv.{key}": value for key, value in torch_conv.state_dict().items()}
    folded = fold_spectral_norms(state)
    assert set(folded) == {"conv.weight", "conv.bias"}
    picture = torch.rand(1, 3, 8, 8, generator=generator)
    ours = nn.functional.conv2d(picture, folded["conv.weight"], folded["conv.bias"])
    with torch.no_grad():
        assert torch.allclose(ours, torch_conv(picture), atol=1e-5)


def test_half_precision_applies_only_to_the_large_networks(toy_folder: Path) -> None:
    networks = load_networks(toy_folder, release.TOY, dtype=torch.bfloat16)
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(6))
    feature, info = networks.extract_appearance(picture), networks.extract_motion(picture)
    assert feature.dtype == networks.dtype == torch.bfloat16
    assert info.exp.dtype == info.angles_deg.dtype == torch.float32
    warped = networks.warp(networks.prepare_warp(feature, info.canonical_kp), info.canonical_kp)
    assert warped.deformation.dtype == torch.float32
    assert networks.decode(warped.features).dtype == torch.bfloat16


def test_a_missing_file_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match=r"appearance.*vortex weights fetch liveportrait"):
        load_networks(tmp_path, release.TOY)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = release.write_release(tmp_path, release.TOY) / FILES["motion"]
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(WeightsCorruptError, match=r"motion_extractor\.pth cannot be read"):
        load_networks(tmp_path, release.TOY)


class MaliciousPickle:
    """Creates a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("touched"),))


def test_code_in_a_file_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(
        {"weight": MaliciousPickle()}, release.write_release(tmp_path, release.TOY) / FILES["appearance"]
    )
    with pytest.raises(WeightsCorruptError, match="cannot be read"):
        load_networks(tmp_path, release.TOY)
    assert not Path("touched").exists()


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("warping", lambda s: s.pop("fourth.weight"), r"fourth\.weight"),
        ("warping", lambda s: s.update({"stranger": torch.zeros(1)}), "stranger"),
        ("appearance", lambda s: s.update({"second.bias": torch.zeros(3)}), r"second\.bias"),
        ("motion", lambda s: s.update({"detector.fc_t.bias": "three"}), "is a str; a tensor"),
        ("generator", lambda s: s.pop("up_0.conv_0.weight_u"), r"up_0\.conv_0.*lacks"),
        ("retargeting", lambda s: s.pop("retarget_eye"), "has no part 'retarget_eye'"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path, name: str, damage: Callable[[release.State], object], message: str
) -> None:
    state = release.STATES[name](release.TOY)
    damage(state)
    torch.save(state, release.write_release(tmp_path, release.TOY) / FILES[name])
    with pytest.raises(WeightsCorruptError, match=message):
        load_networks(tmp_path, release.TOY)
