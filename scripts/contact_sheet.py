"""Render the mouth shapes, blinks and turns that show defects first, for any number of portraits, in one PNG.

Usage: python scripts/contact_sheet.py OUT.png [PORTRAIT...]

Without portraits, shows the demo portrait. Each row is a portrait, cut to the face: the picture itself,
p/b/m, AA, EE, OO, TH, OH, S, F, blink, yaw to both sides. With ``--zoom``, shows mouth and eyes enlarged.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from vortex.demo import demo_portrait
from vortex.engines.mesh.engine import MeshEngine
from vortex.face.crop import crop_face
from vortex.face.landmarks import CHIN, INNER_LIPS, OUTER_EYE_CORNERS
from vortex.face.portrait import load_portrait
from vortex.motion.drive import VISEME_BLENDSHAPES, expand
from vortex.types import MotionTrack
from vortex.visemes import VISEMES

TILE_PX = 224
POSES: dict[str, tuple[np.ndarray, tuple[float, float, float]]] = {
    "P B M": (VISEME_BLENDSHAPES[VISEMES.index("PP")], (0, 0, 0)),
    "AA": (VISEME_BLENDSHAPES[VISEMES.index("aa")], (0, 0, 0)),
    "EE": (VISEME_BLENDSHAPES[VISEMES.index("ih")], (0, 0, 0)),
    "OO": (VISEME_BLENDSHAPES[VISEMES.index("ou")], (0, 0, 0)),
    "TH": (VISEME_BLENDSHAPES[VISEMES.index("TH")], (0, 0, 0)),
    "OH": (VISEME_BLENDSHAPES[VISEMES.index("oh")], (0, 0, 0)),
    "SS": (VISEME_BLENDSHAPES[VISEMES.index("SS")], (0, 0, 0)),
    "F": (VISEME_BLENDSHAPES[VISEMES.index("FF")], (0, 0, 0)),
    "blink": (expand({"eyeBlink": 1.0, "mouthClose": 1.0}), (0, 0, 0)),
    "yaw -10": (VISEME_BLENDSHAPES[VISEMES.index("E")], (0, -10, 0)),
    "yaw +10": (expand({"mouthClose": 1.0}), (0, 10, 0)),
}


def row(path: Path, zoom: bool) -> np.ndarray:
    """Return one portrait's tiles side by side, RGB."""
    portrait = load_portrait(path)
    engine = MeshEngine()
    motion = MotionTrack(
        np.stack([shapes for shapes, _ in POSES.values()]),
        np.array([pose for _, pose in POSES.values()], np.float32),
        Fraction(24),
    )
    crop = crop_face(portrait, 512)
    frames = [crop.image, *engine.iter_frames(engine.prepare(portrait), motion)]
    points = crop.landmarks_px[:, :2]
    eye_width_px = float(np.linalg.norm(np.subtract(*points[list(OUTER_EYE_CORNERS)])))
    tiles = []
    for label, frame in zip(["source", *POSES], frames, strict=True):
        if not zoom:
            centre, half = points[[*OUTER_EYE_CORNERS, CHIN]].mean(0), 1.05 * eye_width_px
        elif label == "blink":
            centre, half = points[list(OUTER_EYE_CORNERS)].mean(0), 0.85 * eye_width_px
        else:
            centre, half = points[list(INNER_LIPS)].mean(0), 0.6 * eye_width_px
        half = min(half, 256)
        x0, y0 = np.clip(np.round(centre - half), 0, 512 - 2 * half).astype(int)
        frame = frame[y0 : y0 + round(2 * half), x0 : x0 + round(2 * half)]
        tiles.append(cv2.resize(frame, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA))
    return np.hstack(tiles)


def header() -> np.ndarray:
    """Return the strip of labels, RGB."""
    strip = np.full((24, TILE_PX * (len(POSES) + 1), 3), 255, np.uint8)
    for index, label in enumerate(["source", *POSES]):
        cv2.putText(strip, label, (index * TILE_PX + 6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1)
    return strip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("portraits", type=Path, nargs="*")
    parser.add_argument("--zoom", action="store_true", help="mouth and eyes only")
    args = parser.parse_intermixed_args()
    rows = [row(path, args.zoom) for path in args.portraits or [demo_portrait()]]
    cv2.imwrite(str(args.out), np.vstack([header(), *rows])[..., ::-1])


if __name__ == "__main__":
    main()
