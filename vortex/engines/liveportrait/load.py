"""Loads the fetched weights onto a device, W's dense motion and G in cheaper forms that compute the same."""

from __future__ import annotations

import importlib.util
import warnings

import torch
from torch import nn

from vortex.engines.liveportrait.device import (
    DEFAULT_BUDGET_BYTES,
    fit_frames,
    networks_bytes,
    resolve_device,
    resolve_dtype,
)
from vortex.engines.liveportrait.fast.convolution import FourierConv, SliceConv, fold_batch_norm
from vortex.engines.liveportrait.fast.dense_motion import RewrittenDenseMotion
from vortex.engines.liveportrait.fast.generator import (
    ModulatedBlock,
    Normalize,
    NormalizedFeatures,
    RewrittenGenerator,
)
from vortex.engines.liveportrait.networks import (
    DenseMotion,
    Networks,
    NetworkSizes,
    SpadeGenerator,
    load_networks,
)
from vortex.engines.liveportrait.renderer import Renderer
from vortex.errors import DeviceUnavailableError, VortexWarning, in_one_line
from vortex.weights.cache import verify_weights

SMALL = NetworkSizes(
    input_px=64,
    feature_channels=8,
    feature_depth=4,
    appearance_channels=(8, 16, 16),
    appearance_blocks=1,
    motion_channels=(8, 8, 8, 8),
    motion_blocks=(1, 1, 1, 1),
    hourglass_channels=(8, 16, 16),
    warped_channels=16,
    generator_channels=(16, 12, 8),
    generator_blocks=1,
    spade_hidden=8,
)
"""The architecture, small: a frame of 128 px takes milliseconds."""
MAX_ARITHMETIC_ERROR = 0.01
"""Largest accepted difference of a device's picture from the CPU's, of 1; float32 makes less than 1e-4."""
MAX_KERNEL_ERROR_EPS = 16.0
"""Largest accepted difference of our kernels from torch's operations; two roundings make one or two."""


def load_renderer(
    device: str | torch.device | None,
    precision: str,
    batch_frames: int | None = None,
    memory_budget_bytes: int | None = None,
) -> Renderer:
    """Return a renderer of the fetched weights; see :func:`vortex.engines.liveportrait.load_liveportrait`."""
    resolved = resolve_device(device)
    cuda = resolved.type == "cuda"
    dtype = resolve_dtype(precision, resolved)
    published = load_networks(verify_weights("liveportrait"))
    # Apple's devices cannot be relied on to multiply complex numbers, as the Fourier domain needs.
    direct = dtype != torch.float32 or resolved.type == "mps"
    networks = rewrite_networks(published, tensor_cores=direct).set_precision(dtype)
    check_arithmetic(resolved)
    if memory_budget_bytes is None and cuda:
        memory_budget_bytes = DEFAULT_BUDGET_BYTES
    if memory_budget_bytes is not None:
        batch_frames = fit_frames(
            memory_budget_bytes, networks_bytes(networks), dtype.itemsize, batch_frames, cuda=cuda
        )
    set_normalization(networks, fastest_normalize(resolved, dtype))
    return Renderer(networks, resolved, batch_frames or 1)


def check_arithmetic(device: torch.device) -> None:
    """Compare small networks on an Apple device with the same ones on the CPU.

    No test of ours has run on one, and torch has computed wrong convolutions there before.

    Raises:
        DeviceUnavailableError: torch lacks an operation there, or computes something else.
    """
    if device.type != "mps":
        return
    try:
        error = arithmetic_error(device)
        problem = f"its pictures are off by {error:.2g}" if not error < MAX_ARITHMETIC_ERROR else ""
    except (NotImplementedError, RuntimeError, TypeError) as exc:
        problem = in_one_line(exc)
    if problem:
        raise DeviceUnavailableError(
            f"Torch {torch.__version__} cannot render on {str(device)!r} ({problem}). Install a newer torch, "
            "or give the device 'cpu', which needs seconds for each frame."
        )


@torch.no_grad()
def arithmetic_error(device: torch.device) -> float:
    """Return the largest difference of a small random picture rendered on ``device`` and on the CPU, of 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = rewrite_networks(Networks(SMALL), tensor_cores=True)
        picture = torch.rand(1, 3, SMALL.input_px, SMALL.input_px)
        x_s = torch.rand(1, SMALL.keypoints, 3) * 2 - 1
    frames = []
    for place in (torch.device("cpu"), device):
        networks.to(place)
        source = networks.prepare_warp(networks.extract_appearance(picture.to(place)), x_s.to(place))
        networks.extract_motion(picture.to(place))
        frames.append(networks.decode(networks.warp(source, x_s.to(place) * 0.9).features).float().cpu())
    return float((frames[1] - frames[0]).abs().max())


def fastest_normalize(device: torch.device, dtype: torch.dtype) -> Normalize:
    """Return our kernels if they agree with torch on ``device``, else, with a warning, torch's operations."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return NormalizedFeatures
    from vortex.engines.liveportrait.fast.kernels import FusedNormalizedFeatures, kernel_error_eps

    try:
        error_eps = kernel_error_eps(device, dtype)
        if error_eps < MAX_KERNEL_ERROR_EPS:
            return FusedNormalizedFeatures
        failure = f"off by {error_eps:.0f} epsilons of {dtype}"
    except Exception as exc:  # Triton calls a C compiler and the driver, which fail in many ways.
        failure = in_one_line(exc)
    warnings.warn(
        f"The fused kernels cannot be used ({failure}); rendering works, but takes longer. They need "
        "a C compiler, such as gcc, and a driver that supports this build of torch.",
        VortexWarning,
        stacklevel=2,
    )
    return NormalizedFeatures


def rewrite_networks(networks: Networks, *, tensor_cores: bool = False) -> Networks:
    """Replace W's dense motion and G of float32 networks by cheaper equals, in place; return the networks.

    Set ``tensor_cores`` if the networks will compute in a half type on a GPU. Plain convolutions are fast
    there and memory traffic is not, so W's mask is then convolved directly, not in the Fourier domain.
    """
    for block in networks.warping.modules():
        fold_batch_norm(block)
    dense = networks.warping.dense_motion_network
    if isinstance(dense, DenseMotion):
        mask = SliceConv(dense.mask) if tensor_cores else FourierConv(dense.mask, networks.sizes.feature_px)
        networks.warping.dense_motion_network = RewrittenDenseMotion(dense, mask)
    if isinstance(networks.generator, SpadeGenerator):
        networks.generator = RewrittenGenerator(networks.generator)
    networks.eval().requires_grad_(False)
    # Fast convolutions read weights whose channels are adjacent in memory.
    for module in networks.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return networks


def set_normalization(networks: Networks, normalize: Normalize) -> None:
    """Make a rewritten generator compute its modulations with ``normalize``."""
    for block in networks.generator.modules():
        if isinstance(block, ModulatedBlock):
            block.normalize = normalize
