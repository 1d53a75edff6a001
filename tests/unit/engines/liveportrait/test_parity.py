"""Our networks match stored outputs of the published ones; see tests/data/liveportrait."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from support import liveportrait_release as release
from support.paths import DATA
from torch import Tensor

from vortex.engines.liveportrait.keypoints import transform_keypoints
from vortex.engines.liveportrait.load import rewrite_networks
from vortex.engines.liveportrait.networks import KeypointInfo, Networks, load_networks

REFERENCE = DATA / "liveportrait" / "reference.npz"
TOLERANCE = 5e-5
"""Relative L2 distance; a correct float32 implementation lands near 1e-6."""
Reference = dict[str, Tensor]


@pytest.fixture(scope="module")
def reference() -> Reference:
    with np.load(REFERENCE) as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored.files}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Networks]:
    folder = release.write_release(tmp_path_factory.mktemp("release"))
    yield rewrite_networks(load_networks(folder))
    for path in folder.rglob("*.pth"):
        path.unlink()


def assert_near(got: Tensor, expected: Tensor) -> None:
    assert got.shape == expected.shape
    error = torch.linalg.vector_norm(got - expected) / torch.linalg.vector_norm(expected)
    assert float(error) < TOLERANCE


def picture(reference: Reference) -> Tensor:
    return reference["source"].permute(2, 0, 1)[None] / 255


def test_appearance(networks: Networks, reference: Reference) -> None:
    volume = networks.extract_appearance(picture(reference))
    assert volume.shape == (1, 32, 16, 64, 64)
    assert_near(volume[:, ::4, ::4, 1::10, 2::10], reference["f_s"])


def test_motion_and_source_keypoints(networks: Networks, reference: Reference) -> None:
    info = networks.extract_motion(picture(reference))
    assert_near(info.canonical_kp, reference["kp.kp"])
    assert_near(info.exp, reference["kp.exp"])
    assert_near(info.scale, reference["kp.scale"])
    assert_near(info.translation, reference["kp.t"])
    angles_deg = torch.cat([reference[f"kp.{name}"] for name in ("pitch", "yaw", "roll")], dim=1)
    assert torch.allclose(info.angles_deg, angles_deg, atol=5e-3, rtol=0)
    x_s = transform_keypoints(info.canonical_kp, info.exp, info.scale, info.translation, info.angles_deg)
    assert_near(x_s, reference["x_s"])


def test_driven_and_stitched_keypoints(networks: Networks, reference: Reference) -> None:
    source = stored_info(reference)
    x_d = transform_keypoints(
        source.canonical_kp,
        source.exp + reference["edit.dexp"],
        source.scale * reference["edit.dscale"],
        source.translation + reference["edit.dt"],
        source.angles_deg + reference["edit.dpose"].view(1, 3),
    )
    assert_near(x_d, reference["x_d"])
    assert_near(networks.stitch(reference["x_s"], x_d), reference["x_d_stitched"])


def stored_info(reference: Reference) -> KeypointInfo:
    angles_deg = torch.cat([reference[f"kp.{name}"] for name in ("pitch", "yaw", "roll")], dim=1)
    kp, exp, scale, shift = (reference[f"kp.{name}"] for name in ("kp", "exp", "scale", "t"))
    return KeypointInfo(kp, exp, scale, shift, angles_deg)


def test_retargeting(networks: Networks, reference: Reference) -> None:
    x_s = reference["x_s"]
    assert_near(networks.retarget_eyes(x_s, reference["eye_ratios"]), reference["retarget_eye"])
    assert_near(networks.retarget_lips(x_s, reference["lip_ratios"]), reference["retarget_lip"])


@pytest.mark.slow
def test_warped_and_decoded_frame(networks: Networks, reference: Reference) -> None:
    volume = networks.extract_appearance(picture(reference))
    source = networks.prepare_warp(volume, reference["x_s"])
    warped = networks.warp(source, reference["x_d_stitched"])
    assert_near(warped.deformation[:, ::4, ::8, 1::8], reference["deformation"])
    assert_near(warped.occlusion[:, :, ::2, ::2], reference["occlusion"])
    assert_near(warped.features[:, ::18, ::8, 1::8], reference["warped"])
    frame = networks.decode(warped.features)
    assert frame.shape == (1, 3, 512, 512)
    assert_near(frame[:, :, ::9, 1::9], reference["image"])
