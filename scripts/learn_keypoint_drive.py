"""Learn how a moving face moves LivePortrait's 21 keypoints, and back, from pairs of landmarks and keypoints.

Usage: python scripts/learn_keypoint_drive.py MOTION_FOLDER [vortex/motion/keypoints.npz] [--left-out]

Each ``clip_*.npz`` in MOTION_FOLDER holds a filmed face: ``landmarks_px`` (T, 478, 3) of MediaPipe,
``face_from_model`` (T, 4, 4), and what LivePortrait's motion extractor says of the same frames, ``exp``
(T, 21, 3). Each ``template_*.npz`` holds ``exp`` alone.

Each entry of ``exp`` is a sum of measures of the face (vortex/motion/measures.py), found by ridge regression
on displacements from the mean of each clip; every clip counts alike. What is known beforehand stands in for
the people that are missing: measures of one region hardly move keypoints of another (REACH); entries that
move far in the templates may move far; all entries move together only as in the templates; a face that moves
evenly moves both eyes alike and the middle of the mouth up and down; eyes, gaze and brows follow the sliders
of the published editors unless the clips say otherwise. The strength of the ridge is chosen by leaving out
each clip in turn. ``--left-out`` prints how well each clip left out is predicted, with the strength chosen on
the others.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vortex.face.pose import pose_of_rotation
from vortex.face.shapes import without_pose
from vortex.motion.expression import fit_expression, lip_gaps
from vortex.motion.keypoints import USUAL_AMOUNT, rest_frame
from vortex.motion.measures import MEASURES, measure_faces, measure_motion, shape_measures
from vortex.types import BLENDSHAPE_INDEX, MotionTrack

SPREAD = {
    "jaw": 0.049, "upper_lip": 0.036, "lower_lip": 0.070, "lower_edge": 0.073, "corners": 0.044,
    "width": 0.063, "tilt": 0.026, "shift": 0.019, "jaw_shift": 0.021,
    "gaze_across": 0.079, "gaze_down": 0.026, "opening": 0.073, "opening_difference": 0.012,
    "lower_lid": 0.0115, "lower_lid_difference": 0.0031,
    "inner_brow": 0.013, "inner_brow_difference": 0.006, "outer_brow": 0.011, "outer_brow_difference": 0.0075,
}  # fmt: skip
"""Standard deviation of each measure within a clip, over the 16 clips of vortex/face/shapes.md."""
REGIONS = {"lips": (6, 12, 14, 17, 19, 20), "eyes": (11, 13, 15, 16, 18), "brows": (1, 2)}
"""Keypoints of LivePortrait; the others hold the outline of the head."""
REACH = {
    "jaw": (0.1, 0.5, 0.3, 0.3),
    **dict.fromkeys(("upper_lip", "lower_lip", "lower_edge", "corners", "width"), (1, 0.5, 0.3, 0.3)),
    **dict.fromkeys(("tilt", "shift", "jaw_shift"), (0.3, 0.1, 0.1, 0.3)),
    **dict.fromkeys(("gaze_across", "gaze_down", "opening", "lower_lid"), (0.1, 1, 0.5, 0.1)),
    **dict.fromkeys(("opening_difference", "lower_lid_difference"), (0.1, 0.5, 0.3, 0.1)),
    **dict.fromkeys(("inner_brow", "outer_brow"), (0.1, 0.3, 1, 0.3)),
    **dict.fromkeys(("inner_brow_difference", "outer_brow_difference"), (0.1, 0.1, 0.5, 0.1)),
}
"""How far a measure may move lips, eyes, brows and the other keypoints, relative to its own region."""
MIDDLE, BIAS = (17, 19, 20), 0.1
"""Keypoints in the middle of the mouth, and how far they may move aside with a face that moves evenly, or up,
down and in depth with one that moves to one side, relative to the other axes."""
PAIRS = ((11, 15), (13, 16))
"""Keypoints that move up and down as mirror images; they do not across, and others do on no axis."""
ASIDE = ("tilt", "shift", "jaw_shift", "gaze_across")
"""Measures that change their sign in a mirror, beside differences."""
SMALLEST_MOVE = 7e-4
"""Entries of ``exp`` that move less in the templates are treated as if they moved as far."""
TEMPLATE_NOISE = 3e-4
"""Moves of ``exp`` that are smaller than this in the templates, in any direction, are noise."""
SLIDERS: dict[tuple[str, ...], dict[tuple[int, str], float]] = {
    ("eyeWideLeft", "eyeWideRight"): {
        (11, "y"): -5e-3, (15, "y"): -5e-3, (13, "y"): 1.5e-3, (16, "y"): 1.5e-3,
        (1, "y"): -1.25e-3, (2, "y"): 1.25e-3,
    },
    ("eyeSquintLeft", "eyeSquintRight"): {
        (11, "y"): 8e-3, (15, "y"): 8e-3, (13, "y"): -2.4e-3, (16, "y"): -2.4e-3,
        (1, "y"): 2e-3, (2, "y"): -2e-3,
    },
    ("eyeBlinkLeft",): {(15, "y"): 2e-2, (16, "y"): -6e-3},
    ("eyeBlinkRight",): {(11, "y"): 2e-2, (13, "y"): -6e-3},
    ("browInnerUp",): {(1, "y"): 6e-3, (2, "y"): -6e-3},
    ("browOuterUpLeft", "browOuterUpRight"): {(1, "y"): 6e-3, (2, "y"): -6e-3},
    ("browDownLeft", "browDownRight"): {(1, "x"): 1e-2, (2, "x"): -1e-2, (1, "y"): -3e-3, (2, "y"): 3e-3},
    ("eyeLookLeft",): {(11, "x"): 1.05e-2, (15, "x"): 1.5e-2},
    ("eyeLookRight",): {(11, "x"): -1.5e-2, (15, "x"): -1.05e-2},
    ("eyeLookUp",): {
        (11, "y"): -6e-3, (15, "y"): -6e-3, (13, "y"): -1.8e-3, (16, "y"): -1.8e-3,
        (1, "y"): 1.5e-3, (2, "y"): -1.5e-3,
    },
    ("eyeLookDown",): {
        (11, "y"): 6e-3, (15, "y"): 6e-3, (13, "y"): 1.8e-3, (16, "y"): 1.8e-3,
        (1, "y"): -1.5e-3, (2, "y"): 1.5e-3,
    },
}  # fmt: skip
"""What blendshapes at 1 add, by the sliders of the editors published with and for LivePortrait (its Gradio
page; ComfyUI-AdvancedLivePortrait) in the ranges in which these are used."""
SLIDER_FRAMES = 1.5
CLIP_FRAMES = 100.0
"""How much each slider at 1, and each clip, counts in a fit."""
STRENGTHS = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0)
INVERSE_RIDGE = 3e-4
SHAPE_FRAMES = 100.0
"""How much each blendshape at its usual amount counts in the inverse."""
MARGIN = 1.2
"""The limits of ``exp`` lie this far beyond what the clips and templates do."""
SMALLEST_LIMIT = 2e-4
EXP = 63


class Clip(NamedTuple):
    """A filmed face, less the means over time.

    ``measures`` (T, 19) are of its landmarks, ``fitted`` (T, 19) of the blendshapes fitted to them; ``exp``
    (T, 63) is what LivePortrait says.
    """

    measures: np.ndarray
    fitted: np.ndarray
    exp: np.ndarray


def load_clip(path: Path) -> Clip:
    with np.load(path) as arrays:
        landmarks = arrays["landmarks_px"].astype(np.float64)
        rotations = arrays["face_from_model"][:, :3, :3]
        exp = arrays["exp"].reshape(-1, EXP).astype(np.float64)
    faces = without_pose(landmarks)
    # The frame whose mouth is least open stands for the portrait.
    shut = int(lip_gaps(faces).max(axis=1).argmin())
    amounts, _ = fit_expression(landmarks, pose_of_rotation(rotations), landmarks[shut])
    motion = MotionTrack(amounts, np.zeros((len(amounts), 3), np.float32), Fraction(25))
    measures, fitted = measure_faces(faces), measure_motion(motion)
    return Clip(*(values - values.mean(axis=0) for values in (measures, fitted, exp)))


def load_templates(folder: Path) -> list[np.ndarray]:
    """Return ``exp`` (T, 63) of each template."""
    paths = sorted(folder.glob("template_*.npz"))
    return [np.load(path)["exp"].reshape(-1, EXP).astype(np.float64) for path in paths]


def prior_deviations(templates: Sequence[np.ndarray]) -> np.ndarray:
    """Return (19, 63): how large each weight may be, for measures in units of SPREAD."""
    reach = np.zeros((len(MEASURES), EXP // 3))
    for row, name in zip(reach, MEASURES, strict=True):
        row[:] = REACH[name][-1]
        for region, value in zip(REGIONS.values(), REACH[name], strict=False):
            row[list(region)] = value
    axes = np.repeat(reach[..., None], 3, axis=2)
    for row, sign in zip(axes, mirror_signs(), strict=True):
        row[list(MIDDLE)] *= [1, BIAS, BIAS] if sign < 0 else [BIAS, 1, 1]
    moves = np.maximum(np.sqrt(np.mean([exp.var(axis=0) for exp in templates], axis=0)), SMALLEST_MOVE)
    return axes.reshape(len(MEASURES), EXP) * np.sqrt(moves / np.sqrt((moves**2).mean()))


def mirror_signs() -> np.ndarray:
    """Return (19,): -1 for measures that change their sign in a mirror, else 1."""
    return np.array([-1 if name in ASIDE or name.endswith("difference") else 1 for name in MEASURES])


def template_filter(templates: Sequence[np.ndarray]) -> np.ndarray:
    """Return the Wiener filter C(C + N)^-1 (63, 63) of the templates' covariance C and noise N."""
    covariance = np.mean([np.cov(exp.T) for exp in templates], axis=0)
    return np.asarray(covariance @ np.linalg.inv(covariance + TEMPLATE_NOISE**2 * np.eye(EXP)))


def slider_pairs() -> tuple[np.ndarray, np.ndarray]:
    """Return measures (S, 19) and ``exp`` (S, 63) of the sliders."""
    measures, exp = np.zeros((len(SLIDERS), len(MEASURES))), np.zeros((len(SLIDERS), EXP))
    for row, (names, moves) in enumerate(SLIDERS.items()):
        measures[row] = sum(shape_measures()[BLENDSHAPE_INDEX[name]] for name in names)
        for (keypoint, axis), step in moves.items():
            exp[row, 3 * keypoint + "xyz".index(axis)] = step
    return measures, exp


def fit_weights(clips: Sequence[Clip], templates: Sequence[np.ndarray], strength: float) -> np.ndarray:
    """Return weights (19, 63): ``exp`` for each unit of a measure."""
    spread = np.array([SPREAD[name] for name in MEASURES])
    pairs = [(clip.measures, clip.exp, CLIP_FRAMES / len(clip.exp)) for clip in clips]
    pairs.append((*slider_pairs(), SLIDER_FRAMES))
    gram = sum(weight * (x / spread).T @ (x / spread) for x, _, weight in pairs)
    products = sum(weight * (x / spread).T @ y for x, y, weight in pairs)
    found = ridge_solve(gram, products, strength / prior_deviations(templates) ** 2)
    weights = found @ template_filter(templates).T / spread[:, None]
    for one, other in PAIRS:
        up, mirrored = weights[:, 3 * one + 1], mirror_signs() * weights[:, 3 * other + 1]
        weights[:, 3 * one + 1] = (up + mirrored) / 2
        weights[:, 3 * other + 1] = mirror_signs() * weights[:, 3 * one + 1]
    return weights


def ridge_solve(gram: np.ndarray, products: np.ndarray, ridges: np.ndarray) -> np.ndarray:
    """Return weights (I, O) of a regression with ``gram`` (I, I), ``products`` and ``ridges`` (I, O)."""
    columns = zip(ridges.T, products.T, strict=True)
    return np.stack([np.linalg.solve(gram + np.diag(ridge), product) for ridge, product in columns], axis=1)


def r2(predicted: np.ndarray, true: np.ndarray, keypoints: Sequence[int]) -> float:
    """Return R2 over time of some keypoints; (T, 63) less their means."""
    p, t = (values.reshape(len(values), -1, 3)[:, list(keypoints)] for values in (predicted, true))
    return float(1 - ((p - t) ** 2).sum() / (t**2).sum())


def choose_strength(clips: Sequence[Clip], templates: Sequence[np.ndarray]) -> float:
    """Return the strength that predicts clips best that are left out, from landmarks and from blendshapes."""
    groups = [np.add.outer(3 * np.array(keypoints), range(3)).ravel() for keypoints in REGIONS.values()]
    groups.append(np.arange(EXP))
    scores = []
    for strength in STRENGTHS:
        lost = np.zeros(EXP)
        for index, clip in enumerate(clips):
            weights = fit_weights([*clips[:index], *clips[index + 1 :]], templates, strength)
            for measures in (clip.measures, clip.fitted):
                lost += ((measures @ weights - clip.exp) ** 2).mean(axis=0) / 2
        total = np.sum([(clip.exp**2).mean(axis=0) for clip in clips], axis=0)
        scores.append(np.mean([1 - lost[group].sum() / total[group].sum() for group in groups]))
    return STRENGTHS[int(np.argmax(scores))]


def fit_inverse(clips: Sequence[Clip], weights: np.ndarray, templates: Sequence[np.ndarray]) -> np.ndarray:
    """Return (63, 19): a measure for each unit of ``exp``, by the clips and by what ``weights`` predict."""
    shapes = USUAL_AMOUNT * shape_measures()
    pairs = [(clip.exp, clip.measures, CLIP_FRAMES / len(clip.exp)) for clip in clips]
    pairs.append((shapes @ weights, shapes, SHAPE_FRAMES))
    gram = sum(weight * x.T @ x for x, _, weight in pairs)
    products = sum(weight * x.T @ y for x, y, weight in pairs)
    # What a measure moves easily, tells much of it.
    return ridge_solve(gram, products, INVERSE_RIDGE / prior_deviations(templates).T ** 2)


def inverse_noise(clips: Sequence[Clip], templates: Sequence[np.ndarray], strength: float) -> np.ndarray:
    """Return (19,): the root mean square error of each measure read from ``exp`` of clips left out."""
    errors = []
    for index, clip in enumerate(clips):
        others = [*clips[:index], *clips[index + 1 :]]
        inverse = fit_inverse(others, fit_weights(others, templates, strength), templates)
        errors.append(((clip.exp @ inverse - clip.measures) ** 2).mean(axis=0))
    return np.asarray(np.sqrt(np.mean(errors, axis=0)))


def limits(
    clips: Sequence[Clip], templates: Sequence[np.ndarray], inverse: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return low and high (63,): how far ``exp`` of real faces goes from that of their shut mouth at rest."""
    moves = [exp - exp[rest_frame(exp @ inverse)] for exp in ([clip.exp for clip in clips] + list(templates))]
    low = np.min([move.min(axis=0) for move in moves], axis=0)
    high = np.max([move.max(axis=0) for move in moves], axis=0)
    return np.minimum(MARGIN * low, -SMALLEST_LIMIT), np.maximum(MARGIN * high, SMALLEST_LIMIT)


def print_left_out(clips: Sequence[Clip], templates: Sequence[np.ndarray]) -> None:
    """Print how well each clip left out is predicted, with the strength chosen on the others."""
    groups = {**REGIONS, "all": range(EXP // 3)}
    for index, clip in enumerate(clips):
        others = [*clips[:index], *clips[index + 1 :]]
        strength = choose_strength(others, templates)
        weights = fit_weights(others, templates, strength)
        print(f"clip {index} left out, {len(clip.exp)} frames, strength {strength:g}")
        for name, measures in (("landmarks", clip.measures), ("blendshapes", clip.fitted)):
            made = measures @ weights
            scores = [f"{group} {r2(made, clip.exp, points):.2f}" for group, points in groups.items()]
            print(f"  R2 of exp from {name}:", ", ".join(scores))
        for keypoint in (19, 20, 14):
            made, real = clip.fitted @ weights[:, 3 * keypoint + 1], clip.exp[:, 3 * keypoint + 1]
            correlation, size = np.corrcoef(made, real)[0, 1], made.std() / real.std()
            print(f"  {keypoint}.y from blendshapes: correlation {correlation:.2f}, size {size:.2f}")
        found = clip.exp @ fit_inverse(others, weights, templates)
        back = []
        for measure in ("upper_lip", "lower_lip", "corners", "width", "gaze_across", "opening"):
            made, real = (values[:, MEASURES.index(measure)] for values in (found, clip.measures))
            back.append(f"{measure} {1 - ((made - real) ** 2).sum() / (real**2).sum():.2f}")
        print("  R2 of measures from exp:", ", ".join(back))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("motion", type=Path, help="a folder of clips and templates")
    parser.add_argument("out", type=Path, nargs="?", default=Path("vortex/motion/keypoints.npz"))
    parser.add_argument("--left-out", action="store_true", help="also print the errors on clips left out")
    args = parser.parse_args()
    clips = [load_clip(path) for path in sorted(args.motion.glob("clip_*.npz"))]
    templates = load_templates(args.motion)
    if args.left_out:
        print_left_out(clips, templates)
    strength = choose_strength(clips, templates)
    weights = fit_weights(clips, templates, strength)
    inverse = fit_inverse(clips, weights, templates)
    low, high = limits(clips, templates, inverse)
    arrays = {
        "weights": weights, "inverse": inverse, "low": low.reshape(-1, 3), "high": high.reshape(-1, 3),
        "noise": inverse_noise(clips, templates, strength),
    }  # fmt: skip
    np.savez_compressed(args.out, **{name: array.astype(np.float32) for name, array in arrays.items()})
    print(f"{args.out}: strength {strength:g}, {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
