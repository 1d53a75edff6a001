"""Engines are found by name, chosen by "auto", and a plug-in that is broken does not stop the others."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from vortex.engines import registry
from vortex.engines.base import EngineSpec
from vortex.engines.registry import (
    check_engine_options,
    engine_specs,
    find_engine,
    load_engine,
    resolve_engine,
)
from vortex.errors import InputError

PLUGIN = EngineSpec(
    "plugin", load=lambda device: find_engine("mesh").load(None), why_unavailable=lambda device: None
)
TAKEN = EngineSpec("mesh", load=PLUGIN.load, why_unavailable=PLUGIN.why_unavailable)


def make_spec(
    name: str, preference: int, reason: str | None, devices: tuple[str, ...] = ("cpu",)
) -> EngineSpec:
    """Return the spec of an engine that cannot run for ``reason``, or can."""
    return EngineSpec(
        name, load=PLUGIN.load, why_unavailable=lambda device: reason, devices=devices, preference=preference
    )


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install one entry point of each kind."""
    module = __name__
    points = [
        EntryPoint("plugin", f"{module}:PLUGIN", registry.ENTRY_POINTS),
        EntryPoint("taken", f"{module}:TAKEN", registry.ENTRY_POINTS),
        EntryPoint("missing", "no_such_module_anywhere:SPEC", registry.ENTRY_POINTS),
        EntryPoint("other", "fractions:Fraction", registry.ENTRY_POINTS),
    ]
    monkeypatch.setattr(registry.metadata, "entry_points", lambda group: points)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[EngineSpec]:
    """Return a list that the registry lists."""
    specs: list[EngineSpec] = []
    monkeypatch.setattr(registry, "engine_specs", lambda: {spec.name: spec for spec in specs})
    return specs


def test_the_engines_of_vortex_are_listed() -> None:
    assert {"mesh", "liveportrait"} <= engine_specs().keys()
    assert all(name == spec.name for name, spec in engine_specs().items())


@pytest.mark.usefixtures("plug_in")
def test_a_plug_in_is_listed_and_a_broken_one_is_left_out_with_a_warning() -> None:
    with pytest.warns(UserWarning) as caught:
        specs = engine_specs.__wrapped__()
    assert specs["plugin"] is PLUGIN and specs["mesh"] is not TAKEN
    assert set(specs) == {"plugin", *engine_specs()}
    taken, missing, other = (str(warning.message) for warning in caught)
    assert "has the name 'mesh', which another engine has" in taken
    assert "cannot be loaded (No module named 'no_such_module_anywhere')" in missing
    assert "'fractions:Fraction' is a ABCMeta, not an EngineSpec; it is left out." in other


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    for find in (find_engine, resolve_engine, load_engine):
        with pytest.raises(InputError, match=r"Unknown engine 'msh'; vortex has .*mesh"):
            find("msh")


def test_auto_is_the_preferred_engine_that_can_run(listed: list[EngineSpec]) -> None:
    listed += [make_spec("plain", 0, None), make_spec("best", 9, None), make_spec("good", 5, None)]
    assert resolve_engine("auto") == (listed[1], ("engine best",))
    listed[1] = make_spec("best", 9, "its weights are missing")
    assert resolve_engine("auto") == (listed[2], ("engine good (best: its weights are missing)",))


def test_auto_takes_only_an_engine_for_the_device(listed: list[EngineSpec]) -> None:
    listed += [make_spec("cpu only", 9, None), make_spec("gpu", 5, None, ("cuda", "cpu"))]
    chosen, (note,) = resolve_engine("auto", "cuda:1")
    assert chosen.name == "gpu" and note == "engine gpu (cpu only: it runs on cpu, not on 'cuda:1')"


def test_auto_says_why_nothing_can_run(listed: list[EngineSpec]) -> None:
    listed += [make_spec("a", 1, "no GPU was found"), make_spec("b", 0, "its weights are missing")]
    with pytest.raises(
        InputError, match=r"No engine can run here: a: no GPU .*; b: its weights are missing\."
    ):
        resolve_engine("auto")


def test_a_named_engine_is_never_replaced(listed: list[EngineSpec]) -> None:
    listed += [make_spec("good", 5, None), make_spec("broken", 9, "its weights are missing")]
    assert resolve_engine("broken") == (listed[1], ())


def test_options_that_an_engine_lacks_are_refused() -> None:
    mesh = find_engine("mesh")
    check_engine_options(mesh, "cpu", "full")
    with pytest.raises(
        InputError, match=r"quality is 'fast'; the mesh engine has 'full'\. Give one of these, or no"
    ):
        check_engine_options(mesh, None, "fast")
    with pytest.raises(
        InputError, match=r"device is 'cuda'; the mesh engine runs on cpu\. Give one of these, or no"
    ):
        load_engine("mesh", device="cuda")


def test_a_loaded_engine_has_the_name() -> None:
    engine = load_engine("mesh", device="cpu")
    assert engine.name == "mesh"
    engine.close()


def test_which_engines_need_a_gpu() -> None:
    gpu = make_spec("gpu", 0, None, ("cuda", "cpu"))
    assert [gpu.needs_gpu(device) for device in (None, "cuda:1", "cpu")] == [True, True, False]
    assert not make_spec("cpu", 0, None).needs_gpu(None)
