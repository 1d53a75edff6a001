"""Every sound is loaded as the same mono signal from any format and source; defects raise one clear error."""

from __future__ import annotations

import io
import struct
import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from vortex.errors import AudioError, InputError
from vortex.media.audio import (
    SoundSource,
    fit_duration,
    frame_spans,
    load_audio,
    load_video_sound,
    loudness_db,
    mono_chunk,
    within_range,
)
from vortex.media.audio import write_wav as write_vortex_wav
from vortex.types import Audio


def write_wav(path: Path, samples: np.ndarray, rate: int, width: int = 2) -> Path:
    """Write (N,) or (N, C) floats in [-1, 1] with the encoder of the standard library."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    scaled = np.round(samples * (2 ** (8 * width - 1) - 1)).astype("<i4").reshape(-1, 1)
    raw = scaled.view(np.uint8).reshape(-1, 4)[:, :width]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(raw.tobytes())
    return path


def tone(rate: int, duration_s: float = 1.0, hz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(rate * duration_s)) / rate)


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 44_100, 48_000, 192_000])
@pytest.mark.parametrize("width", [2, 3, 4])
def test_any_rate_and_depth_gives_the_same_tone(tmp_path: Path, rate: int, width: int) -> None:
    audio = load_audio(write_wav(tmp_path / "a.wav", tone(rate), rate, width))
    assert audio.sample_rate == 24_000
    assert len(audio.samples) == pytest.approx(24_000, abs=24)
    middle = slice(2_000, 22_000)
    assert np.abs(audio.samples[middle] - tone(24_000)[middle]).max() < 2e-3


@pytest.mark.parametrize("rate", [24_000, 44_100])
def test_every_kind_of_source_gives_the_same_samples(tmp_path: Path, rate: int) -> None:
    path = write_wav(tmp_path / "a.wav", tone(rate), rate)
    with wave.open(str(path), "rb") as file:
        # 16-bit PCM stands for n / 32768.
        given = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    expected = load_audio(path)
    assert len(expected.samples) == 24_000
    with path.open("rb") as opened:
        sources: list[SoundSource] = [
            str(path), path.read_bytes(), opened, io.BytesIO(path.read_bytes()), (given, rate),
            (np.stack([given, given], axis=1), rate), (given.tolist(), rate),
            Audio(given.astype(np.float32), rate),
        ]  # fmt: skip
        for source in sources:
            sound = load_audio(source)
            np.testing.assert_array_equal(sound.samples, expected.samples)
            assert sound.sample_rate == 24_000
        assert not opened.closed


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (5, "is a int"),
        (None, "is a NoneType"),
        (bytearray(b"RIFF"), "is a bytearray"),
        (io.StringIO("text"), "is a StringIO"),
        (tone(24_000), "is a ndarray"),
        (b"", "is not a sound file"),
        ((tone(24_000),), "not samples and a rate"),
        (("voice.wav", 24_000), "not samples and a rate"),
        ((tone(24_000), "fast"), "not samples and a rate"),
        ((tone(24_000), None), "not samples and a rate"),
        ((tone(24_000), 0), "at 0 Hz"),
        ((np.zeros((2, 3, 4)), 24_000), r"shape \(2, 3, 4\)"),
        ((0.5, 24_000), r"shape \(\)"),
        ((np.full(24_000, np.nan), 24_000), "not numbers"),
        ((tone(24_000, 0.05), 24_000), "at least 0.1 s"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_another_type_or_shape_is_refused(source: Any, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        load_audio(source)


def test_a_longer_sound_than_allowed_is_refused(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", tone(8_000, 3.0), 8_000)
    assert load_audio(path, max_duration_s=3.0).duration_s == 3
    with pytest.raises(AudioError, match=r"lasts more than 2\.5 s"):
        load_audio(path, max_duration_s=2.5)


def test_a_written_wav_file_has_the_samples_in_16_bits(tmp_path: Path) -> None:
    samples = np.array([0, 0.5, -0.5, 1, -1, 1.5], np.float32)
    write_vortex_wav(tmp_path / "a.wav", Audio(samples, 24_000))
    with wave.open(str(tmp_path / "a.wav"), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 24_000)
        written = np.frombuffer(file.readframes(10), "<i2")
    assert np.abs(written - [0, 16384, -16384, 32767, -32767, 32767]).max() <= 1
    with pytest.raises(InputError, match=r"does not end in \.wav"):
        write_vortex_wav(tmp_path / "a.mp3", Audio(samples, 24_000))


@pytest.mark.parametrize("chunk", [np.zeros((5, 2)), np.array([0.0, np.inf]), 0.5])
def test_a_chunk_of_another_shape_or_without_numbers_is_refused(chunk: Any) -> None:
    with pytest.raises(AudioError, match=r"give finite samples of shape \(N,\)"):
        mono_chunk(chunk)


def test_stereo_is_as_loud_as_it_is_heard(tmp_path: Path) -> None:
    left = tone(24_000)
    audio = load_audio(write_wav(tmp_path / "s.wav", np.stack([left, -0.5 * left], axis=1), 24_000))
    # Half the power of each side, and nothing cancels.
    assert np.abs(audio.samples - np.sqrt((1 + 0.25) / 2) * left).max() < 1e-3


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(24_000), "is silent"),
        (np.zeros(0), "no samples"),
        (tone(24_000, 0.05), "at least 0.1 s"),
    ],
)
def test_silence_and_too_short_sounds_are_refused(tmp_path: Path, samples: np.ndarray, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        load_audio(write_wav(tmp_path / "bad.wav", samples, 24_000))


def test_samples_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    samples = tone(24_000).astype("<f4")
    samples[100] = np.nan
    header = b"RIFF" + (36 + samples.nbytes).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    # Format 3 is IEEE float.
    fields = [(3, 2), (1, 2), (24_000, 4), (96_000, 4), (4, 2), (32, 2)]
    header += b"".join(value.to_bytes(size, "little") for value, size in fields)
    path = tmp_path / "nan.wav"
    path.write_bytes(header + b"data" + samples.nbytes.to_bytes(4, "little") + samples.tobytes())
    with pytest.raises(AudioError, match="not numbers"):
        load_audio(path)


def test_files_that_are_not_sounds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("not a sound")
    with pytest.raises(AudioError, match="not a sound file"):
        load_audio(tmp_path / "text.wav")
    with pytest.raises(AudioError, match="does not exist"):
        load_audio(tmp_path / "missing.wav")
    with pytest.raises(AudioError, match="is a folder"):
        load_audio(tmp_path)


def test_a_truncated_file_gives_the_samples_that_it_has(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "cut.wav", tone(24_000, 2.0), 24_000)
    path.write_bytes(path.read_bytes()[: 44 + 24_000 * 2])
    assert len(load_audio(path).samples) == pytest.approx(24_000, abs=1)


@pytest.mark.parametrize("fps", [Fraction(24), Fraction(25), Fraction(30), Fraction(30_000, 1001)])
def test_fitted_sound_has_the_exact_length_of_the_frames(fps: Fraction) -> None:
    audio = Audio(tone(24_000, 3.0).astype(np.float32))
    with pytest.warns(UserWarning, match="is cut"):
        short = fit_duration(audio, 24, fps)
    long = fit_duration(audio, 200, fps)
    assert len(short.samples) == round(24 / fps * 24_000)
    assert len(long.samples) == round(200 / fps * 24_000)
    assert not long.samples[len(audio.samples) :].any()


def test_spans_are_exact_where_a_frame_has_no_whole_number_of_samples() -> None:
    spans = frame_spans(24 * 600, Fraction(24), 44_100)
    assert spans[-1] == 600 * 44_100
    assert set(np.diff(spans)) == {1837, 1838}
    assert np.abs(spans - np.arange(24 * 600 + 1) * 1837.5).max() <= 0.5


def test_loudness_of_a_full_scale_sine_is_minus_three_db() -> None:
    sine = np.sin(2 * np.pi * 1000 * np.arange(24_000) / 24_000).astype(np.float32)
    assert loudness_db(sine, frame_spans(24, Fraction(24), 24_000)) == pytest.approx(-3.01, abs=0.05)


def test_a_tag_in_another_encoding_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "old.wav"
    tone = np.round(8000 * np.sin(np.arange(16_000) * 0.1)).astype("<i2").tobytes()
    # A title in Latin-1, as old programs write it; RIFF does not define an encoding.
    title = "Fräulein".encode("latin-1") + b"\0\0"
    info = b"INFOINAM" + len(title).to_bytes(4, "little") + title
    chunks = b"fmt " + (16).to_bytes(4, "little") + struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16)
    chunks += b"LIST" + len(info).to_bytes(4, "little") + info
    chunks += b"data" + len(tone).to_bytes(4, "little") + tone
    path.write_bytes(b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WAVE" + chunks)
    assert len(load_audio(path, 16_000).samples) == 16_000


def test_sound_that_needs_no_change_is_not_copied() -> None:
    """An hour of sound takes 700 MB."""
    sound = Audio(np.linspace(-1, 1, 48_000, dtype=np.float32), 48_000)
    assert within_range(sound.samples) is sound.samples
    assert fit_duration(sound, 24, Fraction(24)) is sound


def test_samples_beyond_full_scale_are_clipped() -> None:
    cut = within_range(np.array([-1.5, -1, 0.25, 1, 7], np.float32))
    np.testing.assert_array_equal(cut, np.array([-1, -1, 0.25, 1, 1], np.float32))


@pytest.mark.parametrize("late_s", [-0.25, 0.0, 0.4])
def test_the_sound_of_a_video_is_in_step_with_its_pictures(tmp_path: Path, late_s: float) -> None:
    # A click at 0.5 s of a sound that begins at 1 s on the clock of the file.
    samples = np.zeros(48_000, np.float32)
    samples[24_000] = 1.0
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=48_000, layout="mono")
        for begin in range(0, 48_000, 4_800):
            part = np.ascontiguousarray(samples[None, begin : begin + 4_800])
            frame = av.AudioFrame.from_ndarray(part, format="flt", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, 48_000 + begin, Fraction(1, 48_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    sound = load_video_sound(tmp_path / "a.mkv", 48_000, 1.0 - late_s)
    assert abs(int(np.abs(sound.samples).argmax()) / 48_000 - (0.5 + late_s)) < 0.0015


def test_the_sound_of_a_video_may_be_silent_but_must_be_there(tmp_path: Path) -> None:
    silent = write_wav(tmp_path / "a.wav", np.zeros(800), 8_000)
    assert not load_video_sound(silent, 48_000, 0.0).samples.any()
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(AudioError, match="is not a sound file"):
        load_video_sound(tmp_path / "a.png", 48_000, 0.0)
