"""Rules that put money, dates, times, units and other numbers into words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from vortex.errors import MissingExtraError

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
_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
Replacement = Callable[[re.Match[str]], str]


def _money(match: re.Match[str]) -> str:
    one, many, cent, cents = _CURRENCIES[match["sign"]]
    amount, scale = match["amount"].replace(",", ""), match["scale"]
    minus = _minus(match)
    if scale:
        return f"{minus}{cardinal(amount)} {_SCALES[scale.strip().lower()]} {many}"
    whole, _, part = amount.partition(".")
    if len(part) not in (0, 2):
        return f"{minus}{cardinal(amount)} {many}"
    pieces = []
    if int(whole) or not int(part or 0):
        pieces.append(f"{cardinal(whole)} {one if whole == '1' else many}")
    if int(part or 0):
        pieces.append(f"{in_words(int(part))} {cent if int(part) == 1 else cents}")
    return minus + " and ".join(pieces)


def _minus(match: re.Match[str]) -> str:
    return "minus " if match["minus"] else ""


def _with_year(day: str, year: str | None) -> str:
    return f"{day}, {in_words(int(year), 'year')}" if year else day


def _month_name(text: str) -> str:
    return next(name for name in _MONTHS if name.startswith(text[:3]))


def _month_day(match: re.Match[str]) -> str:
    day = f"{_month_name(match['month'])} {in_words(int(match['day']), 'ordinal')}"
    return _with_year(day, match["year"])


def _day_month(match: re.Match[str]) -> str:
    day = f"the {in_words(int(match['day']), 'ordinal')} of {_month_name(match['month'])}"
    if re.search(r"\bthe $", match.string[: match.start()], re.IGNORECASE):
        day = day.removeprefix("the ")
    return _with_year(day, match["year"])


def _numeric_date(match: re.Match[str]) -> str:
    month, day, year = int(match["month"]), int(match["day"]), int(match["year"])
    if month > 12:
        month, day = day, month
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return match[0].replace("/", " ").replace("-", " ")
    full_year = year + (2000 if year < 100 else 0)
    return f"{_MONTHS[month - 1]} {in_words(day, 'ordinal')}, {in_words(full_year, 'year')}"


def _time(match: re.Match[str]) -> str:
    hour, minute = int(match["hour"]), int(match["minute"] or 0)
    half = f" {match['half'].upper()}" if match["half"] else ""
    if minute:
        words = f"{in_words(hour)} {'oh ' if minute < 10 else ''}{in_words(minute)}"
    else:
        words = in_words(hour) + ("" if half else " o'clock" if hour <= 12 else " hundred hours")
    return words + half


def _measure(match: re.Match[str]) -> str:
    one, many = _UNITS[match["unit"]]
    return f"{_minus(match)}{cardinal(match['amount'])} {one if match['amount'] == '1' else many}"


def _decade(match: re.Match[str]) -> str:
    tens = match["tens"]
    name = in_words(int(tens) * 10).removesuffix("y") + "ies" if tens != "0" else "hundreds"
    if not match["century"]:
        return name
    if tens == "0" and match["century"].endswith("0"):
        return f"{in_words(int(match['century']) * 100)}s"
    return f"{in_words(int(match['century']))} {name}"


_DAY = r"(?P<day>[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)?"
_UNIT = "|".join(re.escape(unit) for unit in _UNITS)
_RULES: tuple[tuple[str, Replacement], ...] = (
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
    (r"(?<![:\w])" + _DAY + r" (?:of )?" + _MONTH + r"(?![a-z])(?:,? (?P<year>[12]\d{3})\b)?", _day_month),
    (r"\b(?P<hour>1?\d|2[0-3]):(?P<minute>[0-5]\d)(?: ?(?P<half>[AaPp][Mm]\b))?(?![:\d])", _time),
    (r"\b(?P<hour>1[0-2]|[1-9])(?P<minute>) ?(?P<half>[AaPp][Mm])\b", _time),
    (r"(?<!\w)(?P<century>1\d|20)?'?(?P<tens>\d)0'?s\b", _decade),
    (r"(?<=\d)\s?x\s?(?=\d)", lambda m: " by "),
    (
        r"(?<![\w.])(?P<minus>-)?(?P<amount>" + _NUMBER + r")\s?(?P<unit>" + _UNIT + r")(?![A-Za-z])",
        _measure,
    ),
    (r"\b(?P<n>\d+)(?:st|nd|rd|th)\b", lambda m: in_words(int(m["n"]), "ordinal")),
    (r"\b(\d{3})-(\d{3,4})(?:-(\d{4}))?\b", lambda m: ", ".join(digits(g) for g in m.groups() if g)),
    (r"(?<![\d/])(?:" + "|".join(_FRACTIONS) + r")(?![\d/])", lambda m: _FRACTIONS[m[0]]),
    (r"#\s?(?=\d)", lambda m: "number "),
    (r"(?<=\d)\s?-\s?(?=\d)", lambda m: " to "),
    (r"(?<![\d,.])(?:1[1-9]\d\d|20\d\d)(?!\d|[,.]\d)", lambda m: in_words(int(m[0]), "year")),
    (r"(?<![\d.])\d+(?:\.\d+){2,}(?![\d.])", lambda m: " point ".join(m[0].split("."))),
    (r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", lambda m: " "),
    (r"(?P<minus>(?<!\w)-)?(?P<amount>" + _NUMBER + r")", lambda m: _minus(m) + cardinal(m["amount"])),
    (r",(?=[A-Za-z])", lambda m: ", "),
)
"""Patterns and what replaces them, applied in this order."""
_COMPILED = tuple((re.compile(pattern), replacement) for pattern, replacement in _RULES)


def apply_rules(text: str) -> str:
    """Return a text with its numbers, and what belongs to them, in words."""
    for pattern, replacement in _COMPILED:
        text = pattern.sub(replacement, text)
    return text


def in_words(number: int, kind: str = "cardinal") -> str:
    """Return a number as num2words writes it, without commas and hyphens."""
    try:
        from num2words import num2words
    except ImportError as exc:
        raise MissingExtraError("Speech needs num2words. Run: pip install 'vortex-portrait[speech]'") from exc
    return str(num2words(number, to=kind)).replace(",", "").replace("-", " ")


def digits(text: str) -> str:
    """Return each digit of a text in words; other characters are left out."""
    return " ".join(in_words(int(digit)) for digit in text if digit.isdigit())


def cardinal(text: str) -> str:
    """Return "1,234.50" in words; long numbers and those with leading zeros digit by digit."""
    whole, _, part = text.replace(",", "").partition(".")
    by_digit = (len(whole) > 1 and whole[0] == "0") or len(whole) > 15
    words = digits(whole) if by_digit else in_words(int(whole))
    return f"{words} point {digits(part)}" if part else words
