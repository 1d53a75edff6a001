"""Which optional extras are installed, according to the metadata of the installed package."""

from __future__ import annotations

import re
from importlib import metadata

EXTRAS: tuple[str, ...] = ("neural", "speech", "image", "clip", "server", "webrtc", "cluster")
"""Extras that add functions; those for development are left out."""


def why_not_installed(extra: str) -> str | None:
    """Return which packages of an extra are missing and how to install them, or None if none is."""
    missing = []
    for requirement in metadata.requires("vortex-portrait") or []:
        needs, _, marker = requirement.partition(";")
        if re.search(rf"""extra\s*==\s*['"]{extra}['"]""", marker):
            package = re.split(r"[^A-Za-z0-9._-]", needs.strip())[0]
            try:
                metadata.version(package)
            except metadata.PackageNotFoundError:
                missing.append(package)
    if not missing:
        return None
    return f"{', '.join(missing)} not installed. Run: pip install 'vortex-portrait[{extra}]'"
