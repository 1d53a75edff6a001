"""The threads that render queued jobs, record their progress, and delete what has expired."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vortex.driving import open_driver, perform_driver
from vortex.errors import InputError, VortexError, in_one_line
from vortex.lipsync.sync import measure_sync
from vortex.media.audio import load_audio
from vortex.options import DriveOptions, Options, VideoOptions, options_of
from vortex.performance import SOUND_HZ, Performance, SpeechInput, StageClock, perform_speech
from vortex.render import report_as_json
from vortex.server.inputs import PortraitCache
from vortex.server.metrics import Metrics
from vortex.server.settings import ServerSettings
from vortex.server.store import ACTIVE, DataFolder, Job, Store
from vortex.session import Session
from vortex.types import ProgressCallback, RenderReport

log = logging.getLogger("vortex.server")
Result = TypeVar("Result")

MAX_ATTEMPTS = 3
"""A job that was running when the server died this often is assumed to be the cause."""
PROGRESS_INTERVAL_S = 0.2
IDLE_S = 1.0
"""How often a thread without work looks for some, and one that cannot record a job tries again."""
SWEEP_INTERVAL_S = 30.0


class _AbandonedError(Exception):
    """The job was cancelled or deleted, or the server stops."""


@dataclass(eq=False)
class Workers:
    """Renders jobs of the store in ``max_running`` threads; a further one deletes what has expired."""

    store: Store
    folder: DataFolder
    portraits: PortraitCache
    session: Session
    metrics: Metrics
    settings: ServerSettings

    _work: threading.Condition = field(default_factory=threading.Condition, init=False)
    _stopping: bool = field(default=False, init=False)
    _interrupt: threading.Event = field(default_factory=threading.Event, init=False)
    _threads: list[threading.Thread] = field(default_factory=list, init=False)

    def start(self) -> None:
        """Start the threads."""
        for target in (*[self._render_jobs] * self.settings.max_running, self._sweep):
            self._threads.append(threading.Thread(target=target, daemon=True))
            self._threads[-1].start()

    def wake(self) -> None:
        """Let a waiting thread look for a new job."""
        with self._work:
            self._work.notify_all()

    def stop(self, grace_s: float) -> None:
        """Start no more jobs; what still runs after ``grace_s`` is queued again."""
        with self._work:
            self._stopping = True
            self._work.notify_all()
        deadline_s = time.monotonic() + grace_s
        for thread in self._threads:
            thread.join(max(deadline_s - time.monotonic(), 0))
        self._interrupt.set()
        for thread in self._threads:
            thread.join(grace_s)

    def cancel(self, job: Job) -> Job | None:
        """Cancel a queued or running job; return None if it was settled already."""
        return self._settle(job, "cancelled", ACTIVE)

    def delete(self, job: Job) -> None:
        """Delete a job and its files; if it runs, it stops."""
        self.store.delete_job(job.id)
        self._delete_inputs(job)
        self.folder.delete_job(job.id)

    def _settle(
        self, job: Job, state: str, expect: tuple[str, ...] = ("running",), **columns: Any
    ) -> Job | None:
        """Record the end of a job and delete its inputs; return None if it has ended already."""
        now_s = time.time()
        columns.update(state=state, finished_s=now_s, expires_s=now_s + self.settings.keep_s, eta_s=None)
        settled = self.store.move_job(job.id, expect=expect, **columns)
        if settled:
            self.metrics.jobs.labels(state).inc()
            try:
                self._delete_inputs(settled)
            except (sqlite3.Error, OSError) as exc:
                log.warning("inputs of job %s are deleted later: %s", job.id, in_one_line(exc))
        return settled

    def _delete_inputs(self, job: Job) -> None:
        for path in (self.folder.speech(job.id), self.folder.driving(job.id), self.folder.clip(job.id)):
            path.unlink(missing_ok=True)
        if job.owns_portrait:
            self.portraits.delete(job.portrait_id)

    def alive(self) -> bool:
        """Return whether every thread runs."""
        return all(thread.is_alive() for thread in self._threads)

    def _render_jobs(self) -> None:
        while not self._stopping:
            try:
                with self._work:
                    job = None if self._stopping else self.store.claim_job()
                    if job is None:
                        self._work.wait(timeout=IDLE_S)
                        continue
                self._render_one(job)
            except Exception as exc:  # whatever fails, such as a full disk, the thread goes on
                log.error("a worker goes on after: %s", in_one_line(exc), exc_info=exc)
                with self._work:
                    self._work.wait_for(lambda: self._stopping, timeout=IDLE_S)

    def _render_one(self, job: Job) -> None:
        try:
            if job.attempts > MAX_ATTEMPTS:
                raise VortexError(f"The server stopped {MAX_ATTEMPTS} times while it made this video.")
            with self.metrics.job_seconds.time():
                report, speech = self._render(job)
            self._finish(job, report, speech)
        except _AbandonedError:
            self._insist(lambda: self._after_abandoning(job))
        except sqlite3.OperationalError as exc:
            # Locked or full: the job waits until the database can be used again.
            log.warning("job %s is queued again: %s", job.id, in_one_line(exc))
            self._insist(lambda: self._queue_again(job))
        except Exception as exc:
            failure = exc
            self._insist(lambda: self._fail(job, failure))

    def _insist(self, record: Callable[[], Result]) -> Result:
        """Return what ``record`` returns, as soon as the database can be written and the disk has room.

        Raises what it raises when the server stops: the next one queues the job again.
        """
        while True:
            try:
                return record()
            except (sqlite3.Error, OSError) as exc:
                log.error("a job cannot be recorded, and is tried again: %s", in_one_line(exc))
                with self._work:
                    if self._work.wait_for(lambda: self._stopping, timeout=IDLE_S):
                        raise

    def _render(self, job: Job) -> tuple[RenderReport, SpeechInput | None]:
        """Render a job; return the report and the sound, with its transcript or phonemes, if it speaks."""
        on_progress = self._progress_callback(job)
        options: VideoOptions | DriveOptions
        spoken: list[SpeechInput] = []
        if job.options.get("driven"):
            options = drive = _stored(job, DriveOptions)
            driver, most_s = open_driver(self.folder.driving(job.id)), self.settings.max_duration_s

            def perform(clock: StageClock) -> Performance:
                engine, _ = self.session.engine(drive)
                return perform_driver(driver, engine, drive, clock, max_duration_s=most_s)

        else:
            options = speak = _stored(job, VideoOptions)

            def perform(clock: StageClock) -> Performance:
                return perform_speech(load, speak, clock, self.session.motion_model(speak))

            def load() -> SpeechInput:
                spoken.append(self._speech_input(job, speak, on_progress))
                return spoken[0]

            if job.options.get("clip"):
                report = self.session.revoice(
                    self.folder.clip(job.id),
                    load,
                    self.folder.video(job.id),
                    speak,
                    clock=StageClock(on_progress),
                    max_clip_s=self.settings.max_duration_s,
                )
                return report, spoken[0]

        report = self.session.render(
            lambda clock: self.portraits.prepared(job.portrait_id, options, clock),
            perform,
            self.folder.video(job.id),
            options,
            clock=StageClock(on_progress),
        )
        return report, spoken[0] if spoken else None

    def _speech_input(self, job: Job, options: VideoOptions, on_progress: ProgressCallback) -> SpeechInput:
        """Return the sound of a job, loaded or spoken."""
        text: str | None = job.options.get("text")
        if text is None:
            return SpeechInput(load_audio(self.folder.speech(job.id), SOUND_HZ), options.transcript)
        speech = self.session.say(text, options, options.preset, on_progress=on_progress)
        length_s, most_s = float(speech.audio.duration_s), self.settings.max_duration_s
        if length_s > most_s:
            raise InputError(f"The text takes {length_s:.0f} s; at most {most_s:g} s are allowed here.")
        return SpeechInput(speech.audio, speech.words, speech.phonemes)

    def _progress_callback(self, job: Job) -> ProgressCallback:
        """Return a callback that records the progress, and ends the work when the job has been abandoned."""
        started_s: dict[str, float] = {}
        next_s = 0.0

        def on_progress(stage: str, completed: int, total: int) -> None:
            nonlocal next_s
            now_s = time.monotonic()
            spent_s = now_s - started_s.setdefault(stage, now_s)
            if self._interrupt.is_set():
                raise _AbandonedError
            if now_s < next_s and spent_s and completed < total:
                return
            next_s = now_s + PROGRESS_INTERVAL_S
            eta_s = spent_s / completed * (total - completed) if completed and spent_s else None
            try:
                moved = self.store.move_job(
                    job.id, expect=("running",), stage=stage, completed=completed, total=total,
                    eta_s=None if eta_s is None else round(eta_s, 2),
                )  # fmt: skip
            except sqlite3.Error as exc:
                # The work goes on: the next progress is recorded when the database can be written again.
                log.warning("progress of job %s is not recorded: %s", job.id, in_one_line(exc))
                return
            if not moved:
                raise _AbandonedError

        return on_progress

    def _finish(self, job: Job, report: RenderReport, speech: SpeechInput | None) -> None:
        measure = bool(job.options.get("check"))
        shown = report_as_json(report)
        del shown["path"]
        if not self._insist(lambda: self._settle(job, "done", report=shown, measuring=measure)):
            raise _AbandonedError
        self.metrics.video_seconds.inc(report.duration_s)
        if not measure:
            return
        sync = None
        try:
            # Against the planned phonemes of a text, if there are any.
            measured = measure_sync(
                self.folder.video(job.id),
                transcript=speech.transcript if speech else None,
                phonemes=speech.phonemes if speech else None,
            )
            sync = measured.report.as_json()
        except (VortexError, OSError) as exc:
            # A video that cannot be measured, such as one without a face, is still a video.
            log.warning("job %s: sync not measured: %s", job.id, exc)
        self._insist(lambda: self.store.move_job(job.id, expect=("done",), sync=sync, measuring=False))

    def _after_abandoning(self, job: Job) -> None:
        self.folder.video(job.id).unlink(missing_ok=True)
        if self.store.job(job.id) is None:
            self.folder.delete_job(job.id)
        elif self._interrupt.is_set():
            self._queue_again(job)

    def _queue_again(self, job: Job) -> None:
        """Queue a running job; an attempt that the server itself ended does not count."""
        self.store.move_job(
            job.id, expect=("running",), state="queued", attempts=job.attempts - 1, stage=None,
            completed=0, total=0, eta_s=None,
        )  # fmt: skip

    def _fail(self, job: Job, error: Exception) -> None:
        if isinstance(error, VortexError):
            name, message = type(error).__name__, self.folder.without_paths(str(error))
        else:
            log.error("job %s failed", job.id, exc_info=error)
            name, message = "InternalError", "The server failed on this job; its log has the reason."
        if not self._settle(job, "failed", error={"type": name, "message": message}):
            self._after_abandoning(job)

    def _sweep(self) -> None:
        while not self._stopping:
            try:
                self.delete_expired()
            except Exception as exc:  # it is tried again
                log.error("what has expired is deleted later: %s", in_one_line(exc))
            with self._work:
                self._work.wait_for(lambda: self._stopping, timeout=SWEEP_INTERVAL_S)

    def delete_expired(self) -> None:
        """Delete the expired jobs, and portraits that were not used for as long."""
        for job in self.store.expired_jobs():
            self.delete(job)
        for record in self.store.idle_portraits(time.time() - self.settings.keep_s):
            self.portraits.delete(record.id)


def _stored(job: Job, group: type[Options]) -> Options:
    """Return the options that a job was queued with."""
    return group.parse(**{name: job.options.get(name) for name in options_of(group)})
