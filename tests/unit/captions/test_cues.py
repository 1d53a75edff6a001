"""Cues keep the limits of broadcasters' guidelines, and break where they say."""

from __future__ import annotations

from itertools import pairwise

from vortex.captions.cues import break_lines, make_cues
from vortex.captions.words import CaptionWord

TEXT = (
    "When the storm came over the hills, the old keeper lit the lamp and waited. Nobody had asked him to."
    " He had always known that, one night, a ship would need it; and that night had come at last. Thank you."
)


def timed(text: str, word_s: float = 0.35) -> list[CaptionWord]:
    return [
        CaptionWord(word, index * word_s, (index + 1) * word_s) for index, word in enumerate(text.split())
    ]


def test_limits_of_lines_and_times() -> None:
    words = timed(TEXT * 5)
    end_s = words[-1].end_s + 2
    cues = make_cues(words, end_s)
    assert all(len(cue.lines) <= 2 and max(map(len, cue.lines)) <= 42 for cue in cues)
    assert all(0.99 < cue.end_s - cue.start_s <= 7.0001 for cue in cues)
    assert all(one.end_s < other.start_s for one, other in pairwise(cues))
    assert " ".join(line for cue in cues for line in cue.lines) == " ".join((TEXT * 5).split())


def test_no_line_of_one_word_in_two() -> None:
    lines = [cue.lines for cue in make_cues(timed(TEXT), 60)]
    assert not [pair for pair in lines if len(pair) == 2 and min(len(line.split()) for line in pair) == 1]


def test_cues_end_with_sentences() -> None:
    ends = [cue.lines[-1] for cue in make_cues(timed(TEXT), 60)]
    for sentence_end in ("waited.", "him to.", "at last."):
        assert any(line.endswith(sentence_end) for line in ends)


def test_lines_break_after_a_clause_and_not_after_an_article() -> None:
    assert break_lines("Although it was late, we went to the sea again".split()) == (
        "Although it was late,",
        "we went to the sea again",
    )
    first, _ = break_lines("They were walking slowly through the enormous garden again".split())
    assert first.split()[-1] != "the"


def test_a_video_that_is_cut_ends_its_captions() -> None:
    cues = make_cues(timed(TEXT), 4.0)
    assert cues[-1].end_s <= 4.0
    assert sum(len(line.split()) for cue in cues for line in cue.lines) == 12


def test_a_word_longer_than_a_line_stays_whole() -> None:
    word = "Donaudampfschifffahrtsgesellschaft"
    assert make_cues(timed(f"The {word} sails"), 10, 20)[0:] != []
    assert any(word in line for cue in make_cues(timed(f"The {word} sails"), 10, 20) for line in cue.lines)
