"""The frame around a face: which part of the picture it shows, and what is behind the person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vortex.engines.base import MattedFrame, MattingEngine
from vortex.errors import InputError
from vortex.face.backdrop import make_backdrop
from vortex.face.crop import crop_face, even_sides
from vortex.face.framing import FramedPortrait, Framing, edge_ramp, frame_portrait, frame_size
from vortex.face.matte import FilmMatte, foreground_colours, mixed, person_matte
from vortex.motion.transfer import Motion
from vortex.options import FrameOptions, FramingOptions
from vortex.runtime.files import check_input_file
from vortex.types import F32, Frame, Portrait

EDGE_FADE = 0.03
"""A person who reaches beyond the picture fades over so many sides of the frame."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What is behind the person in every frame.

    ``backdrop`` (H, W, 3) uint8; None is nothing, and frames become (H, W, 4), with the matte as the fourth
    channel. ``matte`` (H, W) uint8 is that of the portrait, 255 for the person; ``shown`` (H, W) float32
    fades where the picture ends.
    """

    backdrop: Frame | None
    matte: Frame
    shown: F32
    landmarks_px: F32

    @property
    def is_transparent(self) -> bool:
        """Whether frames have a fourth channel."""
        return self.backdrop is None

    def compose(self, frames: Iterable[MattedFrame]) -> Iterator[Frame]:
        """Yield frames with this background; only what changes is composed again."""
        static: Frame | None = None
        for given in frames:
            if static is None:
                static = self._over(given.frame, given.matte, self.backdrop)
            x0, y0, x1, y1 = given.box
            rows, columns = slice(y0, y1), slice(x0, x1)
            behind = None if self.backdrop is None else self.backdrop[rows, columns]
            made = static.copy()
            made[rows, columns] = self._over(given.frame[rows, columns], given.matte[rows, columns], behind)
            yield made

    def _over(self, frame: Frame, matte: Frame, behind: Frame | None) -> Frame:
        return np.dstack([frame, matte]) if behind is None else mixed(frame, behind, matte)

    def follow(self, frames: Iterable[Frame]) -> Iterator[MattedFrame]:
        """Yield frames with the person's own colours and mattes, of engines that move no matte."""
        film = FilmMatte(self.landmarks_px)
        height, width = self.matte.shape
        for frame in frames:
            matte = film.next(frame) * self.shown
            own = foreground_colours(frame, matte)
            yield MattedFrame(own, np.asarray(np.round(255 * matte), np.uint8), (0, 0, width, height))


def scene_frames(
    scene: Scene, engine: object, prepared: Any, motion: Motion, frames: Iterator[Frame]
) -> Iterator[Frame]:
    """Return the frames of a video in its scene; ``frames``, the engine's own, serve if it moves no matte."""
    if isinstance(engine, MattingEngine):
        return scene.compose(engine.iter_matted(prepared, motion, scene.matte))
    return scene.compose(scene.follow(frames))


def has_scene(options: FrameOptions) -> bool:
    """Return whether the options change frame or background; only those of video files can."""
    return isinstance(options, FramingOptions) and any(
        (options.aspect, options.zoom, options.position, options.background.kind != "keep")
    )


def check_framing(options: FramingOptions, paste_back: bool) -> None:
    """Raise InputError for options of a frame that exclude each other, or a background that is no file."""
    framed = options.aspect or options.zoom is not None or options.position is not None
    if options.background.kind == "picture":
        check_input_file(Path(options.background.value), "The background", "a picture, such as JPEG or PNG")
    if paste_back and framed:
        raise InputError(
            "paste_back keeps the whole picture, so it has no aspect, zoom or position; leave these out."
        )


def stage_portrait(
    portrait: Portrait, options: FrameOptions, *, moves_matte: bool
) -> tuple[Portrait, Scene | None]:
    """Return the picture that an engine animates whole, and the scene; None: the picture's own background.

    ``moves_matte``: the engine is a :class:`vortex.engines.base.MattingEngine`, and gets the person's own
    colours, without a background.

    Raises:
        ImageError: the picture of the background cannot be read.
    """
    assert isinstance(options, FramingOptions)
    framed = _framed(portrait, options)
    canvas, background = framed.portrait.image, options.background
    if background.kind == "keep":
        return framed.portrait, None
    shown = edge_ramp(framed.shown, EDGE_FADE)
    matte = person_matte(canvas, framed.portrait.landmarks_px) * shown
    scene = Scene(
        make_backdrop(background, canvas, matte),
        np.asarray(np.round(255 * matte), np.uint8),
        shown,
        framed.portrait.landmarks_px,
    )
    if not moves_matte:
        return framed.portrait, scene
    return replace(framed.portrait, image=foreground_colours(canvas, matte)), scene


def _framed(portrait: Portrait, options: FrameOptions) -> FramedPortrait:
    assert isinstance(options, FramingOptions)
    if options.aspect or options.zoom is not None or options.position is not None:
        position = None
        if options.position is not None:
            x, y = (float(part) for part in options.position.split(","))
            position = x, y
        size_px = frame_size(options.aspect or "1:1", options.size_px)
        return frame_portrait(portrait, Framing(size_px, options.zoom, position))
    whole = even_sides(portrait) if options.paste_back else crop_face(portrait, options.size_px)
    return FramedPortrait(replace(whole, close_up=None), np.ones(whole.image.shape[:2], np.float32))
