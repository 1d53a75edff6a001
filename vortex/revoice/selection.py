"""Which of a person's mouths each output frame shows: the cheapest sequence, by dynamic programming."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vortex.revoice.lips import GAP, LIP_MEASURES
from vortex.types import F64, I64, read_only

DRAWN = -1
"""Stands for a mouth that the mesh engine draws."""
LIP_WEIGHTS = np.array([1.6, 0.7, 1.0, 0.7, 0.6, 1.0])
"""Of :data:`vortex.revoice.lips.LIP_MEASURES`."""
LIP_SCALE = 0.03
"""Lips that differ by this in outer-eye widths cost 1."""
TURN_SCALE_DEG = 7.0
"""Heads that are turned apart by this cost 1; a roll costs nothing, because pictures can be turned."""
LIGHT_SCALE = 0.25
"""Skin whose luma differs by this factor costs 1."""
BLUR_COST = 0.6
"""Cost of a frame with no detail at all."""
NOT_SHUT_COST = 40.0
"""Cost per gap of LIP_SCALE where lips have to be shut."""
JUMP_COST, HOLD_COST, JUMP_WEIGHT = 0.5, 0.12, 0.5
"""Cost of a frame that does not follow its predecessor, of one that stands still or runs backwards, and the
weight of how much their lips differ."""
DRAWN_COST, DRAW_JUMP_COST = 9.0, 6.0
"""Cost of a drawn mouth, and of a change from or to one."""
CANDIDATES = 80
"""Mouths that are considered for a frame."""


@dataclass(frozen=True, slots=True, eq=False)
class MouthMeasures:
    """Measures of N frames: ``lips`` (N, 6), ``turns_deg`` (N, 2) pitch and yaw, ``light`` (N,) log luma.

    ``detail`` (N,) is the sharpness over that of the sharpest frames, at most 1.
    """

    lips: F64
    turns_deg: F64
    light: F64
    detail: F64

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        for name in ("lips", "turns_deg", "light", "detail"):
            object.__setattr__(self, name, read_only(getattr(self, name), np.float64))


def target_costs(wanted: MouthMeasures, library: MouthMeasures) -> F64:
    """Return (T, K): how badly each mouth of a library fits each wanted one."""
    costs = np.zeros((len(wanted.lips), len(library.lips)))
    for column in range(len(LIP_MEASURES)):
        apart = (wanted.lips[:, column, None] - library.lips[None, :, column]) / LIP_SCALE
        costs += LIP_WEIGHTS[column] * apart**2 / (1 + 0.15 * np.abs(apart))
    for axis in range(2):
        costs += ((wanted.turns_deg[:, axis, None] - library.turns_deg[None, :, axis]) / TURN_SCALE_DEG) ** 2
    costs += ((wanted.light[:, None] - library.light[None]) / LIGHT_SCALE) ** 2
    costs += BLUR_COST * (1 - library.detail)
    shut = wanted.lips[:, GAP] == 0
    costs[shut] += NOT_SHUT_COST * library.lips[:, GAP] / LIP_SCALE
    return costs


def select_mouths(
    wanted: MouthMeasures,
    library: MouthMeasures,
    numbers: I64,
    begins: npt.NDArray[np.bool_] | None = None,
) -> I64:
    """Return (T,): rows of the library for wanted frames, or DRAWN where none is near.

    ``numbers`` (K,) are the numbers of the library's frames in the clip, rising: a frame that follows its
    predecessor there costs nothing more. Where a scene ``begins`` (T,), any mouth may follow.
    """
    costs = target_costs(wanted, library)
    scaled = library.lips * np.sqrt(LIP_WEIGHTS) / LIP_SCALE
    count = min(CANDIDATES, costs.shape[1])
    best = np.argpartition(costs, count - 1, axis=1)[:, :count]
    frames = len(best)
    back = np.zeros((frames, count + 1), np.int32)
    total = np.append(costs[0, best[0]], DRAWN_COST)
    for t in range(1, frames):
        moves = transition_costs(best[t - 1], best[t], numbers, scaled)
        if begins is not None and begins[t]:
            moves = np.zeros_like(moves)
        reached = total[:, None] + moves
        back[t] = reached.argmin(axis=0)
        total = reached[back[t], np.arange(count + 1)] + np.append(costs[t, best[t]], DRAWN_COST)
    path = np.empty(frames, np.int64)
    column = int(total.argmin())
    for t in range(frames - 1, -1, -1):
        path[t] = DRAWN if column == count else best[t, column]
        column = int(back[t, column])
    return path


def transition_costs(before: I64, after: I64, numbers: I64, scaled: F64) -> F64:
    """Return (N + 1, M + 1): the cost of each mouth after each other one; the last ones are drawn."""
    step = numbers[after][None, :] - numbers[before][:, None]
    apart = np.sqrt(((scaled[after][None] - scaled[before][:, None]) ** 2).sum(axis=2))
    costs = np.full((len(before) + 1, len(after) + 1), DRAW_JUMP_COST)
    near = np.where(step == 1, 0.0, np.where(np.abs(step) <= 1, HOLD_COST, JUMP_COST + JUMP_WEIGHT * apart))
    costs[:-1, :-1] = near
    costs[-1, -1] = 0.0
    return costs
