"""Shared by the tests of faces."""

from __future__ import annotations

import pytest

from vortex.demo import demo_portrait
from vortex.face.portrait import load_portrait
from vortex.types import Portrait


@pytest.fixture(scope="session")
def hopper() -> Portrait:
    """The demo portrait, 512x600."""
    return load_portrait(demo_portrait())
