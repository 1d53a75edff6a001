"""A session loads each engine and portrait once, whatever the threads, and closes all of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

import vortex
from vortex.demo import demo_portrait
from vortex.engines.mesh.engine import MeshEngine
from vortex.engines.registry import find_engine
from vortex.errors import InputError, NoFaceError, VortexError
from vortex.face.portrait import load_portrait
from vortex.options import AnimateOptions, EngineOptions, FaceOptions, SpeechOptions
from vortex.session import Session, source_key
from vortex.types import MotionTrack, Portrait


@dataclass
class Counts:
    loaded: int = 0
    prepared: int = 0
    closed: int = 0


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    found = Counts()

    class Counted(MeshEngine):
        def __init__(self) -> None:
            found.loaded += 1

        def prepare(self, portrait: Portrait, *, size_px: int = 512, paste_back: bool = False) -> Any:
            found.prepared += 1
            return super().prepare(portrait, size_px=size_px, paste_back=paste_back)

        def iter_frames(
            self, prepared: Any, motion: MotionTrack, *, quality: str = "full"
        ) -> Iterator[np.ndarray]:
            return super().iter_frames(prepared, motion.part(0, 2), quality=quality)

        def close(self) -> None:
            found.closed += 1

    spec = replace(find_engine("mesh"), load=lambda device: Counted())
    monkeypatch.setattr("vortex.session.resolve_engine", lambda name, device: (spec, ()))
    return found


@pytest.fixture(scope="module")
def face() -> Portrait:
    return load_portrait(demo_portrait())


def test_threads_share_one_engine_and_one_prepared_portrait(counts: Counts, face: Portrait) -> None:
    options, start = FaceOptions.parse(size_px=128), threading.Barrier(8)

    def prepare(_: int) -> object:
        start.wait()
        return session.prepare(lambda: face, "face", options).prepared

    with Session() as session, ThreadPoolExecutor(8) as pool:
        made = list(pool.map(prepare, range(8)))
    assert len({id(one) for one in made}) == 1
    assert counts == Counts(loaded=1, prepared=1, closed=1)


def test_sizes_are_prepared_apart_and_the_oldest_is_dropped(counts: Counts, face: Portrait) -> None:
    with Session(max_prepared=2) as session:
        for size_px in (128, 130, 128, 132, 128, 130):
            session.prepare(lambda: face, "face", FaceOptions.parse(size_px=size_px))
        assert session.prepared_count == 2
        # 128 was used last when 132 came; 130 had been dropped
        assert counts.prepared == 4
        session.forget("face")
        assert session.prepared_count == 0


def test_an_engine_is_closed_when_the_work_fails(counts: Counts, tmp_path: Path) -> None:
    (tmp_path / "blank.png").parent.mkdir(exist_ok=True)
    Image.new("RGB", (300, 300), "grey").save(tmp_path / "blank.png")
    with pytest.raises(NoFaceError):
        vortex.animate(tmp_path / "blank.png", (np.ones(24_000) * 0.1, 24_000), tmp_path / "out.mp4")
    assert counts == Counts(loaded=1, prepared=0, closed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["blank.png"]


def test_calls_with_a_session_share_what_is_loaded(counts: Counts, tmp_path: Path) -> None:
    sound = (np.sin(np.arange(4_800) / 20) * 0.1, 24_000)
    with vortex.Session() as session:
        for name in ("a.mp4", "b.mp4"):
            vortex.animate(demo_portrait(), sound, tmp_path / name, session=session, size_px=128, seed=1)
    assert counts == Counts(loaded=1, prepared=1, closed=1)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_closed_session_says_so(counts: Counts) -> None:
    session = Session()
    session.close()
    session.close()
    with pytest.raises(VortexError, match="session is closed"):
        session.engine(EngineOptions())
    with pytest.raises(VortexError, match="session is closed"):
        session.say("Good morning.", SpeechOptions())


def test_nothing_is_loaded_for_a_path_that_cannot_be_written(counts: Counts, tmp_path: Path) -> None:
    with Session() as session, pytest.raises(InputError, match="does not exist"):
        session.animate(demo_portrait(), tmp_path / "a.wav", tmp_path / "gone" / "out.mp4", AnimateOptions())
    assert counts.loaded == 0


def test_a_given_engine_stays_open(counts: Counts, face: Portrait) -> None:
    spec_engine, _ = Session().engine(EngineOptions())
    with Session(engine=spec_engine) as session:
        session.prepare(lambda: face, "face", FaceOptions.parse(size_px=128))
    assert counts == Counts(loaded=1, prepared=1, closed=0)


def test_a_picture_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8), "red").save(path)
    content, pixels = path.read_bytes(), np.asarray(Image.open(path))
    before = source_key(path)
    assert source_key(str(path)) == before
    assert source_key(content) == source_key(bytes(bytearray(content)))
    assert source_key(pixels) == source_key(pixels.copy())
    assert source_key(pixels) != source_key(pixels.reshape(4, 16, 3))
    Image.new("RGB", (8, 9), "red").save(path)
    assert source_key(path) != before
    assert source_key(path.read_bytes()) != source_key(content)
    with Image.open(path) as picture:
        assert source_key(picture) is None


def test_a_portrait_without_a_key_is_not_cached(counts: Counts, face: Portrait) -> None:
    with Session() as session:
        for _ in range(2):
            session.prepare(lambda: face, None, FaceOptions.parse(size_px=128))
        assert session.prepared_count == 0
    assert counts.prepared == 2


def test_every_engine_is_closed_though_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    class Stubborn(MeshEngine):
        def close(self) -> None:
            closed.append(self)
            raise RuntimeError("the device is gone")

    spec = replace(find_engine("mesh"), load=lambda device: Stubborn(), devices=("cpu", "gpu"))
    monkeypatch.setattr("vortex.session.resolve_engine", lambda name, device: (spec, ()))
    session = Session()
    for device in ("cpu", "gpu"):
        session.engine(EngineOptions.parse(device=device))
    with pytest.raises(RuntimeError, match="device is gone"):
        session.close()
    assert len(closed) == 2


def test_a_face_that_was_forced_is_still_refused_without_force(face: Portrait) -> None:
    image = Image.fromarray(face.image)
    outline = [tuple(face.landmarks_px[index, :2]) for index in (227, 197, 447, 397, 152, 172)]
    ImageDraw.Draw(image).polygon(outline, fill=(90, 160, 220))
    with Session() as session:
        source = np.asarray(image)
        forced = session.prepare_source(source, FaceOptions.parse(size_px=128, force_face=True))
        assert any("looks covered" in note for note in forced.notes)
        with pytest.raises(NoFaceError, match="looks covered"):
            session.prepare_source(source, FaceOptions.parse(size_px=128))
