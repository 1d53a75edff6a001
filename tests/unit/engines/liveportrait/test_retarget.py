"""Keypoints of a driver on a source: the published equations, regions, networks, and their order."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull
from support.tracks import moving_track, turn
from torch import Tensor

from vortex.engines.base import CroppedFace
from vortex.engines.liveportrait.keypoints import SourceFace, measure_source
from vortex.engines.liveportrait.networks import KeypointInfo, Networks
from vortex.engines.liveportrait.renderer import Renderer
from vortex.engines.liveportrait.retarget import (
    EYES,
    LIPS,
    SourceKeypoints,
    closes_lips_first,
    finish_keypoints,
    hull_volume,
    source_keypoints,
    transfer_notes,
    transferred_expression,
    transferred_keypoints,
)
from vortex.errors import InputError
from vortex.motion.transfer import NEUTRAL_EXPRESSION, REGIONS, KeypointMotion, MotionTransfer
from vortex.types import F64, KeypointTrack

REFERENCE = "VORTEX_JOYVASA_REFERENCE"
"""Environment variable: a folder with joyvasa_parity.py and reference.npz, outputs of published code."""


@pytest.fixture
def source() -> SourceKeypoints:
    random = np.random.default_rng(7)
    return SourceKeypoints(
        random.uniform(-0.3, 0.3, (21, 3)),
        random.normal(0, 0.01, (21, 3)),
        turn(4.0, -7.5, 1.5),
        1.42,
        np.array([0.03, -0.05, 0.4]),
    )


def as_track(source: SourceKeypoints) -> KeypointTrack:
    """Return the source's own motion, as a track of one frame."""
    return KeypointTrack(
        source.exp[None], source.rotation[None], [source.scale], source.translation[None], Fraction(25)
    )  # fmt: skip


def kept(source: SourceKeypoints, driven: F64) -> np.ndarray:
    """Return (21,) True for the keypoints that stay at the source's places in all frames."""
    return np.abs(driven - source.placed()).max(axis=(0, 2)) < 1e-7


def test_the_sources_keypoints_follow_the_published_equation(source: SourceKeypoints) -> None:
    expected = 1.42 * (source.canonical @ turn(4.0, -7.5, 1.5) + source.exp) + [0.03, -0.05, 0]
    np.testing.assert_allclose(source.placed(), expected, atol=1e-12)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("motion", ["relative", "absolute"])
def test_a_driver_that_equals_the_source_gives_the_source(
    source: SourceKeypoints, region: str, motion: str
) -> None:
    transfer = MotionTransfer(region, motion)
    driven = transferred_keypoints(source, KeypointMotion(as_track(source), transfer))
    np.testing.assert_allclose(driven[0], source.placed(), atol=1e-6)


def test_a_face_that_drives_its_own_first_frame_moves_as_it_did(source: SourceKeypoints) -> None:
    track = moving_track()
    first = replace(
        source,
        exp=track.exp[0].astype(np.float64),
        rotation=track.rotation[0],
        scale=float(track.scale[0]),
        translation=track.translation[0].astype(np.float64),
    )
    driven = transferred_keypoints(first, KeypointMotion(track))
    seen = track.scale[:, None, None] * (source.canonical @ track.rotation + track.exp)
    seen[..., :2] += track.translation[:, None, :2]
    np.testing.assert_allclose(driven, seen, atol=1e-6)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("scaling", ["expression", "pose"])
def test_a_still_driver_gives_stillness(source: SourceKeypoints, region: str, scaling: str) -> None:
    still = moving_track().rows(np.zeros(4, np.int64))
    driven = transferred_keypoints(source, KeypointMotion(still, MotionTransfer(region, scaling=scaling)))
    np.testing.assert_allclose(driven, np.tile(source.placed(), (4, 1, 1)), atol=1e-7)


def test_relative_motion_is_the_published_one(source: SourceKeypoints) -> None:
    track = moving_track()
    driven = transferred_keypoints(source, KeypointMotion(track))
    for i in range(len(track)):
        rotation = track.rotation[i] @ track.rotation[0].T @ source.rotation
        exp = source.exp + track.exp[i] - track.exp[0]
        scale = source.scale * track.scale[i] / track.scale[0]
        shift = (source.translation + track.translation[i] - track.translation[0]) * [1, 1, 0]
        expected = scale * (source.canonical @ rotation + exp) + shift
        np.testing.assert_allclose(driven[i], expected, atol=2e-7)


def test_relative_motion_starts_from_a_neutral_frame_that_is_given(source: SourceKeypoints) -> None:
    track, rest = moving_track(), moving_track(seed=5).part(0, 1)
    transfer = MotionTransfer(scaling="pose")
    driven = transferred_keypoints(source, KeypointMotion(replace(track, neutral=rest), transfer))
    from_start = transferred_keypoints(source, KeypointMotion(track, transfer))
    expected = source.scale * (source.exp + track.exp - rest.exp)
    first = source.scale * (source.exp + track.exp - track.exp[0])
    # What rotations and scales add does not depend on expressions if all are scaled alike.
    bare = replace(track, exp=np.zeros_like(track.exp), scale=np.ones(6), neutral=None)
    one = transferred_keypoints(source, KeypointMotion(replace(bare, neutral=bare.part(0, 1)), transfer))
    assert one.shape == driven.shape
    unscaled = replace(track, scale=np.ones(6)), replace(rest, scale=np.ones(1))
    driven = transferred_keypoints(
        source,
        KeypointMotion(
            replace(unscaled[0], neutral=unscaled[1]), MotionTransfer("expression", scaling="pose")
        ),
    )
    still = source.placed() - source.scale * source.exp
    np.testing.assert_allclose(driven, still + expected, atol=1e-6)
    assert np.abs(expected - first).max() > 0.01 and np.abs(from_start - one).max() > 0.01


def test_absolute_motion_copies_only_what_is_listed(source: SourceKeypoints) -> None:
    """All of 1, 2, 6, 11 to 20; y of 3 and 4; z of 5 and 8; y and z of 9; nothing of 0, 7 and 10."""
    track = moving_track()
    taken = transferred_expression(source.exp, track, MotionTransfer(motion="absolute"))
    entries = {(k, axis) for k in (1, 2, 6, *range(11, 21)) for axis in range(3)}
    entries |= {(3, 1), (4, 1), (5, 2), (8, 2), (9, 1), (9, 2)}
    for k in range(21):
        for axis in range(3):
            expected = track.exp[:, k, axis] if (k, axis) in entries else source.exp[k, axis]
            assert np.allclose(taken[:, k, axis], expected, atol=1e-8), (k, axis)


def test_in_absolute_motion_the_head_has_the_drivers_pose_and_the_sources_size(
    source: SourceKeypoints,
) -> None:
    track = moving_track()
    driven = transferred_keypoints(source, KeypointMotion(track, MotionTransfer("pose", "absolute")))
    expected = source.scale * (source.canonical @ track.rotation + source.exp)
    expected[..., :2] += track.translation[:, None, :2]
    np.testing.assert_allclose(driven, expected, atol=1e-6)


@pytest.mark.parametrize("motion", ["relative", "absolute"])
@pytest.mark.parametrize(("region", "moved"), [("lips", LIPS), ("eyes", EYES)])
def test_a_region_leaves_all_other_keypoints(
    source: SourceKeypoints, motion: str, region: str, moved: tuple[int, ...]
) -> None:
    driven = transferred_keypoints(source, KeypointMotion(moving_track(), MotionTransfer(region, motion)))
    assert np.flatnonzero(~kept(source, driven)).tolist() == sorted(moved)


def test_an_expression_turns_no_head_and_a_pose_changes_no_expression(source: SourceKeypoints) -> None:
    track = moving_track()
    exp = transferred_expression(source.exp, track, MotionTransfer("pose"))
    np.testing.assert_array_equal(exp, np.tile(source.exp, (6, 1, 1)))
    driven = transferred_keypoints(source, KeypointMotion(track, MotionTransfer("expression")))
    moved = source.scale * (track.exp - track.exp[0])
    np.testing.assert_allclose(driven - source.placed(), moved, atol=1e-7)


def test_the_head_turns_as_the_drivers_does(source: SourceKeypoints) -> None:
    """The turn of the driver, before the source's own rotation, keeps its angle."""
    track = moving_track()
    driven = transferred_keypoints(source, KeypointMotion(track, MotionTransfer("pose")))
    shift = (source.translation + track.translation - track.translation[0]) * [1, 1, 0]
    heads = (driven - shift[:, None]) / source.scale - source.exp
    for i, head in enumerate(heads):
        rotation = np.linalg.lstsq(source.canonical, head, rcond=None)[0]
        turned = rotation @ source.rotation.T
        np.testing.assert_allclose(turned, track.rotation[i] @ track.rotation[0].T, atol=1e-5)


def test_hull_volumes_are_those_of_scipy() -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        points = random.normal(0, 1, (21, 3)) * [1.0, 0.6, 0.3] + [5, -4, 2]
        assert hull_volume(points) == pytest.approx(ConvexHull(points).volume, rel=1e-9)


def test_expression_friendly_scaling_is_that_of_the_convex_hulls(source: SourceKeypoints) -> None:
    rest = replace(moving_track(seed=5).part(0, 1), scale=[1.0])
    track = replace(moving_track(), neutral=rest)
    plain = transferred_keypoints(source, KeypointMotion(track, MotionTransfer(scaling="pose")))
    x_s = source.placed()
    factor = np.sqrt(ConvexHull(x_s).volume / ConvexHull(plain[0]).volume)
    assert abs(factor - 1) > 0.1
    scaled = transferred_keypoints(source, KeypointMotion(track))
    np.testing.assert_allclose(scaled, x_s + factor * (plain - plain[0]), atol=1e-9)


def test_parts_of_a_motion_are_parts_of_its_keypoints(source: SourceKeypoints) -> None:
    motion = KeypointMotion(replace(moving_track(), neutral=moving_track(seed=5).part(0, 1)))
    whole = transferred_keypoints(source, motion)
    for first, frames in ((0, 2), (2, 3), (5, 9), (6, 1)):
        part = transferred_keypoints(source, motion.part(first, frames))
        np.testing.assert_array_equal(part, whole[first : first + frames])


def test_a_single_picture_is_measured_from_a_face_at_rest(source: SourceKeypoints) -> None:
    picture = moving_track().part(0, 1)
    rest = replace(picture, exp=NEUTRAL_EXPRESSION[None], neutral=None)
    motion = KeypointMotion(replace(picture, neutral=rest), MotionTransfer(scaling="pose"))
    expected = source.placed() + source.scale * (picture.exp[0] - NEUTRAL_EXPRESSION)
    np.testing.assert_allclose(transferred_keypoints(source, motion)[0], expected, atol=1e-7)
    # As published: the lower lip of a face at rest is up.
    assert NEUTRAL_EXPRESSION[19, 1] == pytest.approx(-0.01509)


@pytest.fixture
def joyvasa() -> Iterator[tuple[ModuleType, dict[str, np.ndarray]]]:
    """Yield the script and the arrays of a reference that is not part of the project."""
    folder = os.environ.get(REFERENCE)
    if not folder:
        pytest.skip(f"{REFERENCE} does not name the folder with outputs of JoyVASA's published code")
    spec = importlib.util.spec_from_file_location("joyvasa_parity", Path(folder) / "joyvasa_parity.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    with np.load(Path(folder) / "reference.npz") as stored:
        yield script, {key: stored[key].astype(np.float64) for key in stored.files if "wave" not in key}


@pytest.mark.parametrize("region", ["all", "expression", "pose", "lips"])
def test_published_code_hands_over_the_same_keypoints(
    joyvasa: tuple[ModuleType, dict[str, np.ndarray]], region: str
) -> None:
    """JoyVASA takes lips absolutely, but for the region lips, and moves scale and translation always."""
    script, stored = joyvasa
    given = {name: np.asarray(value, np.float64) for name, value in script.make_source().items()}
    angles = np.stack([stored[f"ref/denorm/{name}"][:, 0] for name in ("pitch", "yaw", "roll")], axis=1)
    track = KeypointTrack(
        stored["ref/denorm/exp"],
        np.stack([turn(*row) for row in angles]),
        stored["ref/denorm/scale"][:, 0],
        stored["ref/denorm/t"],
        Fraction(25),
    )
    own = turn(*(float(given[name][0]) for name in ("pitch", "yaw", "roll")))
    source = SourceKeypoints(given["kp"], given["exp"], own, float(given["scale"][0]), given["t"])
    transfer = MotionTransfer(region, scaling="pose", absolute_lips=region in ("all", "expression"))
    driven = transferred_keypoints(source, KeypointMotion(track, transfer))
    scale = source.scale * track.scale / track.scale[0]
    shift = (source.translation + track.translation - track.translation[0]) * [1, 1, 0]
    if region != "all":  # only there, LivePortrait scales, and only with the pose it shifts
        own_shift = shift if region == "pose" else np.tile(source.translation * [1, 1, 0], (len(track), 1))
        driven = (driven - own_shift[:, None]) / source.scale * scale[:, None, None] + shift[:, None]
    name = {"expression": "exp", "lips": "lip"}.get(region, region)
    np.testing.assert_allclose(driven[::8], stored[f"ref/x_d/{name}"], atol=2e-5)


@pytest.fixture(scope="module")
def info(networks: Networks) -> KeypointInfo:
    return networks.extract_motion(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)))


@pytest.fixture
def face(networks: Networks, info: KeypointInfo) -> SourceFace:
    return measure_source(networks, info, (0.31, 0.27), 0.12)


def plain_keypoints(face: SourceFace, motion: KeypointMotion) -> Tensor:
    return torch.from_numpy(transferred_keypoints(source_keypoints(face.info), motion)).float()


def finished(networks: Networks, face: SourceFace, motion: KeypointMotion) -> Tensor:
    return finish_keypoints(networks, face, plain_keypoints(face, motion), motion)


def test_the_source_of_a_picture_is_that_of_the_renderer(face: SourceFace) -> None:
    placed = torch.from_numpy(source_keypoints(face.info).placed()).float()
    assert torch.allclose(placed, face.x_s[0], atol=1e-6)


def test_stitching_comes_first_then_closed_lips_then_the_factor(networks: Networks, face: SourceFace) -> None:
    amount = np.linspace(0, 2, 6, dtype=np.float32)
    motion = KeypointMotion(moving_track(), amount=amount)
    x_d = plain_keypoints(face, motion)
    moved = networks.stitch(face.x_s, x_d) + face.shut_lips
    expected = face.x_s + (moved - face.x_s) * torch.from_numpy(amount)[:, None, None]
    assert face.shut_lips.any()
    assert torch.allclose(finished(networks, face, motion), expected, atol=1e-6)


def test_factor_zero_gives_the_source(networks: Networks, face: SourceFace) -> None:
    motion = KeypointMotion(moving_track(), MotionTransfer(motion="absolute"), np.zeros(6, np.float32))
    assert torch.equal(finished(networks, face, motion), face.x_s.expand(6, -1, -1))


def test_without_stitching_the_keypoints_stay_as_they_are(networks: Networks, face: SourceFace) -> None:
    motion = KeypointMotion(moving_track(), MotionTransfer("pose", stitch=False))
    assert torch.allclose(finished(networks, face, motion), plain_keypoints(face, motion), atol=1e-6)


@pytest.mark.parametrize("motion", ["relative", "absolute"])
def test_eye_and_lip_networks_replace_relative_and_join_absolute_motion(
    networks: Networks, face: SourceFace, motion: str
) -> None:
    track = moving_track()
    transfer = MotionTransfer(motion=motion, eye_retarget=True, lip_retarget=True)
    driven = KeypointMotion(track, transfer)
    x_s = face.x_s.expand(6, -1, -1)
    eyes = np.column_stack([np.full((6, 2), (0.31, 0.27)), track.eye_ratios[:, 0]]).astype(np.float32)
    lips = np.column_stack([np.full(6, 0.12), track.lip_ratio]).astype(np.float32)
    delta = networks.retarget_eyes(x_s, torch.from_numpy(eyes))
    delta = delta + networks.retarget_lips(x_s, torch.from_numpy(lips))
    start = x_s if motion == "relative" else plain_keypoints(face, driven)
    expected = networks.stitch(face.x_s, start + delta)
    assert torch.allclose(finished(networks, face, driven), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("transfer", "closes"),
    [
        (MotionTransfer(), True),
        (MotionTransfer("lips"), True),
        (MotionTransfer("pose"), False),
        (MotionTransfer("eyes"), False),
        (MotionTransfer(motion="absolute"), False),
        (MotionTransfer(lip_retarget=True), False),
        (MotionTransfer(absolute_lips=True), True),
        (MotionTransfer(absolute_lips=True, scaling="pose"), False),
    ],
)
def test_an_open_mouth_is_closed_first_where_lips_move_by_changes(
    transfer: MotionTransfer, closes: bool
) -> None:
    track = moving_track()
    assert closes_lips_first(KeypointMotion(track, transfer)) is closes
    # A driver that starts with open lips opens the source's no further.
    speaking = replace(track, lip_ratio=np.full(6, 0.15))
    assert not closes_lips_first(KeypointMotion(speaking, transfer))
    unknown = KeypointMotion(replace(track, lip_ratio=None), replace(transfer, lip_retarget=False))
    assert closes_lips_first(unknown) is (closes or transfer.lip_retarget)


def test_notes_tell_what_a_user_may_not_expect() -> None:
    track = moving_track()
    assert transfer_notes(KeypointMotion(track)) == ()
    speaking = replace(track, lip_ratio=np.full(6, 0.15))
    assert "starts with open lips" in transfer_notes(KeypointMotion(speaking))[0]
    assert "eyes and lips only" in transfer_notes(KeypointMotion(track, MotionTransfer(eye_retarget=True)))[0]
    assert transfer_notes(KeypointMotion(track, MotionTransfer(motion="absolute", eye_retarget=True))) == ()


@pytest.mark.parametrize("name", ["eye_retarget", "lip_retarget"])
def test_networks_need_to_know_how_far_the_drivers_face_is_open(name: str) -> None:
    unknown = replace(moving_track(), eye_ratios=None, lip_ratio=None)
    with pytest.raises(InputError, match=f"{name} needs the opening of the driver's {name[:3]}s"):
        KeypointMotion(unknown, MotionTransfer(**{name: True}))  # type: ignore[arg-type]


@pytest.mark.usefixtures("one_thread")
def test_captured_keypoints_are_those_of_the_extractor(networks: Networks) -> None:
    renderer = Renderer(networks, torch.device("cpu"))
    random = np.random.default_rng(2)
    crops = [random.integers(0, 256, (512, 512, 3), np.uint8) for _ in range(10)]
    points = np.zeros((478, 3), np.float32)
    points[[159, 145, 33, 133], :2] = (0, 0), (0, 1), (-5, 0), (5, 0)
    points[[386, 374, 362, 263], :2] = (0, 0), (0, 3), (-5, 0), (5, 0)
    points[[13, 14, 61, 291], :2] = (0, 0), (0, 2), (-10, 0), (10, 0)
    track = renderer.capture((CroppedFace(crop, points) for crop in crops), Fraction(30))
    assert (len(track), track.fps) == (10, 30)
    side = networks.sizes.input_px
    for i, crop in enumerate(crops):
        # The mean of whole blocks of pixels, rounded as OpenCV does.
        blocks = crop.reshape(side, 512 // side, side, 512 // side, 3).mean(axis=(1, 3))
        small = torch.from_numpy(np.floor(blocks + 0.5)).permute(2, 0, 1)[None].float() / 255
        info = networks.extract_motion(small)
        np.testing.assert_allclose(track.exp[i], info.exp[0], atol=2e-3)
        expected = turn(*info.angles_deg[0].tolist())
        np.testing.assert_allclose(track.rotation[i], expected, atol=2e-3)
        assert track.scale[i] == pytest.approx(float(info.scale[0, 0]), abs=2e-3)
        np.testing.assert_allclose(track.translation[i], info.translation[0], atol=2e-3)
    np.testing.assert_allclose(track.eye_ratios, np.tile([0.1, 0.3], (10, 1)), atol=1e-5)
    np.testing.assert_allclose(track.lip_ratio, 0.1, atol=1e-5)
    assert len(renderer.capture(iter([]), Fraction(30))) == 0
