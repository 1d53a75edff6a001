"""NVENC writes the given video: the same frames, colours and times."""

from __future__ import annotations

import importlib.util
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vortex.media.containers import nvenc_works
from vortex.media.video import encode_video
from vortex.types import Audio

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        importlib.util.find_spec("av") is None or not nvenc_works(),
        reason="needs PyAV, and a GPU with NVENC and its driver",
    ),
]


def test_frames_have_their_order_colour_and_time(tmp_path: Path) -> None:
    import av

    path, colours = tmp_path / "a.mp4", [(20 + 4 * index, 120, 200 - 3 * index) for index in range(48)]
    frames = (np.broadcast_to(np.array(colour, np.uint8), (256, 256, 3)).copy() for colour in colours)
    sound = Audio(np.zeros(96_000, np.float32), 48_000)
    assert encode_video(path, frames, sound, Fraction(24), (256, 256), encoder="h264_nvenc") == 48
    with av.open(str(path)) as container:
        seen = list(container.decode(video=0))
    assert [frame.pts * frame.time_base for frame in seen] == [Fraction(index, 24) for index in range(48)]
    for frame, colour in zip(seen, colours, strict=True):
        assert frame.to_ndarray(format="rgb24").mean(axis=(0, 1)) == pytest.approx(colour, abs=4)
