"""What ``generate`` takes and returns: the request, the loaders of its models, the report, its timeline."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vortex.errors import InputError
from vortex.face.portrait import PortraitSource
from vortex.generate.clip import CLIP_BYTES, CLIP_WEIGHTS, ClipEnsemble, ClipReport, check_clip, load_clip
from vortex.generate.drawing import (
    FLUX_BYTES,
    ImageSource,
    check_prompt,
    flux_bytes,
    flux_precision,
    load_flux,
)
from vortex.lipsync.sync import SyncReport
from vortex.options import GenerateOptions
from vortex.render import report_as_json
from vortex.speech.base import Speech
from vortex.speech.text import split_sentences
from vortex.types import RenderReport


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """A text to speak, and the portrait that speaks it: ``image``, or one drawn from ``options.prompt``.

    With both, the picture is used and compared with the prompt. The seed decides drawing and idle motion.
    Raises InputError without words, without picture and prompt, for an empty prompt, or a missing picture;
    MissingExtraError without the extra "speech".
    """

    text: str
    image: PortraitSource | None
    options: GenerateOptions

    def __post_init__(self) -> None:
        """Check what can be checked before any work starts."""
        split_sentences(self.text)
        if self.image is None and self.options.prompt is None:
            raise InputError("There is no portrait. Describe it in prompt, or give a picture in image.")
        if self.options.prompt is not None:
            check_prompt(self.options.prompt)
        if isinstance(self.image, str | os.PathLike) and not os.path.isfile(self.image):
            raise InputError(f"Picture '{self.image}' does not exist. Give a picture file with a face.")

    @property
    def compares_prompt(self) -> bool:
        """Whether CLIP has to compare the video with the prompt."""
        return self.options.verify_prompt and self.options.prompt is not None


@dataclass(frozen=True, slots=True)
class ModelLoaders:
    """How to load the models that draw (``images``) and compare (``clip``) pictures.

    ``..._name`` names them in the model cache, ``..._bytes`` is the memory that they need: those that draw on
    ``images_device``, those that compare on the CPU.
    """

    images: Callable[[], ImageSource] = load_flux
    images_name: str = "flux-schnell"
    images_device: str = "cuda"
    images_bytes: int = FLUX_BYTES
    clip: Callable[[], ClipEnsemble] = load_clip
    clip_name: str = "clip"
    clip_bytes: int = CLIP_BYTES


def choose_loaders(request: GenerateRequest) -> ModelLoaders:
    """Return the loaders that the options of a request name, after a check that they can work here.

    Raises InputError if ``clip_models`` does not name two folders; MissingExtraError, EngineError or
    WeightsMissingError if no picture can be drawn, or CLIP cannot run here.
    """
    options = request.options
    if request.image is None:
        flux_precision(options.image_device)
    folders = None
    if options.clip_models:
        paths = [Path(folder) for folder in options.clip_models.split(",")]
        if len(paths) != len(CLIP_WEIGHTS):
            raise InputError(
                f"clip_models is {options.clip_models!r}; give two folders with a comma between."
            )
        folders = dict(zip(CLIP_WEIGHTS, paths, strict=True))
    if request.compares_prompt:
        check_clip(folders)
    image_folder = Path(options.image_model) if options.image_model else None
    return ModelLoaders(
        images=lambda: load_flux(image_folder, device=options.image_device),
        images_name=options.image_model or "flux-schnell",
        images_device=options.image_device,
        images_bytes=flux_bytes(image_folder),
        clip=lambda: load_clip(folders),
        clip_name=options.clip_models or "clip",
    )


@dataclass(frozen=True, slots=True)
class GenerateReport:
    """What was made, and whether it passed the verification.

    ``prompt`` described the portrait; ``image_seed`` is that of the drawn picture, None if it was given.
    ``clip`` (the comparison with the prompt) and ``sync`` are None if they were left out. ``spans_s`` has
    start and end of each stage in seconds. ``notes`` are for the reader, ``complaints`` what did not pass.
    """

    video: RenderReport
    speech: Speech
    prompt: str | None
    image_seed: int | None
    clip: ClipReport | None
    sync: SyncReport | None
    spans_s: dict[str, tuple[float, float]]
    notes: tuple[str, ...]
    complaints: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the report as values that JSON can hold."""
        clip = self.clip and {
            "score": self.clip.score,
            "scores": {name: list(values) for name, values in self.clip.scores.items()},
            "ensemble": list(self.clip.ensemble),
            "keyframes": list(self.clip.keyframes),
            "outliers": list(self.clip.outliers),
            "limits": asdict(self.clip.limits),
            "embedding": [round(float(value), 6) for value in self.clip.embedding],
        }
        total_s = max(end_s for _, end_s in self.spans_s.values())
        return {
            "video": report_as_json(self.video, total_s),
            "speech": {
                "engine": self.speech.engine,
                "voice": self.speech.voice,
                "words": self.speech.words,
                "duration_s": float(self.speech.audio.duration_s),
                "phonemes": [asdict(span) for span in self.speech.phonemes],
            },
            "image": {"prompt": self.prompt, "seed": self.image_seed},
            "clip": clip,
            "sync": self.sync and self.sync.as_json(),
            "stages": {
                name: {"start_s": round(start_s, 3), "end_s": round(end_s, 3)}
                for name, (start_s, end_s) in sorted(self.spans_s.items(), key=lambda item: item[1])
            },
            "notes": list(self.notes),
            "complaints": list(self.complaints),
        }


_COLOURS = ("#16425b", "#2a9d5c", "#d1495b", "#edae49", "#7768ae", "#3a7ca5", "#8d6a4f", "#5b8e7d")


def plot_timeline(path: Path, spans_s: Mapping[str, tuple[float, float]], title: str = "") -> None:
    """Write a PNG with one bar for each stage, from its start to its end in seconds, in order of start."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = sorted(spans_s.items(), key=lambda row: row[1])
    total_s = max((end_s for _, (_, end_s) in rows), default=1.0)
    gap_s = 0.006 * total_s
    figure = Figure(figsize=(9, 0.9 + 0.36 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    for row, (_, (start_s, end_s)) in enumerate(rows):
        axes.barh(row, end_s - start_s, left=start_s, height=0.62, color=_COLOURS[row % len(_COLOURS)])
        # The label is beside its bar where there is room: to the right, or to the left, or else inside.
        at_s, side, colour = end_s + gap_s, "left", "black"
        if end_s > 0.9 * total_s and start_s > 0.1 * total_s:
            at_s, side = start_s - gap_s, "right"
        elif end_s > 0.9 * total_s:
            at_s, side, colour = end_s - gap_s, "right", "white"
        label = f"{end_s - start_s:.2f} s"
        axes.text(at_s, row, label, va="center", ha=side, color=colour, fontsize="small")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.invert_yaxis()
    axes.set(xlim=(0, total_s * 1.02), xlabel="seconds", title=title)
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(path, dpi=110, format="png")
