"""What the README and the docs show works: commands parse, scripts and their options exist, Python runs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import wave
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.paths import ROOT

from vortex.cli.main import build_parser
from vortex.media.audio import load_audio

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]*?) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S
)
OPTION = re.compile(r"--[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class Snippet:
    """A fenced block of a page; ``reason`` tells why it is not run, if it is not."""

    page: Path
    line: int
    language: str
    code: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def snippets(language: str) -> list[Snippet]:
    return [
        Snippet(
            page, page.read_text()[: found.start()].count("\n") + 1, language, found["code"], found["reason"]
        )
        for page in PAGES
        for found in FENCE.finditer(page.read_text())
        if found["language"] == language
    ]


def commands(snippet: Snippet) -> list[list[str]]:
    lines = snippet.code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.fixture
def folder(portrait: Path, speech: Path, tmp_path: Path) -> Path:
    """Return a new folder with the files that the pages speak of, small; no page meets those of another."""
    made = tmp_path
    for name in ("portrait.jpg", "group.jpg"):
        shutil.copy(portrait, made / name)
    with wave.open(str(made / "speech.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        samples = load_audio(speech, 16_000).samples[:20_000]
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return made


@pytest.mark.parametrize("snippet", snippets("bash"), ids=str)
def test_commands_and_their_options_exist(snippet: Snippet) -> None:
    for words in commands(snippet):
        program = words[0].rsplit("/", 1)[-1]
        if program == "vortex":
            build_parser().parse_args(words[1:])
        elif program == "python" and words[1].endswith(".py"):
            source = (ROOT / words[1]).read_text()
            if words[1].startswith("benchmarks/"):
                source += (ROOT / "benchmarks" / "harness.py").read_text()  # options of every benchmark
            for option in OPTION.findall(" ".join(words[2:])):
                assert f'"{option}"' in source, f"{words[1]} has no {option}"
        elif words[0].startswith(("./scripts/", "scripts/")):
            assert (ROOT / words[0]).stat().st_mode & 0o100, words[0]


def test_the_commands_of_the_readme_do_what_they_say(folder: Path) -> None:
    use = next(s for s in snippets("bash") if s.page.name == "README.md" and "vortex animate" in s.code)
    for words in commands(use):
        done = subprocess.run(
            [sys.executable, "-m", "vortex", *words[1:]], cwd=folder, capture_output=True, text=True
        )
        # a second of speech may hold too little for a verdict on its sync, but is measured
        assert done.returncode == 0 or (words[1] == "check" and "offset" in done.stdout), (words, done.stderr)
        if "-o" in words:
            assert (folder / words[words.index("-o") + 1]).stat().st_size > 10_000


@pytest.mark.parametrize("snippet", snippets("python"), ids=str)
def test_python_runs(snippet: Snippet, folder: Path) -> None:
    if snippet.reason:
        pytest.skip(snippet.reason)
    done = subprocess.run([sys.executable, "-c", snippet.code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_an_option_that_does_not_exist_is_noticed() -> None:
    wrong = Snippet(ROOT / "README.md", 1, "bash", "vortex animate a.jpg b.wav -o c.mp4 --magic", None)
    with pytest.raises(SystemExit):
        test_commands_and_their_options_exist(wrong)
    missing = Snippet(ROOT / "README.md", 1, "bash", "python benchmarks/mesh.py --magic 3", None)
    with pytest.raises(AssertionError, match="--magic"):
        test_commands_and_their_options_exist(missing)
