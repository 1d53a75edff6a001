"""The engine places faces in the picture, checks the quality, and copies batches whole and in order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from support import liveportrait_release as release
from support.driving import frame_times_s, known_frames, write_timed_video
from torch import Tensor

import vortex
from vortex.demo import DEMO_SPEECH, demo_portrait
from vortex.engines.liveportrait import LivePortraitEngine
from vortex.engines.liveportrait.engine import Copy, Wait, iter_on_host, overlap_copies
from vortex.engines.liveportrait.networks import Networks
from vortex.engines.liveportrait.renderer import Renderer
from vortex.errors import InputError
from vortex.media.audio import load_audio
from vortex.media.reading import iter_video_frames
from vortex.motion.drive import still
from vortex.options import CaptureOptions
from vortex.types import Portrait

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def engine(rewritten: Networks) -> LivePortraitEngine:
    return LivePortraitEngine(Renderer(rewritten, torch.device("cpu"), batch_frames=2))


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


def test_the_rendered_face_is_pasted_where_it_was_cropped(
    engine: LivePortraitEngine, portrait: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a generator that returns the crop itself, the head in the frame must equal the picture's."""
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
    head = (prepared.alpha == 1)[0, 0].numpy()
    error = frame[y0:y1, x0:x1].astype(float) - blurred[y0:y1, x0:x1]
    assert np.abs(error[head]).mean() < 6
    # An offset of half a pixel would correlate with the picture's gradient.
    for axis in (0, 1):
        gradient = np.gradient(blurred[y0:y1, x0:x1].astype(float), axis=axis)[head]
        assert abs((error[head] * gradient).sum() / (gradient**2).sum()) < 0.25


def test_a_video_file_is_made(rewritten: Networks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vortex.engines.liveportrait.load.load_networks", lambda *args, **kwargs: rewritten)
    monkeypatch.setattr("vortex.engines.liveportrait.load.verify_weights", lambda name: tmp_path)
    monkeypatch.setenv("VORTEX_STATE", str(tmp_path / "state"))
    # Other tests of this module use the networks, too.
    monkeypatch.setattr(Renderer, "close", lambda self: None)
    report = vortex.animate(
        demo_portrait(),
        DEMO_SPEECH,
        tmp_path / "out.mp4",
        engine="liveportrait",
        device="cpu",
        size_px=128,
        seed=1,
        preset="neutral,manic@1",
    )
    assert report.engine == "liveportrait" and report.size_px == (128, 128)
    assert report.frames == math.ceil(load_audio(DEMO_SPEECH).duration_s * 24)
    assert (tmp_path / "out.mp4").stat().st_size > 10_000
    assert list((tmp_path / "state" / "unfinished").iterdir()) == []


@pytest.fixture
def actor_video(tmp_path: Path) -> Path:
    frames = known_frames(frame_times_s()[8:14])
    write_timed_video(tmp_path / "actor.mp4", frames, np.arange(len(frames)) / 25)
    return tmp_path / "actor.mp4"


def decoded(path: Path) -> np.ndarray:
    return np.stack(list(iter_video_frames(path)))


def test_a_template_drives_as_the_video_that_it_was_made_of(
    engine: LivePortraitEngine, actor_video: Path, tmp_path: Path
) -> None:
    with vortex.Session(engine=engine) as session:
        report = session.capture(actor_video, tmp_path / "a.npz", CaptureOptions())
        drivers = {"video": actor_video, "template": tmp_path / "a.npz"}
        reports = {
            kind: vortex.drive(
                demo_portrait(),
                path,
                tmp_path / f"{kind}.mp4",
                session=session,
                size_px=128,
                eye_retarget=True,
            )
            for kind, path in drivers.items()
        }
    assert (report.engine, report.path) == ("liveportrait", tmp_path / "a.npz")
    assert report.frames == reports["video"].frames == reports["template"].frames >= 6
    assert report.fps == reports["video"].fps == reports["template"].fps
    assert "a motion template has no sound" in reports["template"].notes
    np.testing.assert_array_equal(decoded(tmp_path / "video.mp4"), decoded(tmp_path / "template.mp4"))
    for kind in drivers:
        with av.open(str(tmp_path / f"{kind}.mp4")) as container:
            assert f"engine=liveportrait driven by a {kind};" in container.metadata["comment"]


def test_each_option_of_a_transfer_reaches_the_picture(
    engine: LivePortraitEngine, actor_video: Path, tmp_path: Path
) -> None:
    """Toy networks move everything a little, so that each option changes some pixels."""
    given: list[dict[str, Any]] = [
        {}, {"region": "lips", "multiplier": 3.0}, {"region": "eyes", "multiplier": 3.0}, {"region": "pose"},
        {"motion": "absolute"},
        {"multiplier": 0.0}, {"multiplier": 3.0}, {"stitch": False}, {"eye_retarget": True},
        {"lip_retarget": True},
    ]  # fmt: skip
    with vortex.Session(engine=engine) as session:
        made = []
        for options in given:
            vortex.drive(
                demo_portrait(),
                actor_video,
                tmp_path / "out.mp4",
                force=True,
                session=session,
                size_px=128,
                **options,
            )
            made.append(decoded(tmp_path / "out.mp4"))
    for first, one in enumerate(made):
        for second, other in enumerate(made[:first]):
            assert (one != other).any(), (given[first], given[second])
    # Without motion every frame is the same, but for compression.
    still = made[given.index({"multiplier": 0.0})].astype(int)
    assert np.abs(still - still[0]).mean() < 0.1


def test_batches_are_rendered_on_request(
    engine: LivePortraitEngine, portrait: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    decode = Networks.decode

    def counted(self: Networks, features: torch.Tensor) -> torch.Tensor:
        decoded.append(len(features))
        return decode(self, features)

    monkeypatch.setattr(Networks, "decode", counted)
    frames = engine.iter_frames(engine.prepare(portrait, size_px=128), still(5, Fraction(24)))
    assert decoded == []
    assert len([next(frames), next(frames)]) == 2 and decoded == [2]
    assert len(list(frames)) == 3 and decoded == [2, 2, 1]


def test_an_unknown_quality_is_refused_before_anything_is_rendered(
    engine: LivePortraitEngine, portrait: Portrait
) -> None:
    prepared, motion = engine.prepare(portrait, size_px=128), still(1, Fraction(24))
    for method in (engine.iter_frames, engine.notes):
        with pytest.raises(InputError, match="quality is 'best'; give one of full, fast"):
            method(prepared, motion, quality="best")


def copy_early(host: Tensor, batch: Tensor) -> Wait:
    """Copy at once, like the fastest possible device."""
    host.copy_(batch)
    return lambda: None


def copy_late(host: Tensor, batch: Tensor) -> Wait:
    """Copy only when the result is waited for, like the slowest possible device."""

    def wait() -> None:
        host.copy_(batch)

    return wait


def numbered(count: int, events: list[str] | None = None) -> Iterator[Tensor]:
    for index in range(count):
        if events is not None:
            events.append(f"rendered {index}")
        # The last batch of a video is smaller.
        yield torch.full((4 if index < count - 1 else 1, 2), index, dtype=torch.uint8)


@pytest.mark.parametrize("copy", [copy_early, copy_late])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 9])
def test_batches_arrive_whole_and_in_order(copy: Copy, count: int) -> None:
    seen = [(host.clone(), len(host)) for host in overlap_copies(numbered(count), copy)]
    assert [len(host) for host, _ in seen] == [len(batch) for batch in numbered(count)]
    for (host, _), batch in zip(seen, numbered(count), strict=True):
        assert torch.equal(host, batch)


def test_the_next_batch_is_queued_before_one_is_waited_for() -> None:
    events: list[str] = []
    for index, _ in enumerate(overlap_copies(numbered(4, events), copy_late)):
        events.append(f"arrived {index}")
    order = "rendered 0, rendered 1, arrived 0, rendered 2, arrived 1, rendered 3, arrived 2, arrived 3"
    assert events == order.split(", ")


def test_two_buffers_serve_any_number_of_batches() -> None:
    addresses = {host.data_ptr() for host in overlap_copies(numbered(50), copy_early)}
    assert len(addresses) == 2


def test_on_a_cpu_nothing_is_copied_or_rendered_ahead() -> None:
    events: list[str] = []
    batches = iter_on_host(numbered(3, events), torch.device("cpu"))
    next(batches)
    assert events == ["rendered 0"]
