"""A video has exact times, synchronous sound and declared colours, is whole or absent, and is read back."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import threading
import wave
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from support.frames import exact_planes, planes

from vortex.demo import DEMO_SPEECH, demo_portrait
from vortex.errors import InputError
from vortex.media.audio import load_audio
from vortex.media.containers import Compression
from vortex.media.video import (
    PREFETCHED_FRAMES,
    encode_video,
)
from vortex.types import Audio, Frame

SAMPLE_RATE = 48_000
SIZE = (96, 64)


def noise(frames: int, fps: Fraction) -> Audio:
    """Band-limited noise, so that its place in time is sharp, as long as the frames."""
    count = round(Fraction(frames) / fps * SAMPLE_RATE)
    white = np.random.default_rng(5).standard_normal(count)
    smooth = np.convolve(white, np.hanning(12), mode="same")
    return Audio((0.3 * smooth / np.abs(smooth).max()).astype(np.float32), SAMPLE_RATE)


def greys(count: int) -> Iterator[Frame]:
    """Frames whose brightness is 20 + 3 * index."""
    for index in range(count):
        yield np.full((SIZE[1], SIZE[0], 3), 20 + 3 * index, np.uint8)


def decoded_sound(path: Path) -> tuple[np.ndarray, float]:
    """Return samples (N,) as a player decodes them, and the second at which they start."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    return np.concatenate([frame.to_ndarray().mean(0) for frame in frames]), float(frames[0].time)


@pytest.mark.parametrize("fps", [Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001)])
def test_every_frame_is_at_its_exact_time(tmp_path: Path, fps: Fraction) -> None:
    path = tmp_path / "a.mp4"
    assert encode_video(path, greys(50), noise(50, fps), fps, SIZE) == 50
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == SIZE
        assert stream.average_rate == fps
        assert stream.frames == 50
        frames = list(container.decode(stream))
        assert abs(Fraction(container.duration, av.time_base) - 50 / fps) <= 1 / fps
    assert len(frames) == 50
    for index, frame in enumerate(frames):
        assert frame.pts * frame.time_base == index / fps
        assert frame.to_ndarray(format="rgb24").mean() == pytest.approx(20 + 3 * index, abs=1.5)


def test_sound_is_synchronous_to_the_sample(tmp_path: Path) -> None:
    path, fps = tmp_path / "a.mp4", Fraction(24)
    audio = noise(72, fps)
    encode_video(path, greys(72), audio, fps, SIZE)
    decoded, start_s = decoded_sound(path)
    assert start_s == 0
    assert len(decoded) >= len(audio.samples)
    lags = range(-2048, 2049)
    inner = slice(4096, len(audio.samples) - 4096)
    given = audio.samples[inner]
    correlation = [float(given @ decoded[inner.start + lag : inner.stop + lag]) for lag in lags]
    assert lags[int(np.argmax(correlation))] == 0
    assert max(correlation) > 0.9 * float(given @ given)


def test_sound_is_aac_and_the_header_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    encode_video(path, greys(10), noise(10, Fraction(24)), Fraction(24), SIZE, comment="engine=mesh seed=7")
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        assert container.metadata["comment"] == "engine=mesh seed=7"
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 140, 120), (255, 255, 255)])
def test_colours_survive_and_are_declared(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    path = tmp_path / "a.mp4"
    frame = np.broadcast_to(np.array(colour, np.uint8), (SIZE[1], SIZE[0], 3)).copy()
    encode_video(path, iter([frame] * 4), noise(4, Fraction(24)), Fraction(24), SIZE)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        seen = next(container.decode(stream))
        context = stream.codec_context
        # 1 is BT.709 in all three tables of ITU-T H.273, and limited range in FFmpeg.
        assert (int(context.colorspace), int(context.color_primaries), int(context.color_trc)) == (1, 1, 1)
        assert int(context.color_range) == 1
    y, cb, cr = (float(plane.mean()) for plane in planes(seen))
    r, g, b = (value / 255 for value in colour)
    luma = 0.2126 * r + 0.7152 * g + 0.0722 * b
    assert y == pytest.approx(16 + 219 * luma, abs=2)
    assert cb == pytest.approx(128 + 224 * (b - luma) / 1.8556, abs=2)
    assert cr == pytest.approx(128 + 224 * (r - luma) / 1.5748, abs=2)


def test_the_video_is_the_same_on_any_number_of_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, videos, threads = (256, 256), [], []
    for cores in (1, 2, 8, 64):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        frames = (np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8) for i in range(12))
        encode_video(tmp_path / "a.mp4", frames, noise(12, Fraction(24)), Fraction(24), size)
        video = (tmp_path / "a.mp4").read_bytes()
        # x264 writes the number of threads into the first frame; nothing else may differ.
        threads += re.findall(rb" threads=(\d+)", video)
        videos.append(re.sub(rb"threads=\d+ lookahead_threads=\d+", b"", video))
    assert threads == [b"1", b"1", b"7", b"8"]
    assert len(set(videos)) == 1


def test_pictures_and_sound_keep_their_quality(tmp_path: Path) -> None:
    """Above 40 dB a photo and its copy look the same; speech masks noise 35 dB below it."""
    photo = np.array(Image.open(demo_portrait()).convert("RGB"))[:480, :480]
    frames = [np.roll(photo, shift, axis=1) for shift in range(24)]
    speech = load_audio(DEMO_SPEECH, SAMPLE_RATE).samples[:SAMPLE_RATE]
    path = tmp_path / "a.mp4"
    encode_video(path, iter(frames), Audio(speech, SAMPLE_RATE), Fraction(24), (480, 480))
    with av.open(str(path)) as container:
        seen = [frame.to_ndarray()[:480] for frame in container.decode(video=0)]
    for picture, luma in zip(frames, seen, strict=True):
        assert decibels(exact_planes(picture)[:480], luma, 255.0) > 40
    decoded, _ = decoded_sound(path)
    loudest = float(np.sqrt((speech**2).mean()))
    assert decibels(speech, decoded[: len(speech)], loudest) > 35


def decibels(expected: np.ndarray, got: np.ndarray, full: float) -> float:
    error = expected.astype(np.float64) - got
    return float(20 * np.log10(full / np.sqrt((error**2).mean())))


def test_only_a_few_frames_wait_at_any_time(tmp_path: Path) -> None:
    drawn = 0
    most_ahead = 0

    def counted() -> Iterator[Frame]:
        nonlocal drawn
        for frame in greys(70):
            drawn += 1
            yield frame

    def on_progress(stage: str, completed: int, total: int) -> None:
        nonlocal most_ahead
        assert (stage, total) == ("render", 70)
        most_ahead = max(most_ahead, drawn - completed)

    encode_video(
        tmp_path / "a.mp4", counted(), noise(70, Fraction(24)), Fraction(24), SIZE, on_progress=on_progress
    )
    assert most_ahead <= PREFETCHED_FRAMES + 2


class EngineFailureError(Exception):
    pass


def test_a_failing_renderer_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[Frame]:
        yield from greys(5)
        raise EngineFailureError("no more")

    with pytest.raises(EngineFailureError, match="no more"):
        encode_video(tmp_path / "a.mp4", failing(), noise(20, Fraction(24)), Fraction(24), SIZE)
    assert list(tmp_path.iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vortex-render")]


def test_an_interrupt_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"an older video")

    def interrupt(stage: str, completed: int, total: int) -> None:
        if completed == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_video(path, greys(50), noise(50, Fraction(24)), Fraction(24), SIZE, on_progress=interrupt)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]
    assert path.read_bytes() == b"an older video"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vortex-render")]


def test_a_video_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    encode_video(tmp_path / "a.mp4", greys(5), noise(5, Fraction(24)), Fraction(24), SIZE)
    assert (tmp_path / "a.mp4").stat().st_mode == other.stat().st_mode


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    # A limit on the size of files acts like a full disk. It cannot be lifted again, so it needs a process.
    code = textwrap.dedent("""
        import resource, sys
        from fractions import Fraction
        from pathlib import Path
        import numpy as np
        from vortex.media.video import encode_video
        from vortex.errors import EncodeError
        from vortex.types import Audio

        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        rng = np.random.default_rng(0)
        frames = (rng.integers(0, 255, (256, 256, 3), dtype=np.uint8) for _ in range(40))
        sound = Audio(np.zeros(80_000, np.float32), 48_000)
        try:
            encode_video(Path(sys.argv[1]), frames, sound, Fraction(24), (256, 256))
        except EncodeError as exc:
            print(exc)
    """)
    command = [sys.executable, "-c", code, str(tmp_path / "a.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cannot be written" in done.stdout
    assert done.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_longest_legal_name_works(tmp_path: Path) -> None:
    longest = tmp_path / ("a" * 251 + ".mp4")
    assert encode_video(longest, greys(3), noise(3, Fraction(24)), Fraction(24), SIZE) == 3


def alternating(count: int) -> Iterator[Frame]:
    """Noisy frames, which take many bytes."""
    random = np.random.default_rng(1)
    for _ in range(count):
        yield random.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)


def matted(count: int) -> Iterator[Frame]:
    """Frames that are red on the left, where they are shown, and blue on the right, half shown, then not."""
    for _ in range(count):
        picture = np.zeros((SIZE[1], SIZE[0], 4), np.uint8)
        picture[:, :48, 0], picture[:, 48:, 2] = 200, 200
        picture[:, :48, 3], picture[:, 48:72, 3] = 255, 128
        yield picture


def decoded_rgba(path: Path, decoder: str | None = None) -> list[np.ndarray]:
    """Return frames (H, W, 4) by FFmpeg; its own decoder of VP9 drops mattes, that of libvpx does not."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if decoder is None:
            return [frame.to_ndarray(format="rgba") for frame in container.decode(stream)]
        context = av.CodecContext.create(decoder, "r")
        found = [f for p in container.demux(stream) for f in context.decode(p if p.size else None)]
        return [frame.to_ndarray(format="rgba") for frame in found]


@pytest.mark.parametrize(("suffix", "decoder"), [(".webm", "libvpx-vp9"), (".mov", None)])
def test_a_matte_is_read_back_with_the_colours(tmp_path: Path, suffix: str, decoder: str | None) -> None:
    path = tmp_path / f"a{suffix}"
    encode_video(path, matted(5), noise(5, Fraction(24)), Fraction(24), SIZE, transparent=True)
    frames = decoded_rgba(path, decoder)
    assert len(frames) == 5
    for frame in frames:
        for columns, wanted in ((slice(4, 44), (200, 0, 0, 255)), (slice(52, 68), (0, 0, 200, 128))):
            assert np.abs(frame[:, columns].astype(int) - wanted).max() <= 6
        assert frame[:, 76:, 3].max() <= 4


def test_prores_is_4444_with_a_matte_of_its_own_and_uncompressed_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    encode_video(path, matted(3), noise(3, Fraction(25)), Fraction(25), SIZE, transparent=True)
    with av.open(str(path)) as container:
        video = container.streams.video[0].codec_context
        assert video.codec_tag == "ap4h"  # Apple's code of ProRes 4444
        assert video.format.name.startswith("yuva444p1")
        assert container.streams.audio[0].codec_context.name == "pcm_s16le"


def test_a_gif_loops_at_the_right_speed_with_a_sharp_matte(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    encode_video(path, matted(48), noise(48, Fraction(24)), Fraction(24), SIZE, transparent=True)
    with Image.open(path) as picture:
        assert picture.info["loop"] == 0
        first = np.array(picture.convert("RGBA"))
        lengths_ms = []
        for index in range(getattr(picture, "n_frames", 1)):
            picture.seek(index)
            lengths_ms.append(picture.info["duration"])
    # Equal frames may be joined; hundredths of a second do not add up to an error.
    assert sum(lengths_ms) == pytest.approx(2000, abs=15)
    for frame in (first, decoded_rgba(path)[-1]):
        assert (frame[:, :72, 3] == 255).all() and (frame[:, 72:, 3] == 0).all()
        assert np.abs(frame[:, :48].astype(int) - (200, 0, 0, 255)).max() <= 8


def test_no_gif_is_written_that_browsers_would_slow_down(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="GIF shows at most 50"):
        encode_video(tmp_path / "a.gif", matted(5), noise(5, Fraction(60)), Fraction(60), SIZE)
    assert not list(tmp_path.iterdir())


def test_a_webp_has_every_frame_and_its_matte(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    pictures = list(matted(6))
    for index, picture in enumerate(pictures):
        picture[:8, :8, :3] = 40 * index  # all differ
    encode_video(path, iter(pictures), noise(6, Fraction(24)), Fraction(24), SIZE, transparent=True)
    with Image.open(path) as picture:
        assert getattr(picture, "n_frames", 1) == 6
        picture.seek(5)
        alpha = np.array(picture.convert("RGBA"))[..., 3]
    assert alpha[:, :40].min() == 255 and alpha[:, 80:].max() == 0


def test_a_zip_has_each_picture_exactly_and_the_sound(tmp_path: Path) -> None:
    path, sound = tmp_path / "a.zip", noise(4, Fraction(24))
    pictures = list(matted(4))
    encode_video(path, iter(pictures), sound, Fraction(24), SIZE, transparent=True, comment="synthetic")
    with zipfile.ZipFile(path) as archive:
        assert archive.comment == b"synthetic" and archive.testzip() is None
        *names, last = archive.namelist()
        assert names == [f"frame-{number:06d}.png" for number in range(1, 5)]
        for name, picture in zip(names, pictures, strict=True):
            assert np.array_equal(np.array(Image.open(BytesIO(archive.read(name)))), picture)
        with wave.open(BytesIO(archive.read(last))) as heard:
            samples = np.frombuffer(heard.readframes(-1), "<i2") / 32767
    assert np.abs(samples - sound.samples).max() < 1e-4


def test_a_bitrate_is_kept_and_a_higher_crf_takes_fewer_bytes(tmp_path: Path) -> None:
    rate, seconds, sizes = Fraction(24), 5, {}
    for name, compression in {
        "fine": Compression(crf=10),
        "coarse": Compression(crf=40),
        "fixed": Compression(bitrate_kbps=400),
    }.items():
        path = tmp_path / f"{name}.mp4"
        encode_video(
            path, alternating(24 * seconds), noise(24 * seconds, rate), rate, SIZE, compression=compression
        )
        with av.open(str(path)) as container:
            sizes[name] = sum(packet.size for packet in container.demux(video=0))
    assert sizes["coarse"] < sizes["fine"] / 2
    assert 8 * sizes["fixed"] / seconds == pytest.approx(400_000, rel=0.25)


def test_left_and_right_stay_apart(tmp_path: Path) -> None:
    fps = Fraction(25)
    left = noise(50, fps)
    stereo = np.stack([left.samples, np.zeros_like(left.samples)], axis=1)
    for suffix in (".mp4", ".webm", ".mov"):
        path = tmp_path / f"a{suffix}"
        encode_video(path, greys(50), left, fps, SIZE, stereo=stereo)
        with av.open(str(path)) as container:
            assert container.streams.audio[0].codec_context.layout.name == "stereo"
            resampler = av.AudioResampler(format="fltp")
            heard = [
                made.to_ndarray() for frame in container.decode(audio=0) for made in resampler.resample(frame)
            ]
        power = (np.concatenate(heard, axis=1) ** 2).mean(axis=1)
        assert power[1] < power[0] / 1000


def test_a_pipe_gets_a_video_that_plays_from_its_first_byte() -> None:
    code = textwrap.dedent("""
        from fractions import Fraction
        from pathlib import Path
        import numpy as np
        from vortex.media.video import encode_video
        from vortex.types import Audio

        frames = (np.full((64, 96, 3), 20 + 3 * index, np.uint8) for index in range(24))
        encode_video(Path("-"), frames, Audio(np.zeros(48_000), 48_000), Fraction(24), (96, 64))
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120, check=True)
    with av.open(BytesIO(done.stdout)) as container:
        frames = list(container.decode(video=0))
        assert container.streams.audio[0].codec_context.name == "aac"
    assert [frame.time for frame in frames] == pytest.approx([index / 24 for index in range(24)], abs=1e-4)
    # The table of contents comes before the pictures.
    assert done.stdout.index(b"moov") < done.stdout.index(b"mdat")
