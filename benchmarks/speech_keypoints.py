"""Measure how near the keypoints that a voice moves come to those of the filmed face that spoke.

Usage: python benchmarks/speech_keypoints.py TALK.mp4...

What LivePortrait would say of the filmed face is computed from its landmarks
(``vortex/motion/keypoints.py``). Beside it stands what the sound of the same video moves, with no transcript,
preset neutral, at the best lag within 10 frames: films may be out of sync. Correlation and size (standard
deviation over the real one) of the keypoints that open the mouth (19.y), move the lips (20.y) and the corners
(14.y). A Markdown table.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vortex.face.shapes import without_pose
from vortex.face.tracking import track_face
from vortex.lipsync.recognize import recognize_visemes
from vortex.media.audio import load_video_sound
from vortex.media.reading import iter_timed_frames, probe_video, steady_rate
from vortex.motion.drive import drive
from vortex.motion.keypoints import expression_of_measures, keypoint_expression
from vortex.motion.measures import measure_faces

KEYPOINTS = (19, 20, 14)
MAX_LAG = 10
"""Most frames by which sound and picture of a film may be apart."""
SOUND_HZ = 24_000


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("talks", type=Path, nargs="+")
    print("| video | lag, frames | " + " | ".join(f"{k}.y r | size" for k in KEYPOINTS) + " |")
    print("|" + "---|" * (2 + 2 * len(KEYPOINTS)))
    for path in parser.parse_args().talks:
        lag, rows = compare(*curves_of(path))
        print(f"| {path.stem} | {lag} | " + " | ".join(f"{r:.2f} | {size:.2f}" for r, size in rows) + " |")
    return 0


def curves_of(path: Path) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    """Return the y of KEYPOINTS (T, 3) of the filmed face, NaN where none was found, and of its voice."""
    faces = track_face(iter_timed_frames(path), name=path.name)
    fps = steady_rate(faces.times_s, probe_video(path).fps)
    real = np.full((len(faces.times_s), len(KEYPOINTS)), np.nan)
    measures = measure_faces(without_pose(faces.landmarks_px[faces.found]))
    real[faces.found] = expression_of_measures(measures - np.median(measures, axis=0))[:, KEYPOINTS, 1]
    visemes = recognize_visemes(load_video_sound(path, SOUND_HZ, 0.0), fps).fit(len(real))
    return real, keypoint_expression(drive(visemes))[:, KEYPOINTS, 1]


def compare(
    real: npt.NDArray[np.floating], ours: npt.NDArray[np.floating]
) -> tuple[int, list[tuple[float, float]]]:
    """Return the lag of ``ours`` (T, 3) behind ``real`` (T, 3) by all keypoints, and r and size of each."""
    found = []
    for lag in range(-MAX_LAG, MAX_LAG + 1):
        rows = np.arange(max(-lag, 0), min(len(real), len(real) - lag))
        rows = rows[np.isfinite(real[rows]).all(axis=1)]
        pairs = [(real[rows, k], ours[rows + lag, k]) for k in range(len(KEYPOINTS))]
        found.append((lag, [(float(np.corrcoef(a, b)[0, 1]), float(b.std() / a.std())) for a, b in pairs]))
    return max(found, key=lambda entry: sum(r for r, _ in entry[1]))


if __name__ == "__main__":
    sys.exit(main())
