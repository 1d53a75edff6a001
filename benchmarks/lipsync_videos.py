"""Measure the lip-sync of finished videos: clips with phone times on some portraits, checked on the pixels.

Usage: python benchmarks/lipsync_videos.py FOLDER PORTRAIT... [--output .tasks/baselines/lipsync_videos.json]

FOLDER as in benchmarks/lipsync.py. Each clip is spoken by each portrait with the mesh engine, from bare
audio, and the video is measured by ``vortex check`` against the true phones. Exit status 1 if an offset is
beyond one frame or fewer than nine closures in ten are seen.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from harness import append, record, rounded
from lipsync import clips

from vortex.check import check_video
from vortex.pipeline import animate_file


def main() -> int:
    """Make, measure, print, and keep a record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("portraits", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, help="file of records to append to")
    args = parser.parse_args()
    chosen = clips(args.folder)
    offsets, correlations, found, missed = [], [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for portrait in args.portraits:
            for name, path, truth, _ in chosen:
                out = Path(folder) / "video.mp4"
                animate_file(portrait, path, out, seed=1)
                report, *_ = check_video(out, phonemes=truth)
                offsets.append(report.offset_frames)
                correlations.append(report.correlation)
                found += len(report.closures_found_s)
                missed += len(report.closures_missed_s)
                print(
                    f"{portrait.stem:<16}{name:<22}offset {report.offset_frames:+.2f}  correlation "
                    f"{report.correlation:.2f}  closures {len(report.closures_found_s)} seen, "
                    f"{len(report.closures_missed_s)} missed",
                    flush=True,
                )
    worst = float(np.abs(offsets).max())
    recall = found / max(found + missed, 1)
    figures = {
        "videos": len(offsets),
        "closures": found + missed,
        "closure_recall": recall,
        "lag_frames_worst": worst,
        "lag_frames_median": float(np.median(offsets)),
        "correlation_least": float(min(correlations)),
        "correlation_median": float(np.median(correlations)),
    }
    print("  ".join(f"{key} {value:.2f}" for key, value in figures.items()))
    if args.output:
        params = {"clips": [name for name, *_ in chosen], "portraits": [p.stem for p in args.portraits]}
        append(args.output, rounded(record("lipsync_videos", engine="mesh", params=params, figures=figures)))
    return 0 if worst <= 1 and recall >= 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
