"""A head in a picture has the depth of a head, turns as one, and leaves what is far from it alone."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from vortex.demo import demo_portrait
from vortex.engines.mesh.engine import MeshEngine
from vortex.engines.mesh.prepare import MeshPortrait
from vortex.engines.mesh.turn import moved_height, rotation_matrix, turn_cells, turn_points
from vortex.face.landmarks import BROWS, CHIN, FACE_SIDES, FOREHEAD, NOSE_BRIDGE, NOSE_TIP
from vortex.face.portrait import load_portrait
from vortex.motion.drive import expand
from vortex.types import F32, MotionTrack, Portrait


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return load_portrait(demo_portrait())


@pytest.fixture(scope="module")
def prepared(portrait: Portrait) -> MeshPortrait:
    return MeshEngine().prepare(portrait)


def height_at(prepared: MeshPortrait, index: int) -> float:
    """Return the height of a landmark in outer-eye widths."""
    column, row = np.round((prepared.landmarks_px[index, :2] - prepared.first_px) / prepared.region.cell_px)
    return (
        float(prepared.head.height[int(row), int(column)]) * prepared.region.cell_px / prepared.eye_width_px
    )


def turned(prepared: MeshPortrait, *pose_deg: float) -> F32:
    """Return the landmarks (478, 2) in pixels after a turn."""
    rotation = rotation_matrix(np.array(pose_deg))
    still = np.zeros_like(prepared.cells)
    height = moved_height(prepared.cells, still, prepared.head, rotation)
    cell_px = prepared.region.cell_px
    points = ((prepared.landmarks_px[:, :2] - prepared.first_px) / cell_px).astype(np.float32)
    return turn_points(points, prepared.head, height, rotation) * cell_px + prepared.first_px


def test_the_nose_stands_out_farthest_and_the_ears_least(prepared: MeshPortrait) -> None:
    nose, chin, forehead = (height_at(prepared, index) for index in (NOSE_TIP, CHIN, FOREHEAD))
    sides = [height_at(prepared, index) for index in FACE_SIDES]
    assert nose > max(chin, forehead) > min(chin, forehead) > max(sides)
    # Nose and tragus are 12 cm apart in depth, the outer corners of the eyes 9 cm across; the rim is soft.
    assert 0.8 < nose - np.mean(sides) < 1.45


@pytest.mark.parametrize("yaw_deg", [12.0, -12.0])
def test_a_turn_narrows_the_far_cheek_and_widens_the_near_one(prepared: MeshPortrait, yaw_deg: float) -> None:
    def cheeks(points: F32) -> tuple[float, float]:
        left, right = points[list(FACE_SIDES), 0]
        return float(points[NOSE_BRIDGE, 0] - left), float(right - points[NOSE_BRIDGE, 0])

    still, after = cheeks(prepared.landmarks_px[:, :2]), cheeks(turned(prepared, 0, yaw_deg, 0))
    # Yaw > 0 turns to the viewer's right, so the right cheek is the far one.
    near, far = (0, 1) if yaw_deg > 0 else (1, 0)
    assert after[near] > 1.05 * still[near]
    assert after[far] < 0.85 * still[far]


def test_a_nod_down_brings_the_nose_nearer_to_the_chin(prepared: MeshPortrait) -> None:
    def share(points: F32) -> float:
        return float((points[CHIN] - points[NOSE_TIP])[1] / (points[CHIN] - points[FOREHEAD])[1])

    assert (
        share(turned(prepared, 10, 0, 0))
        < share(turned(prepared, 0, 0, 0))
        < share(turned(prepared, -10, 0, 0))
    )


@pytest.mark.parametrize("pose_deg", [(0, 12, 0), (0, -12, 0), (10, 0, 0), (-10, 0, 0)])
def test_no_turn_folds_the_picture(prepared: MeshPortrait, pose_deg: tuple[float, float, float]) -> None:
    rotation = rotation_matrix(np.array(pose_deg))
    height = moved_height(prepared.cells, np.zeros_like(prepared.cells), prepared.head, rotation)
    seen = turn_cells(prepared.cells, prepared.head, height, rotation)
    assert np.isfinite(seen).all()
    assert np.diff(seen[..., 0], axis=1).min() > -0.05
    assert np.diff(seen[..., 1], axis=0).min() > -0.05


def test_the_seen_cells_and_the_landmarks_move_together(prepared: MeshPortrait) -> None:
    rotation = rotation_matrix(np.array([5.0, 9, -4]))
    height = moved_height(prepared.cells, np.zeros_like(prepared.cells), prepared.head, rotation)
    seen = turn_cells(prepared.cells, prepared.head, height, rotation)
    after = (turned(prepared, 5, 9, -4) - prepared.first_px) / prepared.region.cell_px
    before = (prepared.landmarks_px[:, :2] - prepared.first_px) / prepared.region.cell_px
    for index in (NOSE_TIP, CHIN, FOREHEAD, NOSE_BRIDGE, *BROWS["Left"], *BROWS["Right"]):
        column, row = np.floor(after[index]).astype(int)
        right, down = after[index] - [column, row]
        near = seen[row : row + 2, column : column + 2]
        source = near[0] * (1 - down) + near[1] * down
        np.testing.assert_allclose(source[0] * (1 - right) + source[1] * right, before[index], atol=0.25)


def frames(portrait: Portrait, *pose_deg: float, paste_back: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture and the frame with a shut mouth and a pose."""
    engine = MeshEngine()
    prepared = engine.prepare(portrait, paste_back=paste_back)
    shut = expand({"mouthClose": 1.0})[None]
    motion = MotionTrack(shut, np.array([pose_deg], np.float32), Fraction(24))
    (frame,) = engine.iter_frames(prepared, motion)
    return prepared.canvas, frame


def test_without_a_turn_the_upper_face_is_the_picture_to_the_byte(portrait: Portrait) -> None:
    picture, frame = frames(portrait, 0, 0, 0)
    rows = int(MeshEngine().prepare(portrait).landmarks_px[NOSE_BRIDGE, 1])
    assert np.array_equal(picture[:rows], frame[:rows])


def test_pixels_far_from_the_head_do_not_change(portrait: Portrait) -> None:
    width = 600
    wide = np.pad(portrait.image, ((width, width), (width, width), (0, 0)), mode="reflect")
    landmarks = portrait.landmarks_px.copy()
    landmarks[:, :2] += width
    picture, frame = frames(replace(portrait, image=wide, landmarks_px=landmarks), 10, 12, 8, paste_back=True)
    reach = np.ptp(landmarks[:, :2], axis=0).max() * 1.6
    centre = landmarks[:, :2].mean(axis=0)
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    far = (np.abs(x - centre[0]) > reach) | (np.abs(y - centre[1]) > reach)
    assert far.any() and np.array_equal(picture[far], frame[far])
    assert not np.array_equal(picture, frame)


def test_the_background_beside_the_head_hardly_gives_way_when_it_turns(prepared: MeshPortrait) -> None:
    rotation = rotation_matrix(np.array([0.0, 12, 0]))
    height = moved_height(prepared.cells, np.zeros_like(prepared.cells), prepared.head, rotation)
    seen = turn_cells(prepared.cells, prepared.head, height, rotation)
    aside_px = prepared.landmarks_px[FACE_SIDES[0], 0] - 0.35 * prepared.eye_width_px - prepared.first_px[0]
    column = int(aside_px / prepared.region.cell_px)
    moved_px = np.abs(seen[:, column, 0] - column) * prepared.region.cell_px
    nose_px = np.abs(turned(prepared, 0, 12, 0) - prepared.landmarks_px[:, :2])[NOSE_TIP, 0]
    # The skull turns about its middle, so its silhouette stays, and with it what is behind.
    assert nose_px > 0.2 * prepared.eye_width_px
    assert moved_px.max() < 0.4 * nose_px
    assert np.abs(np.diff(moved_px)).max() < 0.1 * prepared.region.cell_px
