"""The lip-sync check finds known offsets, and mouths that follow other words."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support.paths import DATA

import vortex
from vortex.demo import demo_portrait
from vortex.engines.mesh.engine import MeshEngine
from vortex.errors import InputError, NoFaceError
from vortex.face.portrait import load_portrait
from vortex.lipsync.recognize import recognize_phonemes, recognize_visemes
from vortex.lipsync.sync import MouthTrack, compare, measure_mouth, measure_sync
from vortex.media.audio import load_audio, resample
from vortex.media.video import encode_video
from vortex.motion.drive import drive
from vortex.types import BLENDSHAPE_INDEX, Audio, Frame, PhonemeSpan

FPS = Fraction(24)
SPEECH = Path(vortex.__file__).parent / "data" / "demo_speech.flac"
LABELS = DATA / "speech" / "demo_speech.json"


@pytest.fixture(scope="module")
def audio() -> Audio:
    """The demo sentence three times, with pauses."""
    once = load_audio(SPEECH).samples
    return Audio(np.concatenate([np.pad(once, (6_000, 12_000))] * 3))


@pytest.fixture(scope="module")
def frames(audio: Audio) -> list[Frame]:
    engine = MeshEngine()
    prepared = engine.prepare(load_portrait(demo_portrait()), size_px=256)
    return list(engine.iter_frames(prepared, drive(recognize_visemes(audio, FPS), "neutral", 1)))


@pytest.fixture(scope="module")
def in_sync(frames: list[Frame], audio: Audio, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("check") / "sync.mp4"
    encode_video(path, iter(frames), audio, FPS, (256, 256))
    return path


@pytest.fixture(scope="module")
def mouth(in_sync: Path) -> MouthTrack:
    return measure_mouth(in_sync)[0]


def heard(audio: Audio) -> list[PhonemeSpan]:
    """Return the sounds that the recogniser hears."""
    return recognize_phonemes(resample(audio.samples, audio.sample_rate, 16_000)).spans


def delayed(audio: Audio, frames: float) -> Audio:
    """Return the sound later (or, below 0, earlier) by some frames, of the same length."""
    shift = round(frames / 24 * audio.sample_rate)
    samples = np.roll(audio.samples, shift)
    samples[: max(shift, 0)] = 0
    samples[len(samples) + min(shift, 0) :] = 0
    return Audio(samples, audio.sample_rate)


@pytest.mark.parametrize("late", [*range(-8, 9), -2.5, 0.5, 1.5])
def test_a_known_offset_is_recovered_within_half_a_frame(
    mouth: MouthTrack, audio: Audio, late: float
) -> None:
    report = compare(mouth, heard(delayed(audio, -late)))
    assert report.offset_frames == pytest.approx(late, abs=0.5)
    assert report.offset_ms == pytest.approx(report.offset_frames * 1000 / 24)
    assert bool(report.complaints()) == (abs(report.offset_frames) > 2)


def test_a_finished_video_with_a_late_picture_is_reported(
    frames: list[Frame], audio: Audio, tmp_path: Path
) -> None:
    path = tmp_path / "late.mp4"
    encode_video(path, iter(frames), delayed(audio, -5), FPS, (256, 256))
    report = measure_sync(path).report
    assert report.offset_frames == pytest.approx(5, abs=0.5)
    assert report.complaints() == [f"the picture is {report.offset_frames:.1f} frames late"]


def test_a_video_in_sync_passes_against_labels_it_was_not_made_from(in_sync: Path, audio: Audio) -> None:
    once = [PhonemeSpan(r["phone"], r["start_s"], r["end_s"]) for r in json.loads(LABELS.read_text())]
    period_s = len(audio.samples) / 3 / audio.sample_rate
    labels = [
        PhonemeSpan(s.phoneme, s.start_s + 0.25 + k * period_s, s.end_s + 0.25 + k * period_s)
        for k in range(3)
        for s in once
    ]
    report = measure_sync(in_sync, phonemes=labels).report
    assert replace(report, max_offset_frames=1.0).complaints() == []
    assert report.face_share == 1
    assert not report.closures_missed_s
    assert len(report.closures_found_s) == sum(s.phoneme in ("P", "B", "M") for s in labels)
    assert (report.evidence, report.verdict) == ("phonemes", "good")
    assert report.still_in_silence is not None
    assert report.still_in_silence > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_a_mouth_driven_by_shuffled_speech_fails(mouth: MouthTrack, audio: Audio, seed: int) -> None:
    parts = np.array_split(audio.samples, 24)
    order = np.random.default_rng(seed).permutation(24)
    shuffled = Audio(np.concatenate([parts[k] for k in order]), audio.sample_rate)
    assert compare(mouth, heard(shuffled)).verdict == "bad"


def test_a_still_picture_fails(frames: list[Frame], audio: Audio, tmp_path: Path) -> None:
    def still() -> Iterator[Frame]:
        for _ in frames:
            yield frames[0]

    path = tmp_path / "still.mp4"
    encode_video(path, still(), audio, FPS, (256, 256))
    report = measure_sync(path).report
    assert report.verdict == "bad"
    assert any("hardly moves" in line for line in report.complaints())


def test_a_video_whose_sound_starts_late_is_measured_by_the_clock_of_the_file(
    in_sync: Path, tmp_path: Path
) -> None:
    late = tmp_path / "late.mp4"
    shift_sound(in_sync, late, 0.4)
    report = measure_sync(late).report
    assert report.offset_ms == pytest.approx(-400, abs=20)
    assert report.verdict == "bad"


def test_dropped_frames_do_not_shift_the_picture(frames: list[Frame], audio: Audio, tmp_path: Path) -> None:
    path = tmp_path / "variable.mp4"
    kept = sorted(np.random.default_rng(0).permutation(len(frames))[: round(0.75 * len(frames))].tolist())
    encode_variable(path, [(index, frames[index]) for index in kept], audio)
    report = measure_sync(path).report
    assert report.offset_ms == pytest.approx(0, abs=25)
    assert report.verdict == "good"


def test_speech_backwards_and_no_speech_fail(frames: list[Frame], audio: Audio, tmp_path: Path) -> None:
    for samples in (audio.samples[::-1].copy(), np.zeros_like(audio.samples)):
        path = tmp_path / "other.mp4"
        encode_video(path, iter(frames), Audio(samples, audio.sample_rate), FPS, (256, 256))
        assert measure_sync(path).report.verdict == "bad"


def test_a_mouth_that_hovers_misses_its_closures(audio: Audio, tmp_path: Path) -> None:
    motion = drive(recognize_visemes(audio, FPS), "neutral", 1)
    shapes = motion.blendshapes.copy()
    jaw, shut = BLENDSHAPE_INDEX["jawOpen"], BLENDSHAPE_INDEX["mouthClose"]
    shapes[:, jaw], shapes[:, shut] = 0.25 + 0.6 * shapes[:, jaw], 0
    engine = MeshEngine()
    prepared = engine.prepare(load_portrait(demo_portrait()), size_px=256)
    pictures = engine.iter_frames(prepared, replace(motion, blendshapes=shapes))
    path = tmp_path / "hover.mp4"
    encode_video(path, pictures, audio, FPS, (256, 256))
    report = measure_sync(path).report
    assert report.correlation > 0.4
    assert report.verdict == "doubtful"
    assert any("closures of p, b, m are missed" in line for line in report.complaints())


def shift_sound(path: Path, out: Path, late_s: float) -> None:
    """Copy a video, its sound later by its time stamps alone."""
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is None or packet.pts is None:
                continue
            shift = round(late_s / packet.time_base) if packet.stream.type == "audio" else 0
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = streams[packet.stream.index]
            target.mux(packet)


def encode_variable(path: Path, shown: list[tuple[int, Frame]], audio: Audio) -> None:
    """Write frames (number at 24 fps, pixels) at a variable rate, with sound."""
    with av.open(str(path), "w") as target:
        video = target.add_stream("libx264", rate=24)
        video.width, video.height, video.pix_fmt = 256, 256, "yuv420p"
        sound = target.add_stream("aac", rate=audio.sample_rate, layout="mono")
        for index, pixels in shown:
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 24)
            target.mux(video.encode(frame))
        target.mux(video.encode(None))
        for start in range(0, len(audio.samples), 1024):
            block = av.AudioFrame.from_ndarray(audio.samples[None, start : start + 1024], "fltp", "mono")
            block.sample_rate, block.pts = audio.sample_rate, start
            block.time_base = Fraction(1, audio.sample_rate)
            target.mux(sound.encode(block))
        target.mux(sound.encode(None))


def test_videos_that_cannot_be_measured_are_refused(audio: Audio, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        measure_sync(tmp_path / "no.mp4")
    with pytest.raises(InputError, match="no moving picture"):
        measure_sync(SPEECH)
    path = tmp_path / "noface.mp4"
    encode_video(path, iter([np.zeros((128, 128, 3), np.uint8)] * 5), audio, FPS, (128, 128))
    with pytest.raises(NoFaceError):
        measure_sync(path)


def test_the_command_prints_figures_draws_a_plot_and_fails_beyond_the_limit(
    in_sync: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "vortex", "check", str(in_sync), "--json"]
    plot = tmp_path / "sync.png"
    done = subprocess.run([*command, "--plot", str(plot)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert abs(figures["offset_frames"]) < 1
    assert plot.read_bytes().startswith(b"\x89PNG")
    strict = subprocess.run(
        [*command, "--max-offset-frames", "0"], capture_output=True, text=True, check=False
    )
    assert strict.returncode == 1
    judged = json.loads(strict.stdout)
    assert judged["verdict"] == "bad" and "frames" in judged["complaints"][0]
    plain = subprocess.run(command[:-1], capture_output=True, text=True, check=False)
    assert plain.stdout.splitlines()[-1] == "verdict      good: in sync"
    assert "sure" in plain.stdout
