"""What drives a portrait is told by its content; each engine gets its motion, and only options it honours."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.driving import (
    FPS,
    SOUND_HZ,
    TURN_DEG,
    actor,
    frame_times_s,
    known_frames,
    write_timed_video,
)
from support.tracks import moving_track, turn

from vortex.driving import (
    PICTURE_FPS,
    capture_driver,
    check_captures,
    check_drive,
    open_driver,
    perform_driver,
)
from vortex.engines.base import CroppedFace
from vortex.engines.mesh.commands import aperture
from vortex.engines.mesh.engine import MeshEngine
from vortex.errors import InputError, NoFaceError
from vortex.face.landmarks import NOSE_TIP, RIGHT_EYE
from vortex.face.portrait import load_portrait
from vortex.face.shapes import without_pose
from vortex.media.video import encode_video
from vortex.motion.expression import mouth_measures
from vortex.motion.keypoints import expression_of_measures
from vortex.motion.measures import shape_measures
from vortex.motion.template import save_template
from vortex.motion.transfer import NEUTRAL_EXPRESSION, KeypointMotion
from vortex.options import DriveOptions, TransferOptions
from vortex.performance import Performance, StageClock
from vortex.types import BLENDSHAPE_INDEX, F32, Audio, Frame, KeypointTrack, MotionTrack, Portrait

FRAMES = 10


class Recorder:
    """Stands for an engine that captures: its keypoints say where the nose is, and how far an eye is open."""

    name, device = "liveportrait", "cpu"

    def __init__(self) -> None:
        self.faces: list[CroppedFace] = []

    def capture(self, faces: Iterable[CroppedFace], fps: Fraction) -> KeypointTrack:
        self.faces = list(faces)
        frames = len(self.faces)
        exp = np.zeros((frames, 21, 3))
        exp[:, 0, :2] = [face.landmarks_px[NOSE_TIP, :2] / 512 for face in self.faces]
        rotation = np.tile(np.eye(3), (frames, 1, 1))
        eyes = np.array([[opening(face.landmarks_px)] * 2 for face in self.faces]).reshape(frames, 2)
        lips = np.zeros(frames)
        return KeypointTrack(exp, rotation, np.ones(frames), np.zeros((frames, 3)), fps, eyes, lips)


def opening(landmarks_px: F32) -> float:
    upper, lower, one, other = landmarks_px[list(RIGHT_EYE), :2].astype(np.float64)
    return float(np.linalg.norm(upper - lower) / np.linalg.norm(one - other))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a video of a face that turns and speaks."""
    path = tmp_path_factory.mktemp("video") / "actor.mp4"
    write_video(path, known_frames(frame_times_s()[30 : 30 + FRAMES]))
    return path


def write_video(path: Path, frames: list[Frame]) -> None:
    at_s = np.arange(round(len(frames) / FPS * SOUND_HZ)) / SOUND_HZ
    sound = Audio((0.3 * np.sin(2 * np.pi * 440 * at_s)).astype(np.float32), SOUND_HZ)
    encode_video(path, iter(frames), sound, FPS, frames[0].shape[1::-1])


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "driving"
    Image.fromarray(actor()).save(path, "png")
    return path


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return load_portrait(actor())


def perform(path: Path, engine: Any, **options: Any) -> Performance:
    return perform_driver(open_driver(path), engine, DriveOptions.parse(**options), StageClock())


def keypoints(performance: Performance, portrait: Portrait) -> KeypointMotion:
    motion = performance.motion(portrait)
    assert isinstance(motion, KeypointMotion)
    return motion


def blendshapes(performance: Performance, portrait: Portrait) -> MotionTrack:
    motion = performance.motion(portrait)
    assert isinstance(motion, MotionTrack)
    return motion


def test_a_driver_is_known_by_its_content(tmp_path: Path, video: Path) -> None:
    """The server stores every upload under the same name."""
    path = tmp_path / "driving"
    path.write_bytes(video.read_bytes())
    assert open_driver(path).kind == "video"
    for kind in ("png", "jpeg", "webp", "bmp", "tiff"):
        Image.fromarray(actor()).save(path, kind)
        assert open_driver(path).kind == "picture", kind
    phone = Image.fromarray(actor())
    phone.save(path, "mpo", save_all=True, append_images=[phone])
    assert open_driver(path).kind == "picture"
    moving = [Image.fromarray(np.roll(actor(), 40 * shift, 0)) for shift in range(3)]
    moving[0].save(path, "gif", save_all=True, append_images=moving[1:])
    assert open_driver(path).kind == "video"
    moving[0].save(path, "webp", save_all=True, append_images=moving[1:])
    with pytest.raises(InputError, match=r"driving' is an animated WebP\. Convert it to MP4"):
        open_driver(path)
    save_template(tmp_path / "a.npz", moving_track())
    assert open_driver(tmp_path / "a.npz").kind == "template"
    path.write_bytes(pickle.dumps({}, 4))
    assert open_driver(path).kind == "template"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), (b"", "cannot be read"), (b"dear diary", "cannot be read")],
)
def test_what_is_none_of_them_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_driver(tmp_path / "a")


NEURAL = {"scaling": "pose", "eye_retarget": True, "lip_retarget": True, "stitch": False}


@pytest.mark.parametrize("name", NEURAL)
def test_the_mesh_engine_refuses_what_it_cannot_do(name: str) -> None:
    options = TransferOptions.parse(**{name: NEURAL[name]})
    message = f"{name} is {NEURAL[name]!r}, which the mesh engine cannot do. Leave {name} out"
    with pytest.raises(InputError, match=message):
        check_drive("mesh", options)
    check_drive("liveportrait", options)
    check_drive("mesh", TransferOptions.parse(region="lips", multiplier=2))


def test_an_engine_without_keypoints_makes_no_templates() -> None:
    with pytest.raises(InputError, match="mesh engine reads no keypoints"):
        check_captures("mesh")
    check_captures("liveportrait")


def nodding_template(path: Path) -> KeypointTrack:
    """Write and return a template of a face that opens its mouth in the middle, and nods by 8 degrees."""
    amount = np.sin(np.linspace(0, np.pi, 25)) ** 2
    exp = amount[:, None, None] * expression_of_measures(shape_measures()[[BLENDSHAPE_INDEX["jawOpen"]]])
    rotation = np.stack([turn(8 * share, 0, 0) for share in amount])
    track = KeypointTrack(exp, rotation, np.ones(25), np.zeros((25, 3)), Fraction(25))
    save_template(path, track)
    return track


def test_a_template_moves_blendshapes_and_the_head(tmp_path: Path, portrait: Portrait) -> None:
    nodding_template(tmp_path / "a.npz")
    for rate in (25, 50):
        made = perform(tmp_path / "a.npz", MeshEngine(), fps=rate)
        motion = blendshapes(made, portrait)
        assert (len(motion), made.driver, made.fps) == (rate, "template", rate)
        gaps = aperture(motion)
        assert abs(int(gaps.argmax()) - rate // 2) <= 1
        assert gaps[0] < 0.02 < 0.1 < gaps.max()
        np.testing.assert_allclose(motion.head_pose_deg[[0, rate // 2], 0], [0, 8], atol=0.2)
    eyes = blendshapes(perform(tmp_path / "a.npz", MeshEngine(), region="eyes"), portrait)
    assert np.ptp(aperture(eyes)) == 0 and not eyes.head_pose_deg.any()


def test_absolutely_a_template_sets_the_pose_and_takes_off_what_the_picture_shows(
    tmp_path: Path, portrait: Portrait
) -> None:
    nodding_template(tmp_path / "a.npz")
    motion = blendshapes(perform(tmp_path / "a.npz", MeshEngine(), motion="absolute"), portrait)
    # The photo looks by this much aside; the template begins straight ahead.
    np.testing.assert_allclose(motion.head_pose_deg[0], -portrait.head_pose_deg, atol=1.0)
    assert column(motion, "mouthSmileLeft").max() < -0.3, "the photo smiles, the template does not"


def test_a_template_of_one_frame_is_held_like_a_picture(tmp_path: Path, portrait: Portrait) -> None:
    track = nodding_template(tmp_path / "a.npz").part(12, 1)
    rest = replace(track, exp=np.zeros((1, 21, 3), np.float32))
    save_template(tmp_path / "b.npz", replace(track, neutral=rest))
    made = perform(tmp_path / "b.npz", MeshEngine())
    gaps = aperture(blendshapes(made, portrait))
    assert len(gaps) == 72 and gaps[30:].min() > 0.1 and np.ptp(gaps[30:]) < 1e-6
    driven = keypoints(perform(tmp_path / "b.npz", Recorder()), portrait)
    assert len(driven) == 72 and driven.amounts[0] < 0.01 and driven.transfer.scaling == "pose"


def test_every_frame_of_a_video_is_captured_in_the_same_crop(video: Path, portrait: Portrait) -> None:
    engine = Recorder()
    made = perform(video, engine)
    motion = keypoints(made, portrait)
    assert (len(motion), made.fps, made.driver, made.seed) == (FRAMES, FPS, "video", None)
    assert len(made.audio.samples) == round(FRAMES / FPS * made.audio.sample_rate)
    assert np.abs(made.audio.samples).max() > 0.1 and made.notes == ()
    assert len(engine.faces) == FRAMES
    crops = np.stack([face.crop for face in engine.faces]).astype(int)
    # The shoulders below the face are still, so the crop does not move with the head.
    assert np.abs(crops[:, 480:, :100] - crops[0, 480:, :100]).mean() < 4
    for face in engine.faces:
        found = load_portrait(face.crop).landmarks_px
        assert np.linalg.norm(found[NOSE_TIP, :2] - face.landmarks_px[NOSE_TIP, :2]) < 4
    noses = np.array([face.landmarks_px[NOSE_TIP, :2] / 512 for face in engine.faces])
    np.testing.assert_allclose(motion.track.exp[:, 0, :2], noses, atol=1e-6)
    assert noses[-1, 0] - noses[0, 0] > 0.005, "the head turns to the right"


def test_another_rate_shows_the_same_at_the_same_time(video: Path, portrait: Portrait) -> None:
    engine = Recorder()
    motion = keypoints(perform(video, engine, fps=50), portrait)
    assert (len(motion), motion.fps) == (2 * FRAMES, 50)
    noses = np.array([face.landmarks_px[NOSE_TIP, 0] / 512 for face in engine.faces])
    shown = (np.arange(2 * FRAMES) + 0.5) / 50
    expected = np.interp(shown, (np.arange(FRAMES) + 0.5) / 25, noses)
    np.testing.assert_allclose(motion.track.exp[:, 0, 0], expected, atol=1e-5)


def test_frames_without_a_face_are_bridged(tmp_path: Path, portrait: Portrait) -> None:
    frames = known_frames(frame_times_s()[30:38])
    empty = np.full_like(frames[0], 128)
    write_video(tmp_path / "a.mp4", [*frames[:3], empty, empty, *frames[5:]])
    engine = Recorder()
    motion = keypoints(perform(tmp_path / "a.mp4", engine), portrait)
    assert len(engine.faces) == 6 and len(motion) == 8
    nose = motion.track.exp[:, 0, 0]
    np.testing.assert_allclose(nose[3:5], nose[2] + (nose[5] - nose[2]) * np.array([1, 2]) / 3, atol=1e-6)


def test_a_part_of_a_video_is_tracked_captured_and_reported(video: Path, portrait: Portrait) -> None:
    stages: list[tuple[str, int, int]] = []
    clock = StageClock(lambda *stage: stages.append(stage))
    engine = Recorder()
    options = DriveOptions.parse(duration_s=0.2)
    with pytest.warns(UserWarning, match=r"is cut to 0\.20 s"):
        made = perform_driver(open_driver(video), engine, options, clock)  # type: ignore[arg-type]
    assert len(keypoints(made, portrait)) == len(engine.faces) == 5
    for name in ("track", "capture"):
        assert [stage for stage in stages if stage[0] == name][-1] == (name, 5, 5)
    with pytest.raises(InputError, match=r"lasts more than 0\.1 s"):
        perform_driver(open_driver(video), engine, DriveOptions(), StageClock(), max_duration_s=0.1)  # type: ignore[arg-type]


def test_a_picture_is_reached_within_a_second_and_held(picture: Path, portrait: Portrait) -> None:
    made = perform(picture, Recorder(), multiplier=0.8)
    motion = keypoints(made, portrait)
    assert (len(motion), made.fps, made.driver) == (3 * PICTURE_FPS, PICTURE_FPS, "picture")
    amount = motion.amounts
    assert amount[0] < 0.01 and amount[24:].min() == pytest.approx(0.8, abs=1e-6)
    assert (np.diff(amount) >= 0).all() and np.diff(amount).max() < 0.8 * 1.5 / 24 + 1e-6
    np.testing.assert_array_equal(motion.track.exp, np.tile(motion.track.exp[:1], (72, 1, 1)))
    # A change from a face at rest, which a scaling from the first frame on would cancel.
    np.testing.assert_allclose(motion.track.reference.exp[0], NEUTRAL_EXPRESSION)
    assert motion.transfer.scaling == "pose"
    short = keypoints(perform(picture, Recorder(), duration_s=0.5, fps=30), portrait)
    assert len(short) == 15 and short.amounts[-1] > 0.95


def test_a_template_drives_at_its_own_rate(tmp_path: Path, portrait: Portrait) -> None:
    track = moving_track(20, fps=50)
    save_template(tmp_path / "a.npz", track)
    made = perform(tmp_path / "a.npz", Recorder())
    motion = keypoints(made, portrait)
    assert (len(motion), made.fps, made.driver) == (20, 50, "template")
    np.testing.assert_allclose(motion.track.exp, track.exp, atol=1e-6)
    half = keypoints(perform(tmp_path / "a.npz", Recorder(), fps=25), portrait)
    # Each frame shows the middle of its time, between two of the template.
    middle = (track.exp[0::2] + track.exp[1::2]) / 2
    np.testing.assert_allclose(half.track.exp, middle, atol=1e-6)
    longer = keypoints(perform(tmp_path / "a.npz", Recorder(), duration_s=1), portrait)
    assert len(longer) == 50
    np.testing.assert_allclose(longer.track.exp[20:], np.tile(track.exp[-1:], (30, 1, 1)), atol=1e-6)
    with pytest.raises(InputError, match=r"'a\.npz' lasts more than 0\.3 s"):
        perform_driver(
            open_driver(tmp_path / "a.npz"), Recorder(), DriveOptions(), StageClock(), max_duration_s=0.3
        )  # type: ignore[arg-type]


def test_capturing_gives_what_drives(video: Path, picture: Path, portrait: Portrait, tmp_path: Path) -> None:
    track, notes = capture_driver(open_driver(video), Recorder(), None, StageClock())  # type: ignore[arg-type]
    assert (len(track), track.fps, notes) == (FRAMES, FPS, ())
    driven = keypoints(perform(video, Recorder()), portrait).track
    np.testing.assert_allclose(track.exp, driven.exp, atol=1e-6)
    still, _ = capture_driver(open_driver(picture), Recorder(), None, StageClock())  # type: ignore[arg-type]
    assert len(still) == 1
    np.testing.assert_allclose(still.reference.exp[0], NEUTRAL_EXPRESSION)
    write_timed_video(tmp_path / "a.mp4", [np.full((128, 128, 3), 90, np.uint8)] * 3, np.arange(3) / 25)
    with pytest.raises(NoFaceError, match=r"any frame of 'a\.mp4'"):
        capture_driver(open_driver(tmp_path / "a.mp4"), Recorder(), None, StageClock())  # type: ignore[arg-type]


def column(motion: MotionTrack, name: str) -> F32:
    return np.asarray(motion.blendshapes[:, BLENDSHAPE_INDEX[name]])


def test_the_portrait_that_is_its_own_picture_does_not_move(picture: Path, portrait: Portrait) -> None:
    motion = blendshapes(perform(picture, MeshEngine(), motion="absolute"), portrait)
    others = [i for name, i in BLENDSHAPE_INDEX.items() if not name.startswith(("jaw", "mouth"))]
    np.testing.assert_allclose(motion.blendshapes[:, others], 0, atol=1e-6)
    np.testing.assert_allclose(motion.head_pose_deg, 0, atol=1e-3)
    # The photo smiles with its lips apart, and they stay as far apart.
    gaps = aperture(motion)
    assert gaps[0] == pytest.approx(mouth_measures(without_pose(portrait.landmarks_px[None]))[0, 0], abs=0.02)
    assert np.ptp(gaps) < 0.02


def test_a_driving_picture_gives_its_expression_and_absolutely_its_pose(
    tmp_path: Path, portrait: Portrait
) -> None:
    turned, shut = known_frames(np.array([0.0, 0.8]))
    turned = known_frames(np.array([2.3]))[0]
    Image.fromarray(shut).save(tmp_path / "shut.png")
    Image.fromarray(turned).save(tmp_path / "turned.png")
    motion = blendshapes(perform(tmp_path / "shut.png", MeshEngine()), portrait)
    assert column(motion, "eyeBlinkLeft")[-1] > 0.7 > 0.1 > column(motion, "eyeBlinkLeft")[0]
    poses = {
        kind: blendshapes(perform(tmp_path / "turned.png", MeshEngine(), motion=kind), portrait).head_pose_deg
        for kind in ("relative", "absolute")
    }
    assert not poses["relative"].any()
    assert poses["absolute"][-1, 1] == pytest.approx(6.0, abs=2.0)


def test_a_head_that_stays_turned_turns_the_portrait_only_in_absolute_motion(
    tmp_path: Path, portrait: Portrait
) -> None:
    write_video(tmp_path / "a.mp4", known_frames(np.linspace(2.05, 2.35, 6)))
    for kind, expected in (("relative", 0.0), ("absolute", TURN_DEG)):
        motion = blendshapes(perform(tmp_path / "a.mp4", MeshEngine(), motion=kind), portrait)
        np.testing.assert_allclose(motion.head_pose_deg[:, 1], expected, atol=2.0)


@pytest.mark.parametrize("region", ["pose", "eyes", "lips"])
def test_a_region_of_the_mesh_engine_leaves_the_rest_as_in_the_picture(
    video: Path, portrait: Portrait, region: str
) -> None:
    whole = blendshapes(perform(video, MeshEngine()), portrait)
    motion = blendshapes(perform(video, MeshEngine(), region=region), portrait)
    own = blendshapes(perform(video, MeshEngine(), multiplier=0), portrait)
    moved = {
        name
        for name, i in BLENDSHAPE_INDEX.items()
        if (motion.blendshapes[:, i] != own.blendshapes[:, i]).any()
    }
    starts = {"pose": (), "eyes": ("eye",), "lips": ("jaw", "mouth", "tongue", "cheekPuff")}[region]
    assert all(name.startswith(starts) for name in moved)
    assert bool(moved) == (region != "pose")
    expected = whole.head_pose_deg if region == "pose" else np.zeros_like(whole.head_pose_deg)
    np.testing.assert_allclose(motion.head_pose_deg, expected, atol=1e-6)


def test_the_multiplier_scales_the_turn(video: Path, portrait: Portrait) -> None:
    whole, half = (blendshapes(perform(video, MeshEngine(), multiplier=m), portrait) for m in (1, 0.5))
    np.testing.assert_allclose(half.head_pose_deg, whole.head_pose_deg / 2, atol=1e-5)
