"""Measure how a face moves while it speaks: mouth, head, gaze, brows and blinks of each preset.

Usage: python benchmarks/naturalness.py [SPEECH...] [--seeds N] [--strength X] [--stream]

Prints a Markdown table, the mean over the seeds. The recordings (without any, the demo recording) are spoken
in turn with pauses between them, for a minute. ``--stream`` measures live faces. Nothing is rendered: the
figures are those of the motion that every engine gets, and the same on every machine.

Speeds are of a parabola through five frames at 24 fps. Power is that of the angles without their mean, by
Hann windows of 8 s. Ranges are 95th minus 5th percentile. Eyes are turned in the head, in degrees. Lengths of
the mouth are those of the mean face in outer-eye widths.
"""

from __future__ import annotations

import argparse
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vortex.demo import DEMO_SPEECH
from vortex.engines.mesh.commands import SHAPES, amounts, lip_gap, lip_shifts, template_mouth_width
from vortex.face.landmarks import BROWS, CHIN, LOWER_INNER, MOUTH_CORNERS, UPPER_INNER
from vortex.face.shapes import load_shapes
from vortex.lipsync.recognize import recognize_visemes
from vortex.media.audio import load_audio
from vortex.motion.drive import MotionStream, drive
from vortex.motion.eyes import LOOK_DEG
from vortex.motion.presets import PRESETS
from vortex.types import BLENDSHAPE_INDEX, MotionTrack, VisemeTrack

FPS = Fraction(24)
LENGTH_S = 60
PAUSES_S = (0.5, 0.9, 1.6)
BANDS_HZ = ((0.05, 0.3), (0.3, 1.0), (1.0, 3.0), (3.0, 8.0))
WINDOW = 192
SHUT = 0.4
"""Closing of the lids from which an eye counts as shut in a blink."""
JUMP_DEG_S = 45.0
"""Speed of the eyes from which a frame counts as a saccade."""
LIPS, CHEEKS = [0, 17, 13, 14], [205, 425, 50, 280]
"""Landmarks in the middle of the lips, and on the cheeks beside them, for how far lips stand out."""
OPEN_LIPS = ((13, 14), (82, 87), (312, 317))
"""Pairs of landmarks of the inner lips whose mean distance is the opening."""
BROW_HEIGHT = 0.3
"""Height of the brow that is assumed, in outer-eye widths; the mouth does not depend on it."""
BROW_SHAPES = ("browInnerUp", "browOuterUpLeft", "browOuterUpRight", "browDownLeft", "browDownRight")
Curves = npt.NDArray[np.floating]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("speech", type=Path, nargs="*")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--stream", action="store_true", help="measure live faces")
    args = parser.parse_args()
    visemes = minute_of([recognize_visemes(load_audio(path), FPS) for path in args.speech or [DEMO_SPEECH]])
    columns = {
        name: mean_measures(
            [move(visemes, f"{name}:{args.strength:g}", seed, args.stream) for seed in range(args.seeds)]
        )
        for name in PRESETS
    }
    print(f"| measure | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name in next(iter(columns.values())):
        print(f"| {name} | {' | '.join(f'{column[name]:.3g}' for column in columns.values())} |")
    return 0


def minute_of(clips: list[VisemeTrack]) -> VisemeTrack:
    """Return a minute of the clips in turn, with pauses of different lengths between them."""
    parts: list[VisemeTrack] = []
    while sum(len(part.weights) for part in parts) < LENGTH_S * FPS:
        clip = clips[len(parts) % len(clips)]
        parts.append(clip.fit(len(clip.weights) + round(PAUSES_S[len(parts) % len(PAUSES_S)] * FPS)))
    weights = np.concatenate([part.weights for part in parts])
    loudness = np.concatenate([part.loudness for part in parts])
    return VisemeTrack(weights, loudness, FPS).rows(0, round(LENGTH_S * FPS))


def move(visemes: VisemeTrack, preset: str, seed: int, stream: bool) -> MotionTrack:
    """Return the motion of a whole speech, or of a live face."""
    if not stream:
        return drive(visemes, preset, seed)
    face = MotionStream(visemes.fps, preset, seed)
    parts = [face.push(visemes.rows(row, row + 2)) for row in range(0, len(visemes.weights), 2)]
    return MotionTrack(
        np.concatenate([part.blendshapes for part in parts]),
        np.concatenate([part.head_pose_deg for part in parts]),
        visemes.fps,
    )


def mean_measures(motions: list[MotionTrack]) -> dict[str, float]:
    """Return the mean of each measure over some motions."""
    found = [_of_motion(motion) for motion in motions]
    return {name: float(np.nanmean([one[name] for one in found])) for name in found[0]}


def _of_motion(motion: MotionTrack) -> dict[str, float]:
    shape = {name: motion.blendshapes[:, column] for name, column in BLENDSHAPE_INDEX.items()}
    across = shape["eyeLookLeft"] - shape["eyeLookRight"]
    down = shape["eyeLookDown"] - shape["eyeLookUp"]
    # How far the middles of both brows rise.
    middles = [indices[2] for indices in BROWS.values()]
    brow = sum(shape[name] * -load_shapes().columns((name,))[0, middles, 1].mean() for name in BROW_SHAPES)
    eyes_deg = np.stack([across, down], 1) * LOOK_DEG
    return mouth_measures(_faces(motion)) | measures(
        motion.head_pose_deg, eyes_deg, brow, shape["eyeBlinkLeft"]
    )


def _faces(motion: MotionTrack) -> Curves:
    """Return (T, 478, 3): the mean face as it moves, without pose, in outer-eye widths."""
    shapes = load_shapes()
    moved = amounts(motion, source_width=template_mouth_width(), source_aperture=0.0, brow_height=BROW_HEIGHT)
    faces = shapes.template + np.tensordot(moved, shapes.columns(SHAPES), 1)
    # As the mesh engine does, the lips make up for what the shapes lack of the gap.
    missing = lip_gap(motion) - (faces[:, LOWER_INNER, 1] - faces[:, UPPER_INNER, 1])[:, 1:-1]
    upper, lower = lip_shifts(motion, missing)
    faces[:, UPPER_INNER[1:-1], 1] += upper
    faces[:, LOWER_INNER[1:-1], 1] += lower
    return np.asarray(faces)


def mouth_measures(faces: Curves) -> dict[str, float]:
    """Return figures by name, of faces (T, 478, 3) without pose at 24 fps, in outer-eye widths."""
    opening = np.mean(
        [np.linalg.norm(faces[:, a, :2] - faces[:, b, :2], axis=1) for a, b in OPEN_LIPS], axis=0
    )
    corners = faces[:, list(MOUTH_CORNERS)]
    span = max(_range(opening), 1e-6)
    speed = np.abs(_speed(opening[:, None])[:, 0]) / span
    acceleration = np.abs(_bend(opening)) / span
    return {
        "chin range": _range(faces[:, CHIN, 1]),
        "upper lip range": _range(faces[:, LIPS[2], 1]),
        "opening, median": float(np.median(opening)),
        "opening, p95": float(np.percentile(opening, 95)),
        "opening speed p95, own ranges per s": float(np.percentile(speed, 95)),
        "opening acceleration p95, own ranges per s²": float(np.percentile(acceleration, 95)),
        "width range": _range(np.linalg.norm(corners[:, 1, :2] - corners[:, 0, :2], axis=1)),
        "protrusion range": _range(faces[:, LIPS, 2].mean(1) - faces[:, CHEEKS, 2].mean(1)),
        "corner height range": _range(corners[:, :, 1].mean(1) - faces[:, LIPS[0], 1]),
        "corner asymmetry range": _range(corners[:, 0, 1] - corners[:, 1, 1]),
    }


def measures(head_deg: Curves, eyes_deg: Curves, brow: Curves, shut: Curves) -> dict[str, float]:
    """Return figures by name, of curves at 24 fps.

    ``head_deg`` (T, 3) pitch, yaw, roll; ``eyes_deg`` (T, 2) across and down in the head; ``brow`` (T,) in
    outer-eye widths; ``shut`` (T,) in [0, 1].
    """
    speed = np.linalg.norm(_speed(head_deg), axis=1)
    power = np.mean([_shares(head_deg[:, axis]) for axis in range(3)], axis=0)
    minutes = len(head_deg) / float(FPS) / 60
    blinks_s = _lengths(shut > SHUT) / float(FPS)
    blinks_s = blinks_s[blinks_s <= 0.6]
    jumps = np.linalg.norm(np.diff(eyes_deg, axis=0), axis=1) * float(FPS) > JUMP_DEG_S
    result = dict(zip(("pitch sd, deg", "yaw sd, deg", "roll sd, deg"), head_deg.std(axis=0), strict=True))
    result |= {f"head speed p{share}, deg/s": np.percentile(speed, share) for share in (50, 95, 99)}
    result |= {
        f"head power {low:g}-{high:g} Hz": part for (low, high), part in zip(BANDS_HZ, power, strict=True)
    }
    return {name: float(value) for name, value in result.items()} | {
        "eyes across, range, deg": _range(eyes_deg[:, 0]),
        "eyes down, range, deg": _range(eyes_deg[:, 1]),
        "eye jumps per min": len(_lengths(jumps)) / minutes,
        "brow range, eye widths": _range(brow),
        "brow speed p95, per s": float(np.percentile(np.abs(_speed(brow[:, None])), 95)),
        "blinks per min": len(blinks_s) / minutes,
        "blink, s": float(np.median(blinks_s)) if len(blinks_s) else float("nan"),
    }


def _speed(curves: Curves) -> Curves:
    """Return the slope per second of parabolas through five frames (Savitzky, Golay)."""
    kernel = np.array([2, 1, 0, -1, -2]) / 10 * float(FPS)
    return np.stack([np.convolve(curve, kernel, "valid") for curve in curves.T], axis=1)


def _bend(curve: Curves) -> Curves:
    """Return the second derivative per second of parabolas through five frames (Savitzky, Golay)."""
    kernel = np.array([2, -1, -2, -1, 2]) / 7 * float(FPS) ** 2
    return np.asarray(np.convolve(curve, kernel, "valid"))


def _shares(curve: Curves) -> Curves:
    """Return the share of the power in each band, by Welch's method."""
    length = min(WINDOW, len(curve))
    starts = range(0, len(curve) - length + 1, length // 2)
    parts = np.stack(
        [curve[start : start + length] - curve[start : start + length].mean() for start in starts]
    )
    power = (np.abs(np.fft.rfft(parts * np.hanning(length), axis=1)) ** 2).mean(axis=0)
    at_hz = np.fft.rfftfreq(length, 1 / float(FPS))
    bands = np.array([power[(at_hz >= low) & (at_hz < high)].sum() for low, high in BANDS_HZ])
    return np.asarray(bands / max(bands.sum(), 1e-12))


def _lengths(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return how many frames each run of True lasts."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False].astype(int)))
    return np.asarray(edges[1::2] - edges[::2])


def _range(curve: Curves) -> float:
    low, high = np.percentile(curve, [5, 95])
    return float(high - low)


if __name__ == "__main__":
    sys.exit(main())
