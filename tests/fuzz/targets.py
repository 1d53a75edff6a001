"""What is fuzzed: each target takes bytes, and must give a result or one of our errors, nothing else."""

from __future__ import annotations

import atexit
import functools
import io
import json
import pickle
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import command_line
import numpy as np
import server_requests
from PIL import Image
from support.sounds import encode_sound
from support.tracks import moving_track

from vortex.cli.check import read_phonemes
from vortex.demo import DEMO_SPEECH
from vortex.errors import VortexError
from vortex.lipsync.recognize import recognize_visemes
from vortex.media.audio import load_audio
from vortex.media.picture import load_picture
from vortex.motion.drive import drive
from vortex.motion.presets import PresetTrack
from vortex.motion.template import load_template, save_template
from vortex.types import Audio, frame_count, parse_fps


@dataclass(frozen=True)
class Target:
    """``run`` is called with inputs grown from ``seeds``; ``text`` inputs are mutated as text."""

    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    text: bool = False


def accepts(target: Target, data: bytes) -> bool:
    """Run one input; True for a result, False for one of our errors, with a message of one line.

    Raises:
        Whatever else happens: that is a finding.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            target.run(data)
        except VortexError as exc:
            message = str(exc)
            if not message or "\n" in message:
                raise AssertionError(f"not one line: {message!r}") from exc
            return False
    return True


def _from_file(read: Callable[[Path], object], suffix: str) -> Callable[[bytes], object]:
    """Return a target that reads a file with the given bytes, and leaves no other file."""

    def run(data: bytes) -> object:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"input{suffix}"
            path.write_bytes(data)
            try:
                return read(path)
            finally:
                assert [path] == list(Path(folder).iterdir()), "left a file behind"

    return run


def _pictures() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    made = []
    for mode, kind in (("RGB", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("P", "GIF"), ("I;16", "PNG"),
                       ("RGB", "WEBP"), ("RGB", "TIFF"), ("RGB", "BMP"), ("1", "PPM")):  # fmt: skip
        stream = io.BytesIO()
        (picture.convert("I").convert("I;16") if mode == "I;16" else picture.convert(mode)).save(stream, kind)
        made.append(stream.getvalue())
    return made


def _look(path: Path) -> object:
    frame = load_picture(path).image
    assert frame.ndim == 3 and frame.shape[2] == 3 and frame.dtype == np.uint8
    return frame


def _sounds() -> list[bytes]:
    tone = (8000 * np.sin(np.arange(9000) * 0.1)).astype(np.int16)[None]
    made = [DEMO_SPEECH.read_bytes()[:6000]]
    for container, codec, layout in (("wav", "pcm_s16le", "s16"), ("mp3", "libmp3lame", "s16p"),
                                     ("ogg", "libopus", "fltp"), ("mp4", "aac", "fltp")):  # fmt: skip
        stream = io.BytesIO()
        with av.open(stream, "w", format=container) as out:
            track = out.add_stream(codec, rate=48_000, layout="mono")
            values = tone / 32768 if layout == "fltp" else tone
            sample = np.float32 if layout == "fltp" else np.int16
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(values, sample), layout, "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
            out.mux(track.encode(frame))
            out.mux(track.encode(None))
        made.append(stream.getvalue())
    noise = np.random.default_rng(1).normal(0, 0.2, (600, 64))
    kinds = (
        (8, "wav", "pcm_f32le"), (64, "wav", "pcm_s24le"), (16, "wv", "wavpack"), (8, "adts", "aac"),
        (2, "flac", "flac"), (6, "matroska", "pcm_s16le"),
    )  # fmt: skip
    for channels, container, codec in kinds:
        layout = {8: "7.1(wide)", 6: "5.1"}.get(channels) if codec != "pcm_f32le" else None
        made.append(
            encode_sound(noise[:, :channels], 48_000, container=container, codec=codec, layout=layout)
        )
    return made


def _listen(path: Path) -> object:
    audio = load_audio(path)
    assert audio.samples.dtype == np.float32 and np.isfinite(audio.samples).all()
    return audio


def _preset(data: bytes) -> object:
    presets = PresetTrack.parse(data.decode("utf-8", "replace"))
    assert presets.starts_s[0] == 0 and PresetTrack.parse(str(presets)) == presets
    return presets


def _rate(data: bytes) -> object:
    first, _, rest = data.decode("utf-8", "replace").partition(" ")
    fps = parse_fps(first)
    assert 1 <= fps <= 120
    return frame_count(len(rest), fps)


def _speech(data: bytes) -> object:
    """Recognise any samples whatever, and drive a face with them."""
    usable = data[: len(data) // 4 * 4][:32_000]
    samples = np.nan_to_num(np.frombuffer(usable, np.float32), nan=0, posinf=1, neginf=-1)
    audio = Audio(np.clip(np.resize(samples, 4000 if len(samples) == 0 else len(samples)), -1, 1), 16_000)
    visemes = recognize_visemes(audio, Fraction(24))
    assert np.allclose(visemes.weights.sum(axis=1), 1, atol=1e-4)
    motion = drive(visemes, "manic", 1)
    assert np.isfinite(motion.head_pose_deg).all() and motion.blendshapes.max(initial=0) <= 1
    return motion


def _waves() -> list[bytes]:
    voice = load_audio(DEMO_SPEECH, 16_000).samples
    return [voice[:6000].tobytes(), np.zeros(3000, np.float32).tobytes(), (3 * voice[9000:15000]).tobytes()]


@functools.cache
def _release() -> Path:
    """Return a folder with a release of toy networks, kept until the process ends."""
    from support.liveportrait_release import TOY, write_release

    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    write_release(Path(folder.name), TOY)
    return Path(folder.name)


def _weights(data: bytes) -> object:
    from support.liveportrait_release import TOY

    from vortex.engines.liveportrait.networks import FILES, load_networks

    (_release() / FILES["retargeting"]).write_bytes(data)
    return load_networks(_release(), TOY)


def _releases() -> list[bytes]:
    from vortex.engines.liveportrait.networks import FILES

    return [(_release() / FILES["retargeting"]).read_bytes()]


def _templates() -> list[bytes]:
    """Return a motion template of ours, and two as LivePortrait's pipeline pickles them."""
    track = moving_track(3)
    assert track.lip_ratio is not None
    with tempfile.TemporaryDirectory() as folder:
        save_template(Path(folder) / "a.npz", track)
        made = [(Path(folder) / "a.npz").read_bytes()]
    names = {"exp": track.exp, "R": track.rotation, "scale": track.scale, "t": track.translation}
    frames = [{name: array[i] for name, array in names.items()} for i in range(3)]
    lips = [[row] for row in track.lip_ratio.tolist()]
    published = {"n_frames": 3, "output_fps": 25, "motion": frames, "c_lip_lst": lips}
    return [*made, pickle.dumps(published, 2), pickle.dumps(published, 4)]


def _template(path: Path) -> object:
    track = load_template(path)
    assert np.isfinite(track.exp).all() and len(track) == len(track.rotation) > 0
    return track


_PHONEMES = json.dumps(
    [{"phone": "AH", "start_s": 0.0, "end_s": 0.2}, {"phone": "P", "start_s": 0.2, "end_s": 0.3}]
)

TARGETS: Mapping[str, Target] = {
    "picture": Target(_from_file(_look, ".png"), _pictures),
    "sound": Target(_from_file(_listen, ".wav"), _sounds),
    "templates": Target(_from_file(_template, ".npz"), _templates),
    "weights": Target(_weights, _releases),
    "presets": Target(
        _preset,
        lambda: [b"neutral", b"neutral,excited@3.5,calm@8", b"manic@0, calm@.5", b"calm:0.5,manic:2@1"],
        text=True,
    ),
    "rates": Target(_rate, lambda: [b"24 abc", b"30000/1001 ", b"29.97 x", b"1e999999999 "], text=True),
    "phonemes": Target(_from_file(read_phonemes, ".json"), lambda: [_PHONEMES.encode()], text=True),
    "speech": Target(_speech, _waves),
    "cli": Target(command_line.run, command_line.seeds, text=True),
    "server": Target(server_requests.run, server_requests.seeds),
}
