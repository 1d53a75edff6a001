"""A mix to mono is as loud as its channels are together, by ITU-R BS.775, and nothing cancels."""

from __future__ import annotations

import numpy as np
import pytest

from vortex.media.downmix import Downmixer

RATE_HZ = 16_000
FRONT_AND_SURROUND = ("FL", "FR", "FC", "LFE", "SL", "SR")
NOISE = np.random.default_rng(0).normal(0, 0.1, (4 * RATE_HZ, 6)).astype(np.float32)
"""Four seconds of six sounds that have nothing in common."""


def level_db(mono: np.ndarray, reference: np.ndarray) -> float:
    """Return the level of a mix, without its first and last quarter second, over that of a sound."""
    inside = slice(RATE_HZ // 4, -RATE_HZ // 4)
    return float(10 * np.log10(np.mean(mono[inside] ** 2) / np.mean(reference[inside] ** 2)))


def only(positions: tuple[str, ...], **channels: np.ndarray) -> np.ndarray:
    """Return (N, C) sound with the given channels, the others silent."""
    silent = np.zeros(4 * RATE_HZ, np.float32)
    return np.stack([channels.get(name, silent) for name in positions], axis=1)


@pytest.mark.parametrize(
    ("channel", "coefficient"),
    # ITU-R BS.775-3, table 2, mono from 3/2: left and right 0.7071, centre 1, surround 0.5.
    [("FL", 0.7071), ("FR", 0.7071), ("FC", 1.0), ("SL", 0.5), ("SR", 0.5)],
)
def test_one_channel_has_the_coefficient_of_the_standard(channel: str, coefficient: float) -> None:
    voice = NOISE[:, 0]
    mono = Downmixer(FRONT_AND_SURROUND, RATE_HZ).mix(only(FRONT_AND_SURROUND, **{channel: voice}))
    assert np.abs(mono - coefficient * voice).max() < 1e-4


def test_the_low_frequency_channel_is_left_out() -> None:
    assert not Downmixer(FRONT_AND_SURROUND, RATE_HZ).mix(only(FRONT_AND_SURROUND, LFE=NOISE[:, 0])).any()


def test_powers_of_different_sounds_add_up() -> None:
    mono = Downmixer(FRONT_AND_SURROUND, RATE_HZ).mix(NOISE)
    expected = 0.5 + 0.5 + 1 + 0 + 0.25 + 0.25
    assert level_db(mono, NOISE[:, 0]) == pytest.approx(10 * np.log10(expected), abs=0.2)


@pytest.mark.parametrize("count", [2, 5, 64])
def test_equal_channels_give_the_same_samples_again(count: int) -> None:
    positions = ("FL", "FR") if count == 2 else ("NONE",) * count
    voice = NOISE[:, 0]
    mono = Downmixer(positions, RATE_HZ).mix(np.repeat(voice[:, None], count, axis=1))
    np.testing.assert_allclose(mono, voice, rtol=0, atol=0 if count == 2 else 1e-6)


@pytest.mark.parametrize("positions", [("FL", "FR"), ("NONE",) * 16])
def test_channels_in_opposite_phase_do_not_cancel(positions: tuple[str, ...]) -> None:
    voice = NOISE[:, 0]
    sound = np.zeros((len(voice), len(positions)), np.float32)
    sound[:, 0], sound[:, -1] = voice, -voice
    assert np.abs(Downmixer(positions, RATE_HZ).mix(sound) - voice).max() < 1e-4


@pytest.mark.parametrize("speaks", [0, 7, 63])
def test_the_only_one_of_many_microphones_is_as_loud_as_it_is(speaks: int) -> None:
    sound = np.zeros((4 * RATE_HZ, 64), np.float32)
    sound[:, speaks] = NOISE[:, 0]
    assert np.abs(Downmixer(("NONE",) * 64, RATE_HZ).mix(sound) - NOISE[:, 0]).max() < 1e-4


def test_the_blocks_that_a_sound_comes_in_make_no_clicks() -> None:
    """A voice that moves from left to right, and turns in phase, steps no more than the voice itself does."""
    voice = (0.5 * np.sin(2 * np.pi * 100 * np.arange(4 * RATE_HZ) / RATE_HZ)).astype(np.float32)
    right = np.linspace(-1, 1, len(voice), dtype=np.float32)
    sound = np.stack([voice * (1 - np.abs(right)), voice * right], axis=1)
    mono = Downmixer(("FL", "FR"), RATE_HZ).mix(sound)
    assert np.abs(np.diff(mono)).max() < 2 * np.abs(np.diff(voice)).max()
    for quarter in np.split(mono, 4):
        assert np.sqrt(np.mean(quarter**2)) > 0.25 * 0.5


def test_a_cut_into_chunks_changes_only_where_gains_change() -> None:
    whole = Downmixer(("FL", "FR"), RATE_HZ).mix(NOISE[:, :2])
    mixer = Downmixer(("FL", "FR"), RATE_HZ)
    parts = np.concatenate([mixer.mix(NOISE[first : first + 700, :2]) for first in range(0, len(NOISE), 700)])
    assert level_db(parts, whole) == pytest.approx(0, abs=0.1)
