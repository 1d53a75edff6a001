"""Drawn rows of teeth agree with dental anatomy: order, widths, symmetry, gaps, and gums between crowns."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.signal import find_peaks

from vortex.engines.mesh.teeth import LOWER_ARCH, UPPER_ARCH, Arch, draw_row, place_crowns
from vortex.types import F32

SCALE = 8.0
TOOTH, GUM, GREY_SHADE = (
    np.full(3, 200, np.float32),
    np.array([180, 60, 60], np.float32),
    np.ones(3, np.float32),
)


def drawn(arch: Arch) -> tuple[F32, F32]:
    """Return the picture of a row, and how far its rows lie from the edge of the incisors towards the gum."""
    up = np.arange(-4, 18, 1 / SCALE, dtype=np.float32)
    return draw_row(arch, TOOTH, GUM, GREY_SHADE, SCALE, arch.to_gum * up), up


def seams_mm(arch: Arch) -> np.ndarray:
    """Return the places of dark lines between teeth, half way up the crowns, across the whole row."""
    row, up = drawn(arch)
    green = row[np.argmin(np.abs(up - 4.5)), :, 1]
    x = (np.arange(len(green)) - len(green) // 2) / SCALE
    return x[find_peaks(-green, prominence=1.5)[0]]


@pytest.mark.parametrize("arch", [UPPER_ARCH, LOWER_ARCH], ids=["upper", "lower"])
def test_ten_front_teeth_are_separated_by_nine_seams_and_one_is_in_the_middle(arch: Arch) -> None:
    seams = seams_mm(arch)
    # The outer sides of the second premolars, as the camera sees them.
    reach = max(abs(crown.x_mm) for crown in place_crowns(arch) if crown.index == 4)
    assert np.count_nonzero(np.abs(seams) < reach) == 9
    assert np.abs(seams).min() < 0.3


def test_widths_of_front_teeth_are_in_the_order_of_anatomy() -> None:
    upper, lower = (np.sort(np.abs(seams_mm(arch)))[1::2] for arch in (UPPER_ARCH, LOWER_ARCH))
    # Upper central incisors are the widest, about 8.5 mm, and laterals narrower; lower ones the reverse.
    assert upper[0] == pytest.approx(8.5, abs=0.5)
    assert lower[0] == pytest.approx(5.0, abs=0.5)
    assert 0.6 < (upper[1] - upper[0]) / upper[0] < 0.8
    assert (lower[1] - lower[0]) / lower[0] > 0.95


@pytest.mark.parametrize(("arch", "apart_mm"), [(UPPER_ARCH, 35), (LOWER_ARCH, 26)], ids=["upper", "lower"])
def test_canines_are_as_far_apart_as_in_average_jaws(arch: Arch, apart_mm: float) -> None:
    first, second = (crown.x_mm for crown in place_crowns(arch) if crown.index == 2)
    assert abs(second - first) == pytest.approx(apart_mm, abs=3)


@pytest.mark.parametrize("arch", [UPPER_ARCH, LOWER_ARCH], ids=["upper", "lower"])
def test_a_row_is_symmetric(arch: Arch) -> None:
    row, _ = drawn(arch)
    assert np.abs(row - row[:, ::-1]).max() < 1e-3 * 255


def test_back_teeth_are_darker_than_front_ones() -> None:
    row, up = drawn(UPPER_ARCH)
    green = row[np.argmin(np.abs(up - 4.5)), :, 1]
    places = [
        crown.x_mm for crown in sorted(place_crowns(UPPER_ARCH), key=lambda c: c.index) if crown.x_mm > 0
    ]
    bright = [green[round(x * SCALE) + len(green) // 2] for x in places]
    assert all(front > back for front, back in pairwise(bright))
    # The second premolar stands about 17 mm deep.
    assert bright[4] < 0.65 * bright[0]


def test_the_gum_comes_down_between_the_central_incisors_and_not_on_them() -> None:
    row, up = drawn(UPPER_ARCH)
    redness = row[..., 0] - row[..., 1]
    middle = row.shape[1] // 2

    def gum_begins_mm(x_mm: float) -> float:
        return float(up[np.argmax(redness[:, middle + round(x_mm * SCALE)] > 40)])

    # A third of the crown of 10.5 mm lies between them.
    assert gum_begins_mm(4.2) == pytest.approx(10.5, abs=0.8)
    assert gum_begins_mm(4.2) - gum_begins_mm(0.0) > 2.5
