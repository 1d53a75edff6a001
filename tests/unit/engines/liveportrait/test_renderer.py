"""Rendering on a device: memory, batches, and pasting to the pixel."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from vortex.engines.liveportrait import LivePortraitEngine, LivePortraitModel
from vortex.engines.liveportrait.networks import Networks
from vortex.engines.liveportrait.renderer import Renderer, head_mask, prepare_paste_back
from vortex.errors import OutOfMemoryError
from vortex.face.crop import crop_transform
from vortex.face.landmarks import FACE_OVAL
from vortex.types import BLENDSHAPES, F64, Frame, MotionTrack, Portrait

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: not enough memory")],
    ids=["device", "machine"],
)
def test_out_of_memory_says_what_to_do_and_the_model_stays_usable(
    model: LivePortraitModel,
    source: Tensor,
    speech: Tensor,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    expected = model.animate(source, speech[:3000], seed=1)

    def fail(self: Networks, features: Tensor) -> Tensor:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Networks, "decode", fail)
        with pytest.raises(OutOfMemoryError, match=r"Lower batch_frames \(now 5\)") as caught:
            model.animate(source, speech[:3000], seed=1)
    # A chained first error would keep the failed batch's tensors alive.
    assert caught.value.__context__ is None
    assert torch.equal(model.animate(source, speech[:3000], seed=1), expected)


def test_other_errors_are_raised_unchanged(
    model: LivePortraitModel, source: Tensor, speech: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Networks, features: Tensor) -> Tensor:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Networks, "decode", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        model.animate(source, speech[:3000])


def test_frames_do_not_depend_on_the_batch(rewritten: Networks, portrait: Portrait) -> None:
    shapes = np.random.default_rng(2).uniform(0, 1, (7, len(BLENDSHAPES))).astype(np.float32)
    motion = MotionTrack(shapes, np.zeros((7, 3)), Fraction(24))
    rendered = []
    for batch_frames in (1, 3, 7):
        engine = LivePortraitEngine(Renderer(rewritten, torch.device("cpu"), batch_frames))
        rendered.append(np.stack(list(engine.iter_frames(engine.prepare(portrait, size_px=128), motion))))
    for other in rendered[1:]:
        assert np.abs(rendered[0].astype(int) - other).max() <= 1


NOSE_TIP = 1
"""Landmark, see MediaPipe's face mesh."""


def pasted(canvas: Frame, crop_from_image: F64, crop: Frame) -> tuple[Frame, tuple[int, int, int, int]]:
    """Return a copy of the canvas with a crop blended in, and the box in which it may have changed."""
    (x0, y0, x1, y1), alpha, matrix = prepare_paste_back(canvas, crop_from_image, len(crop))
    warped = cv2.warpAffine(crop, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
    frame = canvas.copy()
    region = frame[y0:y1, x0:x1]
    region[:] = (region + alpha[..., None] * (warped.astype(np.float32) - region) + 0.5).astype(np.uint8)
    return frame, (x0, y0, x1, y1)


def test_pasting_an_unchanged_crop_back_changes_nothing(portrait: Portrait) -> None:
    crop = np.asarray(
        cv2.warpAffine(
            portrait.image,
            portrait.crop_from_image[:2],
            (512, 512),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        np.uint8,
    )
    frame, _ = pasted(portrait.image, portrait.crop_from_image, crop)
    assert frame.shape == portrait.image.shape
    assert np.abs(frame.astype(int) - portrait.image).mean() < 1


def test_pasting_changes_no_pixel_outside_the_box(portrait: Portrait) -> None:
    wide = np.full((800, 1400, 3), 77, np.uint8)
    wide[100:700, 300:812] = portrait.image
    landmarks_px = portrait.landmarks_px + np.float32([300, 100, 0])
    black = np.zeros((256, 256, 3), np.uint8)
    frame, (x0, y0, x1, y1) = pasted(wide, crop_transform(landmarks_px, 512), black)
    outside = np.ones(wide.shape[:2], bool)
    outside[y0:y1, x0:x1] = False
    assert outside.mean() > 0.3
    np.testing.assert_array_equal(frame[outside], wide[outside])
    nose = landmarks_px[NOSE_TIP, :2].round().astype(int)
    assert (frame[nose[1], nose[0]] == 0).all()


@pytest.mark.parametrize("quality", ["full", "fast"])
def test_only_the_head_is_pasted(rewritten: Networks, portrait: Portrait, quality: str) -> None:
    """Behind it, every frame of any motion is the picture itself, also in the first frame."""
    shapes = np.random.default_rng(2).uniform(0, 1, (6, len(BLENDSHAPES))).astype(np.float32)
    shapes[0] = 0
    motion = MotionTrack(shapes, np.random.default_rng(3).uniform(-9, 9, (6, 3)), Fraction(24))
    engine = LivePortraitEngine(Renderer(rewritten, torch.device("cpu"), 6))
    prepared = engine.prepare(portrait, paste_back=True)
    (x0, y0, x1, y1), canvas = prepared.box, prepared.canvas
    behind = np.ones(canvas.shape[:2], bool)
    behind[y0:y1, x0:x1] = (prepared.alpha == 0)[0, 0].numpy()
    assert behind[y0:y1, x0:x1].mean() > 0.35
    for frame in engine.iter_frames(prepared, motion, quality=quality):
        np.testing.assert_array_equal(frame[behind], canvas[behind])
        assert (frame[~behind] != canvas[~behind]).mean() > 0.5


def test_the_face_is_pasted_whole(portrait: Portrait) -> None:
    """All landmarks, also of a face that opens its mouth and moves by a tenth of its width."""
    (x0, y0, _, _), alpha, _ = prepare_paste_back(
        portrait.image, portrait.crop_from_image, 512, portrait.landmarks_px
    )
    width = np.ptp(portrait.landmarks_px[FACE_OVAL, 0])
    for shift in ((0, 0), (0.1, 0), (-0.1, 0), (0, -0.1), (0, 0.1)):
        points = portrait.landmarks_px[:, :2] + width * np.float32(shift) - [x0, y0]
        column, row = points.round().astype(int).T
        assert alpha[row, column].min() > 0.97


def test_the_mask_has_no_edge_and_turns_with_the_head() -> None:
    angles = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    outline = np.stack([60 * np.sin(angles), -80 * np.cos(angles)], axis=1)
    upright = head_mask(outline + 200, 400)
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    # A turn about the middle of the square, clockwise as the viewer sees it.
    aside = head_mask(outline @ quarter.T + 199.5, 400)
    np.testing.assert_allclose(aside, np.rot90(head_mask(outline + 199.5, 400), -1), atol=1e-9)
    assert upright.max() == 1 and upright.min() == 0
    # Hair reaches further than a chin.
    assert upright[200 - 130, 200] == 1 > upright[200 + 130, 200]
    steps = [np.abs(np.diff(upright, axis=axis)).max() for axis in (0, 1)]
    assert max(steps) < 0.1
