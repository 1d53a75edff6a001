"""The whole neural path at toy size on a CPU: real network classes, seeded weights, a real face and voice."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import liveportrait_release as release
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import vortex
from vortex.audio import load_audio
from vortex.demo import demo_portrait
from vortex.engines.liveportrait import LivePortraitEngine, LivePortraitModel, load_liveportrait
from vortex.engines.liveportrait.networks import Networks, load_networks
from vortex.engines.liveportrait.renderer import Renderer
from vortex.engines.liveportrait.rewrites import rewrite_networks
from vortex.errors import (
    AudioError,
    ImageError,
    InputError,
    OutOfMemoryError,
    PrecisionUnsupportedError,
    UnknownPresetError,
    WeightsMissingError,
)
from vortex.motion.drive import still
from vortex.portrait import crop_face, detect_portrait, load_portrait
from vortex.types import MotionTrack, Portrait

SPEECH = Path(vortex.__file__).parent / "data" / "demo_speech.flac"
HALF_SECOND = 12_000
PICTURE_BYTES = 3 * 512 * 512


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Work this small only loses by being shared out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    folder = release.write_release(tmp_path_factory.mktemp("toy"), release.TOY)
    return rewrite_networks(load_networks(folder, release.TOY))


@pytest.fixture
def model(networks: Networks) -> LivePortraitModel:
    return LivePortraitModel(Renderer(networks, torch.device("cpu"), batch_frames=5))


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return load_portrait(demo_portrait())


@pytest.fixture(scope="module")
def source(portrait: Portrait) -> Tensor:
    image = crop_face(portrait, 512).image
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


@pytest.fixture(scope="module")
def speech() -> Tensor:
    return torch.from_numpy(np.array(load_audio(SPEECH).samples))


@pytest.fixture
def count_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    calls: dict[str, int] = {}
    for name in ("extract_appearance", "extract_motion", "decode"):
        original = getattr(Networks, name)

        def counted(self: Networks, x: Tensor, name: str = name, original: Any = original) -> Any:
            calls[name] = calls.get(name, 0) + 1
            return original(self, x)

        monkeypatch.setattr(Networks, name, counted)
    yield calls


# ---------------------------------------- animate


def test_animate_gives_frames_in_range(
    model: LivePortraitModel, source: Tensor, speech: Tensor, count_calls: dict[str, int]
) -> None:
    frames = model.animate(source, speech[:HALF_SECOND], "excited", fps=24, seed=1)
    assert frames.shape == (12, 3, 512, 512) and frames.dtype == torch.float32
    assert float(frames.min()) >= 0 and float(frames.max()) <= 1
    # the first and last columns lie beyond the crop: they are the picture itself
    assert (frames[..., :16] - source[..., :16]).abs().max() < 1 / 255
    assert (frames - frames[:1]).abs().max() > 0.01
    # once for the portrait, then batches of 5, 5 and 2
    assert count_calls == {"extract_appearance": 1, "extract_motion": 1, "decode": 3}


def test_a_seed_decides_everything_and_nothing_global(
    model: LivePortraitModel, source: Tensor, speech: Tensor
) -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()

    def animate(seed: int | None) -> Tensor:
        return model.animate(source, speech[:HALF_SECOND], seed=seed)

    assert torch.equal(animate(7), animate(7))
    assert not torch.equal(animate(7), animate(8))
    assert not torch.equal(animate(None), animate(None))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_four_threads_give_the_serial_results(
    model: LivePortraitModel, source: Tensor, speech: Tensor
) -> None:
    def animate(seed: int) -> Tensor:
        return model.animate(source, speech[seed * 4000 :][:HALF_SECOND], seed=seed)

    serial = [animate(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(animate, range(4)))
    assert all(torch.equal(a, b) for a, b in zip(serial, together, strict=True))


def test_every_network_runs_repeatably_and_the_switch_goes_back(
    networks: Networks, source: Tensor, speech: Tensor
) -> None:
    """On a GPU some algorithms add up in the order in which threads finish."""
    seen: list[bool] = []
    cudnn = torch.backends.cudnn
    hooks = [
        module.register_forward_pre_hook(lambda *_: seen.append(cudnn.deterministic))
        for module in (networks.appearance, networks.motion, networks.warping, networks.generator)
    ]
    model = LivePortraitModel(Renderer(networks, torch.device("cpu")))
    assert not cudnn.deterministic
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: model.animate(source, speech[:4800], seed=seed), range(4)))
    for hook in hooks:
        hook.remove()
    assert len(seen) > 16 and all(seen)
    assert not cudnn.deterministic


def test_a_hundred_calls_leave_nothing_behind(
    model: LivePortraitModel, source: Tensor, speech: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    face = detect_portrait((source * 255).byte().permute(1, 2, 0).numpy())
    # finding it again a hundred times would take most of the time
    monkeypatch.setattr("vortex.engines.liveportrait.model.detect_portrait", lambda *args, **kwargs: face)

    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def tensors() -> int:
        gc.collect()
        # by type: asking an object for its class may import things
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    buffer = torch.empty((3, 3, 512, 512))

    def call() -> None:
        model.animate(source, speech[:3000], output=buffer, seed=1)

    for _ in range(10):
        call()
    alive, before = tensors(), resident_bytes()
    for _ in range(100):
        call()
    assert tensors() == alive
    # half of one frame for each call would already show
    assert resident_bytes() - before < 100 * 4 * PICTURE_BYTES / 2


@pytest.mark.parametrize(
    ("fps", "duration", "frames"), [(24, None, 12), ("30000/1001", None, 15), (25, 1.0, 25), (1, 2, 2)]
)
def test_number_of_frames(
    model: LivePortraitModel, source: Tensor, speech: Tensor, fps: Any, duration: Any, frames: int
) -> None:
    assert len(list(model.iter_frames(source, speech[:HALF_SECOND], fps=fps, duration=duration))) == frames


def test_long_speech_is_cut_with_a_warning(model: LivePortraitModel, source: Tensor, speech: Tensor) -> None:
    with pytest.warns(UserWarning, match=r"lasts 1\.00 s and is cut to 0\.25 s"):
        frames = model.animate(source, speech[:24_000], duration=0.25, seed=1)
    assert len(frames) == 6


def test_iter_frames_renders_what_is_asked_for(
    model: LivePortraitModel, source: Tensor, speech: Tensor, count_calls: dict[str, int]
) -> None:
    frames = model.iter_frames(source, speech[:HALF_SECOND], seed=2)
    assert "decode" not in count_calls
    first = next(frames)
    assert count_calls["decode"] == 1
    whole = torch.empty((12, 3, 512, 512), dtype=torch.uint8)
    model.animate(source, speech[:HALF_SECOND], seed=2, output=whole)
    streamed = np.stack([first, *frames])
    assert streamed.dtype == np.uint8 and streamed.shape == (12, 512, 512, 3)
    assert np.array_equal(streamed.transpose(0, 3, 1, 2), whole.numpy())


def test_a_preset_sequence_changes_the_face_over_time(
    model: LivePortraitModel, source: Tensor, speech: Tensor
) -> None:
    plain = model.animate(source, speech[:36_000], "neutral", fps=8, seed=1)
    changed = model.animate(source, speech[:36_000], [("neutral", 0), ("manic", 1.0)], fps=8, seed=1)
    difference = (plain - changed).abs().mean(dim=(1, 2, 3))
    assert difference[0] == 0 < difference[-1]


def test_a_picture_without_a_face_is_taken_as_a_crop(model: LivePortraitModel, speech: Tensor) -> None:
    drawing = torch.zeros((3, 512, 512))
    drawing[:, 100:400, 100:400] = 0.5
    with pytest.warns(UserWarning, match=r"No face found in 'source_image'.*taken as LivePortrait's crop"):
        frames = model.animate(drawing, speech[:3000], seed=1)
    assert frames.shape == (3, 3, 512, 512)
    assert frames[0, :, :8].std() > 0, "the whole square is rendered, to its edges"


# ---------------------------------------- output


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}
        for made in result if isinstance(result, tuple | list) else [result]:
            if isinstance(made, Tensor) and made.untyped_storage().data_ptr() not in given:
                self.elements = max(self.elements, made.untyped_storage().nbytes() // made.element_size())
        return result


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.uint8], ids=str
)
def test_output_is_filled_in_place(
    model: LivePortraitModel, source: Tensor, speech: Tensor, dtype: torch.dtype
) -> None:
    expected = model.animate(source, speech[:HALF_SECOND], seed=3)
    buffer = torch.full((14, 3, 512, 512), 77, dtype=dtype)
    with Largest() as largest:
        filled = model.animate(source, speech[:HALF_SECOND], seed=3, output=buffer)
    assert filled.shape == (12, 3, 512, 512) and filled.data_ptr() == buffer.data_ptr()
    assert (buffer[12:] == 77).all()
    # batches of 5 frames are the largest thing that is made
    assert largest.elements <= 5 * PICTURE_BYTES
    if dtype == torch.uint8:
        assert torch.equal(filled, (expected * 255 + 0.5).byte())
    else:
        assert torch.equal(filled, expected.to(dtype))


def test_output_may_be_a_strided_view_of_something_larger(
    model: LivePortraitModel, source: Tensor, speech: Tensor
) -> None:
    expected = model.animate(source, speech[:3000], seed=3)
    video = torch.zeros((6, 512, 512, 3))
    model.animate(source, speech[:3000], seed=3, output=video.permute(0, 3, 1, 2)[::2])
    assert torch.equal(video[::2].permute(0, 3, 1, 2), expected)
    assert not video[1::2].any()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.zeros((3, 3, 512, 512)), "output is a ndarray"),
        (torch.zeros((2, 3, 512, 512)), r"output has shape \(2, 3, 512, 512\); .*3 or more"),
        (torch.zeros((3, 512, 512, 3)), r"shape \(3, 512, 512, 3\)"),
        (torch.zeros((3, 3, 512, 512), dtype=torch.int16), r"type torch\.int16"),
        (torch.zeros((3, 3, 512, 512), requires_grad=True), "requires gradients"),
        (torch.zeros((1, 3, 512, 512)).expand(3, -1, -1, -1), "share memory"),
    ],
)
def test_output_that_cannot_be_filled(
    model: LivePortraitModel, source: Tensor, speech: Tensor, output: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        model.animate(source, speech[:3000], output=output)


# ---------------------------------------- what is refused


PICTURE, SOUND = torch.full((3, 512, 512), 0.5), torch.zeros(4800)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"source_image": "face.png"}, ImageError, "source_image is a str"),
        ({"source_image": PICTURE[None]}, ImageError, r"shape \(1, 3, 512, 512\)"),
        ({"source_image": PICTURE[:, :500]}, ImageError, r"shape \(3, 500, 512\)"),
        ({"source_image": (PICTURE * 255).byte()}, ImageError, r"type torch\.uint8"),
        ({"source_image": PICTURE * 255}, ImageError, r"values from 127\.5 to 127\.5"),
        ({"source_image": PICTURE - 1}, ImageError, r"values from -0\.5 to -0\.5"),
        ({"source_image": PICTURE / 0}, ImageError, "has 786432 values that are NaN or infinite"),
        ({"driving_audio": [0.0] * 4800}, AudioError, "driving_audio is a list"),
        ({"driving_audio": SOUND[None]}, AudioError, r"shape \(1, 4800\)"),
        ({"driving_audio": SOUND.short()}, AudioError, r"type torch\.int16"),
        ({"driving_audio": SOUND + 3}, AudioError, "values from 3 to 3"),
        ({"driving_audio": SOUND * torch.nan}, AudioError, "4800 values that are NaN"),
        ({"driving_audio": SOUND[:100]}, AudioError, r"100 samples, 0\.004 s"),
        ({"driving_audio": SOUND[:0]}, AudioError, "0 samples"),
        ({"expression_preset": "furious"}, UnknownPresetError, "'furious'"),
        ({"fps": 0}, InputError, "fps is 0"),
        ({"fps": "fast"}, InputError, "fps is 'fast'"),
        ({"duration": 0}, InputError, "duration is 0"),
        ({"duration": -1.0}, InputError, r"duration is -1\.0"),
        ({"duration": float("nan")}, InputError, "duration is nan"),
        ({"duration": float("inf")}, InputError, "duration is inf"),
        ({"seed": -1}, InputError, "seed is -1"),
        ({"seed": 1.5}, InputError, r"seed is 1\.5"),
    ],
)
def test_errors_show_what_came(
    model: LivePortraitModel, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    given: dict[str, Any] = {"source_image": PICTURE, "driving_audio": SOUND, **arguments}
    for method in (model.animate, model.iter_frames):
        with pytest.raises(error, match=message):
            method(**given)


def test_loading_refuses_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    with pytest.raises(PrecisionUnsupportedError, match=r"precision is 'fp16'.*precision='fp32'"):
        load_liveportrait("cpu")
    with pytest.raises(InputError, match="precision is 'int4'; give one of fp16, bf16, fp32"):
        load_liveportrait("cpu", "int4")
    with pytest.raises(InputError, match="batch_frames is 0"):
        load_liveportrait("cpu", "fp32", batch_frames=0)
    with pytest.raises(InputError, match="device is 'tpu'"):
        load_liveportrait("tpu")
    with pytest.raises(WeightsMissingError, match="vortex weights fetch liveportrait"):
        load_liveportrait("cpu", "fp32")


# ---------------------------------------- memory


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: not enough memory")],
    ids=["device", "machine"],
)
def test_out_of_memory_names_the_cure_and_the_model_survives(
    model: LivePortraitModel,
    source: Tensor,
    speech: Tensor,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    expected = model.animate(source, speech[:3000], seed=1)

    def fail(self: Networks, features: Tensor) -> Tensor:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Networks, "decode", fail)
        with pytest.raises(OutOfMemoryError, match=r"Lower batch_frames \(now 5\)") as caught:
            model.animate(source, speech[:3000], seed=1)
    # the tensors of the failed batch would stay alive with the first error
    assert caught.value.__context__ is None
    assert torch.equal(model.animate(source, speech[:3000], seed=1), expected)


def test_other_trouble_is_not_called_a_lack_of_memory(
    model: LivePortraitModel, source: Tensor, speech: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Networks, features: Tensor) -> Tensor:
        raise RuntimeError("the weights sulk")

    monkeypatch.setattr(Networks, "decode", fail)
    with pytest.raises(RuntimeError, match="sulk"):
        model.animate(source, speech[:3000])


# ---------------------------------------- engine


@pytest.fixture
def engine(networks: Networks) -> LivePortraitEngine:
    return LivePortraitEngine(Renderer(networks, torch.device("cpu"), batch_frames=2))


def test_the_engine_frames_a_square(engine: LivePortraitEngine, portrait: Portrait) -> None:
    prepared = engine.prepare(portrait, size_px=256)
    assert engine.name == "liveportrait" and prepared.size_px == (256, 256)
    frames = list(engine.iter_frames(prepared, still(3, Fraction(24))))
    assert [frame.shape for frame in frames] == [(256, 256, 3)] * 3
    assert all(frame.dtype == np.uint8 and frame.flags.writeable for frame in frames)


def test_paste_back_leaves_the_rest_of_the_picture_alone(
    engine: LivePortraitEngine, portrait: Portrait
) -> None:
    odd = replace(portrait, image=portrait.image[:-1, :-1])
    prepared = engine.prepare(odd, paste_back=True)
    height, width = odd.image.shape[:2]
    assert prepared.size_px == (width // 2 * 2, height // 2 * 2)
    frame = next(iter(engine.iter_frames(prepared, still(1, Fraction(24)))))
    x0, y0, x1, y1 = prepared.box
    changed = (frame != prepared.canvas).any(axis=2)
    assert changed[y0:y1, x0:x1].mean() > 0.3
    changed[y0:y1, x0:x1] = False
    assert not changed.any()


def test_the_rendered_face_lands_where_it_came_from(
    engine: LivePortraitEngine, portrait: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generator that paints the crop itself must give the picture back."""
    import cv2

    crop = cv2.warpAffine(
        portrait.image, portrait.crop_from_image[:2], (512, 512), borderMode=cv2.BORDER_REPLICATE
    )
    size = (release.TOY.output_px, release.TOY.output_px)
    small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
    painted = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255
    monkeypatch.setattr(Networks, "decode", lambda self, features: painted.expand(len(features), -1, -1, -1))
    prepared = engine.prepare(portrait, paste_back=True)
    frame = next(iter(engine.iter_frames(prepared, still(1, Fraction(24)))))
    x0, y0, x1, y1 = prepared.box
    blurred = cv2.GaussianBlur(prepared.canvas, (0, 0), 3)
    error = frame[y0:y1, x0:x1].astype(float) - blurred[y0:y1, x0:x1]
    assert np.abs(error).mean() < 6
    # half a pixel of misplacement would show as a slope against the picture's gradient
    for axis in (0, 1):
        gradient = np.gradient(blurred[y0:y1, x0:x1].astype(float), axis=axis)
        assert abs((error * gradient).sum() / (gradient**2).sum()) < 0.25


def test_a_file_comes_out_of_the_pipeline(
    networks: Networks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "vortex.engines.liveportrait.renderer.load_networks", lambda *args, **kwargs: networks
    )
    # the networks are shared by the tests of this module
    monkeypatch.setattr(Renderer, "close", lambda self: None)
    report = vortex.animate_file(
        demo_portrait(),
        SPEECH,
        tmp_path / "out.mp4",
        engine="liveportrait",
        device="cpu",
        size_px=128,
        seed=1,
        preset="neutral,manic@1",
    )
    assert report.engine == "liveportrait" and report.size_px == (128, 128)
    assert report.frames == round(load_audio(SPEECH).duration_s * 24)
    assert (tmp_path / "out.mp4").stat().st_size > 10_000


def test_frames_do_not_depend_on_the_batch(networks: Networks, portrait: Portrait) -> None:
    shapes = np.random.default_rng(2).uniform(0, 1, (7, 33)).astype(np.float32)
    motion = MotionTrack(shapes, np.zeros((7, 3)), Fraction(24))
    rendered = []
    for batch_frames in (1, 3, 7):
        engine = LivePortraitEngine(Renderer(networks, torch.device("cpu"), batch_frames))
        rendered.append(np.stack(list(engine.iter_frames(engine.prepare(portrait, size_px=128), motion))))
    for other in rendered[1:]:
        assert np.abs(rendered[0].astype(int) - other).max() <= 1
