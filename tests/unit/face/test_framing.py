"""A frame has the asked shape, is filled where the picture reaches, and shows the face where it is asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vortex.errors import InputError
from vortex.face.framing import (
    ASPECTS,
    Framing,
    edge_ramp,
    frame_portrait,
    frame_size,
    parse_aspect,
    parse_position,
)
from vortex.face.landmarks import CROP_OUTLINE
from vortex.types import F32, Portrait


def face_box(landmarks_px: F32) -> tuple[np.ndarray, np.ndarray]:
    outline = landmarks_px[CROP_OUTLINE, :2]
    return outline.min(0), outline.max(0)


def on_gradient(portrait: Portrait) -> Portrait:
    """Return the portrait on a picture whose red and green tell column and row, in steps of 3 pixels."""
    height, width = portrait.image.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    picture = np.stack([columns / 3, rows / 3, np.full((height, width), 99)], axis=2)
    return replace(portrait, image=picture.astype(np.uint8))


@pytest.mark.parametrize("name", ASPECTS)
@pytest.mark.parametrize("side", [128, 512, 1080])
def test_named_shapes_are_even_and_have_the_shorter_side(name: str, side: int) -> None:
    width, height = frame_size(name, side)
    assert min(width, height) == side and width % 2 == height % 2 == 0
    across, down = ASPECTS[name]
    assert width / height == pytest.approx(across / down, abs=2 / side)


def test_a_size_is_taken_as_it_is_written() -> None:
    assert frame_size(parse_aspect("1080X1920"), 512) == (1080, 1920)


@pytest.mark.parametrize("text", ["3:2", "1080", "1081x1920", "64x64", "99999x99999", "x", "1080 x 1920 x 3"])
def test_other_shapes_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="give 1:1, 9:16, 16:9, 4:5, or a size"):
        parse_aspect(text)


@pytest.mark.parametrize("text", ["0.5", "0.5,1.1", "left,top", "0.5;0.4", "nan,0.5"])
def test_other_positions_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="give x,y of the face"):
        parse_position(text)


@pytest.mark.parametrize("name", ASPECTS)
def test_a_picture_with_room_around_the_face_fills_every_frame(hopper: Portrait, name: str) -> None:
    roomy = replace(
        hopper,
        image=np.pad(hopper.image, ((900, 900), (900, 900), (0, 0)), mode="reflect"),
        landmarks_px=hopper.landmarks_px + np.array([900, 900, 0], np.float32),
    )
    framing = Framing(frame_size(name, 256))
    framed = frame_portrait(roomy, framing)
    assert framed.is_filled and framed.portrait.image.shape[1::-1] == framing.size_px
    low, high = face_box(framed.portrait.landmarks_px) / np.array(framing.size_px)
    assert ((low + high) / 2)[0] == pytest.approx(0.5, abs=0.01)
    # Eyes in the upper half, a chin well inside: neither head nor chin touches an edge.
    assert low.min() > 0.15 and high.max() < 0.9


@pytest.mark.parametrize(("zoom", "position"), [(1.0, (0.5, 0.5)), (2.0, (0.3, 0.6)), (0.5, (0.7, 0.4))])
def test_zoom_and_position_are_exact(hopper: Portrait, zoom: float, position: tuple[float, float]) -> None:
    framing = Framing((288, 512), zoom, position)
    low, high = face_box(frame_portrait(hopper, framing).portrait.landmarks_px)
    assert (high - low).max() == pytest.approx(zoom * 288 / 2.3, rel=1e-3)
    # Landmarks count from the middle of the first pixel.
    assert (low + high) / 2 + 0.5 == pytest.approx(np.array(position) * framing.size_px, abs=0.1)


def test_landmarks_stay_on_their_pixels(hopper: Portrait) -> None:
    marked = on_gradient(hopper)
    for name in ASPECTS:
        framed = frame_portrait(marked, Framing(frame_size(name, 512)))
        for before, after in zip(
            hopper.landmarks_px[::20, :2], framed.portrait.landmarks_px[::20, :2], strict=True
        ):
            x, y = np.round(after).astype(int)
            red, green, _ = framed.portrait.image[y, x].astype(float)
            # A step of colour is 3 pixels, and rounding to a pixel of the frame is half of one.
            assert np.abs(np.array([3 * red, 3 * green]) - before).max() < 4.5


def test_a_picture_that_is_too_small_stands_on_the_lower_edge(hopper: Portrait) -> None:
    height = round(float(face_box(hopper.landmarks_px)[1][1])) + 40
    short = replace(hopper, image=hopper.image[:height])
    framed = frame_portrait(short, Framing((288, 512)))
    assert not framed.is_filled
    assert framed.shown[-1].min() == 1 and framed.shown[0].max() == 0
    # What continues the picture joins it without a step, in its own colours.
    image = framed.portrait.image.astype(float)
    jumps = np.abs(np.diff(image.mean(axis=1), axis=0)).max(axis=1)
    edge = int(np.flatnonzero(framed.shown.max(axis=1) > 0)[0])
    assert jumps[edge - 3 : edge + 4].max() <= np.percentile(jumps[edge:], 90)


def test_the_ramp_falls_at_edges_of_the_picture_and_not_of_the_frame() -> None:
    shown = np.ones((100, 200), np.float32)
    assert edge_ramp(shown, 0.05).min() == 1
    shown[:, :40] = 0
    ramp = edge_ramp(shown, 0.05)
    assert ramp[:, :40].max() == 0 and ramp[:, 60:].min() == 1
    assert (np.diff(ramp[50, 38:62]) >= 0).all() and 0.2 < ramp[50, 45] < 0.8
