"""Caption files say to FFmpeg what the cues say, and the option refuses what it does not know."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from vortex.captions.cues import Cue
from vortex.captions.files import parse_captions, write_captions
from vortex.errors import InputError

CUES = [
    Cue(("Tom & Jerry <3", "met at 40–60°C."), 0.3, 1.975),
    Cue(("Later.",), 3725.25, 3727.0),
]


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_ffmpeg_reads_the_cues(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"talk.{kind}"
    write_captions(path, CUES)
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        for cue, packet in zip(CUES, packets, strict=True):
            assert packet.pts is not None and packet.duration is not None and packet.time_base is not None
            assert float(packet.pts * packet.time_base) == pytest.approx(cue.start_s, abs=1e-3)
            assert float(packet.duration * packet.time_base) == pytest.approx(
                cue.end_s - cue.start_s, abs=2e-3
            )
    text = path.read_text(encoding="utf-8")
    assert ("Tom &amp; Jerry &lt;3" if kind == "vtt" else "Tom & Jerry <3") in text


def test_the_option_has_one_order() -> None:
    assert parse_captions("burn, SRT") == "srt,burn"
    assert parse_captions("none") == "none"


@pytest.mark.parametrize("value", ["", "ass", "none,srt", "srt;vtt"])
def test_other_kinds_are_refused(value: str) -> None:
    with pytest.raises(InputError, match=r"give none, or one or more of srt, vtt, burn"):
        parse_captions(value)
