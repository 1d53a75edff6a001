"""A portrait and how it moves, ready for the networks, for machines with nothing that sees or hears.

Usage: python benchmarks/take.py

Writes tests/data/liveportrait/take.npz anew: the demo portrait, cut to 512 px, and the motion of 45 s at 24
fps, preset neutral, seed 1, of a text spoken by Kokoro (extra ``speech``), in which nothing is said twice.
Only numpy, torch and OpenCV are needed to read and render it.
"""

from __future__ import annotations

import sys
from fractions import Fraction

import numpy as np
from harness import ROOT

from vortex.types import MotionTrack, Portrait

TAKE = ROOT / "tests" / "data" / "liveportrait" / "take.npz"
FRAMES, FPS = 1080, Fraction(24)
TEXT = (
    "Every morning the harbour master walks along the pier before the ferries wake. He counts the "
    "buoys, greets the gulls by names he made up, and writes the height of the tide on a slate that "
    "nobody else reads. Last winter a storm took half the roof of the old boathouse. People said it "
    "should be pulled down, but he found copper nails, borrowed a ladder, and mended it plank by plank "
    "while his coffee went cold. Now children keep their kites there, and a violin teacher gives "
    "lessons on Thursdays because the wood sounds so warm. When visitors ask why he bothers, he shrugs "
    "and points at the water. Somebody has to be here, he says, when the fog lifts. Otherwise, how "
    "would it know which way to go? Then he laughs, pulls his cap over his ears, and asks them to help "
    "him carry the paint."
)
OF_PORTRAIT = ("image", "landmarks_px", "crop_from_image", "head_pose_deg", "blendshapes")


def read_take() -> tuple[Portrait, MotionTrack]:
    """Return the portrait and its motion, 1080 frames."""
    with np.load(TAKE) as stored:
        portrait = Portrait(**{name: stored[name] for name in OF_PORTRAIT})
        motion = MotionTrack(stored["motion"].astype(np.float32), stored["head"], FPS)
    return portrait, motion


def main() -> int:
    """Write the take."""
    from vortex.demo import demo_portrait
    from vortex.extras.speech import load_speech_engine, synthesize
    from vortex.lipsync.recognize import recognize_visemes
    from vortex.motion.drive import drive
    from vortex.portrait import crop_face, load_portrait

    portrait = crop_face(load_portrait(demo_portrait()), 512)
    speech = synthesize(TEXT, load_speech_engine("kokoro"))
    motion = drive(recognize_visemes(speech.audio, FPS, phonemes=speech.phonemes), "neutral", 1)
    np.savez_compressed(
        TAKE,
        **{name: getattr(portrait, name) for name in OF_PORTRAIT},
        # 1/2048 of a blend shape moves no landmark by a hundredth of a pixel
        motion=motion.blendshapes[:FRAMES].astype(np.float16),
        head=motion.head_pose_deg[:FRAMES],
    )
    print(f"{TAKE}: {FRAMES} of {len(motion)} frames, {TAKE.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
