"""Fails if a lower bound of pyproject.toml admits a version that known_holes.txt lists."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]


def read_holes(text: str) -> dict[str, Version]:
    """Return package -> first version without known holes."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = [re.fullmatch(r"([a-z0-9-]+)<([0-9.]+)  \S.*", line) for line in lines]
    wrong = [line for line, match in zip(lines, found, strict=True) if match is None]
    if wrong:
        raise ValueError(f"known_holes.txt has {wrong[0]!r}; write: package<version  reason")
    return {canonicalize_name(match[1]): Version(match[2]) for match in found if match}


def admitted(requirements: list[str], holes: dict[str, Version]) -> list[str]:
    """Return the requirements whose lower bound is below the first version without holes."""
    low = []
    for requirement in map(Requirement, requirements):
        bound = holes.get(canonicalize_name(requirement.name))
        least = [Version(s.version) for s in requirement.specifier if s.operator in (">=", "==", "~=")]
        if bound is not None and (not least or max(least) < bound):
            low.append(f"{requirement}: at least {bound} is needed")
    return low


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [entry for group in project["optional-dependencies"].values() for entry in group]
    low = admitted([*project["dependencies"], *extras], read_holes((ROOT / "known_holes.txt").read_text()))
    for line in low:
        print(f"audit: {line}; known_holes.txt says why", file=sys.stderr)
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
