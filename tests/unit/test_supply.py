"""The lock file, the versions and the licences of what vortex installs, checked without a network."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement
from supply import (
    LOCKED_EXTRAS,
    PYTHONS,
    ROOT,
    Environment,
    binding,
    licence_problems,
    linux,
    lock_problems,
    read_project,
    read_requirements,
    requirements_of,
    version_problems,
    versions_in,
)

LOCK = read_requirements(ROOT / "requirements.lock")
CONSTRAINTS = read_requirements(ROOT / "constraints.txt")
WANTED = requirements_of(read_project(ROOT / "pyproject.toml"), LOCKED_EXTRAS)


def problems(*wanted: str, environment: Environment = linux("3.11")) -> list[str]:  # noqa: B008
    return list(lock_problems(LOCK, map(Requirement, wanted), (), environment))


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_satisfies_the_project_and_the_constraints(python: str) -> None:
    assert list(lock_problems(LOCK, WANTED, CONSTRAINTS, linux(python))) == []


def test_every_file_of_the_lock_has_a_hash() -> None:
    blocks = (ROOT / "requirements.lock").read_text().split("\n")
    starts = [index for index, line in enumerate(blocks) if line[:1].isalnum()]
    assert len(starts) == len(LOCK)
    assert all("--hash=sha256:" in blocks[index + 1] for index in starts)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("numpy>=99", "not numpy>=99"),
        ("another-package", "lacks another-package"),
        ("av<18; python_version < '3.11'", ""),
        ("mediapipe", ""),
    ],
)
def test_what_the_lock_does_not_satisfy_is_named(wanted: str, message: str) -> None:
    found = problems(wanted)
    assert [message in problem for problem in found] == [True] * bool(message)


def test_both_packages_that_bring_cv2_have_one_version() -> None:
    """Whichever is installed last leaves its files; of two versions, they would be a mixture."""
    for python in PYTHONS:
        pinned = versions_in(LOCK, linux(python))
        assert pinned["opencv-python"] == pinned["opencv-contrib-python"]


def test_another_version_than_the_locked_one_is_named() -> None:
    assert list(version_problems([Requirement("a==1.0")], {"a": "1.0"})) == []
    assert list(version_problems([Requirement("a==1.0")], {"b": "2"})) == []
    (problem,) = version_problems([Requirement("a==1.0")], {"a": "1.1"})
    assert problem.startswith("a is 1.1 here and 1.0 in requirements.lock")


@pytest.mark.parametrize(
    ("licence", "binds"),
    [
        ("MIT", False),
        ("LGPL-2.1-or-later", False),
        ("GNU Library or Lesser General Public License (LGPL)", False),
        ("GPL-2.0-only", True),
        ("AGPL-3.0-or-later", True),
        ("GNU Affero General Public License v3", True),
        ("GNU General Public License v2 (GPLv2)", True),
        ("MIT OR GPL-3.0-or-later", False),
        ("MIT AND GPL-3.0-or-later", True),
    ],
)
def test_licences_that_bind_whoever_ships_them_are_told_from_others(licence: str, binds: bool) -> None:
    assert binding(licence) == binds
    assert bool(list(licence_problems({"a": licence}))) == binds


def test_a_package_that_does_not_say_its_licence_is_named() -> None:
    (problem,) = licence_problems({"a": ""})
    assert problem.startswith("a does not say its licence")
