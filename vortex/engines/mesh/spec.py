"""The mesh engine's entry in the registry."""

from __future__ import annotations

from typing import Any

from vortex.engines.base import Engine, EngineSpec


def _load(device: str | None) -> Engine[Any]:
    from vortex.engines.mesh.engine import MeshEngine

    return MeshEngine()


SPEC = EngineSpec("mesh", load=_load, why_unavailable=lambda device: None)
