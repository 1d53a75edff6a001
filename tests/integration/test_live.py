"""A live face: every frame has its sound, comes in time, follows the voice, and lives on in silence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vortex
import vortex.lipsync.stream
from vortex.demo import DEMO_SPEECH, demo_portrait
from vortex.engines.mesh.engine import MeshEngine
from vortex.engines.registry import find_engine, load_engine
from vortex.errors import AudioError, InputError, UnknownPresetError
from vortex.face.portrait import iter_landmarks, load_portrait
from vortex.lipsync.recognize import recognize_phonemes
from vortex.lipsync.sync import MouthTrack, compare
from vortex.live import RESTART_S, LiveFace, LiveFrame, LiveTalk
from vortex.media.audio import frame_spans, load_audio, resample
from vortex.options import LiveOptions
from vortex.types import Frame, MotionTrack

RATE_HZ = 24_000


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    return load_audio(DEMO_SPEECH, RATE_HZ).samples


@pytest.fixture(scope="module")
def engine() -> MeshEngine:
    return load_engine("mesh")  # type: ignore[return-value]


@pytest.fixture(scope="module")
def prepared(engine: MeshEngine) -> object:
    return engine.prepare(load_portrait(demo_portrait()), size_px=256)


def live_face(engine: Any, prepared: Any, **options: Any) -> LiveFace:
    return LiveFace(engine, prepared, LiveOptions.parse(**options))


class Blank:
    """An engine whose frames cost nothing."""

    name = "mesh"
    size_px = (2, 2)

    def iter_frames(self, prepared: object, motion: MotionTrack, *, quality: str = "full") -> Iterator[Frame]:
        return (np.zeros((2, 2, 3), np.uint8) for _ in range(len(motion)))


def openings(frames: list[LiveFrame]) -> np.ndarray:
    found = list(iter_landmarks(frame.image for frame in frames))
    assert all(points is not None for points in found)
    lips = [np.linalg.norm(np.subtract(*points[[13, 14], :2])) for points in found]
    eyes = [np.linalg.norm(np.subtract(*points[[33, 263], :2])) for points in found]
    return np.array(lips) / np.array(eyes)


def cut(samples: np.ndarray, length: int) -> list[np.ndarray]:
    return [samples[i : i + length] for i in range(0, len(samples), length)]


@pytest.mark.parametrize(("fps", "rate_hz"), [("24", 24_000), ("30000/1001", 44_100), ("25", 8_000)])
def test_the_frames_hold_the_whole_sound(fps: str, rate_hz: int) -> None:
    samples = load_audio(DEMO_SPEECH, rate_hz).samples
    face = live_face(Blank(), Blank(), fps=fps, seed=1, sample_rate_hz=rate_hz)
    frames = list(face.stream(cut(samples, 1234)))
    assert [frame.index for frame in frames] == list(
        range(math.ceil(Fraction(len(samples), rate_hz) * Fraction(fps)))
    )
    edges = frame_spans(len(frames), Fraction(fps), rate_hz)
    assert [len(frame.samples) for frame in frames] == np.diff(edges).tolist()
    heard = np.concatenate([frame.samples for frame in frames])
    # Frames are whole: less than one is silent, and nothing is missing.
    assert np.array_equal(heard[: len(samples)], samples)
    assert len(heard) - len(samples) < rate_hz / Fraction(fps)


def test_frames_do_not_depend_on_the_chunks(engine: MeshEngine, prepared: object, voice: np.ndarray) -> None:
    def digests(length: int, seed: int) -> list[str]:
        face = live_face(engine, prepared, preset="excited", seed=seed)
        chunks = cut(voice[: RATE_HZ // 2 * 3], length)
        return [sha256(frame.image.tobytes()).hexdigest() for frame in face.stream(chunks)]

    whole = digests(10**6, 5)
    assert digests(480, 5) == whole
    assert digests(480, 6) != whole


def test_frames_come_within_the_stated_delay(voice: np.ndarray) -> None:
    face = live_face(Blank(), Blank(), seed=1)
    assert face.delay_s < 0.3
    out = 0
    for index, chunk in enumerate(cut(voice, 240)):
        out += len(list(face.push(chunk)))
        # 10 ms chunks, and the delay line of the resampler
        certain = (index * 240 / RATE_HZ - face.delay_s - 0.01) * 24
        assert out >= int(certain)


def test_the_lips_follow_the_voice(engine: MeshEngine, prepared: object, voice: np.ndarray) -> None:
    frames = list(live_face(engine, prepared, seed=2).stream(cut(voice, 480)))
    mouth = MouthTrack(openings(frames).astype(np.float32), 0.0, Fraction(24))
    report = compare(mouth, recognize_phonemes(resample(voice, RATE_HZ, 16_000)).spans)
    assert abs(report.offset_frames) <= 2
    assert report.correlation > 0.5
    assert not report.closures_missed_s


def test_the_face_moves_in_silence_with_its_mouth_shut(engine: MeshEngine, prepared: object) -> None:
    talk = LiveTalk(live_face(engine, prepared, preset="neutral", seed=3))
    frames = [frame for tick in range(1, 100) for frame in talk.advance(tick * 0.05)]
    assert len(frames) == pytest.approx((99 * 0.05 - 0.25) * 24, abs=2)
    assert openings(frames).max() < 0.03
    moved = [np.abs(a.image.astype(int) - b.image).max() for a, b in zip(frames, frames[12:], strict=False)]
    assert min(moved) > 3, "the face froze"


def test_an_interruption_silences_the_face(engine: MeshEngine, prepared: object, voice: np.ndarray) -> None:
    talk = LiveTalk(live_face(engine, prepared, seed=4))
    # an agent sends ten seconds at once, and is cut off one second in
    talk.say(np.tile(voice, 4))
    spoken = [frame for tick in range(1, 21) for frame in talk.advance(tick * 0.05)]
    assert talk.interrupt() == pytest.approx(4 * len(voice) / RATE_HZ - 1, abs=0.06)
    after = [frame for tick in range(21, 41) for frame in talk.advance(tick * 0.05)]
    assert openings(spoken).max() > 0.06
    heard = np.concatenate([frame.samples for frame in after])
    last = np.flatnonzero(heard)[-1] / RATE_HZ
    assert last < 0.3
    assert openings(after)[-14:].max() < 0.03


def test_small_gaps_in_what_arrives_are_not_heard(voice: np.ndarray) -> None:
    talk = LiveTalk(live_face(Blank(), Blank(), seed=1))
    chunks, frames = iter(cut(voice, 480)), []
    for tick in range(1, 120):
        # twenty milliseconds arrive every twenty, give or take fifteen
        now_s = tick * 0.02 + (0.015 if tick % 3 == 0 else 0.0)
        talk.say(next(chunks))
        frames += talk.advance(now_s)
    heard = np.concatenate([frame.samples for frame in frames])
    start = int(np.flatnonzero(heard)[0])
    first = int(np.flatnonzero(voice)[0])
    assert start - first <= (RESTART_S + 0.04) * RATE_HZ
    assert np.array_equal(heard[start:], voice[first : first + len(heard) - start])


def test_a_short_rest_is_spoken_after_the_end_of_speech_is_announced() -> None:
    talk = LiveTalk(live_face(Blank(), Blank(), seed=1))
    talk.say(np.full(600, 0.5))
    assert not any(np.any(frame.samples) for frame in talk.advance(1.0))
    assert talk.unspoken_s == 600 / RATE_HZ
    talk.end_of_speech()
    frames = [*talk.advance(2.0), *talk.advance(3.0)]
    assert sum(int(np.count_nonzero(frame.samples)) for frame in frames) == 600


def test_half_an_hour_does_not_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    # what is recognised has no say in when a frame is shown
    silent = np.zeros((40, 5), np.float32)
    monkeypatch.setattr(vortex.lipsync.stream, "class_emissions", lambda window: silent)
    monkeypatch.setattr(vortex.lipsync.stream, "spans_of_spikes", lambda *_: [])
    talk = LiveTalk(live_face(Blank(), Blank(), fps="2000/1001", seed=1))
    rng = np.random.default_rng(1)
    count, samples, now_s = 0, 0, 0.0
    while now_s < 1800:
        now_s += float(rng.uniform(0.0, 0.4))
        for frame in talk.advance(now_s):
            assert frame.index == count
            count += 1
            samples += len(frame.samples)
    # the frame that ends with these samples, by the definition of the frame rate
    assert samples == round(count * RATE_HZ * Fraction(1001, 2000))
    # a step of two frames, and the look-ahead
    assert now_s - samples / RATE_HZ < 0.2 + 2 * 1001 / 2000 + 0.4


def test_bad_sound_and_options_are_refused(engine: MeshEngine, prepared: object) -> None:
    face = live_face(engine, prepared)
    for bad in ([[0.0, 0.0]], [np.nan], [np.inf]):
        with pytest.raises(AudioError):
            face.push(bad)
        with pytest.raises(AudioError):
            LiveTalk(face).say(bad)
    for options in ({"fps": 0}, {"seed": -1}, {"sample_rate_hz": 1}):
        with pytest.raises(InputError):
            live_face(engine, prepared, **options)
    with pytest.raises(UnknownPresetError):
        live_face(engine, prepared, preset="furious")


def test_opened_from_a_picture(voice: np.ndarray) -> None:
    with vortex.open_live_face(demo_portrait(), size_px=128, seed=1) as face:
        assert face.size_px == (128, 128)
        frame = next(face.stream([voice]))
    assert frame.image.shape == (128, 128, 3)


class Counted(MeshEngine):
    """An engine that counts how often it is closed."""

    closed = 0

    def close(self) -> None:
        type(self).closed += 1


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    Counted.closed = 0
    spec = replace(find_engine("mesh"), load=lambda device: Counted())
    monkeypatch.setattr("vortex.session.resolve_engine", lambda name, device: (spec, ()))
    return Counted


def test_a_closed_face_closes_the_engine_it_opened(counted: type[Counted]) -> None:
    face = vortex.open_live_face(demo_portrait(), size_px=128)
    assert counted.closed == 0
    face.close()
    face.close()
    assert counted.closed == 1


def test_a_face_of_a_session_leaves_its_engine_open(counted: type[Counted]) -> None:
    with vortex.Session() as session:
        vortex.open_live_face(demo_portrait(), session=session, size_px=128).close()
        assert counted.closed == 0
    assert counted.closed == 1


def test_a_face_that_cannot_be_opened_closes_the_engine(counted: type[Counted], tmp_path: Path) -> None:
    with pytest.raises(InputError):
        vortex.open_live_face(tmp_path / "gone.jpg")
    assert counted.closed == 1
