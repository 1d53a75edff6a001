"""A sound of any length in windows that overlap, for models that see a fixed length of it.

Memory does not grow with the sound: only what the next window needs is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vortex.types import F32


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What a model gets to see: F frames from frame ``first`` on, with their sound ``samples``, (N,) float32.

    ``motion_before`` (P, M) and ``tokens_before`` (P, C) are what the model returned for the frames before;
    None where there are fewer than P.
    """

    first: int
    samples: F32
    motion_before: F32 | None
    tokens_before: F32 | None


Sample = Callable[[Window], tuple[F32, F32]]
"""Returns the motion (F, M) of a window, and the tokens (F, C) of its sound; any M and C."""


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """How a sound is cut: windows of ``frames`` start every ``hop`` frames of ``frame_samples`` samples."""

    frames: int
    hop: int
    context_frames: int
    frame_samples: int


class WindowStream:
    """Motion of one sound while it arrives. Not safe for threads.

    A window shares its first frames with the one before; there, the motion fades from one to the other. The
    last window starts earlier, so that it, too, is full of sound: zeros at its end would change what the
    model hears of the rest. A sound shorter than a window is filled up with zeros. The result does not depend
    on how the sound was cut into chunks.
    """

    def __init__(self, plan: WindowPlan, sample: Sample) -> None:
        self._plan, self._sample = plan, sample
        self._samples = np.zeros(0, np.float32)
        self._samples_from = 0  # frame with which the kept samples start
        self._motion = np.zeros((0, 0), np.float32)  # of the newest frames, with their tokens
        self._tokens = np.zeros((0, 0), np.float32)
        self._motion_from = 0
        self._window_first = -plan.hop  # of the newest window
        self._returned = 0

    def push(self, samples: F32) -> F32:
        """Add (N,) samples; return the motion (T, M) of the frames that are final now, in their order."""
        self._samples = np.concatenate([self._samples, samples])
        final = []
        while self._window_first + self._plan.hop + self._plan.frames <= self._full_frames():
            self._run(self._window_first + self._plan.hop)
            final.append(self._take(self._window_first + self._plan.hop))
        return np.concatenate(final) if final else self._motion[:0]

    def finish(self) -> F32:
        """End the sound; return the motion of the remaining frames. Part of a frame counts as one."""
        plan = self._plan
        left = len(self._samples) % plan.frame_samples
        self._samples = np.pad(self._samples, (0, (plan.frame_samples - left) % plan.frame_samples))
        frames = self._full_frames()
        if frames > self._motion_from + len(self._motion):
            missing = max(plan.frames - frames, 0) * plan.frame_samples
            self._samples = np.pad(self._samples, (0, missing))
            self._run(max(frames - plan.frames, 0))
        return self._take(frames)

    def _full_frames(self) -> int:
        """Return how many frames of sound were pushed whole."""
        return self._samples_from + len(self._samples) // self._plan.frame_samples

    def _run(self, first: int) -> None:
        """Sample the window that starts at a frame, and join its motion to that of the frames before."""
        plan = self._plan
        start = (first - self._samples_from) * plan.frame_samples
        wave = self._samples[start : start + plan.frames * plan.frame_samples]
        before = slice(first - plan.context_frames - self._motion_from, first - self._motion_from)
        known = first >= plan.context_frames
        motion, tokens = self._sample(
            Window(
                first,
                wave,
                self._motion[before] if known else None,
                self._tokens[before] if known else None,
            )
        )
        if not len(self._motion):
            self._motion, self._tokens, self._motion_from = motion, tokens, first
        else:
            self._join(first, motion, tokens)
        self._window_first = first
        self._forget(first)

    def _join(self, first: int, motion: F32, tokens: F32) -> None:
        """Fade to a new window over the frames that the last one has, too, and that were not returned yet."""
        end = self._motion_from + len(self._motion)
        shared = end - self._returned
        share = ((np.arange(shared, dtype=np.float32) + 1) / (shared + 1))[:, None]
        kept, old = np.split(self._motion, [len(self._motion) - shared])
        new, after = motion[self._returned - first : end - first], motion[end - first :]
        self._motion = np.concatenate([kept, old + share * (new - old), after])
        self._tokens = np.concatenate([self._tokens[: first - self._motion_from], tokens])

    def _forget(self, first: int) -> None:
        """Drop what no later window needs: the next one starts after ``first``."""
        plan = self._plan
        drop = max(first - plan.context_frames - self._motion_from, 0)
        self._motion, self._tokens = self._motion[drop:].copy(), self._tokens[drop:].copy()
        self._motion_from += drop
        self._samples = self._samples[(first - self._samples_from) * plan.frame_samples :].copy()
        self._samples_from = first

    def _take(self, end: int) -> F32:
        """Return the motion up to a frame that was not returned yet."""
        rows = self._motion[self._returned - self._motion_from : end - self._motion_from].copy()
        self._returned = end
        return rows
