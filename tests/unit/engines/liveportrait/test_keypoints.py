"""The keypoint equation, signs and ratios; blendshapes drive the published sliders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from support import liveportrait_release as release

from vortex.engines.liveportrait.keypoints import (
    MOUTH,
    MOUTH_LIMITS,
    UPPER_FACE,
    Direction,
    SourceFace,
    drive_expression,
    driven_keypoints,
    expression_directions,
    expression_parameters,
    eye_ratios,
    lip_ratio,
    measure_source,
    rotation_matrix,
    transform_keypoints,
)
from vortex.engines.liveportrait.networks import KeypointInfo, Networks
from vortex.motion.drive import VISEME_BLENDSHAPES, expand
from vortex.types import BLENDSHAPES, F32, MotionTrack
from vortex.visemes import VISEMES


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
X, Y, Z = range(3)


def motion(*shapes: dict[str, float], pose_deg: tuple[float, float, float] = (0, 0, 0)) -> MotionTrack:
    rows = np.stack([expand(row) for row in shapes])
    return MotionTrack(rows, np.tile(np.float32(pose_deg), (len(rows), 1)), Fraction(24))


def expression(**shapes: float) -> F32:
    """Return (21, 3), what the shapes add to the expression."""
    return drive_expression(motion(shapes), 21, CPU).exp[0].numpy()


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


@pytest.mark.parametrize(
    ("sliders", "name", "value", "changes"),
    [
        # As in the published editors.
        (MOUTH, "open", 60, {(19, Y): 0.06, (19, Z): 0.006, (17, Y): -0.006}),
        (MOUTH, "grin", 15, {(20, Z): -0.015, (20, Y): -0.015, (14, Y): -0.015}),
        (MOUTH, "purse", 10, {(14, Y): 0.01, (3, Y): -0.005, (7, Y): -0.005, (17, Z): -0.005}),
        (
            MOUTH,
            "smile",
            1,
            {
                (20, Y): -0.01, (14, Y): -0.02, (17, Y): 0.0065, (17, Z): 0.003,
                (13, Y): -0.00275, (16, Y): -0.00275, (3, Y): -0.0035, (7, Y): -0.0035,
            },
        ),
        (
            UPPER_FACE,
            "lids",
            -20,
            {(11, Y): 0.02, (13, Y): -0.006, (15, Y): 0.02, (16, Y): -0.006, (1, Y): 0.005, (2, Y): -0.005},
        ),
        (UPPER_FACE, "brows_up", 10, {(1, Y): 0.01, (2, Y): -0.01}),
        (UPPER_FACE, "brows_down", 10, {(1, X): 0.01, (2, X): -0.01, (1, Y): -0.003, (2, Y): 0.003}),
        (UPPER_FACE, "gaze_right", 10, {(11, X): 0.007, (15, X): 0.01}),
        (UPPER_FACE, "gaze_left", 10, {(11, X): -0.01, (15, X): -0.007}),
        # Gaze up by v, and the lids by -v / 2.
        (
            UPPER_FACE,
            "gaze_up",
            10,
            {
                (11, Y): -0.005, (15, Y): -0.005, (13, Y): -0.0015, (16, Y): -0.0015,
                (1, Y): 0.00125, (2, Y): -0.00125,
            },
        ),
    ],
)  # fmt: skip
def test_published_slider(
    sliders: Mapping[str, Direction], name: str, value: float, changes: dict[tuple[int, int], float]
) -> None:
    direction = expression_directions(sliders, 21)[list(sliders).index(name)] * value
    expected = np.zeros((21, 3))
    for place, change in changes.items():
        expected[place] = change
    assert np.allclose(direction, expected, atol=1e-7)


def test_no_motion_is_no_change() -> None:
    track = drive_expression(motion({}), 21, CPU)
    assert not track.exp.any() and not track.angles_deg.any() and not track.blink.any()


def test_parameters_are_one_row_of_four_for_each_frame() -> None:
    motion = MotionTrack(VISEME_BLENDSHAPES, np.zeros((len(VISEMES), 3)), Fraction(24))
    parameters = expression_parameters(motion)
    assert parameters.shape == (len(VISEMES), 4) and parameters.dtype == np.float32
    opening = dict(zip(VISEMES, parameters[:, 0], strict=True))
    # Open vowels, then close ones, then consonants; lips touch in silence and press in P, B, M.
    assert opening["aa"] > opening["E"] > opening["ih"] > opening["SS"] > opening["FF"] > opening["sil"]
    assert opening["sil"] == 0 and opening["PP"] < -15
    purse = dict(zip(VISEMES, parameters[:, 2], strict=True))
    assert max(purse, key=lambda name: purse[name]) == "ou"


def test_a_closure_closes_the_lips_for_any_jaw() -> None:
    for jaw in (0.0, 0.5, 1.0):
        shapes = {"jawOpen": jaw, "mouthLowerDown": jaw, "mouthClose": 1.0}
        assert expression_parameters(motion(shapes))[0, 0] <= 0
    assert expression(jawOpen=0.5)[19, Y] > 0.05


def test_parameters_stay_within_the_published_ranges() -> None:
    everything = MotionTrack(
        np.random.default_rng(1).uniform(0, 1, (500, len(BLENDSHAPES))), np.zeros((500, 3)), Fraction(24)
    )
    low, high = np.array(list(MOUTH_LIMITS.values())).T
    parameters = expression_parameters(everything)
    assert (parameters >= low).all() and (parameters <= high).all()


def test_gaze_follows_the_persons_left_and_right() -> None:
    # The person's left is the viewer's right, the direction of x.
    assert expression(eyeLookLeft=1)[[11, 15], X].min() > 0
    assert expression(eyeLookRight=1)[[11, 15], X].max() < 0
    assert expression(eyeLookUp=1)[[11, 15], Y].max() < 0
    assert expression(eyeLookDown=1)[[11, 15], Y].min() > 0


def test_brows_and_lids_move_the_right_way() -> None:
    assert expression(browInnerUp=1)[1, Y] > 0 > expression(browDown=1)[1, Y]
    assert expression(eyeWide=1)[11, Y] < 0 < expression(eyeSquint=1)[11, Y]


def test_yaw_has_the_other_sign_in_the_network() -> None:
    angles_deg = drive_expression(motion({}, pose_deg=(3, 4, 5)), 21, CPU).angles_deg
    assert angles_deg.tolist() == [[3, -4, 5]]


def test_no_motion_returns_the_source(networks: Networks, info: KeypointInfo) -> None:
    still = unstitched(networks)
    source = measure_source(still, info, (0.3, 0.3), 0.0)
    driven = driven_keypoints(still, source, drive_expression(motion({}), 21, CPU), slice(0, 1))
    assert torch.allclose(driven, source.x_s, atol=1e-6)


def test_a_blink_is_the_eye_networks_result(networks: Networks, info: KeypointInfo) -> None:
    still = unstitched(networks)
    source = measure_source(still, info, (0.31, 0.27), 0.0)
    expected = networks.retarget_eyes(source.x_s, torch.tensor([[0.31, 0.27, 0.0]]))
    assert torch.equal(source.shut_eyes, expected)
    track = drive_expression(motion({}, {"eyeBlink": 0.5}, {"eyeBlink": 1.0}), 21, CPU)
    driven = driven_keypoints(still, source, track, slice(0, 3))
    assert torch.allclose(driven[1] - driven[0], 0.5 * expected[0], atol=1e-6)
    assert torch.allclose(driven[2] - driven[0], expected[0], atol=1e-6)


def test_only_an_open_mouth_is_closed_first(networks: Networks, info: KeypointInfo) -> None:
    assert not measure_source(networks, info, (0.3, 0.3), 0.029).shut_lips.any()
    source = measure_source(networks, info, (0.3, 0.3), 0.12)
    assert torch.equal(source.shut_lips, networks.retarget_lips(source.x_s, torch.tensor([[0.12, 0.0]])))
    assert source.shut_lips.any()


def test_lips_are_closed_after_the_stitching(networks: Networks, info: KeypointInfo) -> None:
    """The stitching would otherwise undo part of it."""
    source = measure_source(networks, info, (0.3, 0.3), 0.12)
    track = drive_expression(motion({"jawOpen": 0.4}), 21, CPU)
    closed = driven_keypoints(networks, source, track, slice(0, 1))
    as_it_is: SourceFace = replace(source, shut_lips=torch.zeros_like(source.shut_lips))
    left_open = driven_keypoints(networks, as_it_is, track, slice(0, 1))
    assert torch.allclose(closed - left_open, source.shut_lips, atol=1e-6)


def test_stitching_comes_after_everything_else(networks: Networks, info: KeypointInfo) -> None:
    source = measure_source(networks, info, (0.3, 0.3), 0.0)
    track = drive_expression(motion({"jawOpen": 0.4, "eyeBlink": 0.7}, pose_deg=(2, 3, 4)), 21, CPU)
    moved = transform_keypoints(
        info.canonical_kp,
        info.exp + track.exp,
        info.scale,
        info.translation,
        info.angles_deg + torch.tensor([[2.0, -3.0, 4.0]]),
    )
    expected = networks.stitch(source.x_s, moved + 0.7 * source.shut_eyes)
    assert torch.allclose(driven_keypoints(networks, source, track, slice(0, 1)), expected, atol=1e-6)
