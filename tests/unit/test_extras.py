"""The extras that vortex reports are those of the package, and a missing package is named."""

from __future__ import annotations

from importlib import metadata

import pytest

from vortex.extras import EXTRAS, why_not_installed


def test_every_extra_is_one_of_the_package() -> None:
    assert set(EXTRAS) <= set(metadata.metadata("vortex-portrait").get_all("Provides-Extra") or [])


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ["numpy>=1.26", 'numpy>=1; extra == "speech"', 'no-such-package>=2; extra == "speech"']
    monkeypatch.setattr(metadata, "requires", lambda name: needs)
    expected = "no-such-package not installed. Run: pip install 'vortex-portrait[speech]'"
    assert why_not_installed("speech") == expected
    assert why_not_installed("server") is None
