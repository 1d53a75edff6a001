"""The frozen values that flow between the stages. Arrays are read-only; colours are RGB; numpy only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vortex.errors import InputError
from vortex.visemes import SILENT_COLUMN, VISEMES

F32: TypeAlias = npt.NDArray[np.float32]
F64: TypeAlias = npt.NDArray[np.float64]
I64: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Frame: TypeAlias = npt.NDArray[np.uint8]
"""One picture, (H, W, 3) uint8, sRGB, RGB order."""

LUMA_WEIGHTS = np.array([0.2126, 0.7152, 0.0722])
"""Shares of red, green and blue in BT.709's luma (ITU-R BT.709-6, item 3.2)."""

ProgressCallback: TypeAlias = Callable[[str, int, int], None]
"""Called as on_progress(stage, completed, total), from several threads; what it raises ends the work.

Stages of a video: "engine", "portrait", "prepare", "speech" (sentences of a text, or 0 of 1 while a file is
decoded), "recognize", "motion" (samples given to a learned model), or "track" with frames of a video that
drives; "ahead" with the frames that networks render, where these take seconds; then "render" with frames.
:func:`vortex.generate` adds "image" (steps), "clip" and "check"; :func:`vortex.fetch_weights` reports "fetch"
with bytes.
"""

MAX_DURATION_S = 4 * 3600.0
"""Longest sound or video, in seconds."""
ROUNDED_WITHIN_S = Fraction(1, 10_000)
MAX_FPS_DENOMINATOR = 1_000_000
MAX_OFFSET_FRAMES = 2.0
"""Offset of the lips, in frames, up to which a video passes by default."""
DEFAULT_SAMPLE_RATE_HZ = 24_000
"""Rate at which sound is loaded by default: that of the speech engine Kokoro. The recogniser resamples it."""

BLENDSHAPES: tuple[str, ...] = (
    "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker",
    "mouthStretchLeft", "mouthStretchRight", "mouthSmileLeft", "mouthSmileRight",
    "mouthFrownLeft", "mouthFrownRight", "mouthPressLeft", "mouthPressRight",
    "mouthRollLower", "mouthRollUpper", "mouthUpperUpLeft", "mouthUpperUpRight",
    "mouthLowerDownLeft", "mouthLowerDownRight",
    "mouthShrugLower", "mouthShrugUpper", "mouthDimpleLeft", "mouthDimpleRight", "mouthLeft", "mouthRight",
    "jawForward", "jawLeft", "jawRight", "cheekPuff", "tongueUp",
    "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft", "noseSneerRight",
    "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "browDownLeft", "browDownRight",
    "eyeBlinkLeft", "eyeBlinkRight", "eyeWideLeft", "eyeWideRight", "eyeSquintLeft", "eyeSquintRight",
    "eyeLookUp", "eyeLookDown", "eyeLookLeft", "eyeLookRight",
)  # fmt: skip
"""Columns of :attr:`MotionTrack.blendshapes`: ARKit names, but for three things. The four gaze columns move
both eyes together, left and right as the person in the picture sees it, like every Left and Right here.
mouthClose brings the lips together, whatever parts them: 1 shuts them. tongueUp raises the tip of the tongue
to the teeth."""

GAZE_REACH = (0.16, 0.08)
"""Shift of the iris across and down, in eye widths, that a gaze column of 1 means."""

BLENDSHAPE_INDEX: Mapping[str, int] = {name: index for index, name in enumerate(BLENDSHAPES)}


def read_only(array: npt.ArrayLike, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return ``array`` as a C-contiguous array of ``dtype`` that refuses writes; copies only if it must."""
    result = np.ascontiguousarray(array, dtype=dtype)
    if result.flags.writeable:
        result = result.view()
        result.flags.writeable = False
    return result


def _freeze(value: object, **arrays: tuple[npt.DTypeLike, tuple[int | str, ...]]) -> None:
    """Make arrays of a frozen value read-only, and check their shapes; equal letters are equal lengths."""
    lengths: dict[int | str, int] = {}
    for name, (dtype, shape) in arrays.items():
        array = read_only(getattr(value, name), dtype)
        object.__setattr__(value, name, array)
        wanted = tuple(lengths.get(length, length) for length in shape)
        pairs = zip(wanted, array.shape, strict=False)
        if array.ndim != len(wanted) or any(isinstance(w, int) and w != n for w, n in pairs):
            given = f"{type(value).__name__}.{name} has shape {array.shape}"
            raise InputError(f"{given}; give ({', '.join(map(str, wanted))}{',' * (len(wanted) == 1)}).")
        lengths |= dict(zip(shape, array.shape, strict=True))


def frame_count(duration_s: float | Fraction, fps: Fraction) -> int:
    """Return how many frames cover a duration: frame i spans [i/fps, (i+1)/fps) and shows its centre.

    The last one may be longer than what is left, so that no end of a sound is cut, except for 0.1 ms: a
    length in samples, or as a float, exceeds a whole number of frames by less.
    """
    return max(math.ceil((Fraction(duration_s) - ROUNDED_WITHIN_S) * fps), 0)


def parse_fps(value: int | float | str | Fraction) -> Fraction:
    """Return a frame rate as an exact fraction: 24, "30000/1001", and 29.97 as 30000/1001.

    Any other is the nearest fraction with a denominator up to a million, at most 7 ms off in four hours.

    Raises:
        InputError: not a number, or outside 1..120 frames per second.
    """
    if isinstance(value, str) and (len(value) > 32 or "e" in value.lower()):
        # A fraction is exact: it would hold every digit of 1e999999999.
        raise InputError(f"fps is {value[:32]!r}; give a number such as 24 or 30000/1001.")
    try:
        fps = Fraction(value)
    except (ValueError, ZeroDivisionError, TypeError, OverflowError) as exc:
        raise InputError(f"fps is {value!r}; give a number such as 24 or 30000/1001.") from exc
    # Files hold a rate as two numbers of 32 bits, and x264 twice the first of them.
    fps = fps.limit_denominator(MAX_FPS_DENOMINATOR)
    for nominal in (24, 30, 60, 120):
        ntsc = Fraction(nominal * 1000, 1001)
        if fps != nominal and abs(fps - ntsc) < Fraction(1, 100):
            fps = ntsc
    if not 1 <= fps <= 120:
        raise InputError(f"fps is {value!r}; vortex renders 1 to 120 frames per second.")
    return fps


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """Mono sound: ``samples`` (N,) float32 in [-1, 1], ``sample_rate`` in Hz."""

    samples: F32
    sample_rate: int = DEFAULT_SAMPLE_RATE_HZ

    def __post_init__(self) -> None:
        """Check shape and rate, and make the samples read-only."""
        if np.ndim(self.samples) != 1:
            shape = np.shape(self.samples)
            raise InputError(f"Audio.samples has shape {shape}; give mono sound, shape (N,).")
        _freeze(self, samples=(np.float32, ("N",)))
        if self.sample_rate <= 0:
            raise InputError(f"Audio.sample_rate is {self.sample_rate}; give a positive number of Hz.")

    @property
    def duration_s(self) -> Fraction:
        """Length in seconds, exact."""
        return Fraction(len(self.samples), self.sample_rate)


@dataclass(frozen=True, slots=True)
class PhonemeSpan:
    """One speech sound: ARPAbet symbol, upper case, no stress digit; times in seconds."""

    phoneme: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, eq=False)
class VisemeTrack:
    """``weights`` (T, 15) float32, >= 0, each row sums to 1; ``fps`` exact.

    Columns are :data:`vortex.visemes.VISEMES`. ``loudness`` (T,) float32 in [0, 1] is the speech energy of
    each frame, 0 in silence.
    """

    weights: F32
    loudness: F32
    fps: Fraction

    def __post_init__(self) -> None:
        """Check shapes and make the arrays read-only."""
        _freeze(self, weights=(np.float32, ("T", len(VISEMES))), loudness=(np.float32, ("T",)))

    def rows(self, start: int, end: int) -> VisemeTrack:
        """Return the frames from ``start`` up to, but without, ``end``."""
        return VisemeTrack(self.weights[start:end], self.loudness[start:end], self.fps)

    def fit(self, frames: int) -> VisemeTrack:
        """Return the track cut to ``frames`` frames, or continued in silence up to them."""
        missing = max(frames - len(self.weights), 0)
        silence = np.eye(1, len(VISEMES), SILENT_COLUMN, dtype=np.float32)
        return VisemeTrack(
            np.concatenate([self.weights[:frames], silence.repeat(missing, axis=0)]),
            np.pad(self.loudness[:frames], (0, missing)),
            self.fps,
        )


@dataclass(frozen=True, slots=True, eq=False)
class MotionTrack:
    """What the face does, independent of the engine.

    ``blendshapes`` (T, 48) float32 in [-1, 1], columns as :data:`BLENDSHAPES`: the change from the
    expression of the picture; only jawOpen and the gap between the lips are absolute, from a shut mouth on.
    ``head_pose_deg`` (T, 3) float32 degrees, columns pitch, yaw, roll relative to the source pose: pitch > 0
    looks down, yaw > 0 turns to the viewer's right, roll > 0 tilts clockwise as the viewer sees it.
    """

    blendshapes: F32
    head_pose_deg: F32
    fps: Fraction

    def __post_init__(self) -> None:
        """Check shapes and make the arrays read-only."""
        _freeze(self, blendshapes=(np.float32, ("T", len(BLENDSHAPES))), head_pose_deg=(np.float32, ("T", 3)))

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.blendshapes)

    def part(self, first: int, frames: int) -> MotionTrack:
        """Return ``frames`` of the motion, as many as there are, from frame ``first`` on."""
        rows = slice(first, first + frames)
        return MotionTrack(self.blendshapes[rows], self.head_pose_deg[rows], self.fps)


@dataclass(frozen=True, slots=True, eq=False)
class KeypointTrack:
    """What LivePortrait's motion extractor says of a face, frame by frame.

    The keypoints of a frame are ``scale (x_c @ rotation + exp) + translation``, where x_c are those of a face
    without expression and pose. ``exp`` (T, 21, 3) float32; ``rotation`` (T, 3, 3) float64; ``scale`` (T,)
    and ``translation`` (T, 3) float32. x points right, y down, z away from the viewer; the picture's width
    and height are 2.

    ``eye_ratios`` (T, 2) float32 are the openings of the eyes over their widths, that on the left of the
    picture first; ``lip_ratio`` (T,) that of the inner lips over the mouth's; None if unknown. ``neutral`` is
    the frame from which relative motion is measured, a track of one; default, the first frame.
    """

    exp: F32
    rotation: F64
    scale: F32
    translation: F32
    fps: Fraction
    eye_ratios: F32 | None = None
    lip_ratio: F32 | None = None
    neutral: KeypointTrack | None = None

    def __post_init__(self) -> None:
        """Check shapes and make the arrays read-only."""
        _freeze(
            self,
            exp=(np.float32, ("T", 21, 3)),
            rotation=(np.float64, ("T", 3, 3)),
            scale=(np.float32, ("T",)),
            translation=(np.float32, ("T", 3)),
        )
        frames = len(self.exp)
        if self.eye_ratios is not None:
            _freeze(self, eye_ratios=(np.float32, (frames, 2)))
        if self.lip_ratio is not None:
            _freeze(self, lip_ratio=(np.float32, (frames,)))
        if self.neutral is not None and len(self.neutral) != 1:
            raise InputError(f"KeypointTrack.neutral has {len(self.neutral)} frames; give a track of one.")

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.exp)

    @property
    def reference(self) -> KeypointTrack:
        """The frame from which relative motion is measured; the track must have frames."""
        return self.neutral or self.part(0, 1)

    def part(self, first: int, frames: int) -> KeypointTrack:
        """Return ``frames`` of the track, as many as there are, from frame ``first`` on."""
        return self.rows(np.arange(len(self))[first : first + frames])

    def rows(self, numbers: I64) -> KeypointTrack:
        """Return some frames, by their numbers (N,), in that order; a given neutral frame is kept."""
        return KeypointTrack(
            self.exp[numbers],
            self.rotation[numbers],
            self.scale[numbers],
            self.translation[numbers],
            self.fps,
            None if self.eye_ratios is None else self.eye_ratios[numbers],
            None if self.lip_ratio is None else self.lip_ratio[numbers],
            self.neutral,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """A picture with the face that will speak.

    ``image`` (H, W, 3) uint8 sRGB, RGB order; ``landmarks_px`` (478, 3) float32, MediaPipe mesh, x right,
    y down, z in the scale of x (smaller is nearer), pixel centres; ``crop_from_image`` (3, 3) float64
    similarity on column vectors, from ``image`` to the 512 px crop of the official LivePortrait rule;
    ``head_pose_deg`` (3,) pitch, yaw, roll of the source, signs as in :class:`MotionTrack`;
    ``blendshapes`` (52,) float32, MediaPipe's scores of the source expression; ``notes``: what a user should
    know, such as "3 faces found, took the largest"; ``close_up``: the same face with what surrounds it, cut
    from the original, where ``image`` is reduced and the face in it is small.
    """

    image: Frame
    landmarks_px: F32
    crop_from_image: F64
    head_pose_deg: F32
    blendshapes: F32
    notes: tuple[str, ...] = ()
    close_up: Portrait | None = None

    def __post_init__(self) -> None:
        """Check shapes and make the arrays read-only."""
        _freeze(
            self,
            image=(np.uint8, ("H", "W", 3)),
            landmarks_px=(np.float32, (478, 3)),
            crop_from_image=(np.float64, (3, 3)),
            head_pose_deg=(np.float32, (3,)),
            blendshapes=(np.float32, ("N",)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class RenderReport:
    """What was made: file, frames, exact fps, size, engine, seed, seconds per stage, notes for the user.

    ``preset`` and ``seed`` are None if a video drove the portrait. ``captions`` are files beside it.
    """

    path: Path
    frames: int
    fps: Fraction
    size_px: tuple[int, int]
    engine: str
    preset: str | None
    seed: int | None
    duration_s: float
    stage_s: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    captions: tuple[Path, ...] = ()
