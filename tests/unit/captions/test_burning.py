"""Burned captions are legible on any ground, inside the safe area, at their times, and off the mouth."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from vortex.captions.burning import FONT, burned, check_captions, drawable
from vortex.captions.words import CaptionWord
from vortex.demo import demo_portrait
from vortex.errors import InputError
from vortex.face.detection import find_faces
from vortex.face.landmarker import take_landmarker
from vortex.media.picture import load_picture
from vortex.types import Frame

WORDS = [
    CaptionWord("Good", 1.0, 1.3),
    CaptionWord("morning,", 1.3, 1.8),
    CaptionWord("everybody!", 1.8, 2.4),
]


def drawn(size_px: tuple[int, int], level: int) -> list[Frame]:
    ground = np.full((size_px[1], size_px[0], 3), level, np.uint8)
    return list(burned((ground.copy() for _ in range(5)), WORDS, Fraction(1), 5.0, size_px))


@pytest.mark.parametrize("size_px", [(128, 128), (512, 512), (1080, 1920), (1920, 1080)])
@pytest.mark.parametrize("level", [0, 255])
def test_captions_stay_in_the_safe_area_and_contrast(size_px: tuple[int, int], level: int) -> None:
    width, height = size_px
    frame = drawn(size_px, level)[1]
    rows = np.flatnonzero((frame != level).any(axis=(1, 2)))
    columns = np.flatnonzero((frame != level).any(axis=(0, 2)))
    assert rows[0] > height / 2
    assert rows[-1] < 0.955 * height
    assert columns[0] >= 0.045 * width
    assert columns[-1] < 0.955 * width
    # WCAG 2: a contrast of at least 4.5 between the letters and what surrounds them.
    box = frame[rows[0] : rows[-1], columns[0] : columns[-1], 0].astype(float) / 255
    light = np.where(box <= 0.04045, box / 12.92, ((box + 0.055) / 1.055) ** 2.4)
    assert (light.max() + 0.05) / (np.percentile(light, 25) + 0.05) >= 4.5


def test_captions_are_shown_only_while_they_are_spoken() -> None:
    changed = [bool((frame != 255).any()) for frame in drawn((512, 512), 255)]
    # The middles of the frames are at 0.5, 1.5, 2.5, ... s; a cue lingers for half a second.
    assert changed == [False, True, True, False, False]


def test_the_font_has_the_characters_that_are_listed() -> None:
    from fontTools.ttLib import TTFont

    listed = set(FONT.with_suffix(".txt").read_text(encoding="utf-8")) - {"\n"}
    assert {ord(c) for c in listed} == set(TTFont(FONT).getBestCmap())


def test_letters_that_the_font_lacks_are_refused_and_emoji_left_out() -> None:
    assert drawable("Très bien \U0001f600 – 40°C") == "Très bien  – 40°C"
    with pytest.raises(InputError, match=r"captions have '漢'.*srt or vtt"):
        check_captions("burn", "漢字")
    check_captions("srt", "漢字")


def test_captions_of_bare_sound_are_refused() -> None:
    with pytest.raises(InputError, match=r"words are not known. Give a transcript"):
        check_captions("srt", None)
    check_captions("none", None)


def test_captions_move_to_the_top_where_the_mouth_is_at_the_bottom() -> None:
    picture = load_picture(demo_portrait()).image
    with take_landmarker() as landmarker:
        (face,) = find_faces(landmarker, picture)
    chin = int(face.landmarks_px[152, 1])
    # Cut just below the chin, so that the mouth is in the lowest rows.
    close = np.ascontiguousarray(picture[: chin // 2 * 2, : picture.shape[1] // 2 * 2])
    height, width = close.shape[:2]
    frames = list(burned((close.copy() for _ in range(3)), WORDS, Fraction(1), 3.0, (width, height)))
    rows = np.flatnonzero((frames[1] != close).any(axis=(1, 2)))
    assert rows[-1] < face.landmarks_px[13, 1] - 0.1 * height
