"""Count what a LivePortrait frame costs and its least time on GPUs, or compare fast frames with full ones.

Usage: python benchmarks/liveportrait.py [--batch-frames 8] [--check BASELINE]
       python benchmarks/liveportrait.py --fast 48 [--device cuda] [--seeded]

By default, W and G run at the release's sizes in fp16 on tensors without data, so that every machine counts
the same: as published (one frame at a time), rewritten, and with the fused kernels of a GPU. Of each
operation of torch, its arithmetic is counted, and the bytes that it reads and writes, once each. Its least
time on a GPU is the longer one of arithmetic over peak and bytes over bandwidth, by the vendor's data sheet;
arithmetic in float32 and on complex numbers runs without tensor cores. The sum over all operations is a lower
bound, not a forecast.

``--fast N`` renders N frames that the quality "fast" derives from others, spread over 45 s, both in full and
fast, and gives their PSNR over the box that changes. This needs the fetched weights; with ``--seeded``,
random weights in the same files, it only shows that the measurement runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import log2, prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compare import keep
from harness import ROOT, make_parser, record
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from vortex.engines.liveportrait.fast.generator import NormalizedFeatures
from vortex.engines.liveportrait.load import rewrite_networks, set_normalization
from vortex.engines.liveportrait.networks import Networks
from vortex.types import MotionTrack, Portrait

TAKE = ROOT / "tests" / "data" / "liveportrait" / "take.npz"
FRAMES, FPS = 1080, Fraction(24)
"""45 s at 24 fps."""
PORTRAIT_FIELDS = ("image", "landmarks_px", "crop_from_image", "head_pose_deg", "blendshapes")
LAUNCHES_NOTHING = frozenset(
    "view _unsafe_view expand permute slice select unsqueeze squeeze transpose t alias unfold split unbind "
    "split_with_sizes as_strided detach empty empty_like new_empty promote_types".split()
)


GPUS: Mapping[str, tuple[float, float, float]] = {
    "RTX 3060": (25.6e12, 12.7e12, 360e9),
    "L4": (121e12, 30.3e12, 300e9),
    "RTX 4090": (165e12, 82.6e12, 1008e9),
    "A100 40 GB": (312e12, 19.5e12, 1555e9),
    "H100 SXM": (989e12, 67e12, 3350e9),
    "H200": (989e12, 67e12, 4800e9),
}
"""Data sheets: dense fp16 with fp32 accumulation and plain fp32 in FLOP/s, memory bandwidth in bytes/s."""


def main() -> int:
    """Do what the options ask for."""
    parser = make_parser(__doc__)
    parser.add_argument("--batch-frames", type=int, default=8)
    parser.add_argument("--fast", type=int, metavar="N", help="compare so many fast frames with full ones")
    parser.add_argument("--device", help="of --fast; default cuda")
    parser.add_argument("--seeded", action="store_true", help="of --fast: seeded random weights")
    args = parser.parse_args()
    return keep(compare_fast_with_full(args) if args.fast else count_work(args.batch_frames), args)


@contextmanager
def provide_weights(seeded: bool) -> Iterator[str]:
    """Let vortex find the weights, and yield their name for the record: "published" or "seeded".

    Seeded ones are those of the tests, written into a temporary folder, 500 MB. They cost the same arithmetic
    and show no face.

    Raises:
        WeightsError: the published ones are missing or damaged.
    """
    if not seeded:
        from vortex.weights.cache import verify_weights

        verify_weights("liveportrait")
        yield "published"
        return
    sys.path.insert(0, str(ROOT / "tests"))
    from support.liveportrait_release import described, write_release

    from vortex.weights import cache

    with tempfile.TemporaryDirectory() as folder:
        release = write_release(Path(folder) / "liveportrait")
        os.environ["VORTEX_CACHE"] = folder
        # The engine checks hashes when it loads.
        published, cache.WEIGHTS = cache.WEIGHTS, {**cache.WEIGHTS, "liveportrait": described(release)}
        yield "seeded"
        cache.WEIGHTS = published


def read_take() -> tuple[Portrait, MotionTrack]:
    """Return a portrait and its motion, 1080 frames; see tests/data/liveportrait/README.md."""
    with np.load(TAKE) as stored:
        portrait = Portrait(**{name: stored[name] for name in PORTRAIT_FIELDS})
        return portrait, MotionTrack(stored["motion"].astype(np.float32), stored["head"], FPS)


def gpu_of(device: torch.device) -> dict[str, Any] | None:
    """Return the name and CUDA version of a GPU for the record, None on a CPU."""
    if device.type != "cuda":
        return None
    return {"name": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}


def compare_fast_with_full(args: argparse.Namespace) -> dict[str, Any]:
    """Return the record of how derived frames, evenly spread, differ from the same ones rendered in full."""
    from vortex.engines.liveportrait import load_liveportrait_engine

    portrait, motion = read_take()
    with provide_weights(args.seeded) as weights:
        renderer = load_liveportrait_engine(args.device).renderer
        prepared = renderer.prepare(portrait)
        plan = renderer.plan(prepared, motion)
        derived = np.setdiff1d(np.arange(len(motion)), plan.keys)
        chosen = np.linspace(0, len(derived) - 1, args.fast if len(derived) else 0).round().astype(int)
        psnr_db = []
        for index in map(int, derived[chosen]):
            full, fast = (
                next(iter(renderer.iter_boxes(prepared, motion, quality, range(index, index + 1))))
                for quality in ("full", "fast")
            )
            psnr_db.append(float(-10 * torch.log10(torch.mean((full.double() - fast.double()) ** 2))))
    return record(
        "liveportrait_fast",
        engine="liveportrait",
        gpu=gpu_of(renderer.device),
        params={"weights": weights, "frames": args.fast},
        work={"share_rendered": len(plan.keys) / len(plan.shares)},
        figures={"psnr_db_median": statistics.median(psnr_db), "psnr_db_least": min(psnr_db)}
        if psnr_db
        else {},
    )


@dataclass(frozen=True, slots=True)
class Step:
    """One kernel: its arithmetic, the bytes it reads and writes, and whether tensor cores can do it."""

    flops: int
    moved_bytes: int
    half: bool

    def floor_s(self, half_flops: float, single_flops: float, bytes_per_s: float) -> float:
        """Return the least seconds it takes on a GPU of :data:`GPUS`."""
        return max(self.flops / (half_flops if self.half else single_flops), self.moved_bytes / bytes_per_s)


class Meter(TorchDispatchMode):
    """Keeps a :class:`Step` for every operation that runs under it."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and count it."""
        result = operation(*args, **(kwargs or {}))
        name = operation._schema.name.split("::")[1]
        if name not in LAUNCHES_NOTHING:
            read, written = list(_tensors((args, kwargs))), list(_tensors(result))
            half = all(t.dtype in (torch.float16, torch.bfloat16) for t in written)
            moved = sum(_touched_bytes(t) for t in [*read, *written]) - _skipped_bytes(name, args)
            self.steps.append(Step(_flops(operation, name, args, kwargs or {}, result), moved, half))
        return result


class CountedFeatures(NormalizedFeatures):
    """Counts the bytes that the fused kernels move; they themselves cannot run on tensors without data."""

    def __init__(self, meter: Meter, x: Tensor) -> None:
        self.meter, self.x = meter, x
        # One kernel reads the picture, one computes means, squares and gains, which are negligible beside it.
        self._count(x)
        self._count()

    def modulated(
        self, scale: Tensor, shift: Tensor | None = None, *, repeat: int = 1, out: Tensor | None = None
    ) -> Tensor:
        """See :class:`NormalizedFeatures`."""
        if out is None:
            out = torch.empty_like(scale, memory_format=torch.channels_last)
        self._count(*(moved for moved in (self.x, scale, shift, out) if moved is not None))
        return out

    def _count(self, *moved: Tensor) -> None:
        self.meter.steps.append(Step(0, sum(map(_touched_bytes, moved)), half=True))


def count_work(batch_frames: int) -> dict[str, Any]:
    """Return the record of the counts, and of the least seconds for 1080 frames on each GPU."""
    kinds = {
        "published": (count_steps(lambda meter: Networks(), 1), 1),
        "rewritten": (count_steps(lambda meter: rewrite_networks(Networks()), batch_frames), batch_frames),
        "fused": (count_steps(_fused, batch_frames), batch_frames),
    }
    return record(
        "liveportrait_work",
        engine="liveportrait",
        params={"batch_frames": batch_frames, "precision": "fp16", "frames": FRAMES},
        work={
            f"{kind}_{name}": value
            for kind, counted in kinds.items()
            for name, value in _work(*counted).items()
        },
        floor_s={
            name: {
                kind: FRAMES * sum(step.floor_s(*gpu) for step in steps) / batch
                for kind, (steps, batch) in kinds.items()
            }
            for name, gpu in GPUS.items()
        },
    )


def _fused(meter: Meter) -> Networks:
    """Return our networks as a GPU runs them, with kernels that report to ``meter``."""
    networks = rewrite_networks(Networks(), tensor_cores=True)
    set_normalization(networks, partial(CountedFeatures, meter))
    return networks


@torch.no_grad()
def count_steps(build: Callable[[Meter], Networks], batch_frames: int) -> list[Step]:
    """Return the kernels of W and G for a batch."""
    meter = Meter()
    with torch.device("meta"):
        networks = build(meter).set_precision(torch.float16)
        volume = torch.empty(1, 32, 16, 64, 64, dtype=torch.float16)
        source = networks.prepare_warp(volume, torch.empty(1, 21, 3))
        x_d = torch.empty(batch_frames, 21, 3)
    meter.steps.clear()
    with meter:
        networks.decode(networks.warp(source, x_d).features)
    return meter.steps


def _work(steps: Sequence[Step], batch_frames: int) -> dict[str, float]:
    return {
        "gflop_per_frame": sum(step.flops for step in steps) / batch_frames / 1e9,
        "megabytes_per_frame": sum(step.moved_bytes for step in steps) / batch_frames / 1e6,
        "kernels_per_batch": len(steps),
    }


def _flops(operation: Any, name: str, args: Any, kwargs: Mapping[str, Any], result: Any) -> int:
    if name == "bmm" and args[0].is_complex():
        batch, rows, inner = args[0].shape
        # A complex multiplication and addition are 8 operations.
        return int(8 * batch * rows * inner * args[1].shape[-1])
    if name.startswith("_fft"):
        size, dims = max(args[0].shape, result.shape, key=prod), args[1]
        # A real transform of N points costs about 2.5 N log2 N.
        return int(2.5 * prod(size) * log2(prod(size[dim] for dim in dims)))
    counter = flop_registry.get(operation.overloadpacket)
    return int(counter(*args, **kwargs, out_val=result)) if counter else 0


def _skipped_bytes(name: str, args: Any) -> int:
    """Return the bytes of its input that a convolution with gaps between its taps does not read."""
    if name != "convolution" or args[6]:
        return 0
    x, weight, stride = args[0], args[1], args[3]
    steps = [
        (size, stride[axis] if len(stride) > 1 else stride[0]) for axis, size in enumerate(weight.shape[2:])
    ]
    seen = prod(min(taps, step) / step for taps, step in steps)
    return round(_touched_bytes(x) * (1 - seen))


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)


def _touched_bytes(x: Tensor) -> int:
    """Return the bytes of a tensor at distinct addresses: an expanded dimension counts once."""
    steps = zip(x.shape, x.stride(), strict=True)
    return prod(size for size, stride in steps if stride) * x.element_size()


if __name__ == "__main__":
    sys.exit(main())
