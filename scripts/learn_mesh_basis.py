"""Learn the mesh engine's deformation basis from landmark tracks of moving faces.

Usage: python scripts/learn_mesh_basis.py TRACKS_DIR [vortex/engines/mesh/basis.npz]

Each ``*.npz`` in TRACKS_DIR holds ``landmarks_px_x20`` (T, 478, 3), MediaPipe landmarks in pixels times 20.
Every frame is aligned to a common template on points that speech does not move; the displacement of all
landmarks is then regressed (ridge) on geometric measures of the same frame, each track with its own mean, and
the result is made symmetric. Prints R2 on the lip landmarks with each track left out in turn.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from vortex.engines.mesh.basis import MODES, similarity
from vortex.face.landmarks import (
    CHIN,
    FOREHEAD,
    INNER_LIPS,
    LANDMARKS,
    MOUTH_CORNERS,
    OUTER_EYE_CORNERS,
    STABLE,
)

LIPS = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 146, 91, 181, 84, 17, 314, 405, 321, 375, 78,
        191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 95, 88, 178, 87, 14, 317, 402, 318, 324]  # fmt: skip
MIRRORED = {"brow_inner_left": "brow_inner_right", "brow_outer_left": "brow_outer_right"}


def align(landmarks: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Return landmarks (T, 478, 3) aligned with the template by a similarity on the stable points."""
    result = np.empty_like(landmarks)
    for index, points in enumerate(landmarks):
        scale, rotation, shift = similarity(points[STABLE], template[STABLE])
        result[index] = scale * points @ rotation.T + shift
    return result


def measures(p: np.ndarray) -> np.ndarray:
    """Return (T, 8) measures in the order of MODES from aligned landmarks (T, 478, 3)."""
    up = -p[..., 1]
    columns = {
        "aperture": np.linalg.norm(p[:, INNER_LIPS[0]] - p[:, INNER_LIPS[1]], axis=1),
        "width": np.linalg.norm(p[:, MOUTH_CORNERS[0]] - p[:, MOUTH_CORNERS[1]], axis=1),
        "corner_up": up[:, list(MOUTH_CORNERS)].mean(1),
        "brow_inner_left": up[:, [336, 285]].mean(1),
        "brow_inner_right": up[:, [107, 55]].mean(1),
        "brow_outer_left": up[:, [334, 300]].mean(1),
        "brow_outer_right": up[:, [105, 70]].mean(1),
        "frown": -np.linalg.norm(p[:, 107] - p[:, 336], axis=1),
    }
    return np.stack([columns[name] for name in MODES], axis=1)


def regress(tracks: list[np.ndarray], ridge: float = 1e-3) -> np.ndarray:
    """Return (8, 478, 3) displacements for one unit of each measure."""
    x = [m - m.mean(0) for m in map(measures, tracks)]
    y = [t.reshape(len(t), -1) - t.reshape(len(t), -1).mean(0) for t in tracks]
    # Every track has the same weight, whatever its length.
    weights = [1 / np.sqrt(len(t)) for t in tracks]
    a = np.concatenate([w * m for w, m in zip(weights, x, strict=True)])
    b = np.concatenate([w * t for w, t in zip(weights, y, strict=True)])
    gram = a.T @ a
    return np.linalg.solve(gram + ridge * np.trace(gram) / len(gram) * np.eye(len(gram)), a.T @ b).reshape(
        len(MODES), LANDMARKS, 3
    )


def left_out_r2(tracks: list[np.ndarray]) -> list[float]:
    """Return R2 of the lip landmarks in x and y for each track, predicted from the others."""
    scores = []
    for index, track in enumerate(tracks):
        modes = regress(tracks[:index] + tracks[index + 1 :])
        m = measures(track)
        predicted = np.tensordot(m - m.mean(0), modes[:, LIPS, :2], 1)
        true = track[:, LIPS, :2] - track[:, LIPS, :2].mean(0)
        scores.append(float(1 - ((true - predicted) ** 2).sum() / (true**2).sum()))
    return scores


def symmetric(template: np.ndarray, modes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return template and modes averaged with their mirror images."""
    flipped = template * [-1, 1, 1]
    cost = np.linalg.norm(template[:, None] - flipped[None], axis=2)
    mirror = linear_sum_assignment(cost)[1]
    names = list(MODES)
    partner = {**MIRRORED, **{right: left for left, right in MIRRORED.items()}}
    order = [names.index(partner.get(name, name)) for name in names]
    mirrored = modes[order][:, mirror] * [-1, 1, 1]
    return (template + flipped[mirror]) / 2, (modes + mirrored) / 2


def main() -> None:
    folder = Path(sys.argv[1])
    out = Path(sys.argv[2] if len(sys.argv) > 2 else "vortex/engines/mesh/basis.npz")
    raw = [np.load(path)["landmarks_px_x20"].astype(np.float64) / 20 for path in sorted(folder.glob("*.npz"))]
    template = raw[0].mean(0)
    for _ in range(4):
        template = np.mean([align(t[:: max(1, len(t) // 40)], template).mean(0) for t in raw], axis=0)
        template -= template[list(OUTER_EYE_CORNERS)].mean(0)
        across = template[OUTER_EYE_CORNERS[1]] - template[OUTER_EYE_CORNERS[0]]
        template /= np.linalg.norm(across)
        # Upright and frontal: eyes level, forehead and chin in the middle plane.
        x_axis = across / np.linalg.norm(across)
        y_axis = template[CHIN] - template[FOREHEAD]
        y_axis -= x_axis * (x_axis @ y_axis)
        y_axis /= np.linalg.norm(y_axis)
        template = template @ np.stack([x_axis, y_axis, np.cross(x_axis, y_axis)], axis=1)
    tracks = [align(t, template) for t in raw]
    template, modes = symmetric(template, regress(tracks))
    print("lip R2, one track left out:", [round(v, 2) for v in left_out_r2(tracks)])
    np.savez_compressed(out, template=template.astype(np.float32), modes=modes.astype(np.float32))
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
