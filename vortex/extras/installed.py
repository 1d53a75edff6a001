"""Which optional extras are installed, by what the package itself says they need."""

from __future__ import annotations

import re
from importlib import metadata

EXTRAS: tuple[str, ...] = ("neural", "speech", "image", "clip", "server", "webrtc", "cluster")


def why_not_installed(extra: str) -> str | None:
    """Return which packages of an extra are missing and how to get them, or None if all are there."""
    missing = []
    for requirement in metadata.requires("vortex-portrait") or []:
        needs, _, marker = requirement.partition(";")
        if re.search(rf"""extra\s*==\s*['"]{extra}['"]""", marker):
            match = re.match(r"[A-Za-z0-9._-]+", needs.strip())
            if match and not _is_installed(match[0]):
                missing.append(match[0])
    if not missing:
        return None
    return f"{', '.join(missing)} not installed. Run: pip install 'vortex-portrait[{extra}]'"


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
