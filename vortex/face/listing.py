"""Lists the faces in a picture or a video, so that a user can choose one of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vortex.errors import NoFaceError
from vortex.face.choice import from_left
from vortex.face.detection import Face, find_every_face, refine_face
from vortex.face.landmarker import Landmarker, take_landmarker
from vortex.face.landmarks import SKIN_LANDMARKS
from vortex.face.quality import judge_face
from vortex.media.picture import PictureSource, load_picture, picture_name
from vortex.media.reading import is_video, iter_timed_frames
from vortex.types import Frame

MAX_SEARCH_S = 60.0
"""A video that shows no face for this long is not searched further."""


@dataclass(frozen=True, slots=True)
class FoundFace:
    """One of the faces of a picture.

    Attributes:
        number: 1 for the face furthest to the left; what the option ``face`` takes.
        box_px: left, top, right, bottom of the face, in pixels of the upright picture, whose longer side is
            reduced to 1920 px.
        largest: whether it is the one that is taken without the option.
        problem: why it cannot be animated, or only with ``force_face``; "" if it can.
    """

    number: int
    box_px: tuple[float, float, float, float]
    largest: bool
    problem: str


def list_faces(source: PictureSource) -> tuple[FoundFace, ...]:
    """Return the faces in a picture, or in the first frame of a video that shows any, from left to right.

    ``source``: the path of a picture or of a video; or another picture, see
    :func:`vortex.face.portrait.load_portrait`.

    Raises:
        ImageError, InputError: it cannot be read.
        NoFaceError: it shows no face.
    """
    name = picture_name(source)
    with take_landmarker() as landmarker:
        if isinstance(source, str | os.PathLike) and is_video(Path(source)):
            image, faces = _first_frame_with_faces(landmarker, Path(source))
        else:
            image = load_picture(source).image
            faces = find_every_face(landmarker, image)
        if not faces:
            raise NoFaceError(f"No face found in '{name}'. Give a picture or a video of a face.")
        largest = max(faces, key=lambda face: face.size_px)
        return tuple(
            _found(landmarker, image, face, number, largest=face is largest)
            for number, face in enumerate(from_left(faces), start=1)
        )


def _first_frame_with_faces(landmarker: Landmarker, path: Path) -> tuple[Frame, list[Face]]:
    start_s = None
    for time_s, frame in iter_timed_frames(path):
        start_s = time_s if start_s is None else start_s
        faces = find_every_face(landmarker, frame)
        if faces or time_s - start_s > MAX_SEARCH_S:
            return frame, faces
    return np.zeros((1, 1, 3), np.uint8), []


def _found(landmarker: Landmarker, image: Frame, face: Face, number: int, *, largest: bool) -> FoundFace:
    refined = refine_face(landmarker, image, face)
    problem = "it cannot be located"
    if refined is not None:
        verdict = judge_face(image, refined, "the picture")
        problem = str(next(iter((*verdict.faults, *verdict.doubts)), ""))
    points = face.landmarks_px[:SKIN_LANDMARKS, :2]
    left, top, right, bottom = (round(float(edge), 1) for edge in (*points.min(0), *points.max(0)))
    return FoundFace(number, (left, top, right, bottom), largest, problem)
