"""The report of a batch as one HTML page: every row with its video's thumbnail, and no external request."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import cast

from vortex.batch.jobs import Outcome
from vortex.errors import InputError, VortexError
from vortex.media.reading import iter_video_frames
from vortex.runtime.files import write_whole
from vortex.types import Frame

THUMBNAIL_PX = 160
"""Longest side of a thumbnail."""
MAX_THUMBNAILS = 2000
"""Rows after these have no thumbnail, so that a browser can open the page; one takes about 5 kB."""
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.4 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
td, th { border-bottom: 1px solid #8886; padding: .4rem .6rem; text-align: left; overflow-wrap: anywhere; }
img { display: block; max-width: 160px; }
.failed { color: light-dark(#a40000, #ff9a9a); font-weight: bold; }
"""


def write_page(path: Path, outcomes: Sequence[Outcome], folder: Path) -> None:
    """Write the page at ``path``; the videos are below ``folder``. InputError: it cannot be written."""
    rows = []
    for index, outcome in enumerate(outcomes):
        picture = _thumbnail(folder / outcome.output) if index < MAX_THUMBNAILS and outcome.output else ""
        rows.append(_row(outcome, picture))
    counts = ", ".join(
        f"{sum(o.status == status for o in outcomes)} {status}" for status in ("done", "skipped", "failed")
    )
    titles = ("Row", "Video", "Name", "Status", "Frames", "Seconds", "Seed", "Reason")
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    content = (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">"
        f"<title>Batch: {counts}</title><style>{_STYLE}</style></head>\n<body><h1>Batch</h1>\n"
        f"<p>{counts}</p>\n<table><thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(rows)
        + "\n</tbody></table></body></html>\n"
    )
    try:
        write_whole(path, content)
    except OSError as exc:
        raise InputError(f"Report '{path}' cannot be written ({exc.strerror}). Write elsewhere.") from exc


def _row(outcome: Outcome, picture: str) -> str:
    seed = "" if outcome.seed is None else outcome.seed
    figures = (outcome.frames, f"{outcome.duration_s:.1f}", seed) if outcome.status == "done" else ("",) * 3
    cells = (outcome.output, outcome.status, *figures, outcome.reason)
    shown = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells)
    return f'<tr class="{outcome.status}"><td>{outcome.number}</td><td>{picture}</td>{shown}</tr>'


def _thumbnail(video: Path) -> str:
    """Return the first frame of a video as an image element, or "" if there is no video to read."""
    from PIL import Image

    if not video.is_file():
        return ""
    try:
        with closing(cast(Generator[Frame, None, None], iter_video_frames(video))) as frames:
            picture = Image.fromarray(next(frames))
    except (VortexError, OSError, StopIteration):
        return ""
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=80)
    data = base64.b64encode(content.getvalue()).decode()
    return (
        f'<img alt="" width="{picture.width}" height="{picture.height}" src="data:image/jpeg;base64,{data}">'
    )
