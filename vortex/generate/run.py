"""Makes a verified video from a text and a prompt; independent stages run at the same time."""

from __future__ import annotations

from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vortex.captions.burning import check_captions
from vortex.captions.files import caption_paths
from vortex.errors import InputError, StageTimeoutError, VortexError
from vortex.face.portrait import PortraitSource
from vortex.generate.clip import ClipLimits, ClipReport, Keyframes
from vortex.generate.drawing import find_portrait
from vortex.generate.request import GenerateReport, GenerateRequest, ModelLoaders, choose_loaders
from vortex.lipsync.sync import SyncReport, measure_sync
from vortex.media.containers import PIPE, check_video_path
from vortex.options import GenerateOptions, accepts
from vortex.performance import SpeechInput, StageClock, perform_speech
from vortex.render import PreparedPortrait
from vortex.runtime.files import check_new_file, whole_file
from vortex.runtime.memory import ModelCache
from vortex.runtime.watchdog import CheckStop, StageStoppedError, Watchdog
from vortex.session import Session
from vortex.speech.base import Speech
from vortex.types import Portrait, ProgressCallback, RenderReport

VERIFIABLE = (".mp4", ".webm", ".mov")
"""Formats whose picture and sound are read back."""

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from vortex.options import GenerateKeywords


@accepts(GenerateOptions)
def generate(
    text: str,
    out: str | Path,
    *,
    image: PortraitSource | None = None,
    force: bool = False,
    session: Session | None = None,
    on_progress: ProgressCallback | None = None,
    **options: Unpack[GenerateKeywords],
) -> GenerateReport:
    """Make a verified video from a text and a portrait that is given or drawn from a prompt.

    Args:
        text: English, as one writes it.
        out: the .mp4 to write; it appears when all is done, and nothing is left on failure.
        image: picture with a face, see :func:`animate`; default, one drawn from ``prompt``.
        force: replace a file that is there already; never one that is an input.
        session: keeps engines and models loaded between calls, within its own memory budget; default, one for
            this call with the budget ``memory_gb``.
        on_progress: called as on_progress(stage, completed, total).
        **options: see below.

    Raises:
        InputError: bad input or option; nothing was started.
        StageTimeoutError: a stage, or the whole, took longer than its limit.
        VortexError: a stage cannot run here; the message says what to do.
    """
    parsed = GenerateOptions.parse(**options)
    request = GenerateRequest(text, image, parsed)
    if session is not None:
        return run_generate(request, out, force=force, session=session, on_progress=on_progress)
    with Session(models=ModelCache(parsed.memory_gb)) as own:
        return run_generate(request, out, force=force, session=own, on_progress=on_progress)


def run_generate(
    request: GenerateRequest,
    out: str | Path,
    *,
    session: Session,
    force: bool = False,
    part: Path | None = None,
    loaders: ModelLoaders | None = None,
    on_progress: ProgressCallback | None = None,
) -> GenerateReport:
    """Make a talking video from a text and a portrait, verify it, and report on it; see :func:`generate`.

    Speech and picture are made at the same time. Rendering starts when both exist, and CLIP embeds keyframes
    while the rest is rendered. Speech that fails is tried once more. The video appears at ``out`` when it is
    verified; if anything raises, nothing is left. With ``part``, it is written there, and the caller gives it
    its name. By default, the options name the loaders.
    """
    out = Path(out)
    check_new_file(out, "Output", force=force, inputs=(request.image,))
    check_verifiable(out)
    check_captions(request.options.captions, request.text)
    for path in caption_paths(out, request.options.captions):
        check_new_file(path, "Captions", force=force, inputs=(request.image,))
    request = replace(request, options=request.options.with_seed())
    options = request.options
    stages = _Stages(request, loaders or choose_loaders(request), session, on_progress)
    keyframes = stages.keyframes() if request.compares_prompt else None
    try:
        # The file has no name until its content is verified.
        with (
            nullcontext(part) if part else whole_file(out) as written,
            closing(keyframes) if keyframes else nullcontext(),
        ):
            video = session.render(
                stages.portrait,
                lambda clock: perform_speech(
                    stages.speech_input, options, clock, session.motion_model(options)
                ),
                out,
                options,
                part=written,
                clock=stages.clock,
                on_frame=keyframes.on_frame if keyframes else None,
            )
            sync = stages.measure_sync(written) if options.verify_lips else None
            clip = stages.compare(keyframes) if keyframes else None
        return stages.report(video, clip, sync)
    except BaseException as exc:
        stages.watchdog.stop(exc)
        if isinstance(exc, StageStoppedError) and stages.watchdog.failure is not None:
            # Another stage failed and stopped this one: its failure is the cause to report.
            raise stages.watchdog.failure from None
        raise


def check_verifiable(path: Path) -> None:
    """Raise InputError if no video can be written to ``path``, or none of :data:`VERIFIABLE`."""
    check_video_path(path)
    if path == PIPE or path.suffix.lower() not in VERIFIABLE:
        raise InputError(
            f"Output '{path}' cannot be verified, as generate does; write {' or '.join(VERIFIABLE)}."
        )


class _Stages:
    """The stages of one request, and their common state."""

    def __init__(
        self,
        request: GenerateRequest,
        loaders: ModelLoaders,
        session: Session,
        on_progress: ProgressCallback | None,
    ) -> None:
        self.request, self.options, self.loaders, self.session = request, request.options, loaders, session
        self.watchdog = Watchdog(self.options.deadline_s)
        self._user_progress = on_progress
        self.clock = StageClock(self._on_progress)
        self.notes: list[str] = []
        self.speech: Speech | None = None
        self.image_seed: int | None = None

    def _on_progress(self, stage: str, completed: int, total: int) -> None:
        self.watchdog.check()
        if self._user_progress:
            self._user_progress(stage, completed, total)

    def speech_input(self) -> SpeechInput:
        """Speak the text, with a second attempt after a failure that may be temporary."""
        try:
            try:
                speech = self._speak()
            except Exception as exc:
                # A second attempt cannot succeed if something is wrong or missing.
                if isinstance(exc, VortexError | ImportError) and not isinstance(exc, StageTimeoutError):
                    raise
                self.watchdog.check()
                self.notes.append(f"speech failed once ({exc}) and was tried again")
                speech = self._speak()
        except BaseException as exc:
            # There will be no video, so the picture need not be finished.
            self.watchdog.stop(exc)
            raise
        self.speech = speech
        return SpeechInput(speech.audio, speech.words, speech.phonemes, speech.notes, written=speech.written)

    def _speak(self) -> Speech:
        text, options = self.request.text, self.options
        return self.watchdog.run(
            "speech",
            options.speech_timeout_s,
            lambda check: self.session.say(text, options, options.preset, on_progress=lambda *_: check()),
        )

    def portrait(self, clock: StageClock) -> PreparedPortrait[Any]:
        if self.request.image is not None:
            return self.session.prepare_source(self.request.image, self.options, clock)
        with clock.stage("image"):
            portrait, self.image_seed = self.watchdog.run("image", self.options.image_timeout_s, self._draw)
        return self.session.prepare(lambda: portrait, None, self.options, clock)

    def _draw(self, check: CheckStop) -> tuple[Portrait, int]:
        prompt, loaders = self.options.prompt or "", self.loaders

        def on_progress(stage: str, completed: int, total: int) -> None:
            check()
            self._on_progress(stage, completed, total)

        with self.session.models.use(
            loaders.images_name, loaders.images_bytes, loaders.images, device=loaders.images_device
        ) as source:
            return find_portrait(
                lambda seed: source.make(prompt, seed=seed, on_progress=on_progress),
                self.options.seed or 0,
                source_name=prompt,
                force_face=self.options.force_face,
                face=self.options.face,
            )

    def keyframes(self) -> Keyframes:
        models, given = self.session.models, self.loaders
        return Keyframes(
            lambda: models.use(given.clip_name, given.clip_bytes, given.clip), self.watchdog, self.clock
        )

    def compare(self, keyframes: Keyframes) -> ClipReport:
        options = self.options
        limits = ClipLimits(options.min_clip_score, options.min_clip_likeness)
        return self.watchdog.run(
            "clip", options.verify_timeout_s, lambda check: keyframes.compare(options.prompt or "", limits)
        )

    def measure_sync(self, video: Path) -> SyncReport:
        """Measure the lip-sync against the planned times of the phonemes."""
        phonemes = self.speech.phonemes if self.speech else None
        with self.clock.stage("check"):
            return self.watchdog.run(
                "check",
                self.options.verify_timeout_s,
                lambda check: (
                    measure_sync(
                        video, phonemes=phonemes, max_offset_frames=self.options.max_offset_frames
                    ).report
                ),
            )

    def report(self, video: RenderReport, clip: ClipReport | None, sync: SyncReport | None) -> GenerateReport:
        assert self.speech is not None
        lips = sync.complaints() if sync else ()
        return GenerateReport(
            video=video,
            speech=self.speech,
            prompt=self.options.prompt,
            image_seed=self.image_seed,
            clip=clip,
            sync=sync,
            spans_s=dict(self.clock.spans_s),
            notes=(*self.notes, *video.notes),
            complaints=(*(clip.complaints() if clip else ()), *lips),
        )
