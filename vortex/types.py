"""The frozen values that flow between the stages. Arrays are read-only; colours are RGB; numpy only."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vortex.errors import InputError

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Frame: TypeAlias = npt.NDArray[np.uint8]
"""One picture, (H, W, 3) uint8, sRGB, RGB order."""

LUMA_WEIGHTS = np.array([0.2126, 0.7152, 0.0722])
"""Shares of red, green and blue in BT.709's luma (ITU-R BT.709-6, item 3.2)."""

Hook: TypeAlias = Callable[[str, int, int], None]
"""Called as hook(stage, completed, total)."""

DRIVING_SAMPLE_RATE_HZ = 24_000
"""Sample rate of the audio that drives every engine."""

VISEMES: tuple[str, ...] = (
    "sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS", "nn", "RR", "aa", "E", "ih", "oh", "ou",
)  # fmt: skip
"""The 15 visemes of OpenXR ``XR_META_face_tracking_visemes``, in the order of the specification."""

BLENDSHAPES: tuple[str, ...] = (
    "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker",
    "mouthStretchLeft", "mouthStretchRight", "mouthSmileLeft", "mouthSmileRight",
    "mouthFrownLeft", "mouthFrownRight", "mouthPressLeft", "mouthPressRight",
    "mouthRollLower", "mouthRollUpper", "mouthUpperUpLeft", "mouthUpperUpRight",
    "mouthLowerDownLeft", "mouthLowerDownRight",
    "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "browDownLeft", "browDownRight",
    "eyeBlinkLeft", "eyeBlinkRight", "eyeWideLeft", "eyeWideRight", "eyeSquintLeft", "eyeSquintRight",
    "eyeLookUp", "eyeLookDown", "eyeLookLeft", "eyeLookRight",
)  # fmt: skip
"""Columns of :attr:`MotionTrack.blendshapes`: ARKit names. The four gaze columns move both eyes together,
left and right as the person in the picture sees it, like every Left and Right here."""

BLENDSHAPE_INDEX: Mapping[str, int] = {name: index for index, name in enumerate(BLENDSHAPES)}


def read_only(array: npt.ArrayLike, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return ``array`` as a C-contiguous array of ``dtype`` that refuses writes; copies only if it must."""
    result = np.ascontiguousarray(array, dtype=dtype)
    if result.flags.writeable:
        result = result.view()
        result.flags.writeable = False
    return result


def frame_count(duration_s: float | Fraction, fps: Fraction) -> int:
    """Return ``round(duration_s * fps)``; frame i spans [i/fps, (i+1)/fps) and shows its centre."""
    return round(Fraction(duration_s) * fps)


def parse_fps(value: int | float | str | Fraction) -> Fraction:
    """Return a frame rate as an exact fraction: 24, "30000/1001", and 29.97 as 30000/1001.

    Raises:
        InputError: not a number, or outside 1..120 frames per second.
    """
    if isinstance(value, str) and (len(value) > 32 or "e" in value.lower()):
        # a fraction is exact: of 1e999999999 it would hold every digit
        raise InputError(f"fps is {value[:32]!r}; give a number such as 24 or 30000/1001.")
    try:
        fps = Fraction(value)
    except (ValueError, ZeroDivisionError, TypeError, OverflowError) as exc:
        raise InputError(f"fps is {value!r}; give a number such as 24 or 30000/1001.") from exc
    for nominal in (24, 30, 60, 120):
        ntsc = Fraction(nominal * 1000, 1001)
        if fps != nominal and abs(fps - ntsc) < Fraction(1, 100):
            fps = ntsc
    if not 1 <= fps <= 120:
        raise InputError(f"fps is {value!r}; vortex renders 1 to 120 frames per second.")
    return fps


def parse_seed(seed: int | None) -> int:
    """Return the seed that was given, or a new one, below 2**31.

    Raises:
        InputError: it is negative.
    """
    if seed is None:
        return secrets.randbelow(2**31)
    if seed < 0:
        raise InputError(f"seed is {seed}; give a whole number from 0 on.")
    return seed


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """Mono sound: ``samples`` (N,) float32 in [-1, 1], ``sample_rate`` in Hz."""

    samples: npt.NDArray[np.float32]
    sample_rate: int = DRIVING_SAMPLE_RATE_HZ

    def __post_init__(self) -> None:
        """Check shape and values, and make the samples read-only."""
        object.__setattr__(self, "samples", read_only(self.samples, np.float32))
        if self.samples.ndim != 1:
            raise InputError(f"Audio.samples has shape {self.samples.shape}; give mono sound, shape (N,).")
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
    """``weights`` (T, 15) float32, >= 0, each row sums to 1, columns as :data:`VISEMES`; ``fps`` exact.

    ``loudness`` (T,) float32 in [0, 1] is the speech energy of each frame, 0 in silence.
    """

    weights: npt.NDArray[np.float32]
    loudness: npt.NDArray[np.float32]
    fps: Fraction

    def __post_init__(self) -> None:
        """Check shapes and make the arrays read-only."""
        object.__setattr__(self, "weights", read_only(self.weights, np.float32))
        object.__setattr__(self, "loudness", read_only(self.loudness, np.float32))
        if self.weights.ndim != 2 or self.weights.shape[1] != len(VISEMES):
            raise InputError(f"VisemeTrack.weights has shape {self.weights.shape}; give (T, {len(VISEMES)}).")
        if self.loudness.shape != self.weights.shape[:1]:
            raise InputError(
                f"VisemeTrack.loudness has shape {self.loudness.shape}; give ({len(self.weights)},)."
            )


@dataclass(frozen=True, slots=True, eq=False)
class MotionTrack:
    """What the face does, independent of the engine.

    ``blendshapes`` (T, 33) float32 in [0, 1], columns as :data:`BLENDSHAPES`; ``head_pose_deg`` (T, 3)
    float32 degrees, columns pitch, yaw, roll relative to the source pose: pitch > 0 looks down, yaw > 0
    turns to the viewer's right, roll > 0 tilts clockwise as the viewer sees it.
    """

    blendshapes: npt.NDArray[np.float32]
    head_pose_deg: npt.NDArray[np.float32]
    fps: Fraction

    def __post_init__(self) -> None:
        """Check shapes and make the arrays read-only."""
        object.__setattr__(self, "blendshapes", read_only(self.blendshapes, np.float32))
        object.__setattr__(self, "head_pose_deg", read_only(self.head_pose_deg, np.float32))
        if self.blendshapes.ndim != 2 or self.blendshapes.shape[1] != len(BLENDSHAPES):
            raise InputError(
                f"MotionTrack.blendshapes has shape {self.blendshapes.shape}; give (T, {len(BLENDSHAPES)})."
            )
        if self.head_pose_deg.shape != (len(self.blendshapes), 3):
            raise InputError(
                f"MotionTrack.head_pose_deg has shape {self.head_pose_deg.shape}; "
                f"give ({len(self.blendshapes)}, 3)."
            )

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.blendshapes)

    def part(self, first: int, frames: int) -> MotionTrack:
        """Return ``frames`` of the motion, as many as there are, from frame ``first`` on."""
        rows = slice(first, first + frames)
        return MotionTrack(self.blendshapes[rows], self.head_pose_deg[rows], self.fps)


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """A picture with the face that will speak.

    ``image`` (H, W, 3) uint8 sRGB, RGB order; ``landmarks_px`` (478, 3) float32, MediaPipe mesh, x right,
    y down, z in the scale of x (smaller is nearer), pixel centres; ``crop_from_image`` (3, 3) float64
    similarity on column vectors, from ``image`` to the 512 px crop of the official LivePortrait rule;
    ``head_pose_deg`` (3,) pitch, yaw, roll of the source, signs as in :class:`MotionTrack`;
    ``blendshapes`` (52,) float32, MediaPipe's scores of the source expression; ``notes``: what a user should
    know, such as "3 faces found, took the largest".
    """

    image: Frame
    landmarks_px: npt.NDArray[np.float32]
    crop_from_image: npt.NDArray[np.float64]
    head_pose_deg: npt.NDArray[np.float32]
    blendshapes: npt.NDArray[np.float32]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check shapes and make the arrays read-only."""
        object.__setattr__(self, "image", read_only(self.image, np.uint8))
        object.__setattr__(self, "landmarks_px", read_only(self.landmarks_px, np.float32))
        object.__setattr__(self, "crop_from_image", read_only(self.crop_from_image, np.float64))
        object.__setattr__(self, "head_pose_deg", read_only(self.head_pose_deg, np.float32))
        object.__setattr__(self, "blendshapes", read_only(self.blendshapes, np.float32))
        if self.image.ndim != 3 or self.image.shape[2] != 3:
            raise InputError(f"Portrait.image has shape {self.image.shape}; give (H, W, 3) RGB.")
        if self.landmarks_px.shape != (478, 3):
            raise InputError(f"Portrait.landmarks_px has shape {self.landmarks_px.shape}; give (478, 3).")
        if self.crop_from_image.shape != (3, 3):
            raise InputError(f"Portrait.crop_from_image has shape {self.crop_from_image.shape}; give (3, 3).")


@dataclass(frozen=True, slots=True, eq=False)
class RenderReport:
    """What was made: file, frames, exact fps, size, engine, seed, seconds per stage, notes for the user."""

    path: Path
    frames: int
    fps: Fraction
    size_px: tuple[int, int]
    engine: str
    preset: str
    seed: int
    duration_s: float
    stage_s: Mapping[str, float] = field(default_factory=dict)
    peak_vram_bytes: int | None = None
    notes: tuple[str, ...] = ()
