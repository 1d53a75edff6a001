"""Numbers, fractions, powers, ranges and chemical formulas, in words."""

from __future__ import annotations

import re
from collections.abc import Callable

from vortex.errors import MissingExtraError

NUMBER = r"\d{1,2}(?:,\d{2})+,\d{3}|\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|(?<!\d)\.\d+"
"""A number as English writes it, in India too: 12, 1,234.5, .5, 1,00,000."""
Replacement = Callable[[re.Match[str]], str]
Rule = tuple[str, Replacement]
"""A pattern, and what replaces it."""
_DENOMINATORS = frozenset({2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 32, 64, 100, 1000})
_ELEMENTS = (
    "H|He|Li|Be|B|C|N|O|F|Ne|Na|Mg|Al|Si|P|S|Cl|Ar|K|Ca|Sc|Ti|V|Cr|Mn|Fe|Co|Ni|Cu|Zn|Ga|Ge|As|Se|Br|Kr|Rb|Sr|"
    "Y|Zr|Nb|Mo|Ag|Cd|Sn|Sb|Te|I|Xe|Cs|Ba|W|Pt|Au|Hg|Pb|Bi|U"
)


def in_words(number: int, kind: str = "cardinal") -> str:
    """Return a number as num2words writes it, without commas and hyphens; kind: cardinal, ordinal, year."""
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
    words = digits(whole) if by_digit else in_words(int(whole)) if whole else ""
    return f"{words} point {digits(part)}".strip() if part else words


def minus(match: re.Match[str]) -> str:
    """Return "minus " if the group of this name matched."""
    return "minus " if match["minus"] else ""


def _plural(words: str) -> str:
    if words.endswith("y"):
        return words[:-1] + "ies"
    return words + ("es" if words.endswith("x") else "s")


def _fraction(match: re.Match[str]) -> str:
    whole, over, under = match["whole"], int(match["over"]), int(match["under"])
    if under not in _DENOMINATORS or not 0 < over < under:
        return f"{cardinal(whole) + ' ' if whole else ''}{in_words(over)} {in_words(under)}"
    name = {2: "half", 4: "quarter"}.get(under) or in_words(under, "ordinal")
    many = {"half": "halves"}.get(name, name + "s")
    one = "a" if whole else "one"
    part = f"{one} {name}" if over == 1 else f"{in_words(over)} {many}"
    return f"{cardinal(whole)} and {part}" if whole else part


def _power(match: re.Match[str]) -> str:
    exponent = match["exponent"]
    short = {"2": " squared", "3": " cubed"}.get(exponent)
    sign = "minus " if exponent.startswith("-") else ""
    return short or f" to the power of {sign}{cardinal(exponent.lstrip('-'))}"


def _spaced_product(match: re.Match[str]) -> str:
    """Return "mc" before a power as "M C", since each letter is a quantity."""
    return " ".join(match[0].upper())


def _formula(match: re.Match[str]) -> str:
    if re.search(r"[12]\d{3}", match[0]):  # a year, as in FY2024
        return match[0]
    pieces = re.findall(r"[A-Za-z]|\d+", match[0])
    return " ".join(in_words(int(piece)) if piece.isdigit() else piece.upper() for piece in pieces)


def _range_of_years(match: re.Match[str]) -> str:
    last = match["last"]
    spoken = in_words(int(last), "year") if len(last) == 4 else cardinal(last)
    return f"{in_words(int(match['first']), 'year')} to {spoken}"


def _subtraction(match: re.Match[str]) -> str:
    return " minus " if "=" in match.string[match.end() :] else " to "


def _product(match: re.Match[str]) -> str:
    return " times " if re.match(r"\d+\s?\^|[\d\s.x×*+-]*=", match.string[match.end() :]) else " by "


def _dotted(match: re.Match[str]) -> str:
    """Return "3.5.6" with "point", an Internet address, which has four parts, with "dot"."""
    parts = match[0].split(".")
    return (" dot " if len(parts) == 4 else " point ").join(cardinal(part) for part in parts)


EARLY_RULES: tuple[Rule, ...] = (
    (r"(?<![\d ,.])\d{1,3}(?:(?: \d{3}){2,}|(?: 000)+)(?!\d)", lambda m: m[0].replace(" ", "")),
    (r"(?<=\d)[eE](?P<exponent>[+-]?\d+)\b", lambda m: f" times 10^{m['exponent'].lstrip('+')}"),
    (r"(?<=\d)x\b(?!\s?\d)", lambda m: " times"),
    (rf"\b(?=[A-Za-z]*\d)(?:(?:{_ELEMENTS})\d*){{2,}}\b(?!-\d)", _formula),
    (r"\b(?P<name>[A-G])#(?!\w)", lambda m: f"{m['name']} sharp"),
    (r"\b(?P<name>[A-Z])\+\+(?!\w)", lambda m: f"{m['name']} plus plus"),
    (r"(?<=\d)\s?[x×]\s?(?=\d)", _product),
    (r"(?<=\d)\s?\*\s?(?=\d)", lambda m: " times "),
    (r"(?<![\d.])(?P<n>\d{3,})'?s\b", lambda m: _plural(cardinal(m["n"]))),
)
"""Applied before all others that read numbers."""
RULES: tuple[Rule, ...] = (
    (r"\b[a-z]{2}(?=\^)", _spaced_product),
    (r"\s?\^\s?\{?(?P<exponent>-?\d+)\}?", _power),
    (
        r"\b(?P<n>\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)\b",
        lambda m: in_words(int(m["n"].replace(",", "")), "ordinal"),
    ),
    (r"(?<![\d/])(?:(?P<whole>\d+)[ -])?(?P<over>\d{1,3})/(?P<under>\d{1,4})(?![\d/])", _fraction),
    (r"#\s?(?=\d)", lambda m: "number "),
    (r"(?<=[A-Za-z])-?(?=\d)|(?<=\d)(?=[A-Za-z])", lambda m: " "),
    (r"(?<![\d,.-])(?P<first>1[1-9]\d\d|20\d\d)\s?-\s?(?P<last>\d{4}|\d\d)(?![\d,.-]\d|\d)", _range_of_years),
    (r"(?<=\d)\s-\s(?=\d)", _subtraction),
    (r"(?<=\d)\s?-\s?(?=\d)", lambda m: " to "),
    (r"(?<=\d):(?=\d)", lambda m: " to "),
    (r"(?<=\b[Ii]n )1[01]\d\d(?!\d|[,.]\d)", lambda m: in_words(int(m[0]), "year")),
    (r"(?<![\d,.])(?:1[1-9]\d\d|20\d\d)(?!\d|[,.]\d)", lambda m: in_words(int(m[0]), "year")),
    (r"(?<![\d.])\d+(?:\.\d+){2,}(?![\d.])", _dotted),
    (r"(?<![\d.])(?P<n>\d+)'?s\b", lambda m: _plural(cardinal(m["n"]))),
    (rf"(?P<minus>(?<![\w)])-)?(?P<amount>{NUMBER})", lambda m: minus(m) + cardinal(m["amount"])),
    (r",(?=[A-Za-z])", lambda m: ", "),
)
"""Applied after all rules for what numbers can belong to."""
