"""Puts chosen mouths into the frames of a clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vortex.face.landmarks import OUTER_EYE_CORNERS
from vortex.revoice.blending import blend, match_tone, region_mask
from vortex.revoice.library import MouthLibrary
from vortex.revoice.warping import MouthPicture, move_lips, place, warped
from vortex.types import F64, Frame


@dataclass(frozen=True, slots=True, eq=False)
class MouthShare:
    """A mouth with its share of a frame; ``fixed``: its lips are as wanted already."""

    mouth: MouthPicture
    share: float
    fixed: bool = False


def compose(
    frame: Frame,
    library: MouthLibrary,
    number: int,
    wanted: F64,
    mouths: list[MouthShare],
    shown: float = 1.0,
) -> None:
    """Put mouths with ``wanted`` lips (6,) into frame ``number`` of a clip, in place.

    The shares of the mouths sum to 1; ``shown`` is that of all of them in the frame.
    """
    rows = slice(number, number + 1)
    pose = library.poses.rows(rows)
    target = library.landmarks_px[number, :, :2].astype(np.float64)
    places, faces = [], [target]
    for each in mouths:
        face = each.mouth.face
        moved = move_lips(face, each.mouth.lips, wanted)
        restored = [pose.restore(points[None])[0, :, :2] for points in (moved, face)]
        faces.append(restored[0])
        shown_face = (face, restored[1]) if each.fixed else (moved, restored[0])
        places.append(place(each.mouth, *shown_face, restored[1], target))
    region = region_mask((frame.shape[1], frame.shape[0]), tuple(faces))
    if region is None:
        return
    share, box = region
    x0, y0, x1, y1 = box
    pictures = [warped(each.mouth, placing, box) for each, placing in zip(mouths, places, strict=True)]
    mixed = pictures[0]
    if len(pictures) > 1:
        total = sum(each.share * p.astype(np.float32) for each, p in zip(mouths, pictures, strict=True))
        mixed = np.asarray(total + 0.5, np.uint8)
    eye_px = float(np.linalg.norm(np.subtract(*target[list(OUTER_EYE_CORNERS)])))
    toned = match_tone(mixed, frame[y0:y1, x0:x1], share, eye_px)
    blend(frame, toned, np.float32(shown) * share, box)
