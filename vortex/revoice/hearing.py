"""How a person moves the mouth in speech, learned from the sound of the clip itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from vortex.errors import AudioError
from vortex.lipsync.acoustic import ACOUSTIC_HZ
from vortex.lipsync.recognize import recognize_phonemes, recognize_visemes
from vortex.lipsync.sync import MouthTrack, compare
from vortex.media.audio import load_video_sound, resample
from vortex.motion.drive import drive
from vortex.performance import SOUND_HZ
from vortex.revoice.library import MouthLibrary
from vortex.revoice.lips import GAP, Mouth, learn_speech, voice_moves
from vortex.types import F64, Audio, PhonemeSpan, VisemeTrack

MIN_CORRELATION = 0.3
"""With less, the sound is not that of this mouth."""
MIN_FRAMES = 60
"""Fewer frames tell nothing."""


def hear_person(library: MouthLibrary, path: Path, times_s: F64, fps: Fraction) -> Mouth:
    """Return the library's mouth with what its clip's sound tells of its speech, if it tells anything."""
    try:
        sound = load_video_sound(path, SOUND_HZ, float(times_s[0]))
    except AudioError:
        return library.mouth
    length_s = float(times_s[-1] - times_s[0]) + 1 / float(fps)
    audio = Audio(sound.samples[: round(length_s * SOUND_HZ)], SOUND_HZ)
    spans = recognize_phonemes(resample(audio.samples, SOUND_HZ, ACOUSTIC_HZ)).spans
    visemes = recognize_visemes(audio, fps, phonemes=spans)
    return _learn_mouth(library, spans, visemes, times_s)


def _learn_mouth(
    library: MouthLibrary, spans: Sequence[PhonemeSpan], visemes: VisemeTrack, times_s: F64
) -> Mouth:
    """Return the library's mouth with what the sounds of its clip tell; they may be early or late."""
    count, measured = len(visemes.weights), slice(len(times_s))
    rows = np.floor((times_s - times_s[0]) * float(visemes.fps) + 0.5).astype(int)
    lips = library.measures.lips[measured, GAP]
    opening = np.full(count, np.nan, np.float32)
    inside = (rows < count) & library.usable[measured]
    opening[rows[inside]] = lips[inside]
    if inside.sum() < MIN_FRAMES:
        return library.mouth
    synchrony = compare(MouthTrack(opening, 0.0, visemes.fps), spans)
    if synchrony.correlation < MIN_CORRELATION:
        return library.mouth
    heard = rows - round(synchrony.offset_frames)
    known = library.usable[measured] & (heard >= 0) & (heard < count)
    moves = voice_moves(drive(visemes))[heard[known]]
    mouth = library.mouth
    return replace(mouth, speech=learn_speech(moves, library.measures.lips[measured][known], mouth.rest))
