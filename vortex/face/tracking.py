"""Follows one face through the frames of a video: landmarks and rotation in each frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vortex.errors import NoFaceError
from vortex.face.choice import LARGEST, choose_face, find_choices, no_such_face
from vortex.face.crop import CROP_PX, crop_transform
from vortex.face.detection import TILES, Face, detect_in_crop, find_faces
from vortex.face.landmarker import Landmarker, take_landmarker
from vortex.face.landmarks import LANDMARKS, OUTER_EYE_CORNERS
from vortex.types import F32, F64, Frame, read_only

SEARCH_INTERVAL_S = 1.0
"""While there is no face, very small ones are looked for this often, which takes a hundred detections."""
COARSE_FACE_PX = 30.0
"""With outer-eye widths below this, lips and lids move by fractions of a pixel."""

SAME_SIZE = 1.6
"""Among several people, one who was lost is found again if the face has at most so many times its size."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceTrack:
    """One face in T frames of a video; every number is NaN in a frame without it.

    ``times_s`` (T,) float64 are the times of the frames after the first one, rising. ``landmarks_px``
    (T, 478, 3) float32 and ``rotations`` (T, 3, 3) float64 are as in :class:`vortex.face.detection.Face`.
    ``notes`` are for the user; ``others`` is how many more faces one frame has.
    """

    times_s: F64
    landmarks_px: F32
    rotations: F64
    notes: tuple[str, ...] = ()
    others: int = 0

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        object.__setattr__(self, "landmarks_px", read_only(self.landmarks_px, np.float32))
        for name in ("times_s", "rotations"):
            object.__setattr__(self, name, read_only(getattr(self, name), np.float64))

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        """Return (T,) True in the frames in which the face was found."""
        return np.isfinite(self.landmarks_px[:, 0, 0])


def track_face(
    frames: Iterable[tuple[float, Frame]],
    *,
    name: str = "video",
    choice: str = LARGEST,
    on_face: Callable[[Frame, Face | None], None] | None = None,
) -> FaceTrack:
    """Follow one face, the largest of the first frame that has any; messages call the video ``name``.

    ``frames`` are times in seconds and pictures (H, W, 3) uint8 RGB of any size; only one is kept at a time.
    ``choice`` means another face of the first frame that has it, see :func:`vortex.face.choice.choose_face`.
    The face is looked for where it was last, then in the whole frame. After a gap, the nearest face goes on;
    where others were seen, only one near its place and of about its size does.
    ``on_face`` sees every frame, with its face or None.

    Raises:
        NoFaceError: no face in any frame, or no frame with as many faces as the number ``choice``.
    """
    times_s: list[float] = []
    faces: list[Face | None] = []
    last, searched_s, most = None, -np.inf, 0
    with take_landmarker() as landmarker:
        for time_s, frame in frames:
            found = _near(landmarker, frame, last) if last else None
            if found is None:
                thorough = time_s - searched_s >= SEARCH_INTERVAL_S
                if last is None and thorough:
                    candidates = find_choices(landmarker, frame, choice)
                else:
                    candidates = find_faces(landmarker, frame, TILES if thorough else TILES[:1])
                searched_s = time_s if thorough else searched_s
                most = max(most, len(candidates))
                found = _nearest(candidates, last, most > 1) if last else choose_face(candidates, choice)
                # All frames are measured in the same way, so that the first one does not stand out.
                found = found and (_near(landmarker, frame, found) or found)
            times_s.append(time_s)
            faces.append(found)
            last = found or last
            if on_face:
                on_face(frame, found)
    if last is None and most:
        raise no_such_face(choice, most, f"'{name}'")
    if last is None:
        raise NoFaceError(
            f"No face found in any frame of '{name}'. Give a video of a face towards the camera."
        )
    return _as_track(times_s, faces, most - 1, choice)


def _near(landmarker: Landmarker, frame: Frame, last: Face) -> Face | None:
    """Return the face where it was last, or None."""
    return detect_in_crop(landmarker, frame, crop_transform(last.landmarks_px, CROP_PX))


def _nearest(candidates: list[Face], last: Face, among_others: bool) -> Face | None:
    """Return the face nearest to where it was last; ``among_others``, only one that may be the same."""

    def distance_px(face: Face) -> float:
        return float(np.linalg.norm(face.landmarks_px[:, :2].mean(0) - last.landmarks_px[:, :2].mean(0)))

    nearest = min(candidates, key=distance_px, default=None)
    if nearest is None or not among_others:
        return nearest
    alike = 1 / SAME_SIZE < nearest.size_px / last.size_px < SAME_SIZE
    return nearest if alike and distance_px(nearest) < last.size_px else None


def _as_track(times_s: list[float], faces: list[Face | None], others: int, choice: str) -> FaceTrack:
    """Return the faces as arrays, with notes on what a user should know."""
    frames = len(faces)
    landmarks_px = np.full((frames, LANDMARKS, 3), np.nan, np.float32)
    rotations = np.full((frames, 3, 3), np.nan)
    for row, face in enumerate(faces):
        if face is not None:
            landmarks_px[row], rotations[row] = face.landmarks_px, face.rotation
            faces[row] = None  # only the arrays are kept
    missing = int(np.isnan(landmarks_px[:, 0, 0]).sum())
    corners = landmarks_px[:, list(OUTER_EYE_CORNERS), :2]
    width_px = float(np.nanmedian(np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1)))
    notes = []
    if others and choice == LARGEST:
        notes.append(f"{others + 1} faces in the video, followed the largest")
    if missing:
        notes.append(f"no face in {missing} of {frames} frames of the video; the motion is bridged there")
    if width_px < COARSE_FACE_PX:
        notes.append(f"the eyes in the video are {width_px:.0f} px apart; a larger face moves more exactly")
    return FaceTrack(np.subtract(times_s, times_s[0]), landmarks_px, rotations, tuple(notes), others)
