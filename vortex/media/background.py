"""What is behind the person: as an option names it, and as pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from vortex.errors import InputError

_WORDS: tuple[Literal["keep", "blur", "none"], ...] = ("keep", "blur", "none")
_ACCEPTED = "give keep, blur, none, a colour such as white or #1e90ff, or the path of a picture"


@dataclass(frozen=True, slots=True)
class Background:
    """What is shown behind the person.

    ``kind``: "keep" is the picture's own background, continued by blur where the picture ends; "blur" the
    same, blurred; "none" nothing, which is transparent; "colour" and "picture" are named by ``value``: a
    colour as CSS writes it, or the path of a picture, which is cut to fill the frame.
    """

    kind: Literal["keep", "blur", "none", "colour", "picture"]
    value: str = ""

    @classmethod
    def parse(cls, given: Any) -> Background:
        """Return the background that a text names, or a given one.

        Raises:
            InputError: no such word or colour, and not like the path of a picture.
        """
        if isinstance(given, Background):
            return given
        text = str(given).strip()
        for word in _WORDS:
            if text.lower() == word:
                return cls(word)
        if _rgb(text) is not None:
            return cls("colour", text.lower())
        if re.search(r"[./\\]", text) and "\0" not in text:
            return cls("picture", text)
        raise InputError(f"background is {text[:40]!r}; {_ACCEPTED}.")

    def __str__(self) -> str:
        """Return the text that :meth:`parse` reads."""
        return self.value or self.kind

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The colour's red, green and blue, 0 to 255; black for other kinds."""
        return (_rgb(self.value) if self.kind == "colour" else None) or (0, 0, 0)


def _rgb(text: str) -> tuple[int, int, int] | None:
    """Return a colour of CSS as three numbers, or None for another text, and for one that is see-through."""
    from PIL import ImageColor

    try:
        colour = ImageColor.getrgb(text)
    except ValueError:
        return None
    return (colour[0], colour[1], colour[2]) if len(colour) == 3 else None
