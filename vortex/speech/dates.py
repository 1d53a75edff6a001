"""Dates, times of day, decades and durations, in words."""

from __future__ import annotations

import re

from vortex.speech.numbers import Rule, cardinal, in_words

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip
_MONTH = "(?P<month>" + "|".join(f"{name}|{name[:3]}\\.?" for name in MONTHS) + r"|Sept\.?)(?![a-z])"
_DAY = r"(?P<day>[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)?"


def _with_year(day: str, year: str | None) -> str:
    return f"{day}, {in_words(int(year), 'year')}" if year else day


def _month_name(text: str) -> str:
    return next(name for name in MONTHS if name.startswith(text[:3]))


def _month_day(match: re.Match[str]) -> str:
    day = f"{_month_name(match['month'])} {in_words(int(match['day']), 'ordinal')}"
    if match["last"]:
        day += f" to {in_words(int(match['last']), 'ordinal')}"
    return _with_year(day, match["year"])


def _day_month(match: re.Match[str]) -> str:
    day = in_words(int(match["day"]), "ordinal")
    if match["first"]:
        day = f"{in_words(int(match['first']), 'ordinal')} to the {day}"
    day = f"the {day} of {_month_name(match['month'])}"
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
    return f"{MONTHS[month - 1]} {in_words(day, 'ordinal')}, {in_words(full_year, 'year')}"


def _time(match: re.Match[str]) -> str:
    hour, minute = int(match["hour"]), int(match["minute"] or 0)
    half = f" {match['half'][0].upper()}M" if match["half"] else ""
    if minute:
        return f"{in_words(hour)} {'oh ' if minute < 10 else ''}{in_words(minute)}{half}"
    ends_range = re.search(r"\b(?:to|until|till) $", match.string[: match.start()])
    starts_range = re.match(r"\s?(?:-|to\b)\s?\d", match.string[match.end() :])
    plain = half or ends_range or starts_range
    return in_words(hour) + (half if plain else " o'clock" if hour <= 12 else " hundred hours")


def _clock(match: re.Match[str]) -> str:
    hours, minutes, seconds = (int(part) for part in match.groups())
    return f"{in_words(hours)} {_two_digits(minutes)} {_two_digits(seconds)}"


def _two_digits(number: int) -> str:
    return f"oh {in_words(number)}" if number < 10 else in_words(number)


def _decade(match: re.Match[str]) -> str:
    tens = match["tens"]
    name = {"0": "hundreds", "1": "tens"}.get(tens) or in_words(int(tens) * 10).removesuffix("y") + "ies"
    if not match["century"]:
        return name
    if tens == "0" and match["century"].endswith("0"):
        return f"{in_words(int(match['century']) * 100)}s"
    return f"{in_words(int(match['century']))} {name}"


DECADES: tuple[Rule, ...] = ((r"(?<!\w)(?P<century>1\d|20)?'?(?P<tens>\d)0'?s\b", _decade),)
"""Applied before plurals of numbers."""
RULES: tuple[Rule, ...] = (
    (r"(?<=\d)T(?=\d\d:\d\d)", lambda m: " "),
    (r"\b(?P<year>[12]\d{3})[-/](?P<month>0\d|1[0-2])[-/](?P<day>[0-3]\d)\b", _numeric_date),
    (r"\b(?P<day>\d{1,2})\.(?P<month>0\d|1[0-2])\.(?P<year>[12]\d{3})\b", _numeric_date),
    (r"\b(?P<month>\d{1,2})/(?P<day>\d{1,2})/(?P<year>\d{4}|\d{2})\b", _numeric_date),
    (
        r"\b" + _MONTH + " " + _DAY + r"(?:\s?-\s?(?P<last>[12]\d|3[01]|[1-9])(?:st|nd|rd|th)?)?\b(?!:)"
        r"(?:,? (?P<year>[12]\d{3})\b)?",
        _month_day,
    ),
    (
        r"(?<![:\w])(?:(?P<first>\d{1,2})(?:st|nd|rd|th)?\s?-\s?)?"
        + _DAY
        + r" (?:of )?"
        + _MONTH
        + r"(?:,? (?P<year>[12]\d{3})\b)?",
        _day_month,
    ),
    (r"(?<=:\d\d)\s?-\s?(?=\d{1,2}:\d\d)", lambda m: " to "),
    (r"(?<=[apAP][mM])\s?-\s?(?=\d)", lambda m: " to "),
    (r"\b(\d{1,2}):([0-5]\d):([0-5]\d)\b", _clock),
    (
        r"\b(?P<first>1[0-2]|[1-9])\s?-\s?(?=(?:1[0-2]|[1-9])(?::[0-5]\d)?\s?[AaPp][Mm]\b)",
        lambda m: f"{m['first']} to ",
    ),
    (r"\b(?P<hour>2[0-3]|[01]?\d):(?P<minute>[0-5]\d)(?: ?(?P<half>[AaPp][Mm]\b))?(?![:\d])", _time),
    (r"\b(?P<hour>1[0-2]|[1-9])(?P<minute>) ?(?P<half>[AaPp][Mm])\b", _time),
    (r"\b24/7\b", lambda m: "twenty four seven"),
    (
        r"\b(?P<hour>\d{1,2})h(?P<minute>[0-5]\d)\b",
        lambda m: f"{cardinal(m['hour'])} hours {cardinal(m['minute'])}",
    ),
)
"""Applied before those for amounts."""
