"""A filmed face moves a portrait: gaps, lids and gaze come out as they went in."""

from __future__ import annotations

import numpy as np
import pytest

from vortex.face.landmarks import IRIS_CENTRES, LIDS
from vortex.face.shapes import load_shapes
from vortex.motion.expression import fit_expression, lid_openings, lip_gaps
from vortex.types import BLENDSHAPE_INDEX, F32

FRAMES = 30
RISING = np.linspace(0, 1, FRAMES)
STILL = np.zeros((FRAMES, 3))


def film(**amounts: np.ndarray) -> np.ndarray:
    """Return landmarks (T, 478, 3) in px of the template moved by amounts (T,) of shapes, turning aside."""
    shapes = load_shapes()
    faces = np.repeat(shapes.template[None].astype(np.float64), FRAMES, axis=0)
    for name, amount in amounts.items():
        faces += amount[:, None, None] * shapes.columns((name,))[0]
    # The template has no irises of its own: they are put between the corners of the eyes.
    for side, iris in zip(("Right", "Left"), IRIS_CENTRES, strict=True):
        faces[:, iris] = faces[:, LIDS[side][0][[0, -1]]].mean(axis=1)
    angles = np.radians(np.linspace(0, 10, FRAMES))
    cos, sin, zero, one = np.cos(angles), np.sin(angles), np.zeros(FRAMES), np.ones(FRAMES)
    turns = np.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], axis=1).reshape(-1, 3, 3)
    return 140 * np.einsum("tpc,tdc->tpd", faces, turns) + [256, 256, 0]


def column(blendshapes: F32, name: str) -> np.ndarray:
    return blendshapes[:, BLENDSHAPE_INDEX[name]]


def test_the_gap_between_the_lips_comes_out_as_it_went_in() -> None:
    filmed = film(jawOpen=0.6 * RISING)
    result, reference = fit_expression(filmed, STILL, filmed[0])
    assert reference == 0
    shapes = load_shapes()
    parts = lip_gaps(shapes.moves.astype(np.float64) + shapes.template) - lip_gaps(shapes.template[None])
    amounts = np.stack([column(result, name) for name in shapes.names], axis=1)
    shut = 1 - column(result, "mouthClose")
    made = (amounts @ parts).max(axis=1) * shut
    truth = lip_gaps(filmed / 140).max(axis=1)
    np.testing.assert_allclose(made, truth, atol=0.03)
    # The template's own lips are a little apart.
    assert np.ptp(made) > 0.15


def test_lids_close_by_the_share_that_they_closed_in_the_film() -> None:
    filmed = film(eyeBlinkLeft=0.5 * RISING)
    result, _ = fit_expression(filmed, STILL, filmed[0])
    opening = lid_openings(filmed)[:, list(LIDS).index("Left")]
    np.testing.assert_allclose(column(result, "eyeBlinkLeft"), 1 - opening / opening[0], atol=0.06)
    assert np.abs(column(result, "eyeBlinkRight")).max() < 0.1


def test_the_portrait_starts_from_the_frame_that_is_most_like_it() -> None:
    filmed = film(mouthSmileLeft=RISING, mouthSmileRight=RISING)
    result, reference = fit_expression(filmed, STILL, filmed[20])
    assert abs(reference - 20) <= 1
    # Before it, the smile of the portrait goes; after it, it grows.
    assert column(result, "mouthSmileLeft")[0] < -0.1 < 0 < column(result, "mouthSmileLeft")[-1]


def test_of_frames_that_are_equally_like_it_the_usual_pose_is_taken() -> None:
    poses = np.zeros((FRAMES, 3))
    poses[:8, 1] = 25
    _, reference = fit_expression(film(), poses, film()[0])
    assert reference >= 8


def test_eyes_that_look_to_the_viewer_s_right_look_to_the_person_s_left() -> None:
    filmed = film()
    width = np.linalg.norm(np.diff(filmed[0, LIDS["Left"][0][[0, -1]], :2], axis=0))
    filmed[:, list(IRIS_CENTRES), 0] += 0.08 * width * RISING[:, None]
    result, _ = fit_expression(filmed, STILL, filmed[0])
    assert column(result, "eyeLookLeft")[-1] == pytest.approx(0.5, abs=0.1)
    assert column(result, "eyeLookRight").max() < 0.05


def test_amounts_are_bounded() -> None:
    filmed = film(jawOpen=3 * RISING, mouthPucker=3 * RISING)
    result, _ = fit_expression(filmed, STILL, filmed[0])
    assert np.abs(result).max() <= 1
    assert np.isfinite(result).all()
