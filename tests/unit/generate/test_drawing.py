"""A tiny random Flux pipeline on a CPU, and the search for a picture with a face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra 'image' is not installed")
pytest.importorskip("diffusers", reason="the extra 'image' is not installed")

import torch
from support.tiny_models import save_flux

from vortex.demo import demo_portrait
from vortex.errors import DeviceUnavailableError, InputError, NoFaceError, WeightsError
from vortex.generate.drawing import Flux, find_portrait, load_flux
from vortex.media.picture import load_picture

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_flux(tmp_path_factory.mktemp("flux") / "pipeline")


@pytest.fixture(scope="module")
def flux(folder: Path) -> Flux:
    return load_flux(folder, device="cpu")


def test_a_seed_and_a_prompt_decide_the_picture(flux: Flux) -> None:
    first = flux.make("a sailor", seed=3, size_px=64)
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, flux.make("a sailor", seed=3, size_px=64))
    assert not np.array_equal(first, flux.make("a sailor", seed=4, size_px=64))
    assert not np.array_equal(first, flux.make("a queen", seed=3, size_px=64))


def test_on_progress_gets_four_steps_and_its_error_ends_the_work(flux: Flux) -> None:
    reports: list[tuple[str, int, int]] = []

    def on_progress(stage: str, completed: int, total: int) -> None:
        reports.append((stage, completed, total))
        if completed == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flux.make("a sailor", seed=0, size_px=64, on_progress=on_progress)
    assert reports == [("image", 0, 4), ("image", 1, 4), ("image", 2, 4)]


def test_bad_requests_are_refused(flux: Flux, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="prompt is empty"):
        flux.make("  ", seed=0)
    with pytest.raises(InputError, match="multiple of 16"):
        flux.make("a sailor", seed=0, size_px=100)
    with pytest.raises(WeightsError, match="vortex weights fetch flux-schnell"):
        load_flux(tmp_path, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_message_names_image() -> None:
    with pytest.raises(DeviceUnavailableError, match=r"12 GB.*give a picture in image"):
        load_flux()


def test_the_first_picture_with_a_face_is_used_and_the_others_noted() -> None:
    face = load_picture(demo_portrait()).image
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    seeds: list[int] = []

    def make(seed: int) -> np.ndarray:
        seeds.append(seed)
        return face if seed == 12 else noise

    portrait, seed = find_portrait(make, 10, source_name="noise")
    assert (seed, seeds) == (12, [10, 11, 12])
    assert portrait.notes[0] == "no usable face with image seed 10, 11; used 12"
    with pytest.raises(NoFaceError, match="seeds 20 to 23"):
        find_portrait(lambda seed: noise, 20, source_name="noise")
