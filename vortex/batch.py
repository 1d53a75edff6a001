"""Many videos from a list of jobs: in parallel, resumed after a kill, and never stopped by one bad row."""

from __future__ import annotations

import csv
import ctypes
import functools
import hashlib
import io
import json
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from vortex.errors import InputError, VortexError, in_one_line
from vortex.version import __version__

if TYPE_CHECKING:
    from vortex.cluster import Cluster

JOURNAL = "jobs.done.jsonl"
"""Beside the videos: one line for each row that ended, appended as it ends."""
REPORT = "report.json"
PREPARED_KEPT = 8
"""Portraits that a worker keeps prepared."""
PR_SET_PDEATHSIG = 1  # linux/prctl.h
ATTEMPTS = 2
"""How often a row is tried whose worker dies."""


@dataclass(frozen=True, slots=True)
class Job:
    """One row: a portrait and a speech (or a text and a voice), the video to make, and options.

    Paths are absolute; ``output`` is relative to the folder of the batch. ``seed`` is drawn from the content
    of the job if the row gives none, so that a job repeated gives the same frames.
    """

    portrait: str
    output: str
    speech: str = ""
    text: str = ""
    voice: str = ""
    transcript: str = ""
    preset: str = "neutral"
    fps: str = "24"
    size: int = 512
    duration: float | None = None
    seed: int | None = None
    paste_back: bool = False


COLUMNS = tuple(field.name for field in fields(Job))


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the list: a job, or why it is none. ``number`` counts from 1."""

    number: int
    job: Job | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a row ended: "done", "skipped" (it was done before) or "failed", with the reason."""

    number: int
    output: str
    status: str
    reason: str = ""
    seconds: float = 0.0
    frames: int = 0
    seed: int | None = None
    key: str = ""


Listen = Callable[[Outcome, int, int], None]
"""Called as listen(outcome, ended, total) when a row ends."""


def read_jobs(path: Path) -> list[Row]:
    """Read a .csv file with a header, or a .jsonl file with an object on each line.

    Keys are :data:`COLUMNS`; ``portrait`` and one of ``speech`` and ``text`` are needed. Relative paths start
    at the folder of the file. A row that cannot be used is returned as a problem.

    Raises:
        InputError: no such file, another kind of file, an unknown column, no rows.
    """
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise InputError(f"Jobs '{path}' are neither .csv nor .jsonl. Give a list in one of these formats.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise InputError(f"Jobs '{path}' cannot be read ({reason}). Give a .csv or .jsonl file.") from exc
    records = _csv_records(path, text) if path.suffix.lower() == ".csv" else _jsonl_records(text)
    rows = list(_rows(path.parent.resolve(), records))
    if not rows:
        raise InputError(f"Jobs '{path}' hold no rows. The columns are {', '.join(COLUMNS)}.")
    return rows


def run_batch(
    rows: Sequence[Row],
    folder: Path,
    *,
    workers: int,
    engine: str = "mesh",
    device: str | None = None,
    cluster: Cluster | None = None,
    listen: Listen | None = None,
) -> list[Outcome]:
    """Make the videos of all rows below ``folder`` and return how each row ended, in their order.

    What the journal in ``folder`` says is done, with the same content and options, and whose video is there,
    is skipped. Rows run in ``workers`` processes, or on the actors of a ``cluster``; what goes wrong in one
    is told in its outcome alone.

    Raises:
        InputError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        journal = open(folder / JOURNAL, "a+", encoding="utf-8")
    except OSError as exc:
        raise InputError(
            f"Folder '{folder}' cannot be written ({exc.strerror}). Choose another one."
        ) from exc
    with journal:
        known = _read_journal(folder / JOURNAL)
        ended: dict[int, Outcome] = {}

        def end(outcome: Outcome) -> None:
            ended[outcome.number] = outcome
            if outcome.status == "done":
                journal.write(json.dumps(asdict(outcome)) + "\n")
                journal.flush()
            if listen:
                listen(outcome, len(ended), len(rows))

        waiting = []
        for row in rows:
            outcome = _before(row, folder, known, engine)
            if isinstance(outcome, Outcome):
                end(outcome)
            else:
                waiting.append(outcome)
        if cluster:
            _run_on(cluster, waiting, folder, end)
        else:
            _run(waiting, folder, workers, engine, device, end)
    outcomes = [ended[row.number] for row in rows]
    _write_report(folder, outcomes)
    return outcomes


# ---------------------------------------- reading


def _csv_records(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    unknown = [name for name in reader.fieldnames or () if name not in COLUMNS]
    if unknown:
        raise InputError(
            f"Jobs '{path}' have an unknown column {unknown[0]!r}; known are {', '.join(COLUMNS)}."
        )
    for number, record in enumerate(reader, start=1):
        yield number, {name: value for name, value in record.items() if value}


def _jsonl_records(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(filter(str.strip, text.splitlines()), start=1):
        try:
            yield number, json.loads(line)
        except ValueError as exc:
            yield number, f"the line is no JSON ({exc})"


def _rows(base: Path, records: Iterator[tuple[int, Any]]) -> Iterator[Row]:
    taken: set[str] = set()
    for number, record in records:
        try:
            job = _job(base, number, record)
            if job.output in taken:
                raise InputError(f"the output '{job.output}' is that of a row before")
            taken.add(job.output)
            yield Row(number, job)
        except InputError as exc:
            yield Row(number, None, str(exc))


def _job(base: Path, number: int, record: Any) -> Job:
    if not isinstance(record, Mapping):
        raise InputError(record if isinstance(record, str) else "the line is no JSON object")
    unknown = [name for name in record if name not in COLUMNS]
    if unknown:
        raise InputError(f"unknown column {unknown[0]!r}; known are {', '.join(COLUMNS)}")
    values = dict(record)
    if not values.get("portrait"):
        raise InputError("the portrait is missing")
    if bool(values.get("speech")) == bool(values.get("text")):
        raise InputError("give either a speech or a text")
    for name in ("portrait", "speech"):
        if values.get(name):
            values[name] = str(base / str(values[name]))
    sound = Path(values["speech"]).stem if values.get("speech") else "text"
    output = str(values.get("output") or f"{number:04d}-{Path(values['portrait']).stem}-{sound}.mp4")
    parts = PurePosixPath(output).parts
    if PurePosixPath(output).is_absolute() or ".." in parts or not output.endswith(".mp4"):
        raise InputError(f"the output '{output}' is no .mp4 name below the folder of the batch")
    try:
        return Job(
            **{
                name: str(values[name])
                for name in ("speech", "text", "voice", "transcript")
                if values.get(name)
            },
            portrait=values["portrait"],
            output=output,
            preset=str(values.get("preset") or "neutral"),
            fps=str(values.get("fps") or "24"),
            size=int(values.get("size") or 512),
            duration=None if values.get("duration") in (None, "") else float(values["duration"]),
            seed=None if values.get("seed") in (None, "") else int(values["seed"]),
            paste_back=_truth(values.get("paste_back")),
        )
    except (TypeError, ValueError) as exc:
        raise InputError(f"a number cannot be read ({exc})") from exc


def _truth(value: Any) -> bool:
    if value in (None, "", False, "0", "false", "no"):
        return False
    if value in (True, "1", "true", "yes"):
        return True
    raise InputError(f"paste_back is {value!r}; give true or false")


# ---------------------------------------- what is done already


def _read_journal(path: Path) -> dict[str, str]:
    """Return output -> key of what was done; a line that a kill cut off does not count."""
    known = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
            known[str(entry["output"])] = str(entry["key"])
        except (ValueError, TypeError, KeyError):
            continue
    return known


@dataclass(frozen=True, slots=True)
class _Task:
    number: int
    job: Job
    key: str


def _before(row: Row, folder: Path, known: Mapping[str, str], engine: str) -> Outcome | _Task:
    """Return how the row ended without any work, or the work."""
    job = row.job
    if job is None:
        return Outcome(row.number, "", "failed", row.problem)
    try:
        key = _key(job, engine)
    except OSError as exc:
        return Outcome(row.number, job.output, "failed", f"'{exc.filename}' cannot be read ({exc.strerror})")
    if known.get(job.output) == key and (folder / job.output).is_file():
        return Outcome(row.number, job.output, "skipped", "it was done before", key=key)
    return _Task(row.number, job, key)


def _key(job: Job, engine: str) -> str:
    """Return a hash of all that decides the video: content of the files, options, engine, version."""
    digest = hashlib.sha256(json.dumps([__version__, engine], sort_keys=True).encode())
    for name, value in asdict(job).items():
        digest.update(f"{name}={value!r};".encode() if name not in ("portrait", "speech") else name.encode())
    for path in filter(None, (job.portrait, job.speech)):
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


# ---------------------------------------- work


def _run(
    tasks: Sequence[_Task],
    folder: Path,
    workers: int,
    engine: str,
    device: str | None,
    end: Callable[[Outcome], None],
) -> None:
    """Run the tasks in processes; a process that dies takes the rows it worked on down, not the others."""
    left = {task.number: task for task in tasks}
    tries = dict.fromkeys(left, 0)
    while left:
        context = multiprocessing.get_context("spawn")  # MediaPipe and OpenCV hang in forked children
        pool = ProcessPoolExecutor(min(workers, len(left)), context, _die_with_parent)
        running: dict[Future[Outcome], int] = {}
        queue = iter(list(left.values()))
        try:
            while True:
                # only as many as there are workers: then a death concerns these and no more
                for task in queue:
                    running[pool.submit(_work, task, folder, engine, device)] = task.number
                    if len(running) >= workers:
                        break
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number = running[future]
                    end(future.result())
                    del running[future], left[number]
        except BrokenProcessPool:
            for number in running.values():
                tries[number] += 1
                if tries[number] >= ATTEMPTS:
                    task = left.pop(number)
                    end(
                        Outcome(
                            number, task.job.output, "failed", "its process died; is there enough memory?"
                        )
                    )
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _run_on(cluster: Cluster, tasks: Sequence[_Task], folder: Path, end: Callable[[Outcome], None]) -> None:
    """Run the tasks on a cluster; the videos come back as bytes, and appear here whole."""
    started_s = {}

    def submit(maker: Any, task: _Task) -> Any:
        started_s[task.number] = time.perf_counter()
        job = task.job
        speech = Path(job.speech).read_bytes() if job.speech else b""
        return maker.video.remote(Path(job.portrait).read_bytes(), speech, _options(job, _seed(task)))

    for task, made in cluster.as_they_end(tasks, submit):
        seconds = round(time.perf_counter() - started_s[task.number], 3)
        problem = made.problem or _write(folder / task.job.output, made.content)
        status = "failed" if problem else "done"
        seed = _seed(task)
        end(Outcome(task.number, task.job.output, status, problem, seconds, made.frames, seed, task.key))


def _write(out: Path, content: bytes) -> str:
    """Write a video that came as bytes; return what went wrong, or nothing."""
    from vortex.encoder import unnamed_file

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with unnamed_file(out) as part:
            part.write_bytes(content)
    except OSError as exc:
        return f"it cannot be written ({exc.strerror})"
    return ""


def _seed(task: _Task) -> int:
    return int(task.key[:8], 16) if task.job.seed is None else task.job.seed


def _options(job: Job, seed: int) -> dict[str, Any]:
    """Return the arguments of animate_file, or of speak_file if there is a text."""
    from vortex.extras.speech import DEFAULT_VOICE

    spoken = {"text": job.text, "voice": job.voice or DEFAULT_VOICE}
    return {
        "preset": job.preset,
        "fps": job.fps,
        "size_px": job.size,
        "duration_s": job.duration,
        "seed": seed,
        "paste_back": job.paste_back,
        **(spoken if job.text else {"transcript": job.transcript or None}),
    }


def _die_with_parent() -> None:
    """Have the kernel end this worker with the process that started it, even if that one is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _work(task: _Task, folder: Path, engine: str, device: str | None) -> Outcome:
    """Make one video, in a worker; every failure becomes an outcome."""
    started_s = time.perf_counter()
    out = folder / task.job.output
    seed = _seed(task)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frames = (
                _speak(task.job, out, seed, engine, device)
                if task.job.text
                else _animate(task.job, out, seed, engine, device)
            )
    except (VortexError, OSError, MemoryError) as exc:
        reason = in_one_line(exc)
        return Outcome(task.number, task.job.output, "failed", reason, time.perf_counter() - started_s)
    return Outcome(
        task.number,
        task.job.output,
        "done",
        seconds=round(time.perf_counter() - started_s, 3),
        frames=frames,
        seed=seed,
        key=task.key,
    )


def _animate(job: Job, out: Path, seed: int, engine: str, device: str | None) -> int:
    from vortex.audio import load_audio
    from vortex.pipeline import SOUND_HZ, Voiced, animate_prepared

    state = os.stat(job.portrait)
    prepared, notes = _prepared(
        engine, device, job.portrait, state.st_mtime_ns, state.st_size, job.size, job.paste_back
    )
    return animate_prepared(
        _engine(engine, device),
        prepared,
        lambda: Voiced(load_audio(job.speech, SOUND_HZ), job.transcript or None),
        out,
        preset=job.preset,
        fps=job.fps,
        duration_s=job.duration,
        seed=seed,
        notes=notes,
    ).frames


def _speak(job: Job, out: Path, seed: int, engine: str, device: str | None) -> int:
    from vortex.production import speak_file

    options = _options(job, seed)
    report, _ = speak_file(job.portrait, options.pop("text"), out, engine=engine, device=device, **options)
    return report.frames


@functools.lru_cache(maxsize=1)
def _engine(name: str, device: str | None) -> Any:
    from vortex.engines.base import load_engine

    return load_engine(name, device=device)


@functools.lru_cache(maxsize=PREPARED_KEPT)
def _prepared(
    engine: str,
    device: str | None,
    portrait: str,
    mtime_ns: int,
    size_bytes: int,
    size_px: int,
    paste_back: bool,
) -> tuple[Any, tuple[str, ...]]:
    """Prepare a portrait once for all rows of this worker; a file that changed is another one."""
    from vortex.portrait import load_portrait

    face = load_portrait(portrait)
    return _engine(engine, device).prepare(face, size_px=size_px, paste_back=paste_back), face.notes


def _write_report(folder: Path, outcomes: Sequence[Outcome]) -> None:
    counts = {status: sum(o.status == status for o in outcomes) for status in ("done", "skipped", "failed")}
    part = folder / f".{REPORT}.part"
    part.write_text(
        json.dumps({**counts, "rows": [asdict(o) for o in outcomes]}, indent=1) + "\n", encoding="utf-8"
    )
    part.replace(folder / REPORT)
