"""The public functions: all that makes or measures sound and video, for programs that embed vortex."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from vortex.driving import CaptureReport
from vortex.face.portrait import PortraitSource
from vortex.generate.run import generate
from vortex.lipsync.sync import SyncReport, measure_sync
from vortex.live import LiveFace
from vortex.media.audio import SoundSource, check_wav_path, write_wav
from vortex.options import (
    AnimateOptions,
    CaptureOptions,
    CheckOptions,
    DriveOptions,
    LiveOptions,
    SayOptions,
    SpeakOptions,
    accepts,
)
from vortex.runtime.files import check_new_file
from vortex.session import Session, session_or_new
from vortex.speech.base import Speech
from vortex.types import PhonemeSpan, ProgressCallback, RenderReport

__all__ = ["animate", "capture", "check", "drive", "generate", "open_live_face", "say", "speak"]

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from vortex.options import (
        AnimateKeywords,
        CaptureKeywords,
        CheckKeywords,
        DriveKeywords,
        LiveKeywords,
        SayKeywords,
        SpeakKeywords,
    )


@accepts(AnimateOptions)
def animate(
    portrait: PortraitSource,
    speech: SoundSource,
    out: str | Path,
    *,
    force: bool = False,
    session: Session | None = None,
    on_progress: ProgressCallback | None = None,
    **options: Unpack[AnimateKeywords],
) -> RenderReport:
    """Make a talking video, MP4 with H.264 and AAC, from a picture or a clip, and a sound.

    Args:
        portrait: picture with a face: a path, bytes, an open binary file, an array (H, W, 3) uint8 in RGB
            order, or a PIL image; or the path of a video of a person, who gets other words: its frames keep
            size and rate, and all but mouth and jaw.
        speech: sound, or a video with sound: a path, bytes, an open binary file, or (samples, rate).
        out: the .mp4 to write; it appears when it is whole, and nothing is left on failure.
        force: replace a file that is there already; never one that is an input.
        session: keeps engines and portraits loaded between calls; default, one for this call.
        on_progress: see :data:`vortex.types.ProgressCallback`.
        **options: see below.

    Raises:
        InputError: bad input or option; nothing was written.
        EngineError, WeightsError, MissingExtraError: the engine cannot run here.
        EncodeError: the video cannot be written.
    """
    parsed = AnimateOptions.parse(**options)
    with session_or_new(session) as open_session:
        return open_session.animate(portrait, speech, out, parsed, force=force, on_progress=on_progress)


@accepts(DriveOptions)
def drive(
    portrait: PortraitSource,
    driving: str | os.PathLike[str],
    out: str | Path,
    *,
    force: bool = False,
    session: Session | None = None,
    on_progress: ProgressCallback | None = None,
    **options: Unpack[DriveKeywords],
) -> RenderReport:
    """Make a video of a picture whose face moves as that of a driver, with the sound of a driving video.

    The portrait starts from its own expression and pose: the head turns as far as the other one turns, from
    the frame in which the two faces are most alike (mesh), or from the first one (liveportrait, as it was
    published; it should show a face at rest). Frames without a face are bridged. A driver without sound gives
    a silent video. A driving picture gives its expression: the portrait moves to it within a second and holds
    it; with absolute motion it takes the pose, too.

    Args:
        portrait: picture with a face, see :func:`animate`; for liveportrait also the path of a video, whose
            frames are driven one by one, whole and at their own rate.
        driving: path of a video or a picture with a face, of which the largest is taken; or of a motion
            template, written by :func:`capture` or published for LivePortrait (.pkl).
        out: the .mp4 to write; it appears when it is whole, and nothing is left on failure.
        force: replace a file that is there already; never one that is an input.
        session: keeps engines and portraits loaded between calls; default, one for this call.
        on_progress: see :data:`vortex.types.ProgressCallback`.
        **options: see below.

    Raises:
        InputError: bad input or option; nothing was written.
        NoFaceError: no face in the picture, or in any frame of the video.
        AudioError: the sound of the video cannot be decoded.
        EngineError, WeightsError, MissingExtraError: the engine cannot run here.
        EncodeError: the video cannot be written.
    """
    parsed = DriveOptions.parse(**options)
    with session_or_new(session) as open_session:
        return open_session.drive(portrait, driving, out, parsed, force=force, on_progress=on_progress)


@accepts(CaptureOptions)
def capture(
    driving: str | os.PathLike[str],
    out: str | Path,
    *,
    force: bool = False,
    session: Session | None = None,
    on_progress: ProgressCallback | None = None,
    **options: Unpack[CaptureKeywords],
) -> CaptureReport:
    """Write the motion of a face into a motion template, which drives any portrait without its video.

    Args:
        driving: path of a video or a picture with a face; or of a published template, which is rewritten.
        out: the .npz to write; it appears when it is whole.
        force: replace a file that is there already; never one that is an input.
        session: keeps engines loaded between calls; default, one for this call.
        on_progress: see :data:`vortex.types.ProgressCallback`.
        **options: see below.

    Raises:
        InputError: bad input or option; nothing was written.
        NoFaceError: no face in the driver.
        EngineError, WeightsError, MissingExtraError: the engine cannot run here.
    """
    parsed = CaptureOptions.parse(**options)
    with session_or_new(session) as open_session:
        return open_session.capture(driving, out, parsed, force=force, on_progress=on_progress)


@accepts(SpeakOptions)
def speak(
    portrait: PortraitSource,
    text: str,
    out: str | Path,
    *,
    force: bool = False,
    session: Session | None = None,
    on_progress: ProgressCallback | None = None,
    **options: Unpack[SpeakKeywords],
) -> tuple[RenderReport, Speech]:
    """Make a video in which a portrait speaks an English text; return the report and the speech.

    The lips follow the times that the speech engine itself plans for its phonemes; nothing is recognised.

    Args:
        portrait: picture with a face, see :func:`animate`.
        text: English, as one writes it.
        out: the .mp4 to write.
        force: replace a file that is there already; never one that is an input.
        session: keeps engines, speech models and portraits loaded between calls; default, one for this call.
        on_progress: see :data:`vortex.types.ProgressCallback`.
        **options: see below.

    Raises:
        InputError: bad input or option; nothing was written.
        EngineError, WeightsError, MissingExtraError: engine or speech cannot run here.
        EncodeError: the video cannot be written.
    """
    parsed = SpeakOptions.parse(**options)
    with session_or_new(session) as open_session:
        return open_session.speak(portrait, text, out, parsed, force=force, on_progress=on_progress)


@accepts(SayOptions)
def say(
    text: str,
    out: str | Path | None = None,
    *,
    force: bool = False,
    session: Session | None = None,
    on_progress: ProgressCallback | None = None,
    **options: Unpack[SayKeywords],
) -> Speech:
    """Speak an English text; return the sound with the exact times of its phonemes.

    Args:
        text: English, as one writes it.
        out: a .wav file to write, 16-bit mono; default, none.
        force: replace a file that is there already.
        session: keeps the speech model loaded between calls; default, one for this call.
        on_progress: called as on_progress("speech", sentences done, sentences).
        **options: see below.

    Raises:
        InputError: no words, an option that is not accepted, or a file that cannot be written.
        WeightsError, MissingExtraError, EngineError: the speech engine cannot run here.
    """
    parsed = SayOptions.parse(**options)
    if out is not None:
        check_wav_path(Path(out))
        check_new_file(Path(out), "Output", force=force)
    with session_or_new(session) as open_session:
        speech = open_session.say(text, parsed, parsed.preset, on_progress=on_progress)
    if out is not None:
        write_wav(Path(out), speech.audio)
    return speech


@accepts(CheckOptions)
def check(
    video: str | Path,
    *,
    phonemes: list[PhonemeSpan] | None = None,
    **options: Unpack[CheckKeywords],
) -> SyncReport:
    """Measure the lip-sync of any finished video with one talking face.

    Args:
        video: a video file with sound.
        phonemes: the exact times of the speech sounds, such as those of :func:`say`; default, recognised.
        **options: see below.

    ``report.complaints()`` says what is wrong.

    Raises:
        InputError, AudioError: not a video with sound.
        NoFaceError: no face in any frame.
    """
    parsed = CheckOptions.parse(**options)
    limit = parsed.max_offset_frames
    return measure_sync(
        video, transcript=parsed.transcript, phonemes=phonemes, max_offset_frames=limit
    ).report


@accepts(LiveOptions)
def open_live_face(
    portrait: PortraitSource,
    *,
    session: Session | None = None,
    **options: Unpack[LiveKeywords],
) -> LiveFace:
    """Return a face that follows a voice as it arrives; close it after use, or use it as a context manager.

    Args:
        portrait: picture with a face, see :func:`animate`.
        session: keeps engine and portrait for other faces, too, and stays open when the face is closed;
            default, one that the face owns and closes.
        **options: see below.

    Raises:
        InputError: bad input or option.
        EngineError, WeightsError, MissingExtraError: the engine cannot run here.
    """
    parsed = LiveOptions.parse(**options)
    if session is not None:
        return session.open_live_face(portrait, parsed)
    own = Session()
    try:
        face = own.open_live_face(portrait, parsed)
    except BaseException:
        own.close()
        raise
    face.close_with(own.close)
    return face
