"""Fixtures of the LivePortrait tests: toy networks with seeded weights, the demo's portrait and speech."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support import liveportrait_release as release
from torch import Tensor

from vortex.demo import DEMO_SPEECH, demo_portrait
from vortex.engines.liveportrait import LivePortraitModel
from vortex.engines.liveportrait.load import rewrite_networks
from vortex.engines.liveportrait.networks import Networks, load_networks
from vortex.engines.liveportrait.renderer import Renderer
from vortex.face.crop import crop_face
from vortex.face.portrait import load_portrait
from vortex.media.audio import load_audio
from vortex.types import Portrait


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Make torch use one thread: at toy size, sharing work between threads takes longer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a release at toy size."""
    return release.write_release(tmp_path_factory.mktemp("toy"), release.TOY)


@pytest.fixture(scope="module")
def networks(toy_folder: Path) -> Networks:
    """Return toy networks as they are published."""
    return load_networks(toy_folder, release.TOY)


@pytest.fixture(scope="module")
def rewritten(toy_folder: Path) -> Networks:
    """Return toy networks as the engine renders with them."""
    return rewrite_networks(load_networks(toy_folder, release.TOY))


@pytest.fixture
def model(rewritten: Networks) -> LivePortraitModel:
    """Return a model of the rewritten toy networks that renders five frames at once."""
    return LivePortraitModel(Renderer(rewritten, torch.device("cpu"), batch_frames=5))


@pytest.fixture(scope="session")
def portrait() -> Portrait:
    """Return the demo's portrait."""
    return load_portrait(demo_portrait())


@pytest.fixture(scope="session")
def source(portrait: Portrait) -> Tensor:
    """Return the demo's face, (3, 512, 512) float32 in [0, 1]."""
    image = crop_face(portrait, 512).image
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


@pytest.fixture(scope="session")
def speech() -> Tensor:
    """Return the demo's speech, (N,) float32 at 24 000 Hz."""
    return torch.from_numpy(np.array(load_audio(DEMO_SPEECH).samples))
