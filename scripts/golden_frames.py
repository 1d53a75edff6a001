"""Compare the frames of this machine with the golden frames, or render these again.

Usage: python scripts/golden_frames.py [--write]

Without ``--write``, prints the PSNR in dB of each row against tests/data/golden; "inf" means equal to the
bit. With it, renders the pictures again: only when frames are meant to change. Then look at them, and write
into tests/data/golden/README.md from which commit they are.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import skimage
from PIL import Image

from vortex.demo import DEMO_SPEECH, demo_portrait
from vortex.engines.mesh.engine import MeshEngine
from vortex.face.portrait import load_portrait
from vortex.lipsync.recognize import recognize_visemes
from vortex.media.audio import load_audio
from vortex.motion.drive import VISEME_BLENDSHAPES, drive, expand
from vortex.types import MotionTrack
from vortex.visemes import VISEMES

GOLDEN = Path(__file__).parents[1] / "tests" / "data" / "golden"
PORTRAITS = {
    "grace_hopper": demo_portrait(),
    "astronaut": Path(skimage.__file__).parent / "data" / "astronaut.png",
}
ROWS = ("spoken", "posed")
SIZE_PX = 128
FPS = Fraction(24)
SPOKEN_FRAMES = (9, 20, 31, 42, 53, 64)
POSES = [
    (VISEME_BLENDSHAPES[VISEMES.index("PP")], (0, 0, 0)),
    (VISEME_BLENDSHAPES[VISEMES.index("aa")], (0, 0, 0)),
    (VISEME_BLENDSHAPES[VISEMES.index("ih")], (0, 0, 0)),
    (VISEME_BLENDSHAPES[VISEMES.index("ou")], (0, -8, 0)),
    (expand({"eyeBlink": 1.0, "mouthClose": 1.0}), (0, 0, 0)),
    (expand({"mouthSmile": 0.6, "mouthClose": 1.0}), (4, 6, 3)),
]


def render(portrait: Path) -> npt.NDArray[np.uint8]:
    """Return (2, 6, 128, 128, 3): frames of the demo speech, excited, seed 7; and frames of fixed poses."""
    engine = MeshEngine()
    prepared = engine.prepare(load_portrait(portrait), size_px=SIZE_PX)
    spoken = drive(recognize_visemes(load_audio(DEMO_SPEECH), FPS), "excited", 7)
    posed = MotionTrack(
        np.stack([shapes for shapes, _ in POSES]), np.array([pose for _, pose in POSES], np.float32), FPS
    )
    frames = list(engine.iter_frames(prepared, spoken))
    return np.stack(
        [
            np.stack([frames[index] for index in SPOKEN_FRAMES]),
            np.stack(list(engine.iter_frames(prepared, posed))),
        ]
    )


def read(name: str) -> npt.NDArray[np.uint8]:
    """Return the golden frames of a portrait as :func:`render` does."""
    sheet = np.asarray(Image.open(GOLDEN / f"{name}.png").convert("RGB"), np.uint8)
    rows = sheet.reshape(len(ROWS), SIZE_PX, len(POSES), SIZE_PX, 3)
    return np.ascontiguousarray(rows.swapaxes(1, 2))


def write(name: str, frames: npt.NDArray[np.uint8]) -> None:
    """Write frames as one PNG, a row for each kind."""
    sheet = frames.swapaxes(1, 2).reshape(len(ROWS) * SIZE_PX, len(POSES) * SIZE_PX, 3)
    Image.fromarray(sheet).save(GOLDEN / f"{name}.png", optimize=True)


def psnr_db(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """Return the lowest PSNR of the frames (..., H, W, 3), relative to 255."""
    error = ((one.astype(np.float64) - other) ** 2).mean(axis=(-3, -2, -1)).max()
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def main() -> None:
    """Write, or compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", action="store_true", help="render the pictures again")
    args = parser.parse_args()
    for name, portrait in PORTRAITS.items():
        frames = render(portrait)
        if args.write:
            write(name, frames)
        for row, here, golden in zip(ROWS, frames, read(name), strict=True):
            print(f"{name:<14}{row:<8}{psnr_db(here, golden):.1f} dB")


if __name__ == "__main__":
    main()
