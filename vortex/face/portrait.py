"""Portraits: pictures with the face that will speak, its landmarks, expression and head pose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from vortex.errors import NoFaceError
from vortex.face.choice import LARGEST, choose_face, find_choices, no_such_face
from vortex.face.crop import CROP_PX, CROP_RISE, CROP_SCALE, KEPT_FRAMING, crop_transform
from vortex.face.detection import (
    MIN_FACE_PX,
    Face,
    detect_faces,
    find_faces,
    refine_face,
    transformed,
)
from vortex.face.landmarker import Landmarker, take_landmarker
from vortex.face.landmarks import CROP_OUTLINE
from vortex.face.quality import MAX_ROLL_DEG, face_is_shown, judge_face
from vortex.media.picture import MAX_PIXELS, Picture, PictureSource, load_picture, picture_name
from vortex.types import F32, F64, Frame, Portrait

CLOSE_UP_BELOW_PX = 320.0
"""Smaller faces in a reduced picture are cut from the original: their crop would have less than 736 px."""
CLOSE_UP_MARGIN = 1.1
"""Side of the close-up, in sides of the smallest picture that is cropped like a larger one."""

PortraitSource: TypeAlias = "PictureSource | Portrait"
"""A picture, see :data:`vortex.media.picture.PictureSource`, or a loaded portrait."""


def load_portrait(
    source: PortraitSource,
    *,
    max_pixels: int = MAX_PIXELS,
    force_face: bool = False,
    face: str = LARGEST,
) -> Portrait:
    """Read a picture and find the face in it; a :class:`~vortex.types.Portrait` is returned as it is.

    Reads a path, the bytes of a file, an open binary file, a PIL image, or an array (H, W, 3) uint8, RGB
    order. Pictures of more than ``max_pixels`` are refused before they are decoded. A small face in a large
    picture is measured in the original, and the portrait has a close-up. ``face`` says which of several is
    meant, see :func:`vortex.face.choice.parse_face`.

    Raises the errors of :func:`vortex.media.picture.load_picture` and of :func:`detect_portrait`.
    """
    if isinstance(source, Portrait):
        return source
    picture = load_picture(source, max_pixels=max_pixels)
    portrait = _portrait(picture.image, picture, picture_name(source), force_face, face)
    return replace(portrait, notes=picture.notes + portrait.notes)


def detect_portrait(
    image: Frame, *, source_name: str = "picture", force_face: bool = False, face: str = LARGEST
) -> Portrait:
    """Find a face in ``image`` (H, W, 3) uint8 RGB; messages call it ``source_name``.

    ``face`` says which of several is meant, as in :func:`load_portrait`.

    Raises NoFaceError: no face, or fewer than the number ``face``; one below 64 px, turned more than 40
    degrees aside, tilted more than 60 or upside down; mouth or eyes outside the picture; and, unless
    ``force_face``, one that looks covered, blurred or not human.
    """
    return _portrait(image, None, source_name, force_face, face)


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """A picture of the face to measure, and the similarity (3, 3) from its pixels to the whole picture's."""

    image: Frame
    whole_from_view: F64


def _portrait(
    whole: Frame, original: Picture | None, source_name: str, force_face: bool, choice: str
) -> Portrait:
    """Return the portrait in ``whole``, with a close-up from ``original`` where that shows more."""
    width, height = original.full_px if original else whole.shape[1::-1]
    where = f"'{source_name}' ({width}x{height})"
    with take_landmarker() as landmarker:
        faces = find_choices(landmarker, whole, choice)
        chosen = choose_face(faces, choice)
        if faces and chosen is None:
            raise no_such_face(choice, len(faces), where)
        view = _view(whole, original, chosen) if chosen else _View(whole, np.eye(3))
        face = None
        if chosen:
            view_from_whole = np.asarray(np.linalg.inv(view.whole_from_view), np.float64)
            face = refine_face(landmarker, view.image, transformed(chosen, view_from_whole))
        if face is None:
            _refuse_turned(landmarker, whole, where, (1, 2, 3))
            raise NoFaceError(
                f"No face found in {where}. vortex needs one face that looks at the camera, upright and "
                f"uncovered, at least {MIN_FACE_PX} px wide. Try a larger, sharper or more frontal picture."
            )
        verdict = judge_face(view.image, face, where)
        if verdict.faults or (verdict.doubts and not force_face):
            sideways = abs(face.head_pose_deg[2]) > MAX_ROLL_DEG
            _refuse_turned(landmarker, whole, where, (1, 3) if sideways else (1, 2, 3))
    refused = verdict.faults or (() if force_face else verdict.doubts)
    if refused:
        raise NoFaceError(str(refused[0]))
    untold = len(faces) > 1 and choice == LARGEST
    notes = [f"{len(faces)} faces found, took the largest; face chooses another one"] if untold else []
    found = _as_portrait(view.image, face)
    if view.image is not whole:
        found = replace(_as_portrait(whole, transformed(face, view.whole_from_view)), close_up=found)
        notes.append("the face is small in the picture, and was cut from the original")
    notes += [f"forced: {doubt.reason}" for doubt in verdict.doubts]
    return replace(found, notes=(*notes, *verdict.notes))


def _as_portrait(image: Frame, face: Face) -> Portrait:
    return Portrait(
        image=image,
        landmarks_px=face.landmarks_px,
        crop_from_image=crop_transform(face.landmarks_px, CROP_PX),
        head_pose_deg=face.head_pose_deg,
        blendshapes=face.blendshapes,
    )


def _view(whole: Frame, original: Picture | None, face: Face) -> _View:
    """Return the picture in which the face is measured: the whole one, or a cut from the original.

    :func:`vortex.face.crop.crop_face` chooses the same square in the cut as in the whole picture.
    """
    if original is None or original.scale <= 1 or face.size_px >= CLOSE_UP_BELOW_PX:
        return _View(whole, np.eye(3))
    outline = original.scale * (face.landmarks_px[CROP_OUTLINE, :2].astype(np.float64) + 0.5)
    low, high = outline.min(0), outline.max(0)
    wanted = CROP_SCALE * float((high - low).max())
    size = np.minimum(np.ceil(CLOSE_UP_MARGIN * KEPT_FRAMING * wanted), original.full_px).astype(int)
    centre = (low + high) / 2 - [0, CROP_RISE * wanted]
    x0, y0 = np.clip(np.round(centre - size / 2), 0, np.array(original.full_px) - size).astype(int)
    image = original.cut((x0, y0, x0 + size[0], y0 + size[1]))
    # Pixels of the cut are larger than the original's if it was reduced; both count from pixel centres.
    scale = size[0] / image.shape[1] / original.scale
    whole_from_view = np.diag([scale, scale, 1.0])
    whole_from_view[:2, 2] = (np.array([x0, y0]) / original.scale) + 0.5 * scale - 0.5
    return _View(image, whole_from_view)


def _refuse_turned(landmarker: Landmarker, image: Frame, where: str, tries: tuple[int, ...]) -> None:
    """Raise NoFaceError if the picture shows a face well when it is turned, which it does not as it is.

    MediaPipe turns faces by itself, but one that is upside down may be found where none is, the other way up.
    ``tries``: numbers of quarter turns counter-clockwise.
    """
    found = {}
    for turns in tries:
        turned = np.ascontiguousarray(np.rot90(image, turns))
        # Faces on their side are found as they are, and need no search in parts of the picture.
        faces = find_faces(landmarker, turned) if turns == 2 else detect_faces(landmarker, turned, (0, 0))
        faces.sort(key=lambda face: -face.size_px)
        face = refine_face(landmarker, turned, faces[0]) if faces else None
        if face is not None and face_is_shown(turned, face):
            found[turns] = face
    if not found:
        return
    turns = min(found, key=lambda turns: float(np.median(found[turns].scatter_px)))
    state, turn = {
        1: ("lies on its side", "90 degrees counter-clockwise"),
        2: ("is upside down", "180 degrees"),
        3: ("lies on its side", "90 degrees clockwise"),
    }[turns]
    raise NoFaceError(
        f"The face in {where} {state}; at most {MAX_ROLL_DEG:.0f} degrees of tilt can be animated. "
        f"Turn the picture by {turn}."
    )


def iter_landmarks(frames: Iterable[Frame]) -> Iterator[F32 | None]:
    """Yield the landmarks (478, 3) of the largest face of each frame, or None; one detection per frame."""
    with take_landmarker() as landmarker:
        for frame in frames:
            faces = detect_faces(landmarker, frame, (0, 0))
            yield max(faces, key=lambda face: face.size_px).landmarks_px if faces else None
