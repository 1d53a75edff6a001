"""What blendshapes command is bounded, and lips meet when they are told to."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from vortex.engines.mesh.commands import (
    BROW_TRAVEL,
    MAX_APERTURE,
    SHAPES,
    amounts,
    aperture,
    gaze,
    lid_closing,
    lip_gap,
    rounding,
    template_mouth_width,
)
from vortex.engines.mesh.lids import ORDINARY_OPENING, WIDENING
from vortex.face.landmarks import BROWS
from vortex.face.shapes import load_shapes
from vortex.interpolation import soft_limit
from vortex.motion.drive import VISEME_BLENDSHAPES, expand
from vortex.types import MotionTrack
from vortex.visemes import LIP_CLOSING_COLUMNS, VISEMES


def motion(*rows: dict[str, float]) -> MotionTrack:
    shapes = np.stack([expand(row) for row in rows])
    return MotionTrack(shapes, np.zeros((len(rows), 3), np.float32), Fraction(24))


def moved(
    *rows: dict[str, float], source_width: float | None = None, **source: float
) -> dict[str, np.ndarray]:
    """Return the amounts (T,) of each shape for a frontal face with a shut mouth, unless told otherwise."""
    given = {"source_aperture": 0.0, "brow_height": 0.3, **source}
    width = template_mouth_width() if source_width is None else source_width
    return dict(zip(SHAPES, amounts(motion(*rows), source_width=width, **given).T, strict=True))


def test_a_soft_limit_has_slope_one_at_zero_and_is_never_exceeded() -> None:
    values = np.linspace(-10, 10, 2001, dtype=np.float32)
    limited = soft_limit(values, 0.16)
    assert np.abs(limited).max() <= np.float32(0.16)
    assert (np.diff(limited) >= 0).all()
    assert soft_limit(np.float32([1e-3]), 0.16)[0] == pytest.approx(1e-3, rel=1e-3)


def test_the_jaw_opens_the_lips_up_to_the_limit_and_closed_lips_stay_closed() -> None:
    opening = aperture(motion(*({"jawOpen": amount} for amount in np.linspace(0, 1, 11))))
    assert opening[0] == 0
    assert (np.diff(opening) > 0).all()
    assert aperture(motion({"jawOpen": 1.0, "mouthFunnel": 1.0, "mouthLowerDown": 1.0}))[0] <= MAX_APERTURE
    assert aperture(motion({"jawOpen": 1.0, "mouthClose": 1.0}))[0] == 0


def test_visemes_part_the_lips_as_speech_does() -> None:
    track = MotionTrack(VISEME_BLENDSHAPES, np.zeros((len(VISEMES), 3), np.float32), Fraction(24))
    opening = dict(zip(VISEMES, aperture(track), strict=True))
    assert all(opening[VISEMES[column]] == 0 for column in LIP_CLOSING_COLUMNS)
    assert opening["aa"] > opening["E"] > opening["ih"] > opening["SS"] > opening["FF"] > 0
    # 95th percentile of the opening of lively talkers, in outer-eye widths.
    assert 0.2 <= opening["aa"] <= 0.31


def test_rounded_lips_part_in_the_middle_and_spread_ones_along_the_mouth() -> None:
    rounded, spread = lip_gap(
        motion({"mouthPucker": 1.0, "jawOpen": 0.2}, {"mouthStretch": 1.0, "jawOpen": 0.2})
    )
    # An ellipse is flatter in the middle than a rhombus, of which the gap falls evenly.
    assert rounded[2] > 0.6 * rounded[4] > 0
    assert (np.diff(rounded[:5]) > 0).all()
    assert spread[0] > 0.2 * spread[4]
    np.testing.assert_allclose(rounded, rounded[::-1], atol=1e-3)


def test_a_hanging_jaw_in_the_picture_is_not_opened_twice() -> None:
    command = {"jawOpen": 0.5}
    assert moved(command)["jawOpen"] == pytest.approx(0.5)
    assert moved(command, source_aperture=0.3)["jawOpen"][0] < 0.1
    # Parted lips over a shut jaw are a smile.
    assert moved(command, source_aperture=0.08)["jawOpen"] == pytest.approx(0.5)


def test_a_smile_in_the_picture_goes_while_lips_round() -> None:
    wide = template_mouth_width() + 0.1
    smile = moved({}, {"mouthPucker": 1.0}, source_width=wide)["mouthSmileLeft"]
    assert smile[0] == 0 and smile[1] < -0.4


def test_brows_rise_by_a_part_of_the_height_above_the_lid() -> None:
    amount = moved({"browInnerUp": 1.0, "browOuterUpLeft": 1.0}, brow_height=0.1)
    for name in ("browInnerUp", "browOuterUpLeft"):
        rise = np.abs(load_shapes().columns((name,))[0, np.concatenate(list(BROWS.values())), 1]).max()
        assert 0 < amount[name][0] * rise <= BROW_TRAVEL * 0.1 + 1e-6
    assert amount["browOuterUpRight"][0] == 0


def test_a_blink_shuts_the_lid_and_wide_eyes_open_it_beyond_the_picture() -> None:
    rest, shut, wide = lid_closing(motion({}, {"eyeBlink": 1.0}, {"eyeWide": 1.0}), "Left", 0.3)
    assert (rest, shut) == (0, 1)
    assert -1 <= wide < -0.5
    # A filmed eye that opens by half opens this one, too.
    assert -1 <= lid_closing(motion({"eyeBlink": -0.3}), "Left", 0.3)[0] < -0.2


def test_a_half_shut_eye_opens_to_an_ordinary_one_and_a_shut_eye_stays_shut() -> None:
    opening = 0.12
    rest, shut = lid_closing(motion({}, {"eyeBlink": 1.0}), "Left", opening)
    # At -1 the eye is open by 1.25 times that of an ordinary eye.
    assert opening - rest * (WIDENING * ORDINARY_OPENING - opening) == pytest.approx(ORDINARY_OPENING)
    assert shut == 1
    assert lid_closing(motion({}, {"eyeBlink": 1.0}, {"eyeWide": 1.0}), "Left", 0.05).tolist() == [0, 0, 0]


def test_the_lid_follows_eyes_that_look_down_but_adds_nothing_to_a_blink() -> None:
    rows = {"eyeLookDown": 1.0}, {"eyeLookDown": 1.0, "eyeBlink": 0.6}, {"eyeBlink": 0.6}, {"eyeLookUp": 1.0}
    down, both, blink, up = lid_closing(motion(*rows), "Left", 0.3)
    assert 0.1 < down < 0.5
    assert both == blink
    assert up == 0


def test_the_person_s_left_is_the_viewer_s_right() -> None:
    x, y = gaze(motion({"eyeLookLeft": 1.0}, {"eyeLookDown": 1.0})).T
    assert x[0] > 0 and x[1] == 0
    assert y[1] > 0 and y[0] == 0


def test_rounding_is_between_zero_and_one() -> None:
    assert rounding(motion({}, {"mouthPucker": 1.0, "mouthFunnel": 1.0})).tolist() == [0, 1]
