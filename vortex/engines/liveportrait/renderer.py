"""Renders a portrait and a motion on a device: runs the networks batch by batch and pastes faces back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from vortex.engines.base import CroppedFace
from vortex.engines.liveportrait.device import paste_device, repeatable
from vortex.engines.liveportrait.fast.reuse import REUSE_DISTANCE, ReusePlan, displacement, plan_reuse
from vortex.engines.liveportrait.keypoints import (
    SourceFace,
    drive_expression,
    driven_keypoints,
    eye_ratios,
    lip_ratio,
    measure_source,
    rotation_matrix,
)
from vortex.engines.liveportrait.networks import Networks, WarpSource
from vortex.engines.liveportrait.retarget import finish_keypoints, source_keypoints, transferred_keypoints
from vortex.errors import InputError, OutOfMemoryError
from vortex.face.crop import CROP_PX
from vortex.face.landmarks import FACE_OVAL
from vortex.interpolation import smoothstep
from vortex.motion.transfer import KeypointChange, KeypointMotion, Motion, without_head_motion
from vortex.types import F32, F64, Frame, KeypointTrack, Portrait

Result = TypeVar("Result")

KEPT_SQUARES = 256
"""Rendered key frames that stay on the device for reuse, 0.75 MiB each."""
CAPTURED_FRAMES = 8
"""Faces of a driver that M sees at once."""
_NO_FACES = [np.zeros(shape, np.float32) for shape in ((0, 21, 3), (0, 3, 3), 0, (0, 3), (0, 2), 0)]
QUALITIES = ("full", "fast")
SIGNS_OF_SHORT_MEMORY = ("not enough memory", "can't allocate memory", "MPS backend out of memory")
"""Parts of the messages of torch's plain RuntimeError."""
TYPICAL_EYE_RATIO = 0.35
"""Assumed for a picture without landmarks."""
HEAD_ACROSS, HEAD_UP, HEAD_DOWN = 1.25, 1.75, 1.35
"""How far a head reaches from its middle, relative to the outline of the face: ears, hair, an open jaw, and a
turn by fifteen degrees, which moves the outline by a quarter of half its width."""
HEAD_FEATHER = 0.3
"""Width of the blend around a head, relative to its reach."""


@dataclass(frozen=True, slots=True, eq=False)
class PreparedFace:
    """What rendering needs of one portrait; tensors are float32, W's volume is of the networks' type.

    ``canvas`` (H, W, 3) uint8 is the frame, of which only ``box`` (x0, y0, x1, y1) changes. For the box,
    ``ground`` (1, 3, h, w) in [0, 1] is the original picture, ``alpha`` (1, 1, h, w) the share of the
    rendered face, and ``grid`` (1, h, w, 2) the position in the rendered square, from -1 to 1, that each
    pixel is read from. The square is first averaged over ``shrink`` x ``shrink`` pixels. ``warp`` and
    ``source`` describe the source face to W and to the retargeting.
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

    def frames_of(self, pixels: npt.NDArray[np.uint8]) -> Iterator[Frame]:
        """Yield the frames (H, W, 3) of boxes (B, h, w, 3)."""
        x0, y0, x1, y1 = self.box
        for box in pixels:
            frame = self.canvas.copy()
            frame[y0:y1, x0:x1] = box
            yield frame


class Renderer:
    """The networks on their device. It keeps no other state, so any number of threads may share it."""

    def __init__(self, networks: Networks, device: torch.device, batch_frames: int = 1) -> None:
        self.networks, self.device, self.batch_frames = networks.to(device), device, batch_frames
        self.paste_device = paste_device(device)
        self.digest: bytes | None = None
        """Identifies the networks; see :mod:`vortex.engines.liveportrait.overnight`."""

    def prepare(self, portrait: Portrait) -> PreparedFace:
        """Return the face's features and keypoints, and how its rendering is pasted into the picture."""
        landmarks_px = portrait.landmarks_px
        eyes, lips = eye_ratios(landmarks_px), lip_ratio(landmarks_px)
        image, crop_from_image = portrait.image, portrait.crop_from_image
        return self.guarded(partial(self._prepare, image, crop_from_image, eyes, lips, landmarks_px))

    def prepare_crop(self, crop: Frame) -> PreparedFace:
        """Like :meth:`prepare`, for a picture (512, 512, 3) that is itself a crop and is replaced whole."""
        eyes = (TYPICAL_EYE_RATIO, TYPICAL_EYE_RATIO)
        prepared = self.guarded(partial(self._prepare, crop, np.eye(3), eyes, 0.0))
        return replace(prepared, alpha=torch.ones_like(prepared.alpha))

    @torch.no_grad()
    def _prepare(
        self,
        canvas: Frame,
        crop_from_image: F64,
        eyes: tuple[float, float],
        lips: float,
        landmarks_px: F32 | None = None,
    ) -> PreparedFace:
        square_px = self.networks.sizes.output_px
        box, alpha, matrix = prepare_paste_back(canvas, crop_from_image, square_px, landmarks_px)
        x0, y0, x1, y1 = box
        picture = self._network_input(canvas, crop_from_image)
        source = measure_source(self.networks, self.networks.extract_motion(picture), eyes, lips)
        return PreparedFace(
            canvas=canvas,
            box=box,
            ground=self._planes(canvas[y0:y1, x0:x1]).to(self.paste_device),
            alpha=torch.from_numpy(alpha).to(self.paste_device)[None, None],
            grid=_sampling_grid(matrix, alpha.shape, square_px).to(self.paste_device),
            shrink=max(int(1 / np.sqrt(abs(np.linalg.det(matrix[:, :2])))), 1),
            warp=self.networks.prepare_warp(self.networks.extract_appearance(picture), source.x_s),
            source=source,
        )

    def _network_input(self, image: Frame, crop_from_image: F64) -> Tensor:
        """Return (1, 3, 256, 256) in [0, 1]: the crop at 512 px, averaged to half its size, as published."""
        matrix = crop_from_image[:2]
        # The edge is repeated, because black would move into the frame when the head turns.
        crop = cv2.warpAffine(image, matrix, (CROP_PX, CROP_PX), borderMode=cv2.BORDER_REPLICATE)
        return self._planes(self._input_size(np.asarray(crop, np.uint8)))

    def _input_size(self, crop: Frame) -> Frame:
        """(512, 512, 3) -> (256, 256, 3), the size of the networks' input, averaged."""
        size = self.networks.sizes.input_px
        return np.asarray(cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA), np.uint8)

    def _planes(self, image: Frame) -> Tensor:
        """(H, W, 3) uint8 -> (1, 3, H, W) float32 in [0, 1] on the device."""
        return torch.from_numpy(np.array(image)).to(self.device).permute(2, 0, 1)[None].float() / 255

    def capture(self, faces: Iterable[CroppedFace], fps: Fraction) -> KeypointTrack:
        """Return M's results for a driver's faces, and how far their eyes and lips are open."""
        remaining = iter(faces)
        batches = iter(lambda: list(islice(remaining, CAPTURED_FRAMES)), [])
        parts = [self.guarded(partial(self._capture, batch)) for batch in batches]
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else _NO_FACES
        exp, rotation, scale, translation, eyes, lips = columns
        return KeypointTrack(exp, np.asarray(rotation, np.float64), scale, translation, fps, eyes, lips)

    @torch.no_grad()
    def _capture(self, faces: list[CroppedFace]) -> tuple[npt.NDArray[np.floating[Any]], ...]:
        """Return exp, rotation, scale, translation, eye ratios and lip ratio of some faces."""
        pictures = torch.cat([self._planes(self._input_size(face.crop)) for face in faces])
        info = self.networks.extract_motion(pictures)
        rotation = rotation_matrix(info.angles_deg.cpu().double())
        numbers = (info.exp, rotation, info.scale[:, 0], info.translation)
        eyes = np.array([eye_ratios(face.landmarks_px) for face in faces])
        lips = np.array([lip_ratio(face.landmarks_px) for face in faces])
        return (*(tensor.cpu().numpy() for tensor in numbers), eyes, lips)

    def iter_boxes(
        self, prepared: PreparedFace, motion: Motion, quality: str = "full", frames: range | None = None
    ) -> Iterator[Tensor]:
        """Yield (B, 3, h, w) float32 in [0, 1] on the paste device: the box of the next B frames.

        ``frames`` are the numbers of the frames to render, a range of step 1; default, all frames. With the
        ``quality`` "fast", frames are derived from similar ones; see :class:`ReuseRenderer`.
        """
        keypoints = self._keypoints(prepared, motion)
        if quality == "full":
            render: Callable[[slice], Tensor] = partial(self._render, prepared, keypoints)
        else:
            render = ReuseRenderer(self, prepared, *self.plan_driven(prepared, motion)).render
        frames = range(len(motion)) if frames is None else frames
        for start in frames[:: self.batch_frames]:
            stop = min(start + self.batch_frames, frames.stop)
            yield self.guarded(partial(render, slice(start, stop)))

    def plan(self, prepared: PreparedFace, motion: Motion) -> ReusePlan:
        """Return which frames of a motion the quality "fast" renders in full."""
        return self.plan_driven(prepared, motion)[0]

    def driven(self, prepared: PreparedFace, motion: Motion, at_once: int | None = None) -> Tensor:
        """Return x_d (T, 21, 3) of every frame, computed for so many frames at once; default, for all."""
        keypoints, total = self._keypoints(prepared, motion), len(motion)
        step = at_once or max(total, 1)
        parts = (slice(start, min(start + step, total)) for start in range(0, max(total, 1), step))
        return torch.cat([self.guarded(partial(keypoints, rows)) for rows in parts])

    def _keypoints(self, prepared: PreparedFace, motion: Motion) -> Callable[[slice], Tensor]:
        """Return a function from frames to their x_d (B, 21, 3)."""
        networks, source = self.networks, prepared.source
        if isinstance(motion, KeypointMotion):
            moved = transferred_keypoints(source_keypoints(source.info), motion).astype(np.float32)
            x_d = self.guarded(lambda: torch.from_numpy(moved).to(self.device))
            return lambda rows: finish_keypoints(
                networks, source, x_d[rows], motion.part(rows.start, rows.stop - rows.start)
            )
        face = motion.face if isinstance(motion, KeypointChange) else motion
        track = self.guarded(lambda: drive_expression(face, self.device))
        if isinstance(motion, KeypointChange):
            change = self.guarded(lambda: torch.tensor(motion.exp, device=self.device))
            track = replace(track, exp=track.exp + change)
        return partial(driven_keypoints, networks, source, track)

    def plan_driven(self, prepared: PreparedFace, motion: Motion) -> tuple[ReusePlan, Tensor]:
        """Return the plan, and x_d (T, 21, 3) of every frame, on the paste device."""
        still, driven = (self.driven(prepared, moved) for moved in (without_head_motion(motion), motion))
        plan = plan_reuse(still.cpu().numpy(), driven.cpu().numpy(), REUSE_DISTANCE)
        return plan, driven.to(self.paste_device)

    @torch.no_grad()
    def _render(self, prepared: PreparedFace, keypoints: Callable[[slice], Tensor], rows: slice) -> Tensor:
        """Return the boxes (B, 3, h, w) of some frames, each rendered by the networks."""
        face = self.render_square(prepared, keypoints(rows))
        return self.paste(prepared, face, prepared.grid.expand(len(face), -1, -1, -1))

    def render_square(self, prepared: PreparedFace, x_d: Tensor) -> Tensor:
        """Return squares (B, 3, 512, 512) float32 in [0, 1], on the paste device, of keypoints (B, 21, 3)."""
        warped = self.networks.warp(prepared.warp, x_d.to(self.device))
        return self.networks.decode(warped.features).float().to(self.paste_device)

    def paste(self, prepared: PreparedFace, face: Tensor, grid: Tensor) -> Tensor:
        """Return boxes (B, 3, h, w): squares (B, 3, 512, 512) read at ``grid`` (B, h, w, 2), blended in."""
        if prepared.shrink > 1:
            face = functional.avg_pool2d(face, prepared.shrink)
        face = functional.grid_sample(face, grid, padding_mode="border", align_corners=False)
        return torch.lerp(prepared.ground, face, prepared.alpha)

    def guarded(self, work: Callable[[], Result]) -> Result:
        """Return ``work()``; raise OutOfMemoryError if memory is short. The renderer stays usable."""
        try:
            with repeatable():
                return work()
        except torch.OutOfMemoryError:
            pass
        except RuntimeError as exc:
            if not any(sign in str(exc) for sign in SIGNS_OF_SHORT_MEMORY):
                raise
        # Raised outside the handler: a chained exception would keep the failed batch's tensors alive.
        raise OutOfMemoryError(self._memory_report())

    def _memory_report(self) -> str:
        advice = f"Lower batch_frames (now {self.batch_frames}), end other programs"
        if self.device.type != "cuda":
            return f"LivePortrait needs more memory than this machine has free. {advice}."
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info(self.device)
        ours = torch.cuda.memory_allocated(self.device)
        return (
            f"LivePortrait needs more memory than {torch.cuda.get_device_name(self.device)} has free: "
            f"{free / 2**30:.2f} of {total / 2**30:.2f} GiB are free, vortex uses {ours / 2**30:.2f} GiB. "
            f"{advice}, or load with precision='fp16'."
        )

    def close(self) -> None:
        """Free the device's memory; the renderer cannot be used afterwards."""
        self.networks.to("meta")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def check_quality(quality: str) -> None:
    """Raise InputError if ``quality`` is not one of :data:`QUALITIES`."""
    if quality not in QUALITIES:
        raise InputError(f"quality is {quality!r}; give one of {', '.join(QUALITIES)}.")


class ReuseRenderer:
    """Renders one motion with the quality "fast"; one object per iteration over the frames.

    ``squares_of`` returns the squares (B, 3, 512, 512) uint8 of some keys; default, it renders them.
    """

    def __init__(
        self,
        renderer: Renderer,
        prepared: PreparedFace,
        plan: ReusePlan,
        driven: Tensor,
        squares_of: Callable[[list[int]], Tensor] | None = None,
    ) -> None:
        self.renderer, self.prepared, self.plan, self.driven = renderer, prepared, plan, driven
        self.x_keys = driven[torch.from_numpy(plan.keys).to(driven.device)]
        self.squares_of = squares_of or self._rendered
        self.squares: OrderedDict[int, Tensor] = OrderedDict()

    @torch.no_grad()
    def render(self, rows: slice) -> Tensor:
        """Return the boxes (B, 3, h, w) of some frames, blended from key frames."""
        shares = self.plan.shares[rows]
        self._render_keys({int(key) for keys, _ in shares for key in keys})
        return torch.cat([self._blend(x, *share) for x, share in zip(self.driven[rows], shares, strict=True)])

    def _render_keys(self, wanted: set[int]) -> None:
        """Render the key frames that are missing, and drop the least recently used ones."""
        missing = sorted(wanted - self.squares.keys())
        for start in range(0, len(missing), self.renderer.batch_frames):
            batch = missing[start : start + self.renderer.batch_frames]
            self.squares.update(zip(batch, self.squares_of(batch), strict=True))
        for key in wanted:
            self.squares.move_to_end(key)
        while len(self.squares) > max(KEPT_SQUARES, len(wanted)):
            self.squares.popitem(last=False)

    def _rendered(self, keys: list[int]) -> Tensor:
        faces = self.renderer.render_square(self.prepared, self.x_keys[keys])
        # Bytes take a quarter of the memory of float32, and the video has 8 bits anyway.
        return (faces * 255 + 0.5).byte()

    def _blend(self, x_frame: Tensor, keys: npt.NDArray[np.intp], weights: F32) -> Tensor:
        """Return the box (1, 3, h, w) of a frame: key frames warped to its keypoints (21, 3), and blended."""
        grid = self.prepared.grid.expand(len(keys), -1, -1, -1)
        field = displacement(self.x_keys[keys.tolist()], x_frame)
        moved = functional.grid_sample(field, grid, padding_mode="border", align_corners=False)
        faces = torch.stack([self.squares[int(key)] for key in keys]).float() / 255
        boxes = self.renderer.paste(self.prepared, faces, grid - moved.permute(0, 2, 3, 1))
        shares = torch.from_numpy(weights).to(boxes.device).view(-1, 1, 1, 1)
        return (boxes * shares).sum(dim=0, keepdim=True)


def pixels_of(boxes: Tensor) -> Tensor:
    """(B, 3, h, w) float32 in [0, 1] -> (B, h, w, 3) uint8, which is a quarter of the bytes to copy."""
    return (boxes * 255 + 0.5).byte().permute(0, 2, 3, 1).contiguous()


def _sampling_grid(matrix: F64, shape: tuple[int, ...], size_px: int) -> Tensor:
    """Return (1, h, w, 2) float32: each box pixel's position in the square, -1 to 1 from edge to edge."""
    crop_from_box = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    crop_px = np.stack([x, y, np.ones_like(x)], axis=-1) @ crop_from_box[:2].T
    return torch.from_numpy(((2 * crop_px + 1) / size_px - 1).astype(np.float32))[None]


def prepare_paste_back(
    canvas: Frame, crop_from_image: F64, size_px: int, landmarks_px: F32 | None = None
) -> tuple[tuple[int, int, int, int], F32, F64]:
    """Return how crops of ``size_px`` are pasted into ``canvas``: box, alpha, matrix.

    ``crop_from_image`` (3, 3) maps ``canvas`` pixels to one of 512 px. Only the box (x0, y0, x1, y1) changes;
    alpha (h, w) float32 is the share of the crop in it; the matrix (2, 3) maps crop pixels to box pixels. The
    crop's edge is feathered, and of a face with ``landmarks_px`` (478, 3) only the head is pasted: the
    networks also move what is behind it.
    """
    scale = CROP_PX / size_px
    # Pixel centres are at integers.
    offset = 0.5 * scale - 0.5
    image_from_crop = np.linalg.inv(crop_from_image) @ [[scale, 0, offset], [0, scale, offset], [0, 0, 1.0]]
    corners = np.array([[0, 0], [size_px, 0], [size_px, size_px], [0, size_px]], np.float64) - 0.5
    outline = corners @ image_from_crop[:2, :2].T + image_from_crop[:2, 2]
    x0, y0 = np.maximum(np.floor(outline.min(0)).astype(int), 0).tolist()
    x1, y1 = np.minimum(np.ceil(outline.max(0)).astype(int) + 1, canvas.shape[1::-1]).tolist()
    matrix = image_from_crop[:2].copy()
    matrix[:, 2] -= [x0, y0]
    edge = np.minimum(np.arange(size_px) + 0.5, size_px - 0.5 - np.arange(size_px)) / size_px
    ramp = smoothstep(edge, 0.02, 0.12, dtype=np.float64)
    mask = np.outer(ramp, ramp)
    if landmarks_px is not None:
        crop_from_canvas = np.linalg.inv(image_from_crop)
        outline_px = landmarks_px[FACE_OVAL, :2] @ crop_from_canvas[:2, :2].T + crop_from_canvas[:2, 2]
        mask *= head_mask(outline_px, size_px)
    alpha = cv2.warpAffine(mask.astype(np.float32), matrix, (x1 - x0, y1 - y0))
    return (x0, y0, x1, y1), np.asarray(alpha, np.float32), matrix


def head_mask(outline_px: F64, size_px: int) -> F64:
    """Return (size_px, size_px): 1 on a head and 0 behind it, from the outline of its face (36, 2).

    The outline is that of FACE_OVAL, clockwise from the middle of the forehead. It is widened from the middle
    of the face to the reach of a head that turns and opens its mouth.
    """
    top, bottom = outline_px[0], outline_px[len(outline_px) // 2]
    middle, down = (top + bottom) / 2, bottom - top
    # Along the head's own axes, whose lengths are half the height of the face.
    axes = np.stack([[-down[1], down[0]], -down]) / 2 / (down @ down / 4)
    y, x = np.mgrid[:size_px, :size_px]
    pixels = (np.stack([x, y], axis=-1) - middle) @ axes.T
    points = (outline_px - middle) @ axes.T
    points = points * [HEAD_ACROSS, 1] * np.where(points[:, 1:] > 0, [1, HEAD_UP], [1, HEAD_DOWN])
    angles = np.arctan2(points[:, 1], points[:, 0])
    around = np.arctan2(pixels[..., 1], pixels[..., 0])
    reach = np.interp(around, angles, np.hypot(*points.T), period=2 * np.pi)
    distance = np.hypot(pixels[..., 0], pixels[..., 1]) / reach
    return np.asarray(1 - smoothstep(distance, 1, 1 + HEAD_FEATHER, dtype=np.float64), np.float64)
