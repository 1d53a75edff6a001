"""What a living face does unasked: blinks, glances, sway, breath. Every effect has a generator of its own."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]

MIN_BLINK_GAP_S = 2.0
MAX_BLINK_GAP_S = 6.0
BLINK_CLOSE_S = 0.09
BLINK_OPEN_S = 0.17
"""A lid falls about twice as fast as it rises."""
SACCADE_S = 0.06
KNOT_S = 0.1
"""Spacing of the samples of slow movement, from which the frames are interpolated."""


def blink(period_s: F32, pauses_s: npt.NDArray[np.floating], fps: Fraction, rng: np.random.Generator) -> F32:
    """Return (T,) in [0, 1], 1 with the lids shut.

    ``period_s`` (T,) is the mean gap at each frame; gaps scatter round it within 2 to 6 s. A blink that falls
    within 0.4 s of one of ``pauses_s``, where a phrase ends, moves there, as people do.
    """
    frames = len(period_s)
    time_s = (np.arange(frames) + 0.5) / float(fps)
    duration_s = frames / float(fps)
    result = np.zeros(frames)
    at_s = 0.6 + rng.uniform(0.2, 1.6)
    while at_s < duration_s:
        if len(pauses_s):
            nearest = float(pauses_s[np.abs(pauses_s - at_s).argmin()])
            at_s = nearest if abs(nearest - at_s) < 0.4 and nearest > 0.3 else at_s
        phase = time_s - at_s
        closing = np.clip(1 + phase / BLINK_CLOSE_S, 0, 1)
        opening = np.clip(1 - (phase - 0.03) / BLINK_OPEN_S, 0, 1)
        lid = np.minimum(closing, opening)
        result = np.maximum(result, lid * lid * (3 - 2 * lid))
        mean_s = float(period_s[min(int(at_s * float(fps)), frames - 1)])
        # the nudge to a pause may not bring two blinks closer than people have them
        gap_s = np.clip(mean_s * rng.lognormal(0, 0.3), MIN_BLINK_GAP_S + 0.8, MAX_BLINK_GAP_S - 0.8)
        at_s += float(gap_s)
    return np.asarray(result, np.float32)


def gaze(frames: int, fps: Fraction, rng: np.random.Generator) -> F32:
    """Return (T, 2) in [-1, 1], right and down for the viewer: fixations with quick jumps between them.

    Most of the time the eyes rest near the camera; now and then they glance away.
    """
    duration_s = frames / float(fps)
    count = int(duration_s / 0.5) + 2
    holds_s = rng.uniform(0.5, 2.4, count)
    away = rng.random(count) < 0.25
    targets = rng.normal(0, 1, (count, 2)) * np.where(away, 0.6, 0.14)[:, None] * [1.0, 0.5]
    targets[0] = 0
    starts_s = np.cumsum(holds_s) - holds_s[0]
    time_s = (np.arange(frames) + 0.5) / float(fps)
    index = np.clip(np.searchsorted(starts_s, time_s, side="right") - 1, 0, count - 1)
    before = targets[np.maximum(index - 1, 0)]
    u = np.clip((time_s - starts_s[index]) / SACCADE_S, 0, 1)[:, None]
    return np.asarray(np.clip(before + (targets[index] - before) * u * u * (3 - 2 * u), -1, 1), np.float32)


def sway(frames: int, fps: Fraction, rng: np.random.Generator) -> F32:
    """Return (T, 3) pitch, yaw, roll of about unit size: noise below 0.5 Hz, as of a head held upright."""
    duration_s = frames / float(fps) + 2 * KNOT_S
    knots = int(np.ceil(duration_s / KNOT_S)) + 1
    frequencies_hz = np.array([0.07, 0.13, 0.21, 0.34, 0.47])
    amplitudes = frequencies_hz**-0.6
    amplitudes /= np.sqrt((amplitudes**2).sum() / 2)
    phases = rng.uniform(0, 2 * np.pi, (3, len(frequencies_hz)))
    detune = rng.uniform(0.85, 1.15, phases.shape)
    time_s = np.arange(knots) * KNOT_S
    waves = np.sin(2 * np.pi * time_s[:, None, None] * frequencies_hz * detune + phases)
    curves = (waves * amplitudes).sum(axis=2)
    at_s = (np.arange(frames) + 0.5) / float(fps)
    eased = np.minimum(1, at_s / 0.8)
    # the picture's own pose comes first
    curve = np.stack([np.interp(at_s, time_s, column) for column in (curves - curves[0]).T], axis=1)
    return np.asarray(curve * (eased * eased * (3 - 2 * eased))[:, None], np.float32)


def breath(frames: int, fps: Fraction, rng: np.random.Generator) -> F32:
    """Return (T,) in [-1, 1]: one breath every four seconds or so."""
    time_s = (np.arange(frames) + 0.5) / float(fps)
    return np.asarray(np.sin(2 * np.pi * (time_s / rng.uniform(3.6, 4.6) + rng.random())), np.float32)
