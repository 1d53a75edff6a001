"""Steps of minimum jerk and waves: their laws, and the same values however the times are asked for."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from vortex.motion.steps import Steps, Waves, minimum_jerk


def test_minimum_jerk_starts_and_ends_at_rest() -> None:
    u = np.linspace(0, 1, 10_001)
    value = minimum_jerk(u)
    speed = np.gradient(value, u)
    acceleration = np.gradient(speed, u)
    assert value[0] == 0 and value[-1] == 1 and (minimum_jerk(np.array([-1.0, 2.0])) == [0, 1]).all()
    assert np.abs(speed[[0, -1]]).max() < 1e-3 and np.abs(acceleration[[1, -2]]).max() < 0.02
    # Flash and Hogan 1985: the peak of the speed is 1.875 times the mean, halfway.
    assert speed.max() == pytest.approx(1.875, abs=1e-3) and u[speed.argmax()] == pytest.approx(0.5, abs=1e-3)


def test_overlapping_steps_add_up_and_a_pulse_returns() -> None:
    steps = Steps(2)
    steps.move_to(0.0, 1.0, [2, 0])
    steps.move_to(0.5, 1.0, [3, -1])
    steps.pulse(2.0, 0.2, 0.1, 0.4, [0, 5])
    at = steps.at(np.array([0.0, 0.5, 1.0, 1.5, 2.25, 2.7]))
    assert at == pytest.approx(np.array([[0, 0], [1, 0], [2.5, -0.5], [3, -1], [3, 4], [3, -1]]))
    assert steps.target == pytest.approx([3, -1])


def test_values_do_not_depend_on_the_chunks() -> None:
    def run(sizes: list[int]) -> np.ndarray:
        rng, steps, found = np.random.default_rng(2), Steps(1), []
        for times in np.split(np.arange(sum(sizes)) / 24, np.cumsum(sizes)[:-1]):
            for at_s in times:
                if rng.random() < 0.2:
                    steps.pulse(at_s, rng.uniform(0.1, 0.5), 0.1, rng.uniform(0.1, 2), [rng.normal()])
            found.append(steps.at(times))
        return np.concatenate(found)

    whole = run([480])
    assert np.ptp(whole) > 1
    assert np.array_equal(run([1] * 480), whole) and np.array_equal(run([7, 100, 373]), whole)


def test_waves_have_unit_size_and_less_power_at_higher_frequencies() -> None:
    curves = np.concatenate(
        [Waves(np.random.default_rng(s), 3).next(np.ones(4800, np.float32), 1 / 24) for s in range(4)], axis=1
    )
    assert curves.mean() == pytest.approx(0, abs=0.1) and curves.std() == pytest.approx(1, abs=0.1)
    power = (np.abs(np.fft.rfft(curves * np.hanning(4800)[:, None], axis=0)) ** 2).mean(axis=1)
    at_hz = np.fft.rfftfreq(4800, 1 / 24)
    edges = (0.05, 0.15, 0.45, 1.35, 4.05)
    density = [power[(at_hz > a) & (at_hz <= b)].mean() for a, b in pairwise(edges)]
    assert all(later < 0.7 * earlier for earlier, later in pairwise(density))
    # As of real heads, it falls faster than pink noise, whose power is 1 / f.
    assert density[3] < 0.2 * density[2]


def test_pace_is_the_speed_of_the_waves() -> None:
    fast = Waves(np.random.default_rng(1), 2).next(np.full(100, 2, np.float32), 0.1)
    slow = Waves(np.random.default_rng(1), 2).next(np.ones(100, np.float32), 0.2)
    assert np.allclose(fast, slow)
    waves = Waves(np.random.default_rng(1), 2)
    parts = [waves.next(np.full(n, 2, np.float32), 0.1) for n in (1, 60, 39)]
    assert np.array_equal(np.concatenate(parts), fast)
