"""The interface of a model that turns a voice into the motion of LivePortrait's keypoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

from vortex.motion.transfer import joined_keypoints
from vortex.types import F32, Audio, KeypointTrack

REGIONS = ("lips", "face", "all")
"""What a learned motion moves: the lips; with brows, lids and gaze; with the head, too."""


class KeypointStream(Protocol):
    """The motion of one voice while it arrives. Not safe for threads; memory does not grow with the voice."""

    def push(self, samples: F32) -> KeypointTrack:
        """Add (N,) samples, mono in [-1, 1]; return the frames that are final now, or none."""

    def finish(self) -> KeypointTrack:
        """End the voice and return the remaining frames; all together are ceil(seconds * fps)."""

    def rest(self) -> KeypointTrack:
        """Return one frame, the face before the voice starts; only after a frame of it was returned."""


class AudioToMotion(Protocol):
    """A loaded model. Any number of threads may call it at once.

    The same sound and seed give the same motion, however the sound is cut into chunks; nothing touches the
    global random state. Frame i shows the middle of [i, i + 1) / fps of the sound.
    """

    name: str
    """Its name in :data:`vortex.audio_motion.registry.AUDIO_MOTIONS`."""
    sample_rate_hz: int
    """Rate of the sound that streams take."""
    fps: Fraction

    def stream(self, seed: int) -> KeypointStream:
        """Return a stream for one voice."""


@dataclass(frozen=True, slots=True)
class AudioMotionSpec:
    """One model of the registry; making a spec imports no heavy package.

    ``load(device)`` returns the model on "cpu" or a GPU such as "cuda:0". ``check()`` raises
    MissingExtraError or WeightsError, with the command that helps, where the model cannot run; it loads
    nothing. ``memory_bytes`` is the most memory that it uses, work space included.
    """

    name: str
    load: Callable[[str], AudioToMotion]
    check: Callable[[], None]
    memory_bytes: int


PUSHED_S = 4
"""Sound given to a stream at a time, so that no second copy of a long one is in memory."""


def keypoints_of_voice(
    model: AudioToMotion,
    audio: Audio,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> KeypointTrack:
    """Return the motion of a whole sound, at the rate of the model; its neutral frame is the face at rest.

    ``on_progress`` is called with the samples that were given to the model, and all of them; what it raises
    ends the work.
    """
    import soxr

    stream, total = model.stream(seed), len(audio.samples)
    resampler = soxr.ResampleStream(audio.sample_rate, model.sample_rate_hz, 1, dtype="float32")
    step = PUSHED_S * audio.sample_rate
    parts = []
    for first in range(0, total, step):
        on_progress(first, total)
        chunk = audio.samples[first : first + step]
        parts.append(stream.push(resampler.resample_chunk(chunk, last=first + step >= total)))
    parts.append(stream.finish())
    on_progress(total, total)
    return replace(joined_keypoints(parts), neutral=stream.rest())
