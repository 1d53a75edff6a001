"""CLIP's scores equal those of transformers' own model, and its preprocessing is the published one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra 'clip' is not installed")
pytest.importorskip("transformers", reason="the extra 'clip' is not installed")

import torch
from support.tiny_models import save_clip

from vortex.errors import InputError, WeightsError, WeightsMissingError
from vortex.generate.clip import (
    ClipEnsemble,
    ClipLimits,
    ClipModel,
    check_clip,
    find_outliers,
    keyframe_indices,
    load_clip,
    preprocess,
)

PROMPT = "an old sailor"
SETTINGS = {"size": 224, "crop_size": 224, "image_mean": [0.5, 0.25, 0.0], "image_std": [1.0, 0.5, 2.0]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("clip")
    return {
        "clip-vit-b32": save_clip(root / "b32", seed=1),
        "clip-vit-l14": save_clip(root / "l14", width=48, embedding=40, seed=2),
    }


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (5, 48, 40, 3), np.uint8))


def logits(folder: Path, frames: list[np.ndarray]) -> np.ndarray:
    """Cosines as the model itself computes them, from transformers' own preprocessing."""
    from transformers import CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    model = CLIPModel.from_pretrained(folder).eval()
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(frames, return_tensors="pt")["pixel_values"]
    tokens = CLIPTokenizer.from_pretrained(folder)([PROMPT], padding=True, return_tensors="pt")
    with torch.inference_mode():
        found = model(**tokens, pixel_values=pixels).logits_per_image / model.logit_scale.exp()
    return found[:, 0].numpy()


def test_scores_are_those_of_the_models_and_the_ensemble_is_their_weighted_sum(
    folders: dict[str, Path], frames: list[np.ndarray]
) -> None:
    ensemble = load_clip(folders, precision="fp32")
    report = ensemble.compare(ensemble.embed_frames(frames), [0, 2, 4, 6, 8], PROMPT)
    b32, l14 = (logits(folder, frames) for folder in folders.values())
    np.testing.assert_allclose(report.scores["clip-vit-b32"], b32, atol=2e-5)
    np.testing.assert_allclose(report.scores["clip-vit-l14"], l14, atol=2e-5)
    np.testing.assert_allclose(report.ensemble, 0.4 * b32 + 0.6 * l14, atol=2e-5)
    assert report.score == pytest.approx(float(np.mean(0.4 * b32 + 0.6 * l14)), abs=2e-5)
    assert np.linalg.norm(report.embedding) == pytest.approx(1, abs=1e-6)
    assert report.keyframes == (0, 2, 4, 6, 8)


def test_frames_one_by_one_give_what_a_batch_gives(
    folders: dict[str, Path], frames: list[np.ndarray]
) -> None:
    model = ClipModel(folders["clip-vit-b32"], precision="fp32")
    one_by_one = np.concatenate([model.embed_frames([frame]) for frame in frames])
    np.testing.assert_allclose(model.embed_frames(frames), one_by_one, atol=1e-5)


def test_half_precision_gives_nearly_equal_embeddings(
    folders: dict[str, Path], frames: list[np.ndarray]
) -> None:
    full, half = (
        ClipModel(folders["clip-vit-l14"], precision=precision).embed_frames(frames)
        for precision in ("fp32", "bf16")
    )
    assert (full * half).sum(axis=1).min() > 0.999


def test_preprocessing_keeps_proportions_and_the_middle() -> None:
    wide = np.zeros((224, 448, 3), np.uint8)
    wide[:, 112:336] = [255, 51, 102]
    pixels = preprocess([wide], SETTINGS)
    assert pixels.shape == (1, 3, 224, 224)
    for channel, value in enumerate([0.5, -0.1, 0.2]):
        assert pixels[0, channel] == pytest.approx(value, abs=1e-6)


def test_shrinking_does_not_alias() -> None:
    stripes = np.zeros((896, 896, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = preprocess([stripes], {**SETTINGS, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]})
    assert pixels[0, :, 8:-8, 8:-8] == pytest.approx(0.5, abs=0.01)


def test_keyframes_are_evenly_spaced() -> None:
    assert keyframe_indices(1080) == (108, 324, 540, 756, 972)
    assert keyframe_indices(3) == (0, 1, 2)
    assert keyframe_indices(0) == ()


def test_the_frame_that_differs_is_the_outlier() -> None:
    rows = np.tile(np.eye(1, 8, dtype=np.float32), (5, 1))
    rows[3] = np.eye(1, 8, 4)
    assert find_outliers(rows, 0.75) == (3,)
    assert find_outliers(rows, -0.1) == ()
    assert find_outliers(rows[:2], 0.75) == ()


def test_scores_below_the_limits_are_complaints(folders: dict[str, Path], frames: list[np.ndarray]) -> None:
    ensemble = load_clip(folders, precision="fp32")
    embeddings = ensemble.embed_frames(frames)
    strict = ensemble.compare(embeddings, range(5), PROMPT, ClipLimits(min_score=1.0, min_likeness=1.1))
    assert len(strict.complaints()) == 2
    assert strict.outliers == (0, 1, 2, 3, 4)
    lax = ensemble.compare(embeddings, range(5), PROMPT, ClipLimits(min_score=-1.0, min_likeness=-1.0))
    assert lax.complaints() == []


def test_one_model_alone_is_its_own_ensemble(folders: dict[str, Path], frames: list[np.ndarray]) -> None:
    ensemble = ClipEnsemble({"clip-vit-l14": ClipModel(folders["clip-vit-l14"], precision="fp32")})
    report = ensemble.compare(ensemble.embed_frames(frames), range(5), PROMPT)
    np.testing.assert_allclose(report.ensemble, logits(folders["clip-vit-l14"], frames), atol=2e-5)


def test_missing_models_name_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    with pytest.raises(WeightsMissingError, match="vortex weights fetch clip-vit-b32"):
        load_clip()
    with pytest.raises(WeightsMissingError, match="vortex weights fetch clip-vit-b32"):
        check_clip()
    check_clip({"clip-vit-b32": tmp_path, "clip-vit-l14": tmp_path})
    with pytest.raises(WeightsError, match="is not a CLIP model"):
        ClipModel(tmp_path)
    with pytest.raises(InputError, match="bf16 and fp32"):
        ClipModel(tmp_path, precision="int3")
