"""A clip runs to and fro, frame by frame, and turns round where the head is still."""

from __future__ import annotations

import numpy as np

from vortex.revoice.order import fades, frame_order, new_scenes

NO_CUTS = np.zeros(0, np.int64)


def test_a_short_sound_shows_the_beginning() -> None:
    np.testing.assert_array_equal(frame_order(5, np.ones(20), NO_CUTS), np.arange(5))


def test_a_long_sound_runs_to_and_fro_without_a_jump() -> None:
    order = frame_order(200, np.ones(30), NO_CUTS)
    assert len(order) == 200
    assert set(np.abs(np.diff(order))) == {1}
    assert order.min() >= 0 and order.max() < 30


def test_it_turns_where_the_head_is_still() -> None:
    motion = np.ones(50)
    motion[[3, 45]] = 0
    order = frame_order(400, motion, NO_CUTS)
    turns = order[1:-1][np.diff(order)[1:] != np.diff(order)[:-1]]
    assert set(turns) == {3, 45}


def test_a_clip_of_one_frame_holds() -> None:
    np.testing.assert_array_equal(frame_order(4, np.zeros(1), NO_CUTS), 0)


def test_fades_rise_beside_what_is_hidden() -> None:
    visible = np.array([True] * 6 + [False] + [True] * 3)
    share = fades(visible, 3)
    np.testing.assert_allclose(share, [1, 1, 1, 0.75, 0.5, 0.25, 0, 0.25, 0.5, 0.75])
    np.testing.assert_array_equal(fades(np.ones(4, bool), 3), 1)
    np.testing.assert_array_equal(fades(np.zeros(4, bool), 3), 0)


def test_scenes_begin_at_cuts_forwards_and_backwards() -> None:
    order = np.array([0, 1, 2, 3, 2, 1, 0])
    begins = new_scenes(order, np.array([2]))
    np.testing.assert_array_equal(begins, [False, False, True, False, False, True, False])
    assert not new_scenes(order, NO_CUTS).any()


def test_a_scene_fades_by_itself() -> None:
    """What is hidden in the second scene does not fade the first one."""
    visible = np.array([True] * 3 + [False] * 2 + [True] * 2 + [True] * 2)
    begins = np.isin(np.arange(9), [3, 7])
    np.testing.assert_allclose(fades(visible, 3, begins), [1, 1, 1, 0, 0, 0.25, 0.5, 1, 1])
