"""Abbreviations and initials are written out; a stop that ends a sentence stays."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vortex.speech.dates import MONTHS

_WORDS: Mapping[str, str] = {
    "Dr.": "Doctor", "Mr.": "Mister", "Mrs.": "Missus", "Ms.": "Miz", "Prof.": "Professor", "Jr.": "Junior",
    "Sr.": "Senior", "Gen.": "General", "Sgt.": "Sergeant", "Capt.": "Captain", "Rev.": "Reverend",
    "Hon.": "Honourable", "Gov.": "Governor", "Sen.": "Senator", "Rep.": "Representative",
    "Lt.": "Lieutenant", "Col.": "Colonel", "Cpl.": "Corporal", "Maj.": "Major", "Pvt.": "Private",
    "Esq.": "Esquire", "Pres.": "President", "Inc.": "Incorporated", "Ltd.": "Limited", "Co.": "Company",
    "Corp.": "Corporation", "Bros.": "Brothers", "Assn.": "Association", "Assoc.": "Association",
    "Dept.": "Department", "dept.": "department", "govt.": "government", "Govt.": "Government",
    "Univ.": "University", "Ave.": "Avenue", "Blvd.": "Boulevard", "Rd.": "Road", "Ln.": "Lane",
    "Hwy.": "Highway", "Pkwy.": "Parkway", "Apt.": "Apartment", "Mt.": "Mount", "Ft.": "Fort",
    "approx.": "approximately", "Approx.": "Approximately", "vs.": "versus", "vs": "versus",
    "etc.": "et cetera", "etc": "et cetera", "&c.": "et cetera", "e.g.": "for example",
    "E.g.": "For example", "eg.": "for example", "i.e.": "that is", "I.e.": "That is", "ie.": "that is",
    "viz.": "namely", "cf.": "compare", "Cf.": "Compare", "et al.": "and others", "ibid.": "ibidem",
    "ca.": "circa", "est.": "established", "Est.": "Established", "a.k.a.": "also known as",
    "aka": "also known as", "A.K.A.": "also known as", "w/o": "without", "w/": "with ", "b/c": "because",
    "c/o": "care of", "n/a": "not applicable", "N/A": "not applicable", "P.S.": "P S", "Ph.D.": "P H D",
    "PhD": "P H D", "Ph.D": "P H D", "mins.": "minutes", "secs.": "seconds", "avg.": "average",
    "max.": "maximum", "min.": "minimum", "temp.": "temperature", "misc.": "miscellaneous",
    "incl.": "including", "excl.": "excluding", "esp.": "especially", "hrs.": "hours", "yrs.": "years",
    "lbs.": "pounds", "tel.": "telephone", "Tel.": "Telephone", "ext.": "extension", "Ext.": "Extension",
    "asst.": "assistant", "Asst.": "Assistant", "attn.": "attention", "Attn.": "Attention",
    "intl.": "international", "Intl.": "International", "mgr.": "manager", "tbsp.": "tablespoons",
    "tsp.": "teaspoons", **{f"{name[:3]}.": name for name in MONTHS if name != "May"}, "Sept.": "September",
    "Mon.": "Monday", "Tue.": "Tuesday", "Tues.": "Tuesday", "Wed.": "Wednesday", "Thu.": "Thursday",
    "Thur.": "Thursday", "Thurs.": "Thursday", "Fri.": "Friday",
}  # fmt: skip
_BEFORE_NUMBERS: Mapping[str, str] = {
    "No.": "number", "no.": "number", "Nos.": "numbers", "nos.": "numbers", "p.": "page", "pp.": "pages",
    "P.": "Page", "Pp.": "Pages", "vol.": "volume", "Vol.": "Volume", "vols.": "volumes", "ch.": "chapter",
    "Ch.": "Chapter", "fig.": "figure", "Fig.": "Figure", "figs.": "figures", "Figs.": "Figures",
    "sec.": "section", "Sec.": "Section", "eq.": "equation", "Eq.": "Equation", "art.": "article",
    "Art.": "Article", "c.": "circa", "pp": "pages", "Pt.": "Part", "pt.": "part", "v.": "version",
    "ver.": "version", "Ver.": "Version",
}  # fmt: skip
"""Those that have this meaning only before a number or a Roman numeral."""
_BEFORE_DIGITS = frozenset("No. no. Nos. nos. c. v.".split())
"""Those of them that Roman numerals do not follow."""
_ENDS_SENTENCE = (
    frozenset(
        "Inc. Ltd. Co. Corp. etc. &c. Jr. Sr. Esq. Bros. Ave. Blvd. Rd. Ln. Hwy. Pkwy. St. Ph.D. hrs. yrs. "
        "lbs. "
        "Mon. Tue. Tues. Wed. Thu. Thur. Thurs. Fri. Sept.".split()
    )
    | {"et al."}
    | {f"{name[:3]}." for name in MONTHS}
)
"""Abbreviations that can end a sentence; their stop is then the full stop, too."""
_WORDS_BEFORE_NAMES = frozenset({"in", "at", "to", "from", "near", "the", "of", "and", "saw", "met"})
"""A capitalised word before "St." is part of a street name, unless it is one of these."""
_STARTS_SENTENCE = frozenset("He She It They We I You The This That But In".split())
"""After an acronym with stops, such as "U.S.", one of these words starts a new sentence."""
_DAY_NAMES = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|Mon|Tues?|Wed|Thu(?:rs?)?|Fri|Sat|Sun|" + "|".join(
    name for name in MONTHS if name != "May"
)

_WEEKEND = re.compile(
    r"\b(?P<day>Sat|Sun)\.(?=,|\s(?:and|or|at|to|the|\d)|\s(?:" + "|".join(m[:3] for m in MONTHS) + "))"
    r"|(?:(?<=day and )|(?<=at\. and )|(?<=day or )|(?<=at\. or ))(?P<last>Sat|Sun)\."
)
"""Saturday and Sunday, unless somebody sat or the sun ends the sentence."""


def expand_abbreviations(text: str) -> str:
    """Return a text with its abbreviations written out; a stop that ends a sentence stays."""
    text = re.sub(rf"\b({_DAY_NAMES})\.?\s?-\s?({_DAY_NAMES})\b\.?", _range_of_days, text)
    text = _WEEKEND.sub(lambda m: _day(m["day"] or m["last"]), text)
    for short, long in _BEFORE_NUMBERS.items():
        number = r"\d" if short in _BEFORE_DIGITS else r"\d|[IVXLivxl]+\b"
        text = re.sub(rf"(?<![\w.]){re.escape(short)}\s*(?={number})", f"{long} ", text)
    text = re.sub(r"\bv(?=\d)", "version ", text)
    text = re.sub(r"\bSt\.", _saint_or_street, text)
    for short, long in _WORDS.items():
        if short in text:
            pattern = rf"(?<![\w.]){re.escape(short)}(?!\w)" if short != "w/" else r"\bw/\s?"
            text = re.sub(pattern, lambda m, s=short, w=long: w + _stop_after(s, m.string, m.end()), text)  # type: ignore[misc]
    text = re.sub(r"\b(Mr|Mrs|Dr|Ms|Prof|Capt|Sgt)(?= [A-Z])", lambda m: _WORDS[m[1] + "."], text)
    text = re.sub(r"\b([AaPp])\.\s?[Mm]\.", _half_of_day, text)
    return re.sub(r"\b(?:[A-Z]\.\s?){2,}|\b[A-Z]\.(?= [A-Z])", _initials, text)


def _range_of_days(match: re.Match[str]) -> str:
    return f"{_day(match[1])} to {_day(match[2])}"


def _day(short: str) -> str:
    """Return the name of a day or month, which may be an abbreviation without its stop."""
    return {"Sat": "Saturday", "Sun": "Sunday"}.get(short) or _WORDS.get(short + ".", short)


def _stop_after(short: str, text: str, end: int) -> str:
    """Return "." if an abbreviation ends a sentence, whose full stop is then part of it."""
    at_end = not text[end:].strip(" \"')") or re.match(r"[\"')]*\s+[A-Z]", text[end:])
    return "." if short in _ENDS_SENTENCE and at_end else ""


def _saint_or_street(match: re.Match[str]) -> str:
    """Return "Saint" before a name, as in "met St. Peter", "Street" after one, as in "12 Elm St."."""
    before = re.search(r"(\w+)\s+$", match.string[: match.start()])
    follows_name = before and before[1][0].isupper() and before[1].lower() not in _WORDS_BEFORE_NAMES
    if follows_name or not re.match(r" [A-Z]", match.string[match.end() :]):
        return "Street" + _stop_after("St.", match.string, match.end())
    return "Saint"


def _half_of_day(match: re.Match[str]) -> str:
    """Return "a.m." as "AM", with a stop at the end of a sentence."""
    rest = match.string[match.end() :]
    stop = "." if not rest.strip() or re.match(r"\s+[A-Z]", rest) else ""
    return f"{match[1].upper()}M{stop}"


def _initials(match: re.Match[str]) -> str:
    """Return "U.S. " as "US ", "J. K. " as "J K "; the last stop stays at the end of a sentence."""
    spaced = re.search(r"\.\s[A-Z]", match[0])
    letters = re.findall(r"[A-Z]", match[0])
    tail = " " if match[0].endswith(" ") else ""
    rest = match.string[match.end() :].strip()
    ends = not rest or (not spaced and rest.split()[0] in _STARTS_SENTENCE)
    return (" " if spaced else "").join(letters) + ("." if ends else "") + tail
