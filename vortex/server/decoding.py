"""What the server's processes do: read pictures, sounds, videos and JSON of strangers, speak and align.

Each runs in a :class:`vortex.server.processes.Worker`, which may take the memory that a file was reckoned to.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from vortex.driving import open_driver, perform_driver
from vortex.errors import InputError
from vortex.face.landmarks import SKIN_LANDMARKS
from vortex.face.listing import FoundFace, list_faces
from vortex.face.portrait import load_portrait
from vortex.lipsync.sync import measure_sync
from vortex.media.audio import load_audio, load_sound, write_wav
from vortex.media.formats import HEAD_BYTES, PICTURES, format_of
from vortex.media.picture import load_picture
from vortex.media.reading import iter_timed_frames, probe_video
from vortex.media.soundtrack import sound_header
from vortex.motion.template import load_template
from vortex.motion.transfer import Motion
from vortex.options import DriveOptions, SayOptions, VideoOptions
from vortex.performance import (
    SOUND_HZ,
    HeardSpeech,
    Performance,
    SpeechInput,
    StageClock,
    hear_speech,
)
from vortex.runtime.files import whole_file
from vortex.server.processes import TooLargeError
from vortex.session import Session
from vortex.types import F32, Audio, PhonemeSpan, Portrait, ProgressCallback, RenderReport

FILES = ("portrait", "speech", "driving", "background_picture")
"""Fields of a form that are files; in JSON their names end in ``_base64``."""
FIXED_BYTES = 200_000_000
"""What any of these tasks takes beside the size of its input: landmarks, models, code."""
PICTURE_BYTES = 24
"""Bytes for each pixel of a picture: decoded, converted and turned, 16-bit grey and transparent ones, too."""
SOUND_BYTES = 36
"""Bytes for each sample of a sound at its own rate: mixed, and with left and right apart; decoded, joined,
resampled."""
SECOND_BYTES = 800_000
"""Bytes for each second of a sound while it is aligned, which takes 400,000 (docs/robustness.md)."""
SPEAKING_BYTES = 1_500_000_000
"""What the speech model takes for a long sentence."""
JSON_BYTES = 4
"""Bytes for each byte of a JSON body whose files are base64."""
MAX_JSON_FIELDS_BYTES = 400_000
"""Characters of all fields of a JSON body but the files."""

VIDEO_BYTES = 72
"""Bytes for each pixel of a video: FFmpeg keeps several frames for each of its threads."""
RENDERING_BYTES = 500_000_000
"""What encoding takes, and the mouths of a clip."""

Spans: TypeAlias = Mapping[str, tuple[float, float]]
"""When each stage of a task ran: start and end, in seconds since the task began."""

_ARRAYS = tuple(entry.name for entry in fields(Portrait) if entry.name not in ("notes", "close_up"))
_CLOSE_UP = "close_up."
"""Begins the names of the arrays of a portrait's close-up."""


@dataclass(frozen=True, slots=True)
class FoundPortrait:
    """What the server keeps of a portrait beside its arrays; ``face_box_px`` is (x0, y0, x1, y1)."""

    width_px: int
    height_px: int
    face_box_px: tuple[float, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SpokenText:
    """What is known to be said in a video: its words, or the exact times of its phonemes."""

    transcript: str | None = None
    phonemes: tuple[PhonemeSpan, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """What a portrait does as a driver does it; of :class:`vortex.performance.Performance` what is data."""

    audio: Audio
    fps: Any
    motion: Motion
    notes: tuple[str, ...]
    driver: str | None
    stereo: F32 | None

    def performance(self) -> Performance:
        """Return it as the renderer takes it."""
        return Performance(
            self.audio,
            self.fps,
            lambda _: self.motion,
            notes=self.notes,
            driver=self.driver,
            stereo=self.stereo,
        )


def reckon_picture(path: Path, max_pixels: int) -> int:
    """Return the bytes that a picture takes to decode, by its header; ImageError above ``max_pixels``."""
    from PIL import Image

    with path.open("rb") as file:
        known = format_of(file.read(HEAD_BYTES), PICTURES)
    try:
        with Image.open(path, formats=[known.decoder] if known else []) as picture:
            width, height = picture.size
    except (Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        # Who decodes it says what is wrong, and stops at the largest size that is allowed.
        width, height = 0, 0
    # A picture above the limit is refused before its pixels are decoded.
    return FIXED_BYTES + (PICTURE_BYTES * width * height if width * height <= max_pixels else 0)


def reckon_stored(record_px: tuple[int, int]) -> int:
    """Return the bytes that it takes to look for faces in a stored picture of so many pixels each way."""
    width, height = record_px
    return FIXED_BYTES + PICTURE_BYTES * width * height


def reckon_sound(path: Path, max_duration_s: float) -> int:
    """Return the bytes that a sound takes to decode and align, by its header.

    One whose header gives no length may have the longest that is allowed.
    """
    rate_hz, length_s = sound_header(path)
    length_s = min(length_s or max_duration_s, max_duration_s)
    return FIXED_BYTES + round(length_s * (SOUND_BYTES * rate_hz + SECOND_BYTES))


def reckon_driver(path: Path, max_duration_s: float, max_pixels: int) -> int:
    """Return the bytes that a driving video, picture or template takes to read, by its header."""
    driver = open_driver(path)
    if driver.kind == "picture":
        return reckon_picture(path, max_pixels)
    if driver.kind == "template":
        return FIXED_BYTES + 4 * path.stat().st_size
    return reckon_video(path, max_duration_s, max_pixels)


def reckon_video(path: Path, max_duration_s: float, max_pixels: int) -> int:
    """Return the bytes that a video, its sound and the face in it take to read, by its header."""
    video = probe_video(path)
    width, height = video.size_px
    # One above the limit is refused before its frames are decoded.
    pixels = width * height if width * height <= max_pixels else 0
    sound = reckon_sound(path, max_duration_s) if video.has_sound else FIXED_BYTES
    return sound + VIDEO_BYTES * pixels + round(SECOND_BYTES * max_duration_s)


def reckon_clip(path: Path, said: Path | str, max_duration_s: float, max_pixels: int) -> int:
    """Return the bytes that a clip takes to get other words, a sound's or a text's, and to be written."""
    speech = reckon_text(max_duration_s) if isinstance(said, str) else reckon_sound(said, max_duration_s)
    return reckon_video(path, max_duration_s, max_pixels) + speech + RENDERING_BYTES


def find_portrait(picture: Path, target: Path, max_pixels: int, force_face: bool, face: str) -> FoundPortrait:
    """Find the face in a picture and write the portrait's arrays; raises what ``load_portrait`` raises."""
    portrait = load_portrait(picture, max_pixels=max_pixels, force_face=force_face, face=face)
    # Uncompressed, the largest one would take 11 MB, and its close-up as much.
    with whole_file(target) as part, part.open("wb") as file:
        np.savez_compressed(file, **_arrays(portrait))
    height_px, width_px = portrait.image.shape[:2]
    points = portrait.landmarks_px[:SKIN_LANDMARKS, :2]
    box = tuple(round(float(edge), 1) for edge in (*points.min(0), *points.max(0)))
    return FoundPortrait(width_px, height_px, box, portrait.notes)


def stored_portrait(path: Path, notes: tuple[str, ...]) -> Portrait:
    """Return the portrait whose arrays :func:`find_portrait` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        close_up = {name: arrays[_CLOSE_UP + name] for name in _ARRAYS if _CLOSE_UP + name in arrays}
        return Portrait(
            **{name: arrays[name] for name in _ARRAYS},
            notes=notes,
            close_up=Portrait(**close_up) if close_up else None,
        )


def faces_of(path: Path) -> tuple[FoundFace, ...]:
    """Return the faces in the picture of a stored portrait, from left to right."""
    with np.load(path, allow_pickle=False) as arrays:
        return list_faces(arrays["image"])


def _arrays(portrait: Portrait, start: str = "") -> dict[str, Any]:
    """Return the arrays of a portrait and of its close-up, by names that begin with ``start``."""
    own = {start + name: getattr(portrait, name) for name in _ARRAYS}
    return own | (_arrays(portrait.close_up, _CLOSE_UP) if portrait.close_up else {})


def rewrite_picture(path: Path, max_pixels: int) -> None:
    """Replace a picture by a PNG of it, sRGB, upright and reduced; raises what ``load_picture`` raises."""
    from PIL import Image

    picture = load_picture(path, max_pixels=max_pixels)
    with whole_file(path) as part, part.open("wb") as file:
        Image.fromarray(picture.image).save(file, "PNG")


def sound_length_s(path: Path, max_duration_s: float) -> float:
    """Return the length of a sound; AudioError for one that is damaged, silent or too long."""
    return float(load_audio(path, max_duration_s=max_duration_s).duration_s)


def check_driver(path: Path, max_duration_s: float, max_pixels: int) -> None:
    """Refuse with InputError what cannot drive, is damaged, too large or too long."""
    driver = open_driver(path)
    if driver.kind == "template":
        # A template takes milliseconds to read, a picture is decoded once more by the job.
        track = load_template(path)
        _check_length("motion template", len(track) / float(track.fps), max_duration_s)
    elif driver.kind == "picture":
        load_picture(path, max_pixels=max_pixels)
    else:
        check_video(path, "driving video", max_duration_s, max_pixels)


def check_video(path: Path, what: str, max_duration_s: float, max_pixels: int) -> None:
    """Refuse with InputError a video that is damaged, too large or too long, as far as its header tells."""
    video = probe_video(path)
    width, height = video.size_px
    if width * height > max_pixels:
        raise InputError(f"The {what} is {width}x{height}; at most {max_pixels} pixels are read.")
    # A file may say what it likes of its length: the job measures it.
    if video.frames and video.fps:
        _check_length(what, (video.frames - 1) / float(video.fps), max_duration_s)
    next(iter_timed_frames(path))


def _check_length(what: str, length_s: float, max_duration_s: float) -> None:
    if length_s > max_duration_s:
        raise InputError(f"The {what} lasts more than {max_duration_s:g} s. Cut it.")


def hear_sound(
    path: Path, options: VideoOptions, max_duration_s: float, *, on_progress: ProgressCallback
) -> tuple[HeardSpeech, Spans]:
    """Return a sound and its visemes, and when each stage ran; errors as of ``hear_speech``."""
    clock = StageClock(on_progress)
    load = partial(_speech_input, path, options, max_duration_s, on_progress)
    return hear_speech(load, options, clock), clock.spans_s


def hear_text(
    text: str, options: VideoOptions, max_duration_s: float, *, on_progress: ProgressCallback
) -> tuple[tuple[HeardSpeech, SpokenText], Spans]:
    """Speak a text; return it with its visemes, what was said, and when each stage ran.

    Raises:
        InputError: it takes longer than ``max_duration_s``; it is not spoken further then.
        What ``synthesize`` raises.
    """
    clock, said = StageClock(on_progress), list[SpokenText]()

    def load() -> SpeechInput:
        speech = _speech_input(text, options, max_duration_s, on_progress)
        said.append(SpokenText(speech.transcript, speech.phonemes))
        return speech

    heard = hear_speech(load, options, clock)
    return (heard, said[0]), clock.spans_s


def revoice_clip(
    clip: Path,
    said: Path | str,
    out: Path,
    options: VideoOptions,
    max_duration_s: float,
    *,
    on_progress: ProgressCallback,
) -> tuple[tuple[RenderReport, SpokenText], Spans]:
    """Give a clip other words, a sound's or a text's, and write the video ``out``.

    Returns the report, what was said, and when each stage ran.

    Raises:
        What :meth:`vortex.session.Session.revoice` raises.
    """
    clock, spoken = StageClock(on_progress), list[SpeechInput]()

    def load() -> SpeechInput:
        spoken.append(_speech_input(said, options, max_duration_s, on_progress))
        return spoken[0]

    report = _own_session().revoice(clip, load, out, options, clock=clock, max_clip_s=max_duration_s)
    return (report, SpokenText(spoken[0].transcript, spoken[0].phonemes)), clock.spans_s


_session: Session | None = None
"""Keeps the speech model of this process."""


def _own_session() -> Session:
    global _session
    _session = _session or Session()
    return _session


def _speech_input(
    said: Path | str, options: VideoOptions, max_duration_s: float, on_progress: ProgressCallback
) -> SpeechInput:
    """Return a sound, or a text that is spoken, and what is known of it."""
    if isinstance(said, Path):
        audio, stereo = load_sound(said, SOUND_HZ, max_duration_s=max_duration_s)
        return SpeechInput(audio, options.transcript, stereo=stereo)
    speech = _own_session().say(
        said, options, options.preset, max_duration_s=max_duration_s, on_progress=on_progress
    )
    return SpeechInput(speech.audio, speech.words, speech.phonemes, speech.notes, written=speech.written)


def speak_wav(text: str, options: SayOptions) -> bytes:
    """Return a spoken text as a WAV file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        write_wav(path, _own_session().say(text, options).audio)
        return path.read_bytes()


def watch_driver(
    path: Path,
    portrait: Path,
    notes: tuple[str, ...],
    options: DriveOptions,
    max_duration_s: float,
    *,
    on_progress: ProgressCallback,
) -> tuple[Watched, Spans]:
    """Return what a driver makes a portrait do, in blendshapes, and when each stage ran.

    Raises:
        What :func:`vortex.driving.perform_driver` raises.
    """
    clock = StageClock(on_progress)
    performance = perform_driver(open_driver(path), None, options, clock, max_duration_s=max_duration_s)
    motion = performance.motion(stored_portrait(portrait, notes))
    watched = Watched(
        performance.audio,
        performance.fps,
        motion,
        performance.notes,
        performance.driver,
        performance.stereo,
    )
    return watched, clock.spans_s


def reckon_text(max_duration_s: float) -> int:
    """Return the bytes that speaking and aligning a text takes."""
    return SPEAKING_BYTES + round(SECOND_BYTES * max_duration_s)


def sync_of(video: Path, transcript: str | None, phonemes: tuple[PhonemeSpan, ...] | None) -> dict[str, Any]:
    """Return the lip-sync of a finished video as JSON; raises what ``measure_sync`` raises."""
    return measure_sync(video, transcript=transcript, phonemes=phonemes).report.as_json()


def reckon_json(size_bytes: int) -> int:
    """Return the bytes that a JSON body takes to read: its text, its values, and its files."""
    return FIXED_BYTES + JSON_BYTES * size_bytes


def unpack_json(body: Path, folder: Path, max_bytes: int) -> dict[str, Any]:
    """Write the files of a JSON body to ``folder`` and return the other fields.

    Raises:
        ValueError: not JSON.
        InputError: no object, a file that is no base64, or fields that are too long.
        TooLargeError: a file of more than ``max_bytes``.
    """
    try:
        fields_of = json.loads(body.read_bytes())
    except RecursionError as exc:
        raise ValueError("it is nested too deep") from exc
    if not isinstance(fields_of, dict):
        raise InputError("The body is not a JSON object.")
    for name in FILES:
        text = fields_of.get(f"{name}_base64")
        if isinstance(text, str):
            _decode_base64(text, folder / name, max_bytes)
            fields_of[f"{name}_base64"] = ""
    if len(json.dumps(fields_of)) > MAX_JSON_FIELDS_BYTES:
        raise InputError(f"The fields take more than {MAX_JSON_FIELDS_BYTES} bytes. Shorten the text.")
    return fields_of


def _decode_base64(text: str, path: Path, max_bytes: int) -> None:
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError as exc:
        raise InputError(f"{path.name}_base64 is not base64 ({exc}).") from exc
    if len(content) > max_bytes:
        raise TooLargeError(f"The {path.name} is larger than {max_bytes} bytes. Send a smaller file.")
    path.write_bytes(content)
