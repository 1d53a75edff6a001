"""How the 478 landmarks move with each ARKit shape, and which shapes a moved face shows.

``scripts/learn_face_shapes.py`` makes ``shapes.npz``; ``shapes.md`` says from which data. All is in outer-eye
widths, in a frame with x right, y down and z away from the viewer.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vortex.face.landmarks import (
    FACE_OVAL,
    LANDMARKS,
    LID_RINGS,
    LIP_CORNERS,
    LOWER_INNER,
    LOWER_RINGS,
    SKIN_LANDMARKS,
    STABLE,
    UPPER_INNER,
    UPPER_RINGS,
)
from vortex.types import F32, F64, FloatArray

DEPTH_WEIGHT = 0.25
"""Weight of z, which the landmark network guesses, relative to x and y."""
LIP_WEIGHT, LID_WEIGHT, SKIN_WEIGHT, OVAL_WEIGHT = 1.5, 0.7, 0.5, 0.25
"""Weights of landmarks in a fit; the silhouette slides over the head as it turns."""
FIT_RIDGE = 2e-3
"""Ridge on the amounts, relative to the mean squared size of a shape: shapes need evidence to be used."""
FIT_SWEEPS = 60
"""Passes of coordinate descent over all shapes; six rounds of a person come within 1 % of the least error."""
NEUTRAL_ROUNDS = 6
"""Times that amounts and the neutral face of a person are found in turn."""


class FaceShapes(NamedTuple):
    """``template`` (478, 3) is a mean face, ``moves`` (K, 478, 3) are what 1 of each of ``names`` adds."""

    names: tuple[str, ...]
    template: F32
    moves: F32

    def columns(self, names: tuple[str, ...]) -> F32:
        """Return (len(names), 478, 3): the moves of some shapes."""
        return self.moves[[self.names.index(name) for name in names]]

    def lip_gaps(self, names: tuple[str, ...]) -> F32:
        """Return (len(names), 9): how far shapes part the inner lips at each column between their corners."""
        moves = self.columns(names)
        return np.asarray(moves[:, LOWER_INNER[1:-1], 1] - moves[:, UPPER_INNER[1:-1], 1], np.float32)


@lru_cache(maxsize=1)
def load_shapes() -> FaceShapes:
    """Return the shapes that are part of the package."""
    with np.load(Path(__file__).with_name("shapes.npz")) as arrays:
        names = tuple(str(name) for name in arrays["names"])
        moves = arrays["moves"].astype(np.float32) * arrays["scale"][:, None, None]
        return FaceShapes(names, arrays["template"].astype(np.float32), moves.astype(np.float32))


def similarity(source: FloatArray, target: FloatArray) -> tuple[float, F64, F64]:
    """Return scale, R (D, D), t (D,): target (N, D) ≈ scale * source @ R.T + t (Umeyama 1991, eq. 40-42)."""
    a, b = np.asarray(source, np.float64), np.asarray(target, np.float64)
    mean_a, mean_b = a.mean(0), b.mean(0)
    u, singular, vt = np.linalg.svd((b - mean_b).T @ (a - mean_a))
    sign = np.ones(len(singular))
    sign[-1] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / ((a - mean_a) ** 2).sum())
    return scale, rotation, mean_b - scale * rotation @ mean_a


class FacePoses(NamedTuple):
    """Scales (T,), rotations (T, 3, 3) and shifts (T, 3) that move landmarks onto the template."""

    scale: F64
    rotation: F64
    shift: F64

    def remove(self, landmarks: FloatArray) -> F64:
        """Return landmarks (T, 478, 3) without the pose."""
        turned = np.einsum("tpc,tdc->tpd", landmarks.astype(np.float64), self.rotation)
        return np.asarray(self.scale[:, None, None] * turned + self.shift[:, None], np.float64)

    def restore(self, faces: FloatArray) -> F64:
        """Return faces (T, N, 3) without pose in the pose of each frame: the inverse of :meth:`remove`."""
        moved = (faces - self.shift[:, None]) / self.scale[:, None, None]
        return np.asarray(np.einsum("tpd,tdc->tpc", moved, self.rotation), np.float64)

    def rows(self, rows: slice) -> FacePoses:
        """Return the poses of some frames."""
        return FacePoses(self.scale[rows], self.rotation[rows], self.shift[rows])


def fit_poses(landmarks: FloatArray) -> FacePoses:
    """Return the poses of landmarks (T, 478, 3), by points that expressions hardly move."""
    target = load_shapes().template[STABLE]
    fits = [similarity(points[STABLE], target) for points in landmarks]
    count = len(fits)
    return FacePoses(
        np.array([fit[0] for fit in fits]),
        np.array([fit[1] for fit in fits]).reshape(count, 3, 3),
        np.array([fit[2] for fit in fits]).reshape(count, 3),
    )


def without_pose(landmarks: FloatArray) -> F64:
    """Return landmarks (T, 478, 3) moved onto the template by points that expressions hardly move."""
    return fit_poses(landmarks).remove(landmarks)


def landmark_weights() -> F64:
    """Return (478, 3): how much each coordinate of each landmark counts in a fit; irises do not."""
    weights = np.full(LANDMARKS, SKIN_WEIGHT)
    weights[FACE_OVAL] = OVAL_WEIGHT
    weights[np.concatenate(list(LID_RINGS.values()))] = LID_WEIGHT
    weights[np.concatenate([UPPER_RINGS.ravel(), LOWER_RINGS.ravel(), LIP_CORNERS])] = LIP_WEIGHT
    weights[SKIN_LANDMARKS:] = 0
    return np.asarray(weights[:, None] * [1, 1, DEPTH_WEIGHT], np.float64)


def fit_amounts(moves: FloatArray, displacements: FloatArray, start: F64 | None = None) -> F64:
    """Return (T, K) amounts in [0, 1] of ``moves`` (K, 478, 3) that best make ``displacements`` (T, 478, 3).

    Bounded ridge regression; ``start`` (T, K) are amounts to begin with.
    """
    weights = landmark_weights()
    shapes = (moves * weights).reshape(len(moves), -1).astype(np.float64)
    wanted = (displacements * weights).reshape(len(displacements), -1)
    gram = shapes @ shapes.T
    gram += FIT_RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    return bounded_amounts(gram, wanted @ shapes.T, start)


def bounded_amounts(gram: F64, products: F64, start: F64 | None = None, *, lowest: float = 0.0) -> F64:
    """Return (T, K) amounts in [``lowest``, 1] that solve least squares.

    ``gram`` (K, K) and ``products`` (T, K) are its normal equations. Amounts are found by cyclic
    coordinate descent, all frames at once, from ``start`` (T, K) on, or from zero.
    """
    amounts = np.zeros(products.shape) if start is None else start.copy()
    for _ in range(FIT_SWEEPS):
        for k in range(len(gram)):
            step = (products[:, k] - amounts @ gram[:, k]) / gram[k, k]
            amounts[:, k] = np.clip(amounts[:, k] + step, lowest, 1)
    return amounts


def fit_person(faces: FloatArray, moves: FloatArray) -> tuple[F64, F64]:
    """Return the neutral face (478, 3) of one person and the amounts (T, K) of ``faces`` (T, 478, 3).

    The faces are without pose. Amounts and neutral face are found in turn, from the median face on.
    """
    neutral: F64 = np.asarray(np.median(faces, axis=0), np.float64)
    amounts: F64 | None = None
    for _ in range(NEUTRAL_ROUNDS):
        amounts = fit_amounts(moves, faces - neutral, amounts)
        neutral = (faces - np.tensordot(amounts, moves, 1)).mean(0)
    assert amounts is not None
    return neutral, amounts
