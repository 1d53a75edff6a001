"""One run of a batch: skip what the journal has, render the rest here or on a cluster, report every row."""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vortex.batch.jobs import REPORT, Job, Outcome, Row
from vortex.batch.journal import Journal
from vortex.batch.page import write_page
from vortex.captions.files import NONE, caption_paths
from vortex.cluster import Cluster, DrivingVideo, VideoInput
from vortex.engines.registry import AUTO, resolve_engine
from vortex.errors import InputError, in_one_line
from vortex.media.containers import DEFAULT_CONTAINER
from vortex.options import AnimateOptions, DriveOptions, SpeakOptions, VideoOptions
from vortex.runtime.files import check_input_file, check_new_file, whole_file, write_whole
from vortex.session import Session
from vortex.version import __version__

STATUSES = ("done", "skipped", "failed")
ATTEMPTS = 2
"""How often a row is tried whose process dies."""
MAX_WORKERS = 1000
ROW_TIMEOUT_S = 86_400.0
"""Longest time for a row by default."""
MAX_ROW_TIMEOUT_S = 30 * 86_400.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h

OutcomeCallback = Callable[[Outcome, int, int], None]
"""Called as on_outcome(outcome, rows ended, rows) when a row ends."""


@dataclass(frozen=True, slots=True)
class Task:
    """A row to render: its job with a seed, and the key under which the journal records it."""

    number: int
    job: Job
    key: str

    @classmethod
    def of(cls, number: int, job: Job, key: str) -> Task:
        """Return a task; a job without a seed takes one from its key, to give the same frames again."""
        if isinstance(job.options, VideoOptions) and job.options.seed is None:
            job = replace(job, options=replace(job.options, seed=int(key[:8], 16) >> 1))
        return cls(number, job, key)

    def outcome(self, started_s: float, frames: int, problem: str = "") -> Outcome:
        """Return how the task ended: with a video of so many frames, or with a problem."""
        output, took_s = self.job.output, round(time.perf_counter() - started_s, 3)
        if problem:
            return Outcome(self.number, output, "failed", problem, took_s)
        seed = self.job.options.seed if isinstance(self.job.options, VideoOptions) else None
        return Outcome(self.number, output, "done", "", took_s, frames, seed, self.key)


def run_batch(
    rows: Sequence[Row],
    folder: str | Path,
    *,
    workers: int | None = None,
    cluster: Cluster | None = None,
    force: bool = False,
    row_timeout_s: float = ROW_TIMEOUT_S,
    on_outcome: OutcomeCallback | None = None,
    html_report: str | Path | None = None,
) -> list[Outcome]:
    """Make the videos of all rows below ``folder``; return how each row ended, in their order.

    A row whose video an earlier run made from the same content and options is skipped. A failing row is
    reported in its outcome; the others continue. What ``on_outcome`` raises ends the batch. A video that an
    earlier run began is replaced; another file only with ``force``, and one that a row reads never.

    ``workers`` is the number of processes; default, half of the CPU cores, at least one. A row that takes
    longer than ``row_timeout_s`` fails. With a ``cluster``, its actors render instead, without that limit.
    ``html_report`` is a page to write, see :func:`vortex.batch.page.write_page`. The folder is created;
    InputError if that fails, or for a number that is not accepted.
    """
    folder = Path(folder)
    workers = max((os.cpu_count() or 1) // 2, 1) if workers is None else workers
    _check_limits(workers, row_timeout_s)
    ended: dict[int, Outcome] = {}
    with Journal(folder, force=force) as journal:

        def end(outcome: Outcome) -> None:
            ended[outcome.number] = outcome
            if outcome.status == "done":
                journal.finish(outcome, folder / outcome.output)
            if on_outcome:
                on_outcome(outcome, len(ended), len(rows))

        tasks = []
        for decided in _decide(rows, folder, journal, cluster, force):
            if isinstance(decided, Outcome):
                end(decided)
            else:
                tasks.append(decided)
        if cluster:
            done = _run_on_cluster(cluster, tasks, folder)
        else:
            done = _run_processes(workers, tasks, folder, row_timeout_s)
        for outcome in done:
            end(outcome)
    outcomes = [ended[row.number] for row in rows]
    _write_report(folder / REPORT, outcomes)
    if html_report is not None:
        write_page(Path(html_report), outcomes, folder)
    return outcomes


def _check_limits(workers: int, row_timeout_s: float) -> None:
    if not 1 <= workers <= MAX_WORKERS:
        raise InputError(f"workers is {workers}; give a number from 1 to {MAX_WORKERS}.")
    if not 0.001 <= row_timeout_s <= MAX_ROW_TIMEOUT_S:
        most = f"{MAX_ROW_TIMEOUT_S:g}"
        raise InputError(f"row_timeout_s is {row_timeout_s}; give seconds from 0.001 to {most}.")


def _write_report(path: Path, outcomes: Sequence[Outcome]) -> None:
    report = {**count_statuses(outcomes), "rows": [asdict(outcome) for outcome in outcomes]}
    try:
        write_whole(path, json.dumps(report, indent=1) + "\n")
    except OSError as exc:
        raise InputError(f"Report '{path}' cannot be written ({exc.strerror}).") from exc


def _decide(
    rows: Sequence[Row], folder: Path, journal: Journal, cluster: Cluster | None, force: bool
) -> Iterator[Outcome | Task]:
    """Yield for each row how it ended without any work, or its task."""
    jobs = [row.job for row in rows if row.job]
    read = [path for job in jobs for path in (job.portrait, job.speech, job.driving) if path]
    inputs: set[str] = set()
    for path in read:
        with suppress(ValueError):  # no possible file name
            inputs.add(os.path.realpath(path))
    for row in rows:
        decided = _without_work(row, folder, journal, cluster)
        yield _without_loss(decided, folder, journal, inputs, force) if isinstance(decided, Task) else decided


def _without_loss(
    task: Task, folder: Path, journal: Journal, inputs: set[str], force: bool
) -> Outcome | Task:
    """Return the task, or how it ended because its video would replace a file that is not the batch's."""
    path, own = folder / task.job.output, journal.knows(task.job.output)
    try:
        if os.path.realpath(path) in inputs:
            raise InputError(f"the output '{task.job.output}' is an input of a row, which would be lost")
        check_new_file(path, "Output", force=force or own)
        for captions in caption_paths(path, getattr(task.job.options, "captions", NONE)):
            if os.path.realpath(captions) in inputs:
                raise InputError(f"the captions '{captions.name}' are an input of a row, which would be lost")
            check_new_file(captions, "Captions", force=force or own)
    except (InputError, OSError, ValueError) as exc:
        return task.outcome(time.perf_counter(), 0, in_one_line(exc))
    journal.begin(task.job.output)
    return task


def count_statuses(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Return how many rows ended in each status."""
    return {status: sum(o.status == status for o in outcomes) for status in STATUSES}


def _without_work(row: Row, folder: Path, journal: Journal, cluster: Cluster | None) -> Outcome | Task:
    """Return how a row ended if it needs no work, else its task."""
    if row.job is None:
        return Outcome(row.number, "", "failed", row.problem)
    job = row.job
    try:
        name = cluster.name if cluster else resolve_engine(job.options.engine, job.options.device)[0].name
        if job.options.engine not in (name, AUTO):
            raise InputError(f"The cluster renders with {name}; engine is {job.options.engine!r}.")
        if cluster:
            check_travels(job.output, job.options)
        job = replace(job, options=replace(job.options, engine=name))
        key = _key(job)
        made = journal.has(job.output, key, folder / job.output)
    except Exception as exc:  # whatever a row names, the others are made
        return Outcome(row.number, job.output, "failed", in_one_line(exc))
    if made:
        return Outcome(row.number, job.output, "skipped", "an earlier run made this video", key=key)
    return Task.of(row.number, job, key)


def check_travels(output: str, options: VideoOptions | DriveOptions) -> None:
    """Raise InputError for a row that the actors of a cluster cannot make: they get a picture and a sound."""
    if Path(output).suffix.lower() != DEFAULT_CONTAINER.suffix:
        raise InputError(f"a cluster writes {DEFAULT_CONTAINER.suffix} only; change the output '{output}'")
    if options.background.kind == "picture":
        raise InputError("a cluster has no picture as background; give another one, or leave the cluster out")
    captions = getattr(options, "captions", NONE)
    if caption_paths(Path(output), captions):
        raise InputError(f"captions is {captions!r}; a cluster returns videos only. Give burn")


def _key(job: Job) -> str:
    """Return a hash of all that decides the video: content of the files, text, options and version."""
    decided = [__version__, job.output, job.text, job.options.as_json()]
    digest = hashlib.sha256(json.dumps(decided, sort_keys=True).encode())
    background = job.options.background.value if job.options.background.kind == "picture" else None
    for path in filter(None, (job.portrait, job.speech, job.driving, background)):
        check_input_file(Path(path), f"'{path}'", "a picture, a sound or a video")
        digest.update(b"file:")
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _run_processes(
    workers: int, tasks: Sequence[Task], folder: Path, row_timeout_s: float
) -> Iterator[Outcome]:
    """Yield each outcome when its task ends; rows whose process died are tried ATTEMPTS times in all."""
    left = {task.number: task for task in tasks}
    attempts = dict.fromkeys(left, 0)
    while left:
        running: dict[Future[Outcome], tuple[int, float]] = {}
        try:
            for number, outcome in _run_pool(workers, list(left.values()), folder, running, row_timeout_s):
                del left[number]
                yield outcome
        except BrokenProcessPool:
            now_s = time.perf_counter()
            late = [(n, started_s) for n, started_s in running.values() if now_s - started_s >= row_timeout_s]
            for number, started_s in late:
                reason = f"it took longer than {row_timeout_s:g} s, the limit of a row"
                yield left.pop(number).outcome(started_s, 0, reason)
            # Where the limit ended a process, the other rows of the pool are not the cause.
            for number, started_s in running.values() if not late else ():
                attempts[number] += 1
                if attempts[number] >= ATTEMPTS:
                    reason = "its process died; is there enough memory?"
                    yield left.pop(number).outcome(started_s, 0, reason)


def _run_pool(
    workers: int,
    tasks: list[Task],
    folder: Path,
    running: dict[Future[Outcome], tuple[int, float]],
    row_timeout_s: float,
) -> Iterator[tuple[int, Outcome]]:
    """Yield row numbers and outcomes; ``running`` has rows and when they began, also when the pool breaks."""
    context = multiprocessing.get_context("spawn")  # MediaPipe and OpenCV hang in forked children
    pool = ProcessPoolExecutor(min(workers, len(tasks)), context, _start_worker)
    queue = iter(tasks)
    try:
        while True:
            # Only as many tasks as workers: then the death of a process concerns these and no more.
            while len(running) < workers and (task := next(queue, None)) is not None:
                future = pool.submit(_render_in_worker, task, folder, row_timeout_s)
                running[future] = task.number, time.perf_counter()
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                outcome = future.result()
                yield running.pop(future)[0], outcome
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


_worker_session: Session | None = None
"""The session of this worker process."""


def _start_worker() -> None:
    """Open the worker's session, and have the kernel end the worker with its parent, even if killed."""
    global _worker_session
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends the workers
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    _worker_session = Session()
    atexit.register(_worker_session.close)


def _render_in_worker(task: Task, folder: Path, limit_s: float) -> Outcome:
    """Render a task; the kernel ends the process after ``limit_s``, whatever code runs in it then."""
    assert _worker_session is not None
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        return render_task(_worker_session, task, folder)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def render_task(session: Session, task: Task, folder: Path) -> Outcome:
    """Write the video of a task below ``folder``; return its outcome, also when it fails."""
    started_s = time.perf_counter()
    job, out = task.job, folder / task.job.output
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(job.options, DriveOptions):
                report = session.drive(job.portrait, job.driving or "", out, job.options, force=True)
            elif job.text is not None:
                spoken = job.options.part(SpeakOptions)
                report, _ = session.speak(job.portrait, job.text, out, spoken, force=True)
            else:
                options = job.options.part(AnimateOptions)
                report = session.animate(job.portrait, job.speech or "", out, options, force=True)
    except (Exception, SystemExit) as exc:  # whatever a row or a plug-in does, the other rows continue
        return task.outcome(started_s, 0, in_one_line(exc))
    return task.outcome(started_s, report.frames)


def _run_on_cluster(cluster: Cluster, tasks: Sequence[Task], folder: Path) -> Iterator[Outcome]:
    """Yield outcomes as actors finish; the videos come back as bytes and are written below ``folder``."""
    started_s: dict[int, float] = {}

    def submitted() -> Iterator[tuple[Task, VideoInput]]:
        for task in tasks:
            started_s[task.number] = time.perf_counter()
            job = task.job
            try:
                source: bytes | str | DrivingVideo = job.text or ""
                if job.driving:
                    source = DrivingVideo(Path(job.driving).read_bytes(), Path(job.driving).suffix)
                elif job.speech:
                    source = Path(job.speech).read_bytes()
                picture = Path(job.portrait).read_bytes()
            except OSError:
                source = picture = b""  # the actor reports a picture that cannot be read
            yield task, (picture, source, job.options.as_json())

    for task, result in cluster.render_videos(submitted()):
        problem = result.problem or _write(folder / task.job.output, result.content)
        yield task.outcome(started_s[task.number], result.frames, problem)


def _write(out: Path, content: bytes) -> str:
    """Write a video; return what went wrong, or an empty string."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(out) as part:
            part.write_bytes(content)
    except OSError as exc:
        return f"it cannot be written ({exc.strerror})"
    return ""
