"""Roman numerals after names (Henry VIII) and words (Chapter IV), in words."""

from __future__ import annotations

import re

from vortex.speech.numbers import Rule, in_words

_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_NUMERAL = r"(?=[IVXLCDM])M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
_RULERS = (
    "Henry|Louis|Charles|George|Edward|James|William|Richard|Elizabeth|Mary|Philip|Philippe|Catherine|Peter|"
    "Paul|Pius|Leo|Benedict|John|Gregory|Clement|Innocent|Urban|Alexander|Nicholas|Frederick|Napoleon|"
    "Wilhelm|Francis|Ferdinand|Leopold|Albert|Gustav|Christian|Carl|Haakon|Olav|Harald|Margaret|Margrethe|"
    "Victor|Emmanuel|Umberto|Alfonso|Juan|Pedro|Ivan|Boris|Robert|David|Malcolm|Kenneth|Constantine|Justinian|"
    "Ramses|Ramesses|Ptolemy|Cleopatra|Darius|Xerxes|Otto|Rudolf|Maximilian|Joseph|Sixtus|Julius|Adrian|Edmund"
)
_COUNTED = (
    "World War|Chapter|Part|Volume|Vol|Book|Act|Scene|Phase|Type|Section|Appendix|Figure|Fig|Table|Class|"
    "Grade|Level|Stage|Article|Title|Lesson|Unit|Round|Super Bowl|Mark|Group|Category|Factor|Schedule|Annex|"
    "Episode|Season|Canto|Psalm|Case|Exhibit|Step|Tier|Problem|chapters?|parts?|volumes?|acts?|scenes?|"
    "sections?|books?|articles?|appendix|figure|phase|stage"
)
"""What has numbers, so that even one letter after it is one."""
_ENDS_NAME = (
    r"(?=\s*(?:[.,;:!?)\"'—]|$)|'s\b|\s+(?:was|is|of|and|had|has|died|ruled|became|reigned|married|came|in|to|from|who|"
    r"made|took|went|left|wrote|with)\b)"
)
"""What follows a name that ends with one letter, which could be another word, such as I."""


def roman(numeral: str) -> int:
    """Return the value of a Roman numeral in capitals."""
    values = [_VALUES[letter] for letter in numeral]
    return sum(-v if v < after else v for v, after in zip(values, [*values[1:], 0], strict=True))


def _ordinal(match: re.Match[str]) -> str:
    return f"{match['name']} the {in_words(roman(match['numeral']), 'ordinal').title()}"


def _cardinal(match: re.Match[str]) -> str:
    return f"{match['name']} {in_words(roman(match['numeral'].upper()))}"


RULES: tuple[Rule, ...] = (
    (r"\b(?P<name>World War)\s(?P<numeral>I)\b", _cardinal),
    (rf"\b(?P<name>{_RULERS})\s(?P<numeral>(?=[IVX]{{2}}){_NUMERAL})\b", _ordinal),
    (rf"\b(?P<name>{_RULERS})\s(?P<numeral>[IV])\b{_ENDS_NAME}", _ordinal),
    (
        rf"\b(?P<name>(?:{_COUNTED})s?)\s(?P<numeral>(?!I\b(?!\s*(?:[.,;:!?)\"'—]|$)))(?:{_NUMERAL}))\b(?!')",
        _cardinal,
    ),
    (r"\b(?P<name>(?i:pages?|chapter))\s(?P<numeral>[ivx]{1,5})\b", _cardinal),
    (
        r"\b(?P<numeral>[IVX]{2,5})(?=(?:th)?\s[Cc]ent(?:ury|uries)\b)",
        lambda m: in_words(roman(m["numeral"]), "ordinal"),
    ),
    (r"\b(?P<name>[A-Z][a-z]+)\s(?P<numeral>II|III|IV|VI|VII|VIII|IX|XI|XII|XIII)\b", _cardinal),
)
"""Applied before numbers in digits."""
