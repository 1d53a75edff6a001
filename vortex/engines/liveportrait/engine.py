"""LivePortrait behind the interface that every engine has."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from vortex.engines.liveportrait.device import resolve_device
from vortex.engines.liveportrait.renderer import PreparedFace, Renderer, check_quality, load_renderer
from vortex.engines.liveportrait.transfer import iter_on_host
from vortex.portrait import crop_face, even_sides
from vortex.types import Frame, MotionTrack, Portrait

SQUARE_PX = 512
"""Side of the rendered square, which is 2 wide in keypoint units."""


class LivePortraitEngine:
    """Renders with the networks; see :class:`vortex.engines.base.Engine`."""

    name = "liveportrait"

    def __init__(self, renderer: Renderer, quality: str = "full") -> None:
        """``quality``, "full" or "fast": see :meth:`~vortex.engines.liveportrait.LivePortraitModel.animate`.

        Raises:
            InputError: another quality.
        """
        self.renderer, self.quality = renderer, check_quality(quality)

    @property
    def device(self) -> str:
        """Where the networks are: "cpu", or a GPU such as "cuda:0"."""
        return str(self.renderer.device)

    def prepare(self, portrait: Portrait, *, size_px: int = 512, paste_back: bool = False) -> PreparedFace:
        """Extract what the networks know about the face.

        Raises:
            InputError: a frame size that cannot be rendered.
            OutOfMemoryError: the device's memory does not suffice.
        """
        return self.renderer.prepare(even_sides(portrait) if paste_back else crop_face(portrait, size_px))

    def iter_frames(self, prepared: PreparedFace, motion: MotionTrack) -> Iterator[Frame]:
        """Yield one frame for each row of ``motion``.

        Raises:
            OutOfMemoryError: the device's memory does not suffice.
        """
        x0, y0, x1, y1 = prepared.box
        batches = map(_pixels, self.renderer.iter_boxes(prepared, motion, self.quality))
        for pixels in iter_on_host(batches, self.renderer.device):
            for box in pixels.numpy():
                frame = prepared.canvas.copy()
                frame[y0:y1, x0:x1] = box
                yield frame

    def notes(self, prepared: PreparedFace, motion: MotionTrack) -> tuple[str, ...]:
        """Return what was saved, and at what distance."""
        if self.quality == "full":
            return ()
        plan = self.renderer.plan(prepared, motion)
        return (
            f"quality fast: {len(plan.keys)} of {len(motion)} frames were rendered in full; the expression "
            f"of the others is at most {plan.distance_max * SQUARE_PX / 2:.1f} px of {SQUARE_PX} off",
        )

    def close(self) -> None:
        """Give the memory of the device back; the engine cannot render afterwards."""
        self.renderer.close()


def _pixels(boxes: Tensor) -> Tensor:
    """(B, 3, h, w) float in [0, 1] -> (B, h, w, 3) uint8, a quarter of the bytes to copy."""
    return (boxes * 255 + 0.5).byte().permute(0, 2, 3, 1).contiguous()


def load_liveportrait_engine(device: str | None = None, quality: str = "full") -> LivePortraitEngine:
    """Load the engine on a CUDA device in fp16, or in fp32 on a CPU if that is asked for.

    Raises:
        InputError: an unknown device or quality.
        DeviceUnavailableError: no such device here.
        WeightsMissingError, WeightsCorruptError: fetch them first.
    """
    check_quality(quality)
    precision = "fp32" if resolve_device(device).type == "cpu" else "fp16"
    return LivePortraitEngine(load_renderer(device, precision), quality)
