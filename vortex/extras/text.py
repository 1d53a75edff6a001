"""Written English as it is spoken: numbers, money, dates and abbreviations in words, cut into sentences."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vortex.errors import InputError, MissingExtraError

MAX_CHARACTERS = 200_000
"""About four hours of speech."""

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip
_MONTH = "(?P<month>" + "|".join(f"{name}|{name[:3]}\\.?" for name in _MONTHS) + r"|Sept\.?)"
_CURRENCIES: Mapping[str, tuple[str, str, str, str]] = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
}
_SCALES: Mapping[str, str] = {
    "k": "thousand", "m": "million", "bn": "billion", "b": "billion", "tn": "trillion",
    "hundred": "hundred", "thousand": "thousand", "million": "million", "billion": "billion",
    "trillion": "trillion",
}  # fmt: skip
_UNITS: Mapping[str, tuple[str, str]] = {
    "km/h": ("kilometre per hour", "kilometres per hour"), "mph": ("mile per hour", "miles per hour"),
    "km": ("kilometre", "kilometres"), "cm": ("centimetre", "centimetres"),
    "mm": ("millimetre", "millimetres"), "kg": ("kilogram", "kilograms"), "mg": ("milligram", "milligrams"),
    "lbs": ("pound", "pounds"), "lb": ("pound", "pounds"), "oz": ("ounce", "ounces"), "ft": ("foot", "feet"),
    "ml": ("millilitre", "millilitres"), "kHz": ("kilohertz", "kilohertz"), "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"), "Hz": ("hertz", "hertz"), "kB": ("kilobyte", "kilobytes"),
    "MB": ("megabyte", "megabytes"), "GB": ("gigabyte", "gigabytes"), "TB": ("terabyte", "terabytes"),
    "ms": ("millisecond", "milliseconds"), "kW": ("kilowatt", "kilowatts"), "fps": ("frame per second",
    "frames per second"), "px": ("pixel", "pixels"), "°C": ("degree Celsius", "degrees Celsius"),
    "°F": ("degree Fahrenheit", "degrees Fahrenheit"), "°": ("degree", "degrees"), "m": ("metre", "metres"),
    "g": ("gram", "grams"), "s": ("second", "seconds"), "h": ("hour", "hours"), "%": ("percent", "percent"),
}  # fmt: skip
_FRACTIONS: Mapping[str, str] = {
    "1/2": "one half", "1/3": "one third", "2/3": "two thirds", "1/4": "one quarter", "3/4": "three quarters",
    "1/5": "one fifth", "1/8": "one eighth",
}  # fmt: skip
_ABBREVIATIONS: Mapping[str, str] = {
    "Dr.": "Doctor", "Mr.": "Mister", "Mrs.": "Missus", "Ms.": "Miz", "Prof.": "Professor", "Jr.": "Junior",
    "Sr.": "Senior", "Gen.": "General", "Sgt.": "Sergeant", "Capt.": "Captain", "Rev.": "Reverend",
    "Hon.": "Honourable", "Gov.": "Governor", "Sen.": "Senator", "Inc.": "Incorporated", "Ltd.": "Limited",
    "Co.": "Company", "Corp.": "Corporation", "Dept.": "Department", "Ave.": "Avenue", "Blvd.": "Boulevard",
    "Rd.": "Road", "Mt.": "Mount", "Ft.": "Fort", "approx.": "approximately", "vs.": "versus",
    "etc.": "et cetera", "e.g.": "for example", "i.e.": "that is", "est.": "established", "min.": "minutes",
    "hrs.": "hours", "Ph.D.": "P H D", "w/": "with", "w/o": "without",
}  # fmt: skip
_ENDS_SENTENCE = frozenset(
    {"Inc.", "Ltd.", "Co.", "Corp.", "etc.", "Jr.", "Sr.", "Ave.", "Blvd.", "Rd.", "St."}
)
"""Abbreviations that may close a sentence, whose stop then ends it too."""
_LEADS_IN = frozenset({"in", "at", "to", "from", "near", "the", "of", "and", "saw", "met"})
_STARTS_SENTENCE = frozenset(
    {"He", "She", "It", "They", "We", "I", "You", "The", "This", "That", "But", "In"}
)
"""After an acronym with stops, such as "U.S.", one of these starts a new sentence."""
_SYMBOLS: Mapping[str, str] = {
    "&": " and ", "@": " at ", "+": " plus ", "=": " equals ", "×": " times ", "÷": " divided by ", "±":
    " plus or minus ", "≈": " about ", "<": " less than ", ">": " greater than ", "_": " ", "*": " ",
    "|": ", ", "~": " about ", "^": " ", "/": " ", "\\": " ", "•": " ", "©": " ", "®": " ", "™": " ",
    "№": " number ", "#": " ",
}  # fmt: skip
_TYPOGRAPHY = {
    **dict.fromkeys(map(ord, "‘’‚‛´`"), "'"),
    **dict.fromkeys(map(ord, "“”„«»"), '"'),
    **dict.fromkeys(map(ord, "‐‑–−"), "-"),
    ord("…"): "...",
    **{
        ord(sign): f" {plain} "
        for sign, plain in zip("½¼¾⅓⅔⅛", "1/2 1/4 3/4 1/3 2/3 1/8".split(), strict=True)
    },
    **{
        ord(letter): plain
        for letter, plain in zip("ßøØæÆœŒłŁ", "ss o O ae Ae oe Oe l L".split(), strict=True)
    },
}

_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]

_BOUNDARY = re.compile(
    r"(?:(?<=[!?])|(?<=[^.]\.))\s+(?=\W*\w)"  # a plain stop
    r"|(?:(?<=\.\.\.)|(?<=[.!?][\"')]))\s+(?=\W*[A-Z])"  # dots, or a quotation, that may go on
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """``text`` in words only; ``ends_paragraph`` asks for a longer pause behind it."""

    text: str
    ends_paragraph: bool = False


def split_sentences(text: str) -> tuple[Sentence, ...]:
    """Return the sentences of a written English text, in words as they are spoken.

    A line break ends a sentence, a blank line a paragraph.

    Raises:
        InputError: no words in it, a letter of another script, or more than :data:`MAX_CHARACTERS`.
        MissingExtraError: the extra "speech" is not installed.
    """
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"The text has {len(text):,} characters; give at most {MAX_CHARACTERS:,}, or split it into parts."
        )
    sentences: list[Sentence] = []
    for paragraph in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        spoken = [
            part
            for line in paragraph.split("\n")
            for part in _BOUNDARY.split(spell_out(line))
            if re.search(r"[A-Za-z]", part)
        ]
        sentences += [Sentence(part.strip()) for part in spoken[:-1]]
        sentences += [Sentence(part.strip(), ends_paragraph=True) for part in spoken[-1:]]
    if not sentences:
        raise InputError(f"The text {text[:40]!r} has no English words; give something to say.")
    return tuple(sentences)


def spell_out(text: str) -> str:
    """Return one line of English with everything written in words; sentences keep their punctuation.

    Slashed dates are read month first unless the first number cannot be a month. Emoji are left out.

    Raises:
        InputError: a letter of another script.
        MissingExtraError: the extra "speech" is not installed.
    """
    # the dictionaries know cafe and naive without their accents
    text = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    text = text.translate(_TYPOGRAPHY)
    text = _abbreviations(text)
    for pattern, say in _RULES:
        text = pattern.sub(say, text)
    for symbol, word in _SYMBOLS.items():
        text = text.replace(symbol, word)
    foreign = next((c for c in text if c.isalpha() and not c.isascii()), None)
    if foreign:
        raise InputError(
            f"The text has {foreign!r}, which cannot be read as English; write it in Latin letters."
        )
    # what is left is letters and the punctuation that shapes the melody
    text = re.sub(r"[^A-Za-z\s.,;:!?'\"()\-—]", " ", text)
    text = re.sub(r"\s+([.,;:!?])", r"\1", text)
    return re.sub(r"\s+", " ", text).strip()


# ---------------------------------------- numbers


def _words(number: str | int | float, kind: str = "cardinal") -> str:
    try:
        from num2words import num2words
    except ImportError as exc:
        raise MissingExtraError("Speech needs num2words. Run: pip install 'vortex-portrait[speech]'") from exc
    return str(num2words(number, to=kind)).replace(",", "").replace("-", " ")


def _digits(text: str) -> str:
    return " ".join(_words(int(digit)) for digit in text if digit.isdigit())


def _cardinal(text: str) -> str:
    """Return "1,234.50" in words; long numbers and those with leading zeros digit by digit."""
    whole, _, part = text.replace(",", "").partition(".")
    if (len(whole) > 1 and whole[0] == "0") or len(whole) > 15:
        said = _digits(whole)
    else:
        said = _words(int(whole))
    return f"{said} point {_digits(part)}" if part else said


def _is_one(text: str) -> bool:
    return text == "1"


def _ordinal(number: int) -> str:
    return _words(number, "ordinal")


def _year(number: int) -> str:
    """Return a year as it is said: nineteen ninety eight, two thousand and five, twenty twenty six."""
    return _words(number, "year")


# ---------------------------------------- rules


def _abbreviations(text: str) -> str:
    text = re.sub(r"\bNo\.\s*(?=\d)", "number ", text)
    text = re.sub(r"\bp\.\s*(?=\d)", "page ", text)
    text = re.sub(r"\bSt\.", _saint_or_street, text)
    for short, long in _ABBREVIATIONS.items():
        pattern = rf"(?<![\w.]){re.escape(short)}(?!\w)"
        text = re.sub(pattern, lambda m, s=short, w=long: w + _stop_after(s, m.string, m.end()), text)  # type: ignore[misc]
    text = re.sub(r"\b([AaPp])\.\s?[Mm]\.", _half_of_day, text)
    return re.sub(r"\b(?:[A-Z]\.\s?){2,}|\b[A-Z]\.(?= [A-Z])", _initials, text)


def _stop_after(short: str, text: str, end: int) -> str:
    """Return the full stop that an abbreviation hides at the end of a sentence."""
    closes = not text[end:].strip() or re.match(r"[\"')]*\s+[A-Z]", text[end:])
    return "." if short in _ENDS_SENTENCE and closes else ""


def _saint_or_street(match: re.Match[str]) -> str:
    """Return "Saint" before a name, as in "met St. Peter", "Street" after one, as in "12 Elm St."."""
    before = re.search(r"(\w+)\s+$", match.string[: match.start()])
    follows_name = before is not None and before[1][0].isupper() and before[1].lower() not in _LEADS_IN
    if follows_name or not re.match(r" [A-Z]", match.string[match.end() :]):
        return "Street" + _stop_after("St.", match.string, match.end())
    return "Saint"


def _half_of_day(match: re.Match[str]) -> str:
    rest = match.string[match.end() :]
    stop = "." if not rest.strip() or re.match(r"\s+[A-Z]", rest) else ""
    return f"{match[1].upper()}M{stop}"


def _initials(match: re.Match[str]) -> str:
    """Return "U.S. " as "US ", "J. K. " as "J K "; the last stop stays where the text ends."""
    spaced = re.search(r"\.\s[A-Z]", match[0])
    letters = re.findall(r"[A-Z]", match[0])
    tail = " " if match[0].endswith(" ") else ""
    rest = match.string[match.end() :].strip()
    ends = not rest or (not spaced and rest.split()[0] in _STARTS_SENTENCE)
    return (" " if spaced else "").join(letters) + ("." if ends else "") + tail


def _money(match: re.Match[str]) -> str:
    one, many, cent, cents = _CURRENCIES[match["sign"]]
    amount, scale = match["amount"].replace(",", ""), match["scale"]
    minus = "minus " if match["minus"] else ""
    if scale:
        return f"{minus}{_cardinal(amount)} {_SCALES[scale.strip().lower()]} {many}"
    whole, _, part = amount.partition(".")
    if len(part) not in (0, 2):
        return f"{minus}{_cardinal(amount)} {many}"
    pieces = []
    if int(whole) or not int(part or 0):
        pieces.append(f"{_cardinal(whole)} {one if _is_one(whole) else many}")
    if int(part or 0):
        pieces.append(f"{_words(int(part))} {cent if int(part) == 1 else cents}")
    return minus + " and ".join(pieces)


def _month_name(text: str) -> str:
    return next(name for name in _MONTHS if name.startswith(text[:3]))


def _month_day(match: re.Match[str]) -> str:
    day = f"{_month_name(match['month'])} {_ordinal(int(match['day']))}"
    return f"{day}, {_year(int(match['year']))}" if match["year"] else day


def _day_month(match: re.Match[str]) -> str:
    day = f"the {_ordinal(int(match['day']))} of {_month_name(match['month'])}"
    if re.search(r"\bthe $", match.string[: match.start()], re.IGNORECASE):
        day = day.removeprefix("the ")
    return f"{day}, {_year(int(match['year']))}" if match["year"] else day


def _numeric_date(match: re.Match[str]) -> str:
    month, day, year = int(match["month"]), int(match["day"]), int(match["year"])
    if month > 12:
        month, day = day, month
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return match[0].replace("/", " ").replace("-", " ")
    return f"{_MONTHS[month - 1]} {_ordinal(day)}, {_year(year + (2000 if year < 100 else 0))}"


def _time(match: re.Match[str]) -> str:
    hour, minute = int(match["hour"]), int(match["minute"] or 0)
    half = f" {match['half'].upper()}" if match["half"] else ""
    if minute:
        said = f"{_words(hour)} {'oh ' if minute < 10 else ''}{_words(minute)}"
    else:
        said = _words(hour) + ("" if half else " o'clock" if hour <= 12 else " hundred hours")
    return said + half


def _measure(match: re.Match[str]) -> str:
    unit = match["unit"]
    minus = "minus " if match["minus"] else ""
    return f"{minus}{_cardinal(match['amount'])} {_UNITS[unit][0 if _is_one(match['amount']) else 1]}"


def _decade(match: re.Match[str]) -> str:
    tens = match["tens"]
    name = _words(int(tens) * 10).removesuffix("y") + "ies" if tens != "0" else "hundreds"
    if not match["century"]:
        return name
    if tens == "0" and match["century"].endswith("0"):
        return f"{_words(int(match['century']) * 100)}s"
    return f"{_words(int(match['century']))} {name}"


def _plain_year(match: re.Match[str]) -> str:
    return _year(int(match[0]))


def _signed(match: re.Match[str]) -> str:
    return ("minus " if match["minus"] else "") + _cardinal(match["amount"])


def _rules(table: Sequence[tuple[str, Callable[[re.Match[str]], str]]]) -> tuple[Rule, ...]:
    return tuple((re.compile(pattern), say) for pattern, say in table)


_DAY = r"(?P<day>[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)?"
_UNIT = "|".join(re.escape(unit) for unit in _UNITS)
_RULES = _rules(
    [
        (r"https?://(?:www\.)?", lambda m: ""),
        (r"(?<=[A-Za-z])\.(?=(?:com|org|net|edu|gov|io|ai|co|uk|de|py|dev)\b)", lambda m: " dot "),
        (
            r"(?P<minus>-(?=\D))?(?P<sign>[$£€¥])\s?(?P<amount>" + _NUMBER + r")"
            r"(?P<scale>\s?(?:hundred|thousand|million|billion|trillion|bn|tn|[kKmMbB])\b)?",
            _money,
        ),
        (r"\b(?P<year>[12]\d{3})-(?P<month>0\d|1[0-2])-(?P<day>[0-3]\d)\b", _numeric_date),
        (r"\b(?P<month>\d{1,2})/(?P<day>\d{1,2})/(?P<year>\d{4}|\d{2})\b", _numeric_date),
        (r"\b" + _MONTH + r" " + _DAY + r"\b(?!:)(?:,? (?P<year>[12]\d{3})\b)?", _month_day),
        (
            r"(?<![:\w])" + _DAY + r" (?:of )?" + _MONTH + r"(?![a-z])(?:,? (?P<year>[12]\d{3})\b)?",
            _day_month,
        ),
        (
            r"\b(?P<hour>1?\d|2[0-3]):(?P<minute>[0-5]\d)(?: ?(?P<half>[AaPp][Mm]\b))?(?![:\d])",
            _time,
        ),
        (r"\b(?P<hour>1[0-2]|[1-9])(?P<minute>) ?(?P<half>[AaPp][Mm])\b", _time),
        (r"(?<!\w)(?P<century>1\d|20)?'?(?P<tens>\d)0'?s\b", _decade),
        (r"(?<=\d)\s?x\s?(?=\d)", lambda m: " by "),
        (
            r"(?<![\w.])(?P<minus>-)?(?P<amount>" + _NUMBER + r")\s?(?P<unit>" + _UNIT + r")(?![A-Za-z])",
            _measure,
        ),
        (r"\b(?P<n>\d+)(?:st|nd|rd|th)\b", lambda m: _ordinal(int(m["n"]))),
        (r"\b(\d{3})-(\d{3,4})(?:-(\d{4}))?\b", lambda m: ", ".join(_digits(g) for g in m.groups() if g)),
        (r"(?<![\d/])(?:" + "|".join(_FRACTIONS) + r")(?![\d/])", lambda m: _FRACTIONS[m[0]]),
        (r"#\s?(?=\d)", lambda m: "number "),
        (r"(?<=\d)\s?-\s?(?=\d)", lambda m: " to "),
        (r"(?<![\d,.])(?:1[1-9]\d\d|20\d\d)(?!\d|[,.]\d)", _plain_year),
        (r"(?<![\d.])\d+(?:\.\d+){2,}(?![\d.])", lambda m: " point ".join(m[0].split("."))),
        (r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", lambda m: " "),
        (r"(?P<minus>(?<!\w)-)?(?P<amount>" + _NUMBER + r")", _signed),
        (r",(?=[A-Za-z])", lambda m: ", "),
    ]
)
