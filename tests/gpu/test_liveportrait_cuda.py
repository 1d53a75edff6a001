"""LivePortrait on CUDA at its real size, under seeded weights: parity, memory, threads, a long clip.

Most tests need only torch, numpy and OpenCV: portrait and motion are read from a file.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from liveportrait import read_take
from support import liveportrait_release as release
from support.paths import DATA
from torch import Tensor

from vortex.engines.liveportrait import LivePortraitModel, load_liveportrait, load_liveportrait_engine
from vortex.engines.liveportrait.fast.generator import ModulatedBlock, NormalizedFeatures
from vortex.engines.liveportrait.load import rewrite_networks, set_normalization
from vortex.engines.liveportrait.networks import load_networks
from vortex.errors import OutOfMemoryError
from vortex.types import MotionTrack

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
REFERENCE = DATA / "liveportrait" / "reference.npz"
DEVICE = "cuda"
HAS_FACE_AND_SPEECH = all(
    importlib.util.find_spec(name) for name in ("mediapipe", "av", "hama", "pocketsphinx")
)
PEAK_BYTES_FP16 = 4 * 10**9
"""A batch must fit into a GPU with 4 GB."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    release.write_release(folder / "liveportrait")
    yield folder
    for path in folder.rglob("*.pth"):
        path.unlink()


@pytest.fixture
def model(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LivePortraitModel]:
    monkeypatch.setenv("VORTEX_CACHE", str(cache))
    loaded = load_liveportrait(DEVICE, "fp16")
    yield loaded
    loaded.close()


def motion_of(frames: int, first: int = 0) -> MotionTrack:
    return read_take()[1].part(first, frames)


def render(model: LivePortraitModel, motion: MotionTrack, quality: str = "full") -> Tensor:
    video = torch.empty((len(motion), 3, 512, 512), dtype=torch.uint8)
    model.fill(video, model.renderer.prepare(read_take()[0]), motion, quality)
    return video


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 5e-5), (torch.float16, 3e-2), (torch.bfloat16, 3e-2)],
    ids=["fp32", "fp16", "bf16"],
)
@pytest.mark.parametrize("fused", [False, True], ids=["torch", "kernels"])
def test_parity(cache: Path, dtype: torch.dtype, tolerance: float, fused: bool) -> None:
    published = load_networks(cache / "liveportrait")
    networks = (
        rewrite_networks(published, tensor_cores=dtype != torch.float32).set_precision(dtype).to(DEVICE)
    )
    if fused:
        kernels = importlib.import_module("vortex.engines.liveportrait.fast.kernels")
        set_normalization(networks, kernels.FusedNormalizedFeatures)
    with np.load(REFERENCE) as stored:
        known = {key: torch.from_numpy(stored[key]) for key in stored.files}
    picture = known["source"].permute(2, 0, 1)[None].to(DEVICE) / 255
    # TF32 would cost three digits.
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


def test_the_kernels_are_used_and_change_no_picture(model: LivePortraitModel) -> None:
    blocks = [m for m in model.renderer.networks.generator.modules() if isinstance(m, ModulatedBlock)]
    assert blocks and all(block.normalize.__name__ == "FusedNormalizedFeatures" for block in blocks)
    motion = motion_of(8)
    fused = render(model, motion).short()
    set_normalization(model.renderer.networks, NormalizedFeatures)
    difference = (render(model, motion).short() - fused).abs().float()
    # Both round to half precision, but at different steps.
    assert float(difference.mean()) < 0.5 and float(difference.max()) <= 8


def test_a_clip_of_45_seconds_fits_into_4_gb(model: LivePortraitModel) -> None:
    torch.cuda.reset_peak_memory_stats()
    video = render(model, motion_of(1080))
    assert torch.cuda.max_memory_reserved() < PEAK_BYTES_FP16
    assert video[0].float().std() > 0 and video[-1].float().std() > 0


@pytest.mark.parametrize("quality", ["full", "fast"])
def test_a_hundred_runs_leave_memory_unchanged(model: LivePortraitModel, quality: str) -> None:
    motion, sizes = motion_of(24), []
    for _ in range(100 if quality == "full" else 20):
        render(model, motion, quality)
        sizes.append((torch.cuda.memory_allocated(), torch.cuda.memory_reserved()))
    # Bytes of tensors, and bytes that torch reserves.
    assert sizes[-1] == sizes[len(sizes) // 5]


def test_eight_threads_make_what_one_makes(model: LivePortraitModel) -> None:
    motions = [motion_of(12, first=40 * index) for index in range(8)]
    alone = [render(model, motion) for motion in motions]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda motion: render(model, motion), motions))
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


def test_a_budget_is_kept_beside_other_models(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(cache))
    other = torch.empty(3 * 10**9, dtype=torch.uint8, device=DEVICE)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    small = load_liveportrait(DEVICE, "fp16", memory_budget_bytes=2_500_000_000)
    assert small.renderer.batch_frames < 8
    render(small, motion_of(24))
    assert torch.cuda.max_memory_reserved() - before < 2_500_000_000
    with pytest.raises(OutOfMemoryError, match=r"budget is 1\.20 GB; LivePortrait needs about"):
        load_liveportrait(DEVICE, "fp16", memory_budget_bytes=1_200_000_000)
    assert int(other[-1]) >= 0
    small.close()


@pytest.mark.skipif(not HAS_FACE_AND_SPEECH, reason="needs the packages for faces and speech")
def test_output_on_the_device_is_filled_in_place(model: LivePortraitModel) -> None:
    from vortex.demo import DEMO_SPEECH
    from vortex.media.audio import load_audio

    speech = torch.from_numpy(np.array(load_audio(DEMO_SPEECH).samples[:12_000]))
    source = torch.from_numpy(np.array(read_take()[0].image)).permute(2, 0, 1).float() / 255
    expected = model.animate(source, speech, seed=1)
    assert expected.device.type == DEVICE
    video = torch.zeros((14, 3, 512, 512), device=DEVICE, dtype=torch.float16)
    filled = model.animate(source, speech, seed=1, output=video)
    assert filled.data_ptr() == video.data_ptr() and not video[12:].any()
    assert torch.equal(filled, expected.half())


def test_frames_copied_during_rendering_are_right(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(cache))
    engine = load_liveportrait_engine(DEVICE)
    prepared, motion = engine.renderer.prepare(read_take()[0]), motion_of(50)
    x0, y0, x1, y1 = prepared.box
    boxes = engine.renderer.iter_boxes(prepared, motion)
    expected = [box for batch in boxes for box in (batch * 255 + 0.5).byte().permute(0, 2, 3, 1).cpu()]
    for frame, box in zip(engine.iter_frames(prepared, motion), expected, strict=True):
        assert np.array_equal(frame[y0:y1, x0:x1], box.numpy())
    engine.close()


def test_too_little_memory_is_reported_with_figures_and_the_model_stays_usable(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(cache))
    model = load_liveportrait(DEVICE, "fp32", batch_frames=64, memory_budget_bytes=10**12)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(2**31 / total)
    try:
        with pytest.raises(OutOfMemoryError, match=r"GiB are free, vortex uses .* Lower batch_frames"):
            render(model, motion_of(72))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    model.renderer.batch_frames = 1
    assert len(render(model, motion_of(3))) == 3
    model.close()
