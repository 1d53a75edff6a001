"""The lock file agrees with pyproject.toml and constraints.txt; scripts/lock --check compares it in full."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.paths import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def read_requirements(path: Path) -> list[Requirement]:
    lines = (line.split(" #")[0].strip().removesuffix("\\") for line in path.read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "--hash"))]


def versions(requirements: list[Requirement], python: str) -> dict[str, str]:
    """Return name -> version of what is pinned on Linux with a Python version."""
    linux = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    return {
        canonicalize_name(req.name): next(iter(req.specifier)).version
        for req in requirements
        if req.marker is None or req.marker.evaluate(linux)
    }


LOCK = read_requirements(ROOT / "requirements.lock")
CONSTRAINTS = read_requirements(ROOT / "constraints.txt")


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_holds_what_the_project_requires(python: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    locked = versions(LOCK, python)
    for requirement in map(Requirement, [*project["dependencies"], *extras["server"], *extras["speech"]]):
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_the_constrained_versions(python: str) -> None:
    locked = versions(LOCK, python)
    for name, version in versions(CONSTRAINTS, python).items():
        assert locked.get(name, version) == version, name


@pytest.mark.parametrize("python", PYTHONS)
def test_both_packages_that_contain_cv2_have_one_version(python: str) -> None:
    """The one installed last overwrites the files of the other; two versions would be mixed."""
    locked = versions(LOCK, python)
    assert locked["opencv-python"] == locked["opencv-contrib-python"]
