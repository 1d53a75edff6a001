"""A change of the expression reaches LivePortrait's keypoints as it is, beside blendshapes and head."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from vortex.engines.liveportrait import LivePortraitEngine
from vortex.engines.liveportrait.networks import Networks, Warped, WarpSource
from vortex.engines.liveportrait.renderer import Renderer
from vortex.engines.mesh.engine import MeshEngine
from vortex.errors import InputError
from vortex.motion.transfer import KeypointChange, Motion, without_head_motion
from vortex.types import BLENDSHAPES, MotionTrack, Portrait

pytestmark = pytest.mark.usefixtures("one_thread")
FRAMES = 5
RNG = np.random.default_rng(8)
FACE = MotionTrack(
    RNG.uniform(0, 1, (FRAMES, len(BLENDSHAPES))).astype(np.float32),
    RNG.uniform(-9, 9, (FRAMES, 3)).astype(np.float32),
    Fraction(25),
)
EXP = RNG.normal(0, 0.01, (FRAMES, 21, 3)).astype(np.float32)


@pytest.mark.parametrize("batch_frames", [1, 2])
def test_a_change_moves_keypoints_by_the_scale_of_the_face(
    rewritten: Networks, portrait: Portrait, monkeypatch: pytest.MonkeyPatch, batch_frames: int
) -> None:
    engine = LivePortraitEngine(Renderer(rewritten, torch.device("cpu"), batch_frames))
    prepared = engine.prepare(portrait, size_px=128)
    # Stitching depends on all keypoints; without it, x_d = s (x_c R + exp) + t shows the change alone.
    monkeypatch.setattr(Networks, "stitch", lambda self, x_s, x_d: x_d)
    driven: list[Tensor] = []
    warp = Networks.warp

    def recorded(self: Networks, source: WarpSource, x_d: Tensor) -> Warped:
        driven.append(x_d)
        return warp(self, source, x_d)

    monkeypatch.setattr(Networks, "warp", recorded)

    def keypoints(motion: Motion) -> np.ndarray:
        driven.clear()
        assert len(list(engine.iter_frames(prepared, motion))) == FRAMES
        return torch.cat(driven).numpy()

    scale = float(prepared.source.info.scale)
    moved = keypoints(KeypointChange(FACE, EXP)) - keypoints(FACE)
    assert np.allclose(moved, scale * EXP, atol=1e-6)
    still = keypoints(KeypointChange(FACE, np.zeros_like(EXP)))
    assert np.array_equal(still, keypoints(FACE))


def test_parts_and_the_quality_fast_take_a_change(rewritten: Networks, portrait: Portrait) -> None:
    engine = LivePortraitEngine(Renderer(rewritten, torch.device("cpu"), 2))
    prepared = engine.prepare(portrait, size_px=128)
    motion = KeypointChange(FACE, EXP)
    whole = np.stack(list(engine.iter_frames(prepared, motion)))
    part = np.stack(list(engine.iter_frames(prepared, motion.part(2, 2))))
    assert np.abs(whole[2:4].astype(int) - part).max() <= 1
    assert len(list(engine.iter_frames(prepared, motion, quality="fast"))) == FRAMES
    assert "of 5 frames were rendered in full" in engine.notes(prepared, motion, quality="fast")[-1]


def test_a_held_head_leaves_the_change() -> None:
    held = without_head_motion(KeypointChange(FACE, EXP))
    assert isinstance(held, KeypointChange)
    assert not held.face.head_pose_deg.any()
    assert np.array_equal(held.exp, EXP) and np.array_equal(held.face.blendshapes, FACE.blendshapes)


def test_the_mesh_engine_refuses_a_change(portrait: Portrait) -> None:
    engine = MeshEngine()
    with pytest.raises(InputError, match="mesh engine renders no keypoints"):
        engine.iter_frames(engine.prepare(portrait, size_px=128), KeypointChange(FACE, EXP))
