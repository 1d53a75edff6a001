"""Count the work of a mesh frame, which is the same on every machine, and time it against a fixed kernel.

Usage: python benchmarks/mesh_work.py [--output .tasks/baselines/mesh_work.json] [--check BASELINE]

Counted over 96 frames of the demo: Python and library calls, bytes written by resampling, peak of the memory
that rendering holds, frames made by one matrix product. Timed: CPU time of rendering in units of the fixed
kernel (benchmarks/kernel.py), measured in the same run. ``--check`` fails if the newest record of BASELINE
does less.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
from compare import keep
from harness import record, rounded
from kernel import cpu_s, reference_work

from vortex.audio import load_audio
from vortex.demo import DEMO_SPEECH, demo_portrait
from vortex.engines.mesh import MeshEngine, MeshPortrait
from vortex.engines.mesh.engine import CHUNK
from vortex.lipsync.recognize import recognize_visemes
from vortex.motion.drive import drive
from vortex.portrait import load_portrait
from vortex.types import MotionTrack, VisemeTrack

FRAMES = 96
RESAMPLERS = ("remap", "resize", "warpAffine")


def main() -> int:
    """Count, time, print, and compare or keep if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, help="file of records to append to")
    parser.add_argument("--check", type=Path, metavar="BASELINE", help="fail if a frame costs more")
    args = parser.parse_args()
    # threads of OpenCV would hide work from the clock of this one
    cv2.setNumThreads(1)
    prepared = MeshEngine().prepare(load_portrait(demo_portrait()))
    motion = _motion()
    render(prepared, motion)
    entry = rounded(
        record(
            "mesh_work",
            engine="mesh",
            params={"frames": FRAMES, "size_px": 512, "preset": "neutral", "seed": 1},
            work={
                "calls_per_frame": _calls(prepared, motion) / FRAMES,
                "resampled_bytes_per_frame": _resampled_bytes(prepared, motion) / FRAMES,
                "peak_bytes": _peak_bytes(prepared, motion),
            },
            frames_per_product=CHUNK,
            ratio={
                "frame_to_kernel": cpu_s(lambda: render(prepared, motion)) / FRAMES / cpu_s(reference_work)
            },
        )
    )
    for name, value in {**entry["work"], **entry["ratio"]}.items():
        print(f"{name:<28}{value:>16,.4f}")
    return keep(entry, args.output, args.check)


def render(prepared: MeshPortrait, motion: MotionTrack) -> None:
    """Make all frames and drop them."""
    for _ in MeshEngine().iter_frames(prepared, motion):
        pass


def _motion() -> MotionTrack:
    heard = recognize_visemes(load_audio(DEMO_SPEECH), Fraction(24))
    row = np.arange(FRAMES) % len(heard.weights)
    return drive(VisemeTrack(heard.weights[row], heard.loudness[row], heard.fps), "neutral", 1)


def _calls(prepared: MeshPortrait, motion: MotionTrack) -> int:
    profile = cProfile.Profile()
    profile.runcall(render, prepared, motion)
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


def _resampled_bytes(prepared: MeshPortrait, motion: MotionTrack) -> int:
    with _counted() as counts:
        render(prepared, motion)
    return sum(counts)


@contextmanager
def _counted() -> Iterator[list[int]]:
    """Collect the size of everything that OpenCV resamples meanwhile."""
    counts: list[int] = []

    def counting(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            result = function(*arguments, **options)
            counts.append(result.nbytes)
            return result

        return call

    with ExitStack() as stack:
        for name in RESAMPLERS:
            stack.enter_context(patch.object(cv2, name, counting(getattr(cv2, name))))
        yield counts


def _peak_bytes(prepared: MeshPortrait, motion: MotionTrack) -> int:
    tracemalloc.start()
    try:
        render(prepared, motion)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    sys.exit(main())
