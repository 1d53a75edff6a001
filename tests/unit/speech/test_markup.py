"""Tags in a text: breaks and aliases are obeyed, other tags vanish, and what is no tag stays."""

from __future__ import annotations

import pytest

pytest.importorskip("num2words", reason="the extra 'speech' is not installed")

from vortex.errors import InputError
from vortex.speech.markup import Passage, parse_markup
from vortex.speech.text import read_text


@pytest.mark.parametrize(
    ("tag", "pause_s"),
    [
        ('<break time="500ms"/>', 0.5),
        ("<break time='1.5s' />", 1.5),
        ('<BREAK TIME="2s"></BREAK>', 2.0),
        ('<break time="+.25s"/>', 0.25),
        ("<break/>", 0.5),
        ('<break strength="none"/>', 0.0),
        ('<break strength="x-strong"/>', 1.2),
    ],
)
def test_a_break_is_a_pause(tag: str, pause_s: float) -> None:
    passages, ignored = parse_markup(f"<speak>One {tag} two.</speak>")
    assert [passage.text.strip() for passage in passages] == ["One", "two."]
    assert [passage.pause_s for passage in passages] == [pause_s, None]
    assert ignored == ()


@pytest.mark.parametrize(
    "tag", ['<break time="soon"/>', '<break time="5"/>', '<break strength="huge"/>', '<break time="61s"/>']
)
def test_a_break_that_cannot_be_kept_is_refused(tag: str) -> None:
    with pytest.raises(InputError, match=r"A <break>.*give"):
        parse_markup(f"One {tag} two.")


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ('The <sub alias="World Wide Web Consortium">W3C</sub> met.', "The World Wide Web Consortium met."),
        ('Say <say-as interpret-as="characters">bbc</say-as>.', "Say B B C."),
        ("A <b>bold</b> and <em class='x'>new</em> word", "A bold and new word"),
        ("Salt &amp; pepper, 3 &lt; 5", "Salt and pepper, three less than five"),
        ("if a < b and c > d", "if a less than b and c greater than d"),
        ("one<!-- not this -->two", "onetwo"),
        ("<?xml version='1.0'?>yes", "yes"),
    ],
)
def test_tags_are_not_read(written: str, spoken: str) -> None:
    assert " ".join(sentence.text for sentence in read_text(written).sentences) == spoken


def test_tags_that_are_not_obeyed_are_named() -> None:
    reading = read_text("<prosody rate='slow'>One</prosody> <emphasis>two</emphasis>.")
    assert reading.notes == ("tags not obeyed, their text is read: <prosody>, <emphasis>",)


def test_paragraph_and_line_tags_end_sentences() -> None:
    sentences = read_text("<p>One</p><p>two<br/>three</p>").sentences
    assert [(sentence.text, sentence.ends_paragraph) for sentence in sentences] == [
        ("One", True),
        ("two", False),
        ("three", True),
    ]


def test_breaks_add_up_and_may_come_first_and_last() -> None:
    reading = read_text('<break time="1s"/>One<break time="1s"/><break time="500ms"/>two<break time="2s"/>')
    assert reading.lead_s == 1.0
    assert [sentence.pause_s for sentence in reading.sentences] == [1.5, 2.0]


def test_text_without_tags_is_one_passage() -> None:
    assert parse_markup("plain") == ((Passage("plain"),), ())
