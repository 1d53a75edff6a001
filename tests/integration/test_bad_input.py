"""Unusable input is refused in one line that says what to do, with status 2, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from support.run import Run

from vortex.media.audio import load_audio

Make = Callable[[Path, Path], None]
"""Called as make(path to write, path of a good file)."""


def picture(**save: object) -> Make:
    """Return a maker of a flat picture without a face."""

    def make(path: Path, good: Path) -> None:
        Image.new("RGB", (300, 200), "tan").save(path, **save)

    return make


def shrunk(path: Path, good: Path) -> None:
    canvas = Image.new("RGB", (500, 400), "tan")
    canvas.paste(Image.open(good).resize((85, 100)), (200, 150))
    canvas.save(path)


def write(content: bytes) -> Make:
    return lambda path, good: path.write_bytes(content) and None


def truncated(path: Path, good: Path) -> None:
    path.write_bytes(good.read_bytes()[: good.stat().st_size // 3])


PORTRAITS: dict[str, tuple[str, Make | None, str]] = {
    "no such file": ("gone.jpg", None, "does not exist"),
    "a folder": ("folder.png", lambda path, good: path.mkdir(), "is a folder"),
    "not a picture": ("notes.png", write(b"dear diary"), "not a picture"),
    "empty": ("empty.png", write(b""), "not a picture"),
    "truncated": ("cut.jpg", truncated, "cannot be decoded"),
    "no face": ("plain.png", picture(), "No face"),
    "face too small": ("far.png", shrunk, "px wide; at least"),
    "one pixel": ("dot.png", lambda path, good: Image.new("RGB", (1, 1)).save(path), "1x1"),
    "too many pixels": (
        "vast.png",
        lambda path, good: Image.new("1", (13_000, 10_000)).save(path),
        "13000x10000",
    ),
}


@pytest.mark.parametrize("case", PORTRAITS)
def test_a_bad_portrait(run_vortex: Run, portrait: Path, speech: Path, tmp_path: Path, case: str) -> None:
    name, make, message = PORTRAITS[case]
    if make:
        make(tmp_path / name, portrait)
    refused(run_vortex, tmp_path, tmp_path / name, speech, message)


def refused(
    run_vortex: Run, folder: Path, portrait: Path, speech: Path, message: str, *options: object
) -> None:
    before = sorted(folder.rglob("*"))
    done = run_vortex("animate", portrait, speech, "-o", folder / "out.mp4", "--engine", "mesh", *options)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert sorted(folder.rglob("*")) == before


def wav(samples: np.ndarray, rate: int = 16_000, codec: str = "pcm_s16le") -> Make:
    """Return a maker of a WAV file from samples (channels, N) in [-1, 1]."""

    def make(path: Path, good: Path) -> None:
        save_sound(path, samples, rate, codec)

    return make


def save_sound(path: Path, samples: np.ndarray, rate: int, codec: str) -> None:
    kind = {"pcm_s16le": ("s16", np.int16, 2**15 - 1), "pcm_s24le": ("s32", np.int32, 2**31 - 128)}
    sample_format, dtype, scale = kind.get(codec, ("flt", np.float32, 1))
    packed = np.ascontiguousarray((samples * scale).astype(dtype).T.reshape(1, -1))
    layout = "mono" if len(samples) == 1 else "stereo"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        if packed.size:
            frame = av.AudioFrame.from_ndarray(packed, format=sample_format, layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def video_without_sound(path: Path, good: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(24):
            grey = np.full((64, 64, 3), 99, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))


SPEECHES: dict[str, tuple[str, Make | None, str]] = {
    "no such file": ("gone.wav", None, "does not exist"),
    "a folder": ("folder.wav", lambda path, good: path.mkdir(), "is a folder"),
    "not a sound": ("notes.wav", write(b"dear diary, nothing to hear"), "not a sound file"),
    "an empty file": ("empty.wav", write(b""), "sound"),
    "no samples": ("none.wav", wav(np.zeros((1, 0))), "samples"),
    "too short": ("blip.wav", wav(np.full((1, 500), 0.5)), "at least 0.1 s"),
    "silent": ("quiet.wav", wav(np.zeros((1, 16_000))), "is silent"),
    "not numbers": ("nan.wav", wav(np.full((1, 16_000), np.nan), codec="pcm_f32le"), "not numbers"),
    "a video without sound": ("video.mp4", video_without_sound, "no sound"),
}


@pytest.mark.parametrize("case", SPEECHES)
def test_a_bad_speech(run_vortex: Run, portrait: Path, speech: Path, tmp_path: Path, case: str) -> None:
    name, make, message = SPEECHES[case]
    if make:
        make(tmp_path / name, speech)
    refused(run_vortex, tmp_path, portrait, tmp_path / name, message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--preset", "furious"), "furious"),
        (("--preset", "neutral,excited@x"), "excited@x"),
        (("--fps", "fast"), "fps is 'fast'"),
        (("--fps", "0"), "fps is '0'"),
        (("--size", "511"), "511"),
        (("--size", "8"), "8"),
        (("--duration", "0"), "duration"),
        (("--duration", "-3"), "duration"),
        (("--duration", "nan"), "duration"),
        (("--duration", "inf"), "duration"),
        (("--seed", "-1"), "seed is -1"),
    ],
)
def test_a_bad_option(
    run_vortex: Run, portrait: Path, speech: Path, tmp_path: Path, options: tuple[str, str], message: str
) -> None:
    refused(run_vortex, tmp_path, portrait, speech, message, *options)


@pytest.mark.parametrize(
    ("name", "message"),
    [("out.avi", ".mp4"), ("gone/out.mp4", "does not exist"), ("taken.mp4", "is a folder")],
)
def test_a_bad_output(
    run_vortex: Run, portrait: Path, speech: Path, tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "taken.mp4").mkdir()
    done = run_vortex("animate", portrait, speech, "-o", tmp_path / name)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken.mp4"]


@pytest.mark.parametrize(
    "arguments", [(), ("animate",), ("animate", "a.png", "b.wav"), ("sing",), ("animate", "--fly")]
)
def test_wrong_usage_exits_2_and_shows_the_usage(run_vortex: Run, arguments: tuple[str, ...]) -> None:
    done = run_vortex(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: vortex")


def test_debug_shows_the_traceback(run_vortex: Run, speech: Path, tmp_path: Path) -> None:
    done = run_vortex("animate", tmp_path / "gone.png", speech, "-o", tmp_path / "out.mp4", "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def voice(seconds: float) -> np.ndarray:
    """Return real speech (1, N) at 48 kHz."""
    import vortex

    good = load_audio(Path(vortex.__file__).parent / "data" / "demo_speech.flac", 48_000).samples
    return good[None, : round(seconds * 48_000)]


UNUSUAL_FORMATS: dict[str, tuple[str, Make]] = {
    "8 kHz": ("a.wav", wav(voice(0.6)[:, ::6], 8_000)),
    "192 kHz": ("a.wav", wav(np.repeat(voice(0.6), 4, axis=1), 192_000)),
    "stereo": ("a.wav", wav(np.repeat(voice(0.6), 2, axis=0), 48_000)),
    "24 bits": ("a.wav", wav(voice(0.6), 48_000, "pcm_s24le")),
    "float": ("a.wav", wav(voice(0.6), 48_000, "pcm_f32le")),
}


@pytest.mark.parametrize("case", UNUSUAL_FORMATS)
def test_an_unusual_sound_format_is_accepted(
    run_vortex: Run, portrait: Path, speech: Path, tmp_path: Path, case: str
) -> None:
    name, make = UNUSUAL_FORMATS[case]
    make(tmp_path / name, speech)
    done = run_vortex("animate", portrait, tmp_path / name, "-o", tmp_path / "out.mp4", "--json")
    assert done.returncode == 0, done.stderr
    assert '"frames": 15' in done.stdout  # 14.4, and no end is cut


def test_the_sound_of_a_video_is_accepted(
    run_vortex: Run, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.mp4", tmp_path / "second.mp4"
    assert run_vortex("animate", portrait, speech, "-o", first, "--duration", 1).returncode == 0
    done = run_vortex("animate", portrait, first, "-o", second, "--json")
    assert done.returncode == 0, done.stderr
    assert '"frames": 24' in done.stdout


def test_a_truncated_sound_is_used_as_far_as_it_decodes(
    run_vortex: Run, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    truncated(tmp_path / "cut.flac", speech)
    done = run_vortex("animate", portrait, tmp_path / "cut.flac", "-o", tmp_path / "out.mp4")
    assert done.returncode == 0, done.stderr


def test_a_note_says_when_there_are_several_faces(
    run_vortex: Run, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    photo = Image.open(portrait)
    both = Image.new("RGB", (900, 600), "grey")
    both.paste(photo, (0, 0))
    both.paste(photo.resize((380, 445)), (515, 60))
    both.save(tmp_path / "both.png")
    done = run_vortex("animate", tmp_path / "both.png", speech, "-o", tmp_path / "out.mp4", "--duration", 0.2)
    assert done.returncode == 0
    assert "2 faces found, took the largest" in done.stderr
