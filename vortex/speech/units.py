"""The table of units: what is said for one and for many of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

_PREFIXES: Mapping[str, str] = {
    "": "", "n": "nano", "μ": "micro", "m": "milli", "c": "centi", "h": "hecto", "k": "kilo", "K": "kilo",
    "M": "mega", "G": "giga", "T": "tera",
}  # fmt: skip
_PREFIXED: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("m", "metre", "metres", ("", "k", "c", "m", "μ", "n")),
    ("g", "gram", "grams", ("", "k", "m", "μ")),
    ("l", "litre", "litres", ("", "m", "c")),
    ("L", "litre", "litres", ("", "m")),
    ("s", "second", "seconds", ("", "m", "μ", "n")),
    ("Hz", "hertz", "hertz", ("", "k", "M", "G")),
    ("W", "watt", "watts", ("", "k", "M", "G")),
    ("Wh", "watt hour", "watt hours", ("", "k", "M")),
    ("V", "volt", "volts", ("", "k", "m")),
    ("A", "ampere", "amperes", ("m",)),
    ("Ah", "ampere hour", "ampere hours", ("", "m")),
    ("J", "joule", "joules", ("k", "M")),
    ("N", "newton", "newtons", ("k",)),
    ("Pa", "pascal", "pascals", ("h", "k", "M")),
    ("bar", "bar", "bar", ("", "m")),
    ("cal", "calorie", "calories", ("k",)),
    ("eV", "electronvolt", "electronvolts", ("", "k", "M")),
    ("B", "byte", "bytes", ("k", "K", "M", "G", "T")),
    ("bps", "bit per second", "bits per second", ("k", "M", "G")),
)
"""Symbol, one, many, and the prefixes with which it is a unit and nothing else, such as a grade or a plan."""


def _with_prefixes() -> Iterator[tuple[str, tuple[str, str]]]:
    for symbol, one, many, prefixes in _PREFIXED:
        for prefix in prefixes:
            yield prefix + symbol, (_PREFIXES[prefix] + one, _PREFIXES[prefix] + many)


UNITS: Mapping[str, tuple[str, str]] = {
    **dict(_with_prefixes()),
    "mph": ("mile per hour", "miles per hour"),
    "kph": ("kilometre per hour", "kilometres per hour"),
    "lb": ("pound", "pounds"),
    "lbs": ("pound", "pounds"),
    "oz": ("ounce", "ounces"),
    "ft": ("foot", "feet"),
    "yd": ("yard", "yards"),
    "mi": ("mile", "miles"),
    "ha": ("hectare", "hectares"),
    "h": ("hour", "hours"),
    "hr": ("hour", "hours"),
    "hrs": ("hour", "hours"),
    "min": ("minute", "minutes"),
    "mins": ("minute", "minutes"),
    "sec": ("second", "seconds"),
    "secs": ("second", "seconds"),
    "yrs": ("year", "years"),
    "tsp": ("teaspoon", "teaspoons"),
    "tbsp": ("tablespoon", "tablespoons"),
    "dB": ("decibel", "decibels"),
    "fps": ("frame per second", "frames per second"),
    "px": ("pixel", "pixels"),
    "dpi": ("dot per inch", "dots per inch"),
    "ppm": ("part per million", "parts per million"),
    "rpm": ("revolution per minute", "revolutions per minute"),
    "psi": ("pound per square inch", "pounds per square inch"),
    "°C": ("degree Celsius", "degrees Celsius"),
    "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "°": ("degree", "degrees"),
    "%": ("percent", "percent"),
}
"""Symbol -> one, many."""
DOTTED_UNITS: Mapping[str, tuple[str, str]] = {
    **{unit: UNITS[unit] for unit in "ft yd mi lb lbs oz hr hrs min sec tsp tbsp yrs".split()},
    "in": ("inch", "inches"),
    "sq. ft": ("square foot", "square feet"),
    "pt": ("pint", "pints"),
    "qt": ("quart", "quarts"),
    "gal": ("gallon", "gallons"),
    "yr": ("year", "years"),
    "wk": ("week", "weeks"),
    "wks": ("week", "weeks"),
    "mo": ("month", "months"),
    "mos": ("month", "months"),
}
"""Abbreviation of a unit, to which a stop belongs that ends no sentence -> one, many."""
