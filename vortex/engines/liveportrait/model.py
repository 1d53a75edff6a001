"""LivePortrait for programs that use tensors: a picture and a voice become a tensor or frames."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from vortex.engines.liveportrait.engine import LivePortraitEngine
from vortex.engines.liveportrait.load import load_renderer
from vortex.engines.liveportrait.renderer import PreparedFace, Renderer, check_quality
from vortex.errors import AudioError, ImageError, InputError, NoFaceError, VortexWarning
from vortex.face.portrait import detect_portrait
from vortex.lipsync.recognize import recognize_visemes
from vortex.media.audio import MIN_DURATION_S, fit_duration
from vortex.motion.drive import drive
from vortex.motion.presets import PresetLike
from vortex.types import DEFAULT_SAMPLE_RATE_HZ, Audio, Frame, MotionTrack, frame_count, parse_fps

SOURCE_SHAPE = (3, 512, 512)
RANGE_SLACK = 1e-3
"""Values this far outside the range, as resampling produces, are clipped silently."""
OUTPUT_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.uint8)


class LivePortraitModel:
    """The loaded networks. It keeps nothing between calls, and any number of threads may call it at once."""

    name = "liveportrait"

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer

    def animate(
        self,
        source_image: Tensor,
        driving_audio: Tensor,
        expression_preset: PresetLike = "neutral",
        fps: float | str | Fraction = 24,
        duration: float | None = None,
        output: Tensor | None = None,
        seed: int | None = None,
        quality: str = "full",
    ) -> Tensor:
        """Return the talking picture, (T, 3, 512, 512) float32 in [0, 1], T = frame_count(duration, fps).

        Args:
            source_image: (3, 512, 512) floating, RGB in [0, 1]. The face is found, animated and pasted back;
                if none is found, the picture is taken as LivePortrait's crop of one, with a warning.
            driving_audio: (N,) floating, mono in [-1, 1] at 24 000 Hz.
            expression_preset: a name, or a timed sequence such as "neutral,excited@3.5".
            fps: frames per second, exact: 24, "30000/1001".
            duration: seconds; default, the length of the sound. Longer sound is cut with a warning; after
                shorter sound the face is silent.
            output: (T or more, 3, 512, 512) of any floating type or uint8 (0 to 255), on any device. It is
                filled in place, batch by batch, and ``output[:T]`` is returned; nothing else of that size is
                allocated. Default, a new float32 tensor on the model's device.
            seed: 0 or more; decides blinks, glances and sway. Default, a new one each time.
            quality: "full" renders every frame. "fast" renders only as many as are needed for every frame to
                have a similar one, and derives the others; see :mod:`vortex.engines.liveportrait.fast.reuse`.

        Raises:
            InputError: an argument of the wrong shape, type or range; the message shows the value.
            OutOfMemoryError: the device has too little memory free; the model stays usable.
        """
        check_quality(quality)
        source = parse_source(source_image)
        motion = _motion(driving_audio, expression_preset, fps, duration, seed)
        if output is not None:
            check_output(output, len(motion))
        prepared = self._prepare(source)
        if output is None:
            output = torch.empty((len(motion), *SOURCE_SHAPE), device=self.renderer.device)
        filled = output[: len(motion)]
        self.fill(filled, prepared, motion, quality)
        return filled

    def iter_frames(
        self,
        source_image: Tensor,
        driving_audio: Tensor,
        expression_preset: PresetLike = "neutral",
        fps: float | str | Fraction = 24,
        duration: float | None = None,
        seed: int | None = None,
        quality: str = "full",
    ) -> Iterator[Frame]:
        """Check the arguments; return :meth:`animate`'s frames, (512, 512, 3) uint8, rendered on request."""
        check_quality(quality)
        source = parse_source(source_image)
        motion = _motion(driving_audio, expression_preset, fps, duration, seed)
        return LivePortraitEngine(self.renderer).iter_frames(self._prepare(source), motion, quality=quality)

    def _prepare(self, source: Frame) -> PreparedFace:
        try:
            return self.renderer.prepare(detect_portrait(source, source_name="source_image", force_face=True))
        except NoFaceError as exc:
            # The networks can animate drawings and animals in which no landmarks are found.
            warnings.warn(
                f"{exc} It is now used as LivePortrait's crop of a face, and an open mouth stays open.",
                VortexWarning,
                stacklevel=3,
            )
            return self.renderer.prepare_crop(source)

    def fill(
        self, filled: Tensor, prepared: PreparedFace, motion: MotionTrack, quality: str = "full"
    ) -> None:
        """Write a motion of ``renderer.prepare``'s face into ``filled`` (T, 3, H, W), in [0, 1] or uint8."""
        scale, shift = (255.0, 0.5) if filled.dtype == torch.uint8 else (1.0, 0.0)
        canvas = torch.from_numpy(prepared.canvas.copy()).permute(2, 0, 1)
        canvas = (canvas if filled.dtype == torch.uint8 else canvas.float() / 255).to(filled)
        x0, y0, x1, y1 = prepared.box
        start = 0
        with torch.inference_mode():
            for boxes in self.renderer.iter_boxes(prepared, motion, quality):
                rows = filled[start : start + len(boxes)]
                rows.copy_(canvas)
                # Converted before it is copied: uint8 is a quarter of the bytes.
                rows[:, :, y0:y1, x0:x1].copy_((boxes * scale + shift).to(filled.dtype))
                start += len(boxes)

    def close(self) -> None:
        """Free the device's memory; the model cannot render afterwards."""
        self.renderer.close()


def load_liveportrait(
    device: str | torch.device | None = None,
    precision: str = "fp16",
    *,
    batch_frames: int | None = None,
    memory_budget_bytes: int | None = None,
) -> LivePortraitModel:
    """Return the model with the fetched weights (see :mod:`vortex.weights.fetch`).

    Args:
        device: "cuda", "cuda:1" or "cpu"; None means "cuda". The CPU, which needs seconds for each frame, is
            used only if you name it.
        precision: "fp16", "bf16" or "fp32"; a CPU supports only "fp32".
        batch_frames: frames rendered at once; default, what fits into the budget, at most 8; 1 on a CPU.
        memory_budget_bytes: the most device memory that weights and frames may take; default 4 GB on CUDA, no
            limit on a CPU.

    Raises:
        DeviceUnavailableError, PrecisionUnsupportedError: no such device, or it lacks that precision.
        InputError: an unknown device, precision, or a batch below 1.
        WeightsMissingError, WeightsCorruptError: the weights must be fetched.
        OutOfMemoryError: the device has too little memory free, or the budget is too small.
    """
    if batch_frames is not None and batch_frames < 1:
        raise InputError(f"batch_frames is {batch_frames}; give 1 or more.")
    return LivePortraitModel(load_renderer(device, precision, batch_frames, memory_budget_bytes))


def _motion(
    driving_audio: Tensor,
    preset: PresetLike,
    fps: float | str | Fraction,
    duration: float | None,
    seed: int | None,
) -> MotionTrack:
    """Return the motion of a face that says the sound; the arguments are those of the model's methods."""
    exact_fps, audio = parse_fps(fps), parse_audio(driving_audio)
    frames = parse_duration(duration, audio, exact_fps)
    if seed is None:
        # A separate generator leaves the state of the global one unchanged.
        seed = torch.Generator().seed()
    elif not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed is {seed!r}; give a whole number, 0 or more.")
    return drive(recognize_visemes(fit_duration(audio, frames, exact_fps), exact_fps), preset, seed)


def parse_source(source_image: object) -> Frame:
    """Return the picture as (512, 512, 3) uint8; ImageError if it is not (3, 512, 512) floating in [0, 1]."""
    what = "give RGB, shape (3, 512, 512), floating, in [0, 1]"
    tensor = _floating("source_image", source_image, ImageError, what)
    if tuple(tensor.shape) != SOURCE_SHAPE:
        raise ImageError(f"source_image has shape {tuple(tensor.shape)}; {what}.")
    low, high = _finite_range("source_image", tensor, ImageError)
    if low < -RANGE_SLACK or high > 1 + RANGE_SLACK:
        raise ImageError(f"source_image has values from {low:g} to {high:g}; {what}.")
    pixels: Frame = (tensor.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).contiguous().numpy()
    return pixels


def parse_audio(driving_audio: object) -> Audio:
    """Return the sound; AudioError if it is not (N,) floating in [-1, 1], or is shorter than 0.1 s."""
    what = f"give mono sound, shape (N,), floating, in [-1, 1], at {DEFAULT_SAMPLE_RATE_HZ} Hz"
    tensor = _floating("driving_audio", driving_audio, AudioError, what)
    if tensor.ndim != 1:
        raise AudioError(f"driving_audio has shape {tuple(tensor.shape)}; {what}.")
    if len(tensor) < MIN_DURATION_S * DEFAULT_SAMPLE_RATE_HZ:
        raise AudioError(
            f"driving_audio has {len(tensor)} samples, {len(tensor) / DEFAULT_SAMPLE_RATE_HZ:.3f} s; "
            f"give at least {MIN_DURATION_S} s."
        )
    low, high = _finite_range("driving_audio", tensor, AudioError)
    if max(-low, high) > 1 + RANGE_SLACK:
        raise AudioError(f"driving_audio has values from {low:g} to {high:g}; {what}.")
    return Audio(np.array(tensor.clamp(-1, 1).numpy()))


def parse_duration(duration: float | None, audio: Audio, fps: Fraction) -> int:
    """Return the number of frames; InputError if ``duration`` is not a number of seconds that holds one."""
    if duration is None:
        return max(frame_count(audio.duration_s, fps), 1)
    try:
        frames = frame_count(duration, fps)
    except (TypeError, ValueError, OverflowError) as exc:
        raise InputError(f"duration is {duration!r}; give a number of seconds, or None.") from exc
    if frames < 1:
        raise InputError(f"duration is {duration!r} s; give at least one frame, {float(1 / fps):.4f} s.")
    return frames


def check_output(output: object, frames: int) -> None:
    """Raise InputError if ``frames`` frames cannot be written into ``output``."""
    what = f"give a tensor of shape ({frames} or more, 3, 512, 512), floating or uint8"
    if not isinstance(output, Tensor):
        raise InputError(f"output is a {type(output).__name__}; {what}.")
    if output.ndim != 4 or tuple(output.shape[1:]) != SOURCE_SHAPE or len(output) < frames:
        raise InputError(f"output has shape {tuple(output.shape)}; {what}.")
    if output.dtype not in OUTPUT_DTYPES:
        raise InputError(f"output has type {output.dtype}; {what}.")
    if output.requires_grad:
        raise InputError("output requires gradients; give a tensor that does not.")
    if any(stride == 0 and size > 1 for stride, size in zip(output.stride(), output.shape, strict=True)):
        raise InputError("output is expanded, so its frames share memory; give a contiguous tensor.")


def _floating(name: str, value: object, error: type[InputError], what: str) -> Tensor:
    """Return a float32 tensor on the CPU."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.array(value))
    if not isinstance(value, Tensor):
        raise error(f"{name} is a {type(value).__name__}; {what}.")
    if not value.is_floating_point():
        raise error(f"{name} has type {value.dtype}; {what}.")
    return value.detach().to("cpu", torch.float32)


def _finite_range(name: str, tensor: Tensor, error: type[InputError]) -> tuple[float, float]:
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise error(f"{name} has {bad} values that are NaN or infinite; give finite numbers.")
    return float(tensor.min()), float(tensor.max())
