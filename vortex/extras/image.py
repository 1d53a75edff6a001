"""A prompt becomes a portrait: Flux through diffusers, and the search for a picture with a usable face."""

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
from vortex.portrait import detect_portrait
from vortex.types import Frame, Hook, Portrait

STEPS = 4
"""Flux-schnell is distilled to this number of steps, without guidance."""
SIZE_PX = 512
MAX_PROMPT_TOKENS = 256
TRIES = 4
NF4_MIN_BYTES = 11 << 30
BF16_MIN_BYTES = 36 << 30
"""Memory of a GPU from which Flux runs in 4 bits (a card of 12 GB), and in bfloat16."""
INSTEAD = "or give a picture file with --image instead"


class ImageSource(Protocol):
    """Makes pictures from text."""

    @property
    def name(self) -> str:
        """What makes the pictures."""
        ...

    def make(self, prompt: str, *, seed: int, size_px: int = SIZE_PX, hook: Hook | None = None) -> Frame:
        """Return one picture (S, S, 3) uint8 RGB; the same seed gives the same picture on the same machine.

        ``hook`` is called as hook("image", steps done, steps); what it raises ends the work.
        """
        ...


class Flux:
    """A FluxPipeline from a folder in the layout of ``diffusers``.

    ``device`` is "cuda" unless given. Precision follows the memory of the GPU: NF4 from 12 GB, bfloat16 from
    36 GB; "cpu" computes in float32, which the real model is too large for, and small ones are not.

    Raises:
        MissingExtraError: the extra "image" is not installed.
        DeviceUnavailableError, OutOfMemoryError: no GPU, or one too small.
        WeightsError: no such folder, or something else in it.
    """

    name = "flux-schnell"

    def __init__(self, folder: Path, *, device: str | None = None) -> None:
        torch, diffusers = _packages()
        self.device = device or "cuda"
        precision = _precision(torch, self.device)
        try:
            self._pipe = _load(torch, diffusers, folder, precision)
        except (OSError, ValueError, KeyError) as exc:
            raise WeightsError(
                f"'{folder}' is not a Flux pipeline ({str(exc).splitlines()[0]}). "
                f"Run: vortex weights fetch flux-schnell, {INSTEAD}."
            ) from exc
        self._pipe.set_progress_bar_config(disable=True)
        if precision == "nf4":
            # text encoders, transformer and decoder take turns on a card that cannot hold all of them
            self._pipe.enable_model_cpu_offload()
        else:
            self._pipe.to(self.device)

    def make(self, prompt: str, *, seed: int, size_px: int = SIZE_PX, hook: Hook | None = None) -> Frame:
        """Return one picture; see :class:`ImageSource`.

        Raises:
            InputError: an empty prompt, or a size that is no multiple of 16 from 64 to 2048.
            OutOfMemoryError: the GPU is full.
        """
        import torch

        check_prompt(prompt)
        if size_px % 16 or not 64 <= size_px <= 2048:
            raise InputError(f"The picture's size is {size_px} px; give a multiple of 16 from 64 to 2048.")

        def step_done(_pipe: Any, step: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
            if hook:
                hook("image", step + 1, STEPS)
            return values

        if hook:
            hook("image", 0, STEPS)
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


def check_prompt(prompt: str) -> None:
    """Make sure that there is something to draw.

    Raises:
        InputError: nothing but spaces.
    """
    if not prompt.strip():
        raise InputError("The prompt is empty; describe the portrait, such as: an old sailor, oil painting.")


def load_flux(folder: Path | None = None, *, device: str | None = None) -> Flux:
    """Return Flux-schnell from the fetched weights, or from another folder.

    Raises:
        WeightsMissingError, WeightsCorruptError: the message says what to fetch.
        MissingExtraError, EngineError, WeightsError: see :class:`Flux`.
    """
    from vortex.weights import verify_weights

    check_device(device or "cuda")  # before 34 GB are read
    return Flux(folder or verify_weights("flux-schnell"), device=device)


def check_device(device: str) -> None:
    """Make sure that Flux can compute on a device.

    Raises:
        MissingExtraError: the extra "image" is not installed.
        DeviceUnavailableError, OutOfMemoryError: no GPU, or one too small.
    """
    torch, _ = _packages()
    _precision(torch, device)


def find_portrait(
    make: Callable[[int], Frame], seed: int, *, tries: int = TRIES, source_name: str = "picture"
) -> tuple[Portrait, int]:
    """Return a portrait and its seed: the first picture of ``make(seed)``, ``make(seed + 1)``... with a face.

    The portrait's notes tell which seeds failed.

    Raises:
        NoFaceError: none of them has a usable face.
    """
    reason = ""
    for attempt in range(tries):
        try:
            portrait = detect_portrait(make(seed + attempt), source_name=source_name)
        except NoFaceError as exc:
            reason = str(exc)
            continue
        if attempt:
            failed = ", ".join(str(seed + earlier) for earlier in range(attempt))
            note = f"no usable face with image seed {failed}; used {seed + attempt}"
            portrait = replace(portrait, notes=(note, *portrait.notes))
        return portrait, seed + attempt
    raise NoFaceError(
        f"No usable face in {tries} pictures, seeds {seed} to {seed + tries - 1} (the last: {reason}). "
        "Ask for a frontal portrait in the prompt, or give a picture file with --image."
    )


# ---------------------------------------- packages and precision


def _packages() -> tuple[Any, Any]:
    try:
        from transformers.utils import logging as transformers_logging

        # it tells of a preprocessor that Flux does not use, when diffusers is imported
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


def _precision(torch: Any, device: str) -> str:
    """Return "fp32", "nf4" or "bf16"."""
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
    options: dict[str, Any] = {
        "dtype": torch.float32 if precision == "fp32" else torch.bfloat16,
        "local_files_only": True,
    }
    if precision == "nf4":
        options["quantization_config"] = diffusers.PipelineQuantizationConfig(
            quant_backend="bitsandbytes_4bit",
            quant_kwargs={
                "load_in_4bit": True,
                "bnb_4bit_quant_type": "nf4",
                "bnb_4bit_compute_dtype": torch.bfloat16,
            },
            components_to_quantize=["transformer", "text_encoder_2"],
        )
    return diffusers.FluxPipeline.from_pretrained(str(folder), **options)
