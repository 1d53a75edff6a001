"""Words beside the sound: when each is spoken, and where something else is, on emissions that are known."""

from __future__ import annotations

import numpy as np
import pytest

from vortex.lipsync.acoustic import HOP_S
from vortex.lipsync.ctc import CLASSES, CTC_DELAY_S
from vortex.lipsync.transcript import Match, match_words
from vortex.lipsync.vad import VAD_HZ

WORDS = [["B", "AE", "T"], ["T", "UW"], ["M", "IY"], ["F", "AO", "R"], ["P", "IY", "S"], ["N", "AW"]]
OTHERS = [["K", "L", "AH"], ["G", "ER"], ["S", "IH"], ["Y", "EH", "TH"], ["HH", "AA"], ["Z", "EY", "D"]]
SPACING_FRAMES = 6


def emissions_of(words: list[list[str]], sure: float = 0.9) -> np.ndarray:
    """Return emissions with one spike for each sound, every 0.12 s from 0.2 s on, and blanks between."""
    sounds = [sound for word in words for sound in word]
    frames = 10 + SPACING_FRAMES * len(sounds) + 10
    emissions = np.full((frames, len(CLASSES)), (1 - sure) / (len(CLASSES) - 1), np.float32)
    spikes = 10 + SPACING_FRAMES * np.arange(len(sounds))
    for frame in range(frames):
        emissions[frame, 0] = sure
    for frame, sound in zip(spikes, sounds, strict=True):
        emissions[frame] = (1 - sure) / (len(CLASSES) - 1)
        emissions[frame, CLASSES.index(sound)] = sure
    return emissions


def match(heard: list[list[str]], words: list[list[str]], sure: float = 0.9) -> Match:
    emissions = emissions_of(heard, sure)
    return match_words(emissions, np.ones(len(emissions) * 2, np.bool_), words)


@pytest.mark.parametrize("sure", [0.9, 0.5, 0.2])
def test_each_sound_is_found_at_its_spike(sure: float) -> None:
    found = match(WORDS, WORDS, sure)
    expected_s = (10 + SPACING_FRAMES * np.arange(15)) * HOP_S - CTC_DELAY_S
    assert found.starts_s == pytest.approx(expected_s)
    assert not found.wrong.any()
    assert found.runs() == [(0, 6, 0.0, pytest.approx(len(found.wrong) * HOP_S))]
    assert [span.phoneme for span in found.sounds(1, 3)] == ["T", "UW", "M", "IY"]


def test_other_words_are_wrong_where_they_are_spoken() -> None:
    right = WORDS * 2
    found = match([*right, *OTHERS, *OTHERS, *right], [*right, *WORDS, *WORDS, *right])
    (stretch,) = found.mismatches()
    spoken_s = [0.2 + 30 * 0.12, 0.2 + 61 * 0.12]
    assert stretch == pytest.approx(spoken_s, abs=0.6)
    (first, last) = found.runs()
    assert first[0] == 0 and first[1] <= 12 and last[0] >= 24 and last[1] == 36


def test_a_text_far_too_long_is_used_as_far_as_it_is_spoken() -> None:
    ((first, end, _, _),) = match(WORDS, [*WORDS, *OTHERS * 40]).runs()
    assert first == 0 and end <= 6 + 1
    assert match(OTHERS * 2, WORDS * 40).runs() == []


def test_nothing_matches_where_there_is_no_voice() -> None:
    emissions = emissions_of(WORDS)
    silent = match_words(emissions, np.zeros(round(len(emissions) * HOP_S * VAD_HZ), np.bool_), WORDS)
    assert silent.runs() == []
