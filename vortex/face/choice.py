"""Which of several faces in a picture is meant: by its place, or by its number from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vortex.errors import InputError, NoFaceError
from vortex.face.detection import Face, find_every_face, find_faces
from vortex.face.landmarker import Landmarker
from vortex.types import Frame

LARGEST = "largest"
PLACES = (LARGEST, "left", "middle", "right")
MAX_NUMBER = 99


def parse_face(value: Any) -> str:
    """Return the choice of a face: one of :data:`PLACES`, or a number from 1 on, as text.

    Raises:
        InputError: the value is neither.
    """
    text = str(value).strip().lower()
    if text in PLACES or (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_NUMBER):
        return text if text in PLACES else str(int(text))
    raise InputError(
        f"face is {str(value)[:40]!r}; give {', '.join(PLACES)}, or a number from 1 to {MAX_NUMBER}, "
        "counted from left to right."
    )


def from_left(faces: Sequence[Face]) -> list[Face]:
    """Return the faces in the order of their numbers: by the middle of each, from left to right."""
    return sorted(faces, key=_middle_px)


def _middle_px(face: Face) -> float:
    return float(np.mean(face.landmarks_px[:, 0]))


def find_choices(landmarker: Landmarker, image: Frame, choice: str) -> list[Face]:
    """Return the faces of a picture among which ``choice`` decides: for a number or a place, every one."""
    return (find_faces if choice == LARGEST else find_every_face)(landmarker, image)


def choose_face(faces: Sequence[Face], choice: str) -> Face | None:
    """Return the face that ``choice`` means, as :func:`parse_face` returned it; None if there is none.

    "middle" is the face that has as many others on its left as on its right; of an even number, the larger
    one of the two in the middle.
    """
    if not faces:
        return None
    ordered = from_left(faces)
    if choice == LARGEST:
        return max(faces, key=lambda face: face.size_px)
    if choice == "middle":
        two = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
        return max(two, key=lambda face: face.size_px)
    if choice in PLACES:
        return ordered[0 if choice == "left" else -1]
    number = int(choice)
    return ordered[number - 1] if number <= len(ordered) else None


def no_such_face(choice: str, count: int, where: str) -> NoFaceError:
    """Return the error that ``where`` shows ``count`` faces, fewer than the number ``choice``."""
    shown = "one face" if count == 1 else f"{count} faces"
    return NoFaceError(
        f"face is {choice}, but {where} shows {shown}. 'vortex faces' lists them with their numbers."
    )
