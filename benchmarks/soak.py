"""Run the whole job many times in one process, then many at once, and see whether memory grows.

Usage: python benchmarks/soak.py [--runs 100] [--threads 8] [--vary] [--output .tasks/baselines/soak.json]

A run is ``vortex.animate_file`` with the mesh engine on one second of the demo. Memory is what the process
holds (resident set) after each run, the first tenth aside: growth is from the median of the second tenth to
that of the last. Then as many threads as asked for run at once, each with a seed of its own; every
video must equal the one made alone, byte for byte. ``--vary`` gives each run a portrait of its own: the demo
portrait turned, scaled, mirrored and lit otherwise.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from harness import append, record, rounded
from mesh_latency import write_speech
from PIL import Image, ImageEnhance, ImageOps

import vortex
from vortex.demo import demo_portrait

MAX_GROWTH = 0.01


def main() -> int:
    """Run, print, keep a record if asked to; 1 if memory grows or a video differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--vary", action="store_true", help="another portrait for each run")
    parser.add_argument("--output", type=Path, help="file of records to append to")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        speech = Path(folder) / "speech.wav"
        write_speech(speech, 1.0)
        resident = []
        for run in range(args.runs):
            animate(varied(Path(folder), run) if args.vary else demo_portrait(), speech, run)
            resident.append(resident_bytes())
        alone = [animate(demo_portrait(), speech, seed) for seed in range(args.threads)]
        with ThreadPoolExecutor(args.threads) as pool:
            seeds = range(args.threads)
            together = list(pool.map(lambda seed: animate(demo_portrait(), speech, seed), seeds))
    medians = tenths(resident)
    growth = medians[-1] / medians[1] - 1
    differing = sum(one != other for one, other in zip(alone, together, strict=True))
    entry = rounded(
        record(
            "soak",
            engine="mesh",
            params={"runs": args.runs, "threads": args.threads, "vary": args.vary, "duration_s": 1},
            resident_bytes={"second_tenth": medians[1], "last_tenth": medians[-1], "most": max(resident)},
            resident_tenths_bytes=medians,
            growth=growth,
            videos_that_differ=differing,
        )
    )
    print(f"{args.runs} runs, MB of each tenth: {', '.join(f'{value / 1e6:.0f}' for value in medians)}")
    print(
        f"growth {100 * growth:+.2f} % over the runs; {differing} of {args.threads} concurrent videos differ"
    )
    if args.output:
        append(args.output, entry)
    return 1 if differing or growth > MAX_GROWTH else 0


def varied(folder: Path, run: int) -> Path:
    """Write a variation of the demo portrait and return its path."""
    chance = np.random.default_rng(run)
    picture = Image.open(demo_portrait())
    scale = chance.uniform(0.7, 1.2)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
    picture = picture.rotate(chance.uniform(-12, 12), fillcolor=(90, 110, 160))
    picture = ImageEnhance.Brightness(picture).enhance(chance.uniform(0.7, 1.3))
    if chance.random() < 0.5:
        picture = ImageOps.mirror(picture)
    path = folder / "portrait.jpg"
    picture.save(path, quality=int(chance.integers(60, 95)))
    return path


def animate(portrait: Path, speech: Path, seed: int) -> str:
    """Make one second of video beside the speech and return its SHA-256."""
    out = speech.with_name(f"{seed}.mp4")
    vortex.animate_file(portrait, speech, out, engine="mesh", size_px=256, seed=seed, preset="excited")
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    out.unlink()
    return digest


def resident_bytes() -> int:
    """Return the resident set of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def tenths(values: Sequence[float]) -> list[float]:
    """Return the median of each tenth of the runs."""
    return [float(np.median(part)) for part in np.array_split(values, 10)]


if __name__ == "__main__":
    sys.exit(main())
