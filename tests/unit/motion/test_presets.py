"""Presets: sequences in every form, and the cross-fade between two presets."""

from __future__ import annotations

from dataclasses import fields
from fractions import Fraction

import numpy as np
import pytest

from vortex.errors import UnknownPresetError
from vortex.motion.presets import PRESETS, Preset, PresetTrack, blend_presets, preset_weights

FPS = Fraction(24)


def test_sequences_are_read_in_every_form() -> None:
    expected = PresetTrack(("neutral", "manic"), (0.0, 3.5))
    assert PresetTrack.parse("neutral,manic@3.5") == expected
    assert PresetTrack.parse(" neutral @0 , manic @ 3.5") == expected
    assert PresetTrack.parse([("neutral", 0), ("manic", 3.5)]) == expected
    assert PresetTrack.parse(expected) is expected and PresetTrack.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "given",
    [
        "",
        "furious",
        "neutral,manic",
        "neutral@1",
        "neutral,manic@0",
        "neutral,calm@3,manic@2",
        "neutral@x",
        [],
    ],
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
    for name in ("smile", "blink_period_s", "glance_deg"):
        calm, manic = (getattr(PRESETS[preset], name) for preset in ("calm", "manic"))
        assert style[name][[0, -1]] == pytest.approx([calm, manic])
        assert style[name][middle] == pytest.approx((calm + manic) / 2, abs=0.05 * abs(manic - calm))
        assert np.allclose(blend_presets(track, 10, FPS, 40)[name], style[name][40:50])


def test_blinks_are_as_frequent_as_those_of_people() -> None:
    # Every 2 to 6 s at rest and in talk (Bentivoglio et al. 1997: 17 and 26 a minute).
    assert all(2 <= preset.blink_period_s <= 6 for preset in PRESETS.values())


def test_a_strength_is_read_in_every_form() -> None:
    expected = PresetTrack(("neutral", "manic"), (0.0, 3.5), (1.0, 1.5))
    assert PresetTrack.parse("neutral,manic:1.5@3.5") == expected
    assert PresetTrack.parse(" neutral:1 , manic : 1.50 @ 3.5") == expected
    assert PresetTrack.parse([("neutral", 0), ("manic:1.5", 3.5)]) == expected
    assert str(expected) == "neutral,manic:1.5@3.5" and PresetTrack.parse(str(expected)) == expected
    assert PresetTrack.parse("calm").strengths == (1.0,)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("calm:2.1", "strength 2.1; give 0"),
        ("calm:-1", "Cannot read the strength"),
        ("calm:", "Cannot read the strength"),
        ("calm:nan", "Cannot read the strength"),
        ("calm:1:2", "Cannot read the strength"),
        (":1", "Unknown preset ''"),
        ("neutral@1:2", "Cannot read preset"),
    ],
)
def test_other_strengths_are_refused(given: str, message: str) -> None:
    with pytest.raises(UnknownPresetError, match=message):
        PresetTrack.parse(given)


@pytest.mark.parametrize("name", PRESETS)
def test_numbers_are_on_the_line_through_neutral_within_their_limits(name: str) -> None:
    plain, own = PRESETS["neutral"], PRESETS[name]
    assert own.at_strength(0) == plain and own.at_strength(1) == own
    for field in fields(Preset):
        least, most = field.metadata["limits"]
        at_0, at_1 = getattr(plain, field.name), getattr(own, field.name)
        assert least <= at_1 <= most, field.name
        for strength in (0.5, 2.0):
            wanted = min(max(at_0 + strength * (at_1 - at_0), least), most)
            assert getattr(own.at_strength(strength), field.name) == pytest.approx(wanted), field.name


def test_a_strength_fades_with_its_preset() -> None:
    style = blend_presets(PresetTrack.parse("excited:0.5,excited:1.5@2"), 96, FPS)
    plain, full = PRESETS["neutral"].smile, PRESETS["excited"].smile
    ends = [plain + strength * (full - plain) for strength in (0.5, 1.5)]
    assert style["smile"][[0, -1]] == pytest.approx(ends)
    assert (np.diff(style["smile"]) >= -1e-7).all()
