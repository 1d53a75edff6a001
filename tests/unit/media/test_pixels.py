"""Pictures become the planes of the standard, at 8 bits and 10, with the matte as it is."""

from __future__ import annotations

import numpy as np
import pytest
from support.frames import exact_planes

from vortex.media.pixels import YcbcrConverter, changed_box, make_converter


def test_ten_bits_are_those_of_the_standard() -> None:
    picture = np.random.default_rng(4).integers(0, 256, (18, 26, 4), dtype=np.uint8)
    frame = make_converter("yuva444p10le", (26, 18)).convert(picture)
    rows = [
        np.frombuffer(bytes(plane), "<u2").reshape(18, plane.line_size // 2)[:, :26] for plane in frame.planes
    ]
    red, green, blue = picture[..., :3].transpose(2, 0, 1) / 255
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    # ITU-R BT.709-6, items 3.2 to 3.5 and 4.6, for 10 bits.
    wanted = [
        64 + 876 * luma,
        512 + 896 * (blue - luma) / 1.8556,
        512 + 896 * (red - luma) / 1.5748,
        1023 / 255 * picture[..., 3],
    ]
    for found, exact in zip(rows, wanted, strict=True):
        assert np.abs(found - exact).max() <= 0.51


def test_planes_are_those_of_the_standard_also_when_only_a_part_changes() -> None:
    random = np.random.default_rng(3)
    for _ in range(60):
        width, height = (2 * int(half) for half in random.integers(9, 90, 2))
        picture = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        converter = YcbcrConverter((width, height))
        for _ in range(4):
            error = converter.convert(picture).to_ndarray() - exact_planes(picture)
            # Rounding adds half a level; chroma is rounded before it is averaged, too.
            assert np.abs(error).max() <= 1.1 and np.abs(error.mean()) < 0.15
            picture = picture.copy()
            (x0, x1), (y0, y1) = (np.sort(random.integers(0, side, 2)) for side in (width, height))
            part = picture[y0 : y1 + 1, x0 : x1 + 1]
            part[:] = random.integers(0, 256, part.shape, dtype=np.uint8)


def test_a_frame_does_not_change_when_the_next_is_converted() -> None:
    """An encoder may read a frame after the next one is converted."""
    converter = YcbcrConverter((96, 64))
    first, second = (np.full((64, 96, 3), level, np.uint8) for level in (20, 23))
    kept = converter.convert(first)
    before = kept.to_ndarray().copy()
    converter.convert(second)
    assert np.array_equal(kept.to_ndarray(), before)


@pytest.mark.parametrize(
    ("x", "y", "box"),
    [(0, 0, (0, 0, 2, 2)), (5, 3, (4, 2, 6, 4)), (8, 6, (8, 6, 10, 8)), (9, 7, (8, 6, 10, 8))],
)
@pytest.mark.parametrize("channel", range(3))
def test_one_changed_pixel_is_found(x: int, y: int, box: tuple[int, ...], channel: int) -> None:
    before = np.full((8, 10, 3), 9, np.uint8)
    after = before.copy()
    after[y, x, channel] += 1
    assert changed_box(before, after) == box
    assert changed_box(before, before.copy()) is None
