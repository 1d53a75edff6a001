"""Check what is installed, as far as that goes without a network: the lock file, versions, licences.

Usage: python scripts/supply.py

1. requirements.lock satisfies pyproject.toml (the base and the extras server and speech) and constraints.txt,
   on Linux with each Python that the project supports.
2. What is installed here has the versions of the lock.
3. No package that the base or an extra brings is under the GPL or AGPL, or does not say its licence. Only
   what a package says of itself is read: PyAV, which is BSD-3, carries FFmpeg with x264, which is GPL-2.

Exit status 1 if something does not hold.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
LOCKED_EXTRAS = ("server", "speech")
"""Not those with torch: its CPU and CUDA builds share a version, and each index has its own files."""
SHIPPED_EXTRAS = ("server", "speech", "neural", "clip", "image")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")

Environment = Mapping[str, str]


def main() -> int:
    """Print what does not hold."""
    project = read_project(ROOT / "pyproject.toml")
    lock = read_requirements(ROOT / "requirements.lock")
    constraints = read_requirements(ROOT / "constraints.txt")
    wanted = requirements_of(project, LOCKED_EXTRAS)
    problems = [
        problem for python in PYTHONS for problem in lock_problems(lock, wanted, constraints, linux(python))
    ]
    problems += version_problems(lock, installed_versions())
    shipped = {dist.name: dist for dist in closure(requirements_of(project, SHIPPED_EXTRAS))}
    problems += licence_problems({name: licence_of(dist) for name, dist in shipped.items()})
    for problem in problems:
        print(f"supply: {problem}", file=sys.stderr)
    print(f"{len(lock)} locked, {len(shipped)} installed packages read, {len(problems)} problems")
    return 1 if problems else 0


def read_project(path: Path) -> Mapping[str, Any]:
    """Return the table [project] of a pyproject.toml."""
    project: Mapping[str, Any] = tomllib.loads(path.read_text())["project"]
    return project


def read_requirements(path: Path) -> list[Requirement]:
    """Return the requirements of a file, without their hashes."""
    lines = (line.split(" #")[0].strip().removesuffix("\\") for line in path.read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "--hash"))]


def requirements_of(project: Mapping[str, Any], extras: Iterable[str]) -> list[Requirement]:
    """Return what the base and some extras of the project ask for."""
    optional = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in extras for line in optional[extra])]
    return [Requirement(line) for line in lines]


def linux(python: str) -> Environment:
    """Return the values of markers on Linux with a Python version such as "3.10"."""
    here = {name: str(value) for name, value in default_environment().items()}
    return here | {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
    }


def lock_problems(
    lock: Iterable[Requirement],
    wanted: Iterable[Requirement],
    constraints: Iterable[Requirement],
    environment: Environment,
) -> Iterator[str]:
    """Yield what the lock lacks, or has in a version that is not allowed, in an environment."""
    where = f"on Python {environment['python_version']}"
    pinned = versions_in(lock, environment)
    asked = [req for req in wanted if applies(req, environment)]
    limits = [req for req in constraints if applies(req, environment) and canonical(req) in pinned]
    for requirement in [*asked, *limits]:
        version = pinned.get(canonical(requirement))
        if version is None:
            yield f"requirements.lock lacks {requirement} {where}. Run scripts/lock."
        elif not requirement.specifier.contains(version, prereleases=True):
            has = f"requirements.lock has {requirement.name} {version}"
            yield f"{has}, not {requirement}, {where}. Run scripts/lock."


def version_problems(lock: Iterable[Requirement], installed: Mapping[str, str]) -> Iterator[str]:
    """Yield the installed packages that have another version than the lock gives them here."""
    here = {name: str(value) for name, value in default_environment().items()}
    for name, version in versions_in(lock, here).items():
        if installed.get(name, version) != version:
            yield f"{name} is {installed[name]} here and {version} in requirements.lock. Run scripts/setup."


def licence_problems(licences: Mapping[str, str]) -> Iterator[str]:
    """Yield the packages under a licence that would bind whoever ships them, or under none that is told."""
    for name, licence in sorted(licences.items()):
        if not licence:
            yield f"{name} does not say its licence. Do without it, or ask its makers."
        elif binding(licence):
            yield f"{name} is under {licence!r}. Do without it, or make it an extra of the user's own."


def binding(licence: str) -> bool:
    """Return whether it is the GPL or AGPL, and leaves no other choice; the LGPL is neither."""
    choices = re.split(r"\bOR\b|;", licence)
    return all(re.search(r"\bA?GPL|Affero|(?<!Lesser )General Public", part) for part in choices)


def licence_of(dist: metadata.Distribution) -> str:
    """Return the licence that a package declares: its expression, else classifiers, else the first line."""
    fields = dist.metadata
    if fields.get("License-Expression"):
        return str(fields["License-Expression"])
    classifiers = [
        line.split(" :: ")[-1] for line in fields.get_all("Classifier") or () if "License ::" in line
    ]
    named = [name for name in classifiers if name != "OSI Approved"]
    if named:
        return "; ".join(named)
    text = (fields.get("License") or "").strip()
    return text.splitlines()[0] if text and text != "UNKNOWN" else ""


def closure(requirements: Iterable[Requirement]) -> list[metadata.Distribution]:
    """Return the installed packages that requirements bring, and those that these bring in turn."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [(requirement, "") for requirement in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonical(requirement)
        key = f"{name}[{','.join(sorted(requirement.extras))}]"
        if key in found:
            continue
        try:
            found[key] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            # an extra that is not installed here
            continue
        needs = [Requirement(line) for line in found[key].requires or ()]
        waiting += [(need, chosen) for need in needs for chosen in ("", *requirement.extras)]
    return list(found.values())


def versions_in(lock: Iterable[Requirement], environment: Environment) -> dict[str, str]:
    """Return name -> version of what the lock pins in an environment."""
    return {canonical(req): next(iter(req.specifier)).version for req in lock if applies(req, environment)}


def installed_versions() -> dict[str, str]:
    """Return name -> version of what is installed."""
    return {canonicalize_name(dist.name): dist.version for dist in metadata.distributions()}


def applies(requirement: Requirement, environment: Environment) -> bool:
    """Return whether the marker of a requirement, if it has one, is true."""
    return requirement.marker is None or requirement.marker.evaluate(dict(environment))


def canonical(requirement: Requirement) -> str:
    """Return the name of a package as the index spells it."""
    return canonicalize_name(requirement.name)


if __name__ == "__main__":
    sys.exit(main())
