"""The sound of a clip with other words: how long it is, and the clip's own sound under the voice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vortex.errors import InputError
from vortex.media.audio import load_video_channels, within_range
from vortex.options import CLOSED, AnimateOptions, SpeakOptions
from vortex.performance import Performance
from vortex.revoice.clip import Clip
from vortex.types import F32, Audio

CROSSFADE_S = 0.5
"""Where the clip's own sound starts again because the voice is longer, its end fades into its beginning."""


def clip_length_s(speech: Audio, options: AnimateOptions | SpeakOptions, most_s: float) -> float:
    """Return how many seconds of a clip are needed for a speech, at most ``most_s`` of its rest."""
    if options.duration_s is not None:
        return options.duration_s
    spoken_s = float(speech.duration_s)
    return max(most_s, spoken_s) if options.rest == CLOSED else spoken_s


def with_rest(speech: Audio, clip: Clip, options: AnimateOptions | SpeakOptions) -> Audio:
    """Return the speech, with silence up to the end of a clip whose rest is shown with closed lips."""
    length = round(clip.duration_s * speech.sample_rate)
    missing = length - len(speech.samples)
    if options.rest != CLOSED or options.duration_s is not None or missing <= 0:
        return speech
    return Audio(np.pad(speech.samples, (0, missing)), speech.sample_rate)


def with_own_sound(performance: Performance, clip: Clip, level_db: float | None) -> Performance:
    """Return a performance whose sound has the clip's own under it, at a level in dB of its own; None: not.

    The mouth follows the voice alone, and so it is added when the motion is known.

    Raises:
        InputError: the clip has no sound.
        AudioError: its sound cannot be decoded.
    """
    if level_db is None:
        return performance
    if not clip.has_sound:
        raise InputError(
            f"keep_sound_db is {level_db:g}, but '{clip.path.name}' has no sound. Leave keep_sound_db out."
        )
    voice, stereo, gain = performance.audio, performance.stereo, np.float32(10 ** (level_db / 20))
    own, apart = load_video_channels(clip.path, voice.sample_rate, float(clip.times_s[0]))
    heard = round(float(clip.duration_s) * voice.sample_rate)

    def under(samples: F32) -> F32:
        """Return one channel of the clip, as long and as loud as it is heard."""
        return gain * _repeated(samples[:heard], len(voice.samples), round(CROSSFADE_S * voice.sample_rate))

    mixed = within_range(voice.samples + under(own.samples))
    if stereo is not None or apart is not None:
        above = voice.samples[:, None] if stereo is None else stereo
        sides = own.samples[:, None].repeat(2, axis=1) if apart is None else apart
        stereo = within_range(above + np.stack([under(side) for side in sides.T], axis=1))
    return replace(performance, audio=Audio(mixed, voice.sample_rate), stereo=stereo)


def _repeated(samples: F32, length: int, fade: int) -> F32:
    """Return ``length`` samples: those given, again and again, each end faded into the next beginning."""
    fade = min(fade, len(samples) // 2)
    step = len(samples) - fade
    if not fade or len(samples) >= length:
        return np.pad(samples[:length], (0, max(length - len(samples), 0)))
    rise = np.sin(np.linspace(0, np.pi / 2, fade, dtype=np.float32))
    faded = samples.copy()
    faded[:fade] *= rise
    faded[step:] *= rise[::-1]
    whole = np.zeros(length + len(samples), np.float32)
    for start in range(0, length, step):
        whole[start : start + len(samples)] += faded
    whole[:fade] = samples[:fade]
    return whole[:length]
