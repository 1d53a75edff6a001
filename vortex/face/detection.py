"""Finds faces in pictures: landmarks, expression and rotation of each, by MediaPipe."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vortex.face.crop import CROP_PX, crop_transform
from vortex.face.landmarker import Landmarker, mediapipe_image
from vortex.face.landmarks import LANDMARKS, SKIN_LANDMARKS
from vortex.face.pose import pose_of_rotation
from vortex.types import F32, F64, Frame

MIN_FACE_PX = 64
"""Faces smaller than this are not looked for in parts of a picture, and not animated."""
TILES = (1, 2, 4)
"""Sizes of tiles in which :func:`find_faces` looks for small faces: the last ones are a hundred."""
EVERY_FACE_PARTS = TILES[:2]
"""Sizes of the tiles of :func:`find_every_face`."""
REFINE_ZOOMS = (0.8, 1.0, 1.3)
"""Scales of the crops that :func:`refine_face` averages over, relative to LivePortrait's crop."""


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face: landmarks (478, 3), pixel centres, z in the scale of x; MediaPipe's blendshape scores (52,).

    ``rotation`` (3, 3) turns from the face to a frame with x right, y up, z towards the viewer.
    ``scatter_px`` (478,): the largest distance of each landmark from its mean over several detections.
    """

    landmarks_px: F32
    blendshapes: F32
    rotation: F64
    scatter_px: F32 = field(default_factory=lambda: np.zeros(LANDMARKS, np.float32))

    @property
    def size_px(self) -> float:
        """Larger side of the face in pixels."""
        return float(np.ptp(self.landmarks_px[:SKIN_LANDMARKS, :2], axis=0).max())

    @property
    def head_pose_deg(self) -> F32:
        """Pitch, yaw, roll (3,), signs as in :class:`vortex.types.MotionTrack`."""
        return pose_of_rotation(self.rotation).astype(np.float32)


def find_faces(landmarker: Landmarker, image: Frame, parts: tuple[int, ...] = TILES) -> list[Face]:
    """Return the faces in the whole picture; if none, in overlapping tiles; at last, in it with a margin.

    Tiles are squares whose side is the shorter side of the picture over each of ``parts``. Beside large faces
    small ones may be missed; see :func:`find_every_face`.
    """
    side = min(image.shape[:2])
    faces = detect_faces(landmarker, image, (0, 0))
    for part in parts:
        tile = side // part
        if faces or tile < MIN_FACE_PX:
            break
        _add_from_tiles(faces, landmarker, image, tile)
    if faces or side < MIN_FACE_PX:
        return faces
    # A detector trained on heads misses faces that the edge cuts.
    margin = side // 2
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    return detect_faces(landmarker, padded, (-margin, -margin))


def find_every_face(landmarker: Landmarker, image: Frame) -> list[Face]:
    """Return the faces of :func:`find_faces`, and those in tiles of the shorter side and of half of it.

    It takes some twenty detections, and is for pictures from which a user chooses a face.
    """
    faces = find_faces(landmarker, image)
    for part in EVERY_FACE_PARTS:
        tile = min(image.shape[:2]) // part
        if tile >= MIN_FACE_PX:
            _add_from_tiles(faces, landmarker, image, tile)
    return faces


def _add_from_tiles(faces: list[Face], landmarker: Landmarker, image: Frame, tile: int) -> None:
    """Add the faces that tiles of the picture show and ``faces`` does not have."""
    for y in _tile_starts(image.shape[0], tile):
        for x in _tile_starts(image.shape[1], tile):
            for face in detect_faces(landmarker, image[y : y + tile, x : x + tile], (x, y)):
                if not any(same_face(face, known) for known in faces):
                    faces.append(face)


def _tile_starts(length: int, tile: int) -> list[int]:
    """Return where tiles begin that cover ``length`` and overlap by about half."""
    count = max(int(np.ceil(2 * (length - tile) / tile)), 0) + 1
    return [int(v) for v in np.linspace(0, length - tile, count)]


def same_face(one: Face, other: Face) -> bool:
    """Return whether two faces of a picture are less than half a face apart."""
    distance = np.linalg.norm(one.landmarks_px[:, :2].mean(0) - other.landmarks_px[:, :2].mean(0))
    return bool(distance < 0.5 * max(one.size_px, other.size_px))


def refine_face(landmarker: Landmarker, image: Frame, face: Face) -> Face | None:
    """Return the mean of three upright crops, which varies a quarter as much as one; None if two fail."""
    close = crop_transform(face.landmarks_px, CROP_PX)
    detections = []
    for zoom in REFINE_ZOOMS:
        about_centre = np.diag([zoom, zoom, 1.0])
        about_centre[:2, 2] = (1 - zoom) * (CROP_PX - 1) / 2
        found = detect_in_crop(landmarker, image, about_centre @ close)
        if found is not None:
            detections.append(found)
    if len(detections) < 2:
        return None
    points = np.array([face.landmarks_px for face in detections])
    mean = points.mean(axis=0)
    return Face(
        mean,
        np.mean([face.blendshapes for face in detections], axis=0),
        np.mean([face.rotation for face in detections], axis=0),
        np.linalg.norm(points[..., :2] - mean[:, :2], axis=2).max(axis=0),
    )


def detect_in_crop(landmarker: Landmarker, image: Frame, crop_from_image: F64) -> Face | None:
    """Return the face nearest to the middle of a crop of CROP_PX pixels, in pixels of the picture, or None.

    ``crop_from_image`` (3, 3) is a similarity, such as :func:`vortex.face.crop.crop_transform` returns.
    """
    import cv2

    size, edge = (CROP_PX, CROP_PX), cv2.BORDER_REPLICATE
    crop = cv2.warpAffine(image, crop_from_image[:2], size, flags=cv2.INTER_LINEAR, borderMode=edge)
    found = detect_faces(landmarker, np.asarray(crop, np.uint8), (0, 0))
    if not found:
        return None
    nearest = min(found, key=lambda face: abs(face.landmarks_px[:, :2].mean(0) - CROP_PX / 2).max())
    return transformed(nearest, np.asarray(np.linalg.inv(crop_from_image), np.float64))


def transformed(face: Face, transform: F64) -> Face:
    """Return the face after a similarity (3, 3) of the picture, x right and y down."""
    turn = transform[:2, :2]
    scale = np.sqrt(np.linalg.det(turn))
    landmarks = face.landmarks_px.astype(np.float64)
    landmarks[:, :2] = landmarks[:, :2] @ turn.T + transform[:2, 2]
    landmarks[:, 2] *= scale
    # The rotation matrix has y up, the picture y down.
    spatial = np.eye(3)
    spatial[:2, :2] = turn / scale * [[1, -1], [-1, 1]]
    return Face(
        landmarks.astype(np.float32),
        face.blendshapes,
        spatial @ face.rotation,
        (scale * face.scatter_px).astype(np.float32),
    )


def detect_faces(landmarker: Landmarker, image: Frame, origin: tuple[int, int]) -> list[Face]:
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
        faces.append(Face(landmarks, np.array([score.score for score in scores], np.float32), rotation))
    return faces
