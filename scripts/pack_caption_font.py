"""Cut DejaVu Sans Condensed Bold down to Latin letters, for burned captions.

    apt-get install fonts-dejavu-extra; pip install fonttools
    python scripts/pack_caption_font.py /usr/share/fonts/truetype/dejavu/DejaVuSansCondensed-Bold.ttf

It writes vortex/data/caption_font.ttf, and the list of its characters beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

DATA = Path(__file__).parents[1] / "vortex" / "data"
WANTED = [*range(0x20, 0x7F), *range(0xA0, 0x180), *range(0x2010, 0x2040), *range(0x20A0, 0x20C0),
          0x2116, 0x2122, *range(0x2150, 0x215F), *range(0x2190, 0x2194), 0x2212, 0x2248, 0x2260, 0x2264,
          0x2265, 0x266A, 0x266B]  # fmt: skip
"""Basic Latin, Latin-1, Latin Extended-A, punctuation, currencies, fractions, arrows, signs and notes."""


def main() -> None:
    """Write the font and its list."""
    font = TTFont(sys.argv[1])
    options = subset.Options()
    options.layout_features = []
    options.hinting = False
    options.name_IDs = [0, 1, 2, 3, 4, 5, 6, 13, 14]
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=WANTED)
    cutter.subset(font)
    font.save(DATA / "caption_font.ttf")
    characters = "".join(chr(code) for code in sorted(font.getBestCmap()))
    (DATA / "caption_font.txt").write_text(characters + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
