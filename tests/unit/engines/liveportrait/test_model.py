"""A picture and a voice become frames, by real network classes at toy size with seeded weights."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vortex.engines.liveportrait import LivePortraitModel
from vortex.engines.liveportrait.networks import Networks
from vortex.engines.liveportrait.renderer import Renderer
from vortex.errors import AudioError, ImageError, InputError, UnknownPresetError
from vortex.face.portrait import detect_portrait

pytestmark = pytest.mark.usefixtures("one_thread")
HALF_SECOND = 12_000
PICTURE_BYTES = 3 * 512 * 512
Method = Callable[[Networks, Tensor], object]


@pytest.fixture
def count_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    calls: dict[str, int] = {}
    for name in ("extract_appearance", "extract_motion", "decode"):
        original = getattr(Networks, name)

        def counted(self: Networks, x: Tensor, name: str = name, original: Method = original) -> object:
            calls[name] = calls.get(name, 0) + 1
            return original(self, x)

        monkeypatch.setattr(Networks, name, counted)
    yield calls


def test_animate_gives_frames_in_range(
    model: LivePortraitModel, source: Tensor, speech: Tensor, count_calls: dict[str, int]
) -> None:
    frames = model.animate(source, speech[:HALF_SECOND], "excited", fps=24, seed=1)
    assert frames.shape == (12, 3, 512, 512) and frames.dtype == torch.float32
    assert float(frames.min()) >= 0 and float(frames.max()) <= 1
    # The first and last columns are outside the crop, so they are the picture itself.
    assert (frames[..., :16] - source[..., :16]).abs().max() < 1 / 255
    assert (frames - frames[:1]).abs().max() > 0.01
    # Once for the portrait, then batches of 5, 5 and 2 frames.
    assert count_calls == {"extract_appearance": 1, "extract_motion": 1, "decode": 3}


def test_a_seed_decides_all_frames_and_leaves_global_generators_alone(
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


def test_every_network_runs_with_deterministic_cudnn_which_is_then_reset(
    rewritten: Networks, source: Tensor, speech: Tensor
) -> None:
    """On a GPU some algorithms add in the order in which threads finish."""
    seen: list[bool] = []
    cudnn = torch.backends.cudnn
    hooks = [
        module.register_forward_pre_hook(lambda *_: seen.append(cudnn.deterministic))
        for module in (rewritten.appearance, rewritten.motion, rewritten.warping, rewritten.generator)
    ]
    model = LivePortraitModel(Renderer(rewritten, torch.device("cpu")))
    assert not cudnn.deterministic
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: model.animate(source, speech[:4800], seed=seed), range(4)))
    for hook in hooks:
        hook.remove()
    assert len(seen) > 16 and all(seen)
    assert not cudnn.deterministic


def test_a_hundred_calls_leave_memory_unchanged(
    model: LivePortraitModel, source: Tensor, speech: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    face = detect_portrait((source * 255).byte().permute(1, 2, 0).numpy())
    # Detecting it a hundred times would take most of the test's time.
    monkeypatch.setattr("vortex.engines.liveportrait.model.detect_portrait", lambda *args, **kwargs: face)

    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def tensors() -> int:
        gc.collect()
        # By type(), because the __class__ of some objects imports modules.
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
    # Half a frame per call would exceed this.
    assert resident_bytes() - before < 100 * 4 * PICTURE_BYTES / 2


@pytest.mark.parametrize(
    ("fps", "duration", "frames"), [(24, None, 12), ("30000/1001", None, 15), (25, 1.0, 25), (1, 2, 2)]
)
def test_number_of_frames(
    model: LivePortraitModel,
    source: Tensor,
    speech: Tensor,
    fps: float | str,
    duration: float | None,
    frames: int,
) -> None:
    assert len(list(model.iter_frames(source, speech[:HALF_SECOND], fps=fps, duration=duration))) == frames


def test_long_speech_is_cut_with_a_warning(model: LivePortraitModel, source: Tensor, speech: Tensor) -> None:
    with pytest.warns(UserWarning, match=r"lasts 1\.00 s and is cut to 0\.25 s"):
        frames = model.animate(source, speech[:24_000], duration=0.25, seed=1)
    assert len(frames) == 6


def test_iter_frames_renders_only_requested_frames(
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


def test_a_picture_without_a_face_is_used_as_a_crop(model: LivePortraitModel, speech: Tensor) -> None:
    drawing = torch.zeros((3, 512, 512))
    drawing[:, 100:400, 100:400] = 0.5
    with pytest.warns(UserWarning, match=r"No face found in 'source_image'.*used as LivePortrait's crop"):
        frames = model.animate(drawing, speech[:3000], seed=1)
    assert frames.shape == (3, 3, 512, 512)
    assert frames[0, :, :8].std() > 0, "the whole square is rendered, to its edges"


class LargestTensor(TorchDispatchMode):
    """Records the size of the largest tensor that any operation allocates."""

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
    with LargestTensor() as largest:
        filled = model.animate(source, speech[:HALF_SECOND], seed=3, output=buffer)
    assert filled.shape == (12, 3, 512, 512) and filled.data_ptr() == buffer.data_ptr()
    assert (buffer[12:] == 77).all()
    # A batch of 5 frames is the largest allocation.
    assert largest.elements <= 5 * PICTURE_BYTES
    if dtype == torch.uint8:
        assert torch.equal(filled, (expected * 255 + 0.5).byte())
    else:
        assert torch.equal(filled, expected.to(dtype))


def test_output_may_be_a_strided_view(model: LivePortraitModel, source: Tensor, speech: Tensor) -> None:
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
def test_errors_show_the_value(
    model: LivePortraitModel, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    given: dict[str, Any] = {"source_image": PICTURE, "driving_audio": SOUND, **arguments}
    for method in (model.animate, model.iter_frames):
        with pytest.raises(error, match=message):
            method(**given)
