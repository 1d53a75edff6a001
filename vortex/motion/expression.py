"""The expression of a filmed face, frame by frame, as amounts of blendshapes for a portrait."""

from __future__ import annotations

import numpy as np

from vortex.face.landmarks import (
    IRIS_CENTRES,
    LID_RINGS,
    LIDS,
    LOWER_INNER,
    LOWER_RINGS,
    MOUTH_CORNERS,
    SKIN_LANDMARKS,
    UPPER_INNER,
    UPPER_RINGS,
)
from vortex.face.shapes import bounded_amounts, fit_person, landmark_weights, load_shapes, without_pose
from vortex.interpolation import smoothstep
from vortex.motion.eyes import set_gaze
from vortex.types import BLENDSHAPE_INDEX, BLENDSHAPES, F32, F64, GAZE_REACH, FloatArray, Portrait

SHUT_GAP, OPEN_GAP = 0.008, 0.03
"""Lips measured closer than the first are shut, from the second on open as measured, in outer-eye widths."""
TURN_OF_EYE_WIDTH_DEG = 160.0
"""A head turned this far from its usual pose counts like a mouth that differs by one outer-eye width."""
LID_SHAPES = ("eyeBlink", "eyeSquint", "eyeWide")
"""Beginnings of the shapes that the measured opening of the eyes replaces."""
PARTING = ("mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight")
"""Shapes that part the lips where the other shapes part them too little."""


SHUT_JAW_APERTURE = 0.1
"""Lips may be this far apart over a shut jaw, as in a smile, in outer-eye widths."""
HOLDING = tuple(
    name
    for name in load_shapes().names
    if name.startswith(("jaw", "mouth")) and not name.startswith(("mouthPress", "mouthPucker", "mouthFunnel"))
)
"""Shapes that hold a mouth open as it is in a picture: not those that press or round lips."""
HELD = np.setdiff1d(np.arange(SKIN_LANDMARKS), np.concatenate([UPPER_RINGS[:2], LOWER_RINGS[:2]], axis=None))
"""Landmarks beside the inner lips, which follow the gap."""
SCORE_GAIN = 0.6
"""Amount of a shape for a score of 1 by MediaPipe: 0.58 is the slope of fitted amounts over scores, of all
shapes of the mouth in five films of people who talk or act."""
GAP_WEIGHT, HOLDING_RIDGE = 30.0, 0.5
CHANGE_RIDGE = 5e-3
"""Ridge that keeps fitted changes near the difference of fitted amounts, like ``FIT_RIDGE`` of the shapes."""
NOSE = [168, 6, 197, 195, 5, 4, 1, 2]
"""The ridge of the nose from bridge to base."""
NOSE_GAIN = 10.0
"""How much more than other skin the nose counts in a fit of changes: shapes of the mouth shorten it in smiles
that do not, and the lips are fitted as well with it."""


def fit_expression(
    landmarks_px: FloatArray, poses_deg: FloatArray, portrait_px: FloatArray
) -> tuple[F32, int]:
    """Return blendshapes (T, 48) that move a portrait as a filmed face moves, and the frame they start from.

    ``landmarks_px`` (T, 478, 3) and ``poses_deg`` (T, 3) are of one face, ``portrait_px`` (478, 3) of the
    portrait. The frame whose mouth and eyes are most like the portrait's, near the usual pose of the head, is
    the reference: there the portrait shows its own expression, and amounts in [-1, 1] are the change from it.
    The gap between the lips is that of the filmed face.
    """
    shapes = load_shapes()
    faces, portrait = without_pose(landmarks_px), without_pose(portrait_px[None])
    _, amounts = fit_person(faces, shapes.moves)
    mouth, opening, irises = mouth_measures(faces), lid_openings(faces), iris_places(faces)
    measured = np.concatenate([mouth, opening], axis=1)
    wanted = np.concatenate([mouth_measures(portrait), lid_openings(portrait)], axis=1)
    turned = np.abs(poses_deg - np.median(poses_deg, axis=0)).sum(axis=1)
    reference = int((np.abs(measured - wanted).sum(axis=1) + turned / TURN_OF_EYE_WIDTH_DEG).argmin())
    start = amounts[reference], opening[reference], irises[reference]
    return _changes(_refitted(amounts, faces, reference), faces, *start), reference


def _refitted(amounts: F64, faces: F64, reference: int) -> F64:
    """Return amounts (T, K) whose change from the frame ``reference`` makes the change of the landmarks.

    Amounts of single frames leave an error in each; that of the reference would be in all frames. Changes
    stay near those of ``amounts`` and in [-1, 1]. Jaw and lids stay as they are.
    """
    shapes = load_shapes()
    free = [k for k, name in enumerate(shapes.names) if name != "jawOpen" and not name.startswith(LID_SHAPES)]
    weights = landmark_weights()
    weights[np.concatenate(list(LID_RINGS.values()))] = 0
    weights[NOSE] *= NOSE_GAIN
    change = amounts - amounts[reference]
    wanted = faces - faces[reference]
    wanted -= np.tensordot(np.delete(change, free, axis=1), np.delete(shapes.moves, free, axis=0), 1)
    moves = (shapes.moves[free] * weights).reshape(len(free), -1).astype(np.float64)
    gram = moves @ moves.T
    ridge = CHANGE_RIDGE * np.trace(gram) / len(gram)
    products = (wanted * weights).reshape(len(faces), -1) @ moves.T + ridge * change[:, free]
    result = amounts.copy()
    fitted = bounded_amounts(gram + ridge * np.eye(len(gram)), products, change[:, free], lowest=-1.0)
    result[:, free] = amounts[reference, free] + fitted
    return result


def copy_expression(landmarks_px: FloatArray, portrait: Portrait, scores: F32 | None = None) -> F32:
    """Return blendshapes (T, 48) with which a portrait looks as a filmed face does.

    Other than with :func:`fit_expression`, no frame shows the portrait's own expression: amounts are the
    change from that to the other one. ``scores`` (T, 52) are MediaPipe's of the filmed face; default, its
    amounts are the differences from its resting face, which takes many frames to find.
    """
    faces, own = without_pose(landmarks_px), without_pose(portrait.landmarks_px[None])
    amounts = fit_person(faces, load_shapes().moves)[1] if scores is None else _scored(scores)
    start = _scored(portrait.blendshapes[None])[0]
    return _changes(amounts, faces, start, lid_openings(own)[0], iris_places(own)[0])


def scored_expression(portrait: Portrait) -> F32:
    """Return the blendshapes (48,) that a portrait's picture shows by its scores, without jaw, lids, gaze."""
    result = np.zeros(len(BLENDSHAPES), np.float32)
    for name, amount in zip(load_shapes().names, _scored(portrait.blendshapes[None])[0], strict=True):
        if name != "jawOpen" and not name.startswith(LID_SHAPES):
            result[BLENDSHAPE_INDEX[name]] = amount
    return result


def own_expression(portrait: Portrait) -> F32:
    """Return the blendshapes (48,) with which a portrait looks as in its picture: its mouth may be open.

    They make the picture's gap between the lips, and of all that do, move the rest of the face least.
    """
    gap = lip_gaps(without_pose(portrait.landmarks_px[None]))[0]
    moves, gaps = load_shapes().columns(HOLDING)[:, HELD], load_shapes().lip_gaps(HOLDING)
    # A jaw that hangs in the picture is not moved by as much.
    hanging = max(float(gap.max()) - SHUT_JAW_APERTURE, 0.0) / float(gaps[HOLDING.index("jawOpen")].max())
    rows = [moves.reshape(len(HOLDING), -1).T, GAP_WEIGHT * gaps.T, HOLDING_RIDGE * np.eye(len(HOLDING))]
    wanted = [hanging * rows[0][:, HOLDING.index("jawOpen")], GAP_WEIGHT * gap, np.zeros(len(HOLDING))]
    amounts = np.linalg.lstsq(np.concatenate(rows), np.concatenate(wanted), rcond=None)[0]
    result = np.zeros(len(BLENDSHAPES), np.float32)
    result[[BLENDSHAPE_INDEX[name] for name in HOLDING]] = np.clip(amounts, -1, 1)
    return result


def _scored(scores: FloatArray) -> F64:
    """Return (T, K) amounts of the learned shapes by MediaPipe's scores (T, 52), which are sorted by name.

    They do not depend on whose face it is, as a fit of landmarks in a single picture would.
    """
    names = load_shapes().names
    looks = [f"eyeLook{way}{side}" for way in ("Down", "In", "Out", "Up") for side in ("Left", "Right")]
    order = ["_neutral", *sorted([*names, *looks, "mouthClose"])]
    return np.asarray(SCORE_GAIN * scores[:, [order.index(name) for name in names]], np.float64)


def _changes(amounts: F64, faces: F64, start: F64, start_opening: F64, start_irises: F64) -> F32:
    """Return blendshapes (T, 48): amounts (T, K), lids, irises and lips of faces, as changes from a start."""
    result = np.zeros((len(faces), len(BLENDSHAPES)))
    for column, name in enumerate(load_shapes().names):
        if not name.startswith(LID_SHAPES):
            result[:, BLENDSHAPE_INDEX[name]] = amounts[:, column] - (name != "jawOpen") * start[column]
    part_lips(result, mouth_measures(faces)[:, 0])
    closed = 1 - lid_openings(faces) / np.maximum(start_opening, 1e-3)
    for side, amount in zip(LIDS, closed.T, strict=True):
        result[:, BLENDSHAPE_INDEX[f"eyeBlink{side}"]] = amount
    set_gaze(result, np.asarray((iris_places(faces) - start_irises) / GAZE_REACH, np.float64))
    return np.clip(result, -1, 1).astype(np.float32)


def mouth_measures(faces: FloatArray) -> F64:
    """Return (T, 2): opening of the inner lips and width of the mouth, in outer-eye widths."""
    gap = lip_gaps(faces).max(axis=1)
    width = np.linalg.norm(faces[:, MOUTH_CORNERS[1]] - faces[:, MOUTH_CORNERS[0]], axis=1)
    return np.asarray(np.stack([gap, width], axis=1), np.float64)


def lip_gaps(faces: FloatArray) -> F64:
    """Return (T, 9): the gap between the inner lips at each column of faces without pose; 0 if shut.

    Depth is left out: it is a guess, and a viewer does not see it.
    """
    gap = np.linalg.norm((faces[:, LOWER_INNER] - faces[:, UPPER_INNER])[:, 1:-1, :2], axis=2)
    return np.asarray(gap * smoothstep(gap.max(axis=1, keepdims=True), SHUT_GAP, OPEN_GAP), np.float64)


def lid_openings(faces: FloatArray) -> F64:
    """Return (T, 2): the height between the lids of each eye of LIDS in the middle, over the eye's width."""
    columns = []
    for upper, lower in LIDS.values():
        height = np.linalg.norm((faces[:, upper[3:6]] - faces[:, lower[3:6]]).mean(axis=1), axis=1)
        columns.append(height / np.linalg.norm(faces[:, upper[-1]] - faces[:, upper[0]], axis=1))
    return np.stack(columns, axis=1)


def iris_places(faces: FloatArray) -> F64:
    """Return (T, 2): the mean place of both irises between the corners of their eyes, in eye widths."""
    places = np.zeros((len(faces), 2))
    for side, iris in zip(("Right", "Left"), IRIS_CENTRES, strict=True):
        corners = faces[:, LIDS[side][0][[0, -1]], :2]
        across = corners[:, 1] - corners[:, 0]
        width = np.linalg.norm(across, axis=1, keepdims=True)
        along = across / width
        away = (faces[:, iris, :2] - corners.mean(axis=1)) / width
        down = np.stack([-along[:, 1], along[:, 0]], axis=1)
        places += np.stack([(away * along).sum(axis=1), (away * down).sum(axis=1)], axis=1) / 2
    return places


def part_lips(amounts: F64, wanted: F64) -> None:
    """Make the largest gap between the lips that ``wanted`` (T,), in place: shapes give it only roughly."""
    used = tuple(name for name in load_shapes().names if not name.startswith(LID_SHAPES))
    made = amounts[:, [BLENDSHAPE_INDEX[name] for name in used]] @ load_shapes().lip_gaps(used)
    gap = np.maximum(made, 0).max(axis=1)
    gain = load_shapes().lip_gaps(PARTING).sum(axis=0).max()
    amounts[:, [BLENDSHAPE_INDEX[name] for name in PARTING]] += (np.maximum(wanted - gap, 0) / gain)[:, None]
    amounts[:, BLENDSHAPE_INDEX["mouthClose"]] = 1 - np.minimum(wanted / np.maximum(gap, 1e-6), 1)
