"""Words with two pronunciations have the one that their sentence asks for."""

from __future__ import annotations

import pytest

pytest.importorskip("misaki", reason="the extra 'speech' is not installed")

from vortex.lipsync.visemes import SILENCE
from vortex.speech.pronunciation import pronounce, symbol_phoneme
from vortex.speech.text import spell_out

LINES = """
I read books every day. | R IY D
I often read novels. | R IY D
I read it yesterday. | R EH D
She has read it. | R EH D
Did you read it? | R IY D
The pipe is made of lead. | L EH D
Old houses have lead pipes. | L EH D
She will lead the team. | L IY D
The lead singer sang. | L IY D
We live here. | L IH V
It was a live show. | L AY V
They saved their lives. | L AY V Z
He lives alone. | L IH V Z
Close the door. | K L OW Z
She is a close friend. | K L OW S
They sat too close. | K L OW S
Do not tear it. | T EH R
A tear ran down. | T IH R
He tears it up. | T EH R Z
The wind blew hard. | W IH N D
Wind the clock. | W AY N D
He took a bow. | B AW
Bow to the king. | B AW
She tied a bow. | B OW
A bow and arrow. | B OW
Play the record. | R EH K AH R D
Please record it. | R AH K AO R D
This object is heavy. | AA B JH AH K T
I object to that. | AH B JH EH K T
The bandage was wound tight. | W AW N D
The wound healed. | W UW N D
Wait a minute. | M IH N AH T
A minute amount of it. | M AY N UW T
They refuse to go. | R AH F Y UW Z
Burn the refuse. | R EH F Y UW S
Farmers produce milk. | P R AH D UW S
Fresh farm produce. | P R OW D UW S
He used to sing. | Y UW S T
He used a knife. | Y UW Z D
There is no use. | Y UW S
They present an award. | P R IY Z EH N T
A birthday present. | P R EH Z AH N T
He plays bass guitar. | B EY S
We caught a bass. | B AE S
The Polish flag waved. | P OW L IH SH
Polish the table. | P AA L IH SH
Send your resume today. | R EH Z AH M EY
Let us resume now. | R AH Z UW M
The dove flew. | D AH V
He dove into it. | D OW V
Soldiers never desert. | D AH Z ER R T
A hot desert. | D EH Z AH R T
Separate the eggs. | S EH P AH R EY T
Two separate rooms. | S EH P AH R AH T
I estimate ten. | EH S T AH M EY T
A rough estimate. | EH S T AH M AH T
Its contents are secret, he is content. | K AH N T EH N T
Permit me. | P AH R M IH T
A house in Reading. | R EH D IH NG
Go to Nice in May. | N IY S
"""
TABLE = [tuple(part.strip() for part in line.split("|")) for line in LINES.strip().splitlines()]


def phonemes(text: str) -> str:
    """Return the ARPAbet sounds of an American voice."""
    names = [symbol_phoneme(symbol) for symbol in pronounce(spell_out(text))]
    return f" {' '.join(name for name in names if name not in (None, SILENCE))} "


@pytest.mark.parametrize(("written", "sounds"), TABLE)
def test_a_word_with_two_pronunciations_has_the_right_one(written: str, sounds: str) -> None:
    assert f" {sounds} " in phonemes(written)


@pytest.mark.parametrize(
    ("word", "sounds"),
    [
        # By the parts that chemists and physicians pronounce.
        (
            "dichlorodiphenyltrichloroethane",
            ["D AY K L AO R OW", "F EH N AH L", "T R AY K L AO R OW", "EH TH EY N"],
        ),
        ("methylenedioxymethamphetamine", ["M EH TH", "D AY AA K S", "M EH TH", "F EH D AH M IY N"]),
        ("hydroxychloroquine", ["HH AY D R AA K S IY", "K L AO R", "K W IY N"]),
        ("electroencephalography", ["L EH K T R OW", "EH N S EH F AH L", "G R AH F IY"]),
    ],
)
def test_a_long_word_is_spoken_to_its_end(word: str, sounds: list[str]) -> None:
    spoken, position = phonemes(word), 0
    for part in sounds:
        position = spoken.find(part, position)
        assert position >= 0, (part, spoken)
        position += len(part)


@pytest.mark.parametrize(
    ("text", "sounds"),
    [
        ("C A T", "S IY EY T IY"),
        ("vitamin A", "M AH N EY"),
        ("a cat", "AH K AE T"),
        ("plan A", "P L AE N EY"),
    ],
)
def test_a_lone_letter_has_its_name(text: str, sounds: str) -> None:
    assert sounds in phonemes(text).replace("IH", "AH")
