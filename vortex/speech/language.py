"""Texts in a language that is not spoken are found by their most frequent words."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vortex.errors import InputError

_FREQUENT: Mapping[str, frozenset[str]] = {
    "English": frozenset(
        "the of and to in is it you that he was for on are as with his they at be this have from or had "
        "by but not what all were we when your can said there an each which she do how their if will up "
        "about out many then them these so some her would him has no my than who did its me our us".split()
    ),
    "German": frozenset(
        "der die das und ist nicht ich sie wir ein eine einen mit auf für fur von zu dem den im sich auch "
        "es wie ihnen ihr geht guten aber oder wenn nach bei aus nur noch werden sind haben wird kann".split()
    ),
    "French": frozenset(
        "le la les de des du un une et est dans que qui pour pas sur je vous nous il elle ce cette avec "
        "sont au aux mais ou plus par ne se mon votre bonjour comment".split()
    ),
    "Spanish": frozenset(
        "el la los las de del que en un una es por con para no se lo su como pero más mas muy esta está "
        "hola usted yo mi al hay son".split()
    ),
    "Italian": frozenset(
        "il lo la gli le di del della che un una per con non sono si come ma più piu anche questo questa "
        "nel alla ciao io mi ho".split()
    ),
    "Portuguese": frozenset(
        "os as de do da dos das que em um uma não nao por com para se como mas mais muito você voce eu "
        "está meu ao isso".split()
    ),
    "Dutch": frozenset(
        "de het een en van is dat niet ik je wij zijn op te met voor maar ook aan er hoe gaat naar".split()
    ),
    "Swedish": frozenset(
        "och att det som en på av är för den till med inte jag har du ett om vi men hur kan".split()
    ),
    "Polish": frozenset("nie się na że do jest to jak ale po co za tak od czy dzień dobry pan".split()),
    "Turkish": frozenset("ve bir bu için de da ne çok ama gibi ben sen değil var mı merhaba nasıl".split()),
}
"""Language -> words of two letters and more that are frequent in it."""
LEAST_WORDS = 4
"""So many frequent words of another language, and not half as many English ones, make a text foreign."""


def check_english(text: str) -> None:
    """Raise InputError if a text is mostly in another language that has Latin letters."""
    words = set(re.findall(r"[^\W\d_]{2,}", text.lower()))
    found = {name: len(words & frequent) for name, frequent in _FREQUENT.items()}
    english = found.pop("English")
    name = max(found, key=lambda language: found[language])
    if found[name] >= LEAST_WORDS and english * 2 < found[name] and found[name] * 6 >= len(words):
        raise InputError(
            f"The text {text.strip()[:40]!r} seems to be {name}; the voices speak English only. Give English "
            "words, or speak it elsewhere and give the sound to: vortex animate."
        )
