"""Live faces: sound is pushed as it arrives, and frames come out in step with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from vortex.engines.base import Engine, Prepared
from vortex.lipsync.stream import LOOK_AHEAD_S, STEP_FRAMES, VisemeStream
from vortex.media.audio import frame_spans, mono_chunk
from vortex.motion.drive import MotionStream
from vortex.options import LiveOptions
from vortex.types import F32, Frame, MotionTrack, VisemeTrack

RESTART_S = 0.1
"""After a gap, this much sound must be queued before it is spoken: small network gaps stay inaudible."""


@dataclass(frozen=True, slots=True, eq=False)
class LiveFrame:
    """One frame with its sound: ``index`` from 0, ``image`` (H, W, 3) uint8 RGB, ``samples`` (N,) float32.

    Frame i is shown during the sound of [i, i + 1) / fps; all samples, joined, are the whole sound. Where
    frames before it were left out, it has their sound, too.
    """

    index: int
    image: Frame
    samples: F32


class LiveFace(AbstractContextManager["LiveFace"]):
    """One prepared portrait that follows one voice. Use it from one thread at a time.

    Frames depend on the sound, the options and the seed only, not on the clock or on the lengths of the
    chunks. Memory does not grow with the sound.

    ``wanted(index)`` is asked before each frame is rendered; a frame that is not wanted is left out, and the
    next one has its sound. By default, all are.
    """

    def __init__(self, engine: Engine[Any], prepared: Prepared, options: LiveOptions) -> None:
        """``engine`` may serve others at the same time, and stays open when the face is closed."""
        options = options.with_seed()
        self.options, self.fps, self.sample_rate_hz = options, options.fps, options.sample_rate_hz
        self.seed = options.seed or 0
        self._engine, self._prepared = engine, prepared
        self._visemes = VisemeStream(self.fps, self.sample_rate_hz)
        self._motion = MotionStream(self.fps, options.preset, self.seed)
        self._pending = np.zeros(0, np.float32)  # sound whose frames are not out yet
        self._frames = 0
        self._unshown = np.zeros(0, np.float32)  # sound of frames that were left out
        self.wanted: Callable[[int], bool] = lambda index: True
        self._on_close = ExitStack()

    def __exit__(self, *_: object) -> None:
        """Close the face."""
        self.close()

    def close(self) -> None:
        """Release what the face owns: its session, if :func:`vortex.open_live_face` opened one for it."""
        self._on_close.close()

    def close_with(self, callback: Callable[[], object]) -> None:
        """Have ``callback`` called when the face is closed."""
        self._on_close.callback(callback)

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the frames."""
        return self._prepared.size_px

    @property
    def delay_s(self) -> float:
        """Seconds of sound that must follow the start of a frame before the frame is returned."""
        return LOOK_AHEAD_S + (STEP_FRAMES - 0.5) / float(self.fps)

    def push(self, samples: npt.ArrayLike) -> Iterator[LiveFrame]:
        """Add (N,) samples, mono in [-1, 1]; return an iterator over the frames that are now final.

        The sound is recognised before this returns; each frame is rendered when the iterator reaches it.

        Raises:
            AudioError: not (N,), or samples that are not finite.
        """
        chunk = mono_chunk(samples)
        visemes = self._visemes.push(chunk)
        self._pending = np.concatenate([self._pending, np.clip(chunk, -1, 1)])
        return self._frames_for(visemes)

    def finish(self) -> Iterator[LiveFrame]:
        """End the sound; return an iterator over the remaining frames, up to the end of the sound."""
        return self._frames_for(self._visemes.finish())

    def stream(self, chunks: Iterable[npt.ArrayLike]) -> Iterator[LiveFrame]:
        """Yield the frames of a voice given in chunks of any length, each frame as soon as it is final."""
        for chunk in chunks:
            yield from self.push(chunk)
        yield from self.finish()

    def change_preset(self, name: str) -> None:
        """Fade to another preset.

        Raises:
            UnknownPresetError: no such preset.
        """
        self._motion.change_preset(name)

    def _frames_for(self, visemes: VisemeTrack) -> Iterator[LiveFrame]:
        first, self._frames = self._frames, self._frames + len(visemes.weights)
        spans = frame_spans(len(visemes.weights), self.fps, self.sample_rate_hz, first)
        spans -= spans[0]
        # The last frame can reach up to half a frame beyond the end of the sound.
        sound = np.pad(self._pending, (0, max(int(spans[-1]) - len(self._pending), 0)))
        self._pending = sound[spans[-1] :]
        # The rounding of a matrix product depends on its shape: equal steps make frames independent of the
        # chunks.
        steps = range(0, len(visemes.weights), STEP_FRAMES)
        motions = [self._motion.push(visemes.rows(at, at + STEP_FRAMES)) for at in steps]
        sounds = [sound[start:end] for start, end in pairwise(spans)]
        return self._rendered(first, motions, sounds)

    def _rendered(self, first: int, motions: list[MotionTrack], sounds: list[F32]) -> Iterator[LiveFrame]:
        """Yield the wanted frames, of which ``first`` is the first, with the sound of those before them."""
        index = first
        for motion in motions:
            kept = [row for row in range(len(motion)) if self.wanted(index + row)]
            images = self._render(motion, kept)
            for row in range(len(motion)):
                self._unshown = np.concatenate([self._unshown, sounds[index - first]])
                if row in kept:
                    shown, self._unshown = self._unshown, self._unshown[:0]
                    yield LiveFrame(index, next(images), shown)
                index += 1

    def _render(self, motion: MotionTrack, rows: list[int]) -> Iterator[Frame]:
        if not rows:
            return iter(())
        if len(rows) < len(motion):
            motion = MotionTrack(motion.blendshapes[rows], motion.head_pose_deg[rows], motion.fps)
        return self._engine.iter_frames(self._prepared, motion, quality=self.options.quality)


class LiveTalk:
    """A face driven by a clock: it speaks queued sound, and idles while the queue is empty.

    For speech that arrives in bursts, such as that of an agent. The caller passes the time, so that tests and
    offline rendering can run faster than real time.
    """

    def __init__(self, face: LiveFace) -> None:
        """Time 0 is the first call of :meth:`advance`."""
        self._face = face
        self._queued: deque[F32] = deque()
        self._queued_samples = 0
        self._advanced_samples = 0
        self._restarting, self._speech_ended = True, False

    @property
    def unspoken_s(self) -> float:
        """Seconds of queued sound."""
        return self._queued_samples / self._face.sample_rate_hz

    def say(self, samples: npt.ArrayLike) -> None:
        """Queue (N,) samples, mono in [-1, 1].

        Raises:
            AudioError: not (N,), or samples that are not finite.
        """
        chunk = mono_chunk(samples).copy()
        self._queued.append(chunk)
        self._queued_samples += len(chunk)
        self._speech_ended = False

    def end_of_speech(self) -> None:
        """Announce that no more sound follows for now, so that a short rest is spoken at once."""
        self._speech_ended = True

    def interrupt(self) -> float:
        """Drop the queued sound, so that the face falls silent; return its length in seconds."""
        dropped_s = self.unspoken_s
        self._queued.clear()
        self._queued_samples = 0
        return dropped_s

    def advance(self, now_s: float) -> Iterator[LiveFrame]:
        """Advance to ``now_s`` seconds after the start; return an iterator over the frames final now."""
        due = int(now_s * self._face.sample_rate_hz) - self._advanced_samples
        if due <= 0:
            return iter(())
        self._advanced_samples += due
        return self._face.push(self._take(due))

    def _take(self, count: int) -> F32:
        """Return the next ``count`` samples: queued sound, then silence."""
        if self._restarting and not self._speech_ended and self.unspoken_s < RESTART_S:
            return np.zeros(count, np.float32)
        taken: list[F32] = []
        left = count
        while left and self._queued:
            chunk = self._queued.popleft()
            taken.append(chunk[:left])
            if len(chunk) > left:
                self._queued.appendleft(chunk[left:])
            left -= len(taken[-1])
        self._queued_samples -= count - left
        self._restarting = left > 0
        return np.concatenate([*taken, np.zeros(left, np.float32)])
