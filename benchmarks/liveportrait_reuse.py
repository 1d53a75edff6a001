"""Which share of frames the quality "fast" renders in full: a property of the motion, no GPU needed.

Usage: python benchmarks/liveportrait_reuse.py [--distance 0.004] [--output .tasks/baselines/reuse.json]

The motion is that of 45 s of a text spoken by Kokoro (extra ``speech``), in which nothing is said twice.
Stitching and blinks go through networks whose trained weights are not at hand here, so that a face of typical
proportions stands in: 21 keypoints within 0.25 of its centre, scale 1.4, a blink that moves the lids by 0.02.
So the shares are estimates, and marked as such.
"""

from __future__ import annotations

import argparse
import json
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from harness import append, record, rounded

from vortex.engines.liveportrait.keypoints import transform_keypoints
from vortex.engines.liveportrait.retarget import drive_expression
from vortex.engines.liveportrait.reuse import REUSE_DISTANCE, plan_reuse
from vortex.extras.speech import load_speech_engine, synthesize
from vortex.lipsync.recognize import recognize_visemes
from vortex.motion.drive import drive
from vortex.motion.presets import PRESETS
from vortex.types import MotionTrack

FPS = Fraction(24)
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
SCALE = 1.4
FACE_RADIUS = 0.25
LIDS = (11, 13, 15, 16)
BLINK = 0.02


def main() -> int:
    """Plan, print, and keep a record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--distance", type=float, default=REUSE_DISTANCE, help="keypoint units")
    parser.add_argument("--output", type=Path, help="file of records to append to")
    args = parser.parse_args()
    speech = synthesize(TEXT, load_speech_engine("kokoro"))
    visemes = recognize_visemes(speech.audio, FPS, phonemes=speech.phonemes)
    shares = {preset: share(drive(visemes, preset, 1), args.distance) for preset in PRESETS}
    entry = record(
        "liveportrait_reuse",
        engine="liveportrait",
        params={
            "duration_s": round(speech.audio.duration_s, 1),
            "fps": str(FPS),
            "distance": args.distance,
            "estimate": True,
        },
        plan={f"share_rendered_{preset}": value for preset, value in shares.items()},
    )
    print(json.dumps(rounded(entry)["plan"], indent=1))
    if args.output:
        append(args.output, rounded(entry))
    return 0


def share(motion: MotionTrack, distance: float) -> float:
    """Return key frames over frames."""
    track = drive_expression(motion, 21, torch.device("cpu"))
    rng = np.random.default_rng(1)
    direction = rng.normal(size=(1, 21, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    face = torch.from_numpy((FACE_RADIUS * direction * rng.uniform(0.3, 1, (1, 21, 1))).astype(np.float32))
    scale, still = torch.tensor([[SCALE]]), torch.zeros(1, 3)
    lids = torch.zeros(1, 21, 3)
    lids[:, LIDS, 1] = BLINK
    upright, driven = (
        transform_keypoints(face, track.exp, scale, still, angles) + track.blink * lids
        for angles in (torch.zeros_like(track.angles_deg), track.angles_deg)
    )
    return plan_reuse(upright.numpy(), driven.numpy(), distance).share_rendered


if __name__ == "__main__":
    sys.exit(main())
