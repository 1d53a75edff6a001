"""From a line of text to a checked video: speech, portrait, video and verification as one production."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from vortex.extras.speech import DEFAULT_VOICE, Speech, load_speech_engine, synthesize
from vortex.motion.presets import PresetSequence
from vortex.pipeline import StageClock, Voiced, animate
from vortex.portrait import load_portrait
from vortex.types import Hook, RenderReport


def speak_file(
    portrait: str | Path,
    text: str,
    out: str | Path,
    *,
    voice: str = DEFAULT_VOICE,
    speed: float = 1.0,
    speech_engine: str = "kokoro",
    engine: str = "mesh",
    preset: PresetSequence = "neutral",
    fps: float | str | Fraction = 24,
    size_px: int = 512,
    duration_s: float | None = None,
    seed: int | None = None,
    paste_back: bool = False,
    device: str | None = None,
    quality: str = "full",
    mark: bool = True,
    hook: Hook | None = None,
) -> tuple[RenderReport, Speech]:
    """Make a video in which a portrait speaks a text; return the report and the speech.

    The lips follow the times that the speech engine itself plans for its sounds; nothing is recognised.
    ``voice``, ``speed``, ``speech_engine`` and ``preset`` are those of
    :func:`vortex.extras.speech.synthesize`, the other arguments and what is raised those of
    :func:`vortex.pipeline.animate_file`.
    """
    spoken: list[Speech] = []

    def speak() -> Voiced:
        speaker = load_speech_engine(speech_engine)
        speech = synthesize(text, speaker, voice=voice, speed=speed, preset=preset, hook=hook)
        spoken.append(speech)
        return Voiced(speech.audio, speech.words, speech.phonemes)

    report = animate(
        lambda: load_portrait(portrait),
        speak,
        out,
        engine=engine,
        preset=preset,
        fps=fps,
        size_px=size_px,
        duration_s=duration_s,
        seed=seed,
        paste_back=paste_back,
        device=device,
        quality=quality,
        mark=mark,
        clock=StageClock(hook),
    )
    return report, spoken[0]
