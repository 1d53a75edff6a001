"""Words whose sounds their neighbours decide, where the part of speech does not: read, lead, bow, bass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Reading:
    """Sounds that a word has if a condition holds.

    ``tags``: parts of speech of the Penn treebank, by their first letters. ``before`` and ``after``: words,
    one of which is its neighbour. ``anywhere``: words, one of which is in the sentence. ``capital``: whether
    it has a capital inside the sentence. What is empty or None does not matter.
    """

    symbols: str
    tags: tuple[str, ...] = ()
    before: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()
    anywhere: frozenset[str] = frozenset()
    capital: bool | None = None


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SUBJECTS = _words("i you we they people children students who")
_PAST = _words("yesterday ago last once earlier previously already then when")
_METAL = _words(
    "pipe pipes paint poisoning metal zinc copper batteries battery solder bullet bullets pencil heavy "
    "toxic contaminated molten tin roof"
)
_READINGS: Mapping[str, tuple[_Reading, ...]] = {
    "read": (
        _Reading("ɹˈɛd", ("VBP", "VBD"), before=_SUBJECTS, anywhere=_PAST),
        _Reading(
            "ɹˈid",
            ("VBD", "VBP"),
            before=_SUBJECTS,
            anywhere=_words("every always often usually sometimes daily never mostly now today"),
        ),
    ),
    "lead": (
        _Reading("lˈɛd", ("NN", "JJ", "VBD", "VBP"), after=_METAL),
        _Reading(
            "lˈɛd",
            ("NN", "JJ"),
            before=_words("of contains molten heavy like as from"),
            anywhere=_METAL | _words("made weighs atom"),
        ),
        _Reading("lˈɛd", ("NN", "JJ"), before=_words("of"), after=_words(". , ; and or")),
    ),
    "tears": (_Reading("tˈɛɹz", ("VBZ",)), _Reading("tˈɪɹz", ("NN",))),
    "bow": (
        _Reading(
            "bˈW",
            ("NN",),
            anywhere=_words("took take takes taking curtain ship ship's boat stern audience deck"),
        ),
        _Reading("bˈW", ("VB",)),
        _Reading("bˈW", after=_words("to down before")),
    ),
    "bows": (
        _Reading("bˈWz", ("VBZ",)),
        _Reading("bˈWz", anywhere=_words("took take takes taking audience")),
    ),
    "bowed": (_Reading("bˈWd"),),
    "bass": (
        _Reading("bˈæs", anywhere=_words("fish fishing caught catch lake river sea trout striped grilled")),
        _Reading("bˈAs"),
    ),
    "minute": (
        _Reading(
            "mInˈut",
            ("NN", "JJ"),
            after=_words(
                "amount amounts detail details difference differences trace traces quantity quantities "
                "particle particles crack cracks"
            ),
        ),
        _Reading("mInˈut", ("JJ",)),
    ),
    "row": (
        _Reading(
            "ɹˈW",
            ("NN",),
            before=_words("terrible furious blazing"),
        ),
    ),
    "sow": (_Reading("sˈW", ("NN",)),),
    "desert": (
        _Reading("dəzˈɜɹt", ("NN", "VB"), before=_words("soldiers to will would not never they troops")),
    ),
    "polish": (
        _Reading("pˈOlɪʃ", ("JJ", "NNP"), capital=True),
        _Reading("pˈɑlɪʃ", ("VB", "NN")),
        _Reading("pˈɑlɪʃ", after=_words("the your my it a")),
    ),
    "resume": (_Reading("ɹˈɛzəmˌA", ("NN",)),),
    "resumes": (_Reading("ɹˈɛzəmˌAz", ("NNS",)),),
    "close": (
        _Reading(
            "klˈOs",
            ("JJ", "RB", "NN", "VB"),
            before=_words("too very so how is was are were that so pretty"),
        ),
        _Reading(
            "klˈOs", after=_words("to friend friends by call game race up attention"), tags=("JJ", "RB", "NN")
        ),
    ),
    "wind": (
        _Reading(
            "wˈInd",
            ("VB", "NN"),
            before=_words("to will please must"),
        ),
        _Reading("wˈInd", ("VB", "NN"), after=_words("it the up down"), before=frozenset()),
    ),
    "winds": (_Reading("wˈIndz", ("VBZ",)),),
    "does": (_Reading("dˈOz", ("NNS",)),),
    "dove": (_Reading("dˈOv", ("VBD",)), _Reading("dˈʌv", ("NN",))),
    "sewer": (_Reading("sˈOəɹ", anywhere=_words("needle thread dress seam fabric")),),
    "reading": (_Reading("ɹˈɛdɪŋ", ("NNP",), before=_words("in to from near at of"), capital=True),),
    "nice": (_Reading("nˈis", ("NNP",), before=_words("in to from near of"), capital=True),),
    "august": (_Reading("ɔɡˈʌst", ("JJ",), capital=False), _Reading("ˈɔɡəst", capital=True)),
    "number": (_Reading("nˈʌməɹ", ("JJR",)),),
    "moped": (_Reading("mˈOpt", ("VBD",)),),
    "produce": (_Reading("pɹˈOdˌus", ("NN",)),),
    "progress": (_Reading("pɹəɡɹˈɛs", ("VB", "VBP")),),
    "live": (
        _Reading(
            "lˈIv",
            after=_words(
                "music show concert video stream broadcast audience coverage performance band ammunition wire"
            ),
            tags=("JJ", "NN", "VB", "RB"),
        ),
    ),
    "export": (_Reading("ɪkspˈɔɹt", ("VB",)),),
    "protest": (_Reading("pɹətˈɛst", ("VB",)),),
    "increase": (_Reading("ˈɪnkɹˌis", ("NN",)),),
    "used": (
        _Reading(
            "jˈust",
            ("VBD", "VBN", "JJ"),
            after=_words("to"),
            before=_words("am is are was were get got be i you we they he she it"),
        ),
    ),
    "aged": (_Reading("ˈAʤᵻd", ("NN",), before=_words("the")),),
    "blessed": (_Reading("blˈɛsᵻd", ("JJ",)),),
    "invalid": (_Reading("ˈɪnvələd", ("NN",)),),
    "job": (
        _Reading("ʤˈOb", ("NNP",), before=_words("of"), anywhere=_words("book bible patience"), capital=True),
    ),
}
_LETTER_NAMES = _words(
    "letter plan vitamin grade type class group hepatitis section option point team player side series level"
)


def contextual_symbols(words: Sequence[str], index: int, tag: str) -> str | None:
    """Return the misaki symbols of a word that its neighbours decide, None for all other words.

    ``words`` are the tokens of a sentence, ``tag`` is the part of speech (Penn treebank) of the one at
    ``index``.
    """
    word = words[index]
    before = words[index - 1] if index else ""
    after = words[index + 1] if index + 1 < len(words) else ""
    if word == "A":
        spelled = before.lower() in _LETTER_NAMES or any(_is_letter(near) for near in (before, after))
        return "ˈA" if spelled else None
    rest = {other.lower() for place, other in enumerate(words) if place != index}
    for reading in _READINGS.get(word.lower(), ()):
        if (
            (not reading.tags or tag.startswith(reading.tags))
            and (not reading.before or before.lower() in reading.before)
            and (not reading.after or after.lower() in reading.after)
            and (not reading.anywhere or not reading.anywhere.isdisjoint(rest))
            and (reading.capital is None or (word[0].isupper() and index > 0) == reading.capital)
        ):
            return reading.symbols
    return None


def _is_letter(word: str) -> bool:
    return len(word) == 1 and word.isupper() and word not in "I"
