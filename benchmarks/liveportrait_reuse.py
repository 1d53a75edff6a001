"""Which share of frames the quality "fast" renders in full, and how the others differ from full ones.

Usage: python benchmarks/liveportrait_reuse.py [--distance 0.004] [--output .tasks/baselines/reuse.json]
           [--frames N] [--preset neutral] [--device cuda] [--seeded]

The motion is that of 45 s of a text spoken by Kokoro (extra ``speech``), in which nothing is said twice. The
shares are a property of it, no GPU needed. Stitching and blinks go through networks whose trained weights may
not be at hand, so that a face of typical proportions stands in: 21 keypoints within 0.25 of its centre, scale
1.4, a blink that moves the lids by 0.02. So these shares are estimates, and marked as such.

``--frames`` also renders the demo portrait: so many frames, spread over the 45 s, of those that are derived
from others, once in full and once fast. It prints the PSNR over the box that changes, and how far landmarks
lie apart where a face is found in both. That takes the fetched weights to mean something; with ``--seeded``,
random weights in the same files, it shows that the measurement runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from harness import append, record, rounded
from take import FPS, TEXT
from weights import provide_weights

from vortex.demo import demo_portrait
from vortex.engines.liveportrait import load_liveportrait_engine
from vortex.engines.liveportrait.keypoints import transform_keypoints
from vortex.engines.liveportrait.renderer import PreparedFace, Renderer
from vortex.engines.liveportrait.retarget import drive_expression
from vortex.engines.liveportrait.reuse import REUSE_DISTANCE, plan_reuse
from vortex.errors import NoFaceError
from vortex.extras.speech import load_speech_engine, synthesize
from vortex.lipsync.recognize import recognize_visemes
from vortex.motion.drive import drive
from vortex.motion.presets import PRESETS
from vortex.portrait import crop_face, detect_portrait, load_portrait
from vortex.types import MotionTrack

SCALE = 1.4
FACE_RADIUS = 0.25
LIDS = (11, 13, 15, 16)
BLINK = 0.02


def main() -> int:
    """Plan, print, and keep a record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--distance", type=float, default=REUSE_DISTANCE, help="keypoint units")
    parser.add_argument("--frames", type=int, default=0, help="derived frames to compare with full ones")
    parser.add_argument("--preset", default="neutral", choices=tuple(PRESETS), help="of these frames")
    parser.add_argument("--device", help="of these frames; default cuda")
    parser.add_argument("--seeded", action="store_true", help="seeded random weights")
    parser.add_argument("--output", type=Path, help="file of records to append to")
    args = parser.parse_args()
    speech = synthesize(TEXT, load_speech_engine("kokoro"))
    visemes = recognize_visemes(speech.audio, FPS, phonemes=speech.phonemes)
    shares = {preset: share(drive(visemes, preset, 1), args.distance) for preset in PRESETS}
    params = {
        "duration_s": round(float(speech.audio.duration_s), 1),
        "fps": str(FPS),
        "distance": args.distance,
        "estimate": True,
    }
    found: dict[str, Any] = {}
    if args.frames:
        with provide_weights(args.seeded) as weights:
            params |= {"weights": weights, "preset": args.preset, "frames": args.frames}
            renderer = load_liveportrait_engine(args.device).renderer
            renderer.reuse_distance = args.distance
            found = compare_with_full(renderer, drive(visemes, args.preset, 1), args.frames)
    entry = record(
        "liveportrait_reuse",
        engine="liveportrait",
        params=params,
        plan={f"share_rendered_{preset}": value for preset, value in shares.items()},
        fast_against_full=found,
    )
    print(json.dumps(rounded({"plan": entry["plan"], "fast_against_full": found}), indent=1))
    if args.output:
        append(args.output, rounded(entry))
    return 0


def compare_with_full(renderer: Renderer, motion: MotionTrack, count: int) -> dict[str, Any]:
    """Return how ``count`` derived frames, evenly spread, differ from the same ones rendered in full."""
    prepared = renderer.prepare(crop_face(load_portrait(demo_portrait()), 512))
    plan = renderer.plan(prepared, motion)
    derived = np.setdiff1d(np.arange(len(motion)), plan.keys)
    chosen = derived[np.linspace(0, len(derived) - 1, count).round().astype(int)] if len(derived) else []
    psnr_db, apart_px = [], []
    for index in map(int, chosen):
        full, fast = (_box(renderer, prepared, motion, quality, index) for quality in ("full", "fast"))
        psnr_db.append(float(-10 * np.log10(np.mean((full - fast) ** 2))))
        distance_px = _landmarks_apart_px(full, fast)
        if distance_px is not None:
            apart_px.append(distance_px)
    return {
        "share_rendered": plan.share_rendered,
        "frames_compared": len(psnr_db),
        "psnr_db_median": statistics.median(psnr_db) if psnr_db else None,
        "psnr_db_least": min(psnr_db, default=None),
        "faces_found": len(apart_px),
        "landmarks_px_median": statistics.median(apart_px) if apart_px else None,
        "landmarks_px_most": max(apart_px, default=None),
    }


def _box(
    renderer: Renderer, prepared: PreparedFace, motion: MotionTrack, quality: str, index: int
) -> npt.NDArray[np.float32]:
    """Return the changing box (h, w, 3) in [0, 1] of one frame."""
    (box,) = renderer.iter_boxes(prepared, motion, quality, range(index, index + 1))
    return box[0].permute(1, 2, 0).cpu().numpy()


def _landmarks_apart_px(full: npt.NDArray[np.float32], fast: npt.NDArray[np.float32]) -> float | None:
    """Return the mean distance of landmarks, None where not both pictures show a face."""
    try:
        one, other = (
            detect_portrait((picture * 255 + 0.5).clip(0, 255).astype(np.uint8)).landmarks_px
            for picture in (full, fast)
        )
    except NoFaceError:
        return None
    return float(np.linalg.norm((one - other)[:, :2], axis=1).mean())


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
