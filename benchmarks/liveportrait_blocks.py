"""Time the parts of W and G in each exact form that there is, side by side on one device, at the real sizes.

Usage: python benchmarks/liveportrait_blocks.py [--device cuda] [--precision fp16] [--batch-frames 8]
           [--repeats 10] [--search] [--output .tasks/baselines/liveportrait_blocks.json]

Which form is fastest depends on the device: less arithmetic is more memory traffic here, and odd convolutions
run at a smaller share of the peak there. Weights and inputs are seeded random numbers, which take as long as
any others. For every part: milliseconds a frame of each form, the median of the repeats after two calls that
are not counted, and how far its numbers are from those of the published form in float32 on the same device,
in steps of the number type.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from harness import append, measure, record, rounded
from liveportrait_latency import gpu_of, seconds_of
from torch import Tensor, nn
from torch.nn import functional

from vortex.engines.liveportrait.device import resolve_device, resolve_dtype
from vortex.engines.liveportrait.modulation import TorchStandard
from vortex.engines.liveportrait.networks import DenseMotion, Networks, SpadeGenerator, UpBlock, cast_floating
from vortex.engines.liveportrait.rewrites import (
    DoublingConv,
    FourierConv,
    ModulatedBlock,
    RewrittenGenerator,
    SliceConv,
    rewrite_networks,
)

Form = Callable[..., Any]
Part = tuple[str, tuple[Tensor, ...], dict[str, Form]]
"""Name, float32 inputs, and form -> what computes it; the first form is the published one."""


def main() -> int:
    """Time all parts, print, and keep a record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--batch-frames", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--search", action="store_true", help="let cuDNN try its algorithms for each shape")
    parser.add_argument("--output", type=Path, help="file of records to append to")
    args = parser.parse_args()
    device = resolve_device(args.device)
    dtype = resolve_dtype(args.precision, device)
    torch.backends.cudnn.benchmark = args.search
    figures: dict[str, dict[str, float]] = {}
    errors: dict[str, dict[str, float]] = {}
    for name, inputs, forms in parts(device, args.batch_frames):
        figures[name], errors[name] = {}, {}
        exact = _run(next(iter(forms.values())), inputs)
        halves = tuple(x.to(dtype) for x in inputs)
        for form, work in forms.items():
            if isinstance(work, nn.Module):
                cast_floating(work, dtype)
            got = _run(work, halves)
            off = torch.linalg.vector_norm(got - exact) / torch.linalg.vector_norm(exact)
            errors[name][form] = float(off) / torch.finfo(dtype).eps
            figures[name][form] = _median_ms(work, halves, device, args.repeats) / args.batch_frames
        row = "  ".join(f"{form} {ms:.3f}" for form, ms in figures[name].items())
        print(f"{name:<24}{row}  (ms a frame)", flush=True)
    entry = record(
        "liveportrait_blocks",
        engine="liveportrait",
        gpu=gpu_of(device),
        params={name: value for name, value in vars(args).items() if name != "output"},
        stage_ms_per_frame=figures,
        error_in_steps=errors,
    )
    print(json.dumps(rounded(entry)["error_in_steps"], indent=1))
    if args.output:
        append(args.output, rounded(entry))
    return 0


@torch.no_grad()
def parts(device: torch.device, batch: int) -> Iterator[Part]:
    """Yield the parts, one after the other, so that the memory of one is free before the next."""
    torch.manual_seed(1)
    networks = Networks().to(device)
    dense = cast(DenseMotion, networks.warping.dense_motion_network)
    generator = cast(SpadeGenerator, networks.generator)

    def draw(*shape: int) -> Tensor:
        return torch.randn((batch, *shape), device=device)

    yield (
        "mask 7x7x7",
        (draw(142, 16, 64, 64),),
        {
            "published": copy.deepcopy(dense.mask),
            "fourier": FourierConv(dense.mask, 64),
            "slices": SliceConv(dense.mask),
            "published channels last": _channels_last_3d(dense.mask),
        },
    )
    last = dense.hourglass.decoder.conv
    yield (
        "hourglass last 3x3x3",
        (draw(142, 16, 64, 64),),
        {
            "published": copy.deepcopy(last),
            "channels last": _channels_last_3d(last),
        },
    )
    size = 2
    for block in dense.hourglass.decoder.up_blocks:
        up = cast(UpBlock, block)
        up.norm = nn.Identity()
        conv = cast(nn.Conv3d, up.conv)
        forms: dict[str, Form] = {"published": copy.deepcopy(up), "doubling": DoublingConv(conv).to(device)}
        yield f"hourglass up to {2 * size}", (draw(conv.in_channels, 16, size, size),), forms
        size *= 2
    yield from _generator_parts(generator, draw, device)


def _generator_parts(
    generator: SpadeGenerator, draw: Callable[..., Tensor], device: torch.device
) -> Iterator[Part]:
    ours = cast(RewrittenGenerator, _rewritten_generator(generator).to(device))
    features = draw(256, 64, 64)
    middle = generator.get_submodule("G_middle_0")
    hidden = [functional.relu(norm.mlp_shared[0](features)) for norm in (middle.norm_0, middle.norm_1)]
    for name, part, x, block, extra in (
        ("G middle block", middle, draw(512, 64, 64), ours.middle[0], tuple(hidden)),
        ("G up to 128", generator.up_0, draw(512, 64, 64), ours.up_0, (features,)),
        ("G up to 256", generator.up_1, draw(256, 128, 128), ours.up_1, (features,)),
    ):
        scale = 1 if block is ours.middle[0] else x.shape[-1] * 2 // 64
        forms: dict[str, Form] = {"published": _Published(part, scale)}
        for form, standard in _standards(device).items():
            ours_now = copy.deepcopy(block)
            cast(ModulatedBlock, ours_now).standardise = standard
            forms[form] = _Rewritten(ours_now)
        yield name, (x, features, *extra), forms


class _Published(nn.Module):
    """A published SPADE block with the enlargement before it."""

    def __init__(self, block: nn.Module, scale: int) -> None:
        super().__init__()
        self.block, self.scale = copy.deepcopy(block), scale

    def forward(self, x: Tensor, features: Tensor, *_: Tensor) -> Tensor:
        if self.scale > 1:
            x = functional.interpolate(x, scale_factor=2.0)
            features = functional.interpolate(features, scale_factor=float(self.scale))
        return cast(Tensor, self.block(x, features))


class _Rewritten(nn.Module):
    """A rewritten SPADE block; what the published one computes inside and ours before is given."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, features: Tensor, *extra: Tensor) -> Tensor:
        last = [t.contiguous(memory_format=torch.channels_last) for t in (x, *extra)]
        return cast(Tensor, self.block(*last))


def _standards(device: torch.device) -> Mapping[str, Any]:
    """Return the ways to modulate that run on the device."""
    if device.type != "cuda":
        return {"rewritten": TorchStandard}
    from vortex.engines.liveportrait.kernels import FusedStandard

    return {"rewritten": TorchStandard, "fused": FusedStandard}


def _rewritten_generator(generator: SpadeGenerator) -> nn.Module:
    networks = Networks()
    networks.generator = copy.deepcopy(generator).cpu()
    return rewrite_networks(networks).generator


def _channels_last_3d(conv: nn.Module) -> Form:
    ours = cast(nn.Conv3d, copy.deepcopy(conv))
    ours.weight.data = ours.weight.data.contiguous(memory_format=torch.channels_last_3d)
    return nn.Sequential(_ChannelsLast3d(), ours)


class _ChannelsLast3d(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last_3d)


@torch.no_grad()
def _run(work: Form, inputs: tuple[Tensor, ...]) -> Tensor:
    return cast(Tensor, work(*inputs)).float()


@torch.no_grad()
def _median_ms(work: Form, inputs: tuple[Tensor, ...], device: torch.device, repeats: int) -> float:
    once = partial(seconds_of, lambda: work(*inputs), device)
    return 1000 * statistics.median(measure(once, iterations=repeats, warmup=2))


if __name__ == "__main__":
    sys.exit(main())
