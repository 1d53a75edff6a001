"""Sound tracks are whole: any channels, layouts and rates, also damaged, joined, and with gaps in time."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from support.sounds import encode_sound, write_tracks

from vortex.errors import AudioError
from vortex.media import soundtrack
from vortex.media.audio import load_audio, load_sound, load_video_sound
from vortex.media.downmix import StereoMixer
from vortex.media.video import encode_video
from vortex.types import Audio

RATE_HZ = 48_000


def tone(length_s: float, rate_hz: int = RATE_HZ, hz: float = 440.0) -> np.ndarray:
    """Return (N, 1) sine of amplitude 0.5."""
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(length_s * rate_hz)) / rate_hz)[:, None]


def frequency_hz(samples: np.ndarray, rate_hz: int) -> float:
    """Return the strongest frequency."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * rate_hz / len(samples))


def silent_s(samples: np.ndarray, rate_hz: int) -> list[tuple[float, float]]:
    """Return start and end of each stretch of at least 5 ms below -60 dB."""
    loud = np.flatnonzero(np.abs(samples) > 1e-3)
    edges = np.flatnonzero(np.diff(loud) > rate_hz * 0.005)
    return [(float(loud[i] / rate_hz), float(loud[i + 1] / rate_hz)) for i in edges]


@contextmanager
def damage_noted() -> Iterator[None]:
    """Let the sound be damaged: a header between joined files may be no sound."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* is damaged", UserWarning)
        yield


def test_any_number_of_channels_is_read() -> None:
    voice = tone(0.5, 8_000)
    for channels in range(1, 65):
        sound = np.zeros((len(voice), channels))
        sound[:, channels // 2] = voice[:, 0]
        heard = load_audio(encode_sound(sound, 8_000), 8_000)
        assert heard.duration_s == Fraction(1, 2)
        # Two channels are left and right, which ITU-R BS.775 weights by 0.7071; others have no positions.
        assert np.abs(heard.samples).max() == pytest.approx(0.3536 if channels == 2 else 0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("container", "codec", "layout"),
    # Those of eight and more channels in separate planes ended the process.
    [("ipod", "aac", "7.1"), ("flac", "flac", "7.1"), ("wv", "wavpack", "16 channels"),
     ("ogg", "libopus", "7.1"), ("matroska", "pcm_s16le", "22.2"), ("matroska", "wavpack", "64 channels")],
)  # fmt: skip
def test_channels_in_planes_are_read(container: str, codec: str, layout: str) -> None:
    voice = tone(0.5)
    sound = np.zeros((len(voice), av.AudioLayout(layout).nb_channels))
    sound[:, 2] = voice[:, 0]
    data = encode_sound(sound, RATE_HZ, container=container, codec=codec, layout=layout)
    heard = load_audio(data, RATE_HZ)
    assert float(heard.duration_s) == pytest.approx(0.5, abs=0.03)
    assert frequency_hz(heard.samples, RATE_HZ) == pytest.approx(440, abs=3)
    assert np.abs(heard.samples[4800:-4800]).max() == pytest.approx(0.5, abs=0.02)


def test_more_channels_in_planes_than_can_be_converted_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # No encoder at hand makes more than the 64 that libswresample converts.
    monkeypatch.setattr(soundtrack, "MAX_CHANNELS", 15)
    sound = np.repeat(tone(0.5), 16, axis=1)
    with pytest.raises(AudioError, match="has 16 channels; at most 15 are read"):
        load_audio(encode_sound(sound, RATE_HZ, container="wv", codec="wavpack"))


@pytest.mark.parametrize("rate_hz", [1, 2, 7, 100, 8_000, 11_025, 96_000, 384_000, 768_000])
def test_any_rate_is_read(rate_hz: int) -> None:
    length_s = 0.5 if rate_hz >= 8_000 else 300 / rate_hz
    rising = np.linspace(-0.5, 0.5, round(rate_hz * length_s))[:, None]
    heard = load_audio(encode_sound(rising, rate_hz), 8_000)
    assert float(heard.duration_s) == pytest.approx(length_s, abs=1e-3)
    inside = heard.samples[len(heard.samples) // 8 : -len(heard.samples) // 8]
    wanted = np.linspace(-0.5, 0.5, len(heard.samples))[len(heard.samples) // 8 : -len(heard.samples) // 8]
    assert np.abs(inside - wanted).max() < 0.02


@pytest.mark.parametrize("damaged_packets", [1, 3])
@pytest.mark.parametrize(
    ("container", "codec"), [("mp3", "libmp3lame"), ("ipod", "aac"), ("flac", "flac"), ("mpegts", "mp2")]
)
def test_a_damaged_packet_becomes_silence_of_its_length(
    container: str, codec: str, damaged_packets: int
) -> None:
    sound = np.concatenate([tone(2.0, hz=300), tone(1.0, hz=2000)])
    data = bytearray(encode_sound(sound, RATE_HZ, container=container, codec=codec))
    whole = load_audio(bytes(data), RATE_HZ)
    with av.open(BytesIO(bytes(data))) as file:
        packets = [(p.pos, p.size) for p in file.demux(file.streams.audio[0]) if p.size]
    position, size = packets[len(packets) // 3]
    size *= damaged_packets
    data[position : position + size] = random.Random(3).randbytes(size)
    with damage_noted():
        heard = load_audio(bytes(data), RATE_HZ)
    assert float(heard.duration_s) == pytest.approx(float(whole.duration_s), abs=0.012)
    for at_s, hz in ((1.8, 300), (2.2, 2000)):
        part = heard.samples[int((at_s - 0.15) * RATE_HZ) : int((at_s + 0.15) * RATE_HZ)]
        assert frequency_hz(part, RATE_HZ) == pytest.approx(hz, abs=5)


@pytest.mark.parametrize(
    ("container", "codec", "packet_s"),
    [("mp3", "libmp3lame", 0.024), ("ipod", "aac", 0.0213), ("flac", "flac", 0.096)],
)
def test_a_note_says_how_much_is_damaged(container: str, codec: str, packet_s: float) -> None:
    data = bytearray(encode_sound(tone(3.0), RATE_HZ, container=container, codec=codec))
    with av.open(BytesIO(bytes(data))) as file:
        packets = [(p.pos, p.size) for p in file.demux(file.streams.audio[0]) if p.size]
    position, size = packets[len(packets) // 3]
    data[position : position + size] = b"\xff" * size
    with pytest.warns(UserWarning, match=r"The speech is damaged \(.*\): 0\.\d\d s of it are silent") as said:
        load_audio(bytes(data), RATE_HZ)
    # An MP3 parser that loses its way hands out two frames as one packet.
    lost_s = float(str(said[0].message).split("): ")[1].split(" s")[0])
    assert packet_s - 0.005 <= lost_s <= 2 * packet_s + 0.005


def test_an_id3_tag_between_joined_files_is_no_damage(recwarn: pytest.WarningsRecorder) -> None:
    part = encode_sound(tone(1.0), RATE_HZ, container="mp3", codec="libmp3lame")
    tag = b"ID3\x04\0\0" + bytes([0, 0, 0x7F, 0x7F]) + b"APIC" + bytes(0x7F * 128 + 0x7F - 4)
    heard = load_audio(part + tag + part, RATE_HZ)
    assert float(heard.duration_s) == pytest.approx(2.0, abs=0.06)
    assert not [w for w in recwarn if issubclass(w.category, UserWarning)]


@pytest.mark.parametrize(
    ("container", "codec"), [("mp3", "libmp3lame"), ("adts", "aac"), ("ogg", "libopus"), ("ogg", "flac")]
)
def test_joined_files_are_read_to_the_end(container: str, codec: str) -> None:
    parts = [
        encode_sound(tone(length_s, hz=hz), RATE_HZ, container=container, codec=codec)
        for length_s, hz in ((1.5, 300.0), (2.0, 700.0), (1.0, 500.0))
    ]
    with damage_noted():
        heard = load_audio(b"".join(parts), RATE_HZ)
    assert float(heard.duration_s) == pytest.approx(4.5, abs=0.3)
    for at_s, hz in ((0.5, 300), (2.5, 700), (4.0, 500)):
        part = heard.samples[int((at_s - 0.2) * RATE_HZ) : int((at_s + 0.2) * RATE_HZ)]
        assert frequency_hz(part, RATE_HZ) == pytest.approx(hz, abs=5), at_s


@pytest.mark.parametrize(("container", "codec"), [("mp3", "libmp3lame"), ("adts", "aac")])
def test_each_frame_is_read_at_its_own_rate_and_layout(container: str, codec: str) -> None:
    data = b"".join(
        encode_sound(
            np.repeat(tone(2.0, rate_hz), channels, axis=1), rate_hz, container=container, codec=codec
        )
        for rate_hz, channels in ((22_050, 1), (44_100, 2), (32_000, 1), (48_000, 2))
    )
    with damage_noted():
        heard = load_audio(data, RATE_HZ)
    assert float(heard.duration_s) == pytest.approx(8.0, abs=0.3)
    for second in range(0, 8, 2):
        part = heard.samples[int((second + 0.7) * RATE_HZ) : int((second + 1.4) * RATE_HZ)]
        assert frequency_hz(part, RATE_HZ) == pytest.approx(440, abs=3), second


def test_a_gap_between_time_stamps_is_silence() -> None:
    data = encode_sound(
        tone(2.0), RATE_HZ, container="matroska", codec="pcm_s16le", starts_s=((0, 0.0), (1024 * 47, 1.75))
    )
    heard = load_audio(data, RATE_HZ)
    before_s = 1024 * 47 / RATE_HZ
    assert float(heard.duration_s) == pytest.approx(2.0 + 1.75 - before_s, abs=0.002)
    ((start_s, end_s),) = silent_s(heard.samples, RATE_HZ)
    assert (start_s, end_s) == (pytest.approx(before_s, abs=0.002), pytest.approx(1.75, abs=0.002))


def test_time_stamps_that_are_rounded_leave_no_gap() -> None:
    # Matroska counts in milliseconds: 1024 samples at 44.1 kHz are 23.22 ms.
    heard = load_audio(
        encode_sound(tone(3.0, 44_100), 44_100, container="matroska", codec="pcm_s16le"), 44_100
    )
    assert not silent_s(heard.samples, 44_100)
    assert heard.duration_s == 3


def test_sound_that_starts_after_the_picture_keeps_its_place() -> None:
    data = write_tracks([tone(1.0)], starts_s=[0.4], picture=True)
    heard = load_audio(data, RATE_HZ)
    assert np.flatnonzero(np.abs(heard.samples) > 1e-2)[0] / RATE_HZ == pytest.approx(0.4, abs=0.002)


def test_the_default_track_is_read(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    path.write_bytes(write_tracks([tone(1.0, hz=300), tone(1.0, hz=700)], default=1))
    assert frequency_hz(load_audio(path, RATE_HZ).samples, RATE_HZ) == pytest.approx(700, abs=3)
    assert frequency_hz(load_video_sound(path, RATE_HZ, 0.0).samples, RATE_HZ) == pytest.approx(700, abs=3)


@pytest.mark.parametrize("silent_tracks", [1, 2])
def test_a_silent_default_track_gives_way_to_one_with_sound(silent_tracks: int) -> None:
    silence = np.zeros((RATE_HZ, 1))
    data = write_tracks([silence] * silent_tracks + [tone(1.0, hz=700)], default=0)
    for source in (data, BytesIO(data)):
        assert frequency_hz(load_audio(source, RATE_HZ).samples, RATE_HZ) == pytest.approx(700, abs=3)
    with pytest.raises(AudioError, match="is silent"):
        load_audio(write_tracks([silence, silence], default=1))


def test_a_sound_far_beyond_full_scale_is_clipped() -> None:
    heard = load_audio(encode_sound(tone(1.0, 44_100) * 1e38, 44_100), RATE_HZ)
    assert np.abs(heard.samples).max() == 1
    assert load_audio((tone(1.0, 44_100)[:, 0] * 1e38, 44_100), RATE_HZ).samples.max() == 1


@pytest.mark.parametrize(
    "name", ["2024-11-27T10:15:30.wav", "http:a.wav", "concat:a.wav|b.wav", "pipe:0", "-", "data:x.wav"]
)
def test_a_file_is_a_file_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(encode_sound(tone(0.5), RATE_HZ))
    assert load_audio(name, RATE_HZ).duration_s == Fraction(1, 2)


@pytest.mark.parametrize(
    "playlist",
    ["#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nvoice.wav\n#EXT-X-ENDLIST\n",
     "ffconcat version 1.0\nfile voice.wav\n", "WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n",
     "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=audio 9 RTP/AVP 0\n"],
    ids=["hls", "concat", "webvtt", "sdp"],
)  # fmt: skip
def test_what_refers_to_other_files_or_hosts_is_refused(tmp_path: Path, playlist: str) -> None:
    (tmp_path / "voice.wav").write_bytes(encode_sound(tone(0.5), RATE_HZ))
    (tmp_path / "list.wav").write_text(playlist)
    with pytest.raises(AudioError, match="is not a sound file"):
        load_audio(tmp_path / "list.wav")


def test_a_longer_pause_than_is_allowed_is_refused() -> None:
    data = encode_sound(tone(2.0), RATE_HZ, container="matroska", codec="pcm_s16le",
                        starts_s=((0, 0.0), (1024 * 47, 9e6)))  # fmt: skip
    with pytest.raises(AudioError, match="lasts more than 14400 s"):
        load_audio(data)


def test_a_file_of_days_is_refused_by_its_size(tmp_path: Path) -> None:
    """20 GB that take no place on the disk: reading four hours of them would take gigabytes of memory."""
    path = tmp_path / "days.wav"
    content = bytearray(encode_sound(tone(0.1), RATE_HZ, codec="pcm_s16le"))
    # The largest size that the header can name stands for all of the file.
    sizes = content.index(b"data") + 4
    content[sizes : sizes + 4] = content[4:8] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    os.truncate(path, 20_000_000_000)
    for allowed_s in (300.0, 14_400.0):
        with pytest.raises(AudioError, match=f"lasts more than {allowed_s:g} s"):
            load_audio(path, max_duration_s=allowed_s)


def test_random_sounds_never_end_the_process(tmp_path: Path) -> None:
    """Channels, layouts, rates and formats by chance, cut, damaged and joined, in a process of its own."""
    code = (
        "import sys, random, warnings; warnings.simplefilter('ignore'); sys.path[:0] = sys.argv[2:]\n"
        "from test_soundtrack import random_sound; from vortex.media.soundtrack import read_soundtrack\n"
        "from vortex.errors import AudioError; from io import BytesIO; import numpy as np\n"
        "read = 0\n"
        "for seed in range(int(sys.argv[1])):\n"
        "    try:\n"
        "        data = BytesIO(random_sound(random.Random(seed)))\n"
        "        track = read_soundtrack(data, 'x', 16_000, max_duration_s=900)\n"
        "        assert np.isfinite(track.samples).all() and np.abs(track.samples).max() < 3; read += 1\n"
        "    except AudioError: pass\n"
        "print(read)"
    )  # fmt: skip
    tests = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, "80", str(tests), str(Path(__file__).parent)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    assert int(done.stdout) > 40


def random_sound(chance: random.Random) -> bytes:
    """Return a file of several parts, each with its own channels, rate and format of one codec."""
    container, codec, rates, layouts = chance.choice(
        [("wav", "pcm_f32le", (1, 50, 8_000, 44_100, 768_000), [f"{n} channels" for n in range(1, 65)]),
         ("wav", "pcm_s24le", (7, 22_050, 192_000), ["mono", "stereo", "5.1", "7.1", "22.2"]),
         ("wv", "wavpack", (8_000, 96_000), [f"{n} channels" for n in range(1, 65)]),
         ("adts", "aac", (8_000, 22_050, 48_000), ["mono", "stereo", "3.0", "4.0", "5.1", "7.1(wide)"]),
         ("mp3", "libmp3lame", (8_000, 22_050, 48_000), ["mono", "stereo"]),
         ("ogg", "flac", (8_000, 44_100), ["mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1"]),
         ("matroska", "libopus", (48_000,), ["mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1"])]
    )  # fmt: skip
    made = b""
    for _ in range(chance.randint(1, 3)):
        rate_hz, layout = chance.choice(rates), chance.choice(layouts)
        noise = np.random.default_rng(chance.randrange(1000)).normal(
            0, 0.2, (1500, av.AudioLayout(layout).nb_channels)
        )
        made += encode_sound(noise, rate_hz, container=container, codec=codec, layout=layout)
    data = bytearray(made)
    for _ in range(chance.choice((0, 0, 1, 5))):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data[: chance.choice((len(data), chance.randrange(len(data)) + 1))])


@pytest.mark.parametrize("length_s", [1.0, 1.25, 2.01])
def test_what_an_encoder_adds_to_the_end_is_left_out(tmp_path: Path, length_s: float) -> None:
    """AAC has packets of 1024 samples; an MP4 says how much of the last one counts."""
    audio = Audio(tone(length_s)[:, 0].astype(np.float32), RATE_HZ)
    frames = round(length_s * 100)
    picture = np.zeros((16, 16, 3), np.uint8)
    encode_video(tmp_path / "a.mp4", iter([picture] * frames), audio, Fraction(100), (16, 16))
    heard = load_audio(tmp_path / "a.mp4", RATE_HZ)
    assert len(heard.samples) == len(audio.samples)
    assert frequency_hz(heard.samples[-9600:], RATE_HZ) == pytest.approx(440, abs=5)


@pytest.mark.parametrize("rate_hz", [48_000, 44_100])
def test_left_and_right_are_kept_apart_beside_the_mix(rate_hz: int) -> None:
    left, right = tone(1.0, rate_hz, 300), tone(1.0, rate_hz, 700)
    audio, stereo = load_sound(encode_sound(np.hstack([left, right]), rate_hz), RATE_HZ)
    assert stereo is not None and stereo.shape == (len(audio.samples), 2)
    for channel, hz in ((0, 300), (1, 700)):
        assert frequency_hz(stereo[:, channel], RATE_HZ) == pytest.approx(hz, abs=3)
        assert np.abs(stereo[:, channel]).max() == pytest.approx(0.5, abs=0.01)
    assert load_sound(encode_sound(left, rate_hz), RATE_HZ)[1] is None


def test_five_channels_keep_their_sides() -> None:
    mixer = StereoMixer(("FL", "FR", "FC", "LFE", "SL", "SR"))
    one_each = np.eye(6, dtype=np.float32)
    left, right = mixer.mix(one_each).T
    loudest = left[0]
    # ITU-R BS.775-3, annex 4: centre and surround by 0.7071, sides apart, no low-frequency channel.
    assert left / loudest == pytest.approx([1, 0, 0.7071, 0, 0.7071, 0], abs=1e-3)
    assert right / loudest == pytest.approx([0, 1, 0.7071, 0, 0, 0.7071], abs=1e-3)
    assert left.sum() == pytest.approx(1)  # all together stay within full scale
