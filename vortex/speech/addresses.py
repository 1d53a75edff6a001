"""Web and e-mail addresses, names of files, and telephone numbers, in the words that people say."""

from __future__ import annotations

import re

from vortex.speech.numbers import Rule, digits, in_words

_TOP = "com|org|net|edu|gov|io|ai|uk|de|fr|es|it|eu|us|ca|au|jp|cn|in|info|dev|app|tv|co|me"
_FILES = "pdf|txt|docx?|xlsx?|jpe?g|png|gif|svg|mp[34]|wav|py|js|html?|css|csv|zip|exe|json|xml|md"
_SAID_AS_WORDS = frozenset(
    {"co", "com", "org", "info", "dev", "app", "me", "my", "go", "gov", "edu", "doc", "zip", "wav", "gif"}
)
_MARKS = {
    ".": "dot", "/": "slash", "-": "dash", "_": "underscore", "@": "at", ":": "colon", "?": "question mark",
    "=": "equals", "&": "and", "+": "plus", "%": "percent", "#": "hash", "~": "tilde",
}  # fmt: skip
_KEYPAD_NUMBER = r"(?:\+?1[-. ])?\(?8(?:00|33|44|55|66|77|88)\)?[-. ](?:[A-Z]{3,}|\d)[A-Z\d-]*[A-Z][A-Z\d-]*"


def letters(text: str) -> str:
    """Return letters as they are spelled, "bbc" as "B B C"."""
    return " ".join(text.upper())


def _address(match: re.Match[str]) -> str:
    text = re.sub(r"^[a-z]+://", "", match[0])
    parts = re.findall(r"[A-Za-z]+|\d+|[^\w\s]|_", text)
    return " ".join(_MARKS.get(part, part) if not part.isalnum() else _label(part) for part in parts)


def _label(part: str) -> str:
    """Return a part of an address as a word, or spelled if it is short or cannot be said."""
    if part.isdigit():
        return digits(part) if len(part) > 2 else in_words(int(part))
    sayable = re.search("[aeiouy]", part.lower()) and len(part) > 2
    return part if part.lower() in _SAID_AS_WORDS or sayable else letters(part)


def _file_name(match: re.Match[str]) -> str:
    return f" dot {_label(match['kind'])}"


def _telephone(match: re.Match[str]) -> str:
    groups = re.findall(r"\d+", match[0])
    spoken = [_group(group, groups) for group in groups]
    return ("plus " if match[0].startswith("+") else "") + ", ".join(spoken)


def _group(group: str, groups: list[str]) -> str:
    hundreds = len(group) == 3 and group.endswith("00") and group[0] != "0" and len(groups) > 2
    return in_words(int(group)) if hundreds else digits(group)


def _keypad_number(match: re.Match[str]) -> str:
    parts = [part for part in re.split(r"[-. ()]+", match[0].lstrip("+")) if part]
    spoken = [_group(part, ["", "", part]) if part.isdigit() else part.capitalize() for part in parts]
    return " ".join(spoken)


RULES: tuple[Rule, ...] = (
    (r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", _address),
    (r"(?:https?://|ftp://|\bwww\.)[^\s<>\"'()]*[\w/]", _address),
    (rf"(?<![\w@.])[A-Za-z][\w-]*(?:\.[\w-]+)*\.(?:{_TOP})\b(?:/[^\s<>\"'()]*[\w/])?(?!\.?\w)", _address),
    (rf"(?<=\w)\.(?P<kind>{_FILES})\b", _file_name),
    (r"(?<!\w)\.NET\b", lambda m: "dot net"),
    (r"\b" + _KEYPAD_NUMBER + r"\b", _keypad_number),
    (
        r"(?<![\w.$£€-])(?:\+\d{1,3}[-. ]?|1[-. ])?(?:\(\d{2,4}\)\s?|\d{3}[-. ])\d{3,4}[-. ]\d{3,4}(?![\d-])",
        _telephone,
    ),
    (r"(?<!\w)\+\d{1,3}(?:[-. ]?\(?\d{2,5}\)?){2,6}(?!\d)", _telephone),
    (
        r"(?<![\d-])\d+(?:-\d+){2,}(?![\d-])",
        lambda m: _telephone(m) if not re.match(r"[12]\d{3}-\d\d-\d\d$", m[0]) else m[0],
    ),
    (r"(?<![\d-])\d{3}-\d{4}(?![\d-])", _telephone),
    (r"(?<=[Cc]all )\d{3}(?!\d)(?! \w+s\b| people\b)|(?<=[Dd]ial )\d{3}(?!\d)", _telephone),
)
"""Applied before all other rules."""
