"""Blendshapes to LivePortrait: the published slider table, closures that close, signs, order of the steps."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import liveportrait_release as release
import numpy as np
import pytest
import torch

from vortex.engines.liveportrait.keypoints import transform_keypoints
from vortex.engines.liveportrait.networks import KeypointInfo, Networks, load_networks
from vortex.engines.liveportrait.retarget import (
    MOUTH,
    MOUTH_LIMITS,
    UPPER_FACE,
    SourceFace,
    drive_expression,
    driven_keypoints,
    expression_directions,
    expression_parameters,
    measure_source,
)
from vortex.motion.blendshapes import VISEME_BLENDSHAPES, expand
from vortex.types import BLENDSHAPES, VISEMES, MotionTrack

CPU = torch.device("cpu")
X, Y, Z = range(3)


def motion(*shapes: dict[str, float], pose_deg: tuple[float, float, float] = (0, 0, 0)) -> MotionTrack:
    rows = np.stack([expand(row) for row in shapes])
    return MotionTrack(rows, np.tile(np.float32(pose_deg), (len(rows), 1)), Fraction(24))


def expression(**shapes: float) -> np.ndarray:
    """Return (21, 3): what the shapes add to the expression."""
    return drive_expression(motion(shapes), 21, CPU).exp[0].numpy()


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    return load_networks(release.write_release(tmp_path_factory.mktemp("toy"), release.TOY), release.TOY)


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


# ---------------------------------------- sliders


@pytest.mark.parametrize(
    ("sliders", "name", "value", "changes"),
    [
        # as the published editors state them
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
        # gaze up by v, and the lids by -v / 2
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
    sliders: dict, name: str, value: float, changes: dict[tuple[int, int], float]
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
    parameters = expression_parameters(MotionTrack(VISEME_BLENDSHAPES, np.zeros((15, 3)), Fraction(24)))
    assert parameters.shape == (15, 4) and parameters.dtype == np.float32
    opening = dict(zip(VISEMES, parameters[:, 0], strict=True))
    # wide vowels over narrow ones over consonants; lips touch in silence and press in P, B, M
    assert opening["aa"] > opening["E"] > opening["ih"] > opening["SS"] > opening["FF"] > opening["sil"]
    assert opening["sil"] == 0 and opening["PP"] < -15
    purse = dict(zip(VISEMES, parameters[:, 2], strict=True))
    assert max(purse, key=lambda name: purse[name]) == "ou"


def test_a_closure_closes_whatever_the_jaw_does() -> None:
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
    # the person's left is the viewer's right, where x grows
    assert expression(eyeLookLeft=1)[[11, 15], X].min() > 0
    assert expression(eyeLookRight=1)[[11, 15], X].max() < 0
    assert expression(eyeLookUp=1)[[11, 15], Y].max() < 0
    assert expression(eyeLookDown=1)[[11, 15], Y].min() > 0


def test_brows_and_lids_move_the_right_way() -> None:
    assert expression(browInnerUp=1)[1, Y] > 0 > expression(browDown=1)[1, Y]
    assert expression(eyeWide=1)[11, Y] < 0 < expression(eyeSquint=1)[11, Y]


def test_yaw_changes_its_sign_on_the_way_to_the_network() -> None:
    angles_deg = drive_expression(motion({}, pose_deg=(3, 4, 5)), 21, CPU).angles_deg
    assert angles_deg.tolist() == [[3, -4, 5]]


# ---------------------------------------- keypoints


def test_no_motion_gives_the_source_back(networks: Networks, info: KeypointInfo) -> None:
    still = unstitched(networks)
    source = measure_source(still, info, (0.3, 0.3), 0.0)
    driven = driven_keypoints(still, source, drive_expression(motion({}), 21, CPU), slice(0, 1))
    assert torch.allclose(driven, source.x_s, atol=1e-6)


def test_a_blink_is_what_the_eye_network_says(networks: Networks, info: KeypointInfo) -> None:
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
    """The stitching must not see the closing, or it would undo part of it."""
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
