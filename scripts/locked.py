"""Prints the part of requirements.lock that the base and some extras need, for pip --require-hashes.

Usage: scripts/locked.py [EXTRAS]   (comma-separated; those that the lock lacks are left out; dev has all)
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKED = ("server", "speech")
"""The extras that the lock has."""
PROJECT = "vortex-portrait (pyproject.toml)"
BUILD = "build-requirements.in"


def entries(lock: str) -> list[tuple[str, str, set[str]]]:
    """Return of each entry its package, its lines, and the names of what requires it."""
    found = []
    for block in re.split(r"\n(?=[a-z0-9])", lock):
        name = re.match(r"([a-z0-9-]+)==", block)
        if name:
            via = re.findall(r"^    #(?: via)? +(.+)$", block, re.M)
            found.append((name[1], block, set(via)))
    return found


def needed(lock: str, extras: set[str]) -> str:
    """Return the entries that the base and ``extras`` need, and those that build the package."""
    parts, direct = entries(lock), direct_names(extras)
    names = {name for name, _, via in parts if f"-r {BUILD}" in via or (PROJECT in via and name in direct)}
    while True:
        more = {name for name, _, via in parts if name not in names and via & names}
        if not more:
            return "\n".join(block for name, block, _ in parts if name in names) + "\n"
        names |= more


def direct_names(extras: set[str]) -> set[str]:
    """Return the packages that pyproject.toml itself names for the base and ``extras``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    names = [re.match(r"[A-Za-z0-9._-]+", entry) for entries_ in lists for entry in entries_]
    return {re.sub(r"[-_.]+", "-", match[0]).lower() for match in names if match}


def main() -> None:
    given = set(filter(None, "".join(sys.argv[1:]).split(",")))
    extras = set(LOCKED) if "dev" in given else given & set(LOCKED)
    if "webrtc" in given:
        extras.add("server")
    print(needed((ROOT / "requirements.lock").read_text(), extras), end="")


if __name__ == "__main__":
    main()
