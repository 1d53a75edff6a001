"""Videos on devices that take seconds for a frame: how long they will take, and how they go on after a kill.

What the networks rendered is kept in a file at once, named by all that it depends on: the weights, versions,
device, portrait and keypoints. Whoever renders the same video again reads it instead. With the quality "fast"
these are the key frames, all rendered before the first frame of the video; with "full", the pixels that
change, rendered frame by frame.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vortex.engines.base import Forecast
from vortex.engines.liveportrait.fast.reuse import ReusePlan
from vortex.engines.liveportrait.renderer import PreparedFace, Renderer, ReuseRenderer, pixels_of
from vortex.motion.transfer import Motion
from vortex.runtime.results import ResultFolder
from vortex.types import Frame
from vortex.version import __version__


class NetworkFrames:
    """What the networks have to render for one video; each result is kept in a folder once it is there.

    ``x_d`` (N, 21, 3) are their keypoints: those of the key frames of a ``plan`` (quality "fast"), or of all
    frames. Results are uint8: squares (3, 512, 512), or boxes (h, w, 3).
    """

    def __init__(
        self, renderer: Renderer, results: ResultFolder, prepared: PreparedFace, motion: Motion, quality: str
    ) -> None:
        self.renderer, self.results, self.prepared, self.total = renderer, results, prepared, len(motion)
        self.plan: ReusePlan | None = None
        if quality == "fast":
            self.plan, self.driven = renderer.plan_driven(prepared, motion)
            self.x_d = self.driven[torch.from_numpy(self.plan.keys).to(self.driven.device)]
            self.shape: tuple[int, ...] = (3, *(renderer.networks.sizes.output_px,) * 2)
        else:
            # Other numbers at once are rounded differently, and these frames must be those of the renderer.
            self.x_d = renderer.driven(prepared, motion, renderer.batch_frames)
            x0, y0, x1, y1 = prepared.box
            self.shape = (y1 - y0, x1 - x0, 3)
        self.identity = hashlib.sha256(weights_digest(renderer) + _digest_of(prepared, quality, renderer))
        self.names = [self._name(x) for x in self.x_d.cpu().numpy()]

    def __len__(self) -> int:
        """Return how many frames the networks render."""
        return len(self.names)

    def _name(self, x_d: npt.NDArray[np.float32]) -> str:
        digest = self.identity.copy()
        digest.update(x_d.tobytes())
        return digest.hexdigest()

    def get(self, indices: list[int]) -> Tensor:
        """Return the results (B, ...) uint8 of some frames, read from the folder or rendered."""
        found = {index: self._read(self.names[index]) for index in indices}
        missing = [index for index in indices if found[index] is None]
        if missing:
            rendered = self.renderer.guarded(partial(self._render, missing))
            for index, result in zip(missing, rendered, strict=True):
                self.results.write(self.names[index], result.numpy().tobytes())
                found[index] = result
        return torch.stack([result for result in found.values() if result is not None])

    def _read(self, name: str) -> Tensor | None:
        content = self.results.read(name)
        if content is None or len(content) != np.prod(self.shape):
            return None
        return torch.frombuffer(bytearray(content), dtype=torch.uint8).view(self.shape)

    @torch.no_grad()
    def _render(self, indices: list[int]) -> Tensor:
        squares = self.renderer.render_square(self.prepared, self.x_d[indices])
        if self.plan is not None:
            return (squares * 255 + 0.5).byte()
        grid = self.prepared.grid.expand(len(indices), -1, -1, -1)
        return pixels_of(self.renderer.paste(self.prepared, squares, grid))

    def batches(self, indices: list[int]) -> Iterator[list[int]]:
        """Yield the indices in groups that are rendered at once."""
        for start in range(0, len(indices), self.renderer.batch_frames):
            yield indices[start : start + self.renderer.batch_frames]

    def iter_frames(self) -> Iterator[Frame]:
        """Yield the frames (H, W, 3) of the video."""
        for pixels in self._iter_pixels():
            yield from self.prepared.frames_of(pixels.numpy())

    def _iter_pixels(self) -> Iterator[Tensor]:
        """Yield (B, h, w, 3) uint8: the boxes of the next B frames."""
        frames = list(range(self.total))
        if self.plan is None:
            yield from map(self.get, self.batches(frames))
            return
        reuse = ReuseRenderer(self.renderer, self.prepared, self.plan, self.driven, self.get)
        for batch in self.batches(frames):
            rows = slice(batch[0], batch[-1] + 1)
            yield pixels_of(self.renderer.guarded(partial(reuse.render, rows)))

    def missing(self) -> list[int]:
        """Return the frames that are not in the folder."""
        return [index for index, name in enumerate(self.names) if name not in self.results]

    def forecast(self) -> Forecast:
        """Return how long the missing frames will take: one is rendered to warm up, the next ones timed."""
        missing = list(self.batches(self.missing()))
        took_s = 0.0
        for batch in missing[:2]:
            start_s = time.perf_counter()
            self.get(batch)
            took_s = (time.perf_counter() - start_s) / len(batch)
        left = sum(map(len, missing[2:]))
        return Forecast(frames=self.total, full=len(self), left=left, frame_s=took_s)

    def render_ahead(self, on_progress: Callable[[int, int], None]) -> None:
        """Render what every frame of the video may need, as far as there is room for it."""
        if self.plan is None:
            return
        missing = self.missing()
        done = len(self) - len(missing)
        on_progress(done, len(self))
        for batch in self.batches(missing):
            self.get(batch)
            if any(self.names[index] not in self.results for index in batch):
                return
            done += len(batch)
            on_progress(done, len(self))

    def discard(self) -> None:
        """Delete the results of this video."""
        self.results.remove(self.names)


def weights_digest(renderer: Renderer) -> bytes:
    """Return the SHA-256 of the networks that render, of versions and the device; computed once."""
    if renderer.digest is None:
        networks = renderer.networks
        digest = hashlib.sha256(f"{__version__} {torch.__version__} {renderer.device}".encode())
        for tensor in chain(networks.warping.state_dict().values(), networks.generator.state_dict().values()):
            digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        renderer.digest = digest.digest()
    return renderer.digest


def _digest_of(prepared: PreparedFace, quality: str, renderer: Renderer) -> bytes:
    """Return the SHA-256 of all that rendering reads of a portrait."""
    digest = hashlib.sha256(f"{quality} {prepared.shrink} {prepared.box} {prepared.canvas.shape}".encode())
    digest.update(prepared.canvas.tobytes())
    warp = prepared.warp
    for tensor in (warp.feature_3d, warp.x_s, prepared.ground, prepared.alpha, prepared.grid):
        digest.update(tensor.float().cpu().contiguous().numpy().data)
    return digest.digest()
