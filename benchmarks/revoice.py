"""How near re-voiced frames come to the real ones: half of a clip speaks with the mouths of the other half.

Usage: python benchmarks/revoice.py CLIP.mp4 ... [--folder DIR] [--output RECORDS.json]

The first half of the clip is the library. The second half gets its own words back, heard in its own sound, by
these means: the person's own mouths (``chosen``); the mouth that the mesh engine draws (``drawn``); both by
the lips of the real frames, the best that a perfect prediction could reach (``chosen_measured``,
``drawn_measured``); and a mouth that stays shut (``shut``). Where the mouths of the second half are replaced
wholly, they are black before that; its lips and the outline of its jaw were measured before. Frames are
aligned by the face and compared with the real ones in a box around the mouth, by structural similarity.
``gain`` is the share of the way from a still picture, the first frame of the half, to a perfect copy. With
``--folder``, the real frames and those of each means are written as videos.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from harness import append, record
from skimage.metrics import structural_similarity

from vortex.face.landmarks import STEADY
from vortex.face.portrait import iter_landmarks
from vortex.lipsync.acoustic import ACOUSTIC_HZ
from vortex.lipsync.recognize import recognize_phonemes, recognize_visemes
from vortex.lipsync.sync import compare, measure_mouth
from vortex.media.audio import fit_duration, load_audio, resample
from vortex.media.video import encode_video
from vortex.motion.drive import drive
from vortex.motion.expression import fit_expression
from vortex.performance import SOUND_HZ, StageClock
from vortex.revoice.blending import region_mask
from vortex.revoice.clip import Clip, read_clip
from vortex.revoice.hearing import hear_person
from vortex.revoice.lips import GAP, find_mouth, wanted_lips
from vortex.revoice.renderer import Plan, plan_mouths, render_plan, resting_frame
from vortex.types import BLENDSHAPE_INDEX, BLENDSHAPES, F64, I64, Audio, Frame, MotionTrack

SIDE_PX, EYE_PX, EYES_Y = 192, 60.0, 60.0
BOX = (106, 166, 58, 134)
"""Rows and columns of the mouth in the aligned picture."""
MAX_TURN_DEG = 20.0


class HiddenClip:
    """A clip without the mouths of its frames."""

    def __init__(self, clip: Clip, first: int) -> None:
        self.clip, self.library, self.first = clip, clip.library, first

    def face(self) -> Any:
        """Return the face of the clip."""
        return self.clip.face()

    def frames(self, order: I64) -> Iterator[Frame]:
        """Yield frames; those from the first hidden one on have a black mouth."""
        for number, frame in zip(order, self.clip.frames(order), strict=True):
            if number >= self.first:
                points = self.library.landmarks_px[number, :, :2].astype(np.float64)
                hidden = region_mask((frame.shape[1], frame.shape[0]), (points,))
                if hidden is not None:
                    share, (x0, y0, x1, y1) = hidden
                    frame[y0:y1, x0:x1][share == 1] = 0
            yield frame


def own_motion(clip: Clip, path: Path, first: int) -> tuple[MotionTrack, Audio]:
    """Return the motion that the clip's own sound gives its frames from ``first`` on, and that sound.

    A sound that is early or late by itself is shifted first.
    """
    frames = len(clip.times_s)
    sound = load_audio(path, SOUND_HZ)
    spans = recognize_phonemes(resample(sound.samples, SOUND_HZ, ACOUSTIC_HZ)).spans
    offset = compare(measure_mouth(path)[0], spans).offset_frames
    late = round(offset / float(clip.fps) * SOUND_HZ)
    samples = np.pad(sound.samples, (max(late, 0), 0))[max(-late, 0) :]
    whole = fit_duration(Audio(samples, SOUND_HZ), frames, clip.fps)
    visemes = recognize_visemes(whole, clip.fps).fit(frames)
    begin = round(first / clip.fps * SOUND_HZ)
    print(f"the picture is {offset:+.1f} frames late; the sound was shifted")
    return drive(visemes.rows(first, frames)), Audio(whole.samples[begin:], SOUND_HZ)


def real_motion(clip: Clip, order: I64) -> MotionTrack:
    """Return the motion of the real face in the frames ``order``, for the face that mouths are drawn on."""
    library = clip.library
    base = library.landmarks_px[resting_frame(library)]
    poses = np.column_stack([library.measures.turns_deg[order], np.zeros(len(order))])
    shapes, _ = fit_expression(library.landmarks_px[order], poses, base)
    return MotionTrack(shapes, np.zeros((len(order), 3), np.float32), clip.fps)


def plans(clip: Clip, motion: MotionTrack, order: I64) -> dict[str, tuple[Plan, MotionTrack]]:
    """Return what each means shows in the frames ``order``, and the motion of drawn mouths."""
    library, count = clip.library, len(order)
    wanted = wanted_lips(motion, library.mouth)
    chosen = plan_mouths(library, order, wanted)
    measured = plan_mouths(library, order, library.measures.lips[order])
    real = real_motion(clip, order)
    drawn = np.ones(count)
    return {
        "chosen": (chosen, motion),
        "drawn": (replace(chosen, drawn=drawn), motion),
        "chosen_measured": (measured, real),
        "drawn_measured": (replace(measured, drawn=drawn), real),
        "shut": (
            plan_mouths(library, order, np.tile(library.mouth.rest, (count, 1))),
            silent(count, clip.fps),
        ),
    }


def silent(frames: int, fps: Fraction) -> MotionTrack:
    """Return the motion of a mouth that stays shut."""
    shapes = np.zeros((frames, len(BLENDSHAPES)), np.float32)
    shapes[:, BLENDSHAPE_INDEX["mouthClose"]] = 1
    return MotionTrack(shapes, np.zeros((frames, 3), np.float32), fps)


def aligned(frames: list[Frame]) -> list[tuple[Frame, F64] | None]:
    """Return each frame aligned by its face, and its landmarks (478, 3); None without a face."""
    result: list[tuple[Frame, F64] | None] = []
    for frame, points in zip(frames, iter_landmarks(frames), strict=True):
        if points is None:
            result.append(None)
            continue
        steady = points[STEADY, :2].astype(np.float64)
        centre, across = steady[[0, 2]].mean(axis=0), steady[2] - steady[0]
        scale = EYE_PX / np.linalg.norm(across)
        unit = across / np.linalg.norm(across)
        turn = scale * np.array([[unit[0], unit[1]], [-unit[1], unit[0]]])
        shift = np.array([SIDE_PX / 2, EYES_Y]) - turn @ centre
        matrix = np.column_stack([turn, shift])
        picture = cv2.warpAffine(frame, matrix, (SIDE_PX, SIDE_PX), flags=cv2.INTER_AREA)
        result.append((np.asarray(picture, np.uint8), points.astype(np.float64)))
    return result


def similarity_of(real: Frame, other: Frame) -> float:
    """Return the structural similarity of the mouths, after taking out the difference of their means."""
    y0, y1, x0, x1 = BOX
    p, q = (np.asarray(picture[y0:y1, x0:x1], np.float32) for picture in (real, other))
    q = q + (p.mean(axis=(0, 1)) - q.mean(axis=(0, 1)))
    return float(structural_similarity(p.mean(axis=2), q.mean(axis=2), data_range=255))


def opening(points: F64) -> float:
    """Return the gap of the inner lips over the outer-eye width."""
    gap, eyes = points[13] - points[14], points[33] - points[263]
    return float(np.linalg.norm(gap[:2]) / np.linalg.norm(eyes[:2]))


def figures(real: list[Any], other: list[Any], counted: Any) -> dict[str, float]:
    """Return how near the mouths of ``other`` come to the real ones, in the frames ``counted`` (T,)."""
    rows = [i for i, (a, b) in enumerate(zip(real, other, strict=True)) if a and b and counted[i]]
    still = np.mean([similarity_of(real[i][0], real[0][0]) for i in rows])
    ssim = np.mean([similarity_of(real[i][0], other[i][0]) for i in rows])
    lips = np.array([(opening(real[i][1]), opening(other[i][1])) for i in rows])
    return {
        "frames": len(rows),
        "ssim": round(float(ssim), 3),
        "still_ssim": round(float(still), 3),
        "gain": round(float((ssim - still) / (1 - still)), 3),
        "opening_r": round(float(np.corrcoef(lips.T)[0, 1]), 3),
        "opening_error": round(float(np.abs(np.diff(lips, axis=1)).mean()), 4),
    }


def run(path: Path, folder: Path | None) -> dict[str, Any]:
    """Return the figures of each means for a clip."""
    clip = read_clip(path, 3600.0, StageClock())
    count = len(clip.times_s)
    first = count // 2
    old = clip.library
    kept = [mouth for mouth in old.kept if mouth.number < first]
    usable = old.usable.copy()
    usable[first:] = False
    half = replace(old, usable=usable, mouth=find_mouth(old.measures.lips[usable]))
    mouth = hear_person(half, path, clip.times_s[:first], clip.fps) if first else half.mouth
    numbers = np.array([each.number for each in kept])
    library = replace(old, kept=tuple(kept), numbers=numbers, mouth=mouth)
    clip = replace(clip, library=library)
    order = np.arange(first, count)
    motion, sound = own_motion(clip, path, first)
    real = list(clip.frames(order))
    found = aligned(real)
    turns = old.measures.turns_deg[order]
    counted = (np.abs(turns - turns[0]).max(axis=1) <= MAX_TURN_DEG) & old.usable[order]
    result: dict[str, Any] = {"clip": path.name, "library_frames": len(kept)}
    made = {"real": real}
    for name, (plan, moved) in plans(clip, motion, order).items():
        hidden: Any = HiddenClip(clip, first)
        made[name] = list(render_plan(hidden, moved, plan))
        result[name] = figures(found, aligned(made[name]), counted)
        print(name, result[name], flush=True)
    result["gap_share"] = round(float((clip.library.measures.lips[order, GAP] > 0).mean()), 3)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, frames in made.items():
            target = folder / f"{path.stem}_{name}.mp4"
            encode_video(target, iter(frames), fit(sound, count - first, clip.fps), clip.fps, clip.size_px)
    return result


def fit(sound: Audio, frames: int, fps: Fraction) -> Audio:
    """Return a sound as long as some frames."""
    return fit_duration(sound, frames, fps)


def main() -> None:
    """Print, and with ``--output`` append, the figures of each clip."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    results = [run(path, args.folder) for path in args.clips]
    print(json.dumps(results))
    if args.output:
        append(args.output, record("revoice", figures=results))


if __name__ == "__main__":
    main()
