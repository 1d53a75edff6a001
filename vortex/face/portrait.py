"""Portraits: pictures with the face that will speak, its landmarks, expression and head pose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from vortex.errors import NoFaceError
from vortex.face.crop import CROP_PX, crop_transform
from vortex.face.landmarker import Landmarker, mediapipe_image, take_landmarker
from vortex.face.landmarks import SKIN_LANDMARKS
from vortex.media.picture import MAX_PIXELS, PictureSource, load_picture, picture_name
from vortex.types import F32, F64, Frame, Portrait

MIN_FACE_PX = 64
MAX_YAW_DEG = 40.0
MAX_ROLL_DEG = 60.0
REFINE_ZOOMS = (0.8, 1.0, 1.3)
"""Scales of the crops that :func:`_refine_face` averages over, relative to LivePortrait's crop."""

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
        faces = sorted(_find_faces(landmarker, image), key=lambda face: -face.size_px)
        face = _refine_face(landmarker, image, faces[0]) if faces else None
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
            faces = _detect(landmarker, frame, (0, 0))
            yield max(faces, key=lambda face: face.size_px).landmarks_px if faces else None


@dataclass(frozen=True, slots=True, eq=False)
class _Face:
    """One face: landmarks (478, 3), pixel centres, z in the scale of x; MediaPipe's blendshape scores (52,).

    ``rotation`` (3, 3) turns from the face to a frame with x right, y up, z towards the viewer.
    """

    landmarks_px: F32
    blendshapes: F32
    rotation: F64

    @property
    def size_px(self) -> float:
        """Larger side of the face in pixels."""
        return float(np.ptp(self.landmarks_px[:SKIN_LANDMARKS, :2], axis=0).max())

    @property
    def head_pose_deg(self) -> F32:
        """Pitch, yaw, roll (3,), signs as in :class:`vortex.types.MotionTrack`."""
        forward, right = self.rotation[:, 2], self.rotation[:, 0]
        pitch = -np.arcsin(np.clip(forward[1], -1, 1))
        yaw = np.arctan2(forward[0], forward[2])
        roll = -np.arctan2(right[1], right[0])
        return np.degrees([pitch, yaw, roll]).astype(np.float32)


def _find_faces(landmarker: Landmarker, image: Frame) -> list[_Face]:
    """Return the faces in the whole picture; if none, in overlapping tiles; at last, in it with a margin."""
    height, width = image.shape[:2]
    side = min(height, width)
    faces = _detect(landmarker, image, (0, 0))
    for part in (1, 2, 4):
        tile = side // part
        if faces or tile < MIN_FACE_PX:
            break
        for y in _tile_starts(height, tile):
            for x in _tile_starts(width, tile):
                for face in _detect(landmarker, image[y : y + tile, x : x + tile], (x, y)):
                    if not any(_same_face(face, known) for known in faces):
                        faces.append(face)
    if faces or side < MIN_FACE_PX:
        return faces
    # A detector trained on heads misses faces that the edge cuts.
    margin = side // 2
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    return _detect(landmarker, padded, (-margin, -margin))


def _tile_starts(length: int, tile: int) -> list[int]:
    """Return where tiles begin that cover ``length`` and overlap by about half."""
    count = max(int(np.ceil(2 * (length - tile) / tile)), 0) + 1
    return [int(v) for v in np.linspace(0, length - tile, count)]


def _same_face(one: _Face, other: _Face) -> bool:
    distance = np.linalg.norm(one.landmarks_px[:, :2].mean(0) - other.landmarks_px[:, :2].mean(0))
    return bool(distance < 0.5 * max(one.size_px, other.size_px))


def _refine_face(landmarker: Landmarker, image: Frame, face: _Face) -> _Face | None:
    """Return the mean of three upright crops, which varies a quarter as much as one; None if two fail."""
    import cv2

    close = crop_transform(face.landmarks_px, CROP_PX)
    detections = []
    for zoom in REFINE_ZOOMS:
        about_centre = np.diag([zoom, zoom, 1.0])
        about_centre[:2, 2] = (1 - zoom) * (CROP_PX - 1) / 2
        crop_from_image = about_centre @ close
        size, edge = (CROP_PX, CROP_PX), cv2.BORDER_REPLICATE
        crop = cv2.warpAffine(image, crop_from_image[:2], size, flags=cv2.INTER_LINEAR, borderMode=edge)
        found = _detect(landmarker, np.asarray(crop, np.uint8), (0, 0))
        if found:
            nearest = min(found, key=lambda face: abs(face.landmarks_px[:, :2].mean(0) - CROP_PX / 2).max())
            detections.append(_transformed(nearest, np.asarray(np.linalg.inv(crop_from_image), np.float64)))
    if len(detections) < 2:
        return None
    return _Face(
        np.mean([face.landmarks_px for face in detections], axis=0),
        np.mean([face.blendshapes for face in detections], axis=0),
        np.mean([face.rotation for face in detections], axis=0),
    )


def _transformed(face: _Face, transform: F64) -> _Face:
    """Return the face after a similarity (3, 3) of the picture, x right and y down."""
    turn = transform[:2, :2]
    scale = np.sqrt(np.linalg.det(turn))
    landmarks = face.landmarks_px.astype(np.float64)
    landmarks[:, :2] = landmarks[:, :2] @ turn.T + transform[:2, 2]
    landmarks[:, 2] *= scale
    # The rotation matrix has y up, the picture y down.
    spatial = np.eye(3)
    spatial[:2, :2] = turn / scale * [[1, -1], [-1, 1]]
    return replace(face, landmarks_px=landmarks.astype(np.float32), rotation=spatial @ face.rotation)


def _detect(landmarker: Landmarker, image: Frame, origin: tuple[int, int]) -> list[_Face]:
    """Return the faces in a part of a picture that begins at ``origin`` (x, y), in pixels of the picture."""
    height, width = image.shape[:2]
    result = landmarker.detect(mediapipe_image(image))
    matrices = result.facial_transformation_matrixes
    faces = []
    for points, scores, matrix in zip(result.face_landmarks, result.face_blendshapes, matrices, strict=True):
        landmarks = np.array([(p.x * width, p.y * height, p.z * width) for p in points], np.float32)
        # MediaPipe counts from the edge of the first pixel, vortex from its centre.
        landmarks[:, :2] += np.array(origin, np.float32) - 0.5
        rotation = np.asarray(matrix, np.float64)[:3, :3]
        rotation = rotation / np.linalg.norm(rotation, axis=0)
        faces.append(_Face(landmarks, np.array([score.score for score in scores], np.float32), rotation))
    return faces
