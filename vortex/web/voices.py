"""Text spoken by the server: the voices, and one speech engine for all jobs."""

from __future__ import annotations

import threading

from vortex.errors import InputError, MissingExtraError
from vortex.extras.installed import why_not_installed
from vortex.extras.kokoro import list_voices
from vortex.extras.speech import SpeechEngine, Voice, load_speech_engine, synthesize
from vortex.pipeline import Voiced


class VoiceBox:
    """Loads the speech engine at the first text, and keeps it. Safe to call from any thread."""

    def __init__(self, max_duration_s: float) -> None:
        self._max_duration_s = max_duration_s
        self.why_not = why_not_installed("speech")
        """Why no text can be spoken here, or None."""
        self.voices: tuple[Voice, ...] = () if self.why_not else list_voices()
        self._engine: SpeechEngine | None = None
        self._lock = threading.Lock()

    def check(self, voice: str) -> None:
        """Make sure that a text can be spoken by a voice.

        Raises:
            MissingExtraError: no text can be spoken here.
            InputError: there is no such voice.
        """
        if self.why_not:
            raise MissingExtraError(f"The server cannot speak: {self.why_not}")
        names = [known.name for known in self.voices]
        if voice not in names:
            raise InputError(f"Unknown voice {voice!r}; this server has {', '.join(names)}.")

    def speak(self, text: str, *, voice: str, speed: float, preset: str) -> Voiced:
        """Return a text as sound, with the times of its phonemes.

        Raises:
            InputError: too long, or what :func:`vortex.extras.speech.synthesize` raises.
        """
        with self._lock:
            self._engine = self._engine or load_speech_engine()
        speech = synthesize(text, self._engine, voice=voice, speed=speed, preset=preset)
        length_s, most_s = float(speech.audio.duration_s), self._max_duration_s
        if length_s > most_s:
            raise InputError(f"The text takes {length_s:.0f} s; at most {most_s:g} s are allowed here.")
        return Voiced(speech.audio, speech.words, speech.phonemes)
