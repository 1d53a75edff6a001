"""Portraits: pictures with the face that will speak, its landmarks, expression and head pose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias

from vortex.errors import NoFaceError
from vortex.face.crop import CROP_PX, crop_transform
from vortex.face.detection import MIN_FACE_PX, detect_faces, find_faces, refine_face
from vortex.face.landmarker import take_landmarker
from vortex.media.picture import MAX_PIXELS, PictureSource, load_picture, picture_name
from vortex.types import F32, Frame, Portrait

MAX_YAW_DEG = 40.0
MAX_ROLL_DEG = 60.0

PortraitSource: TypeAlias = "PictureSource | Portrait"
"""A picture, see :data:`vortex.media.picture.PictureSource`, or a loaded portrait."""


def load_portrait(source: PortraitSource, *, max_pixels: int = MAX_PIXELS) -> Portrait:
    """Read a picture and find the face in it; a :class:`~vortex.types.Portrait` is returned as it is.

    Reads a path, the bytes of a file, an open binary file, a PIL image, or an array (H, W, 3) uint8, RGB
    order. Pictures of more than ``max_pixels`` are refused before they are decoded.

    Raises the errors of :func:`vortex.media.picture.load_picture` and of :func:`detect_portrait`.
    """
    if isinstance(source, Portrait):
        return source
    image, notes = load_picture(source, max_pixels=max_pixels)
    portrait = detect_portrait(image, source_name=picture_name(source))
    return replace(portrait, notes=notes + portrait.notes)


def detect_portrait(image: Frame, *, source_name: str = "picture") -> Portrait:
    """Find the largest face in ``image`` (H, W, 3) uint8 RGB; messages call it ``source_name``.

    Raises NoFaceError: no face, or one below 64 px, turned more than 40 degrees aside or tilted more than 60.
    """
    where = f"'{source_name}' ({image.shape[1]}x{image.shape[0]})"
    with take_landmarker() as landmarker:
        faces = sorted(find_faces(landmarker, image), key=lambda face: -face.size_px)
        face = refine_face(landmarker, image, faces[0]) if faces else None
    if face is None:
        raise NoFaceError(
            f"No face found in {where}. vortex needs one face that looks at the camera, at least "
            f"{MIN_FACE_PX} px wide. Try a larger or more frontal picture."
        )
    if face.size_px < MIN_FACE_PX:
        raise NoFaceError(
            f"The face in {where} is {face.size_px:.0f} px wide; at least {MIN_FACE_PX} px are needed. "
            "Crop closer to the face from a larger picture."
        )
    pose = face.head_pose_deg
    if abs(pose[2]) > MAX_ROLL_DEG:
        raise NoFaceError(
            f"The face in {where} is tilted {abs(pose[2]):.0f} degrees; at most {MAX_ROLL_DEG:.0f} can be "
            "animated. Turn the picture upright."
        )
    if abs(pose[1]) > MAX_YAW_DEG:
        raise NoFaceError(
            f"The face in {where} is turned {abs(pose[1]):.0f} degrees to the side; at most "
            f"{MAX_YAW_DEG:.0f} can be animated. Give a more frontal picture."
        )
    return Portrait(
        image=image,
        landmarks_px=face.landmarks_px,
        crop_from_image=crop_transform(face.landmarks_px, CROP_PX),
        head_pose_deg=pose,
        blendshapes=face.blendshapes,
        notes=(f"{len(faces)} faces found, took the largest",) if len(faces) > 1 else (),
    )


def iter_landmarks(frames: Iterable[Frame]) -> Iterator[F32 | None]:
    """Yield the landmarks (478, 3) of the largest face of each frame, or None; one detection per frame."""
    with take_landmarker() as landmarker:
        for frame in frames:
            faces = detect_faces(landmarker, frame, (0, 0))
            yield max(faces, key=lambda face: face.size_px).landmarks_px if faces else None
