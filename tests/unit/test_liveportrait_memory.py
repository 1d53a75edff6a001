"""What rendering takes is counted, and a budget decides how many frames go at once."""

from __future__ import annotations

import weakref
from typing import Any

import liveportrait_release as release
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vortex.engines.liveportrait import load_liveportrait
from vortex.engines.liveportrait.memory import (
    DEFAULT_BUDGET_BYTES,
    FRAME_BYTES,
    MOST_FRAMES,
    fit_frames,
    needed_bytes,
    networks_bytes,
)
from vortex.engines.liveportrait.networks import Networks
from vortex.engines.liveportrait.rewrites import rewrite_networks
from vortex.errors import OutOfMemoryError

GB = 1_000_000_000


class Alive(TorchDispatchMode):
    """Counts the bytes of results that are alive, and the most of them at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.known: set[int] = set()
        self.alive = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._watch(leaf.untyped_storage())
        self.most = max(self.most, self.alive)
        return result

    def _watch(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return

        def forget() -> None:
            self.known.discard(key)
            self.alive -= size

        self.known.add(key)
        self.alive += size
        weakref.finalize(storage, forget)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("frames", [1, 3])
def test_a_frame_takes_what_is_said_at_the_real_size(dtype: torch.dtype, frames: int) -> None:
    with torch.device("meta"), torch.no_grad():
        networks = rewrite_networks(Networks(), tensor_cores=dtype != torch.float32).set_precision(dtype)
        source = networks.prepare_warp(torch.empty(1, 32, 16, 64, 64, dtype=dtype), torch.empty(1, 21, 3))
        x_d = torch.empty(frames, 21, 3)
        with Alive() as warping:
            features = networks.warp(source, x_d).features
        with Alive() as decoding:
            networks.decode(features)
    said = FRAME_BYTES[dtype.itemsize] * frames
    assert 0.9 * said < warping.most <= 1.02 * said
    assert decoding.most < said


def test_a_whole_batch_in_half_precision_fits_into_the_default_budget() -> None:
    with torch.device("meta"):
        networks = rewrite_networks(Networks(), tensor_cores=True)
        held = networks_bytes(networks.set_precision(torch.float16))
    assert fit_frames(DEFAULT_BUDGET_BYTES, held, 2, None, cuda=True) == MOST_FRAMES


def test_less_memory_means_fewer_frames_and_the_estimate_is_kept() -> None:
    chosen = [
        fit_frames(int(budget * GB), GB // 2, 2, None, cuda=True) for budget in (1.5, 2.0, 2.4, 4.0, 80.0)
    ]
    assert chosen == sorted(chosen)
    assert (chosen[0], chosen[-1]) == (1, MOST_FRAMES)
    for budget, frames in zip((1.5, 2.0, 2.4), chosen, strict=False):
        assert needed_bytes(GB // 2, 2, frames, cuda=True) <= budget * GB


def test_a_budget_that_is_too_small_is_refused_with_figures_and_what_helps() -> None:
    with pytest.raises(OutOfMemoryError, match=r"budget is 1\.00 GB.*1 frame at once.*precision='fp16'"):
        fit_frames(GB, GB, 4, None, cuda=True)
    with pytest.raises(
        OutOfMemoryError, match=r"needs about 4\.40 GB to render 16 frames.*lower batch_frames"
    ):
        fit_frames(4 * GB, GB, 2, 16, cuda=True)


def test_a_model_heeds_its_budget(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    release.write_release(tmp_path / "liveportrait")
    model = load_liveportrait("cpu", "fp32", memory_budget_bytes=2 * GB)
    assert model.renderer.batch_frames == 2
    model.close()
    with pytest.raises(OutOfMemoryError, match=r"memory budget is 1\.00 GB"):
        load_liveportrait("cpu", "fp32", memory_budget_bytes=GB)
