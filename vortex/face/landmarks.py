"""Indices of MediaPipe's face mesh of 478 points; no other file has any.

"Left" and "Right" are the person's own sides; the person's left is on the viewer's right. Pairs and rows run
from the viewer's left to the right, unless they say upper and lower.
"""

from __future__ import annotations

import numpy as np

LANDMARKS = 478
SKIN_LANDMARKS = 468
"""The first 468 landmarks lie on the skin, the last ten on the irises."""
IRIS_CENTRES = (468, 473)

FOREHEAD = 10
"""Top of the face oval."""
NOSE_TIP = 1
NOSE_BRIDGE = 168
CHIN = 152
JAW_TIP = [152, 148, 377, 176, 400]
"""The chin and two points of the jaw on either side."""
FACE_SIDES = (234, 454)
"""Where the face oval is widest, in front of the ears."""
UPPER_CHEEKS = [50, 280]
"""Below the eyes, where the grain of the picture is measured."""
OUTER_EYE_CORNERS = (33, 263)
INNER_LIPS = (13, 14)
"""Middle of the inner edge of the upper and of the lower lip."""
MOUTH_CORNERS, INNER_MOUTH_CORNERS = (61, 291), (78, 308)
"""Corners of the outer and of the inner edge of the lips."""
UPPER_LIP_MIDDLE = [82, 13, 312]
"""Middle third of the inner edge of the upper lip."""
LOWER_LIP_FLESH = [15, 16, 315, 85]
"""On the red of the lower lip, below its middle."""
CHEEK_SKIN = [50, 280, 205, 425]
"""On both cheeks, where the colour of the skin is measured."""
LEFT_EYE, RIGHT_EYE = (386, 374, 362, 263), (159, 145, 33, 133)
"""Middle of the upper lid, middle of the lower lid, and both corners of an eye."""
EYES = [33, 133, 159, 145, 362, 263, 386, 374]
"""The points of both eyes."""
STEADY = [33, 133, 263, 362, 168, 6]
"""Eye corners and bridge of the nose, which move with the head only."""
STABLE = [10, 338, 297, 67, 109, 151, 9, 8, 168, 6, 197, 33, 133, 362, 263, 127, 356, 234, 454, 21, 251]
"""Forehead, bridge of the nose, eye corners and temples, which speech hardly moves."""
CROP_OUTLINE = [
    127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323,
    454, 356, 70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
]  # fmt: skip
"""Jaw, cheeks and brows without the forehead, as LivePortrait's crop rule measures the face."""

UPPER_INNER = np.array([78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308])
LOWER_INNER = np.array([78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308])
"""Inner edges of the lips, from the person's right corner to the left one."""
UPPER_RINGS = np.array(
    [
        [191, 80, 81, 82, 13, 312, 311, 310, 415],
        [183, 42, 41, 38, 12, 268, 271, 272, 407],
        [184, 74, 73, 72, 11, 302, 303, 304, 408],
        [185, 40, 39, 37, 0, 267, 269, 270, 409],
    ]
)
LOWER_RINGS = np.array(
    [
        [95, 88, 178, 87, 14, 317, 402, 318, 324],
        [96, 89, 179, 86, 15, 316, 403, 319, 325],
        [77, 90, 180, 85, 16, 315, 404, 320, 307],
        [146, 91, 181, 84, 17, 314, 405, 321, 375],
    ]
)
"""Rings of each lip (4, 9), from the inner edge outwards; nine columns between the corners."""
LIP_CORNERS = np.array([78, 308, 62, 292, 76, 306, 61, 291])
"""Both corners of each of these rings."""
OUTER_LIPS = np.concatenate([MOUTH_CORNERS[:1], UPPER_RINGS[3], MOUTH_CORNERS[1:], LOWER_RINGS[3][::-1]])
"""Outer edge of the lips, clockwise in the picture from the person's right corner."""
BARE_SKIN = [9, 8, 151, 108, 337, 168, 6]
"""Forehead, between the brows, and bridge of the nose: skin that a mask over the mouth leaves free."""

LIDS = {
    "Right": (np.array([33, 246, 161, 160, 159, 158, 157, 173, 133]),
              np.array([33, 7, 163, 144, 145, 153, 154, 155, 133])),
    "Left": (np.array([362, 398, 384, 385, 386, 387, 388, 466, 263]),
             np.array([362, 382, 381, 380, 374, 373, 390, 249, 263])),
}  # fmt: skip
"""Upper and lower lid of each eye from corner to corner, left to right in the picture."""
LID_RINGS = {side: np.concatenate(lids) for side, lids in LIDS.items()}
"""All points of both lids of each eye."""
BROWS = {"Right": np.array([70, 63, 105, 66, 107]), "Left": np.array([300, 293, 334, 296, 336])}
"""Upper edge of each brow, from the temple to the nose."""
LOWER_BROWS = {"Right": np.array([46, 53, 52, 65, 55]), "Left": np.array([285, 295, 282, 283, 276])}
"""Lower edge of each brow, left to right in the picture."""
IRISES = {"Right": np.array([468, 469, 470, 471, 472]), "Left": np.array([473, 474, 475, 476, 477])}
"""Centre of each iris, and four points on its edge."""
FACE_OVAL = np.array(
    [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
     152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]
)  # fmt: skip
"""Outline of the face, clockwise in the picture from the middle of the forehead."""

MOUTH_ANCHORS = np.array([2, 97, 326, 98, 327, 36, 266, 101, 330, 50, 280, 123, 352, 147, 376])
"""Nostrils and cheeks, above and beside what moves with a mouth."""
MOUTH_SKIN = np.array([200, 199, 175, 187, 411, 192, 416, 212, 432, 202, 422, 204, 424])
"""Chin from the front, and cheeks beside the mouth."""
JAW_LINE = np.array([132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361])
"""Lower edge of the face from ear to ear."""
BELOW_NOSE = np.array([205, 203, 98, 97, 2, 326, 327, 423, 425])
"""Across the face below the nose, from cheek to cheek."""
