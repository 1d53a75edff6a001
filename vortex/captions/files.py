"""Caption files beside a video, SubRip (.srt) and WebVTT (.vtt), and the option that asks for them."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vortex.captions.cues import Cue
from vortex.errors import InputError
from vortex.media.containers import PIPE
from vortex.runtime.files import write_whole

NONE, BURN = "none", "burn"


def parse_captions(value: str) -> str:
    """Return the kinds of captions, in the order of :data:`CAPTION_KINDS` with a comma between, or "none".

    Raises:
        InputError: an unknown kind, or "none" beside another.
    """
    given = [part.strip().lower() for part in str(value).split(",")]
    if given == [NONE]:
        return NONE
    unknown = [kind for kind in given if kind not in CAPTION_KINDS]
    if unknown:
        known = ", ".join(CAPTION_KINDS)
        raise InputError(
            f"captions is {str(value)[:40]!r}; give none, or one or more of {known}, such as srt,burn."
        )
    return ",".join(kind for kind in CAPTION_KINDS if kind in given)


def caption_kinds(captions: str) -> frozenset[str]:
    """Return the kinds that an option, as :func:`parse_captions` returns it, asks for."""
    return frozenset(captions.split(",")) - {NONE}


def caption_paths(video: Path, captions: str) -> list[Path]:
    """Return the caption files of a video, which have its name and another suffix.

    Raises:
        InputError: a pipe, which has no files beside it.
    """
    if video == PIPE and caption_kinds(captions) & CAPTION_FORMATS.keys():
        raise InputError(f"captions is {captions!r}, but a pipe has no files beside it. Give burn.")
    return [video.with_suffix(f".{kind}") for kind in CAPTION_FORMATS if kind in caption_kinds(captions)]


def write_captions(path: Path, cues: Sequence[Cue]) -> None:
    """Write a caption file, UTF-8, in the format of its suffix; it appears when it is whole."""
    write_whole(path, CAPTION_FORMATS[path.suffix.removeprefix(".")](cues))


def to_srt(cues: Sequence[Cue]) -> str:
    """Return cues as SubRip: number, times with a comma before the milliseconds, lines."""
    return "".join(
        f"{number}\n{_time(cue.start_s, ',')} --> {_time(cue.end_s, ',')}\n{_lines(cue)}\n\n"
        for number, cue in enumerate(cues, start=1)
    )


def to_vtt(cues: Sequence[Cue]) -> str:
    """Return cues as WebVTT (W3C); its markup characters are written as entities."""
    blocks = (
        f"{_time(cue.start_s, '.')} --> {_time(cue.end_s, '.')}\n{html.escape(_lines(cue), quote=False)}\n"
        for cue in cues
    )
    return "\n".join(["WEBVTT\n", *blocks])


CAPTION_FORMATS: Mapping[str, Callable[[Sequence[Cue]], str]] = {"srt": to_srt, "vtt": to_vtt}
CAPTION_KINDS = (*CAPTION_FORMATS, BURN)


def _lines(cue: Cue) -> str:
    return "\n".join(cue.lines)


def _time(at_s: float, point: str) -> str:
    seconds, ms = divmod(round(at_s * 1000), 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{ms:03d}"
