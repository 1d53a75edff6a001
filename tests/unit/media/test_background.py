"""A background is a word, a colour of CSS or a picture; whatever else is refused by name."""

from __future__ import annotations

import pytest

from vortex.errors import InputError
from vortex.media.background import Background


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("keep", "keep"),
        (" Blur ", "blur"),
        ("none", "none"),
        ("white", "colour"),
        ("#1e90ff", "colour"),
        ("beach.jpg", "picture"),
        ("pictures/beach", "picture"),
    ],
)
def test_a_text_names_a_background_and_comes_back(text: str, kind: str) -> None:
    background = Background.parse(text)
    assert background.kind == kind
    assert Background.parse(str(background)) == background == Background.parse(background)


def test_colours_are_those_of_css() -> None:
    assert Background.parse("rebeccapurple").rgb == (102, 51, 153)  # CSS Color Module Level 4
    assert Background.parse("#1E90FF").rgb == (0x1E, 0x90, 0xFF)
    assert Background.parse("hsl(120, 100%, 50%)").rgb == (0, 255, 0)


@pytest.mark.parametrize("text", ["", "beach", "#12", "#11223344", "rgb(1,2)"])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="give keep, blur, none, a colour such as white"):
        Background.parse(text)
