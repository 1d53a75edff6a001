"""The chosen mouths are the cheapest sequence, run as they did in the clip, and shut where lips have to."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest

from vortex.revoice.lips import GAP
from vortex.revoice.selection import (
    DRAWN,
    DRAWN_COST,
    LIP_SCALE,
    LIP_WEIGHTS,
    MouthMeasures,
    select_mouths,
    target_costs,
    transition_costs,
)


def measures(lips: np.ndarray, turns_deg: np.ndarray | None = None) -> MouthMeasures:
    count = len(lips)
    turns = np.zeros((count, 2)) if turns_deg is None else turns_deg
    return MouthMeasures(lips, turns, np.zeros(count), np.ones(count))


def lips_of(gaps: list[float]) -> np.ndarray:
    lips = np.zeros((len(gaps), 6))
    lips[:, GAP] = gaps
    return lips


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("cut", [None, 2])
def test_no_other_sequence_is_cheaper(cut: int | None, seed: int) -> None:
    """All sequences of a small library are tried; nothing has to go on over a cut."""
    random = np.random.default_rng(seed)
    library, wanted = measures(random.normal(0, 0.03, (4, 6))), measures(random.normal(0, 0.04, (4, 6)))
    numbers = np.array([0, 1, 5, 6])
    costs = np.column_stack([target_costs(wanted, library), np.full(4, DRAWN_COST)])
    every = np.arange(4)
    moves = transition_costs(every, every, numbers, library.lips * np.sqrt(LIP_WEIGHTS) / LIP_SCALE)

    def cost(path: tuple[int, ...]) -> float:
        shown = sum(costs[t, row] for t, row in enumerate(path))
        steps = enumerate(pairwise(path), start=1)
        return float(shown + sum(moves[a, b] for t, (a, b) in steps if t != cut))

    best = min(product(range(5), repeat=4), key=cost)
    chosen = select_mouths(wanted, library, numbers, np.arange(4) == (-1 if cut is None else cut))
    assert cost(tuple(4 if row == DRAWN else int(row) for row in chosen)) == cost(best)


def test_a_clip_that_is_asked_for_itself_is_shown_in_its_order() -> None:
    random = np.random.default_rng(1)
    library = measures(np.cumsum(random.normal(0, 0.01, (30, 6)), axis=0))
    np.testing.assert_array_equal(select_mouths(library, library, np.arange(30)), np.arange(30))


def test_of_equal_mouths_the_one_that_follows_is_shown() -> None:
    library = measures(lips_of([0.1, 0.1, 0.1, 0.1, 0.1, 0.1]))
    chosen = select_mouths(measures(lips_of([0.1] * 4)), library, np.arange(6))
    np.testing.assert_array_equal(np.diff(chosen), 1)


def test_lips_that_have_to_shut_are_shut_though_all_else_fits_better() -> None:
    lips = lips_of([0.012, 0.0])
    lips[1, GAP + 1 :] = 0.04
    wanted = measures(lips_of([0.0]))
    np.testing.assert_array_equal(select_mouths(wanted, measures(lips), np.array([0, 9])), [1])


def test_a_mouth_that_the_clip_lacks_is_drawn() -> None:
    library = measures(lips_of([0.0, 0.01, 0.0]))
    chosen = select_mouths(measures(lips_of([0.3] * 5)), library, np.arange(3))
    np.testing.assert_array_equal(chosen, DRAWN)


def test_a_mouth_of_a_head_that_is_turned_alike_is_preferred() -> None:
    library = measures(lips_of([0.1, 0.1]), np.array([[0.0, 15.0], [0.0, 0.0]]))
    wanted = measures(lips_of([0.1]), np.array([[0.0, 14.0]]))
    np.testing.assert_array_equal(select_mouths(wanted, library, np.array([0, 9])), [0])
