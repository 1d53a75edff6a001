"""Videos are read frame by frame: upright, with square pixels, at their times."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from support.driving import write_timed_video

from vortex.demo import DEMO_SPEECH, demo_portrait
from vortex.errors import InputError
from vortex.media.reading import iter_timed_frames, iter_video_frames, probe_video, steady_rate, video_fps
from vortex.media.video import encode_video
from vortex.types import Audio, Frame


def test_frames_and_rate_are_those_that_were_written(tmp_path: Path) -> None:
    path, fps = tmp_path / "a.mp4", Fraction(30_000, 1001)
    colours = [(20 + 8 * index, 120, 200 - 5 * index) for index in range(20)]

    def frames() -> Iterator[Frame]:
        for colour in colours:
            yield np.broadcast_to(np.array(colour, np.uint8), (64, 96, 3)).copy()

    encode_video(path, frames(), Audio(np.zeros(round(20 / fps * 48_000), np.float32), 48_000), fps, (96, 64))
    assert video_fps(path) == fps
    read = list(iter_video_frames(path))
    assert [frame.shape for frame in read] == [(64, 96, 3)] * 20
    for frame, colour in zip(read, colours, strict=True):
        assert frame.mean(axis=(0, 1)) == pytest.approx(colour, abs=4)


def test_what_is_not_a_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(InputError, match="cannot be read"):
        video_fps(tmp_path / "text.mp4")
    with pytest.raises(InputError, match="does not exist"):
        video_fps(tmp_path / "missing.mp4")
    with pytest.raises(InputError, match="has no moving picture"):
        video_fps(DEMO_SPEECH)


@pytest.fixture(scope="module")
def photo() -> Frame:
    """A picture 120 wide and 160 high."""
    with Image.open(demo_portrait()) as picture:
        return np.asarray(picture.convert("RGB").resize((120, 160)), np.uint8)


@pytest.mark.parametrize("turned_deg", [0, 90, 180, 270])
def test_a_video_of_a_turned_phone_is_upright(tmp_path: Path, photo: Frame, turned_deg: int) -> None:
    write_timed_video(tmp_path / "a.mp4", [photo] * 2, [0, 0.04], turned_deg=turned_deg)
    for frame in iter_video_frames(tmp_path / "a.mp4"):
        assert frame.shape == photo.shape
        assert np.abs(frame.astype(int) - photo).mean() < 6


def write_coded(path: Path, codec: str, flags: str, curve: int) -> None:
    """Write a grey video with flags of FFmpeg and a transfer curve (ITU-T H.273, table 3)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"flags": flags} if flags else {})
        stream.width = stream.height = 64
        stream.pix_fmt, stream.codec_context.color_trc = "yuv420p", curve
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(("codec", "name"), [("libx264", "a.mp4"), ("mpeg2video", "a.mpg")])
def test_interlaced_videos_are_told_apart(tmp_path: Path, codec: str, name: str) -> None:
    for flags, interlaced in (("+ildct+ilme", True), ("", False)):
        write_coded(tmp_path / name, codec, flags, curve=1)
        assert probe_video(tmp_path / name).interlaced is interlaced


@pytest.mark.parametrize(("curve", "hdr"), [(16, True), (18, True), (1, False)])
def test_hdr_is_told_apart_by_its_curve(tmp_path: Path, curve: int, hdr: bool) -> None:
    """PQ is 16, HLG 18, BT.709 1."""
    write_coded(tmp_path / "a.mp4", "libx264", "", curve)
    assert probe_video(tmp_path / "a.mp4").hdr is hdr


def test_times_are_those_of_the_file(tmp_path: Path, photo: Frame) -> None:
    times_s = [0.0, 0.04, 0.05, 0.2, 0.9]
    write_timed_video(tmp_path / "a.mp4", [photo] * 5, times_s)
    read_s = [time_s for time_s, _ in iter_timed_frames(tmp_path / "a.mp4")]
    np.testing.assert_allclose(np.subtract(read_s, read_s[0]), times_s, atol=1e-4)


def test_odd_sides_and_wide_pixels(tmp_path: Path, photo: Frame) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "sar=2/1"})
        stream.width, stream.height, stream.pix_fmt = 61, 159, "yuv444p"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(photo[:159, :61]), format="rgb24")
        container.mux(stream.encode(frame.reformat(format="yuv444p")))
        container.mux(stream.encode(None))
    (read,) = iter_video_frames(tmp_path / "a.mkv")
    assert read.shape == (159, 122, 3)


def test_a_huge_frame_is_reduced(tmp_path: Path) -> None:
    wide = np.zeros((300, 2400, 3), np.uint8)
    write_timed_video(tmp_path / "a.mp4", [wide], [0])
    (read,) = iter_video_frames(tmp_path / "a.mp4")
    assert read.shape == (240, 1920, 3)


def test_a_steady_rate_is_exact_and_a_variable_one_the_nearest_whole() -> None:
    ntsc = Fraction(30_000, 1001)
    exact_s = np.arange(300) / float(ntsc)
    assert steady_rate(exact_s, ntsc) == ntsc
    # A file that counts in milliseconds is steady, too.
    assert steady_rate(np.round(exact_s, 3), ntsc) == ntsc
    dropped_s = np.delete(exact_s, np.arange(7, 290, 9))
    assert steady_rate(dropped_s, Fraction(268, 10)) == Fraction(27)
    assert steady_rate(exact_s, None) == Fraction(30)
    assert steady_rate([0.0], None) == Fraction(25)


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png"])
def test_a_photo_is_no_video(tmp_path: Path, name: str) -> None:
    with Image.open(demo_portrait()) as picture:
        picture.save(tmp_path / name)
    with pytest.raises(InputError, match="has no moving picture"):
        probe_video(tmp_path / name)


def test_a_folder_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        probe_video(tmp_path)


def test_of_a_cut_off_video_what_is_left_is_read(tmp_path: Path, photo: Frame) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (40, 160, 120, 3), dtype=np.uint8)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 120, 160, "yuvj420p"
        for picture in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    content = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) // 2])
    assert 5 < sum(1 for _ in iter_video_frames(tmp_path / "cut.mkv")) < 35


def test_an_mp4_without_its_index_is_refused(tmp_path: Path, photo: Frame) -> None:
    write_timed_video(tmp_path / "a.mp4", [photo] * 9, np.arange(9) / 25)
    shutil.copy(tmp_path / "a.mp4", tmp_path / "cut.mp4")
    with (tmp_path / "cut.mp4").open("r+b") as file:
        file.truncate((tmp_path / "a.mp4").stat().st_size // 2)
    with pytest.raises(InputError, match=r"cannot be read .* Give an undamaged video"):
        probe_video(tmp_path / "cut.mp4")
