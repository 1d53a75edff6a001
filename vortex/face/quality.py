"""Which faces can be animated: what is refused, what is doubted, and what a user should know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vortex.face.appearance import Appearance, measure_appearance
from vortex.face.detection import MIN_FACE_PX, Face
from vortex.face.landmarks import (
    CHIN,
    INNER_LIPS,
    LEFT_EYE,
    OUTER_EYE_CORNERS,
    OUTER_LIPS,
    RIGHT_EYE,
)
from vortex.types import FloatArray, Frame

MAX_YAW_DEG = 40.0
MAX_ROLL_DEG = 60.0
NOTED_YAW_DEG = 25.0
NOTED_FACE_PX = 120.0
GOOD_FACE_PX = 200
"""Smaller faces become blurred in a video of 512 px."""
EDGE_PX = 2.0
"""Landmarks may lie this far outside the picture: they are not more exact than that."""
COVERED, PERHAPS_COVERED = 3.0, 1.0
"""Values of :attr:`Appearance.mouth_cover`. Of 233 photos, frames and paintings whose mouths are free, none
has more than 0.9; of 1026 altered ones, none more than 2.1, and 2.9 by weights learned from other people.
Half of the masks and cloths have more than 7."""
SCATTERED, PERHAPS_SCATTERED = 0.06, 0.03
"""Values of :attr:`Appearance.scatter`. Photos have at most 0.009, the worst painting that is located 0.025;
what is no face, and faces that are located wrongly, 0.05 to 1."""
BLURRED, PERHAPS_BLURRED = 0.06, 0.12
"""Values of :attr:`Appearance.detail`. Sharp faces have at least 0.16, also those of 64 px; a Gaussian blur
of 1/64 of the face's size leaves 0.09 to 0.27, one of 1/24 leaves 0.03 to 0.11, one of 1/16 0.02 to 0.08."""
DARK_GLASSES_SHADE, DARK_GLASSES_CONTRAST = -20.0, 9.0
"""Skin below the eyes this much darker than the cheeks, around eyes of less contrast, is no skin. None of
1400 faces has both; 98 % of faces with black glasses have."""
NO_EYES_CONTRAST = 3.0
"""Open or shut, in any light, the eyes of these faces have at least 3.4."""
SHUT_EYE = 0.10
"""Distance of the lids, in widths of the eye; open eyes have 0.2 to 0.5."""
WIDE_OPEN_MOUTH = 0.2
"""Distance of the lips' inner edges, in outer-eye widths; a smile that shows teeth has up to 0.15."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a face can probably not be animated, which the user may overrule; and what to give instead."""

    reason: str
    instead: str

    def __str__(self) -> str:
        """Return the message with which the face is refused."""
        return f"{self.reason}. Give {self.instead}, or set force_face."


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found about one face.

    Attributes:
        faults: why it cannot be animated, as messages: what we got and accept, and the next step.
        doubts: why it probably cannot.
        notes: what the user should know.
    """

    faults: tuple[str, ...]
    doubts: tuple[Doubt, ...]
    notes: tuple[str, ...]


def judge_face(image: Frame, face: Face, where: str) -> Verdict:
    """Judge a refined face of ``image``; messages call the picture ``where``."""
    faults = tuple(_faults(image, face, where))
    if faults:
        # The pixels of a face that is not all there would be judged wrongly.
        return Verdict(faults, (), ())
    seen = measure_appearance(image, face)
    return Verdict((), tuple(_doubts(seen, where)), (*_pose_notes(image, face), *_appearance_notes(seen)))


def face_is_shown(image: Frame, face: Face) -> bool:
    """Return whether a refined face has no faults, is located well, and shows its mouth."""
    if _faults(image, face, ""):
        return False
    seen = measure_appearance(image, face)
    return seen.mouth_cover < PERHAPS_COVERED and seen.scatter < PERHAPS_SCATTERED


def _faults(image: Frame, face: Face, where: str) -> list[str]:
    _, yaw, roll = (float(angle) for angle in face.head_pose_deg)
    faults = []
    if abs(roll) > MAX_ROLL_DEG:
        turn = "180 degrees" if abs(roll) > 135 else f"90 degrees {'counter-' if roll > 0 else ''}clockwise"
        faults.append(
            f"The face in {where} is tilted {abs(roll):.0f} degrees; at most {MAX_ROLL_DEG:.0f} can be "
            f"animated. Turn the picture by {turn}."
        )
    for part, indices in (("mouth of the face lies", OUTER_LIPS), ("eyes lie", [*LEFT_EYE, *RIGHT_EYE])):
        if _outside(image, face.landmarks_px[indices]):
            faults.append(
                f"The {part} outside {where}; mouth and eyes must be seen. "
                "Give a picture that shows the whole face."
            )
    if face.size_px < MIN_FACE_PX:
        faults.append(
            f"The face in {where} is {face.size_px:.0f} px wide; at least {MIN_FACE_PX} px are needed. "
            "Crop closer to the face from a larger picture."
        )
    if abs(yaw) > MAX_YAW_DEG:
        faults.append(
            f"The face in {where} is turned {abs(yaw):.0f} degrees to the side; at most "
            f"{MAX_YAW_DEG:.0f} can be animated. Give a more frontal picture."
        )
    return faults


def _outside(image: Frame, points: FloatArray) -> bool:
    limit = np.array(image.shape[1::-1]) - 1 + EDGE_PX
    return bool((points[:, :2] < -EDGE_PX).any() or (points[:, :2] > limit).any())


def _doubts(seen: Appearance, where: str) -> list[Doubt]:
    doubts = []
    if seen.scatter > SCATTERED:
        reason = f"Eyes and mouth of the face in {where} cannot be located; it may be no human face"
        doubts.append(Doubt(reason, "a picture of a face that looks at the camera"))
    elif seen.mouth_cover > COVERED and _is_measured(seen):
        reason = f"The mouth in {where} looks covered, as by a mask, a hand or a microphone"
        doubts.append(Doubt(f"{reason}; the lips must be seen", "a picture that shows them"))
    if seen.detail < BLURRED:
        reason = f"The face in {where} is blurred: it shows less detail than one of {MIN_FACE_PX} px"
        doubts.append(Doubt(reason, "a sharper picture"))
    return doubts


def _is_measured(seen: Appearance) -> bool:
    """Return whether the mouth is sharp and where it is looked for; elsewhere, every mouth seems covered."""
    return seen.detail >= PERHAPS_BLURRED and seen.scatter <= PERHAPS_SCATTERED


def _pose_notes(image: Frame, face: Face) -> list[str]:
    points = face.landmarks_px[:, :2]
    notes = []
    if face.size_px < NOTED_FACE_PX:
        notes.append(f"the face is only {face.size_px:.0f} px wide; from {GOOD_FACE_PX} px on it looks sharp")
    yaw = abs(float(face.head_pose_deg[1]))
    if yaw > NOTED_YAW_DEG:
        notes.append(f"the face is turned {yaw:.0f} degrees to the side; its far half may look smeared")
    if _outside(image, points[CHIN][None]):
        notes.append("the chin lies outside the picture")
    if all(
        _distance(points, eye[:2]) < SHUT_EYE * _distance(points, eye[2:]) for eye in (LEFT_EYE, RIGHT_EYE)
    ):
        notes.append("the eyes are shut in the picture; open eyes will look painted")
    if _distance(points, INNER_LIPS) > WIDE_OPEN_MOUTH * _distance(points, OUTER_EYE_CORNERS):
        notes.append("the mouth is wide open in the picture; closed lips will look painted")
    return notes


def _appearance_notes(seen: Appearance) -> list[str]:
    notes = []
    if PERHAPS_COVERED < seen.mouth_cover <= COVERED and _is_measured(seen):
        notes.append("the mouth may be covered: its lips hardly differ from what is around them")
    if PERHAPS_SCATTERED < seen.scatter <= SCATTERED:
        notes.append("eyes and mouth are hard to locate; movements may miss them")
    if BLURRED <= seen.detail < PERHAPS_BLURRED:
        notes.append("the face is blurred")
    dark_glasses = seen.eye_shade < DARK_GLASSES_SHADE and seen.eye_contrast < DARK_GLASSES_CONTRAST
    if dark_glasses or seen.eye_contrast < NO_EYES_CONTRAST:
        notes.append("the eyes look covered, as by dark glasses; blinks will be painted over them")
    return notes


def _distance(points: FloatArray, pair: tuple[int, ...]) -> float:
    return float(np.linalg.norm(points[pair[0]] - points[pair[1]]))
