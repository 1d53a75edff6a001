"""Batches arrive whole and in order, whenever the copies happen, and copies overlap with rendering."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from vortex.engines.liveportrait.transfer import Lane, Wait, iter_on_host, overlapped


class EarlyLane(Lane):
    """The fastest device there can be: it has copied before it is asked for the result."""

    def copy(self, host: Tensor, batch: Tensor) -> Wait:
        host.copy_(batch)
        return lambda: None


class LateLane(Lane):
    """The slowest device there can be: it copies only when somebody waits."""

    def copy(self, host: Tensor, batch: Tensor) -> Wait:
        def wait() -> None:
            host.copy_(batch)

        return wait


def numbered(count: int, events: list[str] | None = None) -> Iterator[Tensor]:
    for index in range(count):
        if events is not None:
            events.append(f"rendered {index}")
        # the last batch of a video is smaller
        yield torch.full((4 if index < count - 1 else 1, 2), index, dtype=torch.uint8)


@pytest.mark.parametrize("lane", [EarlyLane, LateLane])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 9])
def test_batches_arrive_whole_and_in_order(lane: type[Lane], count: int) -> None:
    seen = [(host.clone(), len(host)) for host in overlapped(numbered(count), lane())]
    assert [len(host) for host, _ in seen] == [len(batch) for batch in numbered(count)]
    for (host, _), batch in zip(seen, numbered(count), strict=True):
        assert torch.equal(host, batch)


def test_the_next_batch_is_asked_for_before_one_is_waited_for() -> None:
    events: list[str] = []
    for index, _ in enumerate(overlapped(numbered(4, events), LateLane())):
        events.append(f"arrived {index}")
    order = "rendered 0, rendered 1, arrived 0, rendered 2, arrived 1, rendered 3, arrived 2, arrived 3"
    assert events == order.split(", ")


def test_two_buffers_serve_any_number_of_batches() -> None:
    places = {host.data_ptr() for host in overlapped(numbered(50), EarlyLane())}
    assert len(places) == 2


def test_a_cpu_neither_copies_nor_works_ahead() -> None:
    events: list[str] = []
    batches = iter_on_host(numbered(3, events), torch.device("cpu"))
    next(batches)
    assert events == ["rendered 0"]
