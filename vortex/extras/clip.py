"""Does the video show what was asked for? CLIP compares keyframes with the prompt, two models together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vortex.errors import InputError, MissingExtraError, WeightsError
from vortex.types import Frame, read_only

F32 = npt.NDArray[np.float32]

CLIP_WEIGHTS: Mapping[str, float] = {"clip-vit-b32": 0.4, "clip-vit-l14": 0.6}
"""Share of each model in the ensemble."""
KEYFRAMES = 5
PRECISIONS = ("bf16", "fp32")


@dataclass(frozen=True, slots=True)
class ClipLimits:
    """What passes.

    ``min_score`` is the least mean ensemble score, a cosine of picture and prompt, over the keyframes; with
    OpenAI's weights a picture and its own caption have about 0.25 to 0.3. A keyframe is an outlier if its
    embedding's cosine with the mean of the other keyframes is below ``min_likeness``.
    """

    min_score: float = 0.2
    min_likeness: float = 0.75


@dataclass(frozen=True, slots=True, eq=False)
class ClipReport:
    """What CLIP says of the keyframes of one video.

    ``scores`` gives for each model its cosines with the prompt, one for each keyframe; ``ensemble`` their
    weighted sum; ``embedding`` (D,) float32 is the mean of the keyframes, L2-normalised, of both models side
    by side, each scaled by the root of its share, so that products of embeddings are ensemble scores too.
    """

    prompt: str
    keyframes: tuple[int, ...]
    scores: Mapping[str, tuple[float, ...]]
    ensemble: tuple[float, ...]
    embedding: F32
    outliers: tuple[int, ...]
    limits: ClipLimits = field(default_factory=ClipLimits)

    def __post_init__(self) -> None:
        """Make the array read-only."""
        object.__setattr__(self, "embedding", read_only(self.embedding, np.float32))

    @property
    def score(self) -> float:
        """Mean of the ensemble over the keyframes."""
        return float(np.mean(self.ensemble))

    def complaints(self) -> list[str]:
        """Return what is wrong, in words; empty if the video shows the prompt throughout."""
        found = []
        if self.score < self.limits.min_score:
            found.append(
                f"the picture does not show the prompt (CLIP {self.score:.3f}, not {self.limits.min_score:g})"
            )
        if self.outliers:
            found.append(f"frames {', '.join(map(str, self.outliers))} look unlike the others to CLIP")
        return found


def keyframe_indices(frames: int, count: int = KEYFRAMES) -> tuple[int, ...]:
    """Return the middles of ``count`` equal parts of a video; of a short one, each frame once."""
    return tuple(sorted({(2 * part + 1) * frames // (2 * count) for part in range(count)})) if frames else ()


def preprocess(frames: Sequence[Frame], settings: Mapping[str, Any]) -> F32:
    """Return (N, 3, S, S) float32 as CLIP was trained on (Radford et al. 2021, code of 2021, ``_transform``).

    Shorter side to S by bicubic resampling with antialiasing, centre crop, [0, 1], normalised by channel.
    ``settings`` are those of ``preprocessor_config.json``.
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

    ``precision`` is "bf16", half the memory and a cosine of 0.9996 or more with "fp32".

    Raises:
        InputError: unknown precision.
        MissingExtraError: the extra "clip" is not installed.
        WeightsError: no such folder, or something else in it.
    """

    def __init__(self, folder: Path, *, precision: str = "bf16", device: str | None = None) -> None:
        if precision not in PRECISIONS:
            raise InputError(f"Unknown precision {precision!r}; CLIP runs in {' and '.join(PRECISIONS)}.")
        try:
            import torch
            from transformers import CLIPModel, CLIPTokenizer
            from transformers.utils import logging
        except ImportError as exc:
            raise MissingExtraError(
                f"CLIP needs {exc.name}, which is not installed. Run: pip install 'vortex-portrait[clip]'"
            ) from exc
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            text = (folder / "preprocessor_config.json").read_text(encoding="utf-8")
            self._settings: Mapping[str, Any] = json.loads(text)
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

    def embed_frames(self, frames: Sequence[Frame], *, batch: int = 8) -> F32:
        """Return (N, D) float32, L2-normalised rows, of frames (H, W, 3) uint8 RGB."""
        import torch

        rows = []
        for first in range(0, len(frames), batch):
            pixels = torch.from_numpy(preprocess(frames[first : first + batch], self._settings))
            with torch.inference_mode():
                rows.append(self._model.get_image_features(pixels.to(self.device, self._model.dtype)))
        return self._normalised(rows)

    def embed_texts(self, texts: Sequence[str]) -> F32:
        """Return (N, D) float32, L2-normalised rows; what is longer than the model reads is cut."""
        import torch

        tokens = self._tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            return self._normalised([self._model.get_text_features(**tokens.to(self.device))])

    def _normalised(self, parts: Sequence[Any]) -> F32:
        # transformers 5 returns the features inside an output, 4 returned them bare
        bare = [getattr(part, "pooler_output", part) for part in parts]
        rows = np.concatenate([part.float().cpu().numpy() for part in bare])
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


class ClipEnsemble:
    """Models with their shares: embeds keyframes as they come, and reports in the end."""

    def __init__(self, models: Mapping[str, ClipModel], shares: Mapping[str, float] = CLIP_WEIGHTS) -> None:
        total = sum(shares[name] for name in models)
        self._models = {name: (model, shares[name] / total) for name, model in models.items()}

    def embed_frames(self, frames: Sequence[Frame]) -> F32:
        """Return (N, D) float32: the embeddings of all models side by side, of length 1 as a whole."""
        return self._side_by_side([model.embed_frames(frames) for model, _ in self._models.values()])

    def embed_text(self, text: str) -> F32:
        """Return (D,) float32, to be multiplied with those of frames."""
        rows = self._side_by_side([model.embed_texts([text]) for model, _ in self._models.values()])
        return np.asarray(rows[0], np.float32)

    def _side_by_side(self, parts: Sequence[F32]) -> F32:
        roots = [share**0.5 for _, share in self._models.values()]
        self._widths = [part.shape[1] for part in parts]
        scaled = [root * part for root, part in zip(roots, parts, strict=True)]
        return np.asarray(np.concatenate(scaled, axis=1), np.float32)

    def compare(
        self, embeddings: F32, keyframes: Sequence[int], prompt: str, limits: ClipLimits | None = None
    ) -> ClipReport:
        """Return the report on the keyframes whose embeddings (N, D) those are."""
        limits = limits or ClipLimits()
        products = embeddings * self.embed_text(prompt)
        edges = np.cumsum([0, *self._widths])
        scores = {
            name: products[:, first:last].sum(axis=1) / share
            for (name, (_, share)), first, last in zip(
                self._models.items(), edges[:-1], edges[1:], strict=True
            )
        }
        mean = embeddings.mean(axis=0)
        return ClipReport(
            prompt=prompt,
            keyframes=tuple(keyframes),
            scores={name: tuple(map(float, values)) for name, values in scores.items()},
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


def load_clip(
    folders: Mapping[str, Path] | None = None, *, precision: str = "bf16", device: str | None = None
) -> ClipEnsemble:
    """Return the ensemble of :data:`CLIP_WEIGHTS`, from fetched weights or from other folders of these names.

    Raises:
        WeightsMissingError, WeightsCorruptError: the message says what to fetch.
        InputError, MissingExtraError, WeightsError: see :class:`ClipModel`.
    """
    from vortex.weights import verify_weights

    found = folders or {name: verify_weights(name) for name in CLIP_WEIGHTS}
    models = {name: ClipModel(path, precision=precision, device=device) for name, path in found.items()}
    return ClipEnsemble(models)
