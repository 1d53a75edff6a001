"""Two CLIP models together measure how well the keyframes of a video match the prompt."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from vortex.errors import InputError, MissingExtraError, WeightsError
from vortex.performance import StageClock
from vortex.runtime.watchdog import Watchdog
from vortex.types import F32, Frame, read_only
from vortex.weights.cache import require_weights, verify_weights

CLIP_WEIGHTS: Mapping[str, float] = {"clip-vit-b32": 0.4, "clip-vit-l14": 0.6}
"""Name of each model -> its share in the ensemble."""
CLIP_BYTES = 1400 << 20
"""Most memory that both models use in bfloat16, work space included."""
KEYFRAMES = 5
PRECISIONS = ("bf16", "fp32")
_INSTALL = "CLIP needs {}, which is not installed. Run: pip install 'vortex-portrait[clip]'"


@dataclass(frozen=True, slots=True)
class ClipLimits:
    """What a video needs to pass."""

    min_score: float = 0.2
    """Least mean score, a cosine; a picture and its own caption have about 0.25 to 0.3 (OpenAI's weights)."""
    min_likeness: float = 0.75
    """A keyframe is an outlier if the cosine of its embedding with the others' mean embedding is smaller."""


@dataclass(frozen=True, slots=True, eq=False)
class ClipReport:
    """How the keyframes of one video, given by frame number, compare with the prompt.

    ``scores`` has for each model the cosines of the keyframes with the prompt, ``ensemble`` their weighted
    sums. ``embedding`` is (D,) float32, the L2-normalised mean of the keyframes, where the embeddings of both
    models are concatenated, each multiplied by the square root of its share, so that their dot products are
    ensemble scores, too. ``outliers`` are keyframes unlike the others.
    """

    prompt: str
    keyframes: tuple[int, ...]
    scores: Mapping[str, tuple[float, ...]]
    ensemble: tuple[float, ...]
    embedding: F32
    outliers: tuple[int, ...]
    limits: ClipLimits

    def __post_init__(self) -> None:
        """Make the array read-only."""
        object.__setattr__(self, "embedding", read_only(self.embedding, np.float32))

    @property
    def score(self) -> float:
        """Mean of the ensemble over the keyframes."""
        return float(np.mean(self.ensemble))

    def complaints(self) -> list[str]:
        """Return what is wrong, one sentence each; nothing if the whole video shows the prompt."""
        complaints = []
        if self.score < self.limits.min_score:
            complaints.append(
                f"the picture does not show the prompt (CLIP {self.score:.3f}, not {self.limits.min_score:g})"
            )
        if self.outliers:
            complaints.append(f"frames {', '.join(map(str, self.outliers))} are unlike the other keyframes")
        return complaints


def keyframe_indices(frames: int) -> tuple[int, ...]:
    """Return the middle frames of KEYFRAMES equal parts of a video; of a short video, each frame once."""
    middles = {(2 * part + 1) * frames // (2 * KEYFRAMES) for part in range(KEYFRAMES)}
    return tuple(sorted(middles)) if frames else ()


def preprocess(frames: Sequence[Frame], settings: Mapping[str, Any]) -> F32:
    """Return the input of CLIP, (N, 3, S, S) float32 (Radford et al. 2021, ``_transform`` in their code).

    Bicubic resampling with antialiasing makes the shorter side S; a centre crop, scaling to [0, 1] and
    normalisation of each channel follow. ``settings`` is the content of ``preprocessor_config.json``.
    """
    from PIL import Image

    size, crop = _side(settings["size"]), _side(settings["crop_size"])
    mean = np.array(settings["image_mean"], np.float32)
    deviation = np.array(settings["image_std"], np.float32)
    pictures = np.empty((len(frames), 3, crop, crop), np.float32)
    for row, frame in enumerate(frames):
        picture = Image.fromarray(frame)
        scale = size / min(picture.size)
        width, height = (max(int(side * scale), size) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - crop) // 2, (height - crop) // 2
        values = np.asarray(picture.crop((left, top, left + crop, top + crop)), np.float32) / 255
        pictures[row] = ((values - mean) / deviation).transpose(2, 0, 1)
    return pictures


def _side(size: Any) -> int:
    return int(size.get("shortest_edge") or size["height"]) if isinstance(size, dict) else int(size)


class ClipModel:
    """One CLIP model from a folder in the layout of ``transformers``. Safe to use from many threads at once.

    Precision "bf16" needs half the memory of "fp32"; embeddings of both have a cosine of at least 0.9996.
    Raises InputError: another precision; MissingExtraError: no extra "clip"; WeightsError: no CLIP model.
    """

    def __init__(self, folder: Path, *, precision: str = "bf16") -> None:
        if precision not in PRECISIONS:
            raise InputError(f"Unknown precision {precision!r}; CLIP runs in {' and '.join(PRECISIONS)}.")
        try:
            import torch
            from transformers import CLIPModel, CLIPTokenizer
            from transformers.utils import logging
        except ImportError as exc:
            raise MissingExtraError(_INSTALL.format(exc.name)) from exc
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._settings: Mapping[str, Any] = json.loads((folder / "preprocessor_config.json").read_bytes())
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            model = CLIPModel.from_pretrained(folder, local_files_only=True, dtype=dtype)
            self._tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as exc:
            raise WeightsError(
                f"'{folder}' is not a CLIP model ({str(exc).splitlines()[0]}). "
                "Give a folder that transformers saved, or run: vortex weights fetch clip-vit-b32"
            ) from exc
        self._model: Any = model.eval()  # type: ignore[no-untyped-call]
        self._model.to(self.device)

    def embed_frames(self, frames: Sequence[Frame]) -> F32:
        """Return (N, D) float32, L2-normalised rows, of frames (H, W, 3) uint8 RGB."""
        import torch

        pixels = torch.from_numpy(preprocess(frames, self._settings))
        with torch.inference_mode():
            return _normalised(self._model.get_image_features(pixels.to(self.device, self._model.dtype)))

    def embed_text(self, text: str) -> F32:
        """Return (1, D) float32, L2-normalised; a text longer than the model's input is truncated."""
        import torch

        tokens = self._tokenizer([text], padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            return _normalised(self._model.get_text_features(**tokens.to(self.device)))


def _normalised(output: Any) -> F32:
    # transformers 5 returns an output that contains the features, transformers 4 the features.
    rows = getattr(output, "pooler_output", output).float().cpu().numpy()
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


class ClipEnsemble:
    """Weighted CLIP models: embeds frames, and reports on a video."""

    def __init__(self, models: Mapping[str, ClipModel]) -> None:
        total = sum(CLIP_WEIGHTS[name] for name in models)
        self._models = [(name, CLIP_WEIGHTS[name] / total, model) for name, model in models.items()]

    def embed_frames(self, frames: Sequence[Frame]) -> F32:
        """Return (N, D) float32, L2-normalised rows: the scaled embeddings of all models, concatenated."""
        return np.hstack([share**0.5 * model.embed_frames(frames) for _, share, model in self._models])

    def compare(
        self, embeddings: F32, keyframes: Sequence[int], prompt: str, limits: ClipLimits | None = None
    ) -> ClipReport:
        """Return the report on N keyframes with these ``embeddings`` (N, D)."""
        limits = limits or ClipLimits()
        texts = [share**0.5 * model.embed_text(prompt) for _, share, model in self._models]
        products = embeddings * np.hstack(texts)
        parts = np.split(products, np.cumsum([text.shape[1] for text in texts])[:-1], axis=1)
        mean = embeddings.mean(axis=0)
        return ClipReport(
            prompt=prompt,
            keyframes=tuple(keyframes),
            scores={
                name: tuple(map(float, part.sum(axis=1) / share))
                for (name, share, _), part in zip(self._models, parts, strict=True)
            },
            ensemble=tuple(map(float, products.sum(axis=1))),
            embedding=mean / np.linalg.norm(mean),
            outliers=tuple(keyframes[row] for row in find_outliers(embeddings, limits.min_likeness)),
            limits=limits,
        )


def find_outliers(embeddings: F32, min_likeness: float) -> tuple[int, ...]:
    """Return the rows (N, D) whose cosine with the mean of the other rows is below ``min_likeness``."""
    if len(embeddings) < 3:
        return ()
    others = embeddings.sum(axis=0) - embeddings
    lengths = np.linalg.norm(others, axis=1) * np.linalg.norm(embeddings, axis=1)
    likeness = (others * embeddings).sum(axis=1) / np.maximum(lengths, 1e-9)
    return tuple(int(row) for row in np.flatnonzero(likeness < min_likeness))


def load_clip(folders: Mapping[str, Path] | None = None, *, precision: str = "bf16") -> ClipEnsemble:
    """Return the ensemble of :data:`CLIP_WEIGHTS`, from the fetched weights or from a folder for each name.

    Errors are those of :func:`verify_weights` and :class:`ClipModel`.
    """
    found = folders or {name: verify_weights(name) for name in CLIP_WEIGHTS}
    return ClipEnsemble({name: ClipModel(path, precision=precision) for name, path in found.items()})


def check_clip(folders: Mapping[str, Path] | None = None) -> None:
    """Make sure, without loading anything, that :func:`load_clip` has what it needs.

    Raises MissingExtraError without the extra "clip", WeightsMissingError without fetched weights.
    """
    for package in ("torch", "transformers"):
        if find_spec(package) is None:
            raise MissingExtraError(_INSTALL.format(package))
    if folders is None:
        for name in CLIP_WEIGHTS:
            require_weights(name)


class Keyframes:
    """Embeds keyframes in a thread while other frames are rendered; ``use()`` yields the ensemble."""

    def __init__(
        self, use: Callable[[], AbstractContextManager[ClipEnsemble]], watchdog: Watchdog, clock: StageClock
    ) -> None:
        self._use, self._watchdog, self._clock = use, watchdog, clock
        self._start_s: float | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="vortex-clip")
        self._embeddings: dict[int, Future[F32]] = {}

    def on_frame(self, index: int, total: int, frame: Frame) -> None:
        """Queue a copy of the frame if it is a keyframe; the renderer may reuse its buffer."""
        if index in keyframe_indices(total):
            self._embeddings[index] = self._worker.submit(self._embed, frame.copy())

    def _embed(self, frame: Frame) -> F32:
        self._watchdog.check()
        if self._start_s is None:
            self._start_s = self._clock.now_s()
        with self._use() as ensemble:
            embedding = ensemble.embed_frames([frame])
        self._clock.add("clip", self._start_s)
        return embedding

    def compare(self, prompt: str, limits: ClipLimits) -> ClipReport:
        """Wait until all keyframes are embedded, and compare them with the prompt."""
        rows = np.concatenate([future.result() for future in self._embeddings.values()])
        with self._use() as ensemble:
            return ensemble.compare(rows, list(self._embeddings), prompt, limits)

    def close(self) -> None:
        """Drop the queued keyframes."""
        self._worker.shutdown(wait=False, cancel_futures=True)
