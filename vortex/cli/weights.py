"""``vortex weights``: fetch, verify, list."""

from __future__ import annotations

import argparse
from typing import Any, TextIO

from vortex.cli.console import progress_line


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands of this file to the parser; ``common`` holds the options of every command."""
    weights = commands.add_parser("weights", parents=[common], help="fetch and verify network weights")
    weights.add_argument("action", choices=("fetch", "verify", "list", "path"))
    weights.add_argument(
        "name", nargs="?", default="liveportrait", metavar="NAME", help="default liveportrait"
    )
    weights.set_defaults(run=_weights)


def _weights(args: argparse.Namespace, console: TextIO) -> int:
    # urllib and ssl come with it, which the other commands need not wait for
    from vortex import weights

    name = args.name
    if args.action == "fetch":
        # the licence is shown before anything is downloaded
        print(weights.describe_weights(name), file=console)
        folder = weights.fetch_weights(name, hook=progress_line(console) if console.isatty() else None)
        print(folder)
    elif args.action == "verify":
        folder = weights.verify_weights(name)
        print(f"{folder}: {len(weights.weights_files(name))} files, all as published")
    elif args.action == "list":
        missing = weights.missing_weights(name)
        print(weights.describe_weights(name))
        for file in weights.weights_files(name):
            state = "missing" if file in missing else "there"
            print(f"  {state:<8}{file.size_bytes:>13,} bytes  {file.path}")
    else:
        print(weights.weights_dir(name))
    return 0
