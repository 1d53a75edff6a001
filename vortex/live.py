"""A face that talks while it is spoken to: sound in as it comes, frames out in time with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vortex.audio import frame_spans, mono_chunk
from vortex.engines.base import Engine, Prepared, load_engine
from vortex.lipsync.stream import LOOK_AHEAD_S, STEP_FRAMES, VisemeStream
from vortex.motion.presets import PresetSequence
from vortex.motion.stream import MotionStream
from vortex.portrait import load_portrait
from vortex.types import DRIVING_SAMPLE_RATE_HZ, Frame, VisemeTrack, parse_fps, parse_seed

F32 = npt.NDArray[np.float32]

RESTART_S = 0.1
"""After a pause in what arrives, this much must have come before it is heard, so that small gaps stay out."""


@dataclass(frozen=True, slots=True, eq=False)
class LiveFrame:
    """One frame with its sound: ``index`` from 0, ``image`` (H, W, 3) uint8 RGB, ``samples`` (N,) float32.

    Frame i is shown while samples [i, i + 1) / fps are heard; laid end to end, the samples are the sound.
    """

    index: int
    image: Frame
    samples: F32


class LiveFace:
    """One prepared portrait that follows one voice. Not safe for threads: it belongs to whoever pushes.

    What comes out depends on the sound and the seed alone, not on the clock or on how the sound is cut.
    Memory does not grow with the sound.
    """

    def __init__(
        self,
        engine: Engine,
        prepared: Prepared,
        *,
        fps: float | str | Fraction = 24,
        preset: PresetSequence = "neutral",
        seed: int | None = None,
        sample_rate_hz: int = DRIVING_SAMPLE_RATE_HZ,
    ) -> None:
        """``engine`` may serve others at the same time, and stays open; ``seed``: default, a new one.

        Raises:
            InputError: an impossible frame rate, sample rate, seed or preset.
        """
        self.seed, self.fps, self.sample_rate_hz = parse_seed(seed), parse_fps(fps), sample_rate_hz
        self._engine, self._prepared = engine, prepared
        self._visemes = VisemeStream(self.fps, sample_rate_hz)
        self._motion = MotionStream(self.fps, preset, self.seed)
        self._waiting = np.zeros(0, np.float32)  # sound whose frames are not out yet
        self._frames = 0

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the frames."""
        return self._prepared.size_px

    @property
    def delay_s(self) -> float:
        """How far the sound must have come beyond the beginning of a frame before that frame comes out."""
        return LOOK_AHEAD_S + (STEP_FRAMES - 0.5) / float(self.fps)

    def push(self, samples: npt.ArrayLike) -> Iterator[LiveFrame]:
        """Hear (N,) more samples, mono in [-1, 1]; return the frames that are certain now, or none.

        The sound is heard at once, the frames are rendered as they are taken.

        Raises:
            AudioError: not (N,), or samples that are not finite.
        """
        chunk = mono_chunk(samples)
        visemes = self._visemes.push(chunk)
        self._waiting = np.concatenate([self._waiting, np.clip(chunk, -1, 1)])
        return self._follow(visemes)

    def finish(self) -> Iterator[LiveFrame]:
        """End the sound and return the frames that are left: together, as many as the sound has."""
        return self._follow(self._visemes.finish())

    def stream(self, chunks: Iterable[npt.ArrayLike]) -> Iterator[LiveFrame]:
        """Yield the frames of a voice that comes in chunks of any length, each as soon as it is certain."""
        for chunk in chunks:
            yield from self.push(chunk)
        yield from self.finish()

    def change_preset(self, name: str) -> None:
        """Pass smoothly to another preset.

        Raises:
            UnknownPresetError: no such preset.
        """
        self._motion.change_preset(name)

    def _follow(self, visemes: VisemeTrack) -> Iterator[LiveFrame]:
        first, self._frames = self._frames, self._frames + len(visemes.weights)
        spans = frame_spans(len(visemes.weights), self.fps, self.sample_rate_hz, first)
        spans -= spans[0]
        # the last frame of a sound can reach half a frame beyond its end
        sound = np.pad(self._waiting, (0, max(int(spans[-1]) - len(self._waiting), 0)))
        self._waiting = sound[spans[-1] :]
        # products of matrices are rounded by their shape: in equal steps they do not depend on the chunks
        steps = range(0, len(visemes.weights), STEP_FRAMES)
        motions = [self._motion.push(_rows(visemes, at, at + STEP_FRAMES)) for at in steps]
        images = (image for motion in motions for image in self._engine.iter_frames(self._prepared, motion))
        return (
            LiveFrame(first + row, image, sound[spans[row] : spans[row + 1]])
            for row, image in enumerate(images)
        )


class LiveTalk:
    """A face that lives on by the clock: it says what it has been given, and is idle when it has nothing.

    For speech that comes in bursts, such as that of an agent: it may come faster than it is spoken, or not at
    all. Time is the caller's, so that this class can be tested, and run faster than life.
    """

    def __init__(self, face: LiveFace) -> None:
        """Time 0 is the first call of :meth:`advance`."""
        self._face = face
        self._given: deque[F32] = deque()
        self._given_samples = 0
        self._heard_samples = 0
        self._restarting, self._no_more = True, False

    @property
    def unspoken_s(self) -> float:
        """Seconds of sound that were given and are not yet spoken."""
        return self._given_samples / self._face.sample_rate_hz

    def say(self, samples: npt.ArrayLike) -> None:
        """Add (N,) samples, mono in [-1, 1], to what is to be said.

        Raises:
            AudioError: not (N,), or samples that are not finite.
        """
        chunk = mono_chunk(samples).copy()
        self._given.append(chunk)
        self._given_samples += len(chunk)
        self._no_more = False

    def end_of_speech(self) -> None:
        """Say that no more comes for now, so that the last bit is not waited upon."""
        self._no_more = True

    def interrupt(self) -> float:
        """Forget what is not yet spoken; the face falls silent. Returns its length in seconds."""
        dropped_s = self.unspoken_s
        self._given.clear()
        self._given_samples = 0
        return dropped_s

    def advance(self, now_s: float) -> Iterator[LiveFrame]:
        """Live on until ``now_s`` seconds after the start; return the frames that are certain now."""
        due = int(now_s * self._face.sample_rate_hz) - self._heard_samples
        if due <= 0:
            return iter(())
        self._heard_samples += due
        return self._face.push(self._take(due))

    def _take(self, count: int) -> F32:
        """Return the next ``count`` samples: given sound while there is some, silence after it."""
        if self._restarting and not self._no_more and self.unspoken_s < RESTART_S:
            return np.zeros(count, np.float32)
        taken: list[F32] = []
        left = count
        while left and self._given:
            chunk = self._given.popleft()
            taken.append(chunk[:left])
            if len(chunk) > left:
                self._given.appendleft(chunk[left:])
            left -= len(taken[-1])
        self._given_samples -= count - left
        self._restarting = left > 0
        return np.concatenate([*taken, np.zeros(left, np.float32)])


def _rows(visemes: VisemeTrack, start: int, end: int) -> VisemeTrack:
    """Return some rows of a track."""
    return VisemeTrack(visemes.weights[start:end], visemes.loudness[start:end], visemes.fps)


def open_live_face(
    portrait: str | Path,
    *,
    engine: str = "mesh",
    preset: PresetSequence = "neutral",
    fps: float | str | Fraction = 24,
    size_px: int = 512,
    seed: int | None = None,
    sample_rate_hz: int = DRIVING_SAMPLE_RATE_HZ,
    paste_back: bool = False,
    device: str | None = None,
) -> LiveFace:
    """Return a face that follows a voice as it comes.

    Args:
        portrait: picture with a face; see :func:`vortex.portrait.load_portrait`.
        engine: "mesh" or "liveportrait", which needs a GPU that keeps up.
        preset: neutral, excited, manic or calm, or a timed sequence such as "neutral,excited@3.5".
        fps: frames per second, exact: 24, "30000/1001".
        size_px: side of the square frames; not used with ``paste_back``.
        seed: decides blinks, glances and sway; default, a new one.
        sample_rate_hz: that of the sound that will come.
        paste_back: render the whole picture at its own size instead of a square round the face.
        device: for liveportrait, "cuda" or "cpu".

    Raises:
        InputError: bad input or argument.
        EngineError, WeightsError, MissingExtraError: the engine cannot run here.
    """
    renderer = load_engine(engine, device=device)
    prepared = renderer.prepare(load_portrait(portrait), size_px=size_px, paste_back=paste_back)
    return LiveFace(renderer, prepared, fps=fps, preset=preset, seed=seed, sample_rate_hz=sample_rate_hz)
