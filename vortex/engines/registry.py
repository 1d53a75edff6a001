"""Finds engines: every folder ``vortex/engines/NAME/spec.py``, and entry points of installed packages."""

from __future__ import annotations

import importlib
import warnings
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import vortex.engines
from vortex.engines.base import Engine, EngineSpec
from vortex.errors import InputError, VortexWarning, in_one_line

ENTRY_POINTS = "vortex.engines"
"""Group of entry points of installed packages; each one names an :class:`EngineSpec`."""
AUTO = "auto"
"""Stands for the engine with the highest ``preference`` among those that can run here."""


@cache
def engine_specs() -> dict[str, EngineSpec]:
    """Return every engine by its name: those in this folder, then those of installed packages.

    An entry point that cannot be loaded, or whose name is taken, is left out with a warning.
    """
    files = [file for folder in vortex.engines.__path__ for file in Path(folder).glob("*/spec.py")]
    names = sorted(file.parent.name for file in files)
    built_in = [importlib.import_module(f"vortex.engines.{name}.spec").SPEC for name in names]
    specs: dict[str, EngineSpec] = {spec.name: spec for spec in built_in}
    for point in metadata.entry_points(group=ENTRY_POINTS):
        try:
            spec = point.load()
        except Exception as exc:  # Any error of a third-party module must not stop the other engines.
            problem = f"cannot be loaded ({in_one_line(exc)})"
        else:
            if not isinstance(spec, EngineSpec):
                problem = f"is a {type(spec).__name__}, not an EngineSpec"
            elif spec.name in specs:
                problem = f"has the name {spec.name!r}, which another engine has"
            else:
                specs[spec.name] = spec
                continue
        warnings.warn(f"The engine {point.value!r} {problem}; it is left out.", VortexWarning, stacklevel=2)
    return specs


def find_engine(name: str) -> EngineSpec:
    """Return the spec of the engine called ``name``; InputError if there is none."""
    specs = engine_specs()
    if name not in specs:
        raise InputError(f"Unknown engine {name!r}; vortex has {', '.join(specs)}.")
    return specs[name]


def resolve_engine(name: str, device: str | None = None) -> tuple[EngineSpec, tuple[str, ...]]:
    """Return the spec of the engine to use, and with "auto" a note on the choice; InputError if none can run.

    Only "auto" chooses by what can run here; any other name means exactly that engine, else InputError.
    """
    if name != AUTO:
        return find_engine(name), ()
    notes: list[str] = []
    for spec in sorted(engine_specs().values(), key=lambda spec: -spec.preference):
        reason: str | None = f"it runs on {' or '.join(spec.devices)}, not on {device!r}"
        if _offers(spec, device):
            reason = spec.why_unavailable(device)
        if reason is None:
            return spec, (f"engine {spec.name}" + "".join(f" ({note})" for note in notes),)
        notes.append(f"{spec.name}: {reason}")
    raise InputError(f"No engine can run here: {'; '.join(notes)}.")


def _offers(spec: EngineSpec, device: str | None) -> bool:
    return device is None or device.split(":")[0] in spec.devices


def check_engine_options(spec: EngineSpec, device: str | None, quality: str) -> None:
    """Raise InputError if an engine does not offer ``device`` or ``quality``."""
    if not _offers(spec, device):
        raise InputError(
            f"device is {device!r}; the {spec.name} engine runs on {' or '.join(spec.devices)}. "
            "Give one of these, or no device."
        )
    if quality not in spec.qualities:
        raise InputError(
            f"quality is {quality!r}; the {spec.name} engine has {' and '.join(map(repr, spec.qualities))}. "
            "Give one of these, or no quality."
        )


def load_engine(name: str, *, device: str | None = None) -> Engine[Any]:
    """Return the engine called ``name``, loaded, or the one that "auto" stands for; close it after use.

    ``device`` is where to render, such as "cuda", "cuda:1" or "cpu"; None is the engine's default. InputError
    is raised for an unknown name or a device that the engine cannot use; EngineError, WeightsError or
    MissingExtraError where it cannot run.
    """
    spec, _ = resolve_engine(name, device)
    check_engine_options(spec, device, spec.qualities[0])
    return spec.load(device)
