"""Draws portraits from text: the interface, the model Flux.1-schnell, and the search for a usable face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vortex.errors import (
    DeviceUnavailableError,
    EngineError,
    InputError,
    MissingExtraError,
    NoFaceError,
    OutOfMemoryError,
    WeightsError,
)
from vortex.face.choice import LARGEST
from vortex.face.portrait import detect_portrait
from vortex.types import Frame, Portrait, ProgressCallback
from vortex.weights.cache import verify_weights

SIZE_PX = 512
TRIES = 4
"""Pictures to draw before the search for a face gives up."""
STEPS = 4
"""Flux.1-schnell is distilled to this number of steps, without guidance."""
MAX_PROMPT_TOKENS = 256
FLUX_BYTES = 12 << 30
"""Most memory that Flux.1-schnell uses in 4 bits, work space included."""
NF4_MIN_BYTES = 11 << 30
BF16_MIN_BYTES = 36 << 30
"""Least memory of a GPU for Flux in 4 bits (a card of 12 GB), and in bfloat16."""
INSTEAD = "or give a picture in image instead"


class ImageSource(Protocol):
    """Draws pictures from text."""

    def make(
        self, prompt: str, *, seed: int, size_px: int = SIZE_PX, on_progress: ProgressCallback | None = None
    ) -> Frame:
        """Return one picture (S, S, 3) uint8 RGB; the same seed gives the same picture on the same machine.

        ``on_progress`` is called as on_progress("image", steps done, steps); what it raises ends the work.
        """


def check_prompt(prompt: str) -> None:
    """Raise InputError if a prompt is nothing but spaces."""
    if not prompt.strip():
        raise InputError("The prompt is empty; describe the portrait, such as: an old sailor, oil painting.")


def find_portrait(
    make: Callable[[int], Frame],
    seed: int,
    *,
    source_name: str,
    force_face: bool = False,
    face: str = LARGEST,
) -> tuple[Portrait, int]:
    """Return a portrait and its seed: the first of ``make(seed)``, ``make(seed + 1)`` and so on with a face.

    Its notes name the seeds that failed. Raises NoFaceError if none of TRIES pictures has a usable face.
    """
    reason = ""
    for used in range(seed, seed + TRIES):
        try:
            portrait = detect_portrait(make(used), source_name=source_name, force_face=force_face, face=face)
        except NoFaceError as exc:
            reason = str(exc)
            continue
        if used == seed:
            return portrait, used
        note = f"no usable face with image seed {', '.join(map(str, range(seed, used)))}; used {used}"
        return replace(portrait, notes=(note, *portrait.notes)), used
    raise NoFaceError(
        f"No usable face in {TRIES} pictures, seeds {seed} to {seed + TRIES - 1} (the last: {reason}). "
        "Ask for a frontal portrait in prompt, or give a picture in image."
    )


class Flux:
    """An image source that runs a ``FluxPipeline`` from a folder in the layout of ``diffusers``.

    The memory of ``device`` decides the precision: NF4 from 12 GB, bfloat16 from 36 GB. On "cpu" it is
    float32, for which only small models have room.
    Errors are those of :func:`flux_precision`, and WeightsError if ``folder`` has no Flux pipeline.
    """

    def __init__(self, folder: Path, *, device: str = "cuda") -> None:
        torch, diffusers = _packages()
        precision = flux_precision(device)
        try:
            self._pipe = _load(torch, diffusers, folder, precision)
        except (OSError, ValueError, KeyError) as exc:
            raise WeightsError(
                f"'{folder}' is not a Flux pipeline ({str(exc).splitlines()[0]}). "
                f"Run: vortex weights fetch flux-schnell, {INSTEAD}."
            ) from exc
        self._pipe.set_progress_bar_config(disable=True)
        if precision == "nf4":
            # The card cannot hold text encoders, transformer and decoder at once: each is moved in when used.
            self._pipe.enable_model_cpu_offload()
        else:
            self._pipe.to(device)

    def make(
        self, prompt: str, *, seed: int, size_px: int = SIZE_PX, on_progress: ProgressCallback | None = None
    ) -> Frame:
        """Return one picture; see :class:`ImageSource`.

        Raises InputError for an empty prompt, or a size that is not a multiple of 16 from 64 to 2048;
        OutOfMemoryError if the GPU is full.
        """
        import torch

        check_prompt(prompt)
        if size_px % 16 or not 64 <= size_px <= 2048:
            raise InputError(f"The picture's size is {size_px} px; give a multiple of 16 from 64 to 2048.")

        def step_done(_pipe: Any, step: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
            if on_progress:
                on_progress("image", step + 1, STEPS)
            return values

        if on_progress:
            on_progress("image", 0, STEPS)
        try:
            pictures = self._pipe(
                prompt=prompt,
                height=size_px,
                width=size_px,
                num_inference_steps=STEPS,
                guidance_scale=0.0,
                max_sequence_length=MAX_PROMPT_TOKENS,
                generator=torch.Generator("cpu").manual_seed(seed),
                output_type="np",
                callback_on_step_end=step_done,
            ).images
        except torch.cuda.OutOfMemoryError as exc:
            raise OutOfMemoryError(
                f"The GPU has no room for a picture of {size_px} px. Close other programs on it, {INSTEAD}."
            ) from exc
        if not np.isfinite(pictures).all():
            raise EngineError(f"Flux made a picture that is not finite. Try another seed, {INSTEAD}.")
        return np.asarray(np.rint(np.clip(pictures[0], 0, 1) * 255), np.uint8)


def load_flux(folder: Path | None = None, *, device: str = "cuda") -> Flux:
    """Return Flux-schnell from ``folder``, or as fetched; errors of :func:`verify_weights`, :class:`Flux`."""
    flux_precision(device)  # First, because verify_weights reads 34 GB.
    return Flux(folder or verify_weights("flux-schnell"), device=device)


def flux_bytes(folder: Path | None) -> int:
    """Return the memory that Flux uses: :data:`FLUX_BYTES`, or an estimate for the pipeline in ``folder``.

    Weights use about as much memory as their files, and float32 computation as much again.
    """
    files = [] if folder is None else [file for file in folder.rglob("*") if file.is_file()]
    return 2 * sum(file.stat().st_size for file in files) if files else FLUX_BYTES


def _packages() -> tuple[Any, Any]:
    """Return the modules torch and diffusers."""
    try:
        from transformers.utils import logging as transformers_logging

        # Importing diffusers logs a warning about a preprocessor that Flux does not use.
        transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        import diffusers
        import torch

        diffusers.utils.logging.disable_progress_bar()
    except ImportError as exc:
        raise MissingExtraError(
            f"Flux needs {exc.name}, which is not installed. "
            f"Run: pip install 'vortex-portrait[image]', {INSTEAD}."
        ) from exc
    return torch, diffusers


def flux_precision(device: str) -> str:
    """Return in which precision Flux computes on a device: "fp32", "nf4" or "bf16".

    Raises MissingExtraError (extra "image"); DeviceUnavailableError, OutOfMemoryError: no GPU, a small one.
    """
    torch, _ = _packages()
    if device == "cpu":
        return "fp32"
    if not torch.cuda.is_available():
        raise DeviceUnavailableError(
            "Flux needs an NVIDIA GPU with 12 GB of memory, and none is usable here. "
            f"Run it on such a machine, {INSTEAD}."
        )
    total = torch.cuda.get_device_properties(device).total_memory
    if total < NF4_MIN_BYTES:
        raise OutOfMemoryError(
            f"Flux needs a GPU with 12 GB of memory; this one has {total / 2**30:.0f} GB. "
            f"Run it on a larger one, {INSTEAD}."
        )
    return "bf16" if total >= BF16_MIN_BYTES else "nf4"


def _load(torch: Any, diffusers: Any, folder: Path, precision: str) -> Any:
    if not (folder / "model_index.json").is_file():
        raise OSError("it has no model_index.json")
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    options: dict[str, Any] = {"dtype": dtype, "local_files_only": True}
    if precision == "nf4":
        options["quantization_config"] = diffusers.PipelineQuantizationConfig(
            quant_backend="bitsandbytes_4bit",
            quant_kwargs=dict(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
            ),
            components_to_quantize=["transformer", "text_encoder_2"],
        )
    return diffusers.FluxPipeline.from_pretrained(str(folder), **options)
