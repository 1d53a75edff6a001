"""Count what a LivePortrait frame costs: operations, bytes, kernels; and the least time on known GPUs.

Usage: python benchmarks/liveportrait_work.py [--batch-frames 8] [--check BASELINE]
           [--output .tasks/baselines/liveportrait_work.json]

W and G run at the release's sizes in fp16 on tensors without data, so that every machine counts the same: as
published (one frame at a time), rewritten, and with the fused kernels of a GPU. Of each operation of torch,
its arithmetic is counted and the bytes that it reads and writes, once each. Its least time on a GPU is the
longer one of arithmetic over peak and bytes over bandwidth, by the vendor's data sheet; arithmetic in float32
and on complex numbers goes without tensor cores. The sum over all operations is a floor, not a forecast.
``--check`` fails if any count is worse than in BASELINE by over 2 %.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import log2, prod
from pathlib import Path
from typing import Any

import torch
from compare import keep
from harness import record, rounded
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from vortex.engines.liveportrait.modulation import Standard
from vortex.engines.liveportrait.networks import Networks
from vortex.engines.liveportrait.rewrites import modulate_by, rewrite_networks

FRAMES = 1080
"""45 s at 24 fps."""
LAUNCHES_NOTHING = frozenset(
    "view _unsafe_view expand permute slice select unsqueeze squeeze transpose t alias unfold split unbind "
    "split_with_sizes as_strided detach empty empty_like new_empty promote_types".split()
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """Data sheet: dense fp16 with fp32 accumulation and plain fp32, FLOP/s, and bytes/s of its memory."""

    half_flops: float
    single_flops: float
    bytes_per_s: float


GPUS: Mapping[str, Gpu] = {
    "RTX 3060": Gpu(25.6e12, 12.7e12, 360e9),
    "L4": Gpu(121e12, 30.3e12, 300e9),
    "RTX 4090": Gpu(165e12, 82.6e12, 1008e9),
    "A100 40 GB": Gpu(312e12, 19.5e12, 1555e9),
    "H100 SXM": Gpu(989e12, 67e12, 3350e9),
    "H200": Gpu(989e12, 67e12, 4800e9),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One kernel: its arithmetic, the bytes it reads and writes, and whether tensor cores can do it."""

    flops: int
    moved_bytes: int
    half: bool

    def floor_s(self, gpu: Gpu) -> float:
        """Return the least seconds it takes."""
        return max(
            self.flops / (gpu.half_flops if self.half else gpu.single_flops),
            self.moved_bytes / gpu.bytes_per_s,
        )


class Meter(TorchDispatchMode):
    """Keeps a :class:`Step` of every operation."""

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


class CountedStandard(Standard):
    """What the fused kernels move; they themselves cannot run on tensors without data."""

    def __init__(self, meter: Meter, x: Tensor) -> None:
        self.meter, self.x = meter, x
        # the picture read, and means, squares and gains, which are nothing beside it
        self._count(x)
        self._count()

    def scaled(self, scale: Tensor, *, repeat: int = 1) -> Tensor:
        """See ``Standard``."""
        out = torch.empty_like(scale, memory_format=torch.channels_last)
        self._count(self.x, scale, out)
        return out

    def modulated(
        self, scale: Tensor, shift: Tensor, *, repeat: int = 1, out: Tensor | None = None
    ) -> Tensor:
        """See ``Standard``."""
        if out is None:
            out = torch.empty_like(scale, memory_format=torch.channels_last)
        self._count(self.x, scale, shift, out)
        return out

    def _count(self, *moved: Tensor) -> None:
        self.meter.steps.append(Step(0, sum(map(_touched_bytes, moved)), half=True))


def main() -> int:
    """Count, print, and keep or check a record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batch-frames", type=int, default=8)
    parser.add_argument("--output", type=Path, help="file of records to append to")
    parser.add_argument("--check", type=Path, help="file of records to compare with")
    args = parser.parse_args()
    kinds = {
        "published": (count_steps(published, 1), 1),
        "rewritten": (count_steps(rewritten, args.batch_frames), args.batch_frames),
        "fused": (count_steps(fused, args.batch_frames), args.batch_frames),
    }
    entry = rounded(
        record(
            "liveportrait_work",
            engine="liveportrait",
            params={"batch_frames": args.batch_frames, "precision": "fp16", "frames": FRAMES},
            work={
                f"{kind}_{name}": value
                for kind, counted in kinds.items()
                for name, value in _work(*counted).items()
            },
            floor_s={
                gpu: {kind: FRAMES * floor_s(*counted, GPUS[gpu]) for kind, counted in kinds.items()}
                for gpu in GPUS
            },
        )
    )
    print(json.dumps({name: entry[name] for name in ("work", "floor_s")}, indent=1))
    return keep(entry, args.output, args.check)


def published(meter: Meter) -> Networks:
    """Return the networks as published."""
    return Networks()


def rewritten(meter: Meter) -> Networks:
    """Return our networks with the least arithmetic, in operations of torch."""
    return rewrite_networks(Networks())


def fused(meter: Meter) -> Networks:
    """Return our networks as a GPU runs them, with kernels that report to ``meter``."""
    networks = rewrite_networks(Networks(), tensor_cores=True)
    modulate_by(networks, partial(CountedStandard, meter))
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


def floor_s(steps: Iterable[Step], batch_frames: int, gpu: Gpu) -> float:
    """Return the least seconds of a frame."""
    return sum(step.floor_s(gpu) for step in steps) / batch_frames


def _flops(operation: Any, name: str, args: Any, kwargs: Mapping[str, Any], result: Any) -> int:
    if name == "bmm" and args[0].is_complex():
        batch, rows, inner = args[0].shape
        # a complex multiplication and addition are 8 operations
        return int(8 * batch * rows * inner * args[1].shape[-1])
    if name.startswith("_fft"):
        size, dims = max(args[0].shape, result.shape, key=prod), args[1]
        # a real transform of N points costs about 2.5 N log2 N
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
    """Return the bytes of a tensor that differ in their place: what is expanded is read once."""
    steps = zip(x.shape, x.stride(), strict=True)
    return prod(size for size, stride in steps if stride) * x.element_size()


if __name__ == "__main__":
    sys.exit(main())
