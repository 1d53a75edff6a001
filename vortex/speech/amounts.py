"""Money, measures with units, percentages, heights and angles, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vortex.speech.numbers import NUMBER, Rule, cardinal, in_words, minus
from vortex.speech.units import DOTTED_UNITS, UNITS

_CURRENCIES: Mapping[str, tuple[str, str, str, str]] = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"),
    "₽": ("rouble", "roubles", "kopeck", "kopecks"),
    "₩": ("won", "won", "jeon", "jeon"),
    "₺": ("lira", "lira", "kurus", "kurus"),
    "₪": ("shekel", "shekels", "agora", "agorot"),
    "₱": ("peso", "pesos", "centavo", "centavos"),
    "₣": ("Swiss franc", "Swiss francs", "centime", "centimes"),
    "₿": ("bitcoin", "bitcoin", "satoshi", "satoshi"),
}
"""Sign -> one, many, one hundredth, many hundredths."""
_CODES: Mapping[str, str] = {"USD": "$", "GBP": "£", "EUR": "€", "JPY": "¥", "INR": "₹", "CHF": "₣"}
_COUNTRIES: Mapping[str, str] = {
    "US": "US", "A": "Australian", "AU": "Australian", "C": "Canadian", "CA": "Canadian", "NZ": "New Zealand",
    "HK": "Hong Kong", "S": "Singapore",
}  # fmt: skip
_SCALES: Mapping[str, str] = {
    "k": "thousand", "m": "million", "mn": "million", "bn": "billion", "b": "billion", "tn": "trillion",
    "hundred": "hundred", "thousand": "thousand", "million": "million", "billion": "billion",
    "trillion": "trillion",
}  # fmt: skip
_PERIODS: Mapping[str, str] = {
    "hr": "hour",
    "h": "hour",
    "mo": "month",
    "yr": "year",
    "min": "minute",
    "s": "second",
}
_ATTRIBUTES = (
    "bills?|notes?|coins?|tickets?|fee|fine|tip|prize|house|deal|loan|fund|gift|card|budget|project|investment|"
    "contract|bonus|salary|discount|meal|lunch|item|purchase"
)
"""Nouns that a price describes, as in "a five dollar bill"; with "a" before it, and one of them after it."""


def _money(match: re.Match[str]) -> str:
    one, many, cent, cents = _CURRENCIES[match["sign"]]
    if match["country"]:
        one, many = (f"{_COUNTRIES[match['country']]} {name}" for name in (one, many))
    first, second = _english(match["amount"]), match["second"]
    if second:
        low = cardinal(first) + _scale(match["scale"])
        return f"{minus(match)}{low} to {cardinal(_english(second))}{_scale(match['second_scale'])} {many}"
    attribute = _is_attribute(match, rf"[ -](?:{_ATTRIBUTES})\b")
    if match["scale"]:
        return f"{minus(match)}{cardinal(first)}{_scale(match['scale'])} {one if attribute else many}"
    whole, _, part = first.replace(",", "").partition(".")
    if len(part) not in (0, 2):
        return f"{minus(match)}{cardinal(first)} {many}"
    pieces = []
    if int(whole or 0) or not int(part or 0):
        pieces.append(f"{cardinal(whole)} {one if whole == '1' or attribute else many}")
    if int(part or 0):
        pieces.append(f"{in_words(int(part))} {cent if int(part) == 1 else cents}")
    return minus(match) + " and ".join(pieces)


def _is_attribute(match: re.Match[str], noun: str) -> bool:
    """Return whether an amount describes what follows, and has no plural then: a five dollar bill."""
    article = re.search(r"\b[Aa]n? $", match.string[: match.start()])
    return bool(article and re.match(noun, match.string[match.end() :]))


def _english(amount: str) -> str:
    """Return "29,99" and "1.234,56" with a point before the hundredths, as English writes them."""
    if re.fullmatch(r"\d+,\d\d|\d{1,3}(?:\.\d{3})+,\d\d", amount):
        return amount.replace(".", "").replace(",", ".")
    return amount


def _scale(text: str | None) -> str:
    return f" {_SCALES[text.strip(' -').lower()]}" if text else ""


def _money_after(match: re.Match[str]) -> str:
    sign = _CODES.get(match["sign"], match["sign"])
    return f"{'US' if match['sign'] == 'USD' else ''}{sign}{match['amount']}{match['scale'] or ''}"


def _cents(match: re.Match[str]) -> str:
    first = f"{cardinal(match['first'])} to " if match["first"] else ""
    return f"{first}{cardinal(match['amount'])} {'cent' if match['amount'] == '1' else 'cents'}"


def _measure(match: re.Match[str]) -> str:
    one, many = UNITS[match["unit"]]
    power = {"^2": "square ", "^3": "cubic ", None: ""}[match["power"]]
    per = f" per {_per(match['per'], match['per_power'])}" if match["per"] else ""
    first = f"{minus(match)}{cardinal(match['first'])} to " if match["first"] else minus(match)
    singular = not match["first"] and (
        match["amount"] == "1"
        or match["hyphen"]
        or _is_attribute(match, r" (?!in\b|of\b|and\b|or\b|from\b|to\b|at\b)[a-z]")
    )
    return f"{first}{cardinal(match['amount'])} {power}{one if singular else many}{per}"


def _per(unit: str, power: str | None) -> str:
    one = _PERIODS.get(unit) or UNITS[unit][0]
    if one == "second" and power:
        return f"second {'squared' if power == '^2' else 'cubed'}"
    return {"^2": "square ", "^3": "cubic ", None: ""}[power] + one


def expand_dotted_units(text: str) -> str:
    """Return a text with "5 ft. 2 in." as "5 feet 2 inches"; a stop that ends a sentence stays."""
    text = _FEET_AND_INCHES.sub(lambda m: f"{m['feet']} feet {m['inches']} inches", text)
    return _DOTTED_MEASURE.sub(_dotted_measure, text)


def _dotted_measure(match: re.Match[str]) -> str:
    one, many = DOTTED_UNITS[match["unit"]]
    rest = match.string[match.end() :]
    stop = "." if not rest.strip() or re.match(r"[\"')]*\s+[A-Z]", rest) else ""
    return f"{match['amount']} {one if match['amount'] == '1' else many}{stop}"


def _height(match: re.Match[str]) -> str:
    return f"{cardinal(match['feet'])} foot {cardinal(match['inches'])}"


def _inches(match: re.Match[str]) -> str:
    """Return inches, unless the mark closes a quotation."""
    if match.string[: match.start()].count('"') % 2:
        return match[0]
    singular = match["amount"] == "1" or _is_attribute(match, r" [a-z]")
    return f"{cardinal(match['amount'])} {'inch' if singular else 'inches'}"


def _feet(match: re.Match[str]) -> str:
    singular = match["feet"] == "1" or _is_attribute(match, r"\s?[a-z]")
    return f"{cardinal(match['feet'])} {'foot' if singular else 'feet'}"


def _angle(match: re.Match[str]) -> str:
    named = {"N": "north", "S": "south", "E": "east", "W": "west"}[match["side"]]
    parts = ((match["degrees"], "degrees"), (match["minutes"], "minutes"), (match["seconds"], "seconds"))
    return " ".join(f"{cardinal(value)} {name}" for value, name in parts if value) + f" {named}"


_AMOUNT = rf"(?:\d{{1,3}}(?:\.\d{{3}})+,\d\d|\d+,\d\d(?![\d,])|{NUMBER})(?!\d)"
_SIGN = "|".join(re.escape(sign) for sign in _CURRENCIES)
_SCALE = r"(?:[\s-](?:hundred|thousand|million|billion|trillion)|\s?(?:bn|mn|tn|[kKmMbB]))\b"
_UNIT = "|".join(re.escape(unit) for unit in sorted(UNITS, key=len, reverse=True))
_DOTTED = "|".join(re.escape(unit) for unit in sorted(DOTTED_UNITS, key=len, reverse=True))
_FEET_AND_INCHES = re.compile(r"\b(?P<feet>\d+)\s?ft\s(?P<inches>\d+)\s?in\b\.?(?!\s+[A-Z])")
_DOTTED_MEASURE = re.compile(rf"(?<![\w.])(?P<amount>{NUMBER})\s?(?P<unit>{_DOTTED})\.")
RULES: tuple[Rule, ...] = (
    (
        rf"(?P<amount>{_AMOUNT})(?P<scale>{_SCALE})?\s?(?P<sign>[€£₹₽]|\b(?:{'|'.join(_CODES)})\b)",
        _money_after,
    ),
    (
        rf"(?P<minus>(?<!\w)-)?(?:\b(?P<country>{'|'.join(_COUNTRIES)}))?(?P<sign>{_SIGN})\s?(?P<amount>{_AMOUNT})(?P<scale>{_SCALE})?"
        rf"(?:(?:\s?-\s?| to )(?P=sign)?(?P<second>{_AMOUNT})(?P<second_scale>{_SCALE})?)?",
        _money,
    ),
    (rf"(?:(?P<first>{NUMBER})\s?-\s?)?(?P<amount>{NUMBER})\s?¢", _cents),
    (
        rf"\b(?P<code>{'|'.join(_CODES)})\s?(?P<amount>(?:{NUMBER}))",
        lambda m: f"{m['amount']} {_CURRENCIES[_CODES[m['code']]][1]}",
    ),
    (
        r"(?<=[a-z])\s?/\s?(?P<period>hour|day|week|month|year|night|person|hr|mo|yr)\b",
        lambda m: f" per {_PERIODS.get(m['period'], m['period'])}",
    ),
    (
        r"(?<!\w)(?P<degrees>\d+(?:\.\d+)?)\s?°\s?(?:(?P<minutes>\d+)'\s?(?:(?P<seconds>\d+(?:\.\d+)?)(?:\"|'')\s?)?)?(?P<side>[NSEW])\b",
        _angle,
    ),
    (r"(?<=\d[\"'])-(?=\d+')", lambda m: " to "),
    (r"(?<!\w)(?P<feet>\d)'\s?(?P<inches>1[01]|\d)(?:\"|''|(?!\w))", _height),
    (r"(?<![\w'])(?P<feet>\d{1,3})'(?=\s?(?:tall|long|wide|high|deep|by|x)\b)", _feet),
    (rf"(?<![\w\"])(?P<amount>{NUMBER})\"", _inches),
    (
        rf"(?<![\w.^])(?<!\^-)(?P<minus>-)?(?:(?P<first>{NUMBER})\s?(?:%|°[CF]?|(?:{_UNIT}))?\s?-\s?)?(?P<amount>{NUMBER})"
        rf"(?:\s?|(?P<hyphen>-(?!\d)))(?P<unit>{_UNIT})(?P<power>\^[23])?(?:/(?P<per>{_UNIT})(?P<per_power>\^[23])?)?(?![A-Za-z])",
        _measure,
    ),
)
"""Applied after those for dates and times."""
