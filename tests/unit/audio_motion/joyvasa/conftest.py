"""A small release of JoyVASA with random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.joyvasa_release import TOY, write_release

from vortex.audio_motion.joyvasa.load import load_networks, load_statistics
from vortex.audio_motion.joyvasa.model import JoyVasa


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("joyvasa"))


@pytest.fixture(scope="session")
def model(release: Path) -> JoyVasa:
    return JoyVasa(load_networks(release, TOY), load_statistics(release))
