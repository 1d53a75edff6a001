"""A filmed face moves a portrait: gaps, lids and gaze come out as they went in."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from support.driving import actor

from vortex.engines.mesh.commands import lip_gap
from vortex.engines.mesh.engine import MeshEngine
from vortex.face.landmarker import mediapipe_image, take_landmarker
from vortex.face.landmarks import (
    CHIN,
    INNER_LIPS,
    IRIS_CENTRES,
    LIDS,
    LOWER_INNER,
    MOUTH_CORNERS,
    NOSE_BRIDGE,
    NOSE_TIP,
    OUTER_EYE_CORNERS,
    UPPER_INNER,
)
from vortex.face.portrait import detect_portrait, load_portrait
from vortex.face.shapes import load_shapes, without_pose
from vortex.motion.expression import (
    copy_expression,
    fit_expression,
    lid_openings,
    lip_gaps,
    own_expression,
)
from vortex.types import BLENDSHAPE_INDEX, F32, MotionTrack, Portrait

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


def test_a_nose_that_grows_longer_in_a_smile_does_so_on_the_portrait() -> None:
    filmed = film(mouthSmileLeft=0.6 * RISING, mouthSmileRight=0.6 * RISING)
    filmed[:, [1, 2, 4, 5], 1] += 140 * 0.015 * RISING[:, None]
    result, reference = fit_expression(filmed, STILL, filmed[0])
    assert reference == 0
    shapes = load_shapes()
    length = shapes.moves[:, NOSE_TIP, 1] - shapes.moves[:, NOSE_BRIDGE, 1]
    made = np.stack([column(result, name) for name in shapes.names], axis=1) @ length
    truth = np.diff(filmed[:, [NOSE_BRIDGE, NOSE_TIP], 1], axis=1)[:, 0] / 140
    assert np.ptp(truth) > 0.015
    np.testing.assert_allclose(made - made[0], truth - truth[0], atol=0.003)


def test_amounts_are_bounded() -> None:
    filmed = film(jawOpen=3 * RISING, mouthPucker=3 * RISING)
    result, _ = fit_expression(filmed, STILL, filmed[0])
    assert np.abs(result).max() <= 1
    assert np.isfinite(result).all()


def shut_face() -> np.ndarray:
    """Return the landmarks (1, 478, 3) of the template with its lips shut."""
    face = film()[:1]
    face[:, LOWER_INNER] = face[:, UPPER_INNER]
    return face


@pytest.fixture(scope="module")
def smiling() -> Portrait:
    """Return the astronaut, who smiles with her lips apart."""
    return load_portrait(actor())


def test_a_portrait_holds_its_mouth_open_as_in_its_picture(smiling: Portrait) -> None:
    own = own_expression(smiling)
    motion = MotionTrack(own[None], np.zeros((1, 3)), Fraction(25))
    measured = lip_gaps(without_pose(smiling.landmarks_px[None]))[0]
    assert measured.max() > 0.1
    np.testing.assert_allclose(lip_gap(motion)[0], measured, atol=0.02)
    engine = MeshEngine()
    prepared = engine.prepare(smiling, size_px=256)
    (frame,) = engine.iter_frames(prepared, motion)
    before, after = (detect_portrait(picture).landmarks_px[:, :2] for picture in (prepared.canvas, frame))
    eyes = np.linalg.norm(np.subtract(*before[list(OUTER_EYE_CORNERS)]))
    assert np.linalg.norm((after - before)[[*MOUTH_CORNERS, *INNER_LIPS, CHIN]], axis=1).max() < 0.04 * eyes


def test_a_shut_mouth_is_held_shut_by_nothing() -> None:
    shut = Portrait(np.zeros((512, 512, 3), np.uint8), shut_face()[0], np.eye(3), np.zeros(3), np.zeros(52))
    own = MotionTrack(own_expression(shut)[None], np.zeros((1, 3)), Fraction(25))
    assert lip_gap(own).max() < 0.01
    assert np.abs(own.blendshapes).max() < 0.05


def test_scores_are_read_in_the_order_of_mediapipe(smiling: Portrait) -> None:
    """Each score moves the shape with its name, from nothing to 0.6, the measured slope."""
    with take_landmarker() as landmarker:
        (scores,) = landmarker.detect(mediapipe_image(smiling.image)).face_blendshapes
    names = [score.category_name for score in scores]
    neutral = replace(smiling, blendshapes=np.zeros(52))
    for name in ("mouthSmileLeft", "browInnerUp", "cheekPuff", "noseSneerRight", "mouthFunnel"):
        given = np.zeros((1, 52), np.float32)
        given[0, names.index(name)] = 1
        copied = copy_expression(smiling.landmarks_px[None], neutral, given)[0]
        plain = copy_expression(smiling.landmarks_px[None], neutral, np.zeros((1, 52), np.float32))[0]
        assert (copied - plain)[BLENDSHAPE_INDEX[name]] == pytest.approx(0.6, abs=1e-6)


def test_a_copied_expression_is_measured_from_the_portraits(smiling: Portrait) -> None:
    """A face at rest takes the smile away, as far as the portrait smiles, and shuts its lips."""
    copied = copy_expression(shut_face(), smiling, np.zeros((1, 52), np.float32))[0]
    assert copied[BLENDSHAPE_INDEX["mouthSmileLeft"]] < -0.3
    motion = MotionTrack(copied[None], np.zeros((1, 3)), Fraction(25))
    assert lip_gap(motion).max() < 0.01
