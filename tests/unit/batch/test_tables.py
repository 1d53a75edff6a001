"""Lists as spreadsheets save them, and the page about a batch."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from vortex.batch.jobs import Outcome, read_jobs
from vortex.batch.page import write_page

LINES = (("portrait", "text", "size_px"), ("anna.jpg", "Hello, you.", "128"))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_spreadsheets_are_read(tmp_path: Path, separator: str, encoding: str) -> None:
    text = "\r\n".join(separator.join(f'"{cell}"' for cell in line) for line in LINES)
    (tmp_path / "jobs.csv").write_bytes(text.encode(encoding))
    (row,) = read_jobs(tmp_path / "jobs.csv")
    assert row.job is not None
    assert (row.job.text, row.job.options.size_px) == ("Hello, you.", 128)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("a.jpg;Hi.;1,5", r"speed is '1,5', with a decimal comma; write 1\.5"),
        ("a.jpg;Hi; you.;1", "it has more values than the header has columns"),
    ],
)
def test_slips_of_spreadsheets_are_named(tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "jobs.csv").write_text(f"portrait;text;speed\n{line}\na.jpg;Hello.;1.5\n")
    bad, good = read_jobs(tmp_path / "jobs.csv")
    assert bad.number == 1
    assert re.search(problem, bad.problem)
    assert good.job is not None


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_runs_nothing_and_loads_nothing(tmp_path: Path) -> None:
    evil = '<script src="https://example.com/x.js"></script>'
    write_page(tmp_path / "r.html", [Outcome(1, evil + ".mp4", "failed", evil)], tmp_path)
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "script" not in [tag for tag, _ in page.tags]
    assert not [attrs for _, attrs in page.tags if "src" in attrs or "href" in attrs]
    assert page.words.count(evil) == 2
