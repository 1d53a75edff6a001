"""Time LivePortrait from tensors to tensors: a real face and real speech, 1080 frames by default.

Usage: python benchmarks/liveportrait_latency.py [--device cuda] [--precision fp16] [--duration-s 45]
           [--iterations 50] [--warmup 3] [--batch-frames N] [--quality full|fast] [--seeded] [--take]
           [--reference plain|compiled] [--profile-vram] [--output .tasks/baselines/liveportrait.json]

With ``--take``, portrait and motion come from a file that was made before, and only the work of the device is
timed: from the picture to the frames in the caller's memory. Face detection and speech recognition need not
be installed.

The device is synchronised before and after each run. ``--reference`` also times W and G as published, frame
by frame, and gives ours in units of theirs: "plain" in the same precision; "compiled" at their usual
settings, float32 weights under autocast, torch.compile in the mode max-autotune, which takes minutes to
begin.

The weights are those of ``vortex weights fetch liveportrait``, verified first; or, with ``--seeded``, random
numbers in the same files, which take as long and show no face. The record says which. ``--output`` appends
it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from compare import keep
from harness import make_parser, measure, record, summary
from liveportrait import gpu_of, provide_weights, read_take

from vortex.engines.liveportrait import LivePortraitModel, load_liveportrait
from vortex.engines.liveportrait.networks import load_networks
from vortex.engines.liveportrait.renderer import Renderer
from vortex.types import Frame
from vortex.weights.cache import weights_dir


def main() -> int:
    """Measure; print, keep and check the record."""
    args = _arguments()
    with provide_weights(args.seeded) as weights:
        entry = _measure(args, weights)
    return keep(entry, args)


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--duration-s", type=float, default=45.0)
    parser.add_argument("--fps", type=int, default=24)
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--batch-frames", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quality", default="full", choices=("full", "fast"))
    parser.add_argument("--reference", choices=("plain", "compiled"), help="time the published networks, too")
    parser.add_argument("--seeded", action="store_true", help="seeded random weights")
    parser.add_argument("--take", action="store_true", help="time the device alone")
    parser.add_argument("--profile-vram", action="store_true")
    return parser.parse_args()


def _measure(args: argparse.Namespace, weights: str) -> dict[str, Any]:
    model = load_liveportrait(args.device, args.precision, batch_frames=args.batch_frames)
    after_load = _memory(model) if args.profile_vram else None
    frames = round(args.duration_s * args.fps)
    video = torch.empty((frames, 3, 512, 512), dtype=torch.uint8)
    picture, work = (_work_of_take if args.take else _work_of_speech)(model, video, args)
    once = partial(seconds_of, work, model.renderer.device)
    latency_s = summary(measure(once, iterations=args.iterations, warmup=args.warmup))
    if model.name != "liveportrait":
        raise SystemExit(f"liveportrait_latency: the engine that ran is {model.name}")
    stages = _stages(model.renderer, picture)
    published = _published_stages(model.renderer, picture, args.reference) if args.reference else {}
    ratio = {f"{name}_to_published": stages[name] / published[name] for name in published}
    if published:
        ratio["frame_to_published"] = sum(stages.values()) / sum(published.values())
    return record(
        "liveportrait_latency",
        engine=model.name,
        gpu=gpu_of(model.renderer.device),
        params={
            name: value for name, value in vars(args).items() if name not in ("output", "check", "seeded")
        }
        | {"weights": weights, "frames": frames, "batch_frames": model.renderer.batch_frames},
        latency_s=latency_s,
        frames_per_s=frames / latency_s["p50"],
        stage_ms_per_frame=stages,
        published_ms_per_frame=published,
        ratio=ratio or None,
        vram_bytes={"after_load": after_load, "peak": _memory(model)} if args.profile_vram else None,
    )


def _work_of_speech(
    model: LivePortraitModel, video: torch.Tensor, args: argparse.Namespace
) -> tuple[Frame, Callable[[], Any]]:
    """Return the picture, and the whole job: a picture and a voice to frames."""
    from vortex.demo import DEMO_SPEECH, demo_portrait
    from vortex.face.crop import crop_face
    from vortex.face.portrait import load_portrait
    from vortex.media.audio import load_audio

    clip = load_audio(DEMO_SPEECH).samples
    speech = torch.from_numpy(np.resize(clip, round(args.duration_s * 24_000)))
    image = crop_face(load_portrait(demo_portrait()), 512).image
    source = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    options = {"fps": args.fps, "seed": args.seed, "output": video, "quality": args.quality}
    return image, partial(model.animate, source, speech, **options)


def _work_of_take(
    model: LivePortraitModel, video: torch.Tensor, args: argparse.Namespace
) -> tuple[Frame, Callable[[], Any]]:
    """Return the picture, and the job without detection and recognition: portrait and motion to frames."""
    portrait, motion = read_take()
    if len(motion) < len(video):
        raise SystemExit(f"liveportrait_latency: the take has {len(motion)} frames, not {len(video)}")

    def work() -> None:
        model.fill(video, model.renderer.prepare(portrait), motion.part(0, len(video)), args.quality)

    return portrait.image, work


@torch.no_grad()
def _stages(renderer: Renderer, picture: Frame, repeats: int = 5) -> dict[str, float]:
    """Return milliseconds of W and of G for each frame of a batch, after three calls that are not counted."""
    networks, batch = renderer.networks, renderer.batch_frames
    prepared = renderer.prepare_crop(picture)
    x_d = prepared.source.x_s.repeat(batch, 1, 1)
    features = networks.warp(prepared.warp, x_d).features
    calls: dict[str, Callable[[], Any]] = {
        "warp": lambda: networks.warp(prepared.warp, x_d),
        "decode": lambda: networks.decode(features),
    }

    def repeat(work: Callable[[], Any], times: int) -> None:
        for _ in range(times):
            work()

    stage_ms = {}
    for name, work in calls.items():
        repeat(work, 3)
        # Synchronised once for all repeats: the device runs them back to back, as in a video.
        stage_ms[name] = (
            seconds_of(partial(repeat, work, repeats), renderer.device) * 1000 / (repeats * batch)
        )
    return stage_ms


def _published_stages(renderer: Renderer, picture: Frame, kind: str) -> dict[str, float]:
    """Return milliseconds of W and G as published, frame by frame, on the same device."""
    half, device = renderer.networks.dtype, renderer.device
    if kind == "compiled":
        published = load_networks(weights_dir("liveportrait")).to(device)
        for name in ("warping", "generator"):
            setattr(published, name, torch.compile(getattr(published, name), mode="max-autotune"))
        # Autocast does not support float32; there the published networks run without it.
        with torch.autocast(device.type, half, enabled=half != torch.float32):
            return _stages(Renderer(published, device, 1), picture)
    published = load_networks(weights_dir("liveportrait"), dtype=half)
    return _stages(Renderer(published, device, 1), picture)


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds that ``work`` takes, from an idle device until the device has finished."""
    _synchronize(device)
    start_s = time.perf_counter()
    work()
    _synchronize(device)
    return time.perf_counter() - start_s


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory(model: LivePortraitModel) -> dict[str, int] | None:
    """Return the peak memory that torch has held so far, None on a CPU."""
    device = model.renderer.device
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    return {
        "allocated": torch.cuda.max_memory_allocated(device),
        "reserved": torch.cuda.max_memory_reserved(device),
        "device_used": total - free,
    }


if __name__ == "__main__":
    sys.exit(main())
