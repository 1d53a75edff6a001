"""A video as the source: each of its frames takes a driver's motion, and all but the face stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Generic

import numpy as np

from vortex.driving import Driver, perform_driver
from vortex.engines.base import CapturingEngine, CroppedFace, P
from vortex.errors import InputError
from vortex.face.crop import CROP_PX, crop_source, crop_transform
from vortex.face.pose import pose_of_rotation
from vortex.face.tracking import FaceTrack, track_face
from vortex.interpolation import kalman_smoothed
from vortex.media.audio import fit_channels, fit_duration, load_video_channels
from vortex.media.reading import VideoFile, iter_timed_frames, steady_rate
from vortex.motion.transfer import KeypointMotion, Motion, nearest_rotation, resample_keypoints
from vortex.options import DriveOptions, FramingOptions, default_of, options_of
from vortex.performance import SOUND_HZ, Performance, StageClock
from vortex.types import MAX_DURATION_S, Audio, Frame, KeypointTrack, Portrait

PROCESS_VARIANCE, OBSERVATION_VARIANCE = 1e-5, 3e-7
"""Of the filter that smooths expressions and rotations in time, as published for source videos."""


@dataclass(frozen=True, slots=True, eq=False)
class SourceVideo:
    """What is known of a source video: its faces, and their keypoints, a row for each frame.

    ``start_s`` is the time of its first frame on the clock of the file; keypoints of frames without a face
    are bridged.
    """

    video: VideoFile
    faces: FaceTrack
    track: KeypointTrack
    size_px: tuple[int, int]
    start_s: float

    @property
    def still(self) -> Portrait:
        """The face of the first frame that has one, without pixels."""
        return self.portrait(int(self.faces.found.argmax()), np.zeros((0, 0, 3), np.uint8))

    def portrait(self, index: int, frame: Frame) -> Portrait:
        """Return a frame, of this number, as a portrait."""
        landmarks_px = self.faces.landmarks_px[index]
        return Portrait(
            image=frame,
            landmarks_px=landmarks_px,
            crop_from_image=crop_transform(landmarks_px, CROP_PX),
            head_pose_deg=pose_of_rotation(self.faces.rotations[index]).astype(np.float32),
            blendshapes=np.zeros(52, np.float32),
        )


def check_source_video(video: VideoFile, options: DriveOptions) -> None:
    """Raise InputError for options that have another meaning, or none, where the source is a video."""
    if options.quality != "full":
        raise InputError(
            f"quality is {options.quality!r}, which derives frames from each other; those of a source video "
            "all differ. Give quality 'full'."
        )
    for name in options_of(FramingOptions):
        value = getattr(options, name)
        if str(value) != str(default_of(FramingOptions, name)):
            raise InputError(f"{name} is {value}, but a source video keeps its own frames; leave {name} out.")
    if options.fps is not None and options.fps != video.fps:
        raise InputError(
            f"fps is {options.fps}; a source video keeps its own rate, {video.fps}. Leave fps out."
        )


def read_source_video(
    video: VideoFile, engine: CapturingEngine[Any], options: DriveOptions, clock: StageClock
) -> SourceVideo:
    """Follow the face that the options mean through a source video, and read its keypoints.

    Raises:
        InputError: it cannot be decoded, or lasts more than four hours.
        NoFaceError: no face in any frame.
    """
    start_s, size_px = 0.0, (0, 0)

    def frames() -> Iterator[tuple[float, Frame]]:
        nonlocal start_s, size_px
        for count, (time_s, frame) in enumerate(iter_timed_frames(video.path)):
            if count == 0:
                start_s, size_px = time_s, (frame.shape[1] // 2 * 2, frame.shape[0] // 2 * 2)
            if options.duration_s is not None and time_s - start_s >= options.duration_s:
                return
            if time_s - start_s > MAX_DURATION_S:
                raise InputError(f"Video '{video.path.name}' lasts more than {MAX_DURATION_S:g} s. Cut it.")
            clock.report("portrait", count, max(video.frames or 0, count))
            yield time_s, frame

    with clock.stage("portrait"):
        faces = track_face(frames(), name=video.path.name, choice=options.face)
    fps = steady_rate(faces.times_s, video.fps)
    with clock.stage("prepare"):
        track = engine.capture(_crops(video, faces), fps)
    times_s = faces.times_s
    return SourceVideo(
        video, faces, resample_keypoints(track, times_s[faces.found], times_s, fps), size_px, start_s
    )


def _crops(video: VideoFile, faces: FaceTrack) -> Iterator[CroppedFace]:
    frames = iter_timed_frames(video.path)
    for seen, landmarks_px, (_, frame) in zip(faces.found, faces.landmarks_px, frames, strict=False):
        if seen:
            yield CroppedFace(*crop_source(frame, landmarks_px))


def perform_on_video(
    source: SourceVideo,
    driver: Driver,
    engine: CapturingEngine[Any],
    options: DriveOptions,
    clock: StageClock,
) -> Performance:
    """Return what a driver does to a source video: as long as the shorter of both, at the source's rate.

    A picture drives all of the source. The sound is that of the driver, or if it has none, of the source.
    Raises what :func:`vortex.driving.perform_driver` raises.
    """
    fps, longest = source.track.fps, len(source.track)
    length_s = options.duration_s
    if driver.kind == "picture" and length_s is None:
        length_s = float(longest / fps)
    given = replace(options, fps=fps, duration_s=length_s)
    performance = perform_driver(driver, engine, given, clock)
    frames = min(round(Fraction(len(performance.audio.samples), SOUND_HZ) * fps), longest)
    notes, audio = performance.notes, _cut(performance.audio, frames, fps)
    stereo = performance.stereo
    if source.video.has_sound and not (driver.video and driver.video.has_sound):
        sound, stereo = load_video_channels(source.video.path, SOUND_HZ, source.start_s)
        audio = _cut(fit_duration(sound, longest, fps), frames, fps)
        notes = (*(note for note in notes if "sound" not in note), "the sound is that of the source")

    def motion(portrait: Portrait) -> Motion:
        return performance.motion(portrait).part(0, frames)

    return replace(performance, audio=audio, motion=motion, notes=notes, stereo=fit_channels(stereo, audio))


def _cut(audio: Audio, frames: int, fps: Fraction) -> Audio:
    return Audio(audio.samples[: round(Fraction(frames) / fps * audio.sample_rate)], audio.sample_rate)


def move_source(source: KeypointTrack, motion: KeypointMotion) -> KeypointMotion:
    """Return the motion, frame by frame, of a source that moves itself, smoothed in time, as published.

    ``source`` has the frames of ``motion``, or more. Changes of the driver are added to the source's own
    expression and rotation of each frame, which are then taken absolutely; scale and, in relative motion,
    translation are those of the source. Eye and lip networks that replace relative motion need no smoothing.
    """
    transfer, driver = motion.transfer, motion.track
    if transfer.relative and (transfer.eye_retarget or transfer.lip_retarget):
        return motion
    own, start = source.part(0, len(motion)), driver.reference
    exp, rotation, translation = driver.exp, driver.rotation, driver.translation
    if transfer.relative:
        exp = own.exp + driver.exp - start.exp
        rotation = driver.rotation @ start.rotation[0].T @ own.rotation
        translation = own.translation
    smooth = [
        kalman_smoothed(values.reshape(len(values), -1), PROCESS_VARIANCE, OBSERVATION_VARIANCE)
        for values in (exp, rotation)
    ]
    moved = replace(
        driver,
        exp=smooth[0].reshape(exp.shape).astype(np.float32),
        rotation=nearest_rotation(smooth[1].reshape(rotation.shape)),
        translation=translation,
        neutral=None,
    )
    return KeypointMotion(moved, replace(transfer, motion="absolute", scaling="pose"), motion.amounts)


class SourceVideoEngine(Generic[P]):
    """Renders source videos with an engine that captures; frames without a face stay as they are."""

    def __init__(self, engine: CapturingEngine[P]) -> None:
        self.name, self.device = engine.name, engine.device
        self._engine = engine

    def prepare(self, portrait: Portrait, *, size_px: int = 512, paste_back: bool = False) -> SourceVideo:
        """Raise InputError: a source video is read by :func:`read_source_video`."""
        raise InputError("A source video is no portrait. Call read_source_video.")

    def iter_frames(self, prepared: SourceVideo, motion: Motion, *, quality: str = "full") -> Iterator[Frame]:
        """Yield a frame of the video, whole, for each row of a motion of keypoints."""
        if not isinstance(motion, KeypointMotion):
            raise InputError("A source video moves by keypoints. Give a KeypointMotion.")
        moved, (width, height) = move_source(prepared.track, motion), prepared.size_px
        found = prepared.faces.found
        frames = iter_timed_frames(prepared.video.path)
        for index, (_, frame) in zip(range(len(moved)), frames, strict=False):
            if found[index]:
                face = self._engine.prepare(prepared.portrait(index, frame), paste_back=True)
                yield from self._engine.iter_frames(face, moved.part(index, 1))
            else:
                yield frame[:height, :width].copy()

    def notes(self, prepared: SourceVideo, motion: Motion, *, quality: str = "full") -> tuple[str, ...]:
        """Return what a user should know of the source."""
        return tuple(f"source: {note}" for note in prepared.faces.notes if "bridged" not in note)

    def close(self) -> None:
        """Do nothing: the engine belongs to the caller."""
