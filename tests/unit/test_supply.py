"""The lock file agrees with pyproject.toml and constraints.txt; scripts/lock --check compares it in full."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import known_holes
import locked
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from support.paths import ROOT

PYTHONS = ("3.11", "3.12", "3.13", "3.14")


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


def test_no_lower_bound_admits_a_known_hole() -> None:
    assert known_holes.main() == 0
    holes = known_holes.read_holes("torch<2.10  CVE-2026-24747 corrupts memory\n")
    assert holes == {"torch": Version("2.10")}
    assert known_holes.admitted(["torch>=2.4", "torch", "torch<3", "torch>=2.9.1", "numpy>=1"], holes) == [
        f"{bound}: at least 2.10 is needed" for bound in ("torch>=2.4", "torch", "torch<3", "torch>=2.9.1")
    ]
    assert not known_holes.admitted(["torch>=2.10", "torch==2.13.0", "torch>=2.10,<3"], holes)
    with pytest.raises(ValueError, match="package<version"):
        known_holes.read_holes("torch 2.10\n")


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-cuda.lock"])
def test_every_locked_package_has_hashes(name: str) -> None:
    for package, block, _ in locked.entries((ROOT / name).read_text()):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), package


@pytest.mark.parametrize("extras", [set(), {"speech"}, {"server"}, {"server", "speech"}])
def test_the_part_of_the_lock_has_all_that_is_needed(extras: set[str]) -> None:
    """What the metadata of each package requires, here and now, is in the part."""
    part = locked.needed((ROOT / "requirements.lock").read_text(), extras)
    names = {name for name, _, _ in locked.entries(part)}
    assert {"av", "numpy", "mediapipe", "hatchling"} <= names
    assert ("fastapi" in names) is ("server" in extras) and ("misaki" in names) is ("speech" in extras)
    for name in names:
        try:
            wanted = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:
            continue  # for another system, or an extra that is not installed
        for requirement in wanted:
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert canonicalize_name(requirement.name) in names, f"{name} requires {requirement}"


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_images_install_by_hashes_only(name: str) -> None:
    text = (ROOT / name).read_text()
    installed = [line for line in text.splitlines() if "pip install" in line]
    assert installed
    assert all("--require-hashes" in line or "--no-deps --no-build-isolation ." in line for line in installed)
