"""The mouths of a person in a clip: measured once, and kept as small pictures."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vortex.face.appearance import measure_cover
from vortex.face.detection import Face
from vortex.face.landmarks import BELOW_NOSE, CHEEK_SKIN, JAW_LINE, OUTER_EYE_CORNERS, OUTER_LIPS
from vortex.face.pose import pose_of_rotation
from vortex.face.shapes import FacePoses, fit_poses
from vortex.face.tracking import FaceTrack
from vortex.revoice.lips import Mouth, find_mouth, measure_lips
from vortex.revoice.selection import MouthMeasures
from vortex.revoice.warping import MouthPicture
from vortex.types import F32, F64, I64, LUMA_WEIGHTS, Frame

MAX_MOUTHS = 1200
"""Most mouths that are kept, 10 to 60 kB each; of a longer clip, stretches that are spread evenly."""
STRETCH_FRAMES = 24
"""Frames of a stretch: mouths that follow each other move as they did."""
JPEG_QUALITY = 98
MARGIN = 0.4
"""What is kept around jaw and nose, in outer-eye widths."""
COVER_STEP, MAX_COVER = 8.0, 1.0
"""A mouth is covered if the logarithm of the odds exceeds that of the clip's median by the first, or the
second."""
SHARP_PERCENTILE = 90.0
CUT_STEP = 0.35
"""A face that jumps this far between two frames, in outer-eye widths, is another scene's."""


@dataclass(frozen=True, slots=True, eq=False)
class KeptMouth:
    """A mouth of frame ``number`` of the clip: a JPEG, and where its first pixel is in the frame."""

    number: int
    jpeg: bytes
    corner_px: tuple[int, int]


class MouthCollector:
    """Sees every frame of a clip while its face is followed; measures pixels and keeps mouths."""

    def __init__(self) -> None:
        self.kept: list[KeptMouth] = []
        self.light: list[float] = []
        self.detail: list[float] = []
        self.cover: list[float] = []
        self._number, self._every = 0, 1

    def __call__(self, frame: Frame, face: Face | None) -> None:
        """Take one frame with its face."""
        number, self._number = self._number, self._number + 1
        if face is None:
            for values in (self.light, self.detail, self.cover):
                values.append(np.nan)
            return
        points = face.landmarks_px[:, :2].astype(np.float64)
        x0, y0, x1, y1 = mouth_box(points, frame)
        patch = frame[y0:y1, x0:x1]
        self.light.append(_log_luma(frame, points[CHEEK_SKIN]))
        self.detail.append(_detail(patch))
        self.cover.append(measure_cover(frame, face.landmarks_px))
        if (number // STRETCH_FRAMES) % self._every:
            return
        done, jpeg = cv2.imencode(".jpg", patch, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY,
                                                  cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111])  # fmt: skip
        if done:
            self.kept.append(KeptMouth(number, jpeg.tobytes(), (x0, y0)))
        if len(self.kept) > MAX_MOUTHS:
            self._every *= 2
            self.kept = [k for k in self.kept if (k.number // STRETCH_FRAMES) % self._every == 0]


def mouth_box(points: F64, frame: Frame) -> tuple[int, int, int, int]:
    """Return the box x0, y0, x1, y1 of a frame around mouth and jaw of landmarks (478, 2)."""
    around = points[np.concatenate([BELOW_NOSE, JAW_LINE[1:-1], OUTER_LIPS])]
    margin = MARGIN * float(np.linalg.norm(np.subtract(*points[list(OUTER_EYE_CORNERS)])))
    height, width = frame.shape[:2]
    low = np.clip(np.floor(around.min(axis=0) - margin), 0, [width - 2, height - 2]).astype(int)
    high = np.clip(np.ceil(around.max(axis=0) + margin) + 1, low + 2, [width, height]).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _log_luma(frame: Frame, places: F64) -> float:
    """Return the logarithm of the median luma around places (N, 2)."""
    patches = [
        frame[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4].reshape(-1, 3)
        for x, y in np.round(places).astype(int)
    ]
    return float(np.log(max(float(np.median(np.concatenate(patches) @ LUMA_WEIGHTS)), 4.0)))


def _detail(patch: Frame) -> float:
    """Return the standard deviation of the finest detail of a picture in levels of 255."""
    grey = cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY)
    return float((grey.astype(np.float32) - cv2.GaussianBlur(grey, (0, 0), 1.5)).std())


@dataclass(frozen=True, slots=True, eq=False)
class MouthLibrary:
    """What was measured of each frame of a clip, and the mouths that can be shown.

    T frames: ``landmarks_px`` (T, 478, 3), ``poses`` and ``measures`` hold numbers without meaning where
    ``usable`` (T,) is False: there is no face, or something covers the mouth. ``numbers`` (K,) are the frames
    whose mouths are ``kept``.
    """

    landmarks_px: F32
    poses: FacePoses
    measures: MouthMeasures
    found: npt.NDArray[np.bool_]
    usable: npt.NDArray[np.bool_]
    cuts: I64
    numbers: I64
    kept: tuple[KeptMouth, ...]
    mouth: Mouth

    def picture(self, row: int) -> MouthPicture:
        """Return the mouth of a row of the library."""
        mouth = self.kept[row]
        number = mouth.number
        pixels = cv2.imdecode(np.frombuffer(mouth.jpeg, np.uint8), cv2.IMREAD_COLOR)
        landmarks = self.landmarks_px[number : number + 1]
        face = self.poses.rows(slice(number, number + 1)).remove(landmarks)[0]
        return MouthPicture(
            np.asarray(pixels, np.uint8),
            np.array(mouth.corner_px, np.float64),
            landmarks[0, :, :2].astype(np.float64),
            face,
            self.measures.lips[number],
        )


def build_library(track: FaceTrack, seen: MouthCollector) -> MouthLibrary:
    """Return the library of a clip whose face was followed."""
    found = track.found
    filled = track.landmarks_px.copy()
    filled[~found] = filled[np.flatnonzero(found)[0]]
    poses = fit_poses(filled)
    faces = poses.remove(filled)
    lips = measure_lips(faces)
    cover = np.array(seen.cover)
    limit = min(float(np.nanmedian(cover)) + COVER_STEP, MAX_COVER)
    usable = found & (np.nan_to_num(cover, nan=np.inf) < limit)
    turns = np.where(found[:, None], pose_of_rotation(np.nan_to_num(track.rotations))[:, :2], 0)
    detail = np.array(seen.detail)
    sharp = float(np.nanpercentile(detail, SHARP_PERCENTILE))
    measures = MouthMeasures(
        lips,
        turns,
        np.nan_to_num(np.array(seen.light)),
        np.nan_to_num(np.minimum(detail / max(sharp, 1e-3), 1)),
    )
    kept = tuple(mouth for mouth in seen.kept if usable[mouth.number])
    return MouthLibrary(
        landmarks_px=filled,
        poses=poses,
        measures=measures,
        found=found,
        usable=usable,
        cuts=_cuts(filled, found),
        numbers=np.array([mouth.number for mouth in kept], np.int64),
        kept=kept,
        mouth=find_mouth(lips[usable] if usable.any() else lips[found]),
    )


def _cuts(landmarks_px: F32, found: npt.NDArray[np.bool_]) -> I64:
    """Return the numbers of frames with which another scene begins: the face jumps."""
    centres = landmarks_px[:, :, :2].mean(axis=1).astype(np.float64)
    corners = landmarks_px[:, list(OUTER_EYE_CORNERS), :2].astype(np.float64)
    width = np.median(np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1))
    step = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    return np.flatnonzero((step > CUT_STEP * width) & found[1:] & found[:-1]) + 1
