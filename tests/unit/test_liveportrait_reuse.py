"""Frame reuse: the bound holds, nothing jumps, the warp moves what it should, full quality is untouched."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import liveportrait_release as release
import numpy as np
import pytest
import torch
from torch import Tensor

from vortex.demo import demo_portrait
from vortex.engines.base import load_engine
from vortex.engines.liveportrait import LivePortraitEngine, renderer
from vortex.engines.liveportrait.networks import Networks, load_networks
from vortex.engines.liveportrait.renderer import PreparedFace, Renderer
from vortex.engines.liveportrait.reuse import FIELD_PX, HEAD_ALLOWANCE, REACH, displacement, plan_reuse
from vortex.errors import InputError
from vortex.motion.blendshapes import expand
from vortex.portrait import load_portrait
from vortex.types import MotionTrack, Portrait

CPU = torch.device("cpu")
EPS = 0.01


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    return load_networks(release.write_release(tmp_path_factory.mktemp("toy"), release.TOY), release.TOY)


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return load_portrait(demo_portrait())


def walk(frames: int, step: float, seed: int) -> np.ndarray:
    """(T, 21, 3): keypoints that wander."""
    steps = np.random.default_rng(seed).normal(0, step, (frames, 21, 3))
    return np.cumsum(steps, axis=0).astype(np.float32)


def swing(frames: int, cycles: float, yaw_deg: float = 0.0) -> MotionTrack:
    """A mouth that opens and shuts, over a head that turns once to the side."""
    phase = np.linspace(0, 2 * np.pi * cycles, frames)
    rows = np.stack([expand({"jawOpen": 0.3 - 0.3 * np.cos(at)}) for at in phase])
    pose = np.zeros((frames, 3), np.float32)
    pose[:, 1] = yaw_deg * np.sin(phase / cycles / 2)
    return MotionTrack(rows, pose, Fraction(24))


# ---------------------------------------- plan


def test_every_frame_has_a_key_frame_within_the_bound() -> None:
    upright = walk(300, 0.002, 1)
    driven = upright + walk(300, 0.004, 2)
    plan = plan_reuse(upright, driven, EPS)
    assert plan.distance_max <= EPS
    assert 0.02 < plan.share_rendered < 1
    for frame, (keys, weights) in enumerate(plan.shares):
        assert weights.sum() == pytest.approx(1, abs=1e-5) and (weights > 0).all()
        chosen = plan.keys[keys]
        face = np.linalg.norm(upright[chosen] - upright[frame], axis=-1).max(axis=1)
        head = (driven - upright)[..., :2]
        head_px = np.linalg.norm(head[chosen] - head[frame], axis=-1).max(axis=1)
        apart = np.maximum(face, head_px / HEAD_ALLOWANCE)
        assert apart.min() <= EPS * (1 + 1e-5) and apart.max() <= REACH * EPS * (1 + 1e-5)


def test_key_frames_are_what_they_are() -> None:
    still = walk(100, 0.003, 3)
    plan = plan_reuse(still, still, EPS)
    for number, frame in enumerate(plan.keys):
        keys, weights = plan.shares[frame]
        assert weights[keys == number] == pytest.approx(1, abs=1e-4)


def test_a_motion_that_repeats_is_rendered_once() -> None:
    once = walk(50, 0.004, 4)
    assert len(plan_reuse(np.tile(once, (6, 1, 1)), np.tile(once, (6, 1, 1)), EPS).keys) == len(
        plan_reuse(once, once, EPS).keys
    )


def test_a_still_face_is_rendered_once() -> None:
    still = np.repeat(walk(1, 0.1, 5), 40, axis=0)
    assert plan_reuse(still, still, EPS).keys.tolist() == [0]


def test_weights_do_not_jump() -> None:
    """On a path walked in ever smaller steps, weights change ever less, also where keys come and go."""
    way = walk(40, 0.004, 6)
    largest = []
    for refine in (8, 64):
        at = np.linspace(0, 39, 39 * refine + 1)
        fine = np.stack([np.interp(at, np.arange(40), column) for column in way.reshape(40, -1).T], axis=1)
        fine = fine.reshape(-1, 21, 3).astype(np.float32)
        # the key frames of the coarse path, met in the first frames
        path = np.concatenate([way, fine])
        plan = plan_reuse(path, path, EPS)
        dense = np.zeros((len(fine), len(plan.keys)))
        for row, (keys, weights) in zip(dense, plan.shares[40:], strict=True):
            row[keys] = weights
        largest.append(np.abs(np.diff(dense, axis=0)).max())
    assert largest[1] < largest[0] / 3


# ---------------------------------------- warp


def keypoints(seed: int) -> Tensor:
    return torch.rand(21, 3, generator=torch.Generator().manual_seed(seed)) - 0.5


def at(field: Tensor, x: float, y: float) -> Tensor:
    """The field (1, 2, n, n) at a place in [-1, 1]."""
    grid = torch.tensor([[[[x, y]]]])
    return torch.nn.functional.grid_sample(field, grid, align_corners=False).flatten()


def test_nothing_moves_if_the_keypoints_do_not() -> None:
    x = keypoints(1)
    assert displacement(x[None], x).abs().max() < 1e-6


def test_a_head_that_moves_as_a_whole_carries_the_middle_and_not_the_edge() -> None:
    x = keypoints(2)
    shift = torch.tensor([0.03, -0.02, 0.5])
    field = displacement(x[None], x + shift)
    assert field.shape == (1, 2, FIELD_PX, FIELD_PX)
    assert torch.allclose(at(field, 0.1, -0.1), shift[:2], atol=2e-3)
    edge = torch.cat([field[0, :, 0], field[0, :, -1], field[0, :, :, 0], field[0, :, :, -1]], dim=1)
    assert edge.abs().max() < 2e-4


def test_a_turned_head_turns_the_field() -> None:
    angle = torch.tensor(np.deg2rad(4.0), dtype=torch.float32)
    turn = torch.tensor([[torch.cos(angle), torch.sin(angle)], [-torch.sin(angle), torch.cos(angle)]])
    x = keypoints(3)
    turned = torch.cat([x[:, :2] @ turn, x[:, 2:]], dim=1)
    field = displacement(x[None], turned)
    for place in (torch.tensor([0.3, 0.2]), torch.tensor([-0.2, 0.4])):
        # what is here now was at the place turned back
        expected = place - place @ turn.T
        assert torch.allclose(at(field, *place.tolist()), expected, atol=2e-3)


def test_nothing_moves_further_than_the_keypoints_that_pull() -> None:
    x = keypoints(4)
    pulled = x.clone()
    pulled[7, 1] += 0.01
    field = displacement(x[None], pulled)
    assert field.abs().max() <= 0.0105
    assert at(field, *pulled[7, :2].tolist())[1] > 0.003


# ---------------------------------------- frames


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every keypoint show as a soft spot of its colour where it is, as it does with trained networks.

    The toy networks' pictures do not follow their keypoints, so that nothing could be warped rightly.
    """
    colours = torch.rand(21, 3, generator=torch.Generator().manual_seed(8))

    def paint(self: Renderer, prepared: PreparedFace, x_d: Tensor) -> Tensor:
        size_px = self.networks.sizes.output_px
        axis = (torch.arange(size_px) + 0.5) * (2 / size_px) - 1
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        apart = (x - x_d[:, :, 0, None, None]) ** 2 + (y - x_d[:, :, 1, None, None]) ** 2  # (B, 21, h, w)
        spots = torch.exp(-apart / (2 * 0.15**2))
        return torch.einsum("bkhw,kc->bchw", spots, colours) / (1 + spots.sum(dim=1, keepdim=True))

    monkeypatch.setattr(Renderer, "render_square", paint)


def render(engine: LivePortraitEngine, portrait: Portrait, motion: MotionTrack) -> np.ndarray:
    prepared = engine.prepare(portrait, size_px=128)
    return np.stack(list(engine.iter_frames(prepared, motion))).astype(float)


@pytest.mark.usefixtures("painted")
def test_fast_frames_look_like_full_ones(networks: Networks, portrait: Portrait) -> None:
    motion = swing(60, cycles=3)
    shared = Renderer(networks, CPU, batch_frames=4)
    full = render(LivePortraitEngine(shared), portrait, motion)
    engine = LivePortraitEngine(shared, "fast")
    fast = render(engine, portrait, motion)
    plan = shared.plan(engine.prepare(portrait, size_px=128), motion)
    assert len(plan.keys) < 30
    for frame in plan.keys:
        assert np.abs(fast[frame] - full[frame]).max() <= 2
    # what is left of a movement is small against it
    moved = np.abs(full - full[0]).max()
    assert moved > 8
    assert np.abs(fast - full).max() < moved / 3
    (note,) = engine.notes(engine.prepare(portrait, size_px=128), motion)
    assert f"{len(plan.keys)} of 60 frames were rendered in full" in note


@pytest.mark.usefixtures("painted")
@pytest.mark.parametrize("quality", ["full", "fast"])
def test_a_few_frames_are_those_of_the_whole_motion(
    networks: Networks, portrait: Portrait, quality: str
) -> None:
    shared, motion = Renderer(networks, CPU, batch_frames=4), swing(30, cycles=2)
    prepared = LivePortraitEngine(shared).prepare(portrait, size_px=128)
    everything = torch.cat(list(shared.iter_boxes(prepared, motion, quality)))
    some = list(shared.iter_boxes(prepared, motion, quality, range(9, 15)))
    assert [len(boxes) for boxes in some] == [4, 2]
    # but for the last digit, which depends on how many are rendered at once
    assert (torch.cat(some) - everything[9:15]).abs().max() < 1 / 255
    # one frame later they would be others
    assert (everything[10:16] - everything[9:15]).abs().max() > 2 / 255


def test_only_key_frames_are_decoded(
    networks: Networks, portrait: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = 0
    decode = Networks.decode

    def counted(self: Networks, features: Tensor) -> Tensor:
        nonlocal decoded
        decoded += len(features)
        return decode(self, features)

    monkeypatch.setattr(Networks, "decode", counted)
    engine = LivePortraitEngine(Renderer(networks, CPU, batch_frames=4), "fast")
    prepared, motion = engine.prepare(portrait, size_px=128), swing(60, cycles=3)
    list(engine.iter_frames(prepared, motion))
    assert decoded == len(engine.renderer.plan(prepared, motion).keys)
    # with hardly any memory for them, key frames are rendered again, and give the same frames
    whole = render(engine, portrait, motion)
    monkeypatch.setattr(renderer, "KEPT_SQUARES", 1)
    decoded = 0
    # but for the last digit, which depends on how many are rendered at once
    assert np.abs(render(engine, portrait, motion) - whole).max() <= 1
    assert decoded > len(engine.renderer.plan(prepared, motion).keys)


@pytest.mark.usefixtures("painted")
@pytest.mark.parametrize("yaw_deg", [0.0, 4.0])
def test_nothing_pops(networks: Networks, portrait: Portrait, yaw_deg: float) -> None:
    """Slow motion: no pixel of the fast frames steps further than the furthest full one, but for rounding.

    With the nearest key frame alone, without blending, steps are three to five levels instead of two.
    """
    motion = swing(120, cycles=1, yaw_deg=yaw_deg)
    shared = Renderer(networks, CPU, batch_frames=8, reuse_distance=0.012)
    steps = {}
    for quality in ("full", "fast"):
        frames = render(LivePortraitEngine(shared, quality), portrait, motion)
        steps[quality] = np.abs(np.diff(frames, axis=0)).max()
    assert steps["fast"] <= steps["full"] + 1


def test_the_border_stays_still(networks: Networks, portrait: Portrait) -> None:
    engine = LivePortraitEngine(Renderer(networks, CPU, batch_frames=4), "fast")
    prepared = engine.prepare(portrait, paste_back=True)
    frames = list(engine.iter_frames(prepared, swing(12, cycles=1, yaw_deg=5)))
    x0, y0, x1, y1 = prepared.box
    for frame in frames:
        changed = (frame != prepared.canvas).any(axis=2)
        changed[y0:y1, x0:x1] &= (prepared.alpha[0, 0] > 0).numpy()
        outside = np.ones_like(changed)
        outside[y0:y1, x0:x1] = (prepared.alpha[0, 0] == 0).numpy()
        assert not (changed & outside).any()


# ---------------------------------------- choice


def test_an_unknown_quality_is_refused(networks: Networks) -> None:
    with pytest.raises(InputError, match="quality is 'best'; give one of full, fast"):
        LivePortraitEngine(Renderer(networks, CPU), "best")
    with pytest.raises(InputError, match="quality is 'best'"):
        load_engine("liveportrait", device="cpu", quality="best")


def test_the_mesh_engine_has_no_other_quality() -> None:
    with pytest.raises(InputError, match=r"quality is 'fast'; the mesh engine .* Leave --quality out"):
        load_engine("mesh", quality="fast")
