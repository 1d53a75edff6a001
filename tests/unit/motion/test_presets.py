"""Presets: sequences in every form, and the cross-fade between two presets."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from vortex.errors import UnknownPresetError
from vortex.motion.presets import PRESETS, PresetTrack, blend_presets, preset_weights

FPS = Fraction(24)


def test_sequences_are_read_in_every_form() -> None:
    expected = PresetTrack(("neutral", "manic"), (0.0, 3.5))
    assert PresetTrack.parse("neutral,manic@3.5") == expected
    assert PresetTrack.parse(" neutral @0 , manic @ 3.5") == expected
    assert PresetTrack.parse([("neutral", 0), ("manic", 3.5)]) == expected
    assert PresetTrack.parse(expected) is expected and PresetTrack.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "given",
    ["", "happy", "neutral,manic", "neutral@1", "neutral,manic@0", "neutral,calm@3,manic@2", "neutral@x", []],
)
def test_unknown_names_and_times_that_do_not_rise_are_refused(given: str) -> None:
    with pytest.raises(UnknownPresetError):
        PresetTrack.parse(given)


def test_cross_fade_is_the_smoothstep_polynomial() -> None:
    weights = preset_weights([0.0, 2.0], 96, FPS)[:, 1]
    u = np.clip(((np.arange(96) + 0.5) / 24 - 2.0) / 0.8 + 0.5, 0, 1)
    assert weights == pytest.approx(3 * u**2 - 2 * u**3, abs=1e-6)


def test_a_cross_fade_is_no_longer_than_the_presets_beside_it() -> None:
    # Half a second between the second and the third preset: both cross-fades last as long.
    weights = preset_weights([0.0, 2.0, 2.5], 96, FPS)
    time_s = (np.arange(96) + 0.5) / 24
    assert weights.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert (weights[time_s < 1.75, 0] == 1).all() and (weights[time_s > 2.75, 2] == 1).all()
    assert weights[(time_s > 1.8) & (time_s < 2.2), 1].min() > 0


def test_fields_are_blended_by_weight_wherever_the_frames_start() -> None:
    track = PresetTrack.parse("calm,manic@2")
    style = blend_presets(track, 96, FPS)
    middle = 47  # half a frame before 2 s, where both weigh about the same
    for name in ("smile", "blink_period_s", "gaze"):
        calm, manic = (getattr(PRESETS[preset], name) for preset in ("calm", "manic"))
        assert style[name][[0, -1]] == pytest.approx([calm, manic])
        assert style[name][middle] == pytest.approx((calm + manic) / 2, abs=0.05 * abs(manic - calm))
        assert np.allclose(blend_presets(track, 10, FPS, 40)[name], style[name][40:50])


def test_blinks_are_as_frequent_as_those_of_people() -> None:
    # Every 2 to 6 s at rest and in talk (Bentivoglio et al. 1997: 17 and 26 a minute).
    assert all(2 <= preset.blink_period_s <= 6 for preset in PRESETS.values())
