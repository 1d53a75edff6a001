"""LivePortrait on CUDA at its real size, under seeded weights: parity, memory, and a clip of 1080 frames."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import liveportrait_release as release
import numpy as np
import pytest
import torch
from torch import Tensor

import vortex
from vortex.audio import load_audio
from vortex.demo import demo_portrait
from vortex.engines.liveportrait import load_liveportrait, load_liveportrait_engine
from vortex.engines.liveportrait.networks import load_networks
from vortex.engines.liveportrait.rewrites import rewrite_networks
from vortex.errors import OutOfMemoryError
from vortex.lipsync.recognize import recognize_visemes
from vortex.motion.drive import drive
from vortex.portrait import crop_face, load_portrait

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
REFERENCE = Path(__file__).parents[1] / "data" / "liveportrait" / "reference.npz"
SPEECH = Path(vortex.__file__).parent / "data" / "demo_speech.flac"
DEVICE = "cuda"
PEAK_BYTES_FP16 = 4 * 2**30
"""The batch of 4 has to fit a small card."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    release.write_release(folder / "liveportrait")
    yield folder
    for path in folder.rglob("*.pth"):
        path.unlink()


@pytest.fixture
def source() -> Tensor:
    image = crop_face(load_portrait(demo_portrait()), 512).image
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


@pytest.fixture
def speech() -> Tensor:
    return torch.from_numpy(np.array(load_audio(SPEECH).samples))


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 5e-5), (torch.float16, 3e-2), (torch.bfloat16, 3e-2)],
    ids=["fp32", "fp16", "bf16"],
)
def test_parity(cache: Path, dtype: torch.dtype, tolerance: float) -> None:
    networks = rewrite_networks(load_networks(cache / "liveportrait")).set_precision(dtype).to(DEVICE)
    with np.load(REFERENCE) as stored:
        known = {key: torch.from_numpy(stored[key]) for key in stored.files}
    picture = known["source"].permute(2, 0, 1)[None].to(DEVICE) / 255
    # the tensor cores' short float would cost three digits
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        feature = networks.extract_appearance(picture)
        info = networks.extract_motion(picture)
        source = networks.prepare_warp(feature, known["x_s"].to(DEVICE))
        warped = networks.warp(source, known["x_d_stitched"].to(DEVICE))
        frame = networks.decode(warped.features)
    for got, key in (
        (feature[:, ::4, ::4, 1::10, 2::10], "f_s"),
        (info.canonical_kp, "kp.kp"),
        (info.exp, "kp.exp"),
        (warped.deformation[:, ::4, ::8, 1::8], "deformation"),
        (warped.occlusion[:, :, ::2, ::2], "occlusion"),
        (warped.features[:, ::18, ::8, 1::8], "warped"),
        (frame[:, :, ::9, 1::9], "image"),
    ):
        error = torch.linalg.vector_norm(got.float().cpu() - known[key]) / torch.linalg.vector_norm(
            known[key]
        )
        assert float(error) < tolerance, key


def test_a_clip_of_45_seconds_fits_a_small_card(
    cache: Path, source: Tensor, speech: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(cache))
    model = load_liveportrait(DEVICE, "fp16")
    torch.cuda.reset_peak_memory_stats()
    video = torch.empty((1080, 3, 512, 512), dtype=torch.uint8)
    model.animate(source, speech, duration=45, seed=1, output=video)
    assert torch.cuda.max_memory_allocated() < PEAK_BYTES_FP16
    after_first = torch.cuda.memory_allocated()
    assert video[0].float().std() > 0 and video[-1].float().std() > 0
    model.animate(source, speech, duration=1, seed=1, output=video)
    assert torch.cuda.memory_allocated() <= after_first
    model.close()


def test_output_on_the_device_is_filled_in_place(
    cache: Path, source: Tensor, speech: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(cache))
    model = load_liveportrait(DEVICE, "fp16")
    expected = model.animate(source, speech[:12_000], seed=1)
    assert expected.device.type == DEVICE
    video = torch.zeros((14, 3, 512, 512), device=DEVICE, dtype=torch.float16)
    filled = model.animate(source, speech[:12_000], seed=1, output=video)
    assert filled.data_ptr() == video.data_ptr() and not video[12:].any()
    assert torch.equal(filled, expected.half())
    model.close()


def test_frames_copied_beside_rendering_are_those_copied_at_rest(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(cache))
    engine = load_liveportrait_engine(DEVICE)
    prepared = engine.prepare(load_portrait(demo_portrait()))
    heard = recognize_visemes(load_audio(SPEECH), Fraction(24))
    motion = drive(heard, "excited", 1)
    x0, y0, x1, y1 = prepared.box
    boxes = engine.renderer.iter_boxes(prepared, motion)
    expected = [box for batch in boxes for box in (batch * 255 + 0.5).byte().permute(0, 2, 3, 1).cpu()]
    for frame, box in zip(engine.iter_frames(prepared, motion), expected, strict=True):
        assert np.array_equal(frame[y0:y1, x0:x1], box.numpy())
    engine.close()


def test_too_little_memory_is_told_with_figures_and_survived(
    cache: Path, source: Tensor, speech: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(cache))
    model = load_liveportrait(DEVICE, "fp32", batch_frames=64)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(2**30 / total)
    try:
        with pytest.raises(OutOfMemoryError, match=r"GiB are free, vortex holds .* Lower batch_frames"):
            model.animate(source, speech[:72_000], seed=1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    model.renderer.batch_frames = 1
    assert len(model.animate(source, speech[:3000], seed=1)) == 3
    model.close()
