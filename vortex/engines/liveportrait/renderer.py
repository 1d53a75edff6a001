"""Portrait and motion to pictures on a device: the networks in order, batch by batch, pasted back."""

from __future__ import annotations

import importlib.util
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from vortex.engines.liveportrait.device import repeatable, resolve_device, resolve_dtype
from vortex.engines.liveportrait.keypoints import eye_ratios, lip_ratio
from vortex.engines.liveportrait.memory import DEFAULT_BUDGET_BYTES, fit_frames, networks_bytes
from vortex.engines.liveportrait.modulation import Standardise, TorchStandard
from vortex.engines.liveportrait.networks import Networks, WarpSource, load_networks
from vortex.engines.liveportrait.retarget import (
    DrivenTrack,
    SourceFace,
    drive_expression,
    driven_keypoints,
    measure_source,
)
from vortex.engines.liveportrait.reuse import REUSE_DISTANCE, ReusePlan, displacement, plan_reuse
from vortex.engines.liveportrait.rewrites import modulate_by, rewrite_networks
from vortex.errors import InputError, OutOfMemoryError, in_one_line
from vortex.portrait import CROP_PX, PasteBack, prepare_paste_back
from vortex.types import Frame, MotionTrack, Portrait
from vortex.weights import weights_dir

F64 = npt.NDArray[np.float64]
Result = TypeVar("Result")

KEPT_SQUARES = 256
"""Key frames kept on the device for reuse, 0.75 MiB each."""
QUALITIES = ("full", "fast")
MOST_STEPS_OFF = 16.0
"""Of the number type, that kernels may differ from torch's operations; two roundings make one or two."""
USUAL_EYE_RATIO = 0.35
"""Assumed for a picture in which no face could be measured."""


@dataclass(frozen=True, slots=True, eq=False)
class PreparedFace:
    """Everything about one portrait; tensors are float32 on the device, the volume of the networks' type.

    ``canvas`` (H, W, 3) uint8 is the frame in which ``box`` (x0, y0, x1, y1) changes; of the box, ``ground``
    (1, 3, h, w) in [0, 1] is the picture itself, ``alpha`` (1, 1, h, w) the share of the rendered face,
    ``grid`` (1, h, w, 2) where in the rendered square, from -1 to 1, each pixel comes from. ``shrink`` is by
    how much the square is averaged first. ``warp`` is what W needs of the source.
    """

    canvas: Frame
    box: tuple[int, int, int, int]
    ground: Tensor
    alpha: Tensor
    grid: Tensor
    shrink: int
    warp: WarpSource
    source: SourceFace

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the frames."""
        return self.canvas.shape[1], self.canvas.shape[0]


class Renderer:
    """The networks on their device. Holds no other state, so threads share it freely."""

    def __init__(
        self,
        networks: Networks,
        device: torch.device,
        batch_frames: int = 1,
        reuse_distance: float = REUSE_DISTANCE,
    ) -> None:
        self.networks, self.device, self.batch_frames = networks.to(device), device, batch_frames
        self.reuse_distance = reuse_distance

    def prepare(self, portrait: Portrait) -> PreparedFace:
        """Extract features and motion of the face and lay out its way back into the picture."""
        crop_from_image, landmarks_px = portrait.crop_from_image, portrait.landmarks_px
        paste = prepare_paste_back(portrait.image, crop_from_image, self.networks.sizes.output_px)
        eyes, lips = eye_ratios(landmarks_px), lip_ratio(landmarks_px)
        return self._guarded(lambda: self._prepare(paste, crop_from_image, eyes, lips))

    def prepare_crop(self, crop: Frame) -> PreparedFace:
        """Like :meth:`prepare` for a picture (512, 512, 3) that is a face's crop already, replaced whole."""
        paste = prepare_paste_back(crop, np.eye(3), self.networks.sizes.output_px)
        paste = replace(paste, alpha=np.ones_like(paste.alpha))
        eyes = (USUAL_EYE_RATIO, USUAL_EYE_RATIO)
        return self._guarded(lambda: self._prepare(paste, np.eye(3), eyes, 0.0))

    @torch.no_grad()
    def _prepare(
        self, paste: PasteBack, crop_from_image: F64, eyes: tuple[float, float], lips: float
    ) -> PreparedFace:
        x0, y0, x1, y1 = paste.box
        picture = self._network_input(paste.canvas, crop_from_image)
        source = measure_source(self.networks, self.networks.extract_motion(picture), eyes, lips)
        box_px_per_px = np.sqrt(abs(np.linalg.det(paste.matrix[:, :2])))
        return PreparedFace(
            canvas=paste.canvas,
            box=paste.box,
            ground=self._planes(paste.canvas[y0:y1, x0:x1]),
            alpha=torch.from_numpy(paste.alpha).permute(2, 0, 1)[None].to(self.device),
            grid=_sampling_grid(paste, self.networks.sizes.output_px).to(self.device),
            shrink=max(int(1 / box_px_per_px), 1),
            warp=self.networks.prepare_warp(self.networks.extract_appearance(picture), source.x_s),
            source=source,
        )

    def _network_input(self, image: Frame, crop_from_image: F64) -> Tensor:
        """Return (1, 3, 256, 256) in [0, 1]: the crop at 512 px, averaged, as published.

        Beyond the picture its edge is repeated: black there would creep into the frame when the head moves.
        """
        crop = cv2.warpAffine(
            image,
            crop_from_image[:2],
            (CROP_PX, CROP_PX),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        size = self.networks.sizes.input_px
        return self._planes(np.asarray(cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)))

    def _planes(self, image: Frame) -> Tensor:
        """(H, W, 3) uint8 -> (1, 3, H, W) float32 in [0, 1] on the device."""
        return torch.from_numpy(np.array(image)).to(self.device).permute(2, 0, 1)[None].float() / 255

    def iter_boxes(
        self, prepared: PreparedFace, motion: MotionTrack, quality: str = "full", frames: range | None = None
    ) -> Iterator[Tensor]:
        """Yield (B, 3, h, w) float32 in [0, 1] on the device: the changing box of the next B frames.

        ``frames`` are those to render, a range of step 1; default, all of the motion. ``quality``, one of
        :data:`QUALITIES`: "full" renders every frame, "fast" reuses frames; see
        :mod:`vortex.engines.liveportrait.reuse`.
        """
        track = self._guarded(lambda: drive_expression(motion, self.networks.sizes.keypoints, self.device))
        if quality == "full":
            render: Callable[[slice], Tensor] = partial(self._render, prepared, track)
        else:
            render = _Reuse(self, prepared, *self._keypoints(prepared, track)).render
        frames = range(len(track)) if frames is None else frames
        for start in frames[:: self.batch_frames]:
            stop = min(start + self.batch_frames, frames.stop)
            yield self._guarded(partial(render, slice(start, stop)))

    def plan(self, prepared: PreparedFace, motion: MotionTrack) -> ReusePlan:
        """Return which frames of a motion are rendered in full with the quality "fast"."""
        track = self._guarded(lambda: drive_expression(motion, self.networks.sizes.keypoints, self.device))
        return _plan(*self._keypoints(prepared, track), self.reuse_distance)

    def _keypoints(self, prepared: PreparedFace, track: DrivenTrack) -> tuple[Tensor, Tensor]:
        """Return x_d (T, 21, 3) of every frame with the head held still, and as it is driven."""
        upright = replace(track, angles_deg=torch.zeros_like(track.angles_deg))
        still, driven = (
            self._guarded(partial(driven_keypoints, self.networks, prepared.source, motion, slice(None)))
            for motion in (upright, track)
        )
        return still, driven

    @torch.no_grad()
    def _render(self, prepared: PreparedFace, track: DrivenTrack, rows: slice) -> Tensor:
        """Return the boxes of some frames, rendered in full."""
        face = self.render_square(prepared, driven_keypoints(self.networks, prepared.source, track, rows))
        return self.paste(prepared, face, prepared.grid.expand(len(face), -1, -1, -1))

    def render_square(self, prepared: PreparedFace, x_d: Tensor) -> Tensor:
        """Return the square (B, 3, 512, 512) float32 in [0, 1] of driven keypoints (B, 21, 3)."""
        warped = self.networks.warp(prepared.warp, x_d)
        return self.networks.decode(warped.features).float()

    def paste(self, prepared: PreparedFace, face: Tensor, grid: Tensor) -> Tensor:
        """Lay squares (B, 3, 512, 512), read at ``grid`` (B, h, w, 2), into the picture: (B, 3, h, w)."""
        if prepared.shrink > 1:
            face = functional.avg_pool2d(face, prepared.shrink)
        face = functional.grid_sample(face, grid, padding_mode="border", align_corners=False)
        return torch.lerp(prepared.ground, face, prepared.alpha)

    def _guarded(self, work: Callable[[], Result]) -> Result:
        """Do ``work``; turn a lack of memory into our error. The renderer stays usable."""
        try:
            with repeatable():
                return work()
        except torch.OutOfMemoryError:
            pass
        except RuntimeError as exc:
            if "not enough memory" not in str(exc) and "can't allocate memory" not in str(exc):
                raise
        # raised out here, not from the exception, which would keep the tensors of the failed batch alive
        raise OutOfMemoryError(self._memory_report())

    def _memory_report(self) -> str:
        advice = f"Lower batch_frames (now {self.batch_frames}), end other programs"
        if self.device.type != "cuda":
            return f"The memory of the machine does not suffice for LivePortrait. {advice}."
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info(self.device)
        ours = torch.cuda.memory_allocated(self.device)
        return (
            f"The memory of {torch.cuda.get_device_name(self.device)} does not suffice: "
            f"{free / 2**30:.2f} of {total / 2**30:.2f} GiB are free, vortex holds {ours / 2**30:.2f} GiB. "
            f"{advice}, or load with precision='fp16'."
        )

    def close(self) -> None:
        """Give the memory of the device back."""
        self.networks.to("meta")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def check_quality(quality: str) -> str:
    """Return the quality.

    Raises:
        InputError: not one of :data:`QUALITIES`.
    """
    if quality not in QUALITIES:
        raise InputError(f"quality is {quality!r}; give one of {', '.join(QUALITIES)}.")
    return quality


def _plan(still: Tensor, driven: Tensor, distance: float) -> ReusePlan:
    return plan_reuse(still.cpu().numpy(), driven.cpu().numpy(), distance)


class _Reuse:
    """One motion rendered with reuse; lives as long as the iteration over its frames."""

    def __init__(self, renderer: Renderer, prepared: PreparedFace, still: Tensor, driven: Tensor) -> None:
        self.renderer, self.prepared, self.driven = renderer, prepared, driven
        self.plan = _plan(still, driven, renderer.reuse_distance)
        self.x_keys = driven[torch.from_numpy(self.plan.keys).to(driven.device)]
        self.squares: OrderedDict[int, Tensor] = OrderedDict()

    @torch.no_grad()
    def render(self, rows: slice) -> Tensor:
        """Return the boxes (B, 3, h, w) of some frames."""
        shares = self.plan.shares[rows]
        self._provide({int(key) for keys, _ in shares for key in keys})
        x_frames = self.driven[rows]
        return torch.cat([self._blend(x, *share) for x, share in zip(x_frames, shares, strict=True)])

    def _provide(self, wanted: set[int]) -> None:
        """Render the key frames that are missing; forget those that were not used for longest."""
        missing = sorted(wanted - self.squares.keys())
        for start in range(0, len(missing), self.renderer.batch_frames):
            batch = missing[start : start + self.renderer.batch_frames]
            faces = self.renderer.render_square(self.prepared, self.x_keys[batch])
            # a quarter of the bytes of float32, and the video has no more than 8 bits
            self.squares.update(zip(batch, (faces * 255 + 0.5).byte(), strict=True))
        for key in wanted:
            self.squares.move_to_end(key)
        while len(self.squares) > max(KEPT_SQUARES, len(wanted)):
            self.squares.popitem(last=False)

    def _blend(self, x_frame: Tensor, keys: npt.NDArray[np.intp], weights: npt.NDArray[np.float32]) -> Tensor:
        """Return the box (1, 3, h, w) of a frame, from key frames warped to its keypoints (21, 3)."""
        prepared = self.prepared
        grid = prepared.grid.expand(len(keys), -1, -1, -1)
        field = displacement(self.x_keys[keys.tolist()], x_frame)
        come = functional.grid_sample(field, grid, padding_mode="border", align_corners=False)
        faces = torch.stack([self.squares[int(key)] for key in keys]).float() / 255
        boxes = self.renderer.paste(prepared, faces, grid - come.permute(0, 2, 3, 1))
        share = torch.from_numpy(weights).to(boxes.device).view(-1, 1, 1, 1)
        return (boxes * share).sum(dim=0, keepdim=True)


def load_renderer(
    device: str | torch.device | None,
    precision: str,
    batch_frames: int | None = None,
    memory_budget_bytes: int | None = None,
) -> Renderer:
    """Load the fetched weights; see :func:`vortex.engines.liveportrait.load_liveportrait`."""
    where = resolve_device(device)
    cuda = where.type == "cuda"
    dtype = resolve_dtype(precision, where)
    published = load_networks(weights_dir("liveportrait"))
    networks = rewrite_networks(published, tensor_cores=dtype != torch.float32).set_precision(dtype)
    if memory_budget_bytes is None and cuda:
        memory_budget_bytes = DEFAULT_BUDGET_BYTES
    if memory_budget_bytes is not None:
        held, width = networks_bytes(networks), dtype.itemsize
        batch_frames = fit_frames(memory_budget_bytes, held, width, batch_frames, cuda=cuda)
    modulate_by(networks, _fastest_standard(where, dtype))
    return Renderer(networks, where, batch_frames or 1)


def _fastest_standard(device: torch.device, dtype: torch.dtype) -> Standardise:
    """Return what modulates fastest on ``device``: our kernels, where they can run and prove to be right."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return TorchStandard
    from vortex.engines.liveportrait.kernels import FusedStandard, disagreement

    try:
        steps = disagreement(device, dtype)
        failure = "" if steps < MOST_STEPS_OFF else f"off by {steps:.0f} steps of {dtype}"
    except Exception as exc:  # a compiler and a driver are at work here
        failure = in_one_line(exc)
    if not failure:
        return FusedStandard
    warnings.warn(
        f"Fused kernels were left out, which costs speed only ({failure}). They need a C compiler, such as "
        "gcc, and a torch and a driver that fit each other.",
        stacklevel=2,
    )
    return TorchStandard


def _sampling_grid(paste: PasteBack, size_px: int) -> Tensor:
    """Return (1, h, w, 2) float32: the place in the square, -1 to 1 from edge to edge, of each box pixel."""
    x0, y0, x1, y1 = paste.box
    crop_from_box = np.linalg.inv(np.vstack([paste.matrix, [0, 0, 1]]))
    y, x = np.mgrid[0 : y1 - y0, 0 : x1 - x0].astype(np.float64)
    crop_px = np.stack([x, y, np.ones_like(x)], axis=-1) @ crop_from_box[:2].T
    return torch.from_numpy(((2 * crop_px + 1) / size_px - 1).astype(np.float32))[None]
