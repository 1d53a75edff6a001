"""The fused kernels equal float64 in Triton's interpreter, and compile well for GPUs that are not present."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vortex.engines.liveportrait.fast.generator import SLOPE, NormalizedFeatures
from vortex.engines.liveportrait.load import MAX_KERNEL_ERROR_EPS, fastest_normalize, set_normalization
from vortex.engines.liveportrait.networks import Networks

# On a machine without a GPU, tests/conftest.py selects Triton's interpreter.
pytest.importorskip("triton")
kernels = importlib.import_module("vortex.engines.liveportrait.fast.kernels")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.float32: 1e-6, torch.float16: 5e-4, torch.bfloat16: 4e-3}
"""Relative L2 distance: one rounding to the type; the interpreter truncates to bfloat16 instead."""


def picture(seed: int, *shape: int, dtype: torch.dtype, mean: float = 3.0) -> Tensor:
    values = mean + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return values.to(DEVICE, dtype).contiguous(memory_format=torch.channels_last)


def expected(x: Tensor, scale: Tensor, shift: Tensor | None, repeat: int = 1) -> Tensor:
    standard = functional.interpolate(functional.instance_norm(x.double()), scale_factor=float(repeat))
    if shift is None:
        return standard * scale.double()
    return functional.leaky_relu(standard * scale.double() + shift.double(), SLOPE)


def distance(got: Tensor, exact: Tensor) -> float:
    return float(torch.linalg.vector_norm(got.double() - exact) / torch.linalg.vector_norm(exact))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(
    ("shape", "repeat"),
    # The last is so large that a program takes two steps, and some programs have no pixels in the second.
    [((2, 70, 9, 13), 1), ((2, 70, 5, 7), 2), ((3, 8, 1, 40), 1), ((1, 130, 4, 12), 2), ((1, 3, 33, 67), 1)],
)
def test_modulation_is_that_of_float64(shape: tuple[int, ...], repeat: int, dtype: torch.dtype) -> None:
    b, c, h, w = shape
    x = picture(1, *shape, dtype=dtype)
    # As a convolution returns them: adjacent in each pixel.
    both = picture(2, b, 2 * c, repeat * h, repeat * w, dtype=dtype, mean=0.5)
    scale, shift = both[:, :c], both[:, c:]
    standard = kernels.FusedNormalizedFeatures(x)
    modulated = standard.modulated(scale, shift, repeat=repeat)
    assert modulated.dtype == dtype and modulated.is_contiguous(memory_format=torch.channels_last)
    assert distance(modulated, expected(x, scale, shift, repeat)) < TOLERANCE[dtype]
    assert (
        distance(standard.modulated(scale, repeat=repeat), expected(x, scale, None, repeat))
        < TOLERANCE[dtype]
    )


def test_a_small_deviation_from_a_large_mean_is_measured() -> None:
    """Sums of squares would cancel: (1000 ± 0.1)² differ by 2e-4, and float32 has 7 digits."""
    x = picture(3, 1, 16, 64, 64, dtype=torch.float32, mean=0.0) * 0.05 + 1000
    ones = torch.ones_like(x)
    # float32 resolves numbers near 1000 to 6e-5, of a deviation of 0.1.
    assert distance(kernels.FusedNormalizedFeatures(x).modulated(ones), expected(x, ones, None)) < 2e-3


def test_each_phase_of_the_output_is_written_and_nothing_else() -> None:
    x = picture(4, 2, 12, 8, 10, dtype=torch.float32)
    scale, shift = (picture(seed, 2, 12, 4, 5, dtype=torch.float32) for seed in (5, 6))
    poison = 12345.0
    out = torch.full((2, 12, 16, 20), poison, device=DEVICE).contiguous(memory_format=torch.channels_last)
    kernels.FusedNormalizedFeatures(x).phase(1, 0, 2).modulated(scale, shift, out=out[:, :, 3::4, 1::4])
    exact = functional.instance_norm(x.double())[:, :, 1::2, 0::2] * scale + shift
    assert distance(out[:, :, 3::4, 1::4], functional.leaky_relu(exact, SLOPE)) < 1e-6
    out[:, :, 3::4, 1::4] = poison
    assert bool((out == poison).all())


def test_the_whole_generator_gives_the_published_picture(networks: Networks, rewritten: Networks) -> None:
    set_normalization(rewritten.to(DEVICE), kernels.FusedNormalizedFeatures)
    features = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(7)).to(DEVICE)
    published = networks.to(DEVICE).decode(features)
    assert distance(rewritten.decode(features), published.double()) < 2e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_the_check_at_loading_accepts_right_kernels_and_rejects_wrong_ones(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = torch.device(DEVICE)
    assert kernels.kernel_error_eps(device, dtype) < MAX_KERNEL_ERROR_EPS / 4
    monkeypatch.setattr(kernels, "SLOPE", 0.3)
    assert kernels.kernel_error_eps(device, dtype) > 4 * MAX_KERNEL_ERROR_EPS


def test_kernels_that_fail_or_disagree_are_replaced_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: torch.device, dtype: torch.dtype) -> float:
        raise RuntimeError("no C compiler")

    gpu = torch.device("cuda")
    for check, reason in ((fail, "no C compiler"), (lambda *_: 99.0, "off by 99 epsilons")):
        monkeypatch.setattr(kernels, "kernel_error_eps", check)
        with pytest.warns(UserWarning, match=rf"fused kernels cannot be used \({reason}"):
            assert fastest_normalize(gpu, torch.float16) is NormalizedFeatures
    monkeypatch.setattr(kernels, "kernel_error_eps", lambda *_: 1.0)
    assert fastest_normalize(gpu, torch.float16) is kernels.FusedNormalizedFeatures
    assert fastest_normalize(torch.device("cpu"), torch.float32) is NormalizedFeatures


COMPILE = """
import json, subprocess, sys, warnings
from pathlib import Path
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from vortex.engines.liveportrait.fast import kernels

warnings.simplefilter("ignore")  # Triton warns about defaults of its next version.
place = Path(sys.argv[1])
floats = dict.fromkeys(("means", "squares", "counts", "gains", "offsets"), "*fp32")
types = dict.fromkeys(("x", "scale", "shift", "out"), "*fp16") | floats | {"eps": "fp32", "slope": "fp32"}
blocks = {"CHANNELS": kernels.BLOCK_CHANNELS, "PIXELS": kernels.BLOCK_PIXELS}
constants = {
    "measure_kernel": blocks | {"STEPS": 2},
    "merge_kernel": {"CHANNELS": kernels.BLOCK_CHANNELS, "SPLITS": kernels.MAX_SPLITS},
    "modulate_kernel": blocks | {"SHIFTS": True, "REPEAT": 1},
}
for capability in (75, 80, 89, 90):
    for name, values in constants.items():
        kernel = getattr(kernels, name)
        signature = {a: "constexpr" if a in values else types.get(a, "i32") for a in kernel.arg_names}
        # As the just-in-time compiler does for sizes and strides divisible by 16.
        aligned = {
            (index,): [["tt.divisibility", 16]]
            for index, a in enumerate(kernel.arg_names)
            if a not in values and types.get(a) != "fp32"
        }
        source = ASTSource(fn=kernel, signature=signature, constexprs=values, attrs=aligned)
        options = {"num_warps": kernels.WARPS}
        result = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        (place / "kernel.cubin").write_bytes(result.asm["cubin"])
        tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        usage = [str(tool), "--dump-resource-usage", str(place / "kernel.cubin")]
        print(json.dumps({
            "kernel": name,
            "capability": capability,
            "usage": subprocess.run(usage, capture_output=True, text=True, check=True).stdout,
            "loads": [line for line in result.asm["ptx"].splitlines() if "ld.global" in line],
        }))
"""


def test_kernels_compile_without_spilling_and_read_16_bytes_at_a_time(tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path / "cache"), "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-c", COMPILE, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == 12
    for result in results:
        assert "STACK:0 " in result["usage"] and "LOCAL:0 " in result["usage"], result
        if result["kernel"] != "merge_kernel":
            assert result["loads"] and all("v4.b32" in load for load in result["loads"]), result


def test_triton_is_not_imported_without_a_gpu() -> None:
    """Importing Triton takes a third of a second, and a CPU does not need it."""
    code = "import sys; import vortex.engines.liveportrait.load; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
