"""The keypoint equation, signs and ratios; what is left to the networks for eyes and lips."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from support import liveportrait_release as release

from vortex.engines.liveportrait.keypoints import (
    SourceFace,
    drive_expression,
    driven_keypoints,
    eye_ratios,
    lip_ratio,
    measure_source,
    rotation_matrix,
    transform_keypoints,
)
from vortex.engines.liveportrait.networks import KeypointInfo, Networks
from vortex.motion.drive import expand
from vortex.motion.keypoints import keypoint_expression
from vortex.types import MotionTrack


@pytest.mark.parametrize(
    ("angles_deg", "point", "expected"),
    [
        # x is right, y down, z away from the viewer: the nose points to -z.
        ((90, 0, 0), (0, 0, -1), (0, 1, 0)),  # pitch > 0 looks down
        ((0, 90, 0), (0, 0, -1), (-1, 0, 0)),  # yaw > 0 turns to the viewer's left
        ((0, 0, 90), (0, -1, 0), (1, 0, 0)),  # roll > 0 tilts the crown clockwise
    ],
)
def test_signs_of_the_head_angles(
    angles_deg: tuple[float, ...], point: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    turned = torch.tensor([point], dtype=torch.float32) @ rotation_matrix(
        torch.tensor([angles_deg], dtype=torch.float32)
    )
    assert torch.allclose(turned[0], torch.tensor([expected], dtype=torch.float32), atol=1e-6)


def test_keypoint_equation_by_hand() -> None:
    """A quarter turn to the viewer's left, calculated by hand."""
    x = transform_keypoints(
        torch.tensor([[[1.0, 2.0, 3.0]]]),
        torch.tensor([[[0.1, 0.2, 0.3]]]),
        torch.tensor([[2.0]]),
        torch.tensor([[10.0, 20.0, 99.0]]),
        torch.tensor([[0.0, 90.0, 0.0]]),
    )
    # x_c R = (z, y, -x) = (3, 2, -1); then exp is added, the sum doubled and shifted; tz is dropped.
    assert torch.allclose(x, torch.tensor([[[16.2, 24.4, -1.4]]]), atol=1e-5)


def test_ratios_are_height_over_width() -> None:
    points = np.zeros((478, 3), np.float32)
    points[[386, 374, 362, 263], :2] = (0, 0), (0, 3), (-5, 0), (5, 0)
    points[[159, 145, 33, 133], :2] = (0, 0), (0, 1), (-5, 0), (5, 0)
    points[[13, 14, 61, 291], :2] = (0, 0), (0, 4), (-10, 0), (10, 0)
    # The eye on the left of the picture first, as the released motion templates have them.
    assert eye_ratios(points) == pytest.approx((0.1, 0.3))
    assert lip_ratio(points) == pytest.approx(0.2)


CPU = torch.device("cpu")
Y = 1


def motion(*shapes: dict[str, float], pose_deg: tuple[float, float, float] = (0, 0, 0)) -> MotionTrack:
    rows = np.stack([expand(row) for row in shapes])
    return MotionTrack(rows, np.tile(np.float32(pose_deg), (len(rows), 1)), Fraction(24))


@pytest.fixture(scope="module")
def info(networks: Networks) -> KeypointInfo:
    return networks.extract_motion(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)))


def unstitched(networks: Networks) -> Networks:
    """Return the networks with a stitching that changes nothing."""
    still = Networks(release.TOY)
    still.load_state_dict(networks.state_dict(), strict=False)
    still.stitching.mlp[-1].weight.zero_()
    still.stitching.mlp[-1].bias.zero_()
    return still


def test_no_motion_is_no_change() -> None:
    track = drive_expression(motion({}), CPU)
    assert not track.exp.any() and not track.angles_deg.any() and not track.blink.any()


def test_what_drives_is_what_the_extractor_says_of_a_motion() -> None:
    talking = motion({"jawOpen": 0.5, "mouthSmile": 0.2}, {"browInnerUp": 0.4, "eyeLookLeft": 0.3})
    assert np.array_equal(drive_expression(talking, CPU).exp.numpy(), keypoint_expression(talking))


def test_lids_that_fall_together_are_left_to_the_eye_network() -> None:
    rows = {"eyeBlink": 0.8}, {"eyeBlinkLeft": 0.9, "eyeBlinkRight": 0.3}, {"eyeBlink": -0.5}
    track = drive_expression(motion(*rows), CPU)
    assert not track.exp[0].any() and track.blink.ravel().tolist() == pytest.approx([0.8, 0.3, 0])
    # The rest of a wink, and eyes wider open than the source's, are moves of keypoints.
    rest = keypoint_expression(motion({"eyeBlinkLeft": 0.6}))[0]
    np.testing.assert_allclose(track.exp[1].numpy(), rest, atol=1e-6)
    assert track.exp[1, 15, Y] > 3 * abs(track.exp[1, 11, Y])
    assert track.exp[2, [11, 15], Y].max() < 0


def test_yaw_has_the_other_sign_in_the_network() -> None:
    angles_deg = drive_expression(motion({}, pose_deg=(3, 4, 5)), CPU).angles_deg
    assert angles_deg.tolist() == [[3, -4, 5]]


def test_no_motion_returns_the_source(networks: Networks, info: KeypointInfo) -> None:
    still = unstitched(networks)
    source = measure_source(still, info, (0.3, 0.3), 0.0)
    driven = driven_keypoints(still, source, drive_expression(motion({}), CPU), slice(0, 1))
    assert torch.allclose(driven, source.x_s, atol=1e-6)


def test_a_blink_is_the_eye_networks_result(networks: Networks, info: KeypointInfo) -> None:
    still = unstitched(networks)
    source = measure_source(still, info, (0.31, 0.27), 0.0)
    expected = networks.retarget_eyes(source.x_s, torch.tensor([[0.31, 0.27, 0.0]]))
    assert torch.equal(source.shut_eyes, expected)
    track = drive_expression(motion({}, {"eyeBlink": 0.5}, {"eyeBlink": 1.0}), CPU)
    driven = driven_keypoints(still, source, track, slice(0, 3))
    assert torch.allclose(driven[1] - driven[0], 0.5 * expected[0], atol=1e-6)
    assert torch.allclose(driven[2] - driven[0], expected[0], atol=1e-6)


def test_only_an_open_mouth_is_closed_first(networks: Networks, info: KeypointInfo) -> None:
    assert not measure_source(networks, info, (0.3, 0.3), 0.029).shut_lips.any()
    source = measure_source(networks, info, (0.3, 0.3), 0.12)
    assert torch.equal(source.shut_lips, networks.retarget_lips(source.x_s, torch.tensor([[0.12, 0.0]])))
    assert source.shut_lips.any() and not source.meet_lips.any()


def test_lips_that_meet_are_the_lip_networks_result(networks: Networks, info: KeypointInfo) -> None:
    """A mouth that is hardly open stays so, and is shut where the motion shuts it, by as much."""
    still = unstitched(networks)
    source = measure_source(still, info, (0.3, 0.3), 0.02)
    expected = networks.retarget_lips(source.x_s, torch.tensor([[0.02, 0.0]]))
    track = drive_expression(motion({}, {"mouthClose": 0.5}, {"mouthClose": 1.0}), CPU)
    driven = driven_keypoints(still, source, track, slice(0, 3))
    assert torch.allclose(driven[0], source.x_s[0], atol=1e-6)
    assert torch.allclose(driven[1] - driven[0], 0.5 * expected[0], atol=1e-6)
    assert torch.allclose(driven[2] - driven[0], expected[0], atol=1e-6)
    assert expected.any() and not measure_source(still, info, (0.3, 0.3), 0.0).meet_lips.any()


def test_lips_are_closed_after_the_stitching(networks: Networks, info: KeypointInfo) -> None:
    """The stitching would otherwise undo part of it."""
    source = measure_source(networks, info, (0.3, 0.3), 0.12)
    track = drive_expression(motion({"jawOpen": 0.4}), CPU)
    closed = driven_keypoints(networks, source, track, slice(0, 1))
    as_it_is: SourceFace = replace(source, shut_lips=torch.zeros_like(source.shut_lips))
    left_open = driven_keypoints(networks, as_it_is, track, slice(0, 1))
    assert torch.allclose(closed - left_open, source.shut_lips, atol=1e-6)


def test_stitching_comes_after_everything_else(networks: Networks, info: KeypointInfo) -> None:
    source = measure_source(networks, info, (0.3, 0.3), 0.0)
    track = drive_expression(motion({"jawOpen": 0.4, "eyeBlink": 0.7}, pose_deg=(2, 3, 4)), CPU)
    moved = transform_keypoints(
        info.canonical_kp,
        info.exp + track.exp,
        info.scale,
        info.translation,
        info.angles_deg + torch.tensor([[2.0, -3.0, 4.0]]),
    )
    expected = networks.stitch(source.x_s, moved + 0.7 * source.shut_eyes)
    assert torch.allclose(driven_keypoints(networks, source, track, slice(0, 1)), expected, atol=1e-6)
