"""Lists of jobs, CSV and JSON lines, each row one video; and how a row ended."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from vortex.captions.burning import check_captions
from vortex.errors import InputError, in_one_line
from vortex.media.background import Background
from vortex.media.containers import DEFAULT_CONTAINER, SUFFIXES
from vortex.options import DriveOptions, VideoOptions, accepts, check_drives, check_speaks, options_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from vortex.options import VideoKeywords

JOURNAL = "jobs.done.jsonl"
REPORT = "report.json"
"""Files in the batch's folder."""
SOURCES = ("speech", "text", "driving")
INPUT_COLUMNS = ("portrait", *SOURCES, "output")
LIST_SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl")
SEPARATORS = (",", ";", "\t")
COLUMNS = (*INPUT_COLUMNS, *options_of(VideoOptions))
"""Every column that a list may have: inputs and output, then each option of a video under its own name."""


@dataclass(frozen=True, slots=True)
class Job:
    """One video: absolute paths of the portrait and of a speech, or a driving video; or a text.

    ``output`` is below the batch's folder; a driving video has :class:`vortex.options.DriveOptions`.
    """

    portrait: str
    output: str
    speech: str | None
    text: str | None
    options: VideoOptions | DriveOptions
    driving: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a list: a job, or why it is none. ``number`` counts from 1."""

    number: int
    job: Job | None
    problem: str = ""


Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a row ended; "skipped" means that an earlier run made the same video. ``reason`` says why."""

    number: int
    output: str
    status: Status
    reason: str = ""
    duration_s: float = 0.0
    frames: int = 0
    seed: int | None = None
    key: str = ""


@accepts(VideoOptions)
def read_jobs(path: str | Path, **options: Unpack[VideoKeywords]) -> list[Row]:
    """Read a .csv, .tsv or .txt file with a header, or a .jsonl file with one object a line.

    The columns of a table are separated by commas, semicolons or tabs; it is UTF-8, or UTF-16 with its mark.

    Columns and keys are :data:`COLUMNS`; ``portrait`` and one of ``speech``, ``text`` and ``driving`` are
    required.
    Relative paths start at the folder of the file. A row that cannot be used is returned with its problem.
    The options are defaults for rows that do not set them.

    Args:
        path: the list.
        **options: see below.

    Raises:
        InputError: no such file, another kind of file, an unknown column, a bad default, or no rows.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in LIST_SUFFIXES:
        raise InputError(f"Jobs '{path}' are no {', '.join(LIST_SUFFIXES)}. Give a list in one of these.")
    VideoOptions.parse(**options)
    try:
        text = _decoded(path.read_bytes())
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is neither UTF-8 nor UTF-16"
        raise InputError(
            f"Jobs '{path}' cannot be read ({reason}). Save the list as .csv in UTF-8, or as .jsonl."
        ) from exc
    records = _jsonl_records(text) if suffix == ".jsonl" else _csv_records(path, text)
    rows: list[Row] = []
    taken: set[str] = set()
    for number, record in enumerate(records, start=1):
        try:
            job = _job(path.parent.resolve(), number, record, options)
            if job.output in taken:
                raise InputError(f"the output '{job.output}' is that of an earlier row")
            taken.add(job.output)
            rows.append(Row(number, job))
        except Exception as exc:  # whatever a row holds, the others are made
            rows.append(Row(number, None, in_one_line(exc)))
    if not rows:
        raise InputError(f"Jobs '{path}' hold no rows. The columns are {', '.join(COLUMNS)}.")
    return rows


def _decoded(content: bytes) -> str:
    """Return a text of UTF-8, or of UTF-16 with a byte order mark, as spreadsheets write "Unicode text"."""
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig")


def _csv_records(path: Path, text: str) -> list[Any]:
    # No column has one of these signs in its name, so the most frequent one separates them.
    header = text.lstrip().split("\n", 1)[0]
    separator = max(SEPARATORS, key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        names = reader.fieldnames or ()
    except csv.Error as exc:
        raise InputError(f"Jobs '{path}' have no header ({exc}). Give a .csv or .jsonl file.") from exc
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise InputError(
            f"Jobs '{path}' have an unknown column {unknown[0]!r}; known are {', '.join(COLUMNS)}."
        )
    records: list[Any] = []
    while True:
        try:
            record = next(reader)
            if None in record:
                separated = f"separate the columns by {separator!r} and quote texts that contain it"
                records.append(f"it has more values than the header has columns; {separated}")
                continue
            records.append({name: value for name, value in record.items() if value})
        except StopIteration:
            return records
        except csv.Error as exc:
            records.append(f"the line is not CSV ({exc})")


def _jsonl_records(text: str) -> Iterator[Any]:
    for line in filter(str.strip, text.split("\n")):
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as exc:
            yield f"the line is not JSON ({exc})"


def _job(folder: Path, number: int, record: Any, defaults: Mapping[str, Any]) -> Job:
    if not isinstance(record, Mapping):
        raise InputError(record if isinstance(record, str) else "the line is not a JSON object")
    unknown = [name for name in record if name not in COLUMNS]
    if unknown:
        raise InputError(f"unknown column {unknown[0]!r}; known are {', '.join(COLUMNS)}")
    inputs = {name: str(record[name]) for name in INPUT_COLUMNS if record.get(name)}
    if "portrait" not in inputs:
        raise InputError("the portrait is missing")
    if sum(name in inputs for name in SOURCES) != 1:
        raise InputError("give either a speech, a text or a driving video, picture or template")
    given = {n: v for n, v in record.items() if n not in INPUT_COLUMNS and v not in (None, "")}
    if (shown := Background.parse(given.get("background", "keep"))).kind == "picture":
        given["background"] = str(folder / shown.value)
    _check_decimals(given)
    options: VideoOptions | DriveOptions
    if "driving" in inputs:
        check_drives(given)
        kept = {name: value for name, value in defaults.items() if name in options_of(DriveOptions)}
        options = DriveOptions.parse(**{**kept, **given})
    else:
        options = VideoOptions.parse(**{**defaults, **given})
        check_speaks(given)
        check_captions(options.captions, inputs.get("text") or options.transcript)
    return Job(
        portrait=str(folder / inputs["portrait"]),
        output=_output(number, inputs),
        speech=str(folder / inputs["speech"]) if "speech" in inputs else None,
        text=inputs.get("text"),
        options=options,
        driving=str(folder / inputs["driving"]) if "driving" in inputs else None,
    )


def _check_decimals(given: Mapping[str, Any]) -> None:
    """Refuse numbers with a decimal comma, as spreadsheets of many countries write them."""
    known = options_of(VideoOptions)
    for name, value in given.items():
        numeric = known[name].kind in ("whole", "number") or name == "fps"
        if numeric and isinstance(value, str) and re.fullmatch(r"\s*[-+]?\d+,\d+\s*", value):
            point = value.strip().replace(",", ".")
            raise InputError(f"{name} is {value!r}, with a decimal comma; write {point}")


def _output(number: int, inputs: Mapping[str, str]) -> str:
    """Return the name of the video below the batch's folder: the given one, or one made from the inputs."""
    source = next((Path(inputs[name]).stem for name in ("speech", "driving") if name in inputs), "text")
    made = f"{number:04d}-{Path(inputs['portrait']).stem}-{source}{DEFAULT_CONTAINER.suffix}"
    output = inputs.get("output", made)
    path = PurePosixPath(output)
    if path.is_absolute() or ".." in path.parts or path.suffix.lower() not in SUFFIXES or "\0" in output:
        raise InputError(
            f"the output '{output}' is not a {' or '.join(SUFFIXES)} name below the folder of the batch"
        )
    if path.parts[0] in (JOURNAL, REPORT):
        raise InputError(f"the output '{output}' needs the name of the batch's own file {path.parts[0]}")
    # One name for one file: './a//b.mp4' is 'a/b.mp4'.
    return str(path)
