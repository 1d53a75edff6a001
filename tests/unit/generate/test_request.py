"""The timeline shows each stage."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from vortex.generate.request import plot_timeline


def test_each_stage_has_a_bar(tmp_path: Path) -> None:
    plot_timeline(tmp_path / "t.png", {"speech": (0.0, 2.0), "image": (0.0, 1.0), "render": (2.0, 4.0)})
    with Image.open(tmp_path / "t.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or []}
    assert {(0x16, 0x42, 0x5B), (0x2A, 0x9D, 0x5C), (0xD1, 0x49, 0x5B)} <= colours
