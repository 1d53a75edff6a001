"""What drives a portrait: a video, a picture or a motion template; and the performance that it gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from vortex.engines.base import CapturingEngine, CroppedFace, Engine
from vortex.engines.registry import engine_specs
from vortex.errors import InputError
from vortex.face.crop import CROP_PX, crop_driver, driver_crop_transform
from vortex.face.portrait import load_portrait
from vortex.face.tracking import FaceTrack, track_face
from vortex.interpolation import smoothstep
from vortex.media.audio import fit_channels, fit_duration, load_video_channels
from vortex.media.formats import HEAD_BYTES
from vortex.media.picture import is_picture
from vortex.media.reading import VideoFile, iter_timed_frames, probe_video, steady_rate
from vortex.motion.capture import capture_motion, compare_faces, retarget_keypoints, shown_times_s
from vortex.motion.expression import own_expression
from vortex.motion.template import is_template, load_template
from vortex.motion.transfer import (
    NEUTRAL_EXPRESSION,
    KeypointMotion,
    Motion,
    resample_keypoints,
    transfer_blendshapes,
)
from vortex.options import DriveOptions, TransferOptions, default_of, options_of
from vortex.performance import SOUND_HZ, Performance, StageClock
from vortex.types import F32, MAX_DURATION_S, Audio, Frame, KeypointTrack, MotionTrack, Portrait, frame_count

PICTURE_S, PICTURE_MOVE_S = 3.0, 1.0
"""Length of a video that a picture drives, and how long the portrait takes to its expression."""
PICTURE_FPS = Fraction(24)
_NO_SOUND = {"picture": "a picture has no sound", "template": "a motion template has no sound"}
BLENDSHAPE_OPTIONS = ("region", "motion", "multiplier")
"""Options of a transfer that engines without keypoints have, too."""


@dataclass(frozen=True, slots=True)
class Driver:
    """A file that drives a portrait; ``video`` says more of a video."""

    path: Path
    kind: Literal["video", "picture", "template"]
    video: VideoFile | None = None


def open_driver(path: Path) -> Driver:
    """Return what a file is, by its content.

    Raises:
        InputError: there is no file, or it is neither a video, a picture nor a template.
    """
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        if is_template(head):
            return Driver(path, "template")
        if is_picture(path):
            return Driver(path, "picture")
    return Driver(path, "video", probe_video(path))


@dataclass(frozen=True, slots=True)
class CaptureReport:
    """A motion template that was made: file, frames, exact fps, engine, notes for the user."""

    path: Path
    frames: int
    fps: Fraction
    engine: str
    notes: tuple[str, ...] = ()


def captures(engine_name: str) -> bool:
    """Return whether an engine reads and renders keypoints."""
    spec = engine_specs().get(engine_name)
    return spec is not None and spec.captures


def check_captures(engine_name: str) -> None:
    """Raise InputError if an engine cannot make a motion template."""
    if not captures(engine_name):
        able = [spec.name for spec in engine_specs().values() if spec.captures]
        raise InputError(f"The {engine_name} engine reads no keypoints. Give engine {' or '.join(able)}.")


def check_drive(engine_name: str, options: TransferOptions) -> None:
    """Raise InputError for an option that an engine cannot honour."""
    if captures(engine_name):
        return
    for name in options_of(TransferOptions):
        value = getattr(options, name)
        if name not in BLENDSHAPE_OPTIONS and value != default_of(TransferOptions, name):
            raise InputError(
                f"{name} is {value!r}, which the {engine_name} engine cannot do. "
                f"Leave {name} out, or give engine 'liveportrait'."
            )


def perform_driver(
    driver: Driver,
    engine: Engine[Any] | None,
    options: DriveOptions,
    clock: StageClock,
    *,
    max_duration_s: float = MAX_DURATION_S,
) -> Performance:
    """Return the sound of a driver, and the motion of the face in it, as ``engine`` takes motions.

    Without an engine, as those take motions that read no keypoints.

    Raises:
        InputError: the driver lasts longer than ``max_duration_s``, cannot be read, or has nothing that
            ``options`` need.
        NoFaceError: no face in it.
        AudioError: its sound cannot be decoded.
    """
    reader = None
    if engine is not None:
        check_drive(engine.name, options)
        reader = cast(CapturingEngine[Any], engine) if captures(engine.name) else None
    if driver.kind == "template":
        return _perform_template(driver, reader, options, max_duration_s)
    if driver.kind == "picture":
        return _perform_picture(driver, reader, options, clock)
    return _perform_video(driver, reader, options, clock, max_duration_s)


def capture_driver(
    driver: Driver, engine: CapturingEngine[Any], duration_s: float | None, clock: StageClock
) -> tuple[KeypointTrack, tuple[str, ...]]:
    """Return the keypoints of a driver, at the rate of its frames, and notes for the user.

    Raises:
        InputError, NoFaceError: see :func:`perform_driver`.
    """
    if driver.kind == "template":
        return load_template(driver.path), ()
    if driver.kind == "picture":
        return _capture_picture(load_portrait(driver.path, force_face=True), engine), ()
    frames_s = _DriverFrames(driver, duration_s, MAX_DURATION_S, clock)
    with clock.stage("track"):
        faces = track_face(frames_s, name=driver.path.name)
    fps, frames = _rate_and_frames(driver, faces, None, duration_s)
    with clock.stage("capture"):
        return _capture_video(frames_s, faces, engine, fps, frames), faces.notes


def _perform_video(
    driver: Driver,
    reader: CapturingEngine[Any] | None,
    options: DriveOptions,
    clock: StageClock,
    max_duration_s: float,
) -> Performance:
    video = driver.video
    assert video is not None
    frames_s = _DriverFrames(driver, options.duration_s, max_duration_s, clock)
    with clock.stage("track"):
        faces = track_face(frames_s, name=video.path.name)
    fps, frames = _rate_and_frames(driver, faces, options.fps, options.duration_s)
    with clock.stage("speech"):
        sound, stereo = _silence(), None
        if video.has_sound:
            sound, stereo = load_video_channels(video.path, SOUND_HZ, frames_s.start_s)
        audio = fit_duration(sound, frames, fps)
        stereo = fit_channels(stereo, audio)
    notes = faces.notes if video.has_sound else (*faces.notes, "the video has no sound")
    amount = np.full(frames, options.multiplier, np.float32)
    if reader is not None:
        with clock.stage("capture"):
            track = _capture_video(frames_s, faces, reader, fps, frames)
        moved = KeypointMotion(track, options.transfer(), amount)
        return Performance(audio, fps, lambda _: moved, notes=notes, driver=driver.kind, stereo=stereo)
    relative = options.transfer().relative

    def motion(portrait: Portrait) -> Motion:
        seen = capture_motion(faces, fps, portrait, frames=frames, relative=relative)
        return transfer_blendshapes(seen, own_expression(portrait), options.transfer(), amount)

    return Performance(audio, fps, motion, notes=notes, driver=driver.kind, stereo=stereo)


def _perform_picture(
    driver: Driver, reader: CapturingEngine[Any] | None, options: DriveOptions, clock: StageClock
) -> Performance:
    with clock.stage("track"):
        face = load_portrait(driver.path, force_face=True)
    if reader is not None:
        with clock.stage("capture"):
            track = _capture_picture(face, reader)
        return _hold(track, driver, reader, options)
    held, relative = _Held.of(options), options.transfer().relative

    def motion(portrait: Portrait) -> Motion:
        shapes, pose_deg = compare_faces(face, portrait)
        turn_deg = np.zeros(3) if relative else pose_deg
        seen = MotionTrack(shapes[None], turn_deg[None].astype(np.float32), held.fps)
        return held.blendshapes(seen, portrait, options)

    return Performance(held.silence, held.fps, motion, notes=(_NO_SOUND[driver.kind],), driver=driver.kind)


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """The time of a video in which a portrait moves to one expression and holds it.

    ``amount`` (T,) is the factor of each frame.
    """

    fps: Fraction
    amount: F32

    @classmethod
    def of(cls, options: DriveOptions) -> _Held:
        fps = options.fps or PICTURE_FPS
        length_s = PICTURE_S if options.duration_s is None else options.duration_s
        middle_s = (np.arange(max(frame_count(length_s, fps), 1)) + 0.5) / float(fps)
        return cls(fps, options.multiplier * smoothstep(middle_s, 0.0, min(PICTURE_MOVE_S, length_s)))

    @property
    def silence(self) -> Audio:
        return fit_duration(_silence(), len(self.amount), self.fps)

    def blendshapes(self, seen: MotionTrack, portrait: Portrait, options: DriveOptions) -> MotionTrack:
        """Return the motion to the one frame of ``seen``."""
        rows = np.zeros(len(self.amount), np.int64)
        repeated = MotionTrack(seen.blendshapes[rows], seen.head_pose_deg[rows], self.fps)
        return transfer_blendshapes(repeated, own_expression(portrait), options.transfer(), self.amount)

    def keypoints(self, track: KeypointTrack, options: DriveOptions) -> KeypointMotion:
        """Return the motion to the one frame of ``track``."""
        repeated = replace(track.rows(np.zeros(len(self.amount), np.int64)), fps=self.fps)
        # The first frame shows the whole change already: there is no motion from it on that could be scaled.
        return KeypointMotion(repeated, replace(options.transfer(), scaling="pose"), self.amount)


def _hold(
    track: KeypointTrack, driver: Driver, reader: CapturingEngine[Any] | None, options: DriveOptions
) -> Performance:
    """Return how the portrait moves to the one frame of a track, and holds it."""
    held = _Held.of(options)

    def motion(portrait: Portrait) -> Motion:
        if reader is not None:
            return held.keypoints(track, options)
        relative = options.transfer().relative
        seen = retarget_keypoints(track, portrait, _known_rest(track), relative=relative)
        return held.blendshapes(seen, portrait, options)

    return Performance(held.silence, held.fps, motion, notes=(_NO_SOUND[driver.kind],), driver=driver.kind)


def _perform_template(
    driver: Driver, reader: CapturingEngine[Any] | None, options: DriveOptions, max_duration_s: float
) -> Performance:
    track = load_template(driver.path)
    if len(track) == 1:  # of a picture
        return _hold(track, driver, reader, options)
    fps, length_s = options.fps or track.fps, options.duration_s or len(track) / float(track.fps)
    if length_s > max_duration_s:
        raise InputError(
            f"Template '{driver.path.name}' lasts more than {max_duration_s:g} s. Give a duration_s."
        )
    frames = max(frame_count(length_s, fps), 1)
    step_s = 1 / float(track.fps)
    wanted_s = (np.arange(frames) + 0.5) / float(fps) - step_s / 2
    moved = resample_keypoints(track, np.arange(len(track)) * step_s, wanted_s, fps)
    amount, transfer = np.full(frames, options.multiplier, np.float32), options.transfer()

    def motion(portrait: Portrait) -> Motion:
        if reader is not None:
            return KeypointMotion(moved, transfer, amount)
        seen = retarget_keypoints(moved, portrait, _known_rest(track), relative=transfer.relative)
        return transfer_blendshapes(seen, own_expression(portrait), transfer, amount)

    audio = fit_duration(_silence(), frames, fps)
    return Performance(audio, fps, motion, notes=(_NO_SOUND[driver.kind],), driver=driver.kind)


def _known_rest(track: KeypointTrack) -> F32 | None:
    """Return the expression (21, 3) at rest that a template knows; None if that of its first frame."""
    rest = track.reference.exp[0]
    return None if np.array_equal(rest, track.exp[0]) else rest


def _silence() -> Audio:
    return Audio(np.zeros(0, np.float32), SOUND_HZ)


def _rate_and_frames(
    driver: Driver, faces: FaceTrack, fps: Fraction | None, duration_s: float | None
) -> tuple[Fraction, int]:
    """Return the rate of a video's motion, by default that of the video, and its number of frames."""
    rate = steady_rate(faces.times_s, driver.video.fps if driver.video else None)
    fps = fps or min(max(rate, Fraction(1)), Fraction(120))
    whole_s = float(faces.times_s[-1]) + float(1 / rate)
    return fps, max(frame_count(duration_s or whole_s, fps), 1)


def _capture_video(
    frames_s: _DriverFrames, faces: FaceTrack, engine: CapturingEngine[Any], fps: Fraction, frames: int
) -> KeypointTrack:
    """Return the keypoints of a face that was followed, in ``frames`` frames at ``fps``.

    The video is decoded again, because all frames are cropped alike, where the face is on average.
    """
    track = engine.capture(_crops(frames_s, faces), fps)
    return resample_keypoints(track, faces.times_s[faces.found], shown_times_s(faces, fps, frames), fps)


def _crops(frames_s: _DriverFrames, faces: FaceTrack) -> Iterator[CroppedFace]:
    found = faces.found
    crop_from_frame = driver_crop_transform(faces.landmarks_px[found], CROP_PX)
    # In this order, no frame is decoded after the last one that is needed.
    for seen, landmarks_px, (_, frame) in zip(
        found, faces.landmarks_px, frames_s.again("capture"), strict=False
    ):
        if seen:
            yield CroppedFace(*crop_driver(frame, landmarks_px, crop_from_frame))


def _capture_picture(face: Portrait, engine: CapturingEngine[Any]) -> KeypointTrack:
    """Return the keypoints of a picture, whose neutral frame is the same face at rest with its lips shut."""
    crop_from_image = driver_crop_transform(face.landmarks_px[None], CROP_PX)
    crop = CroppedFace(*crop_driver(face.image, face.landmarks_px, crop_from_image))
    track = engine.capture(iter([crop]), PICTURE_FPS)
    rest = replace(track, exp=NEUTRAL_EXPRESSION[None], lip_ratio=None, eye_ratios=None)
    return replace(track, neutral=rest)


class _DriverFrames:
    """The frames of a video with their times, up to a length; each one is reported as progress."""

    def __init__(
        self, driver: Driver, length_s: float | None, max_duration_s: float, clock: StageClock
    ) -> None:
        assert driver.video is not None
        self.start_s = 0.0
        """Time of the first frame on the clock of the file."""
        self._video, self._length_s, self._max_s, self._clock = driver.video, length_s, max_duration_s, clock

    def __iter__(self) -> Iterator[tuple[float, Frame]]:
        return self.again("track")

    def again(self, stage: str) -> Iterator[tuple[float, Frame]]:
        """Yield the frames, from the first one on, and report them as progress of ``stage``."""
        rate = self._video.fps or 0
        expected = self._video.frames or 0
        if self._length_s is not None and rate:
            expected = min(expected, frame_count(self._length_s, Fraction(rate))) or expected
        for count, (time_s, frame) in enumerate(iter_timed_frames(self._video.path), start=1):
            if count == 1:
                self.start_s = time_s
            shown_s = time_s - self.start_s
            if self._length_s is not None and shown_s >= self._length_s:
                return
            if shown_s > self._max_s:
                name, most = self._video.path.name, f"{self._max_s:g}"
                raise InputError(f"Video '{name}' lasts more than {most} s. Cut it, or give a duration_s.")
            self._clock.report(stage, count, max(expected, count))
            yield time_s, frame
