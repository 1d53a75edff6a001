"""Written English becomes the words that people speak."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("num2words", reason="the extra 'speech' is not installed")

from vortex.errors import InputError
from vortex.speech.text import MAX_CHARACTERS, spell_out, split_sentences


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("$3.50", "three dollars and fifty cents"),
        ("$1", "one dollar"),
        ("£2.01", "two pounds and one penny"),
        ("$0.99", "ninety nine cents"),
        ("-$5", "minus five dollars"),
        ("€1,200", "one thousand two hundred euros"),
        ("$5 million", "five million dollars"),
        ("$2.5bn", "two point five billion dollars"),
        ("2026-03-14", "March fourteenth, twenty twenty six"),
        ("3/14/2026", "March fourteenth, twenty twenty six"),
        ("25/12/1998", "December twenty fifth, nineteen ninety eight"),
        ("14 March 2026", "the fourteenth of March, twenty twenty six"),
        ("the 3rd of May", "the third of May"),
        ("Mar. 3", "March third"),
        ("in 1998, then", "in nineteen ninety eight, then"),
        ("in 2005", "in two thousand and five"),
        ("the 1990s and '80s", "the nineteen nineties and eighties"),
        ("3:30 pm", "three thirty PM"),
        ("9:05", "nine oh five"),
        ("12:00", "twelve o'clock"),
        ("at 5 p.m. today", "at five PM today"),
        ("20%", "twenty percent"),
        ("-5°C", "minus five degrees Celsius"),
        ("1 km, 2 km", "one kilometre, two kilometres"),
        ("3.14", "three point one four"),
        ("1,234,567", "one million two hundred and thirty four thousand five hundred and sixty seven"),
        ("007", "zero zero seven"),
        ("the 22nd", "the twenty second"),
        ("pages 10-20", "pages ten to twenty"),
        ("3/4 cup", "three quarters cup"),
        ("555-1234", "five five five, one two three four"),
        ("version 3.5.6", "version three point five point six"),
        ("No. 5 and #7", "number five and number seven"),
        ("Dr. Smith met Mrs. Jones", "Doctor Smith met Missus Jones"),
        ("12 Elm St. He", "twelve Elm Street. He"),
        ("in St. Louis", "in Saint Louis"),
        ("e.g. this, i.e. that", "for example this, that is that"),
        ("AT&T at me@site.com", "AT and T at me at site dot com"),
        ("café — “naïve”", 'cafe — "naive"'),
        ("J. K. Rowling left the U.S. She", "J K Rowling left the US. She"),
        ("B2B in 4 x 4", "B two B in four by four"),
    ],
)
def test_numbers_and_abbreviations_become_words(written: str, spoken: str) -> None:
    assert spell_out(written) == spoken


def test_a_text_is_cut_into_sentences() -> None:
    text = 'Dr. Who paid $3.50. Did he? "Yes!" she said. "No!" He left... slowly.\nA new line\n\nA new part.'
    sentences = split_sentences(text)
    assert [sentence.text for sentence in sentences] == [
        "Doctor Who paid three dollars and fifty cents.",
        "Did he?",
        '"Yes!" she said.',
        '"No!"',
        "He left... slowly.",
        "A new line",
        "A new part.",
    ]
    assert [sentence.ends_paragraph for sentence in sentences] == [False] * 5 + [True, True]


def test_no_digit_and_no_symbol_is_left() -> None:
    text = (
        "1 2nd 3.0 4,000 $5 6% 7:08 9/10/1112 13-14 1516s #17 a18b 19°F <20> {21} ~22^23 * 24_25 № 26 ½ 😀 §"
    )
    assert re.fullmatch(r"[A-Za-z ,.;:!?'\"()\-—]+", spell_out(text))


@pytest.mark.parametrize("text", ["", "   \n\n ", "...", "😀", "???"])
def test_a_text_without_words_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no English words"):
        split_sentences(text)


def test_a_text_in_another_script_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be read as English"):
        split_sentences("Hello, 你好.")


def test_a_text_that_is_too_long_is_refused() -> None:
    with pytest.raises(InputError, match=r"at most 200,000"):
        split_sentences("a " * MAX_CHARACTERS)
