"""The LivePortrait engine's entry in the registry; reading it does not import torch."""

from __future__ import annotations

from typing import Any

from vortex.engines.base import Engine, EngineSpec
from vortex.engines.liveportrait.device import why_unavailable


def _load(device: str | None) -> Engine[Any]:
    from vortex.engines.liveportrait import load_liveportrait_engine

    return load_liveportrait_engine(device)


SPEC = EngineSpec(
    "liveportrait",
    load=_load,
    why_unavailable=why_unavailable,
    devices=("cuda", "mps", "cpu"),
    qualities=("full", "fast"),
    preference=10,
    captures=True,
)
