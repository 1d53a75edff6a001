"""``vortex faces``: the faces in a picture or a video, with the numbers by which they are chosen."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any, TextIO


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command of this file; ``common`` holds the options of every command."""
    faces = commands.add_parser(
        "faces", parents=[common], help="list the faces in a picture or a video",
        description="List the faces from left to right; --face NUMBER of the other commands takes one.",
    )  # fmt: skip
    faces.add_argument("portrait", metavar="PORTRAIT", help="picture or video with faces")
    faces.add_argument("--json", action="store_true", help="print the list as JSON")
    faces.set_defaults(run=_faces)


def _faces(args: argparse.Namespace, _console: TextIO) -> int:
    from vortex.face.listing import list_faces

    found = list_faces(args.portrait)
    if args.json:
        print(json.dumps([asdict(face) for face in found]))
        return 0
    for face in found:
        left, top, right, bottom = face.box_px
        size = f"{right - left:.0f}x{bottom - top:.0f} px at {left:.0f},{top:.0f}"
        print(f"{face.number:2d}  {size:24}{'largest  ' if face.largest else ''}{face.problem}".rstrip())
    return 0
