"""The threads that render queued jobs: progress, cancelling, stopping, and what is left after each."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import asdict
from typing import Any

from vortex.audio import load_audio
from vortex.check import check_video
from vortex.engines.base import Engine
from vortex.errors import InputError, VortexError
from vortex.pipeline import SOUND_HZ, Voiced, animate_prepared
from vortex.types import Hook, RenderReport
from vortex.web.folders import DataFolder
from vortex.web.metrics import Metrics
from vortex.web.portraits import PortraitShelf
from vortex.web.schema import VideoOptions
from vortex.web.store import ACTIVE, Job, Store
from vortex.web.voices import VoiceBox

log = logging.getLogger("vortex.web")

MAX_ATTEMPTS = 3
"""A job that was running when the server died this often is to blame for it."""
NEWS_S = 0.2
"""Progress is written down this often."""
SWEEP_S = 30.0


class _AbandonedError(Exception):
    """The job was cancelled or deleted, or the server stops."""


class Workers:
    """Renders jobs of the store in ``count`` threads; a further one deletes what has expired."""

    def __init__(
        self,
        store: Store,
        folder: DataFolder,
        shelf: PortraitShelf,
        engine: Engine,
        voices: VoiceBox,
        metrics: Metrics,
        *,
        count: int,
        keep_s: float,
    ) -> None:
        self._store, self._folder, self._shelf, self._engine = store, folder, shelf, engine
        self._voices, self._metrics, self._keep_s = voices, metrics, keep_s
        self._work = threading.Condition()
        self._no_more = False
        self._interrupt = threading.Event()
        names = [(self._render_jobs, f"vortex-job-{index}") for index in range(count)]
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for target, name in [*names, (self._delete_expired, "vortex-expire")]
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Say that there is a new job."""
        with self._work:
            self._work.notify_all()

    def stop(self, grace_s: float) -> None:
        """Start no more jobs; what still runs after ``grace_s`` goes back to the queue."""
        with self._work:
            self._no_more = True
            self._work.notify_all()
        deadline_s = time.monotonic() + grace_s
        for thread in self._threads:
            thread.join(max(deadline_s - time.monotonic(), 0))
        self._interrupt.set()
        for thread in self._threads:
            thread.join(grace_s)

    def cancel(self, job: Job) -> Job | None:
        """Cancel a queued or running job; None if it was settled already."""
        cancelled = self._store.move_job(
            job.id, expect=ACTIVE, state="cancelled", finished_s=time.time(), expires_s=self._expiry_s(),
            eta_s=None,
        )  # fmt: skip
        if cancelled:
            self._metrics.jobs.labels("cancelled").inc()
            self._drop_inputs(cancelled)
        return cancelled

    def delete(self, job: Job) -> None:
        """Forget a job and its files; if it runs, it stops."""
        self._store.delete_job(job.id)
        self._drop_inputs(job)
        self._folder.delete_job(job.id)

    def _expiry_s(self) -> float:
        return time.time() + self._keep_s

    def _drop_inputs(self, job: Job) -> None:
        self._folder.speech(job.id).unlink(missing_ok=True)
        if job.owns_portrait:
            self._shelf.delete(job.portrait_id)

    # ------------------------------------------------------------------------------------------ rendering

    def _render_jobs(self) -> None:
        while True:
            with self._work:
                job = None if self._no_more else self._store.claim_job()
                if self._no_more:
                    return
                if job is None:
                    self._work.wait(timeout=1.0)
                    continue
            self._render_one(job)

    def _render_one(self, job: Job) -> None:
        try:
            if job.attempts > MAX_ATTEMPTS:
                raise VortexError(f"The server stopped {MAX_ATTEMPTS} times while it made this video.")
            with self._metrics.job_seconds.time():
                report = self._render(job)
            self._finish(job, report)
        except _AbandonedError:
            self._after_abandoning(job)
        except Exception as exc:
            self._fail(job, exc)

    def _render(self, job: Job) -> RenderReport:
        options = VideoOptions(**job.options)
        try:
            prepared = self._shelf.prepared(
                job.portrait_id, size_px=options.size_px, paste_back=options.paste_back
            )
        except KeyError as exc:
            raise InputError("The portrait was deleted before the video was made. Send it again.") from exc
        record = self._store.portrait(job.portrait_id)
        return animate_prepared(
            self._engine,
            prepared,
            lambda: self._heard(job, options),
            self._folder.video(job.id),
            preset=options.preset,
            fps=options.fps,
            duration_s=options.duration_s,
            seed=options.seed,
            notes=record.notes if record else (),
            hook=self._progress_hook(job),
        )

    def _heard(self, job: Job, options: VideoOptions) -> Voiced:
        if options.text is None:
            return Voiced(load_audio(self._folder.speech(job.id), SOUND_HZ), options.transcript)
        return self._voices.speak(
            options.text, voice=options.voice, speed=options.speed, preset=options.preset
        )

    def _progress_hook(self, job: Job) -> Hook:
        """Return a hook that writes progress down, and ends the work when the job has been abandoned."""
        started_s: dict[str, float] = {}
        next_s = 0.0

        def hook(stage: str, completed: int, total: int) -> None:
            nonlocal next_s
            now_s = time.monotonic()
            first = stage not in started_s
            started_s.setdefault(stage, now_s)
            if self._interrupt.is_set():
                raise _AbandonedError
            if now_s < next_s and not first and completed < total:
                return
            next_s = now_s + NEWS_S
            spent_s = now_s - started_s[stage]
            eta_s = spent_s / completed * (total - completed) if completed and spent_s > 0 else None
            if not self._store.move_job(
                job.id, expect=("running",), stage=stage, completed=completed, total=total,
                eta_s=None if eta_s is None else round(eta_s, 2),
            ):  # fmt: skip
                raise _AbandonedError

        return hook

    def _finish(self, job: Job, report: RenderReport) -> None:
        measure = bool(job.options.get("check"))
        done = self._store.move_job(
            job.id, expect=("running",), state="done", finished_s=time.time(), expires_s=self._expiry_s(),
            report=_as_json(report), eta_s=None, measuring=measure,
        )  # fmt: skip
        if not done:
            raise _AbandonedError
        self._metrics.jobs.labels("done").inc()
        self._metrics.video_seconds.inc(report.duration_s)
        self._drop_inputs(job)
        if measure:
            sync = self._measure(job)
            self._store.move_job(job.id, expect=("done",), sync=sync, measuring=False)

    def _measure(self, job: Job) -> dict[str, Any] | None:
        try:
            report, _, _ = check_video(self._folder.video(job.id), transcript=job.options.get("transcript"))
        except (VortexError, OSError) as exc:
            # a video that cannot be measured, such as one without a face, is still a video
            log.warning("job %s: sync not measured: %s", job.id, exc)
            return None
        return {**asdict(report), "fps": str(report.fps), "complaints": report.complaints(2.0)}

    def _after_abandoning(self, job: Job) -> None:
        self._folder.video(job.id).unlink(missing_ok=True)
        if self._store.job(job.id) is None:
            self._folder.delete_job(job.id)
        elif self._interrupt.is_set():
            # not the job's fault
            self._store.move_job(
                job.id, expect=("running",), state="queued", attempts=job.attempts - 1, stage=None,
                completed=0, total=0, eta_s=None,
            )  # fmt: skip

    def _fail(self, job: Job, error: Exception) -> None:
        if isinstance(error, VortexError):
            name, message = type(error).__name__, str(error)
            # paths of the server are nobody's business
            message = message.replace(f"'{self._folder.speech(job.id)}'", "speech")
            message = message.replace(f"'{self._folder.video(job.id)}'", "video")
        else:
            log.error("job %s failed", job.id, exc_info=error)
            name, message = "InternalError", "The server failed on this job; its log has the reason."
        failed = self._store.move_job(
            job.id, expect=("running",), state="failed", finished_s=time.time(), expires_s=self._expiry_s(),
            error={"type": name, "message": message}, eta_s=None,
        )  # fmt: skip
        if failed:
            self._metrics.jobs.labels("failed").inc()
            self._drop_inputs(failed)
        elif self._store.job(job.id) is None:
            self._folder.delete_job(job.id)

    # ----------------------------------------------------------------------------------------- expiring

    def _delete_expired(self) -> None:
        while True:
            self.delete_expired()
            with self._work:
                self._work.wait_for(lambda: self._no_more, timeout=SWEEP_S)
                if self._no_more:
                    return

    def delete_expired(self) -> None:
        """Delete the jobs whose time is over, and portraits that nobody used for as long."""
        for job in self._store.expired_jobs():
            self.delete(job)
        for record in self._store.idle_portraits(time.time() - self._keep_s):
            self._shelf.delete(record.id)


def _as_json(report: RenderReport) -> dict[str, Any]:
    """Return the report without the path, which is the server's own business."""
    return {
        "frames": report.frames,
        "fps": str(report.fps),
        "size_px": list(report.size_px),
        "duration_s": report.duration_s,
        "engine": report.engine,
        "preset": report.preset,
        "seed": report.seed,
        "stage_s": {name: round(seconds, 3) for name, seconds in report.stage_s.items()},
        "notes": list(report.notes),
    }
