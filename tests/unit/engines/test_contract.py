"""Every engine that the registry lists does what :class:`vortex.engines.base.Engine` promises.

An installed plug-in is listed, too: ``pytest tests/unit/engines/test_contract.py -k NAME`` checks it.
An engine that cannot run here is skipped with its reason; liveportrait gets seeded weights at toy size.
"""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from vortex.demo import demo_portrait
from vortex.engines.base import CapturingEngine, CroppedFace, Engine, EngineSpec
from vortex.engines.registry import check_engine_options, engine_specs
from vortex.errors import InputError
from vortex.face.crop import crop_driver, driver_crop_transform
from vortex.face.portrait import load_portrait
from vortex.motion.transfer import KeypointMotion, Motion
from vortex.types import BLENDSHAPES, F32, Frame, KeypointTrack, MotionTrack, Portrait

FPS = Fraction(24)
SIZE_PX = 128
SPECS = engine_specs()
EVERY_QUALITY = [(name, quality) for name, spec in SPECS.items() for quality in spec.qualities]
every_engine = pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS), indirect=True)


@pytest.fixture(scope="session")
def portrait() -> Portrait:
    return load_portrait(demo_portrait())


@pytest.fixture(scope="session")
def toy_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of weights with LivePortrait's release at toy size."""
    from support import liveportrait_release as release

    cache = tmp_path_factory.mktemp("weights")
    release.write_release(cache / "liveportrait", release.TOY)
    return cache


@pytest.fixture
def spec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> EngineSpec:
    """Return the engine's spec, whose ``load(None)`` works here."""
    found: EngineSpec = request.param
    if found.name == "liveportrait":
        torch = pytest.importorskip("torch")
        from support import liveportrait_release as release

        def load_toy_networks(folder: Path) -> object:
            return release.load_networks(folder, release.TOY)

        # At toy size, sharing work between torch's threads takes longer than the work.
        request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
        torch.set_num_threads(1)
        cache = request.getfixturevalue("toy_weights")
        monkeypatch.setenv("VORTEX_CACHE", str(cache))
        release.publish(monkeypatch, cache / "liveportrait")
        monkeypatch.setattr("vortex.engines.liveportrait.load.load_networks", load_toy_networks)
        return replace(found, load=lambda device: found.load("cpu"))
    if reason := found.why_unavailable(None):
        pytest.skip(f"{found.name} cannot run here: {reason}")
    return found


@pytest.fixture
def engine(spec: EngineSpec) -> Iterator[Engine[Any]]:
    loaded = spec.load(None)
    yield loaded
    loaded.close()


def talking(frames: int, seed: int = 0) -> MotionTrack:
    """Return a random walk of every blendshape and of the head."""
    random = np.random.default_rng(seed)

    def walk(columns: int, low: float, high: float) -> F32:
        steps = random.normal(0, 0.15 * (high - low), (frames, columns)).cumsum(axis=0)
        return np.clip((low + high) / 2 + steps, low, high).astype(np.float32)

    return MotionTrack(walk(len(BLENDSHAPES), 0, 1), walk(3, -4, 4), FPS)


def render(engine: Engine[Any], prepared: Any, motion: Motion, quality: str = "full") -> list[Frame]:
    return list(engine.iter_frames(prepared, motion, quality=quality))


def assert_same(some: list[Frame], others: list[Frame]) -> None:
    assert len(some) == len(others)
    for index, (one, other) in enumerate(zip(some, others, strict=True)):
        assert np.array_equal(one, other), f"frame {index} differs"


def assert_same_tracks(one: KeypointTrack, other: KeypointTrack) -> None:
    for name in ("exp", "rotation", "scale", "translation", "eye_ratios", "lip_ratio"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@every_engine
def test_the_engine_has_the_name_and_device_of_its_spec(spec: EngineSpec, engine: Engine[Any]) -> None:
    assert spec.name == engine.name
    assert engine.device.split(":")[0] in spec.devices
    assert spec.needs_gpu(engine.device) == engine.device.startswith("cuda")


@every_engine
def test_frames_are_even_rgb_squares_that_move(
    spec: EngineSpec, engine: Engine[Any], portrait: Portrait
) -> None:
    for size_px in (128, 200):
        prepared = engine.prepare(portrait, size_px=size_px)
        assert prepared.size_px == (size_px, size_px)
        frames = render(engine, prepared, talking(3))
        assert [frame.shape for frame in frames] == [(size_px, size_px, 3)] * 3
        assert {frame.dtype for frame in frames} == {np.dtype(np.uint8)}
        assert any((frame != frames[0]).any() for frame in frames[1:])


@every_engine
def test_paste_back_renders_the_whole_picture_less_odd_pixels(
    spec: EngineSpec, engine: Engine[Any], portrait: Portrait
) -> None:
    height, width = portrait.image.shape[:2]
    for cut in (0, 1):
        picture = replace(portrait, image=portrait.image[: height - cut, : width - cut])
        prepared = engine.prepare(picture, size_px=SIZE_PX, paste_back=True)
        even = (picture.image.shape[1] // 2 * 2, picture.image.shape[0] // 2 * 2)
        assert prepared.size_px == even
        (frame,) = render(engine, prepared, talking(1))
        assert (frame.shape[1], frame.shape[0]) == even
        # The picture's corner is far from the face; an engine may at most change its brightness.
        shown, original = frame[:8, :8].ravel(), picture.image[:8, :8].ravel()
        assert np.corrcoef(shown, original)[0, 1] > 0.99


@pytest.mark.parametrize(("spec", "quality"), [(SPECS[name], q) for name, q in EVERY_QUALITY],
                         ids=[f"{name}-{q}" for name, q in EVERY_QUALITY], indirect=["spec"])  # fmt: skip
def test_every_quality_gives_the_same_bytes_again(
    spec: EngineSpec, engine: Engine[Any], portrait: Portrait, quality: str
) -> None:
    motion = talking(12)
    again = spec.load(None)
    results = [
        render(one, one.prepare(portrait, size_px=SIZE_PX), motion, quality) for one in (engine, again)
    ]
    again.close()
    assert len(results[0]) == len(motion)
    assert_same(*results)
    notes = engine.notes(engine.prepare(portrait, size_px=SIZE_PX), motion, quality=quality)
    assert all(isinstance(note, str) and note for note in notes)


@every_engine
def test_eight_threads_give_the_bytes_of_one(
    spec: EngineSpec, engine: Engine[Any], portrait: Portrait
) -> None:
    prepared = engine.prepare(portrait, size_px=SIZE_PX)
    jobs = [(talking(6, seed), spec.qualities[seed % len(spec.qualities)]) for seed in range(8)]
    alone = [render(engine, prepared, *job) for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda job: render(engine, prepared, *job), jobs))
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)


@every_engine
def test_frames_belong_to_the_caller(spec: EngineSpec, engine: Engine[Any], portrait: Portrait) -> None:
    motion = talking(30)
    for quality in spec.qualities:
        prepared = engine.prepare(portrait, size_px=SIZE_PX)
        expected = [frame.copy() for frame in engine.iter_frames(prepared, motion, quality=quality)]
        kept = []
        for frame, untouched in zip(
            engine.iter_frames(prepared, motion, quality=quality), expected, strict=True
        ):
            assert np.array_equal(frame, untouched)
            frame[:] = 255 - frame
            kept.append(frame)
        # Later frames have not been written into earlier ones, nor has the prepared portrait changed.
        assert_same(kept, [255 - frame for frame in expected])
        assert_same(render(engine, prepared, motion, quality), expected)


@every_engine
def test_frames_are_rendered_when_they_are_requested(
    spec: EngineSpec, engine: Engine[Any], portrait: Portrait
) -> None:
    """Frames rendered ahead take memory: all 2,000 would take 98 MB; that of 100 is accepted."""
    prepared, motion = engine.prepare(portrait, size_px=SIZE_PX), talking(2000)
    frame_bytes = 3 * SIZE_PX**2
    render(engine, prepared, talking(1))
    tracemalloc.start()
    try:
        frames = engine.iter_frames(prepared, motion)
        assert tracemalloc.get_traced_memory()[1] < frame_bytes
        next(frames)
        assert tracemalloc.get_traced_memory()[1] < 100 * frame_bytes
    finally:
        tracemalloc.stop()


@every_engine
def test_no_rows_give_no_frames(spec: EngineSpec, engine: Engine[Any], portrait: Portrait) -> None:
    prepared = engine.prepare(portrait, size_px=SIZE_PX)
    for quality in spec.qualities:
        assert render(engine, prepared, talking(5).part(5, 0), quality) == []


@every_engine
def test_closing_works_twice_and_with_an_unfinished_iterator(spec: EngineSpec, portrait: Portrait) -> None:
    engine = spec.load(None)
    frames = engine.iter_frames(engine.prepare(portrait, size_px=SIZE_PX), talking(10))
    next(frames)
    engine.close()
    engine.close()
    del frames


def captured(engine: Engine[Any], portrait: Portrait, frames: int) -> KeypointTrack:
    """Return what a capturing engine says of the portrait that moves to the right."""
    face = portrait.landmarks_px
    crops = []
    for shift in range(frames):
        crop_from_image = driver_crop_transform(face[None], 512)
        crop_from_image[0, 2] += 4 * shift
        crops.append(CroppedFace(*crop_driver(portrait.image, face, crop_from_image)))
    return cast(CapturingEngine[Any], engine).capture(iter(crops), FPS)


@every_engine
def test_an_engine_renders_what_it_captures(
    spec: EngineSpec, engine: Engine[Any], portrait: Portrait
) -> None:
    assert hasattr(engine, "capture") == spec.captures
    if not spec.captures:
        return
    prepared = engine.prepare(portrait, size_px=SIZE_PX)
    track = captured(engine, portrait, 11)
    assert (len(track), track.fps) == (11, FPS)
    assert np.ptp(track.exp, axis=0).any(), "the pictures differ"
    rotation = track.rotation
    np.testing.assert_allclose(rotation @ rotation.swapaxes(1, 2), np.tile(np.eye(3), (11, 1, 1)), atol=1e-6)
    assert_same_tracks(captured(spec.load(None), portrait, 11), track)
    motion = KeypointMotion(track)
    for quality in spec.qualities:
        frames = render(engine, prepared, motion, quality)
        assert len(frames) == 11
        assert_same(render(engine, prepared, motion, quality), frames)
        assert all(engine.notes(prepared, motion, quality=quality))
        assert render(engine, prepared, motion.part(11, 0), quality) == []
    # Parts of a motion, as a cluster renders them, are the same frames.
    assert_same([*render(engine, prepared, motion.part(0, 8)), *render(engine, prepared, motion.part(8, 8))],
                render(engine, prepared, motion))  # fmt: skip


@every_engine
@pytest.mark.parametrize("size_px", [0, 127, 129, 4096])
def test_a_bad_size_is_refused_with_the_accepted_ones(
    spec: EngineSpec, engine: Engine[Any], portrait: Portrait, size_px: int
) -> None:
    with pytest.raises(InputError, match=rf"{size_px}\b.*[Gg]ive "):
        engine.prepare(portrait, size_px=size_px)


@every_engine
def test_an_unknown_quality_or_device_is_refused_with_the_known_ones(spec: EngineSpec) -> None:
    known = f"the {spec.name} engine has '{spec.qualities[0]}'"
    with pytest.raises(InputError, match=f"quality is 'best'; {known}"):
        check_engine_options(spec, None, "best")
    known = f"the {spec.name} engine runs on {spec.devices[0]}"
    with pytest.raises(InputError, match=f"device is 'abacus'; {known}"):
        check_engine_options(spec, "abacus", spec.qualities[0])


def test_listing_the_engines_imports_nothing_heavy() -> None:
    code = """
import sys
from vortex.engines.registry import engine_specs
engine_specs()
print([name for name in ("torch", "cv2", "mediapipe", "av") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
