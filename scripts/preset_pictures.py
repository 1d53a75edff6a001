"""Render vortex/server/page/presets.webp: the demo portrait saying the demo speech in each preset.

Usage: python scripts/preset_pictures.py

A row is a preset, in the order of PRESETS, a column a frame, both 96 pixels; the page shows one at a time.
The portrait is in the public domain; vortex/data/README.md has the notice of the speech.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import vortex
from vortex.demo import DEMO_SPEECH, demo_portrait
from vortex.media.reading import iter_timed_frames
from vortex.motion.presets import PRESETS

TILE_PX, FRAMES, FPS = 96, 24, 12
START_S = 0.6
OUT = Path(__file__).parents[1] / "vortex/server/page/presets.webp"


def preset_row(preset: str, session: vortex.Session) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "preset.mp4")
        vortex.animate(
            demo_portrait(), DEMO_SPEECH, path, preset=preset, fps=FPS, size_px=384, seed=7, session=session
        )
        frames = [frame for _, frame in iter_timed_frames(path)]
    first = round(START_S * FPS)
    tiles = [
        # The face alone.
        cv2.resize(frame[58:258, 98:298], (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA)
        for frame in frames[first : first + FRAMES]
    ]
    return np.concatenate(tiles, axis=1)


def main() -> None:
    with vortex.Session() as session:
        sheet = np.concatenate([preset_row(name, session) for name in PRESETS])
    Image.fromarray(sheet).save(OUT, "WEBP", quality=50, method=6)
    print(f"{OUT}: {sheet.shape[1]}x{sheet.shape[0]} px, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
