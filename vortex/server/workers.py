"""The threads that render queued jobs, record their progress, and delete what has expired."""

from __future__ import annotations

import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from vortex.captions.files import caption_paths
from vortex.driving import captures, open_driver, perform_driver
from vortex.errors import VortexError, in_one_line
from vortex.media.background import Background
from vortex.options import DriveOptions, VideoOptions, options_of
from vortex.performance import HeardSpeech, Performance, StageClock, perform_heard
from vortex.render import report_as_json
from vortex.server.decoding import (
    SpokenText,
    hear_sound,
    hear_text,
    reckon_clip,
    reckon_driver,
    reckon_sound,
    reckon_text,
    revoice_clip,
    sync_of,
    watch_driver,
)
from vortex.server.inputs import PortraitCache
from vortex.server.metrics import Metrics
from vortex.server.processes import Readers
from vortex.server.settings import ServerSettings
from vortex.server.store import ACTIVE, DataFolder, Job, Store
from vortex.session import Session
from vortex.types import ProgressCallback, RenderReport

log = logging.getLogger("vortex.server")
Result = TypeVar("Result")
Given = TypeVar("Given", VideoOptions, DriveOptions)

MAX_ATTEMPTS = 3
"""A job that was running when the server died this often is assumed to be the cause."""
PROGRESS_INTERVAL_S = 0.2
IDLE_S = 1.0
"""How often a thread without work looks for some, and one that cannot record a job tries again."""
SWEEP_INTERVAL_S = 30.0
JOB_CPU_S, CPU_S_A_SECOND = 120.0, 6.0
"""Processor time of a job in its process, and for each second that a video may last, mostly to speak it."""


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
    readers: Readers

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
        for path in self.folder.inputs(job.id):
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
                report, said = self._render(job)
            self._finish(job, report, said)
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

    def _render(self, job: Job) -> tuple[RenderReport, SpokenText | None]:
        """Render a job; return the report and, if it speaks a text or has a transcript, what is said."""
        on_progress = self._progress_callback(job)
        clock = StageClock(on_progress)
        options: VideoOptions | DriveOptions
        said: list[SpokenText] = []
        if job.options.get("driven"):
            options = drive = self._stored(job, DriveOptions)

            def perform(clock: StageClock) -> Performance:
                return self._watch(job, drive, clock)

        else:
            options = speak = self._stored(job, VideoOptions)

            def perform(clock: StageClock) -> Performance:
                heard, words = self._hear(job, speak, clock)
                said.append(words)
                return perform_heard(heard, speak, clock, self.session.motion_model(speak))

            if job.options.get("clip"):
                return self._revoice(job, speak, clock)

        report = self.session.render(
            lambda clock: self.portraits.prepared(job.portrait_id, options, clock),
            perform,
            self.folder.video(job),
            options,
            clock=clock,
        )
        return report, said[0] if said else None

    def _hear(self, job: Job, options: VideoOptions, clock: StageClock) -> tuple[HeardSpeech, SpokenText]:
        """Return the sound of a job, loaded or spoken, with its visemes, and what is said in it."""
        text: str | None = job.options.get("text")
        most_s, path = self.settings.max_duration_s, self.folder.speech(job.id)
        if text is None:
            task = partial(hear_sound, path, options, most_s)
            heard = self._read(job, "The speech", partial(reckon_sound, path, most_s), task, clock)
            return heard, SpokenText(options.transcript)
        spoken = partial(hear_text, text, options, most_s)
        return self._read(job, "The text", partial(reckon_text, most_s), spoken, clock)

    def _revoice(self, job: Job, options: VideoOptions, clock: StageClock) -> tuple[RenderReport, SpokenText]:
        """Give the clip of a job other words; its frames are read and written in one process."""
        clip, most_s = self.folder.clip(job.id), self.settings.max_duration_s
        text: str | None = job.options.get("text")
        said = text if text is not None else self.folder.speech(job.id)
        task = partial(revoice_clip, clip, said, self.folder.video(job), options, most_s)
        reckon = partial(reckon_clip, clip, said, most_s, self.settings.max_pixels)
        return self._read(job, "The clip", reckon, task, clock)

    def _watch(self, job: Job, options: DriveOptions, clock: StageClock) -> Performance:
        """Return what the driver of a job does.

        An engine that reads keypoints looks at the frames itself, so they are decoded where it is loaded.
        """
        path, most_s = self.folder.driving(job.id), self.settings.max_duration_s
        engine, _ = self.session.engine(options)
        if captures(engine.name):
            return perform_driver(open_driver(path), engine, options, clock, max_duration_s=most_s)
        task = partial(watch_driver, path, *self.portraits.path_and_notes(job.portrait_id), options, most_s)
        reckon = partial(reckon_driver, path, most_s, self.settings.max_pixels)
        return self._read(job, "The driving file", reckon, task, clock).performance()

    def _read(
        self,
        job: Job,
        what: str,
        reckon: partial[int],
        task: partial[tuple[Result, Mapping[str, tuple[float, float]]]],
        clock: StageClock,
    ) -> Result:
        """Return the result of a task, run in a process that ends when the job is abandoned."""
        start_s = clock.now_s()
        result, spans_s = self.readers.read(
            what,
            reckon,
            task,
            cpu_s=JOB_CPU_S + CPU_S_A_SECOND * self.settings.max_duration_s,
            check=partial(self._check_wanted, job),
            wait_s=math.inf,
            on_progress=clock.report,
        )
        clock.include(spans_s, start_s)
        return result

    def _check_wanted(self, job: Job) -> None:
        """Raise _AbandonedError if the job is not to be finished, at least not now."""
        if self._interrupt.is_set():
            raise _AbandonedError
        try:
            known = self.store.job(job.id)
        except sqlite3.Error:
            return  # locked for a moment
        if known is None or known.state not in ("running", "done"):
            raise _AbandonedError

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

    def _finish(self, job: Job, report: RenderReport, said: SpokenText | None) -> None:
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
            sync = self._measure(job, said)
        except _AbandonedError:
            if self._interrupt.is_set():
                raise
        except (VortexError, OSError) as exc:
            # A video that cannot be measured, such as one without a face, is still a video.
            log.warning("job %s: sync not measured: %s", job.id, exc)
        self._insist(lambda: self.store.move_job(job.id, expect=("done",), sync=sync, measuring=False))

    def _measure(self, job: Job, said: SpokenText | None) -> dict[str, Any]:
        """Return the lip-sync of a finished video, against the planned phonemes if there are any."""
        path, most_s = self.folder.video(job), self.settings.max_duration_s
        said = said or SpokenText()
        return self.readers.read(
            "The video",
            partial(reckon_driver, path, most_s, self.settings.max_pixels),
            partial(sync_of, path, said.transcript, said.phonemes),
            cpu_s=JOB_CPU_S + CPU_S_A_SECOND * most_s,
            check=partial(self._check_wanted, job),
            wait_s=math.inf,
        )

    def _after_abandoning(self, job: Job) -> None:
        for path in (self.folder.video(job), *caption_paths(self.folder.video(job), "srt,vtt")):
            path.unlink(missing_ok=True)
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

    def _stored(self, job: Job, group: type[Given]) -> Given:
        """Return the options that a job was queued with, and the picture of its background by its path."""
        options = group.parse(**{name: job.options.get(name) for name in options_of(group)})
        if options.background.kind != "picture":
            return options
        return replace(options, background=Background("picture", str(self.folder.background(job.id))))
