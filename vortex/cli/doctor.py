"""``vortex doctor``: what can run here, and why not."""

from __future__ import annotations

import argparse
import json
import os
import platform
from typing import Any, TextIO

from vortex.engines.base import ENGINES, why_unavailable
from vortex.extras.installed import EXTRAS, why_not_installed
from vortex.version import __version__


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands of this file to the parser; ``common`` holds the options of every command."""
    doctor = commands.add_parser("doctor", parents=[common], help="tell what can run here, and why not")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.set_defaults(run=_doctor)


def _doctor(args: argparse.Namespace, console: TextIO) -> int:
    engines = {name: why_unavailable(name) for name in ENGINES}
    extras = {name: why_not_installed(name) for name in EXTRAS}
    if args.json:
        versions = {"vortex": __version__, "python": platform.python_version()}
        print(json.dumps({**versions, "engines": engines, "extras": extras}))
    else:
        print(f"vortex {__version__}, Python {platform.python_version()}, {os.cpu_count()} CPUs")
        for name, reason in engines.items():
            print(f"  {name:<13} {'can run' if reason is None else 'cannot run: ' + reason}")
        for name, reason in extras.items():
            print(f"  {name:<13} {'installed' if reason is None else reason}")
    return 0 if engines["mesh"] is None else 1
