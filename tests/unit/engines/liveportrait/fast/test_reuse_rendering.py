"""Frames of the quality fast look like full ones, and change without jumps."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from vortex.engines.liveportrait import LivePortraitEngine, renderer
from vortex.engines.liveportrait.networks import Networks
from vortex.engines.liveportrait.renderer import PreparedFace, Renderer
from vortex.motion.drive import expand
from vortex.types import F64, MotionTrack, Portrait

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


def swing(frames: int, cycles: float, yaw_deg: float = 0.0) -> MotionTrack:
    """Return a mouth that opens and shuts on a head that turns to the side once."""
    phase = np.linspace(0, 2 * np.pi * cycles, frames)
    rows = np.stack([expand({"jawOpen": 0.5 - 0.5 * np.cos(at)}) for at in phase])
    pose = np.zeros((frames, 3), np.float32)
    pose[:, 1] = yaw_deg * np.sin(phase / cycles / 2)
    return MotionTrack(rows, pose, Fraction(24))


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the networks' square by a soft coloured spot at every keypoint, which moves with it.

    The toy networks' squares do not follow their keypoints, so warping them would show nothing.
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


def render(engine: LivePortraitEngine, portrait: Portrait, motion: MotionTrack, quality: str) -> F64:
    prepared = engine.prepare(portrait, size_px=128)
    return np.stack(list(engine.iter_frames(prepared, motion, quality=quality))).astype(float)


@pytest.mark.usefixtures("painted")
def test_fast_frames_look_like_full_ones(networks: Networks, portrait: Portrait) -> None:
    motion = swing(60, cycles=3)
    shared = Renderer(networks, CPU, batch_frames=4)
    engine = LivePortraitEngine(shared)
    full, fast = (render(engine, portrait, motion, quality) for quality in ("full", "fast"))
    plan = shared.plan(engine.prepare(portrait, size_px=128), motion)
    assert len(plan.keys) < 30
    for frame in plan.keys:
        assert np.abs(fast[frame] - full[frame]).max() <= 2
    # Errors are small against the movement.
    moved = np.abs(full - full[0]).max()
    assert moved > 8
    assert np.abs(fast - full).max() < moved / 3
    (note,) = engine.notes(engine.prepare(portrait, size_px=128), motion, quality="fast")
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
    # Rounding depends on how many frames are rendered at once.
    assert (torch.cat(some) - everything[9:15]).abs().max() < 1 / 255
    # Neighbouring frames differ by more.
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
    engine = LivePortraitEngine(Renderer(networks, CPU, batch_frames=4))
    prepared, motion = engine.prepare(portrait, size_px=128), swing(60, cycles=3)
    list(engine.iter_frames(prepared, motion, quality="fast"))
    assert decoded == len(engine.renderer.plan(prepared, motion).keys)
    # With memory for one key frame only, key frames are rendered again and the frames are the same.
    whole = render(engine, portrait, motion, "fast")
    monkeypatch.setattr(renderer, "KEPT_SQUARES", 1)
    decoded = 0
    # Rounding depends on how many frames are rendered at once.
    assert np.abs(render(engine, portrait, motion, "fast") - whole).max() <= 1
    assert decoded > len(engine.renderer.plan(prepared, motion).keys)


@pytest.mark.usefixtures("painted")
@pytest.mark.parametrize("yaw_deg", [0.0, 4.0])
def test_fast_frames_do_not_jump(
    networks: Networks, portrait: Portrait, yaw_deg: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In slow motion, no pixel changes more between fast frames than between full ones, except by rounding.

    With only the nearest key frame, without blending, changes are three to five levels instead of two.
    """
    motion = swing(120, cycles=1, yaw_deg=yaw_deg)
    monkeypatch.setattr(renderer, "REUSE_DISTANCE", 0.012)
    shared = Renderer(networks, CPU, batch_frames=8)
    steps = {}
    for quality in ("full", "fast"):
        frames = render(LivePortraitEngine(shared), portrait, motion, quality)
        steps[quality] = np.abs(np.diff(frames, axis=0)).max()
    assert steps["fast"] <= steps["full"] + 1


def test_the_border_stays_still(networks: Networks, portrait: Portrait) -> None:
    engine = LivePortraitEngine(Renderer(networks, CPU, batch_frames=4))
    prepared = engine.prepare(portrait, paste_back=True)
    frames = list(engine.iter_frames(prepared, swing(12, cycles=1, yaw_deg=5), quality="fast"))
    x0, y0, x1, y1 = prepared.box
    for frame in frames:
        changed = (frame != prepared.canvas).any(axis=2)
        changed[y0:y1, x0:x1] &= (prepared.alpha[0, 0] > 0).numpy()
        outside = np.ones_like(changed)
        outside[y0:y1, x0:x1] = (prepared.alpha[0, 0] == 0).numpy()
        assert not (changed & outside).any()
