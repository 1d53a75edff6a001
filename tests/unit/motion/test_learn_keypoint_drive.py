"""The script that learns the drive finds what moves the keypoints of people that we made up."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from learn_keypoint_drive import EXP, REGIONS, fit_weights, load_clip, load_templates, main, r2

from vortex.face.landmarks import IRIS_CENTRES, LIDS
from vortex.face.shapes import load_shapes
from vortex.motion.keypoints import KeypointDrive
from vortex.motion.measures import MEASURE_INDEX, measure_faces
from vortex.types import F64, GAZE_REACH

FRAMES = 40
TRUTH = {
    (19, 1): {"lower_edge": 0.27}, (20, 1): {"corners": 0.2, "upper_lip": 0.1}, (14, 1): {"width": -0.08},
    (11, 1): {"opening": -0.05}, (15, 1): {"opening": -0.05}, (15, 0): {"gaze_across": 0.06},
}  # fmt: skip
"""How much of which measures is in which entry of ``exp``, of about the sizes that real ones have."""


def person(seed: int) -> tuple[F64, F64]:
    """Return landmarks in px (T, 478, 3) and ``exp`` (T, 21, 3) of a moving face, with noise."""
    rng, shapes = np.random.default_rng(seed), load_shapes()
    used = ("jawOpen", "mouthSmile", "mouthPucker", "mouthUpperUp", "mouthStretch", "eyeBlink", "browInnerUp")
    waves = np.sin(
        np.linspace(0, 9, FRAMES)[:, None] * rng.uniform(0.5, 3, len(used)) + rng.uniform(0, 6, len(used))
    )
    faces = np.repeat(shapes.template[None].astype(np.float64), FRAMES, axis=0)
    for name, wave in zip(used, waves.T, strict=True):
        moves = shapes.moves[[shape.startswith(name) for shape in shapes.names]].sum(axis=0)
        faces += 0.3 * (1 + wave)[:, None, None] * moves
    gaze = rng.uniform(-0.5, 0.5, FRAMES) * GAZE_REACH[0]
    for side, iris in zip(("Right", "Left"), IRIS_CENTRES, strict=True):
        corners = faces[:, LIDS[side][0][[0, -1]]]
        faces[:, iris] = corners.mean(axis=1) + gaze[:, None] * (corners[:, 1] - corners[:, 0])
    measures = measure_faces(faces)
    exp = rng.normal(0, 2e-4, (FRAMES, 21, 3)) + rng.normal(0, 5e-3, (1, 21, 3))
    for (keypoint, axis), sums in TRUTH.items():
        for name, weight in sums.items():
            exp[:, keypoint, axis] += weight * measures[:, MEASURE_INDEX[name]]
    return 140 * faces + [256, 256, 0], exp


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    result = tmp_path_factory.mktemp("motion")
    for seed in range(3):
        landmarks, exp = person(seed)
        turns = np.tile(np.eye(4), (FRAMES, 1, 1))
        np.savez(result / f"clip_{seed}.npz", landmarks_px=landmarks, face_from_model=turns, exp=exp)
        np.savez(result / f"template_{seed}.npz", exp=person(10 + seed)[1])
    return result


def test_a_person_left_out_is_predicted(folder: Path) -> None:
    clips = [load_clip(path) for path in sorted(folder.glob("clip_*.npz"))]
    weights = fit_weights(clips[:2], load_templates(folder), 2.0)
    for measures, least in ((clips[2].measures, 0.9), (clips[2].fitted, 0.8)):
        assert r2(measures @ weights, clips[2].exp, REGIONS["lips"]) > least
        assert r2(measures @ weights, clips[2].exp, REGIONS["eyes"]) > least
    # The truth has no other entries; little must leak into them.
    still = [3 * k + a for k in range(21) for a in range(3) if (k, a) not in TRUTH]
    moved = (clips[2].measures @ weights).std(axis=0)
    assert moved[still].max() < 0.1 * moved.max()


def test_the_file_has_what_the_package_reads(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "drive.npz"
    monkeypatch.setattr(sys, "argv", ["learn", str(folder), str(out), "--left-out"])
    main()
    printed = capsys.readouterr().out
    assert printed.count("left out") == 3 and "R2 of exp from blendshapes" in printed
    with np.load(out) as arrays:
        drive = KeypointDrive(*(arrays[name] for name in KeypointDrive._fields))
    assert drive.weights.shape == (len(MEASURE_INDEX), EXP) and drive.inverse.shape == drive.weights.T.shape
    assert drive.low.shape == drive.high.shape == (21, 3) and (drive.low < 0).all() and (drive.high > 0).all()
    # The limits hold what the clips do: from rest, 19.y goes as far as the lower lip takes it.
    exp = person(0)[1][:, 19, 1]
    assert drive.high[19, 1] >= np.ptp(exp) * 0.9
    measures = measure_faces(person(2)[0] / 140)
    found = (person(2)[1] - person(2)[1].mean(axis=0)).reshape(FRAMES, EXP) @ drive.inverse
    for name in ("lower_edge", "corners", "gaze_across"):
        true = measures[:, MEASURE_INDEX[name]]
        assert np.corrcoef(found[:, MEASURE_INDEX[name]], true)[0, 1] > 0.9
